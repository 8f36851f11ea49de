"""Where results go: files are written whole or not at all, and nothing of the user's is moved, replaced or lost.

Every command writes through this module. The rule:

- A path is free, or it holds a file that we made ourselves, which the caller recognises (`ours`), or it is refused. A
  folder is never replaced by a file, a file never by a folder.
- A file is written beside its place, reaches the disk, and then takes its place in one step. A link keeps pointing at
  the file that it pointed at.
- A process that writes to a path more than once holds its lock meanwhile, so that two runs never share one record.
- Whether a place can be written is asked before the work, not after it (`require_writable`).
"""

import contextlib
import glob
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import socket
import stat
from collections.abc import Callable, Iterator

import filelock

from sublim_jax import errors

Recognizer = Callable[[pathlib.Path], bool]
"""Whether a file (or a folder, where a folder is written) is one that we made and may replace."""


def digest(value: object) -> str:
    """Ten hex digits that name a JSON value: equal for equal values, whatever the order of the keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def anything(path: pathlib.Path) -> bool:
    """A recognizer for places that are only ours, such as the cache: every regular file may be replaced."""
    return path.is_file()


def json_with(*keys: str) -> Recognizer:
    """A recognizer of JSON objects that have all these keys."""

    def ours(path: pathlib.Path) -> bool:
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return False
        return isinstance(content, dict) and content.keys() >= set(keys)

    return ours


MAKER = "sublim-jax"
"""What our figures name as the program that made them."""


def is_figure(path: pathlib.Path) -> bool:
    """Recognises a PNG or PDF of ours by the program that it names, which `figures.style` writes into it."""
    content = path.read_bytes()
    if content.startswith(b"%PDF-"):
        return f"/Creator ({MAKER}".encode() in content
    before_image = content.partition(b"IDAT")[0]
    return content.startswith(b"\x89PNG\r\n\x1a\n") and f"tEXtSoftware\0{MAKER}".encode() in before_image


def require_free(path: pathlib.Path, *, ours: Recognizer | None = None, what: str = "file") -> None:
    """Refuse a path that holds something of the user's. An empty file holds nothing.

    Args:
        ours: recognises what may be replaced; by default nothing may.
        what: what is to be written, for the message.

    Raises:
        OutputError: a folder, or a file that is not ours, is at `path`, or a link to nothing.
    """
    try:
        if not os.path.lexists(path):
            return
        if path.is_dir():
            raise errors.OutputError(f"{path}: this is a folder; expected the path of a {what}. Name a file in it.")
        if not path.exists():
            raise errors.OutputError(
                f"{path}: this is a link to a file that is not there; expected the path of a {what}. Remove the link, "
                f"or give another path."
            )
        if path.is_file() and (path.stat().st_size == 0 or (ours is not None and ours(path))):
            return
    except OSError as error:
        raise _unwritable(path, what, error) from error
    raise errors.OutputError(
        f"{path}: a file is there that is not a {what} of sublim-jax, and it is not replaced. Give another path, or "
        f"move that file away."
    )


def require_writable(path: pathlib.Path, *, what: str = "file") -> None:
    """Try to write in the folder of `path`, or where that folder would be made; nothing is left there.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    made: list[pathlib.Path] = []
    try:
        folder = path.parent
        absent = [parent for parent in (folder, *folder.parents) if not os.path.lexists(parent)]
        for parent in reversed(absent):
            parent.mkdir()
            made.append(parent)
        probe = _create(path)
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, what, error) from error
    finally:
        for parent in reversed(made):
            with contextlib.suppress(OSError):  # another process may have put something into it
                parent.rmdir()


def write(path: pathlib.Path, content: str | bytes, *, ours: Recognizer | None = None, what: str = "file") -> None:
    """Put `content` at `path`, whole or not at all. Text is written as UTF-8 with its newlines as they are.

    Raises:
        OutputError: as `require_free` and `require_writable`, or the disk is full.
    """
    with writing(path, ours=ours, what=what) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def writing(path: pathlib.Path, *, ours: Recognizer | None = None, what: str = "file") -> Iterator[pathlib.Path]:
    """Yields a temporary file beside `path` to write to; it takes the place of `path` at the end.

    The file keeps the permissions of the one that it replaces, and a new one has those that the system gives to new
    files. If the body raises, `path` is as it was and the temporary file is removed; a process that is killed leaves
    it behind, hidden, until the next one takes the lock of `path`.

    Raises:
        OutputError: as `write`.
    """
    require_free(path, ours=ours, what=what)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = resolved(path)
        temporary = _create(target)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        require_free(path, ours=ours, what=what)  # the body may have taken hours
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _unwritable(path, what, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def require_folder(path: pathlib.Path, *, ours: Recognizer | None = None, what: str = "folder") -> None:
    """Make the folder `path` to write several files in, unless the user has something there.

    Args:
        ours: recognises a folder that we may write in, e.g. by a file in it. By default the folder must be empty or
            absent.

    Raises:
        OutputError: a file is there, a folder that is neither empty nor ours, or it cannot be made or written.
    """
    try:
        if os.path.lexists(path) and not path.is_dir():
            raise errors.OutputError(f"{path}: this is a file; expected the path of a {what}.")
        if path.is_dir() and any(path.iterdir()) and not (ours is not None and ours(path)):
            raise errors.OutputError(
                f"{path}: this folder has files in it that do not belong to a {what} of sublim-jax, and they are not "
                f"replaced. Give an empty folder or a new one."
            )
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, what, error) from error
    require_writable(path / "file", what=what)


