"""Specs: frozen dataclasses whose numbers may be data.

A spec says what a program does. Some of its fields decide the program itself (widths, the name of a loss, how many
epochs), others only numbers inside it (a learning rate, a temperature). `traceable` makes a spec a pytree whose leaves
are the latter: fields annotated `float`, alone, optional or in a tuple, and those of the traceable specs it contains.
Everything else is structure. Specs of equal structure can therefore share one compiled program, which takes their
numbers as arguments: a sweep over ten learning rates is one compilation.

    leaves, structure = jax.tree.flatten(spec)

Inside a program a number of a spec may be a tracer, so code may compute with it but not branch on it; what must branch
is `float | None`, whose None is structure. A spec checks its numbers when it is constructed, not when it is traced.
"""

import dataclasses
import types
from typing import Annotated, TypeVar, Union, get_args, get_origin

import jax

Spec = TypeVar("Spec", bound=type)

_TRACEABLE: set[type] = set()


def traceable(cls: Spec) -> Spec:
    """Class decorator for a frozen dataclass, above `@dataclass`."""
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
