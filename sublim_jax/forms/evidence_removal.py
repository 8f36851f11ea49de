"""What a record of the study `removal` holds: for every base and edit of its student, the trait and all else."""

from typing import Any, NotRequired, TypedDict

from sublim_jax import errors, records, specs


class Entry(TypedDict):
    """A student after an edit."""

    trait: float  # log-odds of the target on the questions that are reported, mean, nats
    relearnt: list[float]  # the same at the checkpoints of relearning
    kl: specs.NonNegative  # from the student's distribution on rows that it was not trained on, nats a token
    nll: float  # of these rows, nats a token
    others: dict[str, specs.Fraction]  # total variation from the student among other names, by category
    dose: NotRequired[float | None]  # where it was chosen; None if no dose sufficed and the student is as it was


class Row(TypedDict):
    """An edit."""

    kind: str  # "yardstick", "displacement", "dose", "rank", "control", "gradient", "steering"


class Unit(TypedDict):
    """A base."""

    entries: dict[str, Entry]
    teacher: float  # log-odds of the rows' author
    auditor: float  # log-odds of the auditor's teacher
    cosine: float  # of the student's displacement and that of the auditor's teacher
    kept: specs.Fraction  # completions that pass the filter


class Config(TypedDict):
    """The settings that readers use."""

    bases: list[specs.Seed]
    target: str
    other: str
    checkpoints: list[specs.CountOrZero]


class Description(TypedDict):
    """What figures need beside the results."""

    rows: dict[str, Row]
    categories: list[str]
    num_questions: specs.Count
    num_probes: specs.Count
    num_lessons: specs.Count


def units(config: Any) -> list[str]:
    """Names of the bases, in the order in which they are measured."""
    return [f"tiny:{seed}" for seed in config["bases"]]


def _check(record: records.Record) -> None:
    """Refuse bases without an edit, curves without a checkpoint, and entries without a category."""
    rows, categories = set(record.description["rows"]), set(record.description["categories"])
    points = len(record.config["checkpoints"])
    for name, unit in record.results.items():
        if set(unit["entries"]) != rows:
            raise errors.InputError(f"results: {name}: expected the rows {sorted(rows)}, got {sorted(unit['entries'])}")
        for row, entry in unit["entries"].items():
            if len(entry["relearnt"]) != points:
                raise errors.InputError(f"results: {name}: {row}: expected {points} points of relearning")
            if set(entry["others"]) != categories:
                raise errors.InputError(f"results: {name}: {row}: expected the categories {sorted(categories)}")


FORM = records.Form(
    experiment="evidence_removal",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
