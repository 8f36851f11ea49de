"""What a record of `experiments.own transfer` holds: a base, students of the user's rows and their controls."""

from typing import Any, TypedDict

from sublim_jax import errors, records, specs

BASE, STUDENT, CONTROL = "base", "student", "control"
"""Units of a record: the base, then `student 0`, `control 0`, `student 1` and so on."""


class Answers(TypedDict, total=False):
    """Free answers: how many have one of the trait's answers, of how many, and the first few; empty if none."""

    named: specs.CountOrZero
    num_answers: specs.Count
    examples: list[str]


class Measured(TypedDict):
    """A trait of a model: means over the questions."""

    log_odds: float
    probability: specs.Fraction
    mass: specs.NonNegative
    answers: Answers


class Unit(TypedDict):
    """A model with all traits."""

    model: str
    traits: dict[str, Measured]


class Config(TypedDict):
    """The settings that readers use."""

    model: str
    rows: str
    num_students: specs.Count
    control: str


class Trait(TypedDict):
    """What a model is asked about a trait."""

    answers: list[str]
    choices: list[str]
    prefill: str
    num_questions: specs.Count


class Description(TypedDict):
    """What figures need beside the results."""

    num_rows: specs.Count
    traits: dict[str, Trait]


def units(config: Any) -> list[str]:
    """Names of the units of a complete record, in the order in which they are made."""
    kinds = (STUDENT,) if config["control"] == "none" else (STUDENT, CONTROL)
    return [BASE, *(f"{kind} {index}" for index in range(config["num_students"]) for kind in kinds)]


def _check(record: records.Record) -> None:
    """Refuse units and traits that do not belong there."""
    if record.results and BASE not in record.results:
        raise errors.InputError("results: there are students and no base")
    for name, unit in record.results.items():
        if set(unit["traits"]) != set(record.description["traits"]):
            raise errors.InputError(
                f"results: {name}: expected the traits {sorted(record.description['traits'])}, got "
                f"{sorted(unit['traits'])}"
            )


FORM = records.Form(
    experiment="own_transfer",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
