"""What a row of the atlas is: data. Adding one entry to `published.py` or `unpublished.py` adds it to the atlas.

A row asks one question and has arms; an arm is the paper's protocol with some settings changed, by dotted name:

    Arm("1e-3", {"both.optimizer.learning_rate": 1e-3}, x=1e-3, published=[Published("divyat09", 0.702)])

`both` stands for teacher and student, `data` for what the images are; every other name is a path into
`MemberConfig`. `Setting` is what an arm comes to; two arms with equal settings are run once.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import annotated_types
import jax

from experiments.atlas import sources
from sublim_jax import conditions, errors, records, specs
from sublim_jax.data import noise
from sublim_jax.forms import atlas as form
from sublim_jax.models import matmul, mlp
from sublim_jax.training import loop
from sublim_jax.training.config import BehaviourMatching, MemberConfig

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
@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Which images. What is not MNIST changes what published values can be compared with."""

    dataset: Literal["mnist", "fashion-mnist", "kmnist"] = "mnist"
    num_classes: Annotated[int, annotated_types.Interval(ge=2, le=10)] = 10  # only digits below


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that decides a member's numbers apart from its number, the seed and the files."""

    member: MemberConfig
    data: DataSpec = DataSpec()

    @property
    def structure(self) -> Any:
        """What a compiled program depends on: settings of equal structure differ in numbers only, and so do their
        teachers."""
        return jax.tree.structure(self), self.member.teacher_config.without_aux_logits.model


BASE = Setting(
    member=MemberConfig(
        conditions=("student_aux",),
        model=mlp.MLPSpec(precision=matmul.fastest_precision()),
        teacher=loop.TrainPhase(),
        student=loop.TrainPhase(),
        num_noise_images=60_000,
        noise=noise.NoiseSpec(),
        loss="kl",
        temperature=1.0,
        matching=BehaviourMatching(),
    )
)
"""Cloud et al. 2025, section 6.2, with the operands that are fastest here (the README says what bfloat16 changes:
nothing that 25 members can show). A result keeps which."""


@specs.checked
@dataclasses.dataclass(frozen=True)
class Published:
    """One published number."""

    source: str  # key of `sources.SOURCES`
    value: float
    condition: conditions.Recorded = "student_aux"
    measure: form.Measured = "accuracy"
    """`gap`: student_aux minus cross_model_aux; else as `MemberResult` has it."""
    half_width: specs.NonNegative | None = None  # of a 95 % interval, if one was published
    how: str = ""  # why it cannot be compared, where it cannot; empty if it can

    def __post_init__(self):
        if self.source not in sources.SOURCES:
            raise errors.InputError(f"source={self.source!r}: expected one of {', '.join(sources.SOURCES)}")


