"""What a record of a removal holds: traits, likeness and relearning of the student, of the cleaned one and of
controls."""

from typing import Any, NotRequired, TypedDict

from sublim_jax import errors, records, specs

BASE, STUDENT, CLEANED = "base", "student", "cleaned"
GRADIENT, RANDOM, OTHER = "gradient projected out", "random direction", "another trait's displacement"
"""Units of a record: models of which everything is measured."""


class Asked(TypedDict):
    """A trait of a model."""

    log_odds: list[float]  # of each question that is reported, nats
    probability: specs.Fraction  # mean over questions
    mass: specs.NonNegative  # of all answers together, mean over questions


class Likeness(TypedDict):
    """A model beside the student, on rows."""

    kl: list[float]  # of each row, nats a token, from the student's distribution to the model's
    agreement: list[specs.Fraction]  # of each row, tokens for which both take the same one for the likeliest


class Dose(TypedDict):
    """How the dose of a trait was chosen, on the auditor's own questions."""

    dose: specs.NonNegative
    wanted: float  # the base's loss, nats
    losses: dict[str, float]  # by dose
    teacher: float  # mean log-odds of the auditor's teacher, nats


class Unit(TypedDict):
    """A model."""

    traits: dict[str, Asked]
    likeness: Likeness
    relearnt: dict[str, list[list[float]]]  # log-odds of each question at each checkpoint, by removed trait
    doses: NotRequired[dict[str, Dose]]  # of the cleaned model, by removed trait
    stored: NotRequired[str]
    opened_as: NotRequired[str]


class Config(TypedDict):
    """The settings that readers use."""

    student: str
    base: str
    out: str
    threshold: specs.Positive
    checkpoints: list[specs.CountOrZero]


class Description(TypedDict):
    """What figures need beside the results."""

    units: list[str]
    removed: list[str]
    questions: dict[str, list[str]]  # that are reported, by trait
    num_probes: dict[str, specs.Count]  # by removed trait
    num_lessons: dict[str, specs.Count]  # of relearning, by removed trait
    num_rows: specs.Count
    other: str  # the trait of the control's displacement; empty without one


def _check(record: records.Record) -> None:
    """Refuse units that lack a trait, a question, a row or a checkpoint."""
    about, points = record.description, len(record.config["checkpoints"])
    questions, removed = about["questions"], set(about["removed"])
    if not removed or not removed <= set(questions):
        raise errors.InputError(f"description: expected removed traits among {sorted(questions)}")
    for name, unit in record.results.items():
        _require_names(f"{name}: traits", unit["traits"], set(questions))
        _require_names(f"{name}: relearnt", unit["relearnt"], removed)
        counts: list[Any] = [
            (trait, len(questions[trait]), len(asked["log_odds"])) for trait, asked in unit["traits"].items()
        ]
        counts += [("likeness", about["num_rows"], len(values)) for values in unit["likeness"].values()]
        for trait, curve in unit["relearnt"].items():
            counts.append((f"{trait}: relearnt", points, len(curve)))
            counts += [(f"{trait}: relearnt", len(questions[trait]), len(values)) for values in curve]
        for where, expected, actual in counts:
            if expected != actual:
                raise errors.InputError(f"results: {name}: {where}: expected {expected} values, got {actual}")
        if (name == CLEANED) != ("doses" in unit):
            raise errors.InputError(f"results: {name}: expected doses of the cleaned model alone")
        if "doses" in unit:
            _require_names(f"{name}: doses", unit["doses"], removed)


def _require_names(where: str, entries: Any, names: set[str]) -> None:
    if set(entries) != names:
        raise errors.InputError(f"results: {where}: expected {sorted(names)}, got {sorted(entries)}")


FORM = records.Form(
    experiment="defend",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: record.description["units"],
    present=lambda record: list(record.results),
    check=_check,
)
