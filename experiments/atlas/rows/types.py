"""The types of a row of the atlas, and helpers to write one. A new entry in a file of this folder is a new row.

A row asks one question and has arms; an arm is the paper's protocol with some settings changed, by dotted name:

    Arm("1e-3", {"both.optimizer.learning_rate": 1e-3}, x=1e-3, published=[Published("divyat09", 0.702)])

`settings` explains the names. `Row.resolved` has each arm with the setting that follows from it.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from experiments.atlas import settings
from experiments.atlas.rows import sources
from sublim_jax import conditions, errors, specs
from sublim_jax.forms import atlas as form

Axis = Literal[
    "baseline",
    "initialization",
    "architecture",
    "auxiliary logits",
    "optimization",
    "loss",
    "inputs",
    "representation",
    "teacher and targets",
    "data",
    "best",
    "generations",
    "conflict",
]


@specs.checked
@dataclasses.dataclass(frozen=True)
class Published:
    """One published number."""

    source: str  # key of `sources.SOURCES`
    value: float
    condition: conditions.Recorded = "student_aux"
    measure: form.Measured = "accuracy"
    """`gap`: student_aux minus cross_model_aux; otherwise a name of `MemberResult`."""
    half_width: specs.NonNegative | None = None  # of a 95 % interval, if one was published
    why_not_comparable: str = ""  # empty if it can be compared with ours

    def __post_init__(self):
        if self.source not in sources.SOURCES:
            raise errors.InputError(f"source={self.source!r}: expected one of {', '.join(sources.SOURCES)}")


@specs.checked
@dataclasses.dataclass(frozen=True)
class Arm:
    """One setting of a row, as changes to the row's base."""

    label: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    x: float | None = None  # place on the row's axis, if it is a number
    epoch: specs.Count | None = None  # read the student after this epoch; None: at the end
    generation: specs.Count | None = None  # read this student of students; None: the last
    group: str = ""  # arms of one group compete; the one that is best on validation images represents it
    published: Sequence[Published] = ()
    signs: Mapping[str, Literal[-1, 1]] = dataclasses.field(default_factory=dict)  # level of each factor of a factorial


@dataclasses.dataclass(frozen=True)
class ResolvedArm:
    """An arm with the setting that its changes lead to."""

    arm: Arm
    setting: settings.Setting
    chance: float  # accuracy of a guess

    @property
    def label(self) -> str:
        """The arm's label."""
        return self.arm.label

    @property
    def fingerprint(self) -> str:
        """The name under which results of the setting are filed."""
        return settings.fingerprint(self.setting)


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One question."""

    id: str
    axis: Axis
    question: str
    arms: Sequence[Arm] = ()
    base: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # changes that all arms share
    chance: specs.Fraction | None = None  # accuracy of a guess; None: one in the number of classes
    expected: str = ""  # the published result, or our prediction
    note: str = ""  # what a reader must know before comparing
    x_label: str = ""
    log_x: bool = False
    not_run: str = ""  # why there are no arms of ours
    about: Literal["means", "standard deviations", "likeness"] = "means"  # likeness: CKA against accuracy
    cited: Sequence[str] = ()  # sources without published numbers

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources whose numbers it holds or that it cites; empty for a row nobody has published."""
        names = [published.source for arm in self.arms for published in arm.published]
        return tuple(dict.fromkeys([*names, *self.cited]))

    @functools.cached_property
    def resolved(self) -> tuple[ResolvedArm, ...]:
        """All arms with their settings.

        Raises:
            InputError: an unknown name or a value that its spec refuses.
        """
        arms = []
        for arm in self.arms:
            setting = settings.with_changes(settings.BASE, {**self.base, **arm.changes})
            chance = 1 / setting.data.num_classes if self.chance is None else self.chance
            arms.append(ResolvedArm(arm, setting, chance))
        return tuple(arms)

    @property
    def dataset(self) -> str:
        """Name of the dataset, which all arms share."""
        return self.resolved[0].setting.data.dataset


def sweep(
    name: str, values: Sequence[float], published: Mapping[float, Sequence[Published]] | None = None, **more: Any
) -> tuple[Arm, ...]:
    """Arms with different values of one number."""
    published = published or {}
    return tuple(
        Arm(f"{value:g}", {name: value, **more}, x=float(value), published=published.get(value, ())) for value in values
    )


def epochs(values: Sequence[int], published: Mapping[float, Sequence[Published]]) -> tuple[Arm, ...]:
    """Arms with different numbers of student epochs, all read from one run to the largest."""
    longest = {"student.num_epochs": max(values), "metrics": ("epochs",)}
    return tuple(Arm(str(e), longest, x=float(e), epoch=e, published=published.get(e, ())) for e in values)


def published_values(
    source: str, values: Mapping[float, float], condition: conditions.Recorded = "student_aux", **options: Any
) -> dict[float, list[Published]]:
    """Published values of a sweep, by the value that was varied."""
    return {x: [Published(source, value, condition, **options)] for x, value in values.items()}


def merge_published(*tables: Mapping[float, Sequence[Published]]) -> dict[float, list[Published]]:
    """Published values of several sources or conditions in one table."""
    places = sorted({place for table in tables for place in table})
    return {place: [value for table in tables for value in table.get(place, ())] for place in places}
