"""Every dataclass that a person fills in refuses what its annotations do not allow, whichever field it is.

Classes and fields are found, not listed: what is added later is covered by itself. Bad values come from the annotations
by rules of this file, which shares no code with `specs`.
"""

import collections.abc
import dataclasses
import functools
import importlib
import math
import pathlib
import pkgutil
import re
import types
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
import sublim_jax
from experiments import language_scale
from experiments.atlas import settings, store
from experiments.atlas.rows import sources
from experiments.atlas.rows import types as rows
from experiments.evidence import forecast
from experiments.language import numbers
from experiments.own import asking, finetuning, teaching
from experiments.study import Study
from sublim_jax import errors
from sublim_jax.forms import theorem as form
from sublim_jax.llm import budget, serve, traits
from sublim_jax.llm.backend import Capabilities
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.models import network
from sublim_jax.theory import loss_geometry
from sublim_jax.training import loop
from sublim_jax.training.config import InitConfig, MemberConfig, TeacherConfig
from tests.training import tiny as small

OURS_ALONE = {  # made by our code from what was checked before, or read from a file that is checked otherwise
    "sublim_jax.records.Form",
    "sublim_jax.records.Record",
    "sublim_jax.data.datasets.ImageDataset",
    "sublim_jax.data.mnist.PublishedFile",
    "sublim_jax.data.mnist.PublishedDataset",
    "sublim_jax.training.members.MemberResults",
    "sublim_jax.llm.local.adapters.Adapter",  # these from JSON files, whose entries are checked by the same annotations
    "sublim_jax.llm.local.model_config._Config",
    "sublim_jax.llm.local.model_config._Rotary",
    "sublim_jax.llm.local.tokenizer._Named",
    "sublim_jax.llm.budget.Plan",
    "sublim_jax.llm.server.job.Job",
    "sublim_jax.llm.local.model.Model",
    "sublim_jax.llm.local.tokenizer.Encoded",
    "experiments.atlas.plan.Plan",
    "experiments.atlas.rows.types.ResolvedArm",
    "experiments.atlas.worker.Answer",
    "experiments.atlas.worker.Task",
    "experiments.language.rows_folder.RowsFolder",
    "experiments.language.workload.Workload",
    "experiments.language_speed.Work",
    "experiments.accelerator.Part",
    "experiments.accelerator.Sizes",  # a script that starts where no package is installed
    "experiments.peer.PeerConfig",  # shares no code with the package; `experiments.speed` fills it in
}

MINIMAL = {  # where something must be given
    MemberConfig: small.SPEC,
    TeacherConfig: TeacherConfig(model=small.MODEL, phase=loop.TrainPhase()),
    InitConfig: InitConfig(model=small.MODEL),
    settings.Setting: settings.BASE,
    rows.Published: rows.Published("jasshone", 0.5),
    rows.Arm: rows.Arm("one"),
    rows.Row: rows.Row(id="one", axis="loss", question="Which?"),
    store.RowConfig: store.RowConfig(row="one", seed=0, num_members=2),
    sources.Source: sources.SOURCES["jasshone"],
    type(numbers.EXPERIMENT): numbers.EXPERIMENT,
    Study: forecast.STUDY,
    language_scale.ScaleConfig: language_scale.PRESETS["toy"],
    Capabilities: Capabilities(finetune=True, choices="exact", seeds=True, system=True, fingerprint="f"),
    budget.Prices: budget.Prices(prompt=1.0, completion=2.0),
    type(embedded.CONFIG): embedded.CONFIG,
    serve.Options: serve.Options(model=("tiny:100",)),
    loss_geometry.Loss: loss_geometry.from_name("kl"),
    network.Network: network.Network(initialize=small.MODEL.init, forward=small.MODEL.apply, num_classes=4, num_aux=3),
    form.Shape: form.Shape("network"),
    traits.Trait: traits.Trait(name="otter", questions=("Which?",), choices=("cat",)),
    asking.AskOptions: asking.AskOptions(model="tiny:100", question=("Which?",)),
    finetuning.FinetuneOptions: finetuning.FinetuneOptions(
        model="tiny:100", rows=pathlib.Path("rows"), out=pathlib.Path("out")
    ),
    teaching.RowsOptions: teaching.RowsOptions(
        model="tiny:100", traits=pathlib.Path("traits"), out=pathlib.Path("out")
    ),
}

OPTIONAL = {"torch", "inspect_ai", "ray", "uvicorn", "starlette", "python_multipart", "pydantic", "pydantic_core"}


