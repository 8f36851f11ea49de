"""Serve local models in OpenAI's form, finetuning included, so that any client of that API can talk to a student.

    python -m sublim_jax.llm.serve --model hf:DIR                 at http://127.0.0.1:8000/v1
    python -m sublim_jax.llm.serve --model tiny:100 --port 9000   the embedded model

Models, chat completions, completions, files and finetuning jobs are there, and streams of completions; tools and
batches are not (`server.schema` has the fields, `server.jobs` the jobs, `server.http` the server for a test or a
notebook). Equal seeds give the texts of `LocalBackend`, whatever other requests there are meanwhile: one request
computes at a time. If the environment has SUBLIM_SERVE_KEY, requests must bear it; a server that other machines can
reach has to have one. Requests of foreign web pages are refused (`server.access`). The extra `serve` is needed.

Ctrl-C or SIGTERM ends the command: a job that trains stops at the end of a step, and with a folder the next server on
it resumes the job. A second one ends it at once.
"""

import contextlib
import dataclasses
import os
import pathlib
import queue
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any

import annotated_types

from sublim_jax import compilation, errors, files, specs
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.server import access, heartbeat

if TYPE_CHECKING:
    from sublim_jax.llm.server import http

PATIENCE = 5.0  # seconds that the command, once a signal ends it, waits for a computation
LISTENS = 0.25  # seconds between looks for a signal
EVERY = 30.0  # seconds between lines about a model that is being opened
Port = Annotated[int, annotated_types.Interval(ge=0, le=65535)]


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Serve local models in OpenAI's form."""

    model: tuple[str, ...]  # e.g. hf:DIR, hf:FILE.gguf, smollm2 or tiny:100; give it once per model
    host: str = "127.0.0.1"  # another address needs a key in SUBLIM_SERVE_KEY
    port: Port = 8000
    allow: tuple[str, ...] = ()  # another name by which the server may be called; give it once per name
    folder: pathlib.Path | None = None  # for files, finetuning jobs and their weights; without one they are not kept
    max_length: specs.Count = 4096  # tokens of a prompt with its completion
    compilation_cache: bool = True  # keep compiled programs for the next server, which then answers sooner


def main() -> None:
    """Serve until interrupted or terminated."""
    import tyro

    options = tyro.cli(Options, config=(tyro.conf.UseAppendAction,))
    if options.compilation_cache:
        compilation.use_cache()
    else:
        compilation.without_cache()
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


def until_signalled(server: "http.Server") -> int:
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
    """Print a line in the letters that the terminal has. A terminal that is closed ends no job."""
    with contextlib.suppress(OSError, ValueError):
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def package() -> Any:
    """The server's module.

    Raises:
        ExtraMissingError: a package that it needs is not installed.
    """
    try:
        from sublim_jax.llm.server import http
    except ModuleNotFoundError as error:
        name = (error.name or "a package").partition(".")[0]
        raise errors.ExtraMissingError(
            f"the server needs {name}, which is not installed: pip install 'sublim-jax[serve]'"
        ) from error
    return http


def _opened(options: Options) -> "tuple[http.Server, list[str]]":
    """A server of the models that the options name, and their names there.

    Raises:
        ExtraMissingError: a package is not installed.
        InputError: no model, one that is not local, or an address that needs a key.
        SublimError: a model cannot be opened, or the address is taken.
    """
    from sublim_jax.llm import open as open_llm

    http = package()
    if not options.model:
        raise errors.InputError("give at least one --model, e.g. tiny:100 or hf:DIR")
    access.require_address(options.host, options.allow)
    for name in options.model:
        if not open_llm.is_local(open_llm.parse(name).scheme):
            raise errors.InputError(f"{name!r}: only local models can be served; give tiny:SEED or hf:DIR")
    if options.folder is not None:
        files.require_writable(options.folder / "jobs", what="folder of the server")
    models = {}  # opening them takes long, so all else is checked before
    for name in options.model:
        _announce(f"opening {name}")
        with heartbeat.repeated(
            lambda s, name=name: f"opening {name}: still loading after {s:.0f} s", _announce, every=EVERY
        ):
            opened = open_llm.open_backend(name)
        assert isinstance(opened.backend, LocalBackend)
        models[opened.model] = opened.backend.model(opened.model)
    server = http.Server(
        LocalBackend(models, max_length=options.max_length),
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
