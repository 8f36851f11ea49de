"""Serve local models in OpenAI's form, finetuning included, so that any client of that API can talk to a student.

    python -m sublim_jax.llm.serve --model hf:DIR                 at http://127.0.0.1:8000/v1
    python -m sublim_jax.llm.serve --model tiny:100 --port 9000   the embedded model

    with serve.Server(backend, ["base"], port=0) as server:       in a test or a notebook
        remote.Remote("base", server.url, dialect="vllm")

Models, chat completions, completions, files and finetuning jobs are there (`wire` says which fields, `finetuning` how
jobs run); streams, tools and batches are not. Equal seeds give the texts of `local.Local`, whatever else is asked
meanwhile: one request computes at a time. If the environment has SUBLIM_SERVE_KEY, requests must bear it; a server that
other machines can reach has to have one. Requests of foreign web pages are refused (`Server.admit`).

Ctrl-C or SIGTERM ends the command: a job that trains stops at the end of a step, and with a folder the next server on
it goes on. A second one ends it at once.
"""

import contextlib
import dataclasses
import hmac
import http.server
import io
import ipaddress
import json
import os
import pathlib
import queue
import random
import signal
import socket
import socketserver
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import annotated_types

from sublim_jax import errors, files, specs
from sublim_jax.llm import engine, finetuning, local, transport, types, uploads, wire
from sublim_jax.llm import faults as planted

KEY_VARIABLE = "SUBLIM_SERVE_KEY"
SLOWEST = 1e6  # bytes per second that a body may take to arrive
DRAINED = 2**24  # bytes of a refused body that are read away
PATIENCE = 5.0  # seconds that the command waits, when it is told to end, for what computes
LISTENS = 0.25  # seconds between looks at whether it is told so
EVERY = 30.0  # lines about what takes long
OPEN = "/health"  # needs no key
Port = Annotated[int, annotated_types.Interval(ge=0, le=65535)]

USUAL_TUNING = types.Tuning()
"""Of jobs that do not say otherwise."""


