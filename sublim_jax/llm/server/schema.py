"""Requests in OpenAI's form, read strictly, and the responses to them.

Whatever a field would change, it changes or is refused by name: an unknown field, or one that requests what is not done
here, is a 400. Accepted without a look are only fields that change no result, e.g. `user`, and a field that is null or
requests the default, e.g. `presence_penalty` 0. A text may come in parts; a developer's turn is a system turn.

Besides OpenAI's fields there are vLLM's for scoring a given answer: a chat that ends with the answer,
`add_generation_prompt` false and `prompt_logprobs` 0. With `continue_final_message` the answer is open, so that a model
could continue it; without, its turn is closed by the end token.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, LiteralString, TypeVar

import pydantic
import pydantic_core

from sublim_jax.llm.backend import Chat, Message, Role, SamplingParams
from sublim_jax.llm.local import tokenizer

MAX_SAMPLES, MAX_STOPS, MAX_TOP = 128, 4, 20
DEFAULT_MAX_TOKENS = 256  # of a chat's response; OpenAI has no limit but the context
ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant"
}  # fmt: skip
"""Speakers, and the names that a chat template has for them."""


class APIError(Exception):
    """An error in OpenAI's form, which is the response to a request."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


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


class StreamOptions(Fields):
    """Options of a stream."""

    include_usage: Flag = False
    include_obfuscation: Annotated[Any, only(False)] = False


class DrawRequest(Fields):
    """The fields that requests for chats and for texts share."""

    model: Text
    n: Annotated[int, between(1, MAX_SAMPLES)] = 1
    temperature: Annotated[float, between(0.0, 100.0)] = 1.0
    top_p: Annotated[float, expect("a number above 0 and up to 1", lambda value: 0 < value <= 1)] = 1.0
    stop: Annotated[
        list[str],
        pydantic.BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
        expect(f"a text, or a list of at most {MAX_STOPS} texts, none empty", lambda v: len(v) <= MAX_STOPS and all(v)),
    ] = []
    seed: Annotated[int, between(0, 2**32 - 1)] | None = None  # as many as JAX tells apart; None is any
    stream: Flag = False
    stream_options: StreamOptions | None = None

    user: Anything = None
    metadata: Anything = None
    store: Anything = None
    service_tier: Anything = None
    safety_identifier: Anything = None
    prompt_cache_key: Anything = None
    parallel_tool_calls: Anything = None

    frequency_penalty: Annotated[Any, only(0)] = 0
    presence_penalty: Annotated[Any, only(0)] = 0
    repetition_penalty: Annotated[Any, only(1)] = 1
    repeat_penalty: Annotated[Any, only(1)] = 1
    top_k: Annotated[Any, only(-1, 0)] = 0
    min_p: Annotated[Any, only(0)] = 0
    logit_bias: Annotated[Any, only({})] = None
    response_format: Annotated[Any, only({"type": "text"})] = None
    tools: Annotated[Any, only([])] = None
    tool_choice: Annotated[Any, only("none", "auto")] = None
    modalities: Annotated[Any, only(["text"])] = None
    best_of: Annotated[Any, only(1)] = 1
    suffix: Annotated[Any, only("")] = ""
    ignore_eos: Annotated[Any, only(False)] = False

    @pydantic.model_validator(mode="after")
    def require_a_stream_for_its_options(self) -> "DrawRequest":
        """Refuse options of a stream where there is none."""
        if self.stream_options is not None and not self.stream:
            raise APIError(400, "stream_options needs stream true", param="stream_options")
        return self

    @property
    def include_usage(self) -> bool:
        """Whether the last chunk of a stream has the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, max_tokens: int) -> SamplingParams:
        """The sampling parameters; without a seed, a random one."""
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=max_tokens,
            stop=tuple(self.stop),
            num_samples=self.n,
            seed=random.randrange(2**32) if self.seed is None else self.seed,
        )

    def require_whole_tokens(self) -> None:
        """Refuse stops beside log-probabilities, whose tokens a stop could cut."""
        if self.stop:
            raise APIError(400, "logprobs with stop is not supported: a stop may cut through a token", param="stop")


def _joined(value: Any) -> Any:
    """The text of a message's content, which may come in parts."""
    if not isinstance(value, list):
        return value
    if not value or not all(isinstance(part, dict) and part.keys() == {"type", "text"} for part in value):
        raise ValueError
    if not all(part["type"] == "text" and isinstance(part["text"], str) for part in value):
        raise ValueError
    return "".join(part["text"] for part in value)


class Turn(Fields):
    """One turn of a chat."""

    role: Annotated[str, expect("system, developer, user or assistant", lambda role: role in ROLES)]
    content: Annotated[
        str, pydantic.BeforeValidator(_joined), expect("a text, or a list of parts of type text, not empty")
    ]


TemplateOptions = pydantic.create_model(
    "TemplateOptions",
    __base__=Fields,
    **{name: (Annotated[Any, only(value)], None) for name, value in tokenizer.PINNED.items()},  # pyright: ignore
)