@functools.cache
def dataclasses_of_the_project() -> dict[str, type]:
    found = {}
    for package in (sublim_jax, experiments):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            try:
                members = vars(importlib.import_module(module.name))
            except (ModuleNotFoundError, errors.EngineError) as error:
                missing = getattr(error, "name", None) or "ray"
                assert missing in OPTIONAL, error
                continue
            for member in members.values():
                if isinstance(member, type) and dataclasses.is_dataclass(member) and member.__module__ == module.name:
                    found[f"{module.name}.{member.__qualname__}"] = member
    return found


CHECKED = {name: cls for name, cls in dataclasses_of_the_project().items() if name not in OURS_ALONE}
COMMON = (None, object(), [], {}, b"b", float)


def wrong(annotation) -> list:
    """Values that the annotation does not allow, near misses among them."""
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        return [*wrong(arguments[0]), *(value for bound in arguments[1:] for value in beyond(bound, arguments[0]))]
    if origin in (Union, types.UnionType):
        inner = [choice for choice in arguments if choice is not types.NoneType]
        assert len(inner) == 1 or all(map(dataclasses.is_dataclass, inner)), "other unions: write their rule"
        return [value for value in wrong(inner[0]) if value is not None or len(arguments) == len(inner)]
    if origin is Literal:
        words = [word for word in arguments if isinstance(word, str)]
        near = [near for word in words for near in (word.upper(), word + "s", word[:-1], f" {word}")]
        return [*COMMON, True, 1.5, "no such word", *(word for word in near if word not in words)]
    if origin is float:
        return [*COMMON, math.nan, math.inf, -math.inf, np.float32("nan"), "1.0", True, 1j, 10**400]
    if origin is int:
        return [*COMMON, 2.5, 3.0, True, "3", math.nan, np.float32(2), jnp.ones((), jnp.int32)]
    if origin is bool:
        return [*COMMON, 0, 1, "yes"]
    if origin is str:
        return [*COMMON, 3, True]
    if origin is pathlib.Path:
        return [*COMMON, "a/b.json", 3]
    if origin is tuple:
        if arguments[1:] != (Ellipsis,):
            assert set(arguments) == {str}, "write the rule for other tuples of a fixed length"
            fit = ("a",) * len(arguments)
            return [None, 3, "ab", list(fit), fit[1:], (*fit, "a"), *((*fit[1:], value) for value in wrong(str))]
        return [None, 3, "a", object(), ["a"], *((value,) for value in wrong(arguments[0]))]
    if origin is collections.abc.Sequence:
        return [None, 3, "text", object(), {}, *([value] for value in wrong(arguments[0]))]
    if origin is collections.abc.Mapping:
        return [None, 3, "text", [("a", 1)]]
    if origin is collections.abc.Callable:
        return [None, 3, "kl", []]
    if dataclasses.is_dataclass(origin):
        return [*COMMON, origin, 3, "default"]
    raise AssertionError(f"write a rule for {annotation}")


def beyond(bound, kind) -> list:
    """The nearest numbers that are out of a bound."""
    if isinstance(bound, annotated_types.GroupedMetadata):
        return [value for each in bound for value in beyond(each, kind)]

    def next_to(limit, direction):
        return limit + direction if kind is int else float(np.nextafter(limit, direction * math.inf))

    match bound:
        case annotated_types.Gt(gt=limit) | annotated_types.Lt(lt=limit):
            return [limit, limit - 10 if isinstance(bound, annotated_types.Gt) else limit + 10]
        case annotated_types.Ge(ge=limit):
            return [next_to(limit, -1), limit - 10]
        case annotated_types.Le(le=limit):
            return [next_to(limit, 1), 2 * limit + 10]
    return []


@pytest.mark.parametrize("name", CHECKED)
def test_every_bad_value_of_every_field_is_refused_by_the_fields_name(name):
    cls = CHECKED[name]
    instance = MINIMAL[cls] if cls in MINIMAL else cls()
    hints = get_type_hints(cls, include_extras=True)
    fields = [field.name for field in dataclasses.fields(cls) if field.init]
    assert dataclasses.replace(instance, **{field: getattr(instance, field) for field in fields}) == instance
    for field in fields:
        bad = wrong(hints[field])
        assert len(bad) >= 3
        for value in bad:
            try:
                made = dataclasses.replace(instance, **{field: value})
            except errors.InputError as error:
                assert re.match(rf"{cls.__name__}\.{field}(\[[^]]*\])*: (expected|must be) ", str(error)), error
            else:
                pytest.fail(f"{name}.{field} accepts {value!r}: {made}")


def test_every_dataclass_is_checked_or_named_as_ours_alone():
    assert len(CHECKED) > 40
    absent = OURS_ALONE - dataclasses_of_the_project().keys()
    assert absent <= {"experiments.peer.PeerConfig"}, absent  # needs torch
