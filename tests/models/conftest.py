"""A compiler in a hurry: networks here are applied a few times each, and compiling them is most of the time."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def quick_compilation():
    """Programs of other folders are optimized as a user's are."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
