"""The server's files: uploaded training data, kept in a folder where the next server finds it."""

import contextlib
import json
import logging
import math
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import python_multipart
from python_multipart import exceptions, multipart

from sublim_jax import errors, files, specs
from sublim_jax.llm.server import responses
from sublim_jax.llm.server.api_error import APIError

Item = TypeVar("Item")

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a client's mistakes are its own to hear of


class Files:
    """Uploaded training data.

    Args:
        folder: holds two files for each upload, its content and its description.
        max_bytes: of one file.
        max_total: bytes of all files together, those that are arriving included.
        announce: receives lines about files that were damaged.
    """

    def __init__(self, folder: pathlib.Path, *, max_bytes: int, max_total: int, announce: Callable[[str], object]):
        self._folder, self._max_bytes, self._max_total = folder, max_bytes, max_total
        self._changing, self._arriving = threading.Lock(), 0
        earlier = stored(folder.glob("file-*.json"), self._earlier, announce)
        self._infos = {info["id"]: info for info in sorted(earlier, key=lambda info: info["created_at"])}

    @contextlib.contextmanager
    def room(self, num_bytes: int) -> Iterator[None]:
        """Reserves room for a file while it arrives.

        Raises:
            APIError: there is none.
        """
        with self._changing:
            used = self._arriving + sum(info["bytes"] for info in self._infos.values())
            if used + num_bytes > self._max_total:
                raise APIError(
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
        """Keep the file in a multipart body, and return its description.

        Raises:
            APIError: another purpose than fine-tune, a file that is too long, or a malformed body.
            OutputError: it cannot be written.
        """
        parts = form_parts(content_type, body)
        purpose, (name, content) = parts.pop("purpose", ("", b""))[1], parts.pop("file", ("", b""))
        if parts:
            field = min(parts)
            raise APIError(400, f"{field!r} is not supported here; leave it out", param=field)
        if purpose != b"fine-tune":
            text = purpose[:40].decode(errors="replace")
            raise APIError(400, f"purpose: expected 'fine-tune', found {text!r}", param="purpose")
        if not content:
            raise APIError(400, "file: expected a file with content", param="file")
        if len(content) > self._max_bytes:
            raise APIError(
                413, f"the file has {len(content):,} bytes, and {self._max_bytes:,} are allowed", param="file"
            )
        info = {
            "id": responses.identifier("file"),
            "object": "file",
            "bytes": len(content),
            "created_at": responses.now(),
            "filename": name,
            "purpose": "fine-tune",
            "status": "processed",
        }
        files.write(self._content(info["id"]), content)
        files.write(self._about(info["id"]), json.dumps(info))  # last: a file without it was not uploaded whole
        with self._changing:
            self._infos[info["id"]] = info
        return info

    def all(self) -> list[dict[str, Any]]:
        """The description of every file, newest first."""
        with self._changing:
            return list(self._infos.values())[::-1]

    def info(self, name: str) -> dict[str, Any]:
        """The description of a file.

        Raises:
            APIError: there is none.
        """
        with self._changing:
            if name not in self._infos:
                raise APIError(404, f"there is no file {name!r}", param="file_id", code="not_found")
            return self._infos[name]

    def content(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            APIError: there is none.
        """
        self.info(name)
        try:
            return self._content(name).read_bytes()
        except OSError as error:
            raise APIError(
                404, f"the file {name} cannot be read any more ({error.strerror})", param="file_id", code="not_found"
            ) from error

    def delete(self, name: str) -> dict[str, Any]:
        """Delete a file. Jobs that were created with it keep their copy."""
        self.info(name)
        with self._changing:
            self._infos.pop(name, None)
        for path in (self._about(name), self._content(name)):
            path.unlink(missing_ok=True)
        return {"id": name, "object": "file", "deleted": True}

    def _content(self, name: str) -> pathlib.Path:
        return self._folder / f"{name}.jsonl"

    def _about(self, name: str) -> pathlib.Path:
        return self._folder / f"{name}.json"

    def _earlier(self, path: pathlib.Path, info: Any) -> dict[str, Any]:
        specs.check(info["filename"], str, "filename")
        specs.check(info["created_at"], specs.CountOrZero, "created_at")
        if (info["id"], info["bytes"]) != (path.stem, self._content(path.stem).stat().st_size):
            raise errors.InputError("the content beside it does not have the name and the size that it states")
        return info


def stored(
    paths: Iterable[pathlib.Path], parse: Callable[[pathlib.Path, Any], Item], announce: Callable[[str], object]
) -> list[Item]:
    """The items that `parse` makes of JSON files. A damaged file is left out, and left in place, with one line."""
    items = []
    for path in sorted(paths):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            json.dumps(content, allow_nan=False, ensure_ascii=False).encode()  # clients receive it
            items.append(parse(path, content))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            announce(f"{path}: expected a file of an earlier server; it is damaged and left out ({why})")
    return items


def form_parts(content_type: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """The file name, empty for a plain field, and the content of each part of a form.

    Raises:
        APIError: the body is no form, or a malformed one.
    """
    parts: dict[str, tuple[str, bytes]] = {}

    def add_field(field: multipart.Field) -> None:
        parts[_text(field.field_name)] = "", field.value or b""

    def add_file(file: multipart.File) -> None:
        file.file_object.seek(0)
        parts[_text(file.field_name)] = _text(file.file_name), file.file_object.read()

    kind, options = multipart.parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind == b"multipart/form-data" and boundary:
        try:
            parser = python_multipart.FormParser(
                "multipart/form-data", add_field, add_file, boundary=boundary, config={"MAX_MEMORY_FILE_SIZE": math.inf}
            )
            parser.write(body)
            parser.finalize()
        except exceptions.FormParserError as error:
            raise APIError(400, f"the body is no form that can be read ({error})") from error
    if not parts:
        raise APIError(400, "expected a body of multipart/form-data with purpose and file")
    return parts


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
