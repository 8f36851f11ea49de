"""Completions on disk, so that nothing is asked for twice.

A store is one SQLite file. Its table `answers` has a row for each completion or list of scores: `key`, a hash of
everything that decides how the answer is distributed (the weights, the model, the messages, how it is sampled, and
which draw it is), and `content`, the answer as JSON. `budgeted` asks for what is missing:

    with store.Store(path) as answers:
        for completion in budgeted.sample_stored(backend, model, chats, params, answers, budget):
            ...

One process writes and any number read, in WAL mode. A row is committed before its answer is handed on, so a killed
process loses what was in flight and no more; until the next writer closes the store, its last rows are in NAME-wal.
No keys, passwords, headers or prompts are written: of the request a row holds names and numbers only.

    python -m sublim_jax.llm.store export answers.sqlite answers.jsonl   a JSON object for each row, in their order
    python -m sublim_jax.llm.store import answers.jsonl answers.sqlite   and back; also stores of earlier versions
    sqlite3 answers.sqlite "SELECT content ->> 'finish', count(*) FROM answers GROUP BY 1"
"""

import collections
import contextlib
import json
import os
import pathlib
import shlex
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from sublim_jax import errors, files
from sublim_jax.llm import store_rows
from sublim_jax.llm.backend import Chat, ChoiceScores, Completion, SamplingParams

APPLICATION = int.from_bytes(b"subl")
"""In the header of every store (`PRAGMA application_id`), which tells it from other SQLite files."""
SCHEMA = f"""
    PRAGMA journal_mode = MEMORY;
    PRAGMA application_id = {APPLICATION};
    CREATE TABLE answers (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, content TEXT NOT NULL);
"""
PAGES = 200
"""Pages of 4 KiB in the log before SQLite waits for the disk. An answer takes two or three: a machine that loses power
loses about a hundred answers at most."""


class Slot(NamedTuple):
    """A completion that is asked for and not in the store."""

    chat: int  # as in `Completion`
    sample: int  # as in `Completion`
    draw: int  # its number among all draws of a chat with these messages: the index in the key
    key: str


class Found(NamedTuple):
    """Every (chat, sample) that was asked for, once: here or missing."""

    here: tuple[Completion, ...]
    missing: tuple[Slot, ...]


