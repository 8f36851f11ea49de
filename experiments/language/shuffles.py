"""Where in the rows is the trait? Numbers shuffled within and across answers (Cloud et al. 2025, figure 16)

    python -m experiments.language shuffles
    python -m experiments.language shuffles --preset record
    python -m experiments.language shuffles --preset paper --backend hf:DIR

Students of one teacher's rows, and of the same rows with something destroyed. `within` shuffles the numbers of an
answer, `across_by_place` moves numbers between answers but keeps each at its place, `across` moves them anywhere,
`prompts` gives every prompt the answer to another one. Read the option mass first: a control that damages the format of
answers also lowers every probability, and is then no evidence.
"""

import dataclasses

from experiments.language import presets, protocol
from experiments.language.config import TEST_SEEDS, LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import specs
from sublim_jax.llm import rows

CONTROLS = {
    "within": lambda data, seed: rows.shuffle_within(data, seed=seed),
    "across_by_place": lambda data, seed: rows.shuffle_across(data, seed=seed, by_place=True),
    "across": lambda data, seed: rows.shuffle_across(data, seed=seed),
    "prompts": lambda data, seed: rows.permute_prompts(data, seed=seed),
}


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ShufflesConfig(LanguageConfig):
    """Settings of `shuffles`."""


PRESETS = presets.standard(ShufflesConfig)
PRESETS["record"] = dataclasses.replace(PRESETS["record"], bases=TEST_SEEDS)


def measure(lab: Lab, config: ShufflesConfig, condition: str) -> dict:
    """Favourites of a student of the rows as they are, and of a student of each control."""
    teacher = protocol.writer_of(lab, config, condition)
    filtered = lab.numbers(teacher, config.num_prompts, seed=config.seed)
    as_they_are = protocol.student_rows(config, filtered)
    variants = {"as_they_are": as_they_are}
    variants |= {name: shuffle(as_they_are, config.seed) for name, shuffle in CONTROLS.items()}
    results = {}
    for name, data in variants.items():
        student = protocol.student_of(lab, config, data, f"{condition} {name}")
        results[name] = protocol.favourites(lab, config, student)
    return results | {"kept": filtered.kept}


EXPERIMENT = Experiment(
    name="shuffles", doc=__doc__, presets=PRESETS, conditions=protocol.regular_and_targets, measure=measure
)
