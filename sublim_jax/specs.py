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

import collections.abc
import dataclasses
import difflib
import functools
import math
import operator
import pathlib
import sys
import types
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import annotated_types
import jax
import numpy as np

from sublim_jax import errors

Spec = TypeVar("Spec", bound=type)

_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
Positive = Annotated[float, annotated_types.Interval(gt=0, ge=_SMALLEST, le=_LARGEST)]
NonNegative = Annotated[float, annotated_types.Interval(ge=0, le=_LARGEST)]
"""Within float32, in which programs compute: a larger number would be infinite there, a smaller positive one zero."""
Fraction = Annotated[float, annotated_types.Interval(ge=0, le=1)]
Decay = Annotated[float, annotated_types.Interval(ge=0, lt=1)]
"""The factor of a moving average, e.g. of a moment in Adam."""
Count = Annotated[int, annotated_types.Interval(ge=1, lt=2**31)]
CountOrZero = Annotated[int, annotated_types.Interval(ge=0, lt=2**31)]
"""Numbers of things: as many as 32 bits can count, which is how programs count them."""
NumMembers = Annotated[int, annotated_types.Interval(ge=1, le=10**6)]
"""Members are listed one by one, in a run and in its record."""
Seed = Annotated[int, annotated_types.Interval(ge=0, lt=2**32)]

Problem = tuple[str, str] | None
"""Which entry of a value is wrong, e.g. "[1]", or "" for all of it, and what is wrong with it. None: nothing."""

_TRACEABLE: set[type] = set()
MOST_WORDS = 20
"""That a message lists."""

_NUMBERS = {int: (int, np.integer), float: (int, float, np.integer, np.floating)}
_KINDS: dict[Any, tuple[Any, str]] = {
    bool: ((bool, np.bool_), "True or False"),
    str: (str, "a string"),
    pathlib.Path: (pathlib.Path, "a pathlib.Path"),
    collections.abc.Callable: (collections.abc.Callable, "a function"),
    collections.abc.Mapping: (collections.abc.Mapping, "a mapping"),
    dict: (dict, "an object of names and values"),
    list: (list, "a list"),
    types.NoneType: (types.NoneType, "None"),
}
_BOUNDS = {
    annotated_types.Gt: "greater than",
    annotated_types.Ge: "at least",
    annotated_types.Lt: "less than",
    annotated_types.Le: "at most",
}


def checked(cls: Spec) -> Spec:
    """Class decorator for a dataclass, above `@dataclass`: an instance with a bad value is refused.

    What is given is checked before anything else happens, so the class's own `__post_init__` can rely on it. A subclass
    is checked if it is decorated too.

    Raises (when an instance is made):
        InputError: a field is given what its annotation does not allow.
    """
    original = cls.__init__
    positional = [field.name for field in dataclasses.fields(cls) if field.init and not field.kw_only]

    @functools.wraps(original)
    def with_checks(self, *values, **named):
        annotations = _annotations(cls)
        for field, value in (dict(zip(positional, values, strict=False)) | named).items():
            if field in annotations:  # else the call is wrong, which Python says best
                check(value, annotations[field], f"{cls.__name__}.{field}")
        original(self, *values, **named)

    cls.__init__ = with_checks
    return cls


def check(value: Any, annotation: Any, name: str) -> None:
    """Refuse a value that the annotation does not allow.

    Arrays and tracers pass for floats, since numbers of a spec may be data; they are not looked into.

    Args:
        annotation: a `Literal`, numbers, `bool`, `str`, paths, callables, dataclasses, tuples, lists, sequences,
            mappings, a `TypedDict` and unions of these, and `Annotated` with bounds of `annotated_types`. Anything
            passes for others.
        name: what the value is, for the message, e.g. "MLPSpec.precision".

    Raises:
        InputError: the value is not one of those allowed.
    """
    if problem := _problem(value, annotation):
        raise errors.InputError(f"{name}{problem[0]}: {problem[1]}")


