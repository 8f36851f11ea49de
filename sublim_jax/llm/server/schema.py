"""Requests in OpenAI's form, read strictly (see `fields`).

Accepted without a look are only fields that change no result, e.g. `user`, and a field that is null or requests the
default, e.g. `presence_penalty` 0. All others have an effect or are refused. A text may come in parts; a developer's
turn is a system turn.

Besides OpenAI's fields there are vLLM's for scoring a given answer: a chat that ends with the answer,
`add_generation_prompt` false and `prompt_logprobs` 0. With `continue_final_message` the answer is open, so that a model
could continue it; without, its turn is closed by the end token.
"""

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import pydantic

from sublim_jax.llm.backend import Chat, Message, Role, SamplingParams
from sublim_jax.llm.local import tokenizer
from sublim_jax.llm.server import fields
from sublim_jax.llm.server.api_error import APIError
from sublim_jax.llm.server.fields import Anything, Fields, Flag, Text

MAX_SAMPLES, MAX_STOPS, MAX_TOP = 128, 4, 20
DEFAULT_MAX_TOKENS = 256  # of a chat's response; OpenAI has no limit but the context
ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant"
}  # fmt: skip
"""Speakers, and the names that a chat template has for them."""


class StreamOptions(Fields):
    """Options of a stream."""

    include_usage: Flag = False
    include_obfuscation: Annotated[Any, fields.only(False)] = False


class DrawRequest(Fields):
    """The fields that requests for chats and for texts share."""

    model: Text
    n: Annotated[int, fields.between(1, MAX_SAMPLES)] = 1
    temperature: Annotated[float, fields.between(0.0, 100.0)] = 1.0
    top_p: Annotated[float, fields.expect("a number above 0 and up to 1", lambda value: 0 < value <= 1)] = 1.0
    stop: Annotated[
        list[str],
        pydantic.BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
        fields.expect(
            f"a text, or a list of at most {MAX_STOPS} texts, none empty", lambda v: len(v) <= MAX_STOPS and all(v)
        ),
    ] = pydantic.Field(default_factory=list)
    seed: Annotated[int, fields.between(0, 2**32 - 1)] | None = None  # as many as JAX tells apart; None is any
    stream: Flag = False
    stream_options: StreamOptions | None = None

    user: Anything = None
    metadata: Anything = None
    store: Anything = None
    service_tier: Anything = None
    safety_identifier: Anything = None
    prompt_cache_key: Anything = None
    parallel_tool_calls: Anything = None

    frequency_penalty: Annotated[Any, fields.only(0)] = 0
    presence_penalty: Annotated[Any, fields.only(0)] = 0
    repetition_penalty: Annotated[Any, fields.only(1)] = 1
    repeat_penalty: Annotated[Any, fields.only(1)] = 1
    top_k: Annotated[Any, fields.only(-1, 0)] = 0
    min_p: Annotated[Any, fields.only(0)] = 0
    logit_bias: Annotated[Any, fields.only({})] = None
    response_format: Annotated[Any, fields.only({"type": "text"})] = None
    tools: Annotated[Any, fields.only([])] = None
    tool_choice: Annotated[Any, fields.only("none", "auto")] = None
    modalities: Annotated[Any, fields.only(["text"])] = None
    best_of: Annotated[Any, fields.only(1)] = 1
    suffix: Annotated[Any, fields.only("")] = ""
    ignore_eos: Annotated[Any, fields.only(False)] = False

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

    role: Annotated[str, fields.expect("system, developer, user or assistant", lambda role: role in ROLES)]
    content: Annotated[
        str, pydantic.BeforeValidator(_joined), fields.expect("a text, or a list of parts of type text, not empty")
    ]


TemplateOptions = pydantic.create_model(
    "TemplateOptions",
    __base__=Fields,
    **{name: (Annotated[Any, fields.only(value)], None) for name, value in tokenizer.PINNED.items()},  # pyright: ignore
)


class ChatRequest(DrawRequest):
    """POST /v1/chat/completions."""

    messages: list[Turn]
    max_tokens: Annotated[int, fields.between(1, 2**31 - 1)] | None = None
    max_completion_tokens: Annotated[int, fields.between(1, 2**31 - 1)] | None = None
    logprobs: Flag = False
    top_logprobs: Annotated[int, fields.between(0, MAX_TOP)] | None = None
    prompt_logprobs: Annotated[int, fields.between(0, 0)] | None = None
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
        """The turns as messages, by the roles that a template has."""
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
        fields.expect("a text or a list of token ids, not empty, or a list of these", all),
    ]
    echo: Flag = False
    max_tokens: Annotated[int, fields.between(0, 2**31 - 1)] = 16
    logprobs: Annotated[int, fields.between(0, MAX_TOP)] | None = None

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
    n_epochs: Annotated[int, fields.between(1, 1000)] | None = None
    batch_size: Annotated[int, fields.between(1, 2**16)] | None = None
    learning_rate_multiplier: Annotated[float, fields.between(1e-9, 1e9)] | None = None


class Supervised(Fields):
    """Options of supervised finetuning."""

    hyperparameters: Hyperparameters = Hyperparameters()


class Method(Fields):
    """The method of a finetuning job."""

    type: Annotated[str, fields.expect("'supervised', as only supervised finetuning is done here", "supervised".__eq__)]
    supervised: Supervised = Supervised()


Suffix = Annotated[
    str, fields.expect("a text of at most 64 letters, no colon", lambda text: len(text) <= 64 and ":" not in text)
]


class JobRequest(Fields):
    """POST /v1/fine_tuning/jobs."""

    model: Text
    training_file: Text
    suffix: Suffix | None = None
    metadata: (
        Annotated[dict[str, str], fields.expect("an object of at most 16 texts", lambda d: len(d) <= 16)] | None
    ) = None
    seed: Annotated[int, fields.between(0, 2**31 - 1)] | None = None
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