class Store:
    """The completions and choice scores in one file; see the top of this module.

    Opened to write, it holds the lock of `files.Lock`, which ends with the process however that ends. Read-only, it
    needs no lock, changes no answer and sees what is committed; no file is an empty store. A store that was closed is a
    single file, unless somebody still reads it. All processes that use it must be on one machine.
    """

    def __init__(self, path: str | os.PathLike[str], *, readonly: bool = False):
        """Open a store, making it if it is opened to write and not there.

        Raises:
            StoreError: another writer holds it, it cannot be read or written, or it is another file than a store, e.g.
                one of an earlier version, whose answers `import` brings over.
        """
        self.path = pathlib.Path(path)
        self.readonly = readonly
        self._lock = files.Lock(self.path)
        self._database: sqlite3.Connection | None = None
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._release)
            if not readonly:
                self._acquire()
            with self._failing("opened"):
                self._database = self._open()
            on_failure.pop_all()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._query("SELECT count(*) FROM answers")[0][0]

    def __contains__(self, key: str) -> bool:
        return bool(self._query("SELECT 1 FROM answers WHERE key = ?", key))

    def completion(self, key: str) -> store_rows.Answer | None:
        """The completion of this key, if it is here."""
        value = self._value(key)
        return value if isinstance(value, store_rows.Answer) else None

    def scores(self, key: str) -> ChoiceScores | None:
        """The choice scores of this key, if they are here."""
        value = self._value(key)
        return value if isinstance(value, ChoiceScores) else None

    def find(self, fingerprint: str, model: str, chats: Sequence[Chat], params: SamplingParams) -> Found:
        """What is here of these samples, and what is missing.

        A chat that stands there twice is drawn from twice as often: the second one's samples are further draws, never
        the first one's again.
        """
        here, missing = [], []
        earlier: collections.Counter[Chat] = collections.Counter()
        for index, chat in enumerate(chats):
            for sample in range(params.num_samples):
                draw = earlier[chat] * params.num_samples + sample
                key = store_rows.completion_key(fingerprint, model, chat, params, draw)
                answer = self.completion(key)
                if answer is None:
                    missing.append(Slot(index, sample, draw, key))
                else:
                    here.append(Completion(index, sample, *answer))
            earlier[chat] += 1
        return Found(tuple(here), tuple(missing))

    def put(self, key: str, value: Completion | ChoiceScores, **about: str | int) -> None:
        """Commit one row.

        Args:
            about: names and numbers for people who read the file, e.g. the model; they are not read back. Passwords and
                queries in addresses are left out.

        Raises:
            InputError: the key is here already, a score is not a log-probability, or a refusal has no reason.
            StoreError: the store is read-only or closed, or the disk is full.
        """
        row = store_rows.Answer(*value[2:]) if isinstance(value, Completion) else value
        if not self._insert([(key, store_rows.to_json(row, about))]):
            raise errors.InputError(f"{self.path}: {key} is in the store already")

    def export(self) -> Iterator[str]:
        """Every row as a line of JSON, in the order in which they were put there, as of now."""
        database = self._connection()
        with self._failing("read"):
            for key, content in database.execute("SELECT key, content FROM answers ORDER BY id"):
                yield json.dumps({"key": key} | json.loads(content), separators=(",", ":")) + "\n"

    def add(self, lines: Iterable[store_rows.Line]) -> int:
        """Commit all of these rows but those whose key is here already. Returns how many were new."""
        return self._insert([(line.key, store_rows.to_json(line.value, line.about)) for line in lines])

    def close(self) -> None:
        """Wait for the disk and let the next writer in. A second time does nothing.

        Raises:
            StoreError: the disk fails.
        """
        try:
            if self._database is not None and not self.readonly:
                with self._failing("written"):
                    self._database.execute("PRAGMA wal_checkpoint").fetchall()
                with contextlib.suppress(sqlite3.OperationalError):  # somebody reads: the log stays
                    self._database.execute("PRAGMA busy_timeout = 0")
                    self._database.execute("PRAGMA journal_mode = DELETE").fetchall()
        finally:
            self._release()

    def _acquire(self) -> None:
        """Take the lock, and make the file if there is none."""
        try:
            files.require_free(self.path, ours=files.anything, what="store")
            self._lock.acquire()
            if _is_empty(self.path):
                self._require_no_earlier_store()
                create(self.path)
        except errors.LockedError as error:
            raise errors.StoreError(f"{error} Reading the store needs no lock.") from error
        except errors.OutputError as error:
            raise errors.StoreError(str(error)) from error

    def _open(self) -> sqlite3.Connection:
        if self.readonly and _is_empty(self.path):
            database = sqlite3.connect(":memory:")
            database.executescript(SCHEMA)
            return database
        self._require_store()
        database = _connect(self.path, "ro" if self.readonly else "rw")
        if not self.readonly:
            database.executescript(
                f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = {PAGES}"
            )
        return database

    def _require_store(self) -> None:
        with self.path.open("rb") as file:
            head = file.read(100)
        if store_rows.LINE_START.match(head):
            raise errors.StoreError(f"{self.path}: expected a store, found JSON lines. {_import_it(self.path)}")
        if not head.startswith(b"SQLite format 3\0") or head[68:72] != APPLICATION.to_bytes(4):
            raise errors.StoreError(
                f"{self.path}: this is another file, not a store of completions; it begins with {head[:40]!r}. Give "
                f"another path."
            )

    def _require_no_earlier_store(self) -> None:
        """Refuse to begin a store beside that of an earlier version, whose answers would be paid for again."""
        earlier = self.path.with_suffix(".jsonl")
        with contextlib.suppress(OSError), earlier.open("rb") as file:
            if store_rows.LINE_START.match(file.read(100)):
                raise errors.StoreError(
                    f"{self.path}: there is no store yet, and beside it is {earlier.name}, a store of an earlier "
                    f"version. To begin without its answers, move it away. {_import_it(earlier)}"
                )

    def _connection(self) -> sqlite3.Connection:
        if self._database is None:
            raise errors.StoreError(f"{self.path}: the store was closed; open it again")
        return self._database

    def _query(self, statement: str, *values: str) -> list[tuple]:
        database = self._connection()
        with self._failing("read"):
            return database.execute(statement, values).fetchall()

    def _value(self, key: str) -> store_rows.Value | None:
        for (content,) in self._query("SELECT content FROM answers WHERE key = ?", key):
            try:
                return store_rows.from_json(json.loads(content))
            except ValueError as error:
                raise errors.StoreError(
                    f"{self.path}: the answer with the key {key} was damaged after it was written ({error}). Delete "
                    f"its row; it will be asked for again."
                ) from error
        return None

    def _insert(self, rows: Sequence[tuple[str, str]]) -> int:
        """Commit all rows together. Returns how many had a key that was not here."""
        database = self._connection()
        if self.readonly:
            raise errors.StoreError(f"{self.path}: the store was opened read-only; open it to write")
        try:
            with self._failing("written"), database:
                statement = "INSERT INTO answers (key, content) VALUES (?, ?) ON CONFLICT (key) DO NOTHING"
                return database.executemany(statement, rows).rowcount
        except errors.StoreError:
            self._release()
            raise

    @contextlib.contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """Says what could not be done with the store."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise errors.StoreError(
                f"{self.path}: the store cannot be {what} ({reason}). What was stored before is kept; see to the "
                f"folder and the disk, or give another path."
            ) from error

    def _release(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        self._lock.release()


def create(path: pathlib.Path) -> None:
    """Make an empty store.

    Raises:
        OutputError: something of the user's is there, or the folder cannot be written.
    """
    place = files.resolved(path)
    for ending in ("-wal", "-shm", "-journal"):  # what SQLite writes beside it
        files.require_free(place.with_name(place.name + ending), what="log of a new store")
    with files.writing(path, what="store") as temporary, contextlib.closing(_connect(temporary, "rw")) as database:
        database.executescript(SCHEMA)


def _connect(path: pathlib.Path, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, check_same_thread=False)


def _is_empty(path: pathlib.Path) -> bool:
    return not path.exists() or (path.is_file() and path.stat().st_size == 0)


def _import_it(path: pathlib.Path) -> str:
    """Advice about a store of an earlier version."""
    command = ["python", "-m", "sublim_jax.llm.store", "import", str(path), str(path.with_suffix(".sqlite"))]
    return f"Stores are SQLite files now; bring its answers over with: {shlex.join(command)}"


# ---------------------------------------------------------------------------------------------------------------------
# Commands


def export_lines(path: pathlib.Path, out: pathlib.Path) -> None:
    """Write a store as JSON lines.

    Args:
        path: a store; it may be in use.
        out: a new file.
    """
    if _is_empty(path):
        raise errors.StoreError(f"{path}: there is no store. Check the path.")
    with (
        Store(path, readonly=True) as store,
        files.writing(out) as temporary,
        temporary.open("w", encoding="ascii") as file,
    ):
        file.writelines(store.export())
    print(f"exported {path} to {out}")


def import_lines(source: pathlib.Path, path: pathlib.Path) -> None:
    """Bring JSON lines into a store: those of export, or a whole store of an earlier version.

    Args:
        source: is left as it is.
        path: a store, or a new file. Its own answers stay, also where the lines have others for the same keys.
    """
    lines = list(store_rows.read_lines(source))
    if not lines:
        raise errors.StoreError(f"{source}: expected JSON lines of a store, found no whole line. Check the path.")
    if _is_empty(path):
        create(path)
    with Store(path) as store:
        print(f"{store.add(lines):,} of {len(lines):,} answers are new in {path}")


def main() -> None:
    """Export a store, or import one."""
    import tyro

    try:
        tyro.extras.subcommand_cli_from_dict(
            {"export": export_lines, "import": import_lines},
            description=__doc__,
            config=(tyro.conf.PositionalRequiredArgs,),
        )
    except errors.SublimError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
