"""Rows of a store of completions: the key of an answer, and the answer as JSON."""

import hashlib
import json
import math
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from sublim_jax import errors, specs
from sublim_jax.llm.backend import Capabilities, Chat, ChoiceScores, SamplingParams

LINE_START = re.compile(rb'\{"key":"[0-9a-f]{64}",')
"""How each line of an exported store begins, and the first one of a store of an earlier version."""


class Answer(NamedTuple):
    """What a store remembers of a completion: all but its place among the chats that were asked."""

    text: str
    finish: Literal["stop", "length", "refused"]
    prompt_tokens: int
    completion_tokens: int
    refusal: str = ""


Value = Answer | ChoiceScores


class Line(NamedTuple):
    """A line of an exported store."""

    key: str
    value: Answer | ChoiceScores
    about: Mapping[str, Any]  # as in `Store.put`


def completion_key(fingerprint: str, model: str, chat: Chat, params: SamplingParams, draw: int) -> str:
    """Name of one completion, 64 hex digits: sha256 of the canonical JSON of everything it depends on.

    `params.num_samples` is left out, so that the first 100 of 200 samples are those of an earlier 100.

    Args:
        fingerprint: `Capabilities.fingerprint` of the backend, so that two sets of weights never share a row.
        draw: which of the draws of this chat, from 0.
    """
    later: dict[str, Any] = {"num_values": params.num_values} if params.num_values else {}
    if params.allowed is not None:
        later["allowed"] = "".join(sorted(set(params.allowed)))
    return digest(
        **later,
        kind="completion",
        fingerprint=fingerprint,
        model=model,
        messages=[[message.role, message.content] for message in chat],
        temperature=float(params.temperature),
        top_p=float(params.top_p),
        max_tokens=int(params.max_tokens),
        stop=list(params.stop),
        seed=int(params.seed),
        draw=int(draw),
    )


def scores_key(caps: Capabilities, model: str, chat: Chat, choices: Sequence[str]) -> str:
    """Name of the scores of `choices`, in this order, as answers to `chat`; see `completion_key`."""
    return digest(
        kind="choices",
        method=caps.choices,
        fingerprint=caps.fingerprint,
        model=model,
        messages=[[message.role, message.content] for message in chat],
        choices=list(choices),
    )


def digest(**content: Any) -> str:
    """The sha256 of canonical JSON, 64 hex digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)  # ASCII
    return hashlib.sha256(text.encode()).hexdigest()


class _Completion(TypedDict):
    text: str
    finish: Literal["stop", "length", "refused"]
    prompt_tokens: int
    completion_tokens: int
    refusal: NotRequired[str]  # where there is one


class _Scores(TypedDict):
    logprobs: list[float | None]  # JSON has no infinity: probability zero is null
    method: Literal["exact", "top"]
    refusal: NotRequired[str]


def to_json(value: Value, about: Mapping[str, Any]) -> str:
    """The content of a row.

    Raises:
        InputError: a score is not a log-probability, or a refusal has no reason.
    """
    _require_reason(value)
    fields: dict[str, Any] = value._asdict()
    if isinstance(value, ChoiceScores):
        fields["logprobs"] = [_finite_or_none(logprob) for logprob in value.logprobs]
    if not value.refusal:
        del fields["refusal"]
    for name, entry in about.items():
        fields[name] = _without_secrets(entry) if isinstance(entry, str) else entry
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def from_json(content: Any) -> Value:
    """The answer in a row.

    Raises:
        InputError: it is none.
    """
    is_text = isinstance(content, dict) and "text" in content
    specs.check(content, _Completion if is_text else _Scores, "answer")
    refusal = content.get("refusal", "")
    if is_text:
        counts = content["prompt_tokens"], content["completion_tokens"]
        if min(counts) < 0:
            raise errors.InputError(f"answer: a number of tokens is negative: {counts}")
        value = Answer(content["text"], content["finish"], *counts, refusal)
    else:
        logprobs = (-math.inf if logprob is None else float(logprob) for logprob in content["logprobs"])
        value = ChoiceScores(tuple(logprobs), content["method"], refusal)
    _require_reason(value)
    return value


def _require_reason(value: Value) -> None:
    """A refusal has a reason, and what has a reason is a refusal."""
    refused = value.finish == "refused" if isinstance(value, Answer) else not value.logprobs
    if (value.refusal != "") != refused:
        raise errors.InputError(f"an answer cannot be refused for the reason {value.refusal!r}")


def _finite_or_none(logprob: float) -> float | None:
    if math.isnan(logprob) or logprob == math.inf:
        raise errors.InputError(f"{logprob} is not a log-probability")
    return None if logprob == -math.inf else float(logprob)


def _without_secrets(name: str) -> str:
    """A name without the user, password and query of an address in it."""
    return re.sub(r"(?<=://)[^/\s@]*@|\?\S*", "", name)


def read_lines(path: pathlib.Path) -> Iterator[Line]:
    """Answers in a file of JSON lines. What a killed writer of an earlier version left of its last line is dropped.

    Raises:
        StoreError: it cannot be read, or a line is damaged.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    content = json.loads(line)
                    specs.check(content, dict, "line")
                    key = content.pop("key", None)
                    if not isinstance(key, str) or not re.fullmatch("[0-9a-f]{64}", key):
                        raise errors.InputError("its key is not 64 hex digits")
                    value = from_json(content)
                    about = {name: entry for name, entry in content.items() if name not in value._fields}
                    yield Line(key, value, about)
                except (ValueError, RecursionError, OverflowError) as error:
                    if not line.endswith(b"\n"):
                        return
                    raise errors.StoreError(
                        f"{path}, line {number}: expected an answer, found something else ({error}). The line was "
                        f"damaged after it was written, or the path is wrong. If it is right, delete this line; what "
                        f"it held will be asked for again."
                    ) from error
    except OSError as error:
        raise errors.StoreError(f"{path}: the file cannot be read ({error.strerror}). Check the path.") from error
