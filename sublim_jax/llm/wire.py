"""Requests in OpenAI's form, read strictly, and the replies to them.

Whatever a field would change, it changes or is refused by name: one that is not known here, or that asks for what is
not done here, is a 400. Accepted without a look are only fields that change no result, e.g. `user`, and a field that is
null or asks for what is done anyway, e.g. `presence_penalty` 0. A text may come in parts; a developer's turn is a
system turn.

Beside OpenAI's fields it reads vLLM's for scoring a given answer: a chat that ends with the answer,
`add_generation_prompt` false and `prompt_logprobs` 0. With `continue_final_message` the answer is open, so that a model
could go on with it; without, its turn is closed by the end token.
"""

import dataclasses
import itertools
import json
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sublim_jax.llm import tokens, types

OWN = "sublim-"
"""How the `system_fingerprint` of our own server begins."""
MAX_SAMPLES, MAX_STOPS, MAX_TOP = 128, 4, 20
DEFAULT_MAX_TOKENS = 256  # of a chat's reply; OpenAI has no limit but the context
LOWEST = -9999.0  # log-probability, because JSON has no infinity; as in vLLM
ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant"
}  # fmt: skip
"""Who may speak, and as whom a chat template knows them."""

WITHOUT_EFFECT = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"}
)
DONE_ANYWAY: Mapping[str, tuple[Any, ...]] = {
    "stream": (False,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "repeat_penalty": (1,),
    "top_k": (-1, 0),
    "min_p": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "modalities": (["text"],),
    "best_of": (1,),
    "suffix": ("",),
    "ignore_eos": (False,),
}


class Refusal(Exception):
    """A request that is answered with an error, in OpenAI's form."""

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


class Fields:
    """The fields of a request. Each is taken once; `finish` refuses what is left."""

    def __init__(self, content: Any, *, of: str = "the body"):
        if not isinstance(content, dict):
            raise Refusal(400, f"expected {of} to be a JSON object, found {_short(content)}")
        self._left, self._of = dict(content), of

    @classmethod
    def read(cls, body: bytes) -> "Fields":
        """The fields of a body in JSON."""
        return cls(parsed(body))

    def take(self, name: str) -> Any:
        """The value as it stands, None if it is null or not there."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str:
        """A text that has to be there."""
        value = self.take(name)
        if not isinstance(value, str) or not value:
            raise _wrong(name, "a text", value)
        return value

    def flag(self, name: str) -> bool | None:
        """True, false or None."""
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise _wrong(name, "true or false", value)
        return value

    def whole(self, name: str, least: int, most: int) -> int | None:
        """A whole number, or None."""
        value = self.take(name)
        if value is not None and (type(value) is not int or not least <= value <= most):
            raise _wrong(name, f"a whole number from {least} to {most}", value)
        return value

    def real(self, name: str, least: float, most: float) -> float | None:
        """A number, or None."""
        value = self.take(name)
        if value is not None and (type(value) not in (int, float) or not least <= value <= most):
            raise _wrong(name, f"a number from {least:g} to {most:g}", value)
        return None if value is None else float(value)

    def object(self, name: str) -> "Fields":
        """The fields of an object inside, none if it is null or not there."""
        value = self.take(name)
        return Fields({} if value is None else value, of=name)

    def one_of(self, name: str, *values: Any) -> Any:
        """One of these values, or None."""
        value = self.take(name)
        if value is not None and not any(_same(value, one) for one in values):
            raise _wrong(name, f"one of {', '.join(map(repr, values))}", value)
        return value

    def finish(self, done_anyway: Mapping[str, tuple[Any, ...]] | None = None) -> None:
        """Refuse what was not taken and would change the result."""
        for name, value in self._left.items():
            allowed = (done_anyway or {}).get(name)
            if value is None or (done_anyway is not None and name in WITHOUT_EFFECT):
                continue
            if allowed is None:
                raise Refusal(
                    400, f"{self._of}: {name!r} is not supported here; leave it out", param=name,
                    code="unsupported_parameter",
                )  # fmt: skip
            if not any(_same(value, one) for one in allowed):
                raise Refusal(
                    400,
                    f"{name}: {_short(value)} is not supported here; leave it out, or send "
                    f"{' or '.join(json.dumps(one) for one in allowed)}",
                    param=name,
                    code="unsupported_value",
                )


def parsed(body: bytes) -> Any:
    """What a body in JSON holds.

    Raises:
        Refusal: it is not JSON, or a text in it is none.
    """
    try:
        content = json.loads(body)
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise Refusal(400, f"the body has {half}, half of a surrogate pair, which is no text; mend it") from None
    except (ValueError, RecursionError):
        raise Refusal(400, "expected the body to be a JSON object; it is not JSON") from None
    return content


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draws:
    """What to draw after a prompt, and which log-probabilities to tell."""

    num_samples: int
    max_tokens: int  # 0 draws nothing
    temperature: float
    top_p: float
    stop: tuple[str, ...]
    seed: int | None  # None is any
    top: int | None  # log-probabilities of the drawn tokens and of so many likeliest; None is none


class ChatRequest(NamedTuple):
    """What POST /v1/chat/completions asks."""

    model: str
    chat: types.Chat
    turn: Literal["reply", "continue", "closed"]  # draw a reply; go on with the last turn; after the end of it
    prompt_scores: bool
    draws: Draws


class TextRequest(NamedTuple):
    """What POST /v1/completions asks."""

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    echo: bool
    draws: Draws


def chat_request(fields: Fields) -> ChatRequest:
    """Read a request for a chat's reply, or for the scores of one that is given.

    Raises:
        Refusal: a field is missing, malformed or not supported.
    """
    model, chat = fields.text("model"), _messages(fields.take("messages"))
    prompt_scores = fields.whole("prompt_logprobs", 0, 0) is not None
    reply_next, go_on = fields.flag("add_generation_prompt"), fields.flag("continue_final_message")
    template = fields.object("chat_template_kwargs")
    template.finish({name: (value,) for name, value in tokens.PINNED.items()})
    ends = chat[-1].role
    if (ends == "user") != (reply_next is not False and not go_on):
        raise Refusal(
            400,
            f"the last turn is the {ends}'s. Draw a reply to a user's turn; to score a given answer, end with the "
            f"assistant's turn and send add_generation_prompt false and, to leave the turn open, "
            f"continue_final_message true.",
            param="add_generation_prompt",
        )
    logprobs, top = fields.flag("logprobs"), fields.whole("top_logprobs", 0, MAX_TOP)
    if top is not None and not logprobs:
        raise Refusal(400, "top_logprobs needs logprobs true", param="top_logprobs")
    first, second = (fields.whole(name, 1, 2**31 - 1) for name in ("max_completion_tokens", "max_tokens"))
    if None not in (first, second) and first != second:
        raise Refusal(400, f"max_tokens {second} and max_completion_tokens {first} disagree", param="max_tokens")
    draws = _draws(fields, first or second or DEFAULT_MAX_TOKENS, (top or 0) if logprobs else None)
    fields.finish(DONE_ANYWAY)
    return ChatRequest(
        model, chat, "reply" if ends == "user" else "continue" if go_on else "closed", prompt_scores, draws
    )


def text_request(fields: Fields) -> TextRequest:
    """Read a request to go on with texts, or to score them: `echo`, `logprobs` and `max_tokens` 0.

    Raises:
        Refusal: a field is missing, malformed or not supported.
    """
    model, prompt, echo = fields.text("model"), fields.take("prompt"), bool(fields.flag("echo"))
    several = isinstance(prompt, list) and bool(prompt) and not all(type(part) is int for part in prompt)
    prompts = tuple(tuple(one) if isinstance(one, list) else one for one in (prompt if several else [prompt]))
    for one in prompts:
        if not one or not (isinstance(one, str) or (isinstance(one, tuple) and all(type(part) is int for part in one))):
            raise _wrong("prompt", "a text or a list of token ids, not empty, or a list of these", prompt)
    max_tokens = fields.whole("max_tokens", 0, 2**31 - 1)
    if max_tokens == 0 and not echo:
        raise Refusal(400, "max_tokens 0 without echo asks for nothing", param="max_tokens")
    draws = _draws(fields, 16 if max_tokens is None else max_tokens, fields.whole("logprobs", 0, MAX_TOP))
    fields.finish(DONE_ANYWAY)
    return TextRequest(model, prompts, echo, draws)


def _draws(fields: Fields, max_tokens: int, top: int | None) -> Draws:
    stop = fields.take("stop")
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise _wrong("stop", f"a text, or a list of at most {MAX_STOPS} texts, none empty", stop)
    if stops and top is not None:
        raise Refusal(400, "logprobs with stop is not supported: a stop may cut through a token", param="stop")
    temperature, top_p = fields.real("temperature", 0.0, 100.0), fields.real("top_p", 0.0, 1.0)
    if top_p == 0:
        raise _wrong("top_p", "a number above 0", 0)
    return Draws(
        num_samples=fields.whole("n", 1, MAX_SAMPLES) or 1,
        max_tokens=max_tokens,
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        stop=tuple(stops),
        seed=fields.whole("seed", 0, 2**32 - 1),  # as many as JAX tells apart
        top=top,
    )


def _messages(value: Any) -> types.Chat:
    if not isinstance(value, list) or not value:
        raise _wrong("messages", "a list of turns, not empty", value)
    for index, turn in enumerate(value):
        name = f"messages[{index}]"
        if not isinstance(turn, dict) or {key for key, part in turn.items() if part is not None} - {"role", "content"}:
            raise _wrong(name, "an object with role and content only", turn)
        if turn.get("role") not in ROLES:
            raise _wrong(f"{name}.role", "system, developer, user or assistant", turn.get("role"))
    chat = tuple(
        types.Message(ROLES[turn["role"]], _content(f"messages[{index}].content", turn.get("content")))
        for index, turn in enumerate(value)
    )
    if chat[-1].role == "system":
        raise _wrong("messages", "a last turn of the user or the assistant", value[-1]["role"])
    return chat


def _content(name: str, value: Any) -> str:
    """A text, which may come in parts."""
    parts = value if isinstance(value, list) and value else [{"type": "text", "text": value}]
    for part in parts:
        if not isinstance(part, dict) or part.keys() != {"type", "text"} or part["type"] != "text":
            raise _wrong(name, "a text, or a list of parts of type text", value)
        if not isinstance(part["text"], str):
            raise _wrong(name, "a text", part["text"])
    return "".join(part["text"] for part in parts)


def _wrong(name: str, expected: str, found: Any) -> Refusal:
    return Refusal(400, f"{name}: expected {expected}, found {_short(found)}", param=name, code="invalid_value")


def _same(value: Any, other: Any) -> bool:
    """Whether two values are one in JSON, where true is not 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


# ---------------------------------------------------------------------------------------------------------------------
# Replies


class Token(NamedTuple):
    """A token and how likely it was."""

    id: int
    text: str  # empty for an end token
    logprob: float
    top: tuple["Token", ...] = ()  # the likeliest tokens in its place


class Choice(NamedTuple):
    """One draw."""

    text: str
    finish: Literal["stop", "length"]
    num_tokens: int  # drawn, the end token included
    tokens: tuple[Token | None, ...] | None = None  # with log-probabilities, if asked; None where there is none
    pieces: tuple[str, ...] | None = None  # what each of `tokens` adds to the text: joined, they are the text


def identifier(kind: str) -> str:
    """A new name for a thing of this kind."""
    return f"{kind}-{uuid.uuid4().hex[:24]}"


def now() -> int:
    """Seconds of the clock."""
    return int(time.time())


def page(items: Sequence[dict[str, Any]], *, after: str | None = None, limit: str | None = None) -> dict[str, Any]:
    """A part of a list, as the query of the request says.

    Raises:
        Refusal: `after` is none of them, or `limit` no number of them.
    """
    ids = [item["id"] for item in items]
    if after is not None and after not in ids:
        raise Refusal(400, f"after: there is no {after!r}", param="after")
    if limit is not None and not (limit.isascii() and limit.isdecimal() and int(limit[:18]) > 0):
        raise _wrong("limit", "a whole number above 0", limit)
    left = items[0 if after is None else ids.index(after) + 1 :]
    found = list(left if limit is None else left[: int(limit[:18])])
    ends = {"first_id": found[0]["id"], "last_id": found[-1]["id"]} if found else {}
    return {"object": "list", "data": found, "has_more": len(found) < len(left)} | ends


def chat_reply(
    model: str, fingerprint: str, num_prompt: int, choices: Sequence[Choice], prompt: Sequence[Token | None] | None
) -> dict[str, Any]:
    """The body of a reply to `ChatRequest`."""
    found = [
        {
            "index": index,
            "finish_reason": choice.finish,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": None
            if choice.tokens is None
            else {"content": [_entry(token) for token in choice.tokens if token], "refusal": None},
        }
        for index, choice in enumerate(choices)
    ]
    body = _reply("chatcmpl", "chat.completion", model, fingerprint, num_prompt, choices) | {"choices": found}
    if prompt is not None:
        body["prompt_logprobs"] = [
            token and {str(token.id): {"logprob": _finite(token.logprob), "decoded_token": token.text}}
            for token in prompt
        ]
    return body


def text_reply(
    model: str, fingerprint: str, num_prompt: int, choices: Sequence[Choice], *, top: int | None
) -> dict[str, Any]:
    """The body of a reply to `TextRequest`.

    The tokens, joined, are the text; some are empty, where several make up one letter. Among the likeliest, the token
    itself is called as it is there, and the others as they are alone.
    """
    found = []
    for index, choice in enumerate(choices):
        scores = None
        if choice.tokens is not None and choice.pieces is not None:
            known = [
                {piece if other.id == token.id else other.text: _finite(other.logprob) for other in reversed(token.top)}
                if token and top
                else None
                for token, piece in zip(choice.tokens, choice.pieces, strict=True)
            ]
            scores = {
                "tokens": list(choice.pieces),
                "token_logprobs": [token and _finite(token.logprob) for token in choice.tokens],
                "top_logprobs": known if top else None,
                "text_offset": list(itertools.accumulate(map(len, choice.pieces[:-1]), initial=0))
                if choice.pieces
                else [],
            }
        found.append({"index": index, "finish_reason": choice.finish, "text": choice.text, "logprobs": scores})
    return _reply("cmpl", "text_completion", model, fingerprint, num_prompt, choices) | {"choices": found}


def _reply(
    kind: str, name: str, model: str, fingerprint: str, num_prompt: int, choices: Sequence[Choice]
) -> dict[str, Any]:
    drawn = sum(choice.num_tokens for choice in choices)
    usage = {"prompt_tokens": num_prompt, "completion_tokens": drawn, "total_tokens": num_prompt + drawn}
    return {
        "id": identifier(kind),
        "object": name,
        "created": now(),
        "model": model,
        "system_fingerprint": OWN + fingerprint,
        "usage": usage,
    }


def _entry(token: Token) -> dict[str, Any]:
    plain = {"token": token.text, "logprob": _finite(token.logprob), "bytes": list(token.text.encode())}
    top = [{"token": one.text, "logprob": _finite(one.logprob), "bytes": list(one.text.encode())} for one in token.top]
    return plain | {"top_logprobs": top}


def _finite(logprob: float) -> float:
    return max(logprob, LOWEST) if not math.isnan(logprob) else LOWEST