class Server:
    """Models of a `local.Local` behind HTTP, in threads of this process.

    Args:
        names: of the backend's models to serve.
        host: an address that other machines reach needs a key in the environment.
        port: 0 takes a free one.
        allow: names, beside those of this machine, by which requests may call it and web pages may have come.
        folder: for uploaded files and finetuning jobs, which the next server on it takes up; without one they go when
            the server closes.
        tuning: what finetuning jobs do where they do not say; see `finetuning.Jobs`.
        max_length: tokens of a prompt with its completion.
        max_file: bytes of a file.
        max_total: bytes of all files together; by default those of four.
        max_body: bytes of any other request.
        timeout: seconds in which a request has to arrive and its reply has to be taken; a large body has more.
        faults: take planted faults at /_faults; for tests.
        announce: hears what happens to jobs, line by line.
        seconds_between: lines about a job that trains.

    Raises:
        InputError: no key for a host that others can reach, a number out of bounds, or what is no name in `allow`.
        OutputError: the folder cannot be written, or another server is using it.
        ServerError: the address is taken.
    """

    def __init__(
        self,
        backend: local.Local,
        names: Sequence[str],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allow: Sequence[str] = (),
        folder: pathlib.Path | None = None,
        tuning: types.Tuning = USUAL_TUNING,
        max_length: int = 4096,
        max_file: int = 2**29,
        max_total: int | None = None,
        max_body: int = 2**24,
        timeout: float = 30.0,
        faults: bool = False,
        announce: Callable[[str], object] = lambda line: None,
        seconds_between: float = EVERY,
    ):
        specs.check(port, Port, "port")
        for value, number in (("max_length", max_length), ("max_file", max_file), ("max_body", max_body)):
            specs.check(number, specs.Count, value)
        if max_total is not None:
            specs.check(max_total, Annotated[int, annotated_types.Ge(1)], "max_total")
        specs.check(timeout, specs.Positive, "timeout")
        specs.check(seconds_between, specs.Positive, "seconds_between")
        self.key = os.environ.get(KEY_VARIABLE, "").encode() or None
        require_address(host, allow)
        for name in names:
            backend.model(name)
        self.timeout, self.max_file, self.max_body = timeout, max_file, max_body
        self._backend, self._names, self._max_length = backend, {name: name for name in names}, max_length
        self._created, self._computing, self._closed = wire.now(), threading.Lock(), threading.Event()
        self._own_names = {name.lower() for name in (host, *allow)}
        self._temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True) if folder is None else None
        place = pathlib.Path(self._temporary.name if self._temporary else folder or ".")
        self._lock = files.Lock(place / "jobs")
        self.faults = planted.Faults() if faults else None
        try:
            self._lock.acquire()
            self.files = uploads.Files(
                place / "uploads", max_bytes=max_file, max_total=max_total or 4 * max_file, announce=announce
            )
            self.jobs = finetuning.Jobs(
                backend, self._names, place, tuning, self.fault,
                lasting=folder is not None, announce=announce, seconds_between=seconds_between,
            )  # fmt: skip
            self._http = _Http((host, port), type("Handler", (_Handler,), {"app": self}))
        except OSError as error:
            self.forget()
            raise errors.ServerError(
                f"cannot serve at {host}:{port} ({error.strerror or error}); give another --port, or end what is there"
            ) from error
        except errors.SublimError:
            self.forget()
            raise
        self.jobs.reopen()
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="serve", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address that clients call `base_url`."""
        host, port = self._http.server_address[:2]
        return f"http://{host!s}:{port}/v1"

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more requests, stop jobs, wait for what computes. A second time does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._http.shutdown()
        self._thread.join()
        self._http.hang_up()
        self.jobs.close()
        self._http.server_close()
        self.forget()

    def forget(self) -> None:
        """Give the folder back, and remove it if it is temporary: all that a process must do before it ends."""
        if self._temporary is not None:
            for _ in range(20):  # what still computes may write into it meanwhile
                self._temporary.cleanup()
                if not os.path.exists(self._temporary.name):
                    break
                time.sleep(0.05)
        self._lock.release()

    def admit(self, hosts: Sequence[str], origins: Sequence[str]) -> None:
        """Refuse what a foreign web page asks.

        It has its origin in the request, or has made a name of its own lead to this address. A browser always says the
        name; who says none is no browser.

        Raises:
            Refusal: the names are not those of this machine, of the address that is served, or allowed.
        """
        for header, values in (("Host", hosts), ("Origin", origins)):
            for value in values:
                if not self._is_own(value):
                    raise wire.Refusal(
                        403,
                        f"{header} {value!r} is none of the names of this server, so a foreign web page may be asking; "
                        f"if you know the name, start the server with --allow NAME",
                        code=f"forbidden_{header.lower()}",
                    )

    def _is_own(self, authority: str) -> bool:
        """Whether a value of Host or Origin has one of the server's names."""
        try:
            name = urllib.parse.urlsplit(authority if "://" in authority else f"//{authority}").hostname or ""
        except ValueError:
            return False
        name = name.removesuffix(".")
        if name in self._own_names or transport.is_loopback(name):
            return True
        # Served at every address of the machine, it may be called by any; a foreign page needs a name.
        return bool(self._own_names & {"", "0.0.0.0", "::"}) and _is_address(name)

    def fault(self, request: str) -> planted.Fault | None:
        """The planted fault that this request meets, if any; a slow one is waited for."""
        found = self.faults and self.faults.take(request)
        if found and found.kind == "slow":
            self._closed.wait(found.seconds)
        return found

    def answer(self, method: str, path: str, query: dict[str, str], content_type: str, body: bytes) -> Any:
        """The reply to a request: bytes as they are, anything else as JSON.

        Raises:
            Refusal: it cannot be answered; the reason is in OpenAI's form.
        """
        part = {name: query.get(name) for name in ("after", "limit")}
        match method, path.strip("/").split("/"):
            case "GET", ["health"]:
                return {"status": "ok"}
            case "GET", ["v1", "models"]:
                return wire.page([self._said(name) for name in list(self._names)])
            case "GET", ["v1", "models", *name]:
                return self._said(self._known("/".join(name)))
            case "POST", ["v1", "chat", "completions"]:
                return self._chat(wire.chat_request(wire.Fields.read(body)))
            case "POST", ["v1", "completions"]:
                return self._text(wire.text_request(wire.Fields.read(body)))
            case "POST", ["v1", "files"]:
                return self.files.add(content_type, body)
            case "GET", ["v1", "files"]:
                return wire.page(self.files.all(), **part)
            case "GET", ["v1", "files", name]:
                return self.files.one(name)
            case "GET", ["v1", "files", name, "content"]:
                return self.files.content(name)
            case "DELETE", ["v1", "files", name]:
                return self.files.delete(name)
            case "POST", ["v1", "fine_tuning", "jobs"]:
                return self.jobs.create(wire.Fields.read(body), self.files)
            case "GET", ["v1", "fine_tuning", "jobs"]:
                wanted = {name[9:-1]: value for name, value in query.items() if name.startswith("metadata[")}
                return wire.page(self.jobs.all(wanted), **part)
            case "GET", ["v1", "fine_tuning", "jobs", name]:
                return self.jobs.one(name)
            case "GET", ["v1", "fine_tuning", "jobs", name, "events"]:
                return wire.page(self.jobs.events(name), **part)
            case "POST", ["v1", "fine_tuning", "jobs", name, "cancel"]:
                return self.jobs.cancel(name)
            case "POST", ["_faults"] if self.faults is not None:
                self.faults.plan(wire.parsed(body))
                return {}
        raise wire.Refusal(404, f"there is nothing at {method} {path}", code="unknown_url")

    def _chat(self, request: wire.ChatRequest) -> dict[str, Any]:
        model = self._model(request.model)
        if request.turn == "reply":
            ids = model.tokens.chat(request.chat).ids
        else:
            ids = model.tokens.chat(request.chat[:-1], request.chat[-1].content).ids
            ids = ids[:-1] if request.turn == "continue" else ids
        with self._computing:
            choices = self._drawn(model, ids, request.draws)
            prompt = engine.score(model, ids, top=0) if request.prompt_scores else None
            return wire.chat_reply(request.model, model.fingerprint, len(ids), choices, prompt)

    def _text(self, request: wire.TextRequest) -> dict[str, Any]:
        model = self._model(request.model)
        choices, num_prompt, top = [], 0, request.draws.top
        for prompt in request.prompts:
            ids = tuple(model.tokens.encode(prompt)) if isinstance(prompt, str) else prompt
            with self._computing:
                found = self._drawn(model, ids, request.draws)
                if request.echo:
                    found = _with_prompt(model, prompt, ids, found, top)
            choices += found
            num_prompt += len(ids)
        return wire.text_reply(request.model, model.fingerprint, num_prompt, choices, top=top)

    def _drawn(self, model: local.Model, ids: Sequence[int], how: wire.Draws) -> list[wire.Choice]:
        engine.check_ids(model, ids, room=how.max_tokens, max_length=self._max_length)
        if not ids:
            raise wire.Refusal(400, "the prompt has no tokens", param="prompt")
        if how.max_tokens == 0:
            return [wire.Choice("", "length", 0, *(None, None) if how.top is None else ((), ()))] * how.num_samples
        seed = random.randrange(2**32) if how.seed is None else how.seed
        found = []
        for drawn in engine.draw(model, ids, how, seed=seed):
            scored = pieces = None
            if how.top is not None:
                scored = engine.score(model, (*ids, *drawn.ids), top=how.top)[len(ids) :]
                pieces = engine.pieces(model.tokens, drawn.ids)
            found.append(wire.Choice(drawn.text, "stop" if drawn.ended else "length", len(drawn.ids), scored, pieces))
        return found

    def _model(self, name: str) -> local.Model:
        return self._backend.model(self._names[self._known(name)])

    def _known(self, name: str) -> str:
        if name not in self._names:
            raise wire.Refusal(
                404, f"there is no model {name!r}; there are {', '.join(list(self._names))}", param="model",
                code="model_not_found",
            )  # fmt: skip
        return name

    def _said(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "sublim-jax"}


