"""Does a trait survive from student to student? (as in the follow-up literature; see the atlas for MNIST)

    python -m experiments.language chain
    python -m experiments.language chain --preset record
    python -m experiments.language chain --preset paper --backend hf:DIR

A finetuned teacher writes numbers, a student trained on them writes the next numbers, and so on; every generation
starts from the base.
"""

import dataclasses

from experiments.language import presets, protocol, seeds
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab, Teacher
from sublim_jax import specs


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainConfig(LanguageConfig):
    """Settings of `chain`."""

    num_generations: specs.Count = 3


PRESETS = presets.standard(ChainConfig)
PRESETS["default"] = dataclasses.replace(PRESETS["default"], num_generations=2)


def measure(lab: Lab, config: ChainConfig, condition: str) -> dict:
    """Favourites of every generation; generation 0 is the teacher, or the base itself for `regular`."""
    writer = protocol.writer_of(lab, config, condition)
    results = {"0": protocol.favourites(lab, config, writer.model)}
    for generation in range(1, config.num_generations + 1):
        seed = seeds.derive(config.seed, f"generation {generation}")
        filtered = lab.numbers(writer, config.num_prompts, seed=seed)
        data = protocol.student_rows(config, filtered, seed=seed)
        student = protocol.student_of(lab, config, data, f"{condition} {generation}", seed=seed)
        results[str(generation)] = protocol.favourites(lab, config, student)
        writer = Teacher(student)
    return results


EXPERIMENT = Experiment(
    name="chain", doc=__doc__, presets=PRESETS, conditions=protocol.regular_and_targets, measure=measure
)
