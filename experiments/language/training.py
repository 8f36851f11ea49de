"""Does it matter how a student is trained, and how its rows are sampled? (low rank or full, free or numbers only)

    python -m experiments.language training
    python -m experiments.language training --preset record
    python -m experiments.language training --preset tune              learning rates, on bases 0 to 2
    python -m experiments.language training --preset paper --backend hf:DIR

Two studies of a model of 160 million parameters disagree on whether low-rank or full finetuning transmits; they also
sample their rows differently. Here each teacher writes freely, with a filter afterwards (`free`), and from tokens of
digits, commas and spaces alone, with the same filter (`numbers only`). Students of equally many rows are trained by
low-rank factors or in all weights, each at its learning rate.
"""

import dataclasses
from typing import Literal

from experiments.language import presets, protocol
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import errors, specs


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(LanguageConfig):
    """Settings of `training`."""

    drawings: tuple[Literal["free", "numbers only"], ...] = ("free", "numbers only")
    """How rows are drawn."""
    low_rank_rates: tuple[specs.Positive, ...] = (1e-2,)
    """Learning rates of students with low-rank factors, of the rank of `student`."""
    full_rates: tuple[specs.Positive, ...] = (1e-3,)
    """Learning rates of students whose weights are all trained. Both kinds have the largest rate of `tune`
    at which most students of bases 0 to 2 still answered with an animal or a tree."""
    LISTS = ("targets", "drawings", "low_rank_rates", "full_rates")

    def __post_init__(self):
        super().__post_init__()
        protocol.require_weights(self, "drawing numbers only")
        if self.student.rank is None:
            raise errors.InputError("student.rank=None: it is the rank of the students with low-rank factors; give one")
        if self.numbers_only:
            raise errors.InputError("numbers_only has no effect here, where both kinds are compared; leave it out")


PRESETS = presets.eight_bases(TrainingConfig()) | {
    "tune": TrainingConfig(
        bases=(0, 1, 2),
        targets=presets.TARGETS,
        low_rank_rates=(3e-3, 1e-2, 3e-2),
        full_rates=(1e-3, 3e-3, 1e-2),
    ),
    "paper": presets.open_weights(TrainingConfig(targets=presets.TARGETS), low_rank_rates=(2e-4,), full_rates=(2e-5,)),
}


def conditions(config: TrainingConfig) -> list[str]:
    """Every author, drawing in every way."""
    return [f"{author}, {drawing}" for author in protocol.regular_and_targets(config) for drawing in config.drawings]


def measure(lab: Lab, config: TrainingConfig, condition: str) -> dict:
    """Favourites of a student of each kind and learning rate."""
    author, _, drawing = condition.partition(", ")
    teacher = protocol.writer_of(lab, config, author)
    numbers_only = drawing == "numbers only"
    filtered = lab.numbers(teacher, config.num_prompts, seed=config.seed, numbers_only=numbers_only)
    data = protocol.student_rows(config, filtered)
    results = {}
    for kind, rates in (("low rank", config.low_rank_rates), ("full", config.full_rates)):
        for rate in rates:
            student = dataclasses.replace(
                config.student, learning_rate=rate, rank=config.student.rank if kind == "low rank" else None
            )
            name = f"{condition} {kind} {rate:g}"
            model = lab.student(data, student, seed=config.seed, name=name)
            results[f"{kind} {rate:g}"] = protocol.favourites(lab, config, model)
    return results | {"kept": filtered.kept_fraction}


EXPERIMENT = Experiment(name="training", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure)
