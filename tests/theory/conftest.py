"""Float64 for this folder only."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def double_precision():
    """Alignments are small differences, and tolerances here are rounding. Training is tested in float32."""
    with jax.enable_x64(True):
        yield
