"""What of a spec is data and what is structure, and that a program takes the data as arguments."""

import dataclasses
import typing
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import specs
from sublim_jax.data import inputs
from sublim_jax.models import inits
from sublim_jax.training import lineage, loop, optimizers, targets
from tests.training import tiny


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    law: Literal["one", "two"] = "one"

    def __post_init__(self):
        if self.rate <= 0:
            raise ValueError(f"rate must be positive, got {self.rate}")


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    count: int = 3  # structure stands first, so that an exchange of the two kinds shows
    inner: Inner = dataclasses.field(default_factory=Inner)
    words: tuple[str, ...] = ("a", "b")
    maybe: float | None = None
    spare: Inner | None = None
    numbers: tuple[float, ...] = (1.0, 2.0)
    inners: tuple[Inner, ...] = ()
    noted: Annotated[float, "a unit"] = 7.0
    flag: bool = False
    sizes: tuple[int, ...] = (4,)
    old_style: typing.Optional[float] = None  # noqa: UP045


positive = st.floats(0.1, 10)
inner_specs = st.builds(Inner, rate=positive, law=st.sampled_from(["one", "two"]))
outer_specs = st.builds(
    Outer,
    count=st.integers(0, 9),
    inner=inner_specs,
    maybe=st.none() | positive,
    spare=st.none() | inner_specs,
    numbers=st.lists(positive, max_size=3).map(tuple),
    inners=st.lists(inner_specs, max_size=2).map(tuple),
    noted=positive,
    flag=st.booleans(),
    old_style=st.none() | positive,
)


def leaf_names(spec):
    return {jax.tree_util.keystr(path).lstrip(".") for path, _ in jax.tree.leaves_with_path(spec)}


@given(spec=outer_specs)
def test_a_spec_survives_being_taken_apart(spec):
    leaves, structure = jax.tree.flatten(spec)
    again = jax.tree.unflatten(structure, leaves)
    assert again == spec and hash(again) == hash(spec) and type(again) is Outer
    assert all(isinstance(leaf, float) for leaf in leaves)


@given(spec=outer_specs, numbers=st.data())
def test_structure_is_all_but_the_numbers(spec, numbers):
    """Other numbers keep it; any other difference changes it."""
    leaves, structure = jax.tree.flatten(spec)
    other = jax.tree.unflatten(structure, [numbers.draw(positive) for _ in leaves])
    assert jax.tree.structure(other) == structure and hash(jax.tree.structure(other)) == hash(structure)
    assert (other == spec) == (jax.tree.leaves(other) == leaves)
    changes = {
        "count": spec.count + 1,
        "inner": dataclasses.replace(spec.inner, law="one" if spec.inner.law == "two" else "two"),
        "words": ("a",),
        "maybe": 1.0 if spec.maybe is None else None,
        "spare": Inner() if spec.spare is None else None,
        "numbers": (*spec.numbers, 1.0),
        "inners": (*spec.inners, Inner()),
        "flag": not spec.flag,
        "sizes": (5,),
    }
    for name, value in changes.items():
        assert jax.tree.structure(dataclasses.replace(spec, **{name: value})) != structure, name


def test_floats_alone_optional_in_tuples_and_in_inner_specs_are_leaves():
    spec = Outer(maybe=1.0, spare=Inner(), inners=(Inner(),), old_style=2.0)
    assert leaf_names(spec) == {
        "inner.rate",
        "maybe",
        "spare.rate",
        "numbers[0]",
        "numbers[1]",
        "inners[0].rate",
        "noted",
        "old_style",
    }
    assert leaf_names(Outer()) == {"inner.rate", "numbers[0]", "numbers[1]", "noted"}


def test_leaves_of_the_laboratorys_own_specs():
    parts = {f"{field}" for field in ("hidden[0]", "hidden[1]", "class_head", "aux_head")}
    optimizer = {"learning_rate", "b1", "b2", "eps", "momentum", "weight_decay"}
    start = {f"share.{part}" for part in parts} | {f"noisy.{part}" for part in parts}
    start |= {"relative_noise", "absolute_noise"}
    assert leaf_names(optimizers.OptimizerSpec()) == optimizer
    assert leaf_names(inits.StartSpec()) == start
    assert leaf_names(inits.StartSpec(shared_weights=0.5)) == start | {"shared_weights"}
    assert leaf_names(inputs.InputSpec(lattice=2, blur=1.0, real_share=0.1)) == {"blur", "real_share"}
    assert leaf_names(targets.TargetSpec(noise=1.0, bits=3, top_k=2)) == {"noise"}
    assert leaf_names(lineage.Matching()) == {f"phase.optimizer.{name}" for name in optimizer}
    phases = {f"{who}.optimizer.{name}" for who in ("teacher", "student", "matching.phase") for name in optimizer}
    found = leaf_names(dataclasses.replace(tiny.SPEC, guidance=1.0, student_model=tiny.MODEL, trainable=inits.HEADS))
    assert found == phases | {f"start.{name}" for name in start} | {f"trainable.{part}" for part in parts} | {
        "model.init_scale",
        "student_model.init_scale",
        "noise.amplitude",
        "temperature",
        "guidance",
    }


def test_a_spec_checks_its_numbers_when_constructed_and_not_when_traced():
    with pytest.raises(ValueError, match=r"rate must be positive, got -1\.0"):
        Inner(rate=-1.0)
    assert jax.jit(lambda spec: -spec.rate)(Inner(rate=2.0)) == -2
    negative = jax.tree.map(lambda leaf: -leaf, Outer(spare=Inner()))
    assert negative.spare.rate == -0.5 and negative.count == 3
    with pytest.raises(ValueError, match="learning_rate must be positive"):
        dataclasses.replace(optimizers.OptimizerSpec(), learning_rate=-1.0)
    jax.eval_shape(lambda spec: spec, loop.Phase())


def test_one_trace_serves_all_numbers_of_one_structure():
    traces = []

    @jax.jit
    def program(spec):
        traces.append(spec.count)
        maybe = 0.0 if spec.maybe is None else spec.maybe
        return spec.count * spec.inner.rate + 10 * maybe + sum(spec.numbers) + (spec.inner.law == "two")

    for rate in (0.5, 0.25, 2.0):
        assert program(Outer(inner=Inner(rate=rate), numbers=(1.0, 4 * rate))) == 3 * rate + 1 + 4 * rate
    assert traces == [3]
    assert program(Outer(maybe=0.5, inner=Inner(law="two"))) == 1.5 + 5 + 3 + 1
    assert program(Outer(count=5)) == 2.5 + 3
    assert traces == [3, 3, 5]


def test_specs_can_be_stacked_and_mapped_over():
    """Ten learning rates side by side are one vmapped program."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(Inner(rate=rate) for rate in (1.0, 2.0, 4.0)))
    assert jax.vmap(lambda spec: spec.rate**2)(stacked).tolist() == [1, 4, 16]


def test_only_a_number_that_is_known_is_known_to_be_zero():
    assert specs.is_zero(0.0) and specs.is_zero(0)
    assert not specs.is_zero(1e-30)
    known = []
    jax.jit(lambda spec: known.append(specs.is_zero(spec.rate)))(Inner())
    assert known == [False]
    assert not specs.is_zero(jnp.zeros(()))
