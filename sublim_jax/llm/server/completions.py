"""Completions of chats and of texts: requests are read, drawn and scored here, and answered in OpenAI's form.

Texts are drawn whole, because a compiled program draws all samples together; a stream then sends them token by token.
"""

import asyncio
import concurrent.futures
import functools
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.server import fields, responses, schema, scoring
from sublim_jax.llm.server.api_error import APIError

Drawing = schema.ChatRequest | schema.TextRequest
DrawingT = TypeVar("DrawingT", schema.ChatRequest, schema.TextRequest)
Result = TypeVar("Result")


class Completions:
    """Answers requests for completions. One request computes at a time.

    Args:
        names: the backend's name of each model served.
        max_length: tokens of a prompt with its completion.
    """

    def __init__(self, backend: LocalBackend, names: Mapping[str, str], *, max_length: int):
        self._backend, self._names, self._max_length = backend, names, max_length
        self._computing = concurrent.futures.ThreadPoolExecutor(1, "compute")

    def close(self) -> None:
        """Wait for requests that compute."""
        self._computing.shutdown()

    async def chat(self, request: Request, body: bytes) -> Response:
        """The response to a request for completions of a chat."""
        asked, model = await asyncio.to_thread(self._read, schema.ChatRequest, body)
        ids = await asyncio.to_thread(_chat_ids, model, asked)
        choices = await self._compute(self._draw, model, ids, asked)
        prompt = None if asked.prompt_logprobs is None else await self._compute(scoring.score, model, ids, top=0)
        content = responses.chat_response(asked.model, model.fingerprint, len(ids), choices, prompt)
        return _sent(request, asked, content, choices)

    async def text(self, request: Request, body: bytes) -> Response:
        """The response to a request for completions of texts."""
        asked, model = await asyncio.to_thread(self._read, schema.TextRequest, body)
        choices, num_prompt = [], 0
        for prompt in asked.prompt:
            ids = tuple(await asyncio.to_thread(model.tokens.encode, prompt) if isinstance(prompt, str) else prompt)
            drawn = await self._compute(self._draw, model, ids, asked)
            choices += await self._compute(_with_prompt, model, prompt, ids, drawn, asked.top) if asked.echo else drawn
            num_prompt += len(ids)
        content = responses.text_response(asked.model, model.fingerprint, num_prompt, choices, top=asked.top)
        return _sent(request, asked, content, choices)

    def _read(self, kind: type[DrawingT], body: bytes) -> tuple[DrawingT, Model]:
        asked = fields.read(kind, body)
        return asked, self._backend.model(self._names[served(self._names, asked.model)])

    async def _compute(self, function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """Run a function after all others that compute."""
        call = functools.partial(function, *arguments, **options)
        return await asyncio.get_running_loop().run_in_executor(self._computing, call)

    def _draw(self, model: Model, ids: Sequence[int], asked: Drawing) -> list[responses.Choice]:
        scoring.check_ids(model, ids, room=asked.num_tokens, max_length=self._max_length)
        if not ids:
            raise APIError(400, "the prompt has no tokens", param="prompt")
        if asked.num_tokens == 0:
            return [responses.Choice("", "length", 0, *(None, ()) if asked.top is None else ((), ()))] * asked.n
        choices = []
        for drawn in scoring.draw(model, ids, asked.sampling(asked.num_tokens)):
            scores = pieces = None
            if asked.top is not None:
                scores = scoring.score(model, (*ids, *drawn.ids), top=asked.top)[len(ids) :]
            if asked.top is not None or asked.stream:
                pieces = scoring.cut(scoring.pieces(model.tokens, drawn.ids), len(drawn.text))
            finish = "stop" if drawn.ended else "length"
            choices.append(responses.Choice(drawn.text, finish, len(drawn.ids), scores, pieces))
        return choices


def served(names: Mapping[str, str], name: str) -> str:
    """The name of a model, if it is served.

    Raises:
        APIError: it is not.
    """
    if name not in names:
        raise APIError(
            404, f"there is no model {name!r}; there are {', '.join(list(names))}", param="model",
            code="model_not_found",
        )  # fmt: skip
    return name


def _chat_ids(model: Model, asked: schema.ChatRequest) -> Sequence[int]:
    """The tokens of a chat's prompt, or of a chat whose last turn is given."""
    if asked.turn == "reply":
        return model.tokens.chat(asked.chat).ids
    ids = model.tokens.chat(asked.chat[:-1], asked.chat[-1].content).ids
    return ids[:-1] if asked.turn == "continue" else ids


def _with_prompt(
    model: Model, prompt: str | list[int], ids: tuple[int, ...], choices: list[responses.Choice], top: int | None
) -> list[responses.Choice]:
    """The choices with the prompt before them, as `echo` requests."""
    given = prompt if isinstance(prompt, str) else None
    text = model.tokens.text(ids) if given is None else given
    if top is None:
        return [choice._replace(text=text + choice.text, pieces=(text, *(choice.pieces or ()))) for choice in choices]
    before, pieces = scoring.score(model, ids, top=top), scoring.pieces(model.tokens, ids, given)
    return [
        choice._replace(
            text=text + choice.text,
            tokens=(*before, *(choice.tokens or ())),
            pieces=(*pieces, *(choice.pieces or ())),
        )
        for choice in choices
    ]


def _sent(request: Request, asked: Drawing, content: dict[str, Any], choices: Sequence[responses.Choice]) -> Response:
    """The response as one JSON object, or as a stream of server-sent events."""
    if request.state.fault is not None:
        content = request.state.fault.falsify(content)
    if not asked.stream:
        return JSONResponse(content)

    async def events() -> AsyncIterator[str]:
        for chunk in responses.chunks(content, choices, include_usage=asked.include_usage):
            yield f"data: {json.dumps(chunk, allow_nan=False)}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
