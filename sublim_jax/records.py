"""Records: what a run was and what came out, as one JSON file that figures, tables and README are made from.

A record is written atomically (a new file takes the place of the old one in one step), after every finished chunk of
members, so a killed run leaves a readable record of what it had finished. JSON has no NaN: a number that is not finite
is written as null.

A record describes itself: its `description` has the conditions or arms in their order, with labels and published
values, so that a figure is drawn from the file alone; its `provenance` says which code and which processor made it.
"""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from types import MappingProxyType
from typing import Any, Literal, TypedDict, get_type_hints

import jax
import numpy as np

from sublim_jax import errors, files, migration, provenance, specs

SCHEMA_VERSION = migration.PRESENT
PACKAGES = ("sublim-jax", "jax", "jaxlib", "optax", "numpy")


Provenance = provenance.Provenance


class Data(TypedDict):
    """What a run has read."""

    name: str
    source: str
    checksum: str | None


@dataclasses.dataclass
class Record:
    """One run of one experiment."""

    experiment: str  # module name, e.g. "mnist_aux"
    config: dict[str, Any]
    data: Data
    description: dict[str, Any] = dataclasses.field(default_factory=dict)  # what figures need beside the results
    results: dict[str, Any] = dataclasses.field(default_factory=dict)  # every member's value of every condition
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)  # wall time by phase
    memory: dict[str, float] = dataclasses.field(default_factory=dict)  # see `peak_memory`
    notes: list[str] = dataclasses.field(default_factory=list)  # what a reader must know, e.g. that data are synthetic
    complete: bool = False
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    device: dict[str, Any] = dataclasses.field(default_factory=dict)
    provenance: Provenance | None = None  # None: not recorded, as in records that began with schema 1
    created: str = ""  # UTC, when the run began
    schema: int = SCHEMA_VERSION

    @property
    def note_sentences(self) -> list[str]:
        """The notes as sentences, for captions and pages."""
        return [f"{note[0].upper()}{note[1:]}." for note in self.notes]

    @classmethod
    def begin(cls, experiment: str, config: Any, data: Any, *, description: Any = None) -> "Record":
        """An empty record that knows where and with what it is made.

        Args:
            config: a dataclass.
            data: what `Data` says.
            description: what figures need beside the results, as the experiment's form has it.

        Raises:
            InputError: a number in the config is not finite.
        """
        return cls(
            experiment=experiment,
            config=to_json(config, finite=True),
            data=data,
            description=to_json(description or {}, finite=True),
            versions=_versions(),
            device=_device(),
            provenance=provenance.here(),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )


UNLESS_DEFAULT = MappingProxyType({"unless_default": True})
"""Metadata of a dataclass's field that came later: JSON has it only where it differs from its default, so that configs
that do not use it are equal to those of older records."""


def to_json(value: Any, *, finite: bool = False) -> Any:
    """Dataclasses, named tuples, arrays and paths as what JSON can hold; floats that are not finite as None. Fields
    with the metadata `UNLESS_DEFAULT` are left out at their default.

    Args:
        finite: refuse floats that are not finite, with an InputError.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json(getattr(value, field.name), finite=finite)
            for field in dataclasses.fields(value)
            if not (field.metadata.get("unless_default") and getattr(value, field.name) == field.default)
        }
    if isinstance(value, dict):
        return {str(key): to_json(item, finite=finite) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return to_json(value._asdict(), finite=finite)  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return to_json(np.asarray(value).tolist(), finite=finite)
    if isinstance(value, list | tuple):
        return [to_json(item, finite=finite) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        if finite:
            raise errors.InputError(f"expected finite numbers in a config, got {value}")
        return None
    return value


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted names."""
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {name: value for key, item in tree.items() for name, value in flatten(item, f"{prefix}{key}.").items()}


