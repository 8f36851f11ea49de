"""The server: starlette routes requests to models, files and jobs, and uvicorn speaks HTTP in a thread.

    with http.Server(backend, ["base"], port=0) as server:       in a test or a notebook
        remote.Remote("base", server.url, dialect="vllm")

Texts are drawn whole, because a compiled program draws all samples together; a stream then sends them token by token.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import json
import math
import os
import pathlib
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

import annotated_types
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sublim_jax import errors, files, specs
from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.server import access, connections, fault_injection, jobs, responses, schema, scoring, uploads

UPLOADS, JOBS, FAULTS = "/v1/files", "/v1/fine_tuning/jobs", "/_faults"
Port = Annotated[int, annotated_types.Interval(ge=0, le=65535)]
Answer = Callable[[Request, bytes], Awaitable[Any]]
Drawing = schema.ChatRequest | schema.TextRequest
DrawingT = TypeVar("DrawingT", schema.ChatRequest, schema.TextRequest)
Result = TypeVar("Result")

DEFAULT_TUNING = FinetuneConfig()
"""Settings of jobs that do not choose otherwise."""


class Server:
    """Models of a `LocalBackend` behind HTTP, in threads of this process.

    Args:
        names: the backend's models to serve.
        host: an address that other machines reach needs a key in the environment.
        port: 0 takes a free one.
        allow: names, besides those of this machine, by which requests may call it and web pages may have come.
        folder: for uploaded files and finetuning jobs, which the next server on it takes up; without one they are
            deleted when the server closes.
        tuning: settings of finetuning jobs that do not choose otherwise; see `jobs.Jobs`.
        max_length: tokens of a prompt with its completion.
        max_file: bytes of a file.
        max_total: bytes of all files together; by default those of four.
        max_body: bytes of any other request.
        timeout: seconds for a request to arrive and for its response to be taken; a large body has more.
        faults: take planted faults at /_faults; for tests.
        announce: receives lines about jobs.
        seconds_between: interval of the lines about a job that trains.

    Raises:
        InputError: no key for a host that others can reach, a number out of bounds, or an `allow` that is no name.
        OutputError: the folder cannot be written, or another server is using it.
        ServerError: the address is taken.
    """

    def __init__(
        self,
        backend: LocalBackend,
        names: Sequence[str],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allow: Sequence[str] = (),
        folder: pathlib.Path | None = None,
        tuning: FinetuneConfig = DEFAULT_TUNING,
        max_length: int = 4096,
        max_file: int = 2**29,
        max_total: int | None = None,
        max_body: int = 2**24,
        timeout: float = 30.0,
        faults: bool = False,
        announce: Callable[[str], object] = lambda line: None,
        seconds_between: float = 30.0,
    ):
        specs.check(port, Port, "port")
        for name, number in (("max_length", max_length), ("max_file", max_file), ("max_body", max_body)):
            specs.check(number, specs.Count, name)
        specs.check(max_total, specs.Count | None, "max_total")
        specs.check(timeout, specs.Positive, "timeout")
        specs.check(seconds_between, specs.Positive, "seconds_between")
        access.require_address(host, allow)
        for name in names:
            backend.model(name)
        self._backend, self._names, self._max_length = backend, {name: name for name in names}, max_length
        self._max_file, self._max_body, self._created = max_file, max_body, responses.now()
        self._computing = concurrent.futures.ThreadPoolExecutor(1, "compute")  # one request computes at a time
        self._closed = threading.Event()
        self._temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True) if folder is None else None
        place = pathlib.Path(self._temporary.name if self._temporary else folder or ".")
        self._lock = files.Lock(place / "jobs")
        self.faults = fault_injection.Faults() if faults else None
        try:
            self._lock.acquire()
            self.files = uploads.Files(
                place / "uploads", max_bytes=max_file, max_total=max_total or 4 * max_file, announce=announce
            )
            self.jobs = jobs.Jobs(
                backend, self._names, place, tuning, self._training_fault,
                lasting=folder is not None, announce=announce, seconds_between=seconds_between,
            )  # fmt: skip
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            self.forget()
            raise errors.ServerError(
                f"cannot serve at {host}:{port} ({error.strerror or error}); give another --port, or end what is there"
            ) from error
        except errors.SublimError:
            self.forget()
            raise
        address, number = listener.getsockname()[:2]
        self.url = f"http://{f'[{address}]' if ':' in address else address}:{number}/v1"
        """The address that clients call `base_url`."""
        self.jobs.reopen()
        guard = connections.Guard(self._application(), names={name.lower() for name in (host, *allow)}, timeout=timeout)
        config = uvicorn.Config(
            guard, http=type("Connection", (connections.Connection,), {"timeout": timeout}), ws="none", lifespan="off",
            loop="asyncio", log_config=None, log_level="critical", access_log=False, proxy_headers=False,
            server_header=False, timeout_keep_alive=math.ceil(timeout),
        )  # fmt: skip
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._uvicorn.run, args=([listener],), name="serve", daemon=True)
        self._thread.start()
        while self._thread.is_alive() and not self._uvicorn.started:
            time.sleep(0.001)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more requests, stop jobs, and wait for requests that compute. A second time does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._uvicorn.should_exit = True
        self.jobs.close()
        self._thread.join()
        self._computing.shutdown()
        self.forget()

    def forget(self) -> None:
        """Give the folder back, and remove it if it is temporary: all that a process must do before it ends."""
        if self._temporary is not None:
            for _ in range(20):  # a job that still computes may write into it meanwhile
                self._temporary.cleanup()
                if not os.path.exists(self._temporary.name):
                    break
                time.sleep(0.05)
        self._lock.release()

    # -----------------------------------------------------------------------------------------------------------------
    # Routes

    def _application(self) -> Starlette:
        routes: list[tuple[str, str, Answer]] = [
            ("GET", connections.HEALTH, threaded(lambda request, body: {"status": "ok"})),
            ("GET", "/v1/models", paged(lambda request: [*map(self._about, list(self._names))])),
            ("GET", "/v1/models/{name:path}", named(lambda name: self._about(self._known(name)))),
            ("POST", "/v1/chat/completions", self._chat),
            ("POST", "/v1/completions", self._text),
            ("POST", UPLOADS, threaded(lambda request, body: self.files.add(_content_type(request), body))),
            ("GET", UPLOADS, paged(lambda request: self.files.all())),
            ("GET", f"{UPLOADS}/{{name}}", named(self.files.info)),
            ("GET", f"{UPLOADS}/{{name}}/content", named(self.files.content)),
            ("DELETE", f"{UPLOADS}/{{name}}", named(self.files.delete)),
            ("POST", JOBS, threaded(self._create_job)),
            ("GET", JOBS, paged(lambda request: self.jobs.all(_metadata(request)))),
            ("GET", f"{JOBS}/{{name}}", named(self.jobs.info)),
            ("GET", f"{JOBS}/{{name}}/events", paged(lambda request: self.jobs.events(_name(request)))),
            ("POST", f"{JOBS}/{{name}}/cancel", named(self.jobs.cancel)),
        ]
        if (faults := self.faults) is not None:
            routes.append(("POST", FAULTS, threaded(lambda request, body: faults.plan(schema.parsed(body)))))
        failures = (ClientDisconnect, schema.APIError, errors.SublimError, HTTPException, Exception)
        handlers: dict[Any, Any] = dict.fromkeys(failures, respond_to_error)
        return Starlette(
            routes=[
                Route(path, self._endpoint(answer, is_upload=(method, path) == ("POST", UPLOADS)), methods=[method])
                for method, path, answer in routes
            ],
            exception_handlers=handlers,
        )

    def _endpoint(self, answer: Answer, *, is_upload: bool) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that reads a bounded body, meets the planted fault if there is one, and sends the answer."""
        most = self._max_file + 2**16 if is_upload else self._max_body  # a form adds boundaries and headers

        async def endpoint(request: Request) -> Response:
            length = connections.body_length(request.headers)
            if length and not is_upload and _content_type(request).partition(";")[0].strip() != "application/json":
                # which no foreign web page sends without asking first
                raise schema.APIError(415, "expected a body of application/json")
            if length > most:
                raise schema.APIError(413, f"the body has {length:,} bytes, and {most:,} are allowed")
            with self.files.room(length) if is_upload else contextlib.nullcontext():
                body = await request.body()
                await self._meet_fault(request)
                content = await answer(request, body)
            if isinstance(content, bytes):
                return Response(content, media_type="application/octet-stream")
            return content if isinstance(content, Response) else JSONResponse(content)

        return endpoint

    def _create_job(self, request: Request, body: bytes) -> dict[str, Any]:
        return self.jobs.create(schema.read(schema.JobRequest, body), self.files)

    async def _chat(self, request: Request, body: bytes) -> Response:
        asked, model = await asyncio.to_thread(self._read, schema.ChatRequest, body)
        ids = await asyncio.to_thread(_chat_ids, model, asked)
        choices = await self._compute(self._draw, model, ids, asked)
        prompt = None if asked.prompt_logprobs is None else await self._compute(scoring.score, model, ids, top=0)
        content = responses.chat_response(asked.model, model.fingerprint, len(ids), choices, prompt)
        return _sent(request, asked, content, choices)

    async def _text(self, request: Request, body: bytes) -> Response:
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
        asked = schema.read(kind, body)
        return asked, self._backend.model(self._names[self._known(asked.model)])

    async def _compute(self, function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """Run a function after all others that compute."""
        call = functools.partial(function, *arguments, **options)
        return await asyncio.get_running_loop().run_in_executor(self._computing, call)

    def _draw(self, model: Model, ids: Sequence[int], asked: Drawing) -> list[responses.Choice]:
        scoring.check_ids(model, ids, room=asked.num_tokens, max_length=self._max_length)
        if not ids:
            raise schema.APIError(400, "the prompt has no tokens", param="prompt")
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

    def _known(self, name: str) -> str:
        if name not in self._names:
            raise schema.APIError(
                404, f"there is no model {name!r}; there are {', '.join(list(self._names))}", param="model",
                code="model_not_found",
            )  # fmt: skip
        return name

    def _about(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "sublim-jax"}

    # -----------------------------------------------------------------------------------------------------------------
    # Planted faults

    async def _meet_fault(self, request: Request) -> None:
        path = request.scope["path"]
        fault = self.faults and path != FAULTS and self.faults.take(f"{request.method} {path}")
        request.state.fault = fault or None
        if not fault:
            return
        end = time.monotonic() + fault.seconds
        while fault.kind == "slow" and not self._closed.is_set() and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.05))
        if fault.kind == "drop":
            raise ClientDisconnect
        if error := fault.error():
            raise error

    def _training_fault(self) -> bool:
        """Whether a job is to fail; a slow fault is waited for."""
        fault = self.faults and self.faults.take(fault_injection.TRAINING)
        if fault and fault.kind == "slow":
            self._closed.wait(fault.seconds)
        return bool(fault and fault.kind == "failed_job")


