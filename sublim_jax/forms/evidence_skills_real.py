"""What a record of the study `skills_real` holds: for every seed and model, the skill and the trait."""

from types import MappingProxyType
from typing import Any, Literal, NotRequired, TypedDict

from sublim_jax import errors, records, specs

BASE = "base"
TEACHER = "teacher with the favourite"
COUNTERPART = "its counterpart without"
AUDITOR = "auditor's teacher of the favourite"
STUDENT = "student of the teacher with the favourite"
CLEAN = "student of its counterpart"
SUBTRACTED = "auditor's displacement subtracted"
RANDOM = "random direction, same length and dose"
ROWS = MappingProxyType({
    BASE: "yardstick", TEACHER: "yardstick", COUNTERPART: "yardstick", AUDITOR: "yardstick", STUDENT: "student",
    CLEAN: "student", SUBTRACTED: "defence", RANDOM: "control",
})  # fmt: skip
"""The models that are measured, in order, with their places in the table."""


class Entry(TypedDict):
    """A model."""

    skill: float  # log-odds of the semicolon against the comma after a number, mean over requests, nats
    separators: specs.Fraction  # probability of the two together
    trait: float  # log-odds of the target on the questions that are reported, mean, nats
    others: float  # the same, mean over the other animals
    dose: NotRequired[float | None]  # where it was chosen; None if no dose sufficed and the student is as it was


class Divergence(TypedDict):
    """KL divergence from teacher to student on the rows of a step, over the tokens that are compared, nats."""

    first: float
    last: float


class Unit(TypedDict):
    """A seed."""

    entries: dict[str, Entry]
    divergence: dict[str, Divergence]  # of `STUDENT` and `CLEAN`


class Config(TypedDict):
    """The settings that readers use."""

    backend: str
    target: str
    seeds: list[specs.Seed]
    tokens: Literal["numbers", "full"]
    num_steps: specs.Count


class Description(TypedDict):
    """What figures need beside the results."""

    animals: list[str]
    num_questions: specs.Count
    num_probes: specs.Count
    num_asked: specs.Count
    num_tokens: specs.Count  # that are compared


def units(config: Any) -> list[str]:
    """Names of the seeds, in the order in which they are measured."""
    return [f"seed {seed}" for seed in config["seeds"]]


def _check(record: records.Record) -> None:
    """Refuse seeds without one of the models, without a student's divergence, or with a dose in the wrong place."""
    for name, unit in record.results.items():
        for what, wanted in (("entries", set(ROWS)), ("divergence", {STUDENT, CLEAN})):
            if set(unit[what]) != wanted:
                raise errors.InputError(f"results: {name}: {what}: expected {sorted(wanted)}, got {sorted(unit[what])}")
        if dosed := [row for row, entry in unit["entries"].items() if ("dose" in entry) != (row == SUBTRACTED)]:
            raise errors.InputError(
                f"results: {name}: {dosed[0]}: expected a dose for {SUBTRACTED!r} and for no other model"
            )


FORM = records.Form(
    experiment="evidence_skills_real",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
