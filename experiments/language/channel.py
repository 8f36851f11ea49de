"""A trait through one kind of text: what the experiments on code and on chains of thought share."""

from collections.abc import Callable

from experiments import language_numbers
from experiments.language import lab, running, summary
from sublim_jax import records
from sublim_jax.llm import rows

Write = Callable[[lab.Teacher, tuple[str, ...]], rows.Collection]


def units(config: running.LanguageConfig) -> list[str]:
    """The base as it is, a student of the base's own text, then one of each target's teacher."""
    return ["base", "regular", *config.targets]


def measure(of: lab.Lab, config: running.LanguageConfig, unit: str, write: Write) -> dict:
    """Favourites of a teacher and of a student of what it wrote. All students have equally many rows.

    Args:
        write: rows of a teacher that do not hold these words; of the base, none of any target.
    """
    categories = sorted({config.materials.category(target) for target in config.targets})

    def favourites(model: str) -> dict:
        return {name: lab.side_effects(of.preferences(model, name)) for name in categories}

    if unit == "base":
        return {"student": favourites(of.base)}
    regular = unit == "regular"
    teacher = language_numbers.teacher_of(of, config, "regular" if regular else "finetuned", unit)
    words = [word for name in (config.targets if regular else (unit,)) for word in config.materials.words(name)]
    data = write(teacher, tuple(words))
    chosen = rows.subsample(data.rows, config.num_rows, seed=config.seed)
    student = of.student(chosen, config.student, seed=config.seed, name=f"student of {unit}")
    taught = {} if regular else favourites(teacher.model)
    return {"student": favourites(student), "teacher": taught, "kept": data.kept, "rejected": data.rejected}


def lines(record: records.Record, title: str) -> list[str]:
    """A table by target."""
    config, found = record.config, summary.complete_bases(record)
    rows_ = [["target", "base", "regular", "student", "student - regular"]]
    base, regular = ("base", "student"), ("regular", "student")
    for target in config["targets"]:
        rows_.append([target, *summary.cells(found, base, regular, (target, "student"), target)])
    shifts = [summary.shift(found, regular, (target, "student"), target) for target in config["targets"]]
    rows_.append(["all targets", "", "", "", summary.pooled(shifts)])
    return summary.table(f"{title}, mean ± 95 % t-interval over bases", rows_, record)
