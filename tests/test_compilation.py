"""Compiled programs on the disk: taken from there by the next process, shared by two, and never a reason to stop."""

import json
import pathlib

import filelock
import jax
import pytest

from sublim_jax import compilation, provenance

PROCESS = """
import json, pathlib, sys
import jax, jax.numpy as jnp
from sublim_jax import compilation
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event.rpartition("/")[2]))
compilation.SHORTEST = 0.0  # a program of a test compiles too quickly to be kept
compilation.use_cache(pathlib.Path(sys.argv[1]))
if "off" in sys.argv:
    compilation.without_cache()
value = jax.jit(lambda x: jnp.sum(jnp.sin(x) @ jnp.cos(x)))(jnp.full((8, 8), 0.5))
print(json.dumps({"value": float(value), "hits": events.count("cache_hits"), "misses": events.count("cache_misses")}))
"""
VALUE = 8**3 * 0.479425538604203 * 0.8775825618903728  # 8 x 8 sums of eight products


class Answer:
    """What a process that used the folder says."""

    def __init__(self, process):
        out, self.err = process.communicate(timeout=300)
        assert process.returncode == 0, self.err
        counts = json.loads(out.splitlines()[-1])
        self.hits, self.misses = counts["hits"], counts["misses"]
        assert counts["value"] == pytest.approx(VALUE, rel=1e-5)


def entries(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*-cache")}


@pytest.fixture
def start(start_python, tmp_path):
    """Start a process that compiles a program with this folder."""
    return lambda *arguments: start_python(
        "-c", PROCESS, str(tmp_path / "compiled"), *arguments, JAX_COMPILATION_CACHE_DIR=""
    )


@pytest.mark.slow
def test_processes_share_a_folder_and_a_later_one_compiles_nothing_unless_told_to(start, tmp_path):
    folder = tmp_path / "compiled"
    processes = start(), start()
    first, second = map(Answer, processes)
    kept = entries(folder)
    assert kept and first.hits + first.misses == second.hits + second.misses == len(kept), "each is kept once"
    later = Answer(start())
    assert later.hits == len(kept) and not later.misses and entries(folder) == kept
    assert not [line for line in later.err.splitlines() if "cache" in line.lower()], later.err
    off = Answer(start("off"))
    assert not off.hits and not off.misses and entries(folder) == kept


@pytest.mark.slow
def test_a_damaged_program_is_compiled_again_and_what_a_killed_process_left_is_replaced(start, tmp_path):
    folder = tmp_path / "compiled"
    assert Answer(start()).misses
    kept = entries(folder)
    for name, content in kept.items():  # killed while it wrote: the time of the last use is not there
        (folder / name).write_bytes(content[: len(content) // 2])
        (folder / f"{name.removesuffix('-cache')}-atime").unlink()
    mended = Answer(start())
    assert mended.misses == len(kept) and not mended.hits and entries(folder).keys() == kept.keys()
    assert all(len(content) > len(kept[name]) // 2 for name, content in entries(folder).items())
    for name in kept:  # a fault of the disk
        (folder / name).write_bytes(b"no program")
    damaged = Answer(start())
    assert not damaged.hits and "persistent compilation cache" in damaged.err


# What is decided without JAX


@pytest.fixture
def config(monkeypatch):
    """JAX's settings, which are as before after the test; no folder is set."""
    names = ("compilation_cache_dir", "compilation_cache_max_size", "enable_compilation_cache")
    names = [f"jax_{name}" for name in (*names, "persistent_cache_min_compile_time_secs")]
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)


def used(*arguments) -> list[str]:
    """What is said when the cache is turned on."""
    lines: list[str] = []
    compilation.use_cache(*arguments, announce=lines.append)
    return lines


def test_the_folder_is_the_users_and_bounded(config, monkeypatch, tmp_path):
    monkeypatch.setenv("SUBLIM_CACHE_DIR", str(tmp_path))
    assert used() == []
    folder = pathlib.Path(config.jax_compilation_cache_dir)
    assert folder == compilation.default_folder() and folder.parent == tmp_path / "compiled" and folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0, "whoever can write there can have his code run"
    assert config.jax_compilation_cache_max_size == compilation.BOUND > 0, "without a bound JAX takes no lock"
    assert config.jax_persistent_cache_min_compile_time_secs == compilation.SHORTEST < 1


def test_a_folder_that_the_user_gave_to_jax_and_a_cache_that_he_turned_off_stay_as_they_are(config, tmp_path):
    jax.config.update("jax_compilation_cache_dir", "elsewhere")
    bound = config.jax_compilation_cache_max_size
    used(tmp_path / "compiled")
    assert config.jax_compilation_cache_dir == "elsewhere" and config.jax_compilation_cache_max_size == bound
    jax.config.update("jax_compilation_cache_dir", None)
    compilation.without_cache()
    used(tmp_path / "compiled")
    assert config.jax_compilation_cache_dir is None and not (tmp_path / "compiled").exists()


def test_a_folder_that_cannot_be_written_is_one_line_and_stops_nothing(config, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (line,) = used(tmp_path / "file" / "compiled")
    assert line.startswith(f"note: compiled programs are not kept for the next run: {tmp_path}/file/compiled cannot be")
    assert config.jax_compilation_cache_dir is None


CPUINFO = "model name\t: Some CPU\nmodel\t\t: 1\nflags\t\t: fpu avx2 fma\ncpu MHz\t\t: 2000\n\nmodel name\t: Other\n"


def test_processors_of_different_kinds_have_different_folders(tmp_path, monkeypatch):
    def folder(text):
        (tmp_path / "cpuinfo").write_text(text)
        name = provenance.instruction_set(tmp_path / "cpuinfo")
        with monkeypatch.context() as patch:
            patch.setattr(provenance, "instruction_set", lambda: name)
            return compilation.default_folder()

    usual = folder(CPUINFO)
    assert folder(CPUINFO.replace("2000", "3000")) == usual
    others = [CPUINFO.replace(*words) for words in (("Some", "Any"), ("avx2 ", "avx2 avx512f "), (": 1", ": 2"))]
    assert len({usual, *map(folder, others)}) == 4


def test_a_lock_that_somebody_holds_does_not_stop_a_run(config, tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "PATIENCE", 0.01)
    (tmp_path / "half-cache").write_bytes(b"")
    with filelock.FileLock(tmp_path / ".lockfile"):
        assert used(tmp_path) == [] and (tmp_path / "half-cache").exists()
    jax.config.update("jax_compilation_cache_dir", None)
    assert used(tmp_path) == [] and not (tmp_path / "half-cache").exists()
