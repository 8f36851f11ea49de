"""Runs tests on copies of the source, each with one edit.

    python -m tests.mutants.planting < jobs.json > verdicts.jsonl

A process that has imported the heavy packages, but nothing of ours, forks for every job; the child puts the edited copy
first on its path and runs pytest there. So a job costs what its tests cost and not the seconds that JAX takes to start.

Libraries such as mutmut and cosmic-ray make mutants by rule, thousands of them, and run the whole suite on each, which
here would take weeks of compilation. What we want to know is whether certain faults that a person would make are seen,
and by which test. That list is written by hand.
"""

import contextlib
import dataclasses
import gc
import importlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

from tests import compiling
from tests.mutants.fault import Fault

ROOT = pathlib.Path(__file__).parents[2]
OURS = ("sublim_jax", "experiments", "figures", "tests")
HEAVY = (
    "jax", "jax.numpy", "jax.scipy.special", "jax.experimental.multihost_utils", "optax", "numpy", "scipy.stats",
    "scipy.ndimage", "hypothesis", "beartype", "jaxtyping", "matplotlib.figure", "filelock", "rich.progress", "tyro",
    "safetensors.numpy", "tokenizers", "jinja2.sandbox", "pytest", "_pytest.unraisableexception", "_pytest.pytester",
    "_pytest.junitxml", "_pytest.legacypath", "_pytest.doctest", "_pytest.pastebin", "_hypothesis_pytestplugin",
    "hypothesis.extra.numpy", "hypothesis.internal.conjecture.engine", "annotated_types", "matplotlib.pyplot",
    "matplotlib.backends.backend_agg", "sqlite3", "openai", "starlette.applications", "uvicorn", "flax.linen",
)  # fmt: skip
AT_MOST = 900
"""Seconds of a job. An edit that makes a test hang is a bad one."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What tests said of one edit."""

    name: str
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    seconds: float
    output: str  # of pytest

    @property
    def broken(self) -> bool:
        """Nothing was tested, e.g. because the edited source cannot be imported."""
        return not self.passed and not self.failed


def edited(fault: Fault, root: pathlib.Path = ROOT) -> str:
    """The file's source with the fault in it.

    Raises:
        ValueError: what the fault replaces does not stand in the file exactly once.
    """
    source = (root / fault.file).read_text(encoding="utf-8")
    if (count := source.count(fault.old)) != 1:
        raise ValueError(
            f"{fault.name}: {fault.file} has {fault.old!r} {count} times, expected once. The code has moved: look for "
            f"what the fault was and plant it there."
        )
    return source.replace(fault.old, fault.new)


Job = tuple[Fault | None, Sequence[str]]
"""A fault, or None for the source as it is, and the tests to run."""


def unharmed(tests: Sequence[str]) -> dict[str, Job]:
    """Jobs that run the tests on the source as it is, which none may fail: one for each file, by its name."""
    files = dict.fromkeys(test.partition("::")[0] for test in tests)
    return {file: (None, [test for test in dict.fromkeys(tests) if test.startswith(file)]) for file in files}


