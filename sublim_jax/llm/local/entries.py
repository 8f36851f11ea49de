"""JSON files that others wrote: whole, and checked entry by entry before anything is computed from them.

config = of(Config, read(path), path)            a dataclass whose annotations say what each entry may be
"""

import dataclasses
import functools
import json
import pathlib
import types
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from sublim_jax import errors, specs

Entries = TypeVar("Entries")


def read(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelFormatError: no such file, or it holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(content, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except FileNotFoundError as error:
        raise errors.ModelFormatError(f"{path}: there is no such file; give a folder as the hub lays it out") from error
    except (OSError, ValueError, RecursionError) as error:
        raise errors.ModelFormatError(f"{path}: this is not a readable JSON file ({error})") from error
    if not isinstance(content, dict):
        raise errors.ModelFormatError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def of(
    cls: type[Entries], content: Mapping[str, Any], where: object, names: Mapping[str, str] = types.MappingProxyType({})
) -> Entries:
    """The entries that a dataclass has fields for; others are left out. A JSON array becomes a tuple.

    Args:
        names: what an entry is called in the file, where that is not the name of the field.

    Raises:
        ModelFormatError: an entry is missing, or its annotation does not allow it.
    """
    values = {}
    for field, annotation in _fields(cls):
        name = names.get(field.name, field.name)
        if name in content:
            value: Any = content[name]
            if isinstance(value, list):
                value = tuple(value)
            check(value, annotation, f"{where}: {name}")
            if specs.holds_numbers(annotation) and isinstance(value, int):
                value = float(value)  # JSON writes 1e6 as 1000000 too
            values[field.name] = value
        elif field.default is dataclasses.MISSING:
            raise errors.ModelFormatError(f"{where}: the entry {name!r} is missing")
    return cls(**values)


def check(value: Any, annotation: Any, name: str) -> None:
    """As `specs.check`, for something in a file.

    Raises:
        ModelFormatError: the annotation does not allow the value.
    """
    try:
        specs.check(value, annotation, name)
    except errors.InputError as error:
        raise errors.ModelFormatError(str(error)) from error


@functools.cache
def _fields(cls: Any) -> tuple[tuple[dataclasses.Field, Any], ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple((field, hints[field.name]) for field in dataclasses.fields(cls))
