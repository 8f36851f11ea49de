"""What of a spec is data and what is structure, that a program takes the data as arguments, and what is refused."""

import dataclasses
import math
import pathlib
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import annotated_types
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors, specs
from sublim_jax.data import inputs
from sublim_jax.models import init_sharing, mlp
from sublim_jax.training import corruption, loop, optimizers
from sublim_jax.training.config import BehaviourMatching, UpdateScale
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
    start = {f"share.{part}" for part in parts} | {f"noise_scale.{part}" for part in parts}
    start |= {"relative_noise", "absolute_noise"}
    assert leaf_names(optimizers.OptimizerSpec()) == optimizer
    assert leaf_names(init_sharing.InitSharing()) == start
    assert leaf_names(init_sharing.InitSharing(shared_weight_probability=0.5)) == start | {"shared_weight_probability"}
    assert leaf_names(inputs.InputSpec(perlin_cells=2, blur=1.0, real_fraction=0.1)) == {"blur", "real_fraction"}
    assert leaf_names(corruption.TargetCorruption(noise=1.0, bits=3, top_k=2)) == {"noise"}
    assert leaf_names(BehaviourMatching()) == {f"phase.optimizer.{name}" for name in optimizer}
    phases = {f"{who}.optimizer.{name}" for who in ("teacher", "student", "matching.phase") for name in optimizer}
    found = leaf_names(
        dataclasses.replace(
            tiny.SPEC,
            feature_loss_weight=1.0,
            student_model=mlp.MLPChanges(init_scale=2.0),
            trainable=UpdateScale(hidden=(0.0, 1.0), class_head=1.0, aux_head=0.0),
        )
    )
    assert found == phases | {f"init_sharing.{name}" for name in start} | {f"trainable.{part}" for part in parts} | {
        "model.init_scale",
        "student_model.init_scale",
        "noise.amplitude",
        "temperature",
        "feature_loss_weight",
    }


def test_a_spec_checks_its_numbers_when_constructed_and_not_when_traced():
    with pytest.raises(ValueError, match=r"rate must be positive, got -1\.0"):
        Inner(rate=-1.0)
    assert jax.jit(lambda spec: -spec.rate)(Inner(rate=2.0)) == -2
    negative = jax.tree.map(lambda leaf: -leaf, Outer(spare=Inner()))
    assert negative.spare.rate == -0.5 and negative.count == 3
    with pytest.raises(ValueError, match="learning_rate: must be greater than 0"):
        dataclasses.replace(optimizers.OptimizerSpec(), learning_rate=-1.0)
    jax.eval_shape(lambda spec: spec, loop.TrainPhase())


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


# What is refused

