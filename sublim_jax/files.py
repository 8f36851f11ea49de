"""Where results go: files are written whole or not at all, and nothing of the user's is moved, replaced or lost.

Every command writes through this module. The rule:

- A path is free, or it holds a file that we made ourselves, which the caller recognises (`ours`), or it is refused. A
  folder is never replaced by a file, a file never by a folder.
- A file is written beside its place, reaches the disk, and then takes its place in one step.
- Who writes to a path more than once holds its lock meanwhile, so that two runs never share one record.
- Whether a place can be written is asked before the work, not after it (`require_writable`).
"""

import contextlib
import os
import pathlib
import socket
import tempfile
from collections.abc import Callable, Iterator

import filelock

from sublim_jax import errors

Recognizer = Callable[[pathlib.Path], bool]
"""Whether a file (or a folder, where a folder is written) is one that we made and may replace."""


def anything(path: pathlib.Path) -> bool:
    """A recognizer for places that are only ours, such as the cache: every regular file may be replaced."""
    return path.is_file()


def begins_with(*signatures: bytes) -> Recognizer:
    """A recognizer of files by their first bytes. An empty file is nobody's and may be replaced."""
    longest = max(map(len, signatures))

    def ours(path: pathlib.Path) -> bool:
        with path.open("rb") as file:
            head = file.read(longest)
        return not head or head.startswith(signatures)

    return ours


def require_free(path: pathlib.Path, *, ours: Recognizer | None = None, what: str = "file") -> None:
    """Refuse a path that holds something of the user's.

    Args:
        ours: recognises what may be replaced; by default nothing may.
        what: what is to be written, for the message.

    Raises:
        OutputError: a folder, or a file that is not ours, is at `path`.
    """
    try:
        if not path.exists() and not path.is_symlink():
            return
        if path.is_dir():
            raise errors.OutputError(f"{path}: this is a folder; expected the path of a {what}. Name a file in it.")
        if path.is_file() and ours is not None and ours(path):
            return
    except OSError as error:
        raise _unwritable(path, what, error) from error
    raise errors.OutputError(
        f"{path}: a file is there that sublim-jax did not write as a {what}, and it is not replaced. Give another "
        f"path, or move the file away."
    )


def require_writable(path: pathlib.Path, *, what: str = "file") -> None:
    """Make the folder of `path`, and write and remove a probe file in it.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, probe = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        os.unlink(probe)
    except OSError as error:
        raise _unwritable(path, what, error) from error


def write(path: pathlib.Path, content: str | bytes, *, ours: Recognizer | None = None, what: str = "file") -> None:
    """Put `content` at `path`, whole or not at all. Text is written as UTF-8 with its newlines as they are.

    Raises:
        OutputError: as `require_free` and `require_writable`, or the disk is full.
    """
    with writing(path, ours=ours, what=what) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def writing(path: pathlib.Path, *, ours: Recognizer | None = None, what: str = "file") -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, with its suffix, to write to; it takes the place of `path` at the end.

    If the body raises, `path` is as it was and the temporary file is removed.

    Raises:
        OutputError: as `write`.
    """
    require_free(path, ours=ours, what=what)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.resolve()  # a link to a record of ours goes on pointing at it
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=target.suffix)
        os.close(descriptor)
        temporary = pathlib.Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
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
        ours: recognises a folder that we made, e.g. by a file in it. By default the folder must be empty or absent.

    Raises:
        OutputError: a file is there, a folder that is neither empty nor ours, or it cannot be made or written.
    """
    try:
        if path.exists() and not path.is_dir():
            raise errors.OutputError(f"{path}: this is a file; expected the path of a {what}.")
        if path.is_dir() and any(path.iterdir()) and not (ours is not None and ours(path)):
            raise errors.OutputError(
                f"{path}: this folder has files in it that do not belong to a {what} of this run, and they are not "
                f"replaced. Give an empty folder or a new one."
            )
    except OSError as error:
        raise _unwritable(path, what, error) from error
    require_writable(path / "file", what=what)


def set_aside(path: pathlib.Path, *, ours: Recognizer, what: str = "file") -> pathlib.Path | None:
    """Rename a file of ours that is in the way of a new one, so that it is kept. Returns its new name, if any.

    Raises:
        OutputError: what is in the way is not ours, or cannot be renamed.
    """
    require_free(path, ours=ours, what=what)
    if not path.exists():
        return None
    number = 1
    while (aside := path.with_name(f"{path.stem}.old{number}{path.suffix}")).exists():
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        raise _unwritable(path, what, error) from error
    return aside


class Lock:
    """The right to write to `path`: held by one process at a time, and free again when that process ends, however.

    The lock is the file `.NAME.lock` beside the path, which stays; `.NAME.writer` says who holds it.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
        self._writer = path.with_name(f".{path.name}.writer")

    def acquire(self) -> None:
        """Take the lock at once or not at all.

        Raises:
            LockedError: another process holds it; the message has its process id.
            OutputError: the folder cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._writer.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        except filelock.Timeout as error:
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


def _sync_folder(folder: pathlib.Path) -> None:
    """Make a rename outlast a loss of power, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unwritable(path: pathlib.Path, what: str, error: OSError) -> errors.OutputError:
    return errors.OutputError(
        f"{path}: the {what} cannot be written ({error.strerror or error}). Give a path in a folder that you may "
        f"write to, on a disk with space left."
    )
