"""Responses in OpenAI's form: chats, texts, streams of chunks, and lists of files and jobs."""

import itertools
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from sublim_jax.llm import server
from sublim_jax.llm.server import fields
from sublim_jax.llm.server.api_error import APIError

LOWEST = -9999.0  # log-probability, because JSON has no infinity; as in vLLM


class Token(NamedTuple):
    """A token and its log-probability."""

    id: int
    text: str  # empty for an end token
    logprob: float
    top: tuple["Token", ...] = ()  # the most likely tokens in its place


class Choice(NamedTuple):
    """One draw."""

    text: str
    finish: Literal["stop", "length"]
    num_tokens: int  # drawn, the end token included
    tokens: tuple[Token | None, ...] | None = None  # with log-probabilities, if requested; None where there is none
    pieces: tuple[str, ...] | None = None  # the part of the text that each token adds, if scored or streamed


def identifier(kind: str) -> str:
    """A new name for an object of this kind."""
    return f"{kind}-{uuid.uuid4().hex[:24]}"


def now() -> int:
    """The time in whole seconds since 1970, as OpenAI's objects have it."""
    return int(time.time())


def page(items: Sequence[dict[str, Any]], *, after: str | None = None, limit: str | None = None) -> dict[str, Any]:
    """A part of a list, as the query of the request has it.

    Raises:
        APIError: `after` is none of them, or `limit` no number of them.
    """
    ids = [item["id"] for item in items]
    if after is not None and after not in ids:
        raise APIError(400, f"after: there is no {after!r}", param="after")
    if limit is not None and not (limit.isascii() and limit.isdecimal() and int(limit[:18]) > 0):
        raise APIError(400, f"limit: expected a whole number above 0, found {fields.shorten(limit)}", param="limit")
    rest = items[0 if after is None else ids.index(after) + 1 :]
    part = list(rest if limit is None else rest[: int(limit[:18])])
    ends = {"first_id": part[0]["id"], "last_id": part[-1]["id"]} if part else {}
    return {"object": "list", "data": part, "has_more": len(part) < len(rest)} | ends


def chat_response(
    model: str, fingerprint: str, num_prompt: int, choices: Sequence[Choice], prompt: Sequence[Token | None] | None
) -> dict[str, Any]:
    """The body of the response to a `ChatRequest`."""
    entries = [
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
    body = _response("chatcmpl", "chat.completion", model, fingerprint, num_prompt, choices) | {"choices": entries}
    if prompt is not None:
        body["prompt_logprobs"] = [
            token and {str(token.id): {"logprob": _finite(token.logprob), "decoded_token": token.text}}
            for token in prompt
        ]
    return body


def text_response(
    model: str, fingerprint: str, num_prompt: int, choices: Sequence[Choice], *, top: int | None
) -> dict[str, Any]:
    """The body of the response to a `TextRequest`.

    The tokens, joined, are the text; some are empty, where several make up one letter. Among the most likely tokens,
    the token itself is spelled as it is there, and the others as they are alone.
    """
    entries = []
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
        entries.append({"index": index, "finish_reason": choice.finish, "text": choice.text, "logprobs": scores})
    return _response("cmpl", "text_completion", model, fingerprint, num_prompt, choices) | {"choices": entries}


def chunks(response: dict[str, Any], choices: Sequence[Choice], *, include_usage: bool) -> Iterator[dict[str, Any]]:
    """The parts of a response that `stream` sends: the tokens of each choice, its end, and the counts if requested.

    Joined, they are the response. A token that adds no text is left out unless it has a log-probability.
    """
    is_chat = response["object"] == "chat.completion"
    head = {name: response[name] for name in ("id", "created", "model", "system_fingerprint")}
    head["object"] = "chat.completion.chunk" if is_chat else "text_completion"

    def chunk(index: int, text: str, scores: Any, finish: str | None = None, **delta: str) -> dict[str, Any]:
        content = {"delta": delta | ({"content": text} if finish is None else {})} if is_chat else {"text": text}
        choice = {"index": index, **content, "logprobs": scores, "finish_reason": finish}
        return head | {"choices": [choice]} | ({"usage": None} if include_usage else {})

    for entry, choice in zip(response["choices"], choices, strict=False):
        index, scores = entry["index"], entry["logprobs"]
        if is_chat:
            yield chunk(index, "", None, role="assistant")
        for place, piece in enumerate(choice.pieces or ()):
            if piece or scores:
                yield chunk(index, piece, scores and _scores_at(scores, place))
        yield chunk(index, "", None, entry["finish_reason"])
    if include_usage:
        yield head | {"choices": [], "usage": response["usage"]}


def _scores_at(scores: dict[str, Any], place: int) -> dict[str, Any]:
    """The log-probabilities of one token: the lists of `scores`, cut to it."""
    return {name: values and values[place : place + 1] for name, values in scores.items()}


def _response(
    kind: str, name: str, model: str, fingerprint: str, num_prompt: int, choices: Sequence[Choice]
) -> dict[str, Any]:
    num_drawn = sum(choice.num_tokens for choice in choices)
    return {
        "id": identifier(kind),
        "object": name,
        "created": now(),
        "model": model,
        "system_fingerprint": server.FINGERPRINT_PREFIX + fingerprint,
        "usage": {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_drawn,
            "total_tokens": num_prompt + num_drawn,
        },
    }


def _entry(token: Token) -> dict[str, Any]:
    top = [_spelled(other) for other in token.top]
    return _spelled(token) | {"top_logprobs": top}


def _spelled(token: Token) -> dict[str, Any]:
    return {"token": token.text, "logprob": _finite(token.logprob), "bytes": list(token.text.encode())}


def _finite(logprob: float) -> float:
    return max(logprob, LOWEST) if not math.isnan(logprob) else LOWEST