Word = Literal["bfloat16", "float32", 8, True]


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        *((word, Word) for word in ("bfloat16", np.str_("float32"), 8, np.int64(8), True, np.True_)),
        *((number, float) for number in (-1.5, 3, 0.0, np.float32(2), np.int8(3), np.array([math.nan]), jnp.zeros(2))),
        *((number, int) for number in (-3, 0, np.int64(7), np.uint8(2), 10**400)),
        *((flag, bool) for flag in (True, False, np.True_)),
        *((text, str) for text in ("", "a", np.str_("b"))),
        *((number, specs.Positive) for number in (1.2e-38, 1, 3.4e38, np.float32(0.5), jnp.array(-1.0))),
        *((number, specs.NonNegative) for number in (0, 0.0, 1e-300, 3.4e38)),
        *((number, specs.Fraction) for number in (0, 0.5, 1.0, 1)),
        *((number, specs.Decay) for number in (0, 0.999999)),
        *((number, specs.Count) for number in (1, np.int32(1), 2**31 - 1)),
        *((number, specs.CountOrZero) for number in (0, 1)),
        *((number, specs.Seed) for number in (0, 2**32 - 1, np.uint32(2**32 - 1))),
        *((value, specs.Count | None) for value in (None, 1)),
        *((value, typing.Optional[specs.Count]) for value in (None, 1)),  # noqa: UP045
        *((value, None | float) for value in (None, 1.0)),
        *((value, Literal["auto"] | specs.Count) for value in ("auto", 3)),
        *((values, tuple[specs.Count, ...]) for values in ((), (1,), (1, 2, 3))),
        ((1, "x"), tuple[int, str]),
        ((("bfloat16", 1.0), ()), tuple[tuple[Word, float], tuple[str, ...]]),
        *((values, Sequence[str]) for values in ((), [], ["a"], ("a", "b"))),
        *((table, Mapping[str, float]) for table in ({}, {"a": 1.0}, {"a": jnp.ones(3)})),
        (pathlib.Path("a"), pathlib.Path),
        *(
            (value, kind)
            for kind, value in ((dict, {}), (dict[str, int] | None, {"a": 1}), (list, []), (list[int], [1]))
        ),
        (math.sin, Callable[[float], float]),
        (Inner(), Inner),
        (Inner(), Inner | None),
        (1.0, Annotated[float, "a note", annotated_types.Gt(0), object()]),
        (object(), Any),
        (object(), typing.NamedTuple),
    ],
)
def test_what_the_annotation_allows_passes(value, annotation):
    specs.check(value, annotation, "it")


NUMBER, WHOLE, FINITE = "expected a number", "expected a whole number", "expected a finite number"


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        ("bf16", Word, "expected one of 'bfloat16', 'float32', 8, True, got 'bf16'; did you mean 'bfloat16'[?]$"),
        ("FLOAT32", Word, "expected one of .*; did you mean 'float32'[?]$"),
        ("zzz", Word, "expected one of 'bfloat16', 'float32', 8, True, got 'zzz'$"),
        *(
            (value, Word, "expected one of")
            for value in (1, 1.0, 8.0, False, "8", "True", None, ["float32"], b"float32")
        ),
        (1, Literal[True], "expected True, got 1$"),
        (True, Literal[0, 1], "expected one of 0, 1, got True$"),
        ("Ntk", Literal["standard", "NTK"], ".*; did you mean 'NTK'[?]$"),
        *((value, float, FINITE) for value in (math.nan, math.inf, -math.inf, np.float32("nan"), 10**400)),
        *((value, float, NUMBER) for value in (True, np.True_, "1.0", None, 1j, [1.0], Inner(), b"1")),
        *(
            (value, int, WHOLE)
            for value in (2.0, 2.5, math.nan, True, np.True_, "2", None, np.float32(2), jnp.array(2))
        ),
        *((value, bool, "expected True or False") for value in (0, 1, "yes", None, jnp.array(True))),
        *((value, str, "expected a string") for value in (3, None, b"a", ["a"])),
        (0.0, specs.Positive, "must be greater than 0, got 0.0"),
        (-1e-300, specs.Positive, "must be greater than 0"),
        (math.nan, specs.Positive, FINITE),
        (1.1e-38, specs.Positive, "must be at least 1.17.*e-38, got 1.1e-38"),  # float32's least normal number
        *((3.5e38, kind, "must be at most 3.40.*e.38, got 3.5e.38") for kind in (specs.Positive, specs.NonNegative)),
        (-1e-300, specs.NonNegative, "must be at least 0"),
        (math.inf, specs.NonNegative, FINITE),
        (1.0000001, specs.Fraction, "must be at most 1, got 1.0000001"),
        (-0.1, specs.Fraction, "must be at least 0"),
        (1, specs.Decay, "must be less than 1, got 1"),
        (-0.1, specs.Decay, "must be at least 0"),
        (0, specs.Count, "must be at least 1, got 0"),
        (1.0, specs.Count, WHOLE),
        (np.int64(-1), specs.CountOrZero, "must be at least 0"),
        (2**32, specs.Seed, "must be less than 4294967296, got 4294967296"),
        (-1, specs.Seed, "must be at least 0, got -1"),
        (0, specs.Count | None, "must be at least 1, got 0"),
        (2.5, None | specs.Count, WHOLE),
        (0, Literal["auto"] | specs.Count, "expected 'auto', got 0"),
        ([1, 2], tuple[int, ...], r"expected a tuple, got \[1, 2\]"),
        (3, tuple[int, ...], "expected a tuple, got 3"),
        ((1,), tuple[int, str], "expected 2 values, got"),
        ("ab", Sequence[str], "expected a sequence, got 'ab'"),
        ([("a", 1)], Mapping[str, int], "expected a mapping"),
        *((value, dict | None, "expected an object of names and values, got") for value in ("a", [], 3)),
        *((value, list[int], "expected a list, got") for value in ("a", (1,), {})),
        ("a", pathlib.Path, "expected a pathlib.Path, got 'a'"),
        ("sin", Callable[[float], float], "expected a function, got 'sin'"),
        ({"rate": 0.5}, Inner, "expected Inner, got"),
        (Inner, Inner, "expected Inner, got"),
        ("none", Inner | None, "expected Inner, got 'none'"),
    ],
)
def test_what_it_does_not_allow_is_refused_by_name(value, annotation, message):
    with pytest.raises(errors.InputError, match=f"^it: (?:{message})"):
        specs.check(value, annotation, "it")


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        ((4, 0), tuple[specs.Count, ...], r"it\[1\]: must be at least 1, got 0"),
        ((1, ("x", 2)), tuple[int, tuple[str, str]], r"it\[1\]\[1\]: expected a string, got 2"),
        (["a", 1], Sequence[str], r"it\[1\]: expected a string"),
        ({"a": 1.0, "b": math.nan}, Mapping[str, float], r"it\['b'\]: expected a finite number, got nan"),
        ((1.0, math.inf), tuple[float, ...] | None, r"it\[1\]: expected a finite number"),
    ],
)
def test_the_message_says_which_entry_is_wrong(value, annotation, message):
    with pytest.raises(errors.InputError, match=f"^{message}"):
        specs.check(value, annotation, "it")


