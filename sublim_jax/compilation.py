"""Compiled programs on the disk: the second run of a shape starts in seconds.

    use_cache()        before anything is compiled: keep programs for the next run, and use those of earlier ones
    without_cache()    compile everything, e.g. to time it

JAX keeps the programs. This module says where, how many, and mends the folder after a process was killed. Programs are
machine code, so processors of different kinds have different folders. Any number of processes may share one: with a
bound on its size, JAX reads and writes under a lock. A program that calls back to the host is never kept.
"""

import contextlib
import pathlib
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import filelock
import jax

from sublim_jax import provenance
from sublim_jax.data import cache

BOUND = 2 * 2**30
"""Bytes of a folder; the programs that were not used for longest make room."""
SHORTEST = 0.1
"""Seconds of compilation from which on a program is kept."""
PATIENCE = 5.0
"""Seconds to wait for a process that holds the folder's lock."""


def default_folder() -> pathlib.Path:
    """Where programs of this version of JAX's compiler for this processor are.

    What an accelerator is called need not stand here: it is part of the names that JAX gives to programs.
    """
    name = f"jaxlib-{metadata.version('jaxlib')}-{provenance.instruction_set()}"
    return cache.default_folder() / "compiled" / name


def _print(line: str) -> None:
    print(line, file=sys.stderr)


def use_cache(folder: pathlib.Path | None = None, *, announce: Callable[[str], object] = _print) -> None:
    """Keep compiled programs in a folder, and take from it what is there.

    It does nothing if JAX already has a folder, e.g. from JAX_COMPILATION_CACHE_DIR, or was told to use none. A folder
    that cannot be written is said in one line, and nothing is kept.

    Args:
        folder: only for programs; by default `default_folder()`.
    """
    if _setting("jax_compilation_cache_dir") or not is_allowed():
        return
    folder = default_folder() if folder is None else folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # who can write here can have his code run
        _mend(folder)
    except OSError as error:
        announce(
            f"note: compiled programs are not kept for the next run: {folder} cannot be written "
            f"({error.strerror or error}). Set SUBLIM_CACHE_DIR to a folder you may write to."
        )
        return
    jax.config.update("jax_compilation_cache_max_size", BOUND)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
    jax.config.update("jax_compilation_cache_dir", str(folder))


def is_allowed() -> bool:
    """Whether JAX may keep programs, in whichever folder."""
    return _setting("jax_enable_compilation_cache")


def without_cache() -> None:
    """Compile every program, whatever folder JAX has."""
    jax.config.update("jax_enable_compilation_cache", False)


def _setting(name: str) -> Any:
    return getattr(jax.config, name)  # which type checkers do not know


def _mend(folder: pathlib.Path) -> None:
    """Remove programs that a killed process left in pieces.

    JAX writes a program and then the time of its last use, both under the folder's lock. A program without such a time
    is cut short, or would make every later write fail.
    """
    with contextlib.suppress(filelock.Timeout), filelock.FileLock(folder / ".lockfile", timeout=PATIENCE):
        for program in folder.glob("*-cache"):
            time = program.with_name(f"{program.name.removesuffix('-cache')}-atime")
            if not time.exists() or time.stat().st_size < 8:
                program.unlink()
                time.unlink(missing_ok=True)
