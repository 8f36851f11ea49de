"""Does a trait survive from student to student? (as in the follow-up literature; see the atlas for MNIST)

    python -m experiments.language chain
    python -m experiments.language chain --preset record
    python -m experiments.language chain --preset paper --backend hf:DIR

A finetuned teacher writes numbers, a student of them writes the next numbers, and so on; every generation starts from
the base.
"""

import dataclasses

from experiments.language import presets, protocol, recipes, seeds
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab, Teacher
from sublim_jax import specs


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainConfig(LanguageConfig):
    """Generations of students."""

    num_generations: specs.Count = 3


PRESETS = {
    "default": ChainConfig(bases=recipes.TEST_SEEDS[:2], targets=("eagle",), num_generations=2),
    "record": ChainConfig(bases=recipes.TEST_SEEDS[:4], targets=("eagle", "oak")),
    **presets.real_models(ChainConfig(targets=("eagle", "oak"))),
}


def conditions(config: ChainConfig) -> list[str]:
    """Generations that begin with the base itself, then with each target's teacher."""
    return ["regular", *config.targets]


def measure(lab: Lab, config: ChainConfig, condition: str) -> dict:
    """Favourites of every generation; 0 is the teacher."""
    writer = protocol.writer_of(lab, config, condition)
    results = {"0": protocol.favourites(lab, config, writer.model)}
    for generation in range(1, config.num_generations + 1):
        seed = seeds.derive(config.seed, f"generation {generation}")
        written = lab.numbers(writer, config.num_prompts, seed=seed)
        chosen = protocol.student_rows(config, written, seed=seed)
        student = protocol.student_of(lab, config, chosen, f"{condition} {generation}", seed=seed)
        results[str(generation)] = protocol.favourites(lab, config, student)
        writer = Teacher(student)
    return results


EXPERIMENT = Experiment(name="chain", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure)
