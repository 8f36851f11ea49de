"""Float64 for this folder only, and a compiler in a hurry: functions here run a few times each."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def double_precision():
    """Alignments are small differences, and tolerances here are rounding. Training is tested in float32."""
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True):
        yield
    jax.config.update("jax_disable_most_optimizations", False)
