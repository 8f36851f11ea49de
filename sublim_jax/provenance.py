"""Which code made a record and on which processor, as far as it changes digits or times."""

import functools
import hashlib
import os
import pathlib
import platform
import subprocess
from typing import TypedDict

FLAGS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "asimd", "asimdhp", "bf16", "sve",
)  # fmt: skip
"""Instruction sets that decide how a matrix product is computed."""


class Provenance(TypedDict):
    """Where a record comes from. The commit and the state of its tree are None outside of a git clone."""

    commit: str | None
    tree_clean: bool | None  # whether all tracked files were as committed
    cpu: str  # model name; empty where the system does not tell
    cpu_flags: list[str]  # those of `FLAGS` that the processor has
    threads: int  # that a matrix product on a CPU may use


@functools.cache
def _commit() -> tuple[str | None, bool | None]:
    """The commit of this package's files and whether their tree is clean, when first asked in this process."""
    folder = pathlib.Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # An installed copy may lie in somebody else's clone, which does not track it.
    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    changes = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD"), None if changes is None else not changes


CPUINFO = pathlib.Path("/proc/cpuinfo")


def _entries(cpuinfo: pathlib.Path) -> dict[str, str]:
    """What the system says of the first processor; nothing where it does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


@functools.cache
def _processor(cpuinfo: pathlib.Path = CPUINFO) -> tuple[str, tuple[str, ...]]:
    """Model name and flags of the first processor."""
    entries = _entries(cpuinfo)
    flags = (entries.get("flags") or entries.get("Features") or "").split()
    return entries.get("model name") or platform.processor(), tuple(flag for flag in FLAGS if flag in flags)


def instruction_set(cpuinfo: pathlib.Path = CPUINFO) -> str:
    """A name for what this processor can execute: machine code made on one processor runs on another of this name."""
    entries = _entries(cpuinfo)
    named = "model name", "cpu family", "model", "stepping", "flags", "Features", "CPU part"
    text = "\n".join([platform.processor(), *(entries.get(name, "") for name in named)])
    return f"{platform.machine()}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def num_cpu_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def here() -> Provenance:
    """The provenance of what this process makes."""
    commit, clean = _commit()
    cpu, flags = _processor()
    alone = "--xla_cpu_multi_thread_eigen=false" in os.environ.get("XLA_FLAGS", "")
    return Provenance(
        commit=commit, tree_clean=clean, cpu=cpu, cpu_flags=list(flags), threads=1 if alone else num_cpu_cores()
    )
