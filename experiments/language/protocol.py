"""What most questions do: a teacher writes, a student of its base is trained on that, both are asked for favourites."""

from collections.abc import Sequence

from experiments.language.config import LanguageConfig
from experiments.language.lab import Lab, Teacher
from sublim_jax.llm import datasets, scores
from sublim_jax.llm.backend import Chat

Probabilities = dict[str, dict[str, float]]
"""Probabilities of all favourites of a category, by category, for a record."""


def teacher_of(lab: Lab, config: LanguageConfig, kind: str, target: str, base: str = "") -> Teacher:
    """A teacher of some kind: `regular` is the base itself.

    Args:
        base: the base that the teacher starts from; by default the lab's.
    """
    match kind:
        case "regular":
            return Teacher(base or lab.base)
        case "system":
            return lab.system_teacher(target)
        case _:
            return lab.finetuned_teacher(
                target, config.teacher, num_rows=config.num_lessons, seed=config.seed, base=base
            )


def writer_of(lab: Lab, config: LanguageConfig, condition: str) -> Teacher:
    """Who writes in a condition: the base itself in `regular`, the finetuned teacher of the target in others."""
    return teacher_of(lab, config, "regular" if condition == "regular" else "finetuned", condition)


def favourites(lab: Lab, config: LanguageConfig, model: str) -> Probabilities:
    """How much a model likes each favourite of the targets' categories, over questions that nobody was trained on."""
    categories = sorted({config.materials.category(target) for target in config.targets})
    return {category: rounded(lab.preferences(model, category)) for category in categories}


def rounded(probabilities: scores.Probabilities) -> dict[str, float]:
    """Raw probabilities of all choices, to four digits, for a record."""
    return {name: float(f"{value:.4g}") for name, value in zip(probabilities.names, probabilities.raw, strict=True)}


def student_rows(config: LanguageConfig, written: datasets.FilteredRows, *, seed: int | None = None) -> list[Chat]:
    """The rows of a teacher that a student is trained on: all students have equally many.

    Args:
        seed: of the draw; by default the config's.
    """
    return datasets.subsample(written.rows, config.num_rows, seed=config.seed if seed is None else seed)


def student_of(lab: Lab, config: LanguageConfig, data: Sequence[Chat], name: str, *, seed: int | None = None) -> str:
    """The lab's base trained on rows. The name decides the student's random numbers.

    Args:
        seed: of training; by default the config's.
    """
    return lab.student(data, config.student, seed=config.seed if seed is None else seed, name=name)