def require_absent(path: pathlib.Path, *, what: str = "folder") -> None:
    """Refuse a place where anything is, also an empty folder.

    Raises:
        OutputError: there is something.
    """
    if os.path.lexists(path):
        raise errors.OutputError(
            f"{path}: something is there already, and a {what} replaces nothing; give another place"
        )


@contextlib.contextmanager
def writing_folder(path: pathlib.Path, *, what: str = "folder") -> Iterator[pathlib.Path]:
    """Yields the name of a folder beside `path` to write to; it takes the place of `path`, which must be free.

    If the body raises, nothing is left of it.

    Raises:
        OutputError: as `require_absent` and `require_writable`, or the disk is full.
    """
    require_absent(path, what=what)
    require_writable(path, what=what)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        require_absent(path, what=what)
        unfinished.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, what, error) from error
    finally:
        remove_folder(unfinished)


def replace_folder(finished: pathlib.Path, path: pathlib.Path) -> None:
    """Let a finished folder take the place of the one at `path`, which is deleted. Only for places in the cache.

    Raises:
        OutputError: the disk refuses.
    """
    try:
        remove_folder(path)
        finished.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, "folder", error) from error


def remove_folder(path: pathlib.Path) -> None:
    """Delete a folder with all that is in it, if it is there. Only for places in the cache."""
    shutil.rmtree(path, ignore_errors=True)


def set_aside(path: pathlib.Path, *, ours: Recognizer, what: str = "file") -> pathlib.Path | None:
    """Rename a file of ours that is in the way of a new one, so that it is kept. Returns its new name, if any.

    Raises:
        OutputError: what is in the way is not ours, or cannot be renamed.
    """
    require_free(path, ours=ours, what=what)
    target = resolved(path)
    if not target.exists():
        return None
    number = 1
    while os.path.lexists(aside := target.with_name(f"{target.stem}.old{number}{target.suffix}")):
        number += 1
    try:
        target.rename(aside)
    except OSError as error:
        raise _unwritable(path, what, error) from error
    return aside


def resolved(path: pathlib.Path) -> pathlib.Path:
    """The file that a link points at; any other path as it is."""
    return path.resolve() if path.is_symlink() else path


class Lock:
    """The right to write to `path`: held by one process at a time, and free again when that process ends, however.

    The lock is the file `.NAME.lock` beside the path, or in it if it is a folder, and stays there; `.NAME.writer` says
    who holds it. Links to one file share its lock. Whoever takes the lock removes what a killed process left half
    written.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        target, folder = resolved(path), path.is_dir()
        self._place = target / target.name if folder else target
        self._leftovers = _temporary("*" if folder else glob.escape(target.name), "[0-9a-f]" * 8)
        # Any thread may give it back.
        self._lock = filelock.FileLock(self._place.with_name(f".{self._place.name}.lock"), thread_local=False)
        self._writer = self._place.with_name(f".{self._place.name}.writer")

    def acquire(self, *, wait: bool = False) -> None:
        """Take the lock at once or not at all.

        Args:
            wait: until the process that holds it gives it back.

        Raises:
            LockedError: another process holds it; the message has its process id.
            OutputError: the folder cannot be written.
        """
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=-1 if wait else 0)
            self._writer.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
            for leftover in self._place.parent.glob(self._leftovers):
                leftover.unlink(missing_ok=True)
        except filelock.Timeout as error:
            if not os.path.exists(self._lock.lock_file):  # nobody can hold it: no such file can be made there
                raise _unwritable(self._path, "file", OSError("no lock file can be made there")) from error
            raise errors.LockedError(
                f"{self._path}: {self._holder()} is writing to it. Wait for that process to end, or give another path."
            ) from error
        except OSError as error:
            self.release()
            raise _unwritable(self._path, "file", error) from error

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                self._writer.unlink()
            self._lock.release()

    def _holder(self) -> str:
        try:
            return self._writer.read_text(encoding="utf-8").strip() or "another process"
        except OSError:
            return "another process"

    def __enter__(self) -> "Lock":
        self.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def _temporary(name: str, digits: str) -> str:
    return f".{name}.{digits}.tmp"


def _create(path: pathlib.Path) -> pathlib.Path:
    """A new empty file beside `path`, hidden, with the permissions that the system gives to new files."""
    temporary = path.with_name(_temporary(path.name, secrets.token_hex(4)))
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def _sync_folder(folder: pathlib.Path) -> None:
    """Make a rename outlast a loss of power, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unwritable(path: pathlib.Path, what: str, error: OSError) -> errors.OutputError:
    reason = error.strerror or error
    if isinstance(error, FileExistsError | NotADirectoryError):
        in_the_way = next((str(parent) for parent in path.parents if parent.is_file()), None)
        reason = f"{in_the_way} is a file, not a folder" if in_the_way else reason
    return errors.OutputError(
        f"{path}: the {what} cannot be written ({reason}). Give a path in a folder that you may "
        f"write to, on a disk with space left."
    )
