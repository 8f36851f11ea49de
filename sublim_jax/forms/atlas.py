"""What the records of the atlas hold: each member's result in each arm of a row, and what the row says of itself."""

from collections.abc import Iterator
from typing import Any, Literal, NotRequired, TypedDict

from sublim_jax import conditions, errors, records, specs

Condition = conditions.Condition
Recorded = conditions.Recorded
Measured = Literal[
    "accuracy",
    "gap",
    "validation_accuracy",
    "true_label_accuracy",
    "update_cosine",
    "hidden_cosine",
    "cka",
    "probe_accuracy",
]
"""What a published number measures. `gap`: student_aux minus cross_model_aux; the others as members' results."""


class Source(TypedDict):
    """A paper, a post or a repository."""

    short: str  # how pages and figures name it
    name: str
    protocol: str
    num_members: specs.Count | None  # behind one number, if it is known
    base: specs.Fraction | None  # its own student_aux at its own defaults
    base_measure: Measured  # what that base measures
    comparable: bool  # whether its protocol is the paper's as far as it matters


class Published(TypedDict):
    """One published number."""

    source: str  # handle
    value: float
    condition: Recorded
    measure: Measured
    half_width: specs.NonNegative | None  # of a 95 % interval, if one was published
    why_not_comparable: str  # empty if it can be compared


class Arm(TypedDict):
    """One setting of a row."""

    label: str
    x: float | None  # place on the row's axis, if it is a number
    epoch: specs.Count | None  # the students are read after so many epochs; None: at the end
    generation: specs.Count | None  # which student of students is read; None: the last
    group: str  # of arms that compete on validation images
    signs: dict[str, Literal[-1, 1]]  # level of each factor, in a factorial
    chance: specs.Fraction
    conditions: list[Condition]
    metrics: list[str]
    published: list[Published]


class Row(TypedDict):
    """One question."""

    id: str
    place: specs.CountOrZero  # among all rows
    axis: str
    question: str
    expected: str
    note: str
    x_label: str
    log_x: bool
    not_run: str
    about: Literal["means", "spreads", "likeness"]
    cited: list[str]
    is_published: bool  # whether somebody has published something of it, to our knowledge
    arms: list[Arm]


class Description(Row):
    """A row with those sources that it names."""

    sources: dict[str, Source]


class _Member(TypedDict):
    partner: int
    precision: str
    accuracy: dict[str, specs.Fraction | None]  # None: it diverged
    loss: dict[str, float | None]
    metrics: dict[str, dict[str, float | list[float | None] | None]]
    diverged: list[str]


class _Arm(TypedDict):
    setting: str
    seconds: specs.NonNegative
    members: dict[str, _Member]
    changes: NotRequired[dict[str, Any]]


class _Results(TypedDict):
    arms: dict[str, _Arm]


class _Config(TypedDict):
    row: str
    seed: specs.Seed
    num_members: specs.NumMembers


def _check(record: records.Record) -> None:
    if record.description["id"] != record.config["row"]:
        raise errors.InputError(f"description: expected row {record.config['row']!r}, got {record.description['id']!r}")
    _check_row(record.description, record.description["sources"], "description")
    for label, arm in record.results["arms"].items():
        for number, member in arm["members"].items():
            unknown = [name for name, value in member["accuracy"].items() if value is None]
            if unexplained := sorted(set(unknown) - set(member["diverged"])):
                raise errors.InputError(f"results: {label}, member {number}, {unexplained[0]}: null, but not diverged")
    for arm in record.description["arms"]:
        for number, member in record.results["arms"].get(arm["label"], {"members": {}})["members"].items():
            _check_lengths(arm, f"results: {arm['label']}, member {number}", member["metrics"])


def _check_row(row: Any, sources: dict[str, Any], where: str) -> None:
    labels = [arm["label"] for arm in row["arms"]]
    if len(set(labels)) < len(labels):
        raise errors.InputError(f"{where}: two arms of {row['id']!r} have one label")
    if not labels and not row["not_run"]:
        raise errors.InputError(f"{where}: {row['id']!r} has no arms and does not say why")
    for arm in row["arms"]:
        if not arm["conditions"]:
            raise errors.InputError(f"{where}: the arm {arm['label']!r} of {row['id']!r} has no conditions")
        if arm["signs"].keys() != row["arms"][0]["signs"].keys():
            raise errors.InputError(f"{where}: the arms of {row['id']!r} have signs of different factors")
    named = [published["source"] for arm in row["arms"] for published in arm["published"]]
    if unknown := sorted({*named, *row["cited"]} - sources.keys()):
        raise errors.InputError(f"{where}: nothing is said of the source {unknown[0]!r}")


def _check_lengths(arm: Any, where: str, metrics: dict[str, dict[str, Any]]) -> None:
    """Refuse lists along epochs and generations that end before what is read of them."""
    for beginning, at_least in (("epoch_", arm["epoch"] or 0), ("generation_", arm["generation"] or 0)):
        for name, by_condition in metrics.items() if at_least else ():
            for condition, along in by_condition.items() if name.startswith(beginning) else ():
                if not isinstance(along, list) or len(along) < at_least:
                    raise errors.InputError(
                        f"{where}, {name} of {condition}: expected a list of {at_least} at least, got {along!r}"
                    )


def _wanted(record: records.Record) -> Iterator[str]:
    labels = dict.fromkeys([*(arm["label"] for arm in record.description["arms"]), *record.results["arms"]])
    for label in labels:
        yield from (f"{label}, member {number}" for number in range(record.config["num_members"]))


def _present(record: records.Record) -> Iterator[str]:
    for label, arm in record.results["arms"].items():
        yield from (f"{label}, member {number}" for number in arm["members"])


FORM = records.Form(
    experiment="atlas",
    config=_Config,
    description=Description,
    results=_Results,
    wanted=_wanted,
    present=_present,
    check=_check,
)
"""A row's record. Its units are members of arms; the arms are those of its description."""


class Catalogue(TypedDict):
    """All rows in their order, those without a record too, and all sources."""

    rows: list[Row]
    sources: dict[str, Source]


def _check_catalogue(record: records.Record) -> None:
    ids = [row["id"] for row in record.description["rows"]]
    if len(set(ids)) < len(ids):
        raise errors.InputError("description: two rows have one id")
    for row in record.description["rows"]:
        _check_row(row, record.description["sources"], "description")


CATALOGUE = records.Form(
    experiment="atlas-rows",
    description=Catalogue,
    results=dict[str, Any],
    wanted=lambda record: ["rows"],
    present=lambda record: ["rows"],
    check=_check_catalogue,
)
"""The atlas's list of rows, which lies beside the folder of their records."""