def fingerprint(config: Any) -> str:
    """Ten hex digits that name a config: equal for equal values, whatever the order of the keys."""
    return files.digest(to_json(config, finite=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """What the records of an experiment hold, and which units a complete one has.

    A record is believed only as far as it fits its form: `complete` is computed from the units that are there and never
    read from the file.
    """

    experiment: str
    results: Any  # annotation for `specs.check`
    config: Any = dict[str, Any]  # the same; a TypedDict of what readers of the record use
    wanted: Callable[[Record], Iterable[str]]
    """Units that the config asks for, e.g. numbers of members. Each has results of its own."""
    present: Callable[[Record], Iterable[str]]
    """Units that the results have."""
    description: Any = dict[str, Any]  # annotation for `specs.check`
    check: Callable[[Record], None] = lambda record: None
    """What an annotation cannot say. Raises InputError."""

    def is_complete(self, record: Record) -> bool:
        """Whether all units are there."""
        present = set(self.present(record))
        return all(unit in present for unit in self.wanted(record))

    def require(self, record: Record) -> None:
        """Refuse a record of another form.

        Raises:
            InputError: the record is of another experiment, something in it is missing or of another type, or it has
                no unit or one that its config does not ask for.
        """
        specs.check(record.experiment, Literal[self.experiment], "experiment")
        specs.check(record.config, self.config, "config")
        specs.check(record.description, self.description, "description")
        specs.check(record.results, self.results, "results")
        self.check(record)
        present = set(self.present(record))
        if not present:
            raise errors.InputError("results: nothing is there")
        if unasked := sorted(present.difference(self.wanted(record))):
            raise errors.InputError(f"results: there is {unasked[0]!r}, which the config does not ask for")


IS_RECORD = files.json_with("experiment", "config", "data", "schema")
"""Recognises a record, of any version, by its keys."""


def write(path: pathlib.Path, record: Record) -> None:
    """Put the record at `path`, whole or not at all. What may be there already is another record.

    Raises:
        OutputError: something else is there, or the folder cannot be written.
    """
    # Names of files may hold bytes that are no text; as an escape they are JSON.
    content = (_dump(to_json(record)) + "\n").encode("utf-8", "backslashreplace")
    files.write(path, content, ours=IS_RECORD, what="record")


def _read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file.

    Raises:
        RecordError: no such file, or not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except FileNotFoundError as error:
        raise errors.RecordError(f"{path}: there is no such record; run the experiment that makes it first") from error
    except (OSError, ValueError, RecursionError) as error:
        raise errors.RecordError(f"{path}: this is not a readable JSON file ({error})") from error


def read_old(path: pathlib.Path) -> Record:
    """The record at `path`, of this schema or an earlier one, in the present schema.

    Raises:
        RecordError: as `read`, which refuses earlier schemas.
    """
    content = _read_json(path)
    try:
        content = migration.upgraded(content) if isinstance(content, dict) else content
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise errors.RecordError(f"{path}: this record is damaged ({error!r}); restore it, or make it again") from error
    return _record(path, content)


def read(path: pathlib.Path, form: Form | None = None) -> Record:
    """The record at `path`.

    Args:
        form: of the experiment that it must be of; without one only what all records have is checked, and `complete`
            is what the file says.

    Raises:
        RecordError: no such file, not JSON, not a record, of another schema, of another form, or damaged.
    """
    record = _record(path, _read_json(path))
    try:
        if form is not None:
            form.require(record)
            record.complete = form.is_complete(record)
    except errors.InputError as error:
        raise _damaged(path, error) from error
    return record


def _record(path: pathlib.Path, content: Any) -> Record:
    """The record of this content of a file.

    Raises:
        RecordError: it is none, of another schema, or damaged.
    """
    names = {field.name for field in dataclasses.fields(Record)}
    needed = {"experiment", "config", "data", "schema"}
    if not isinstance(content, dict) or not needed.issubset(content):
        raise errors.RecordError(f"{path}: this JSON file is not a record; expected an object with {sorted(names)}")
    if content["schema"] in range(1, SCHEMA_VERSION):
        raise errors.RecordError(
            f"{path}: the record has schema {content['schema']}, this version reads {SCHEMA_VERSION}; rewrite it in "
            f"place, with every value as it is, by: python -m experiments.migrate {path}"
        )
    if content["schema"] != SCHEMA_VERSION:
        versions = content.get("versions")
        named = versions.get("sublim-jax") if isinstance(versions, dict) else None
        raise errors.RecordError(
            f"{path}: the record has schema {content['schema']!r}, this version reads {SCHEMA_VERSION!r}; "
            f"make it again, or read it with the version it names: {named}"
        )
    if not names.issuperset(content):
        raise errors.RecordError(
            f"{path}: this JSON file is not a record; expected an object with {sorted(names)}, found also "
            f"{sorted(content.keys() - names)}"
        )
    try:
        for name, annotation in get_type_hints(Record, include_extras=True).items():
            if name in content:
                specs.check(content[name], annotation, name)
        return Record(**content)
    except errors.InputError as error:
        raise _damaged(path, error) from error


def _damaged(path: pathlib.Path, error: errors.InputError) -> errors.RecordError:
    return errors.RecordError(
        f"{path}: {error}. The record was damaged, edited or merged by hand, or is not the one that was meant; "
        f"restore it, or make it again."
    )


class Output:
    """The place of one run's record; see `opened`."""

    def __init__(
        self,
        path: pathlib.Path | None,
        form: Form,
        *,
        old: Record | None = None,
        writes: bool = True,
        announce: Callable[[str], object] = print,
    ):
        self._path, self._form, self._old, self._writes, self._announce = path, form, old, writes, announce

    def begin(self, fresh: Record) -> Record:
        """The record to go on with: the one to be resumed, or `fresh`. One that is in the way is renamed.

        Raises:
            RecordError: the record to be resumed is of another config or other data.
        """
        if self._path is not None and self._old is not None:
            return _resumed(self._path, self._old, fresh)
        if self._path is not None and self._writes:
            aside = files.set_aside(self._path, ours=IS_RECORD, what="record")
            if aside:
                self._announce(f"an earlier record was in the way and is now {aside}")
        return fresh

    def write(self, record: Record) -> None:
        """Write what is there by now. Completeness and peak memory are set here."""
        record.complete = self._form.is_complete(record)
        record.memory = peak_memory()
        if self._path is not None and self._writes:
            write(self._path, record)


@contextlib.contextmanager
def opened(
    path: pathlib.Path | None,
    form: Form,
    *,
    resume: bool = False,
    writes: bool = True,
    announce: Callable[[str], object] = print,
) -> Iterator[Output]:
    """The place of a run's record, for the length of the run. To be called before anything else.

    The place is refused now if the run could not write there at its end: a folder, a file that is not a record, a
    folder that cannot be written, or a record that another process is writing.

    Args:
        path: None for a run without a record.
        resume: the record there, if any, is to be continued.
        writes: False in further processes of one run, of which the first writes.

    Raises:
        OutputError: the place is refused; `LockedError` if another process holds it.
        RecordError: `resume`, and what is there is not a record of this form.
    """
    if path is None:
        yield Output(None, form)
        return
    files.require_free(path, ours=files.anything if resume else IS_RECORD, what="record")
    with files.Lock(path) if writes else contextlib.nullcontext():
        old = read(path, form) if resume and os.path.lexists(path) else None
        yield Output(path, form, old=old, writes=writes, announce=announce)


def _resumed(path: pathlib.Path, old: Record, fresh: Record) -> Record:
    """The old record, with notes on what is different now and the present description, which may have got better."""
    for what in ("experiment", "config", "data"):
        before, now = getattr(old, what), getattr(fresh, what)
        if what == "data":  # the same arrays may come from another source
            before, now = ({k: v for k, v in d.items() if k != "source"} for d in (before, now))
        if before != now:
            raise errors.RecordError(
                f"{path}: cannot resume, its {what} differs: {_first_difference(before, now)}. "
                f"Use the same flags as before, or another --record for a new run."
            )
    for what in ("versions", "device", "provenance"):
        before, now = getattr(old, what) or {}, getattr(fresh, what) or {}
        if before != now:
            old.notes.append(f"resumed with other {what}: {_first_difference(before, now)}")
    old.description = fresh.description
    return old


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. Of two with one key, as two records merged by hand have, JSON would drop the first."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content


def peak_memory() -> dict[str, float]:
    """Most memory this process has held so far, in megabytes: `peak_rss_mb`, and `peak_device_mb` where known."""
    peaks = {}
    with contextlib.suppress(ImportError):  # no such module on Windows
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peaks["peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
    on_device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if on_device:
        peaks["peak_device_mb"] = round(on_device / 1e6, 1)
    return peaks


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
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "processes": jax.process_count(),
        "cpu_cores": provenance.num_cpu_cores(),
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
