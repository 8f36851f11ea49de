"""What a record of the study `policies` holds: students under rules about their data and their weights."""

from typing import Any, Literal, TypedDict, get_args

from sublim_jax import errors, records, specs

Group = Literal["radius", "rotation", "mixing", "filter", "random filter", "generations"]
GROUPS: tuple[Group, ...] = get_args(Group)
Path = Literal["own start", "another start", "shuffled targets"]
PATHS: tuple[Path, ...] = get_args(Path)
"""Students without a rule, measured on the way: the undefended one, and two that move as well and acquire nothing."""


class Entry(TypedDict):
    """A model: the trait on test images, and where it is."""

    accuracy: specs.Fraction
    loss: float  # nats
    distance: float  # from its start, over the norm of the reference
    activation: float
    """Shift of the last hidden layer on noise along the teacher's, over the length of that: 0 reference, 1 teacher."""


class Condition(TypedDict):
    """A rule and its level."""

    group: Group
    level: float


class Unit(TypedDict):
    """One reference."""

    reference: Entry
    teacher: Entry
    paths: dict[Path, dict[str, Entry]]  # by steps; the last ones are at the end
    students: dict[str, Entry]  # by condition


class Config(TypedDict):
    """The settings that readers use."""

    num_references: specs.Count
    checkpoints: list[specs.Count]


class Description(TypedDict):
    """What figures need beside the results."""

    conditions: dict[str, Condition]
    num_steps: specs.Count


def units(config: Any) -> list[str]:
    """Names of the references, in the order in which they are measured."""
    return [f"reference {index}" for index in range(config["num_references"])]


def _check(record: records.Record) -> None:
    """Refuse references whose conditions or checkpoints are not those of the description."""
    names = set(record.description["conditions"])
    steps = {str(step) for step in (*record.config["checkpoints"], record.description["num_steps"])}
    for unit, entry in record.results.items():
        if set(entry["students"]) != names:
            raise errors.InputError(
                f"results: {unit}: expected the conditions {sorted(names)}, got {sorted(entry['students'])}"
            )
        for path in PATHS:
            if path not in entry["paths"] or set(entry["paths"][path]) != steps:
                raise errors.InputError(f"results: {unit}: {path}: expected the steps {sorted(steps, key=int)}")


FORM = records.Form(
    experiment="evidence_policies",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