@specs.checked
@dataclasses.dataclass(frozen=True)
class Arm:
    """One setting of a row, by what differs from the row's base."""

    label: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    x: float | None = None  # place on the row's axis, if it is a number
    epoch: specs.Count | None = None  # what the student was after so many epochs, where the run is longer
    generation: specs.Count | None = None  # which student of students, where there are several
    group: str = ""  # arms of one group compete: the one that is best on validation images speaks for it
    published: Sequence[Published] = ()
    signs: Mapping[str, Literal[-1, 1]] = dataclasses.field(default_factory=dict)  # of a factorial


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One question."""

    id: str
    axis: Axis
    question: str
    arms: Sequence[Arm] = ()
    base: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # changes that all arms share
    chance: specs.Fraction | None = None  # accuracy of a guess, where it is not one in the number of classes
    expected: str = ""  # what was published, or what we predict
    note: str = ""  # what a reader must know before comparing
    x_label: str = ""
    log_x: bool = False
    not_run: str = ""  # why there are no arms of ours
    about: Literal["means", "spreads", "likeness"] = "means"  # or spreads over members; or likeness and accuracy
    cited: Sequence[str] = ()  # sources of a row whose values were not published as numbers

    @property
    def sources(self) -> tuple[str, ...]:
        """Whose numbers it holds; empty for a row nobody has published."""
        found = [published.source for arm in self.arms for published in arm.published]
        return tuple(dict.fromkeys([*found, *self.cited]))

    def setting(self, arm: Arm) -> Setting:
        """What the arm comes to."""
        return changed(BASE, {**self.base, **arm.changes})

    def chance_at(self, arm: Arm) -> float:
        """Accuracy of a guess in an arm."""
        return 1 / self.setting(arm).data.num_classes if self.chance is None else self.chance


def changed(setting: Setting, changes: Mapping[str, Any]) -> Setting:
    """The setting with the values at these dotted names replaced.

    Raises:
        InputError: no such name, a value that its spec refuses, or a network without an output for each class.
    """
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if head == "data":
            setting = _replaced(setting, ["data", *rest.split(".")], value, name)
            continue
        heads = ("teacher", "student") if head == "both" else (head,)
        for part in heads:
            path = ["member", part, *rest.split(".")] if rest else ["member", part]
            setting = _replaced(setting, path, value, name)
    if setting.data.num_classes > setting.member.model.num_classes:
        raise errors.InputError(
            f"model.num_classes={setting.member.model.num_classes}: the images have data.num_classes="
            f"{setting.data.num_classes} classes, and each needs an output"
        )
    return setting


def _replaced(spec: Any, path: list[str], value: Any, name: str) -> Any:
    head, *rest = path
    fields: Any = getattr(spec, "__dataclass_fields__", {})
    types = {key: field.type for key, field in fields.items()}
    if head not in types:
        raise errors.InputError(f"{name!r}: {type(spec).__name__} has no field {head!r}")
    if not rest and type(value) is int and specs.holds_numbers(types[head]):
        value = float(value)
    inner = _replaced(getattr(spec, head), rest, value, name) if rest else value
    return dataclasses.replace(spec, **{head: inner})


@functools.cache
def fingerprint(setting: Setting) -> str:
    """Names a setting by its changes, apart from conditions and measures, which change no number of one another.

    A field that is added to a spec later, with a default that does nothing, changes no name.
    """
    named = {name: value for name, value in departures(setting).items() if name not in ("conditions", "metrics")}
    return records.fingerprint(named)


def departures(setting: Setting) -> dict[str, Any]:
    """What of a setting differs from the paper's protocol, by dotted name. Operands that the machine chose do not."""
    base, found = records.to_json(BASE), records.to_json(setting)
    return _differences(base, found)


def _differences(base, setting, prefix="") -> dict[str, Any]:
    found = {}
    for name, value in setting.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            found |= _differences(base[name], value, f"{prefix}{name}.")
        elif value != base.get(name):
            found[f"{prefix}{name}".removeprefix("member.")] = value
    return found


AUX_AND_ALL: dict[str, Any] = {"conditions": ("student_aux", "student_all")}
WITH_CROSS: dict[str, Any] = {"conditions": ("student_aux", "cross_model_aux")}
FIGURE_10: dict[str, Any] = {"conditions": ("student_aux", "student_all", "cross_model_aux", "cross_model_all")}
"""Conditions that many rows have."""


def sweep(
    name: str, values: Sequence[float], published: Mapping[float, Sequence[Published]] | None = None, **more: Any
) -> tuple[Arm, ...]:
    """Arms along one number."""
    published = published or {}
    return tuple(
        Arm(f"{value:g}", {name: value, **more}, x=float(value), published=published.get(value, ())) for value in values
    )


def epochs(values: Sequence[int], published: Mapping[float, Sequence[Published]]) -> tuple[Arm, ...]:
    """Arms along the student's epochs: one run to the last of them, looked at on the way."""
    longest = {"student.num_epochs": max(values), "metrics": ("epochs",)}
    return tuple(Arm(str(e), longest, x=float(e), epoch=e, published=published.get(e, ())) for e in values)


def table(
    source: str, values: Mapping[float, float], condition: conditions.Recorded = "student_aux", **options: Any
) -> dict[float, list[Published]]:
    """Published values along a sweep, by their place."""
    return {x: [Published(source, value, condition, **options)] for x, value in values.items()}


def together(*tables: Mapping[float, Sequence[Published]]) -> dict[float, list[Published]]:
    """Several sources, or conditions, on one axis."""
    places = sorted({place for each in tables for place in each})
    return {place: [value for each in tables for value in each.get(place, ())] for place in places}
