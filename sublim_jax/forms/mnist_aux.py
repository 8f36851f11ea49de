"""What a record of `experiments.mnist_aux` holds: each member's accuracy in each condition."""

from typing import Literal, NotRequired, TypedDict

from sublim_jax import conditions, errors, records, specs

Condition = conditions.Condition
Recorded = conditions.Recorded


class Published(TypedDict):
    """What others report of a condition."""

    value: specs.Fraction  # where a figure puts its mark
    source: str  # handle of who published it
    half_width: specs.NonNegative | None  # of a 95 % interval, if one was published
    text: str  # for a table, with what else is known


class Description(TypedDict):
    """What figures and tables need beside the accuracies."""

    conditions: list[Recorded]  # in the order of a figure
    published: dict[str, Published]  # by condition; empty where the images are not MNIST
    differences: list[list[Recorded]]  # pairs of conditions that are compared, first minus second


class _Model(TypedDict):
    num_classes: specs.Count
    num_aux: specs.CountOrZero


class _Matching(TypedDict):
    target: NotRequired[Literal["reference", "teacher"]]


class _MemberConfig(TypedDict):
    conditions: list[Condition]
    model: _Model
    matching: NotRequired[_Matching]


class _Config(TypedDict):
    """What readers of a record use of its config."""

    seed: specs.Seed
    num_members: specs.NumMembers
    member: _MemberConfig


class _Member(TypedDict):
    accuracy: dict[str, specs.Fraction | None]  # None: it diverged
    loss: dict[str, list[float | None]]
    diverged: list[str]
    metrics: NotRequired[dict[str, dict[str, float | list[float | None] | None]]]  # what else the config asked for


class _Results(TypedDict):
    members: dict[str, _Member]


def _check(record: records.Record) -> None:
    expected = conditions.recorded_conditions(record.config["member"]["conditions"])
    if (described := record.description["conditions"]) != list(expected):
        raise errors.InputError(f"description: expected the conditions {', '.join(expected)}, found {described}")
    if any(len(pair) != 2 for pair in record.description["differences"]):
        raise errors.InputError("description: differences must be pairs of conditions")
    for number, member in record.results["members"].items():
        for condition in expected:
            if condition not in member["accuracy"]:
                raise errors.InputError(f"results: member {number} has no accuracy of {condition}")
            if member["accuracy"][condition] is None and condition not in member["diverged"]:
                raise errors.InputError(f"results: member {number}, {condition}: null, but it did not diverge")


FORM = records.Form(
    experiment="mnist_aux",
    config=_Config,
    description=Description,
    results=_Results,
    wanted=lambda record: map(str, range(record.config["num_members"])),
    present=lambda record: record.results["members"],
    check=_check,
)