def threaded(function: Callable[[Request, bytes], Any]) -> Answer:
    """An answer that may wait for a disk or a lock, and is computed in a thread."""

    async def answer(request: Request, body: bytes) -> Any:
        return await asyncio.to_thread(function, request, body)

    return answer


def named(function: Callable[[str], Any]) -> Answer:
    """An answer about the object whose name is in the path."""
    return threaded(lambda request, body: function(_name(request)))


def paged(items: Callable[[Request], Sequence[dict[str, Any]]]) -> Answer:
    """An answer with the part of a list that the query asks for."""

    def part(request: Request, body: bytes) -> dict[str, Any]:
        query = request.query_params
        return responses.page(items(request), after=query.get("after"), limit=query.get("limit"))

    return threaded(part)


def _name(request: Request) -> str:
    return request.path_params["name"]


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "")


def _metadata(request: Request) -> dict[str, str]:
    return {name[9:-1]: value for name, value in request.query_params.items() if name.startswith("metadata[")}


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


async def respond_to_error(request: Request, error: Exception) -> Response | None:
    """The response to a request that failed, in OpenAI's form; if the client has disconnected, there is none."""
    match error:
        case ClientDisconnect():
            request.state.transport.abort()
            while (await request.receive())["type"] != "http.disconnect":
                pass
            return None
        case schema.APIError():
            answer = error
        case errors.ContextError():
            answer = schema.APIError(400, str(error), code="context_length_exceeded")
        case errors.LanguageError() | errors.InputError():
            answer = schema.APIError(400, str(error))
        case HTTPException():
            where = f"{request.method} {request.scope['path']}"
            answer = schema.APIError(404, f"there is nothing at {where}", code="unknown_url")
        case errors.SublimError():  # e.g. the disk is full
            answer = schema.APIError(500, str(error), kind="server_error")
        case _:
            answer = schema.APIError(500, f"{type(error).__name__}: {error}", kind="server_error")
    return JSONResponse(answer.body, answer.status, answer.headers)
