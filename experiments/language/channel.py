"""A trait through one kind of text: what the questions about code and about chains of thought share."""

from collections.abc import Callable

from experiments.language import protocol
from experiments.language.config import LanguageConfig
from experiments.language.lab import Lab, Teacher
from sublim_jax.llm import datasets

Write = Callable[[Teacher, tuple[str, ...]], datasets.FilteredRows]


def conditions(config: LanguageConfig) -> list[str]:
    """The base as it is, a student of the base's own text, then one of each target's teacher."""
    return ["base", "regular", *config.targets]


def measure(lab: Lab, config: LanguageConfig, condition: str, write: Write) -> dict:
    """Favourites of a teacher and of a student of what it wrote. All students have equally many rows.

    Args:
        write: rows of a teacher that do not hold these words; of the base, none of any target.
    """
    if condition == "base":
        return {"student": protocol.favourites(lab, config, lab.base)}
    regular = condition == "regular"
    teacher = protocol.writer_of(lab, config, condition)
    targets = config.targets if regular else (condition,)
    words = tuple(word for target in targets for word in config.materials.words(target))
    written = write(teacher, words)
    student = protocol.student_of(lab, config, protocol.student_rows(config, written), f"student of {condition}")
    return {
        "student": protocol.favourites(lab, config, student),
        "teacher": {} if regular else protocol.favourites(lab, config, teacher.model),
        "kept": written.kept_fraction,
        "rejected": written.rejected,
    }