def verdicts(jobs: Mapping[str, Job], *, all_tests: bool = False, at_once: int = 2) -> Iterator[Verdict]:
    """What tests say of each job, as they come in.

    Args:
        all_tests: go on after the first that fails.
        at_once: jobs side by side.
    """
    described = [
        {
            "name": name,
            "file": None if fault is None else fault.file,
            "source": None if fault is None else edited(fault),
            "tests": list(tests),
        }
        for name, (fault, tests) in jobs.items()
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.mutants.planting", str(at_once), *(["all"] if all_tests else [])],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            json.dump(described, process.stdin)
            process.stdin.close()
            for line in process.stdout:
                content = json.loads(line)
                yield Verdict(**content | {what: tuple(content[what]) for what in ("passed", "failed")})
        finally:
            process.terminate()


def _serve(jobs: list[dict], at_once: int, options: list[str]) -> None:
    """Fork for each job, a few at a time, and print the verdicts. What still runs at the end is ended with it."""
    running: dict[int, tuple[dict, pathlib.Path, float]] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as at_the_end:
        # What a fault leaves as it is, is compiled once; and a counterexample need not be a small one.
        os.environ |= {
            "JAX_COMPILATION_CACHE_DIR": f"{place}/compiled",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "HYPOTHESIS_PROFILE": "unshrunk",
        }
        original = _original(pathlib.Path(place) / "original")
        at_the_end.callback(lambda: [os.kill(child, signal.SIGKILL) for child in running])
        while jobs or running:
            while jobs and len(running) < at_once:
                job = jobs.pop(0)
                folder = _copied(original, pathlib.Path(tempfile.mkdtemp(dir=place)), job)
                child = os.fork()
                if child == 0:
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    with contextlib.suppress(BaseException):
                        _test(folder, job["tests"], options)
                    os._exit(0)
                running[child] = job, folder, time.monotonic()
            child, _ = os.waitpid(-1, os.WNOHANG)
            if child:
                print(json.dumps(_verdict(*running.pop(child))), flush=True)
            else:
                time.sleep(0.05)
            for late in [child for child, (_, _, began) in running.items() if time.monotonic() - began > AT_MOST]:
                os.kill(late, signal.SIGKILL)


def _original(folder: pathlib.Path) -> pathlib.Path:
    """What tests need of the source, as it is. Bytecode comes along, so that only what is edited is compiled."""
    for name in OURS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("records", "*.png", "*.pdf"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "experiments/records").symlink_to(ROOT / "experiments/records")
    return folder


def _copied(original: pathlib.Path, folder: pathlib.Path, job: dict) -> pathlib.Path:
    """A copy of the source with the job's edit. The program `cp` takes less of the processor than `shutil.copytree`."""
    subprocess.run(["cp", "-RPp", f"{original}/.", str(folder)], check=True)
    if job["file"] is not None:
        (folder / job["file"]).write_text(job["source"], encoding="utf-8")
    return folder


def _test(folder: pathlib.Path, tests: Sequence[str], options: Sequence[str]) -> None:
    """Run the tests in the folder; what came of each goes to `outcomes.json` there, what pytest prints to `output`.

    Signatures are not checked: that takes longer than the tests, and they should see a wrong number by themselves.
    """
    import pytest

    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    os.environ |= {"PYTHONPATH": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    sys.path[:] = [str(folder), *(entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != ROOT)]
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    outcomes: dict[str, bool] = {}  # by test, whether it passed

    class Keep:
        def pytest_runtest_logreport(self, report):
            if report.failed or (report.when == "call" and report.passed):
                outcomes[report.nodeid] = report.passed and outcomes.get(report.nodeid, True)

    pytest.main(["-q", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin", "-W",
                 "ignore::pytest.PytestAssertRewriteWarning", "-o", "addopts=", "--rootdir", str(folder), *options,
                 *tests], plugins=[Keep()])  # fmt: skip
    (folder / "outcomes.json").write_text(json.dumps(outcomes))


def _verdict(job: dict, folder: pathlib.Path, began: float) -> dict:
    outcomes, output = {}, ""
    with contextlib.suppress(FileNotFoundError):
        output = (folder / "output").read_text(encoding="utf-8", errors="replace")
        outcomes = json.loads((folder / "outcomes.json").read_text())
    shutil.rmtree(folder)
    return {
        "name": job["name"],
        "passed": [test for test, passed in outcomes.items() if passed],
        "failed": [test for test, passed in outcomes.items() if not passed],
        "seconds": round(time.monotonic() - began, 1),
        "output": output[-4000:],
    }


def _prepare() -> None:
    """Import what tests need and no fault touches. Frozen, it is neither searched for garbage nor copied by a child."""
    compiling.set_flags()
    for heavy in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(heavy)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    _prepare()
    _serve(json.load(sys.stdin), int(sys.argv[1]), [] if "all" in sys.argv[2:] else ["-x"])
