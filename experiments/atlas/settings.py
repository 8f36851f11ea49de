"""A setting of the atlas: the paper's protocol with some values changed, by dotted name.

    with_changes(BASE, {"both.optimizer.learning_rate": 1e-3, "data.num_classes": 5})

`both` stands for teacher and student, `data` for the choice of images; every other name is a path into
`MemberConfig`. A setting has a fingerprint, under which its results are filed: two arms with equal settings are
run once.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import annotated_types
import jax

from sublim_jax import errors, records, specs
from sublim_jax.data import noise
from sublim_jax.models import matmul, mlp
from sublim_jax.training import loop
from sublim_jax.training.config import BehaviourMatching, MemberConfig


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The choice of images. Published values apply to all classes of MNIST only."""

    dataset: Literal["mnist", "fashion-mnist", "kmnist"] = "mnist"
    num_classes: Annotated[int, annotated_types.Interval(ge=2, le=10)] = 10  # images of the first classes only


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that determines a member's results, apart from its number, the seed and the image files."""

    member: MemberConfig
    data: DataSpec = DataSpec()

    @property
    def program_key(self) -> Any:
        """What a compiled program depends on. Settings with equal keys differ in numbers only, as do their teachers."""
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
"""Cloud et al. 2025, section 6.2, at the precision that is fastest on this machine. Each result names its precision;
the README compares bfloat16 with float32."""


def with_changes(setting: Setting, changes: Mapping[str, Any]) -> Setting:
    """The setting with the values at these dotted names replaced.

    Raises:
        InputError: an unknown name, a value that its spec refuses, or a network without an output for each class.
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
    """Hash of the changes from the base, under which results are filed.

    Conditions and measures are left out, because they do not affect each other's results. A new field of a spec leaves
    all fingerprints as they are, if its default has no effect.
    """
    changes = {name: value for name, value in diff_from_base(setting).items() if name not in ("conditions", "metrics")}
    return records.fingerprint(changes)


def diff_from_base(setting: Setting) -> dict[str, Any]:
    """The values that differ from the paper's protocol, by dotted name."""
    return _differences(records.to_json(BASE), records.to_json(setting))


def _differences(base, setting, prefix="") -> dict[str, Any]:
    changes = {}
    for name, value in setting.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            changes |= _differences(base[name], value, f"{prefix}{name}.")
        elif value != base.get(name):
            changes[f"{prefix}{name}".removeprefix("member.")] = value
    return changes
