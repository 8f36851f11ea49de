"""Specs: frozen dataclasses whose numbers may be data.

A spec says what a program does. Some of its fields decide the program itself (widths, the name of a loss, how many
epochs), others only numbers inside it (a learning rate, a temperature). `traceable` makes a spec a pytree whose leaves
are the latter: fields annotated `float`, alone, optional or in a tuple, and those of the traceable specs it contains.
Everything else is structure. Specs of equal structure can therefore share one compiled program, which takes their
numbers as arguments: a sweep over ten learning rates is one compilation.

    leaves, structure = jax.tree.flatten(spec)

Inside a program a number of a spec may be a tracer, so code may compute with it but not branch on it; what must branch
is `float | None`, whose None is structure. A spec checks its numbers when it is constructed, not when it is traced.

`checked` makes every spec, config and set of options refuse what its annotations do not allow: an unknown word where a
`Literal` stands, a number that is not finite, not whole or out of the bounds in its `Annotated`, another type.
"""

import dataclasses
import difflib
import functools
import math
import numbers
import pathlib
import types
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import annotated_types
import jax
import numpy as np

from sublim_jax import errors

Spec = TypeVar("Spec", bound=type)

Positive = Annotated[float, annotated_types.Gt(0)]
NonNegative = Annotated[float, annotated_types.Ge(0)]
Fraction = Annotated[float, annotated_types.Interval(ge=0, le=1)]
Decay = Annotated[float, annotated_types.Interval(ge=0, lt=1)]
"""Of a moving average, e.g. of a moment in Adam."""
Count = Annotated[int, annotated_types.Ge(1)]
CountOrZero = Annotated[int, annotated_types.Ge(0)]
Seed = Annotated[int, annotated_types.Interval(ge=0, lt=2**32)]

_TRACEABLE: set[type] = set()


def checked(cls: Spec) -> Spec:
    """Class decorator for a dataclass, above `@dataclass`: a bad value of a field is refused when it is constructed.

    What the annotations say is checked before the class's own `__post_init__`, which can therefore rely on it. Arrays
    and tracers pass, since numbers of a spec may be data. A subclass is checked if it is decorated too; its fields are
    those of both.

    Raises (when an instance is made):
        InputError: a field holds what its annotation does not allow.
    """
    name = (
        "__post_init__" if hasattr(cls, "__post_init__") else "__init__"
    )  # dataclass calls the former only if it is there
    original = getattr(cls, name)

    @functools.wraps(original)
    def with_checks(self, *values, **named):
        if name == "__init__":
            original(self, *values, **named)
        for field, annotation in _annotations(type(self)):
            check(getattr(self, field), annotation, f"{type(self).__name__}.{field}")
        if name == "__post_init__":
            original(self, *values, **named)

    setattr(cls, name, with_checks)
    return cls


def check(value: Any, annotation: Any, name: str) -> None:
    """Refuse a value that the annotation does not allow; see `checked`.

    Args:
        annotation: `Literal`, `Annotated` with bounds of `annotated_types`, numbers, `str`, `bool`, tuples, unions,
            paths, dataclasses. Others are not looked into.
        name: what the value is, for the message, e.g. "MLPSpec.precision".

    Raises:
        InputError: the value is not one of those allowed.
    """
    if problem := _problem(value, annotation):
        raise errors.InputError(f"{name}: {problem}")


@functools.cache
def _annotations(cls: type) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(cls))