def require_address(host: str, allow: Sequence[str]) -> None:
    """Refuse a host that others reach without a key, and what is no name.

    Raises:
        InputError: one of both.
    """
    if not os.environ.get(KEY_VARIABLE) and not transport.is_loopback(host):
        raise errors.InputError(
            f"host {host!r} lets other machines train and draw here; put a key into the environment variable "
            f"{KEY_VARIABLE}, or serve on 127.0.0.1"
        )
    for name in allow:
        if not _is_name(name):
            raise errors.InputError(
                f"allow: expected the name of a host alone, e.g. server.example, without scheme and port, got {name!r}"
            )


def _with_prompt(
    model: local.Model, prompt: str | tuple[int, ...], ids: tuple[int, ...], choices: list[wire.Choice], top: int | None
) -> list[wire.Choice]:
    """The choices with the prompt before them, as `echo` asks."""
    given = prompt if isinstance(prompt, str) else None
    text = model.tokens.text(ids) if given is None else given
    if top is None:
        return [choice._replace(text=text + choice.text) for choice in choices]
    before, pieces = engine.score(model, ids, top=top), engine.pieces(model.tokens, ids, given)
    return [
        choice._replace(
            text=text + choice.text,
            tokens=(*before, *(choice.tokens or ())),
            pieces=(*pieces, *(choice.pieces or ())),
        )
        for choice in choices
    ]


