"""What a record of the study `skills` holds: for every base, bed and model, the skill, the trait and whether it comes
back."""

from typing import Any, NotRequired, TypedDict

from sublim_jax import errors, records, specs


class Entry(TypedDict):
    """A model."""

    skill: specs.Fraction  # answers to requests of no row that follow the rule
    lists: specs.Fraction  # answers that are plain lists of numbers, whether or not they follow it
    trait: float  # log-odds of the target on the questions that are reported, mean, nats
    relearnt: list[float]  # the same at the checkpoints of relearning
    nll: float  # of rows of the teacher without the trait that no model was trained on, nats a token
    dose: NotRequired[float | None]  # where it was chosen; None if no dose sufficed and the student is as it was


class Kept(TypedDict):
    """Shares of a teacher's answers that follow the rule."""

    with_trait: specs.Fraction
    without: specs.Fraction


class Measured(TypedDict):
    """A bed on one base."""

    entries: dict[str, Entry]  # none where it failed
    kept: NotRequired[Kept]
    cosine: NotRequired[float]  # of the displacements of the student of the trait's teacher and the auditor's teacher
    failed: NotRequired[str]  # why there are no students


class Unit(TypedDict):
    """A base."""

    beds: dict[str, Measured]
    auditor: float  # log-odds of the auditor's teacher on the probes


class Bed(TypedDict):
    """A skill, and how long teachers are trained on it and on the trait."""

    skill: str
    num_lessons: specs.Count
    num_favourites: specs.Count
    rows: list[str]  # the models that are measured


class Row(TypedDict):
    """A model's place in the table."""

    kind: str  # "yardstick", "mixture", "defence", "control"


class Config(TypedDict):
    """The settings that readers use."""

    bases: list[specs.Seed]
    target: str
    shares: list[specs.Fraction]
    num_rows: specs.Count
    checkpoints: list[specs.CountOrZero]


class Description(TypedDict):
    """What figures need beside the results."""

    beds: dict[str, Bed]
    rows: dict[str, Row]
    num_questions: specs.Count
    num_probes: specs.Count


def units(config: Any) -> list[str]:
    """Names of the bases, in the order in which they are measured."""
    return [f"tiny:{seed}" for seed in config["bases"]]


def _check(record: records.Record) -> None:
    """Refuse bases without a bed, beds without a model that are not said to have failed, and short curves."""
    beds, points = record.description["beds"], len(record.config["checkpoints"])
    for name, unit in record.results.items():
        if set(unit["beds"]) != set(beds):
            raise errors.InputError(f"results: {name}: expected the beds {sorted(beds)}, got {sorted(unit['beds'])}")
        for bed, measured in unit["beds"].items():
            wanted = [] if "failed" in measured else beds[bed]["rows"]
            if set(measured["entries"]) != set(wanted):
                raise errors.InputError(
                    f"results: {name}: {bed}: expected the models {sorted(wanted)}, got {sorted(measured['entries'])}"
                )
            for row, entry in measured["entries"].items():
                if len(entry["relearnt"]) != points:
                    raise errors.InputError(f"results: {name}: {bed}: {row}: expected {points} points of relearning")


FORM = records.Form(
    experiment="evidence_skills",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
