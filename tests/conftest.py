"""What all tests share: hypothesis profiles, strict shapes, a small dataset, and a way to run Python beside this one.

HYPOTHESIS_PROFILE=thorough pytest tests/test_losses.py    randomised, 500 examples
"""

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import hypothesis
import jax
import pytest

from sublim_jax.data import cache, images, synthetic_digits

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


IN_A_HURRY = (
    "tests/llm/",
    "tests/models/",
    "tests/theory/",
    "tests/training/test_oracle.py",
    "tests/experiments/test_theorem.py",
)
"""Where programs run a few times each, so that compiling them is most of the time."""


@pytest.fixture(autouse=True, scope="module")
def compiler(request):
    """There the compiler does without most of its work; elsewhere programs are optimized as a user's are."""
    hurried = request.node.nodeid.startswith(IN_A_HURRY)
    jax.config.update("jax_disable_most_optimizations", hurried)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory) -> pathlib.Path:
    """A cache folder whose `synthetic-digits` are 300 + 200 images, so that whole experiments take a second."""
    folder = tmp_path_factory.mktemp("cache")
    path = folder / f"{synthetic_digits.NAME}-{synthetic_digits.recipe()}.npz"
    cache.write(path, synthetic_digits.generate(300, 200), synthetic_digits.SOURCE)
    return folder


@pytest.fixture
def small_digits(small_cache, monkeypatch) -> images.ImageDataset:
    """300 + 200 synthetic digits, which `--dataset synthetic-digits` also means as long as a test asks for this."""
    monkeypatch.setenv("SUBLIM_CACHE_DIR", str(small_cache))
    monkeypatch.delenv("SUBLIM_DATA_DIR", raising=False)
    return images.load("synthetic-digits", announce=lambda line: None)


@pytest.fixture(scope="session")
def real_mnist() -> images.ImageDataset:
    """MNIST itself, from the folder that SUBLIM_DATA_DIR names."""
    if not REAL_DATA_DIR:
        pytest.skip("set SUBLIM_DATA_DIR to the folder of MNIST's four IDX files")
    return images.load("mnist", data_dir=REAL_DATA_DIR, announce=lambda line: None)


@pytest.fixture(scope="session")
def start_python() -> Callable[..., subprocess.Popen]:
    """Start another Python in the repository's root, on the CPU. Keywords are environment variables."""

    def start(*arguments: str, **variables: str) -> subprocess.Popen:
        inherited = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
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