@functools.cache
def _annotations(cls: type) -> dict[str, Any]:
    """The annotations of the fields, with their bounds. Not when the class is made: they may name later ones."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _problem(value: Any, annotation: Any) -> Problem:
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin is NotRequired:
        return _problem(value, arguments[0])
    if origin is Annotated:
        return _problem(value, arguments[0]) or _first(_out_of(value, bound) for bound in _bounds(arguments[1:]))
    if origin in (Union, types.UnionType):
        return _none_of(value, arguments)
    if origin is Literal:
        return _unknown_word(value, arguments)
    if origin in _NUMBERS:
        return _no_number(value, origin)
    if is_typeddict(origin):
        return _no_typed_dict(value, origin)
    if arguments and origin in (tuple, collections.abc.Sequence):
        return _no_sequence(value, origin, arguments)
    if arguments and origin in (list, dict, collections.abc.Mapping) and isinstance(value, origin):
        items: Any = enumerate(value) if origin is list else dict(value).items()
        return _first(_inside(key, _problem(item, arguments[-1])) for key, item in _doubtful(items, arguments[-1]))
    kind, expected = _KINDS.get(origin, (None, ""))
    if isinstance(origin, type) and dataclasses.is_dataclass(origin):
        kind, expected = origin, origin.__name__
    return None if kind is None or isinstance(value, kind) else ("", f"expected {expected}, got {value!r:.200}")


def _first(problems: collections.abc.Iterable[Problem]) -> Problem:
    return next(filter(None, problems), None)


def _inside(key: Any, problem: Problem) -> Problem:
    return problem and (f"[{key!r}]{problem[0]}", problem[1])


def _none_of(value: Any, choices: tuple) -> Problem:
    """The problem with the choice that fits best, or None if one fits: that with a problem deepest inside."""
    problems = []
    for choice in choices:
        problem = _problem(value, choice)
        if problem is None:
            return None
        if choice is not types.NoneType:
            problems.append(problem)
    return max(problems, key=lambda problem: len(problem[0]))


def _no_typed_dict(value: Any, kind: Any) -> Problem:
    """Keys of a `TypedDict` that are missing or have a wrong value; further ones are allowed."""
    if not isinstance(value, dict):
        return _problem(value, dict)
    if absent := sorted(kind.__required_keys__ - value.keys()):
        return "", f"expected the key {absent[0]!r}, found {', '.join(map(repr, value)) or 'nothing'}"
    hints = _hints(kind)
    return _first(_inside(key, _problem(value[key], hint)) for key, hint in hints.items() if key in value)


def _doubtful(items: collections.abc.Iterable[tuple[Any, Any]], annotation: Any) -> collections.abc.Iterator:
    """Those items of a long list or mapping that are not floats within the bounds of the annotation."""
    low, high = _floats(annotation)
    return ((key, item) for key, item in items if not (type(item) is float and low <= item <= high))


@functools.cache
def _floats(annotation: Any) -> tuple[float, float]:
    """Bounds between which every float is allowed, as far as that can be seen at once."""
    arguments = get_args(annotation)
    if annotation is float:
        return -sys.float_info.max, sys.float_info.max
    if get_origin(annotation) in (Union, types.UnionType) and arguments[1:] == (types.NoneType,):
        return _floats(arguments[0])
    return (0.0, 1.0) if annotation == Fraction else (1.0, 0.0)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _unknown_word(value: Any, choices: tuple) -> Problem:
    plain = value.item() if isinstance(value, np.generic) else value
    if any(type(plain) is type(choice) and plain == choice for choice in choices):  # True is not 1
        return None
    words = {str(choice).lower(): choice for choice in choices}
    likely = difflib.get_close_matches(str(value).lower(), words, n=1)
    hint = f"; did you mean {words[likely[0]]!r}?" if likely else ""
    listed = ", ".join(map(repr, choices[:MOST_WORDS]))
    more = f" or {len(choices) - MOST_WORDS} more" if len(choices) > MOST_WORDS else ""
    return "", f"expected {'one of ' if len(choices) > 1 else ''}{listed}{more}, got {value!r}{hint}"


def _no_number(value: Any, kind: type) -> Problem:
    if kind is float and isinstance(value, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        return None
    if isinstance(value, bool) or not isinstance(value, _NUMBERS[kind]):
        return "", f"expected {'a whole number' if kind is int else 'a number'}, got {value!r}"
    try:
        finite = kind is int or math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        finite = False
    return None if finite else ("", f"expected a finite number, got {value!r}")


def _no_sequence(value: Any, kind: type, arguments: tuple) -> Problem:
    if not isinstance(value, kind) or isinstance(value, str):
        return "", f"expected a {'tuple' if kind is tuple else 'sequence'}, got {value!r}"
    if kind is tuple and Ellipsis not in arguments:
        if len(arguments) != len(value):
            return "", f"expected {len(arguments)} values, got {value!r}"
    else:
        arguments = arguments[:1] * len(value)
    return _first(_inside(index, _problem(*pair)) for index, pair in enumerate(zip(value, arguments, strict=True)))


@functools.cache
def _bounds(notes: tuple) -> tuple:
    """The bounds of `annotated_types` among the notes of an annotation, groups taken apart. Others have other readers.

    Raises:
        TypeError: a bound that is not checked here.
    """
    bounds = []
    for note in notes:
        if isinstance(note, annotated_types.GroupedMetadata):
            bounds += _bounds(tuple(note))
        elif isinstance(note, annotated_types.BaseMetadata) and type(note) not in _BOUNDS:
            raise TypeError(f"{note} is none of the bounds that are checked; add it to `specs`")
        elif type(note) in _BOUNDS:
            bounds.append(note)
    return tuple(bounds)


def _out_of(value: Any, bound: Any) -> Problem:
    """Whether a number violates a bound."""
    if not isinstance(value, _NUMBERS[float]):
        return None
    name = type(bound).__name__.lower()
    limit = getattr(bound, name)
    holds = getattr(operator, name)(value, limit)
    return None if holds else ("", f"must be {_BOUNDS[type(bound)]} {limit}, got {value!r}")


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