@pytest.mark.parametrize("bound", [annotated_types.MultipleOf(2), annotated_types.MinLen(1), annotated_types.Len(0, 3)])
def test_a_bound_that_nothing_checks_is_a_fault_of_the_definition(bound):
    with pytest.raises(TypeError, match="none of the bounds that are checked"):
        specs.check(4, Annotated[int, bound], "it")


@given(value=st.floats(allow_nan=False, allow_infinity=False), low=st.floats(-9, 9), high=st.floats(-9, 9))
def test_bounds_are_those_of_arithmetic(value, low, high):
    def passes(**bounds):
        try:
            specs.check(value, Annotated[float, annotated_types.Interval(**bounds)], "it")
        except errors.InputError:
            return False
        return True

    for number in (value, low, high):
        value = number
        assert passes(ge=low, le=high) == (low <= value <= high)
        assert passes(gt=low, lt=high) == (low < value < high)


@specs.checked
@dataclasses.dataclass
class Parent:
    first: specs.Count
    flag: bool = dataclasses.field(default=False, kw_only=True)
    ledger: list = dataclasses.field(default_factory=list, init=False)
    law: Literal["one", "two"] = dataclasses.field(default="one", kw_only=True)


@specs.checked
@dataclasses.dataclass
class Heir(Parent):
    """Without a `__post_init__`, from a parent without one."""

    second: float = 1.0


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Careful(Inner):
    """With its own, which calls that of its parent and relies on the checks."""

    words: tuple[str, ...] = ("a",)
    rate: specs.Fraction = 0.5

    def __post_init__(self):
        super().__post_init__()
        if len("".join(self.words)) > self.rate * 10:
            raise errors.InputError(f"too many letters: {self.words}")


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Careless(Careful):
    """Its parent's `__post_init__` is its own."""

    count: specs.Count = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Parent(0), r"Parent\.first: must be at least 1, got 0"),
        (lambda: Parent(first="x"), r"Parent\.first: expected a whole number"),
        (lambda: Parent(1, flag=1), r"Parent\.flag: expected True or False, got 1"),
        (lambda: Parent(1, law="three"), r"Parent\.law: expected one of 'one', 'two', got 'three'"),
        (lambda: Heir(0), r"Heir\.first: must be at least 1"),
        (lambda: Heir(1, math.nan), r"Heir\.second: expected a finite number"),
        (lambda: Heir(1, 2.0, law="One"), r"Heir\.law: .*did you mean 'one'"),
        (lambda: Careful(words=("a", 3)), r"Careful\.words\[1\]: expected a string, got 3"),
        (lambda: Careful(words="ab"), r"Careful\.words: expected a tuple"),
        (lambda: Careful(rate=1.5), r"Careful\.rate: must be at most 1"),
        (lambda: Careful(law="tow"), r"Careful\.law: .*did you mean 'two'"),
        (lambda: Careful(words=("abcdef",)), "too many letters"),
        (lambda: Careful(rate=0.0), "rate must be positive"),
        (lambda: Careless(count=True), r"Careless\.count: expected a whole number"),
        (lambda: Careless(rate=-1), r"Careless\.rate: must be at least 0"),
        (lambda: Careless(words=("abcdef",)), "too many letters"),
        (lambda: dataclasses.replace(Careless(), count=0), r"Careless\.count: must be at least 1"),
    ],
)
def test_a_class_is_checked_by_all_its_annotations_and_by_its_own_rules(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_a_checked_class_is_otherwise_as_it_was():
    heir = Heir(2, 3, flag=True)
    assert (heir.first, heir.second, heir.flag, heir.ledger, heir.law) == (2, 3, True, [], "one")
    assert Careless(count=2) == dataclasses.replace(Careless(), count=2) and hash(Careless()) == hash(Careless())
    assert [field.name for field in dataclasses.fields(Heir)] == ["first", "flag", "ledger", "law", "second"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'frist'"):
        Parent(frist=1)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'first'"):
        Parent()
    with pytest.raises(TypeError, match="positional argument"):
        Parent(1, 2)


def test_arrays_and_tracers_are_data_and_are_replaced_inside_a_program():
    assert Careful(rate=np.float32(0.5)).rate == 0.5
    assert optimizers.OptimizerSpec(learning_rate=jnp.array([1.0, 2.0])).learning_rate.shape == (2,)

    @jax.jit
    def program(rate, spec):
        halved = dataclasses.replace(spec, learning_rate=rate / 2, momentum=jnp.zeros(()))
        return halved.learning_rate + spec.b1 + halved.momentum

    assert program(jnp.array(-1.0), optimizers.OptimizerSpec(b1=0.25)) == -0.25
    with pytest.raises(errors.InputError, match=r"OptimizerSpec\.name: expected one of"):
        jax.eval_shape(lambda rate: dataclasses.replace(optimizers.OptimizerSpec(), name=rate), jnp.ones(()))
    with pytest.raises(errors.InputError, match=r"Phase\.num_epochs: expected a whole number"):
        jax.eval_shape(lambda count: loop.TrainPhase(num_epochs=count), jnp.ones((), jnp.int32))


def test_a_tree_may_hold_anything_for_a_while():
    """JAX puts shapes, axes and placeholders where numbers were; only a person's values are checked."""
    spec = optimizers.OptimizerSpec()
    for placeholder in (None, "x", math.nan, object()):
        held = jax.tree.map(lambda _, it=placeholder: it, spec)
        assert held.learning_rate is placeholder and held.name == "adam"
    shapes = jax.eval_shape(lambda spec: spec, spec)
    assert dataclasses.replace(shapes, name="sgd").learning_rate.shape == ()
