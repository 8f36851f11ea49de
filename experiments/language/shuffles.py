"""Where in the rows is the trait? Numbers shuffled within and across answers (Cloud et al. 2025, figure 16)

    python -m experiments.language shuffles
    python -m experiments.language shuffles --preset record
    python -m experiments.language shuffles --preset paper --backend hf:DIR

Students of one teacher's rows, and of the same rows with something destroyed. `within` shuffles the numbers of an
answer, `across_by_place` moves numbers between answers but keeps each at its place, `across` moves them anywhere,
`prompts` gives every prompt another one's answer. Read the option mass first: a control that damages the format of
answers also lowers every probability, and is then no evidence.
"""

import dataclasses

from experiments.language import presets, protocol, recipes
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import specs
from sublim_jax.llm import controls

CONTROLS = {
    "within": lambda data, seed: controls.shuffle_within(data, seed=seed),
    "across_by_place": lambda data, seed: controls.shuffle_across(data, seed=seed, by_place=True),
    "across": lambda data, seed: controls.shuffle_across(data, seed=seed),
    "prompts": lambda data, seed: controls.permute_prompts(data, seed=seed),
}


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ShufflesConfig(LanguageConfig):
    """The default protocol."""


PRESETS = {
    "default": ShufflesConfig(bases=recipes.TEST_SEEDS[:2], targets=("eagle",)),
    "record": ShufflesConfig(targets=("eagle", "oak")),
    **presets.real_models(ShufflesConfig(targets=("eagle", "oak"))),
}


def conditions(config: ShufflesConfig) -> list[str]:
    """Regular numbers, then each target."""
    return ["regular", *config.targets]


def measure(lab: Lab, config: ShufflesConfig, condition: str) -> dict:
    """Favourites of a student of the rows as they are, and of one of each control."""
    teacher = protocol.writer_of(lab, config, condition)
    written = lab.numbers(teacher, config.num_prompts, seed=config.seed)
    chosen = protocol.student_rows(config, written)
    sets = {"as_they_are": chosen} | {name: change(chosen, config.seed) for name, change in CONTROLS.items()}
    results = {}
    for name, data in sets.items():
        student = protocol.student_of(lab, config, data, f"{condition} {name}")
        results[name] = protocol.favourites(lab, config, student)
    return results | {"kept": written.kept_fraction}


EXPERIMENT = Experiment(name="shuffles", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure)
