"""Fields of JSON objects, read strictly: whatever is unknown, malformed or not supported is a 400 that names it.

A class of `Fields` lists the fields of an object. `expect`, `between` and `only` say which values a field may have.
"""

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, LiteralString, TypeVar

import pydantic
import pydantic_core

from sublim_jax.llm.server.api_error import APIError


def expect(words: str, holds: Callable[[Any], object] = lambda value: True) -> pydantic.WrapValidator:
    """A validator that gives a field one error, "expected WORDS, found VALUE".

    Args:
        holds: a condition on the value, beyond its type.
    """

    def validate(value: Any, inner: Callable[[Any], Any]) -> Any:
        try:
            parsed = inner(value)
            if holds(parsed):
                return parsed
        except ValueError:
            pass
        raise _error("invalid_value", f"expected {words}, found {shorten(value)}")

    return pydantic.WrapValidator(validate)


def between(least: int | float, most: int | float) -> pydantic.WrapValidator:
    """A validator of numbers with bounds, which are whole if the bounds are."""
    kind = "a whole number" if isinstance(least, int) else "a number"
    return expect(f"{kind} from {least} to {most}", lambda value: least <= value <= most)


def only(*defaults: Any) -> pydantic.AfterValidator:
    """A validator of a field that is not supported: it may be left out, or request the default."""

    def validate(value: Any) -> Any:
        if any(value == default and isinstance(value, bool) == isinstance(default, bool) for default in defaults):
            return value
        listed = " or ".join(map(json.dumps, defaults))
        raise _error("unsupported_value", f"{shorten(value)} is not supported here; leave it out, or send {listed}")

    return pydantic.AfterValidator(validate)


class Fields(pydantic.BaseModel):
    """Fields of a JSON object. Those that are null count as absent; unknown ones, and other types, are refused."""

    model_config = pydantic.ConfigDict(strict=True, extra="forbid", frozen=True)
    absent: ClassVar[tuple[Any, ...]] = (None,)

    @pydantic.model_validator(mode="before")
    @classmethod
    def without_absent(cls, content: Any) -> Any:
        """The fields that do not count as absent."""
        if not isinstance(content, dict):
            return content
        return {name: value for name, value in content.items() if value not in cls.absent}


FieldsT = TypeVar("FieldsT", bound=Fields)


def read(kind: type[FieldsT], body: bytes) -> FieldsT:
    """The fields of a body in JSON.

    Raises:
        APIError: it is not JSON, a text in it is none, or a field is missing, malformed or not supported.
    """
    return checked(kind, parsed(body))


def checked(kind: type[FieldsT], content: Any, *, name: str = "the body") -> FieldsT:
    """The fields of a JSON object.

    Raises:
        APIError: a field is missing, malformed or not supported.
    """
    try:
        return kind.model_validate(content)
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
    kind_of_error, place = problem["type"], problem["loc"]
    if kind_of_error == "extra_forbidden":
        *above, field = place
        param = _path(above) if any(isinstance(part, int) for part in above) else str(field)
        message = f"{_path(above) or name}: {field!r} is not supported here; leave it out"
        raise APIError(400, message, param=param, code="unsupported_parameter")
    path = _path(place)
    param = path if "[" in path else str(place[-1]) if place else None
    match kind_of_error:
        case "model_type":
            message = f"expected {param or name} to be a JSON object, found {shorten(problem['input'])}"
        case "missing":
            message = f"{path}: expected a value, found none; this field is required"
        case _:
            message = f"{path}: {problem['msg']}"
    code = "unsupported_value" if kind_of_error == "unsupported_value" else "invalid_value"
    raise APIError(400, message, param=param, code=code)


def parsed(body: bytes) -> Any:
    """The content of a body in JSON.

    Raises:
        APIError: it is not JSON, or a text in it is none.
    """
    try:
        content = json.loads(body)
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise APIError(400, f"the body has {half}, half of a surrogate pair, which is no text; correct it") from None
    except (ValueError, RecursionError):
        raise APIError(400, "expected the body to be a JSON object; it is not JSON") from None
    return content


def _path(place: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _error(kind: LiteralString, message: str) -> pydantic_core.PydanticCustomError:
    return pydantic_core.PydanticCustomError(kind, "{message}", {"message": message})  # a message may have braces


def shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


Text = Annotated[str, expect("a text", len)]
Flag = Annotated[bool, expect("true or false")]
Anything = Any
"""A field that changes no result."""
