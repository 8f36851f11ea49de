"""What all tests share: hypothesis profiles, strict shapes, a small dataset, and a way to run Python beside this one.

HYPOTHESIS_PROFILE=thorough pytest tests/test_losses.py    randomised, 500 examples
"""

import gc
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable

import hypothesis
import jax
import pytest

from sublim_jax.data import cache, datasets, synthetic_digits
from tests import compiling

ROOT = pathlib.Path(__file__).parents[1]
REAL_DATA_DIR = os.environ.get("SUBLIM_DATA_DIR")  # read here, because tests hide it

hypothesis.settings.register_profile(
    "default", derandomize=True, deadline=None, max_examples=25, print_blob=True, database=None
)
hypothesis.settings.register_profile(
    "thorough", derandomize=False, deadline=None, max_examples=500, print_blob=True, database=None
)
hypothesis.settings.register_profile(
    "unshrunk",
    hypothesis.settings.get_profile("default"),
    phases=[phase for phase in hypothesis.Phase if phase not in (hypothesis.Phase.shrink, hypothesis.Phase.explain)],
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

jax.config.update("jax_numpy_rank_promotion", "raise")  # a forgotten axis is an error, not a larger array


OPTIMIZED = (
    "tests/experiments/atlas/test_cluster.py",
    "tests/experiments/test_mnist_aux.py",
    "tests/training/test_devices.py",
)
"""Where programs are compared with eager operations, or with those of other processes."""


@pytest.fixture(autouse=True, scope="module")
def compiler(request):
    """Elsewhere the compiler does without most of its work: compiling a program takes longer than running it twice."""
    hurried = not request.node.nodeid.startswith(OPTIMIZED)
    jax.config.update("jax_disable_most_optimizations", hurried)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def pytest_configure(config):
    """What one test has compiled, another one need not, nor its processes. The cache goes when the session ends.

    JAX does not write its files atomically. A process that reads half of one warns, and compiles the program itself.
    """
    config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache entry")
    if not hasattr(config, "workerinput"):  # workers have the environment of who started them
        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            folder = tempfile.TemporaryDirectory(prefix="sublim-jax-compiled-")
            config.add_cleanup(folder.cleanup)
            os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
        compiling.set_flags()
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update(
        "jax_persistent_cache_min_compile_time_secs", float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
    )


LONGEST = tuple(f"tests/{name}.py::" for name in (
    "training/test_stages", "theory/test_properties", "llm/local/test_choice_scoring", "llm/local/test_soft",
    "llm/local/test_backend", "experiments/test_mnist_aux", "experiments/atlas/test_verdicts",
    "experiments/atlas/test_run", "experiments/test_report", "llm/embedded/test_model", "training/test_members",
    "training/test_effects", "training/test_oracle", "experiments/language/test_planted",
))  # fmt: skip
"""Files that take longest, which begin first (with --no-loadscope-reorder), so that all workers end together."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_collection_finish(session):
    """Modules and tests stay until the end: what is frozen is not searched for garbage again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory) -> pathlib.Path:
    """A cache folder whose `synthetic-digits` are 300 + 200 images, so that whole experiments take a second."""
    folder = tmp_path_factory.mktemp("cache")
    path = folder / f"{synthetic_digits.NAME}-{synthetic_digits.recipe()}.npz"
    cache.write(path, synthetic_digits.generate(300, 200), synthetic_digits.SOURCE)
    return folder


@pytest.fixture
def small_digits(small_cache, monkeypatch) -> datasets.ImageDataset:
    """300 + 200 synthetic digits, which `--dataset synthetic-digits` also means as long as a test asks for this."""
    monkeypatch.setenv("SUBLIM_CACHE_DIR", str(small_cache))
    monkeypatch.delenv("SUBLIM_DATA_DIR", raising=False)
    return datasets.load("synthetic-digits", announce=lambda line: None)


@pytest.fixture(scope="session")
def real_mnist() -> datasets.ImageDataset:
    """MNIST itself, from the folder that SUBLIM_DATA_DIR names."""
    if not REAL_DATA_DIR:
        pytest.skip("set SUBLIM_DATA_DIR to the folder of MNIST's four IDX files")
    return datasets.load("mnist", data_dir=REAL_DATA_DIR, announce=lambda line: None)


@pytest.fixture(scope="session")
def start_python() -> Callable[..., subprocess.Popen]:
    """Start another Python in the repository's root, on the CPU. Keywords are environment variables."""

    def start(*arguments: str, **variables: str) -> subprocess.Popen:
        inherited = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=inherited | {"JAX_PLATFORMS": "cpu"} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def run_python(start_python) -> Callable[..., subprocess.CompletedProcess]:
    """Run another Python to its end and return its exit code and output."""

    def run(*arguments: str, timeout: float = 300, **variables: str) -> subprocess.CompletedProcess:
        with start_python(*arguments, **variables) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run
