"""Where a record comes from: the commit of a clone and nothing elsewhere, and what the processor can do."""

import os
import pathlib
import shutil
import subprocess

import pytest

from sublim_jax import provenance

ROOT = pathlib.Path(provenance.__file__).parents[1]
PRINT = """import sys; sys.path.insert(0, sys.argv[1])
from sublim_jax import provenance as p; h = p.here(); print(p.__file__, h['commit'], h['tree_clean'])"""


def git(folder, *arguments) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def copy(tmp_path, run_python):
    """A copy of the package in a folder of its own, and what it says of its commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    shutil.copytree(ROOT / "sublim_jax", tmp_path / "sublim_jax", ignore=shutil.ignore_patterns("__pycache__"))

    def say() -> list[str]:
        done = run_python("-c", PRINT, str(tmp_path))
        file, *said = done.stdout.split()
        assert done.returncode == 0 and pathlib.Path(file).is_relative_to(tmp_path), done.stderr
        return said

    return tmp_path, say


def test_a_clone_has_a_commit_and_an_edit_makes_it_unclean(copy):
    folder, say = copy
    git(folder, "init", "-q")
    assert say() == ["None", "None"]  # somebody else's clone, which does not track the package
    git(folder, "add", "sublim_jax")
    git(folder, "commit", "-q", "-m", "all")
    (folder / "untracked.txt").write_text("a note")
    assert say() == [git(folder, "rev-parse", "HEAD"), "True"]
    (folder / "sublim_jax" / "keys.py").write_text("# edited\n")
    assert say() == [git(folder, "rev-parse", "HEAD"), "False"]


def test_outside_of_a_clone_there_is_no_commit(copy):
    assert copy[1]() == ["None", "None"]


@pytest.mark.parametrize(
    ("text", "cpu", "flags"),
    [
        (
            "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2 avx512_bf16 amx_tile avx512f\n\n"
            "processor\t: 1\nmodel name\t: Other\nflags\t\t: avx\n",
            "Some CPU @ 2 GHz",
            ["avx2", "avx512f", "avx512_bf16", "amx_tile"],
        ),
        ("processor\t: 0\nFeatures\t: fp asimd sve\n", None, ["asimd", "sve"]),
        (None, None, []),
    ],
)
def test_the_processor_is_read_from_what_the_system_says(tmp_path, text, cpu, flags):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    name, known = provenance._processor(tmp_path / "cpuinfo")
    assert list(known) == flags and (cpu is None or name == cpu)


def test_threads_are_the_cores_of_this_process_or_one(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert provenance.here()["threads"] == cores
    monkeypatch.setenv("XLA_FLAGS", "--a=b --xla_cpu_multi_thread_eigen=false")
    assert provenance.here()["threads"] == 1
