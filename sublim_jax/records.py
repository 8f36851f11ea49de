"""Records: what a run was and what came out, as one JSON file that figures, tables and README are made from.

A record is written atomically (a new file takes the place of the old one in one step), after every finished chunk of
members, so a killed run leaves a readable record of what it had finished. JSON has no NaN: a number that is not finite
is written as null.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import sys
import tempfile
from typing import Any

import jax
import numpy as np

from sublim_jax import errors

SCHEMA_VERSION = 1
PACKAGES = ("sublim-jax", "jax", "jaxlib", "optax", "numpy")


@dataclasses.dataclass
class Record:
    """One run of one experiment."""

    experiment: str  # module name, e.g. "mnist_aux"
    config: dict[str, Any]
    data: dict[str, Any]  # name, source and checksum of the images
    results: dict[str, Any] = dataclasses.field(default_factory=dict)  # every member's value of every condition
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)  # wall time by phase
    memory: dict[str, float] = dataclasses.field(default_factory=dict)  # see `peak_memory`
    notes: list[str] = dataclasses.field(default_factory=list)  # what a reader must know, e.g. that data are synthetic
    complete: bool = False
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    device: dict[str, Any] = dataclasses.field(default_factory=dict)
    created: str = ""  # UTC, when the run began
    schema: int = SCHEMA_VERSION

    @classmethod
    def begin(cls, experiment: str, config: Any, data: dict[str, Any]) -> "Record":
        """An empty record that knows where and with what it is made. `config` is a dataclass."""
        return cls(
            experiment=experiment,
            config=to_jsonable(config),
            data=data,
            versions=_versions(),
            device=_device(),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )


def to_jsonable(value: Any) -> Any:
    """Dataclasses, named tuples, arrays and paths as what JSON can hold; floats that are not finite as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return to_jsonable(value._asdict())  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return to_jsonable(np.asarray(value).tolist())
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def fingerprint(config: Any) -> str:
    """Ten hex digits that name a config: equal for equal values, whatever the order of the keys."""
    text = json.dumps(to_jsonable(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def write(path: pathlib.Path, record: Record) -> None:
    """Put the record at `path`, whole or not at all.

    Raises:
        RecordError: the folder cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = file.name
            file.write(_dump(to_jsonable(record)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise errors.RecordError(
            f"{path}: the record cannot be written ({error.strerror}); give another place with --record"
        ) from error


def read(path: pathlib.Path) -> Record:
    """The record at `path`.

    Raises:
        RecordError: no such file, not JSON, not a record, or of another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise errors.RecordError(f"{path}: there is no such record; run the experiment that makes it first") from error
    except (OSError, ValueError) as error:
        raise errors.RecordError(f"{path}: this is not a readable JSON file ({error})") from error
    names = {field.name for field in dataclasses.fields(Record)}
    needed = {"experiment", "config", "data", "schema"}
    if not isinstance(content, dict) or not needed.issubset(content):
        raise errors.RecordError(f"{path}: this JSON file is not a record; expected an object with {sorted(names)}")
    if content["schema"] != SCHEMA_VERSION:
        versions = content.get("versions")
        named = versions.get("sublim-jax") if isinstance(versions, dict) else None
        raise errors.RecordError(
            f"{path}: the record has schema {content['schema']}, this version reads {SCHEMA_VERSION}; "
            f"make it again, or read it with the version it names: {named}"
        )
    if not names.issuperset(content):
        raise errors.RecordError(
            f"{path}: this JSON file is not a record; expected an object with {sorted(names)}, found also "
            f"{sorted(content.keys() - names)}"
        )
    return Record(**content)


def resumable(path: pathlib.Path, fresh: Record) -> Record:
    """The record at `path` to go on with, or `fresh` if there is none.

    Raises:
        RecordError: the record there is of another config or other data; going on would mix two experiments.
    """
    if not path.exists():
        return fresh
    old = read(path)
    for what in ("experiment", "config", "data"):
        before, now = getattr(old, what), getattr(fresh, what)
        if what == "data":  # the same arrays may come from another source
            before, now = ({k: v for k, v in d.items() if k != "source"} for d in (before, now))
        if before != now:
            raise errors.RecordError(
                f"{path}: cannot resume, its {what} differs: {_first_difference(before, now)}. "
                f"Use the same flags as before, or another --record for a new run."
            )
    for what in ("versions", "device"):
        before, now = getattr(old, what), getattr(fresh, what)
        if before != now:
            old.notes.append(f"resumed with other {what}: {_first_difference(before, now)}")
    return old


def set_aside(path: pathlib.Path) -> pathlib.Path | None:
    """Rename a record that is in the way of a new run, so that nothing is lost. Returns its new name, if any."""
    if not path.exists():
        return None
    number = 1
    while (aside := path.with_name(f"{path.stem}.old{number}{path.suffix}")).exists():
        number += 1
    path.rename(aside)
    return aside


def peak_memory() -> dict[str, float]:
    """Most memory this process has held so far, in megabytes: `peak_rss_mb`, and `peak_device_mb` where known."""
    found = {}
    with contextlib.suppress(ImportError):  # no such module on Windows
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        found["peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
    on_device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if on_device:
        found["peak_device_mb"] = round(on_device / 1e6, 1)
    return found


def _first_difference(before: Any, now: Any) -> str:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f"{before!r} before, {now!r} now"
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            inner = _first_difference(before.get(key), now.get(key))
            nested = isinstance(before.get(key), dict) and isinstance(now.get(key), dict)
            return f"{key}.{inner}" if nested else f"{key}: {inner}"
    return "nothing"


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{package: _version(package) for package in PACKAGES}}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a copy of the sources that nobody installed
        return "not installed"


def _device() -> dict[str, Any]:
    devices = jax.devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "processes": jax.process_count(),
        "cpu_cores": cores,
    }


def _dump(content: Any, indent: str = "") -> str:
    """JSON with lists of scalars on one line, so that a record of many members stays readable."""
    inner = indent + "  "
    if isinstance(content, dict) and content:
        lines = [f"{inner}{json.dumps(key)}: {_dump(value, inner)}" for key, value in content.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(content, list) and any(isinstance(item, dict | list) for item in content):
        return "[\n" + ",\n".join(inner + _dump(item, inner) for item in content) + f"\n{indent}]"
    return json.dumps(content, ensure_ascii=False)
