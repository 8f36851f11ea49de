"""The server: starlette routes requests to models, completions, files and jobs; uvicorn speaks HTTP in a thread.

    with http.Server(backend, ["base"], port=0) as server:       in a test or a notebook
        client = OpenAIBackend("base", server.url, dialect="vllm")

A request is answered by `completions`, `uploads` or `jobs`; this file knows how to reach them.
"""

import asyncio
import contextlib
import math
import os
import pathlib
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import annotated_types
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sublim_jax import errors, files, specs
from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.server import (
    access,
    completions,
    connections,
    fault_injection,
    fields,
    jobs,
    responses,
    schema,
    uploads,
)
from sublim_jax.llm.server.api_error import APIError

UPLOADS, JOBS, FAULTS = "/v1/files", "/v1/fine_tuning/jobs", "/_faults"
Port = Annotated[int, annotated_types.Interval(ge=0, le=65535)]
Answer = Callable[[Request, bytes], Awaitable[Any]]

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
        self._names = {name: name for name in names}
        self._max_file, self._max_body, self._created = max_file, max_body, responses.now()
        self._completions = completions.Completions(backend, self._names, max_length=max_length)
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
        self._completions.close()
        self.forget()

    def forget(self) -> None:
        """Unlock the folder, and remove it if it is temporary: all that a process must do before it ends."""
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
            ("GET", "/v1/models/{name:path}", named(lambda name: self._about(completions.served(self._names, name)))),
            ("POST", "/v1/chat/completions", self._completions.chat),
            ("POST", "/v1/completions", self._completions.text),
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
            routes.append(("POST", FAULTS, threaded(lambda request, body: faults.plan(fields.parsed(body)))))
        failures = (ClientDisconnect, APIError, errors.SublimError, HTTPException, Exception)
        handlers: dict[Any, Any] = dict.fromkeys(failures, respond_to_error)
        return Starlette(
            routes=[
                Route(path, self._endpoint(answer, is_upload=(method, path) == ("POST", UPLOADS)), methods=[method])
                for method, path, answer in routes
            ],
            exception_handlers=handlers,
        )

    def _endpoint(self, answer: Answer, *, is_upload: bool) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that reads a body of bounded size and sends the answer, or a planted fault in its place."""
        most = self._max_file + 2**16 if is_upload else self._max_body  # a form adds boundaries and headers

        async def endpoint(request: Request) -> Response:
            length = connections.body_length(request.headers)
            if length and not is_upload and _content_type(request).partition(";")[0].strip() != "application/json":
                # which no foreign web page sends without asking first
                raise APIError(415, "expected a body of application/json")
            if length > most:
                raise APIError(413, f"the body has {length:,} bytes, and {most:,} are allowed")
            with self.files.room(length) if is_upload else contextlib.nullcontext():
                body = await request.body()
                await self._meet_fault(request)
                content = await answer(request, body)
            if isinstance(content, bytes):
                return Response(content, media_type="application/octet-stream")
            return content if isinstance(content, Response) else JSONResponse(content)

        return endpoint

    def _create_job(self, request: Request, body: bytes) -> dict[str, Any]:
        return self.jobs.create(fields.read(schema.JobRequest, body), self.files)

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
        """Whether a planted fault makes a job fail. If the fault is a slow one, this waits first."""
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


async def respond_to_error(request: Request, error: Exception) -> Response | None:
    """The response to a request that failed, in OpenAI's form; if the client has disconnected, there is none."""
    match error:
        case ClientDisconnect():
            request.state.transport.abort()
            while (await request.receive())["type"] != "http.disconnect":
                pass
            return None
        case APIError():
            answer = error
        case errors.ContextError():
            answer = APIError(400, str(error), code="context_length_exceeded")
        case errors.LanguageError() | errors.InputError():
            answer = APIError(400, str(error))
        case HTTPException():
            where = f"{request.method} {request.scope['path']}"
            answer = APIError(404, f"there is nothing at {where}", code="unknown_url")
        case errors.SublimError():  # e.g. the disk is full
            answer = APIError(500, str(error), kind="server_error")
        case _:
            answer = APIError(500, f"{type(error).__name__}: {error}", kind="server_error")
    return JSONResponse(answer.body, answer.status, answer.headers)
