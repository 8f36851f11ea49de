"""The server's files: what was uploaded to be trained on, kept in a folder and found there by the next server."""

import contextlib
import email.parser
import email.policy
import json
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from sublim_jax import errors, files, specs
from sublim_jax.llm import wire

Item = TypeVar("Item")


class Files:
    """What was uploaded to be trained on.

    Args:
        folder: holds, for each file, its content and what is said of it.
        max_bytes: of one file.
        max_total: bytes of all files together, those that are arriving included.
        announce: hears of files that were damaged.
    """

    def __init__(self, folder: pathlib.Path, *, max_bytes: int, max_total: int, announce: Callable[[str], object]):
        self._folder, self._max_bytes, self._max_total = folder, max_bytes, max_total
        self._changing, self._arriving = threading.Lock(), 0
        earlier = stored(folder.glob("file-*.json"), self._earlier, announce)
        self._said = {said["id"]: said for said in sorted(earlier, key=lambda said: said["created_at"])}

    @contextlib.contextmanager
    def room(self, num_bytes: int) -> Iterator[None]:
        """Keeps room for a file while it arrives.

        Raises:
            Refusal: there is none.
        """
        with self._changing:
            used = self._arriving + sum(said["bytes"] for said in self._said.values())
            if used + num_bytes > self._max_total:
                raise wire.Refusal(
                    413,
                    f"the files here take {used:,} bytes, this one takes {num_bytes:,}, and {self._max_total:,} are "
                    f"allowed for all together; delete files that are not needed any more",
                    param="file",
                )
            self._arriving += num_bytes
        try:
            yield
        finally:
            with self._changing:
                self._arriving -= num_bytes

    def add(self, content_type: str, body: bytes) -> dict[str, Any]:
        """Keep the file in a multipart body.

        Raises:
            Refusal: another purpose than fine-tune, too long, or no such body.
            OutputError: it cannot be written.
        """
        parts = _parts(content_type, body)
        purpose, (name, content) = parts.pop("purpose", ("", b""))[1], parts.pop("file", ("", b""))
        if parts:
            raise wire.Refusal(400, f"{sorted(parts)[0]!r} is not supported here; leave it out", param=sorted(parts)[0])
        if purpose != b"fine-tune":
            found = purpose[:40].decode(errors="replace")
            raise wire.Refusal(400, f"purpose: expected 'fine-tune', found {found!r}", param="purpose")
        if not content:
            raise wire.Refusal(400, "file: expected a file with content", param="file")
        if len(content) > self._max_bytes:
            raise wire.Refusal(
                413, f"the file has {len(content):,} bytes, and {self._max_bytes:,} are allowed", param="file"
            )
        said = {
            "id": wire.identifier("file"),
            "object": "file",
            "bytes": len(content),
            "created_at": wire.now(),
            "filename": name,
            "purpose": "fine-tune",
            "status": "processed",
        }
        files.write(self._content(said["id"]), content)
        files.write(self._about(said["id"]), json.dumps(said))  # last: a file without it was not uploaded whole
        with self._changing:
            self._said[said["id"]] = said
        return said

    def all(self) -> list[dict[str, Any]]:
        """What is said of every file, newest first."""
        with self._changing:
            return list(self._said.values())[::-1]

    def one(self, name: str) -> dict[str, Any]:
        """What is said of this file.

        Raises:
            Refusal: there is none.
        """
        with self._changing:
            if name not in self._said:
                raise wire.Refusal(404, f"there is no file {name!r}", param="file_id", code="not_found")
            return self._said[name]

    def content(self, name: str) -> bytes:
        """The bytes of this file.

        Raises:
            Refusal: there is none.
        """
        self.one(name)
        try:
            return self._content(name).read_bytes()
        except OSError as error:
            raise wire.Refusal(
                404, f"the file {name} cannot be read any more ({error.strerror})", param="file_id", code="not_found"
            ) from error

    def delete(self, name: str) -> dict[str, Any]:
        """Forget this file. Jobs that were created with it keep what they read."""
        self.one(name)
        with self._changing:
            self._said.pop(name, None)
        for path in (self._about(name), self._content(name)):
            path.unlink(missing_ok=True)
        return {"id": name, "object": "file", "deleted": True}

    def _content(self, name: str) -> pathlib.Path:
        return self._folder / f"{name}.jsonl"

    def _about(self, name: str) -> pathlib.Path:
        return self._folder / f"{name}.json"

    def _earlier(self, path: pathlib.Path, said: Any) -> dict[str, Any]:
        specs.check(said["filename"], str, "filename")
        specs.check(said["created_at"], specs.CountOrZero, "created_at")
        if (said["id"], said["bytes"]) != (path.stem, self._content(path.stem).stat().st_size):
            raise errors.InputError("the content beside it is not what it says")
        return said


def stored(
    paths: Iterable[pathlib.Path], parse: Callable[[pathlib.Path, Any], Item], announce: Callable[[str], object]
) -> list[Item]:
    """What `parse` makes of each JSON file. One that is damaged is left out, and left where it is, with one line."""
    found = []
    for path in sorted(paths):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            json.dumps(content, allow_nan=False)  # it is told to clients
            found.append(parse(path, content))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            announce(f"{path}: expected what an earlier server wrote; it is damaged and left out ({why})")
    return found


def _parts(content_type: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """Name of the file, or nothing, and content of each part of a form."""
    head = b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n"
    found = {}
    try:
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        form = message.get_content_type() == "multipart/form-data" and message.is_multipart()
        for part in message.iter_parts() if form else ():
            payload = part.get_payload(decode=True)
            name = part.get_param("name", header="content-disposition")
            filename = (part.get_filename() or "").encode(errors="surrogateescape").decode(errors="replace")
            found[str(name)] = (filename, payload if isinstance(payload, bytes) else b"")
    except Exception as error:  # the standard library's parser raises what it likes at malformed headers
        raise wire.Refusal(400, f"the body is no form that can be read ({type(error).__name__})") from error
    if not found:
        raise wire.Refusal(400, "expected a body of multipart/form-data with purpose and file")
    return found