def _problem(value: Any, annotation: Any) -> str | None:
    """What is wrong with the value, or None."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _problem(value, arguments[0]) or next(filter(None, (_out_of(value, b) for b in arguments[1:])), None)
    if origin is Literal:
        return _unknown_word(value, arguments)
    if origin in (Union, types.UnionType):
        problems = [_problem(value, choice) for choice in arguments]
        if None in problems:
            return None
        # The alternative that is about the same kind of value says best what is wrong with it.
        likely = [problem for problem, choice in zip(problems, arguments, strict=True) if choice is not type(None)]
        return min((problem for problem in likely if problem), key=lambda text: text.startswith("expected a "))
    if origin is tuple:
        return _tuple_problem(value, arguments)
    if annotation is float:
        return _number_problem(value, numbers.Real, "a number")
    if annotation is int:
        return _number_problem(value, numbers.Integral, "a whole number")
    if annotation is type(None):
        return None if value is None else f"expected None, got {value!r}"
    plain = annotation in (bool, str, dict) or (isinstance(annotation, type) and dataclasses.is_dataclass(annotation))
    if plain and not isinstance(value, annotation):
        return f"expected a {annotation.__name__}, got {value!r}"
    if annotation is pathlib.Path and not isinstance(value, pathlib.Path | str):
        return f"expected a path, got {value!r}"
    return None


def _unknown_word(value, choices) -> str | None:
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return None
    listed = ", ".join(map(repr, choices))
    likely = difflib.get_close_matches(str(value).lower(), [str(choice) for choice in choices], n=1)
    hint = f"; did you mean {likely[0]!r}?" if likely else ""
    return f"expected one of {listed}, got {value!r}{hint}"


def _number_problem(value, kind, what) -> str | None:
    if isinstance(value, jax.Array | np.ndarray):  # data; a tracer is one too
        return None
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
        return f"expected {what}, got {value!r}"
    try:
        return None if math.isfinite(value) else f"expected a finite number, got {value!r}"
    except OverflowError:
        return "expected a finite number, got a whole one that is larger than every float"


def _tuple_problem(value, arguments) -> str | None:
    if not isinstance(value, tuple):
        return f"expected a tuple, got {value!r}"
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = arguments[:1] * len(value)
    elif len(arguments) != len(value):
        return f"expected {len(arguments)} values, got {len(value)}"
    return next(filter(None, map(_problem, value, arguments)), None)


def _out_of(value, bound) -> str | None:
    """Whether a number violates a bound; what is no bound of `annotated_types` is a note for somebody else."""
    if isinstance(bound, annotated_types.GroupedMetadata):
        return next(filter(None, (_out_of(value, each) for each in bound)), None)
    words = {
        annotated_types.Gt: ("gt", "greater than", lambda limit: value > limit),
        annotated_types.Ge: ("ge", "at least", lambda limit: value >= limit),
        annotated_types.Lt: ("lt", "less than", lambda limit: value < limit),
        annotated_types.Le: ("le", "at most", lambda limit: value <= limit),
    }
    if type(bound) not in words or isinstance(value, jax.Array | np.ndarray) or value is None:
        return None
    attribute, relation, holds = words[type(bound)]
    limit = getattr(bound, attribute)
    return None if holds(limit) else f"must be {relation} {limit}, got {value!r}"


def traceable(cls: Spec) -> Spec:
    """Class decorator for a frozen dataclass, above `@dataclass`. The class is `checked` too."""
    checked(cls)
    fields = dataclasses.fields(cls)
    numbers = tuple(field.name for field in fields if holds_numbers(field.type))
    structure = tuple(field.name for field in fields if field.name not in numbers)

    def flatten(spec):
        return tuple(getattr(spec, name) for name in numbers), tuple(getattr(spec, name) for name in structure)

    def flatten_with_keys(spec):
        children, rest = flatten(spec)
        return tuple(zip(map(jax.tree_util.GetAttrKey, numbers), children, strict=True)), rest

    def unflatten(rest, children):
        spec = object.__new__(cls)
        for name, value in (*zip(numbers, children, strict=True), *zip(structure, rest, strict=True)):
            object.__setattr__(spec, name, value)
        return spec

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    _TRACEABLE.add(cls)
    return cls


def holds_numbers(annotation) -> bool:
    """Whether a field of this annotation is data: a float, maybe optional or in a tuple, or a traceable spec."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return holds_numbers(get_args(annotation)[0])
    if origin in (Union, types.UnionType, tuple):
        return any(holds_numbers(argument) for argument in get_args(annotation))
    return annotation is float or annotation in _TRACEABLE


def is_zero(number) -> bool:
    """Whether a number of a spec is known to be zero. One that is traced may be anything."""
    return isinstance(number, int | float) and number == 0