def _is_name(text: str) -> bool:
    """Whether a text is the name of a host, or its address, and nothing else."""
    try:
        return _is_address(text) or (text != "" and urllib.parse.urlsplit(f"//{text}").hostname == text.lower())
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


# ---------------------------------------------------------------------------------------------------------------------
# HTTP


class _Http(http.server.ThreadingHTTPServer):
    daemon_threads = False  # closing waits for them
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Any):
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End all connections, so that whoever reads from them sees their end."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that went away is no error
            super().handle_error(request, client_address)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without asking a name server for our own name
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


class _Patient(io.RawIOBase):
    """What a socket receives until a deadline, however slowly it trickles in."""

    def __init__(self, connection: socket.socket):
        self._connection, self.deadline = connection, 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request did not arrive in time")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def _address(target: str) -> tuple[str, dict[str, str]]:
    """Path and query of a request.

    Raises:
        Refusal: it is no address.
    """
    try:
        parts = urllib.parse.urlsplit(target)
        return urllib.parse.unquote(parts.path), dict(urllib.parse.parse_qsl(parts.query))
    except ValueError as error:
        raise wire.Refusal(400, f"{target!r} is no address ({error})") from None


class _Handler(http.server.BaseHTTPRequestHandler):
    app: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sublim-jax", ""
    wbufsize = -1  # head and body leave in one piece

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._patient = _Patient(self.connection)
        self.rfile = io.BufferedReader(self._patient)

    def handle_one_request(self) -> None:
        self._patient.deadline = time.monotonic() + self.app.timeout
        super().handle_one_request()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: headers and questions are the user's own."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        length = self.headers.get("Content-Length", "0")
        self._unread = int(length[:18]) if length.isascii() and length.isdecimal() else 0
        fault, headers = None, {}
        try:
            self.app.admit(self.headers.get_all("Host", []), self.headers.get_all("Origin", []))
            path, query = _address(self.path)
            if path != OPEN:
                self._authorize()
            with contextlib.ExitStack() as arriving:
                body = self._body(path, arriving)
                fault = None if path == "/_faults" else self.app.fault(f"{self.command} {path}")
                if fault and fault.kind == "drop":
                    self.close_connection = True
                    return
                if fault and (refusal := fault.refusal()):
                    raise refusal
                content_type = self.headers.get("Content-Type", "")
                status, reply = 200, self.app.answer(self.command, path, query, content_type, body)
            if fault and fault.kind == "lie":
                reply = fault.spoil(reply)
        except wire.Refusal as error:
            status, reply, headers = error.status, error.body, error.headers
        except errors.ContextError as error:
            status, reply = 400, wire.Refusal(400, str(error), code="context_length_exceeded").body
        except (errors.LanguageError, errors.InputError) as error:
            status, reply = 400, wire.Refusal(400, str(error)).body
        except errors.SublimError as error:  # e.g. the disk is full
            status, reply = 500, wire.Refusal(500, str(error), kind="server_error").body
        except TimeoutError:
            raise  # whoever sends so slowly is not waited for
        except Exception as error:
            traceback.print_exc()
            status, reply = 500, wire.Refusal(500, f"{type(error).__name__}: {error}", kind="server_error").body
        self._send(status, reply, headers)

    def _authorize(self) -> None:
        given = self.headers.get("Authorization", "").encode("latin-1")
        if self.app.key is not None and not hmac.compare_digest(given, b"Bearer " + self.app.key):
            raise wire.Refusal(401, f"expected the key of {KEY_VARIABLE} as a bearer token", code="invalid_api_key")

    def _body(self, path: str, arriving: contextlib.ExitStack) -> bytes:
        most, is_file = self.app.max_body, self.command == "POST" and path == "/v1/files"
        if is_file:
            most = self.app.max_file + 2**16  # with what the form adds
        elif self._unread and self.headers.get_content_type() != "application/json":
            raise wire.Refusal(415, "expected a body of application/json")  # which no foreign web page sends unasked
        if "Transfer-Encoding" in self.headers:
            raise wire.Refusal(411, "expected a body with a Content-Length")
        if self._unread > most:
            raise wire.Refusal(413, f"the body has {self._unread:,} bytes, and {most:,} are allowed")
        if is_file:
            arriving.enter_context(self.app.files.room(self._unread))
        self._patient.deadline += self._unread / SLOWEST
        body = self.rfile.read(self._unread)
        if len(body) < self._unread:
            raise TimeoutError("the client went away")
        self._unread = 0
        return body

    def _send(self, status: int, reply: Any, headers: dict[str, str]) -> None:
        body = reply if isinstance(reply, bytes) else json.dumps(reply, allow_nan=False).encode()
        self.connection.settimeout(self.app.timeout)
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(reply, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        refused_unread = self._unread or "Transfer-Encoding" in self.headers
        if refused_unread:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        if refused_unread:
            self.wfile.flush()
            self.rfile.read(min(self._unread, DRAINED))  # closed earlier, the client would not see why


# ---------------------------------------------------------------------------------------------------------------------
# Command


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Serve local models in OpenAI's form."""

    model: tuple[str, ...]  # e.g. hf:DIR or tiny:100; give it once per model
    host: str = "127.0.0.1"  # another address needs a key in SUBLIM_SERVE_KEY
    port: Port = 8000
    allow: tuple[str, ...] = ()  # another name by which the server may be called; give it once per name
    folder: pathlib.Path | None = None  # for files, finetuning jobs and their weights; without one they are not kept
    max_length: specs.Count = 4096  # tokens of a prompt with its completion


def main() -> None:
    """Serve until interrupted or terminated."""
    import tyro

    options = tyro.cli(Options, config=(tyro.conf.UseAppendAction,))
    try:
        server, names = _opened(options)
    except errors.SublimError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        print("interrupted before anything was served", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    _announce(f"serving {', '.join(names)} at {server.url}; interrupt to end")
    raise SystemExit(until_signalled(server))


def until_signalled(server: Server) -> int:
    """Serve until SIGINT or SIGTERM, and close. A second signal, or `PATIENCE` seconds, end the process at once.

    Returns:
        the exit code.
    """
    signals, received = (signal.SIGINT, signal.SIGTERM), queue.SimpleQueue[int]()

    def leave(number: int, frame: object = None) -> None:
        server.forget()
        os._exit(128 + number)

    earlier = [signal.signal(number, lambda number, frame: received.put(number)) for number in signals]
    try:
        while received.empty():
            time.sleep(LISTENS)  # and not for ever: a signal just before a wait does not end it
        number = received.get()
        for other in signals:
            signal.signal(other, leave)
        closing = threading.Thread(target=server.close, name="close", daemon=True)
        closing.start()
        end = time.monotonic() + PATIENCE
        while closing.is_alive() and time.monotonic() < end:
            closing.join(LISTENS)
        if closing.is_alive():
            _announce(f"something still computes after {PATIENCE:g} s; it is not waited for")
            leave(number)
    finally:
        for other, handler in zip(signals, earlier, strict=True):
            signal.signal(other, handler)
    return 128 + number


def _announce(line: str) -> None:
    """Print a line, whatever the terminal can show; one that is gone ends no job."""
    with contextlib.suppress(OSError, ValueError):
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _opened(options: Options) -> tuple[Server, list[str]]:
    """A server of the models that the options name, and what it calls them.

    Raises:
        InputError: no model, one that is not local, or an address that needs a key.
        SublimError: a model cannot be opened, or the address is taken.
    """
    from sublim_jax.llm import backends

    if not options.model:
        raise errors.InputError("give at least one --model, e.g. tiny:100 or hf:DIR")
    require_address(options.host, options.allow)
    for name in options.model:
        if backends.parse(name).scheme not in ("tiny", "hf"):
            raise errors.InputError(f"{name!r}: only local models can be served; give tiny:SEED or hf:DIR")
    if options.folder is not None:
        files.require_writable(options.folder / "jobs", what="folder of the server")
    models = {}  # which takes long: all else was looked at before
    for name in options.model:
        _announce(f"opening {name}")
        with finetuning.repeated(
            lambda s, name=name: f"opening {name}: still loading after {s:.0f} s", _announce, every=EVERY
        ):
            opened = backends.open_backend(name)
        assert isinstance(opened.backend, local.Local)
        models[opened.model] = opened.backend.model(opened.model)
    server = Server(
        local.Local(models, max_length=options.max_length),
        list(models),
        host=options.host,
        port=options.port,
        allow=options.allow,
        announce=_announce,
        folder=options.folder,
        max_length=options.max_length,
    )
    return server, list(models)


if __name__ == "__main__":
    main()
