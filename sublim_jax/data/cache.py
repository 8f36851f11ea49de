"""Prepared arrays on the disk, so that a second start takes a fraction of a second.

A cached dataset is one .npz file that holds the four arrays, the source they came from and their checksum. It is
written under another name and then renamed, so a reader sees all of it or nothing; it is verified whenever it is read,
and one that is damaged counts as absent. A lock lets one process prepare while the others wait for its result.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import platformdirs

from sublim_jax import errors, files
from sublim_jax.data import arrays


def default_folder() -> pathlib.Path:
    """`SUBLIM_CACHE_DIR` if it is set, otherwise this system's folder for caches."""
    return pathlib.Path(os.environ.get("SUBLIM_CACHE_DIR") or platformdirs.user_cache_dir("sublim-jax"))


def read(path: pathlib.Path) -> tuple[arrays.ImageArrays, str] | None:
    """Arrays and source in the cached file, or None if there is no such file or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            images = arrays.ImageArrays(*(stored[name] for name in arrays.ImageArrays._fields))
            source, checksum = str(stored["source"]), str(stored["checksum"])
        return (images, source) if arrays.checksum(images) == checksum else None
    except Exception:  # a damaged file makes zipfile and numpy raise nearly anything; the answer is always to rebuild
        return None


def write(path: pathlib.Path, prepared: arrays.ImageArrays, source: str) -> None:
    """Write the cached file, all of it or nothing. The caller holds the lock.

    Raises:
        CacheError: the folder cannot be written, or the disk is full.
    """
    try:
        with (
            files.writing(path, ours=files.anything, what="prepared dataset") as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(file, **prepared._asdict(), source=source, checksum=arrays.checksum(prepared))
    except errors.OutputError as error:
        raise _unwritable(path.parent, error.__cause__ or error) from error


@contextlib.contextmanager
def locked(path: pathlib.Path, announce: Callable[[str], object]) -> Iterator[None]:
    """Hold the right to prepare `path`, in a folder made if need be. The right falls back when its holder dies.

    Raises:
        CacheError: the folder cannot be made or written.
    """
    try:
        lock = files.Lock(path)
        try:
            lock.acquire()
        except errors.LockedError:
            announce(f"another process is preparing {path.stem}; waiting for it")
            lock.acquire(wait=True)
    except errors.OutputError as error:
        raise _unwritable(path.parent, error.__cause__ or error) from error
    try:
        yield
    finally:
        lock.release()


def _unwritable(folder: pathlib.Path, error: BaseException) -> errors.CacheError:
    reason = getattr(error, "strerror", None) or error
    return errors.CacheError(
        f"{folder}: expected a folder for prepared datasets, but it cannot be written ({reason}). Set "
        f"SUBLIM_CACHE_DIR to a folder you may write to, with 200 MB free."
    )