class ChatRequest(DrawRequest):
    """POST /v1/chat/completions."""

    messages: list[Turn]
    max_tokens: Annotated[int, between(1, 2**31 - 1)] | None = None
    max_completion_tokens: Annotated[int, between(1, 2**31 - 1)] | None = None
    logprobs: Flag = False
    top_logprobs: Annotated[int, between(0, MAX_TOP)] | None = None
    prompt_logprobs: Annotated[int, between(0, 0)] | None = None
    add_generation_prompt: Flag = True
    continue_final_message: Flag = False
    chat_template_kwargs: TemplateOptions | None = None  # pyright: ignore[reportInvalidTypeForm]

    @pydantic.model_validator(mode="after")
    def require_consistency(self) -> "ChatRequest":
        """Refuse fields that contradict each other."""
        if not self.messages:
            raise APIError(400, "messages: expected a list of turns, not empty", param="messages", code="invalid_value")
        last = ROLES[self.messages[-1].role]
        if last == "system":
            raise APIError(
                400, f"messages: expected a last turn of the user or the assistant, found {self.messages[-1].role!r}",
                param="messages", code="invalid_value",
            )  # fmt: skip
        if (last == "user") != (self.add_generation_prompt and not self.continue_final_message):
            raise APIError(
                400,
                f"the last turn is the {last}'s. Draw a response to a user's turn; to score a given answer, end with "
                f"the assistant's turn and send add_generation_prompt false and, to leave the turn open, "
                f"continue_final_message true.",
                param="add_generation_prompt",
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise APIError(400, "top_logprobs needs logprobs true", param="top_logprobs")
        first, second = self.max_completion_tokens, self.max_tokens
        if None not in (first, second) and first != second:
            raise APIError(400, f"max_tokens {second} and max_completion_tokens {first} disagree", param="max_tokens")
        if self.stream and self.prompt_logprobs is not None:
            raise APIError(400, "prompt_logprobs with stream is not supported", param="prompt_logprobs")
        if self.logprobs:
            self.require_whole_tokens()
        return self

    @property
    def chat(self) -> Chat:
        """The turns, in our form."""
        return tuple(Message(ROLES[turn.role], turn.content) for turn in self.messages)

    @property
    def turn(self) -> Literal["reply", "continue", "closed"]:
        """Whether to draw a reply, to continue the last turn, or to draw after its end."""
        if self.chat[-1].role == "user":
            return "reply"
        return "continue" if self.continue_final_message else "closed"

    @property
    def num_tokens(self) -> int:
        return self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS

    @property
    def top(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


def _listed(value: Any) -> Any:
    """The prompts of a request, which may be one."""
    several = isinstance(value, list) and value and not all(type(part) is int for part in value)
    return value if several else [value]


class TextRequest(DrawRequest):
    """POST /v1/completions: texts to continue, or to score with `echo`, `logprobs` and `max_tokens` 0."""

    prompt: Annotated[
        list[str | list[int]],
        pydantic.BeforeValidator(_listed),
        expect("a text or a list of token ids, not empty, or a list of these", all),
    ]
    echo: Flag = False
    max_tokens: Annotated[int, between(0, 2**31 - 1)] = 16
    logprobs: Annotated[int, between(0, MAX_TOP)] | None = None

    @pydantic.model_validator(mode="after")
    def require_consistency(self) -> "TextRequest":
        """Refuse fields that contradict each other."""
        if self.max_tokens == 0 and not self.echo:
            raise APIError(400, "max_tokens 0 without echo asks for nothing", param="max_tokens")
        if self.logprobs is not None:
            self.require_whole_tokens()
        return self

    @property
    def num_tokens(self) -> int:
        return self.max_tokens

    @property
    def top(self) -> int | None:
        return self.logprobs


class Hyperparameters(Fields):
    """Hyperparameters of a finetuning job. "auto" is the server's value."""

    absent: ClassVar[tuple[Any, ...]] = (None, "auto")
    n_epochs: Annotated[int, between(1, 1000)] | None = None
    batch_size: Annotated[int, between(1, 2**16)] | None = None
    learning_rate_multiplier: Annotated[float, between(1e-9, 1e9)] | None = None


class Supervised(Fields):
    """Options of supervised finetuning."""

    hyperparameters: Hyperparameters = Hyperparameters()


class Method(Fields):
    """The method of a finetuning job."""

    type: Annotated[str, expect("'supervised', as only supervised finetuning is done here", "supervised".__eq__)]
    supervised: Supervised = Supervised()


Suffix = Annotated[
    str, expect("a text of at most 64 letters, no colon", lambda text: len(text) <= 64 and ":" not in text)
]


class JobRequest(Fields):
    """POST /v1/fine_tuning/jobs."""

    model: Text
    training_file: Text
    suffix: Suffix | None = None
    metadata: Annotated[dict[str, str], expect("an object of at most 16 texts", lambda d: len(d) <= 16)] | None = None
    seed: Annotated[int, between(0, 2**31 - 1)] | None = None
    method: Method = Method(type="supervised")
    hyperparameters: Hyperparameters = Hyperparameters()

    def chosen(self) -> Hyperparameters:
        """The hyperparameters, wherever they are given.

        Raises:
            APIError: they are given twice.
        """
        inner, outer = self.method.supervised.hyperparameters, self.hyperparameters
        if inner.model_fields_set and outer.model_fields_set:
            raise APIError(400, "hyperparameters are given twice; leave out the outer ones", param="hyperparameters")
        return inner if inner.model_fields_set else outer
