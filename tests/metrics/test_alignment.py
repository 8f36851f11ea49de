"""Inner products of updates, against one long numpy vector."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from sublim_jax.metrics import alignment
from tests import strategies


def tree(vector):
    """A pytree of 3 x 4 and 5 numbers from a vector of 17."""
    vector = jnp.asarray(vector, jnp.float32)
    return {"weight": vector[:12].reshape(3, 4), "rest": (vector[12:],)}


@given(seed=strategies.seeds)
def test_inner_product_norm_and_cosine_are_those_of_the_flat_vectors(seed):
    left, right = strategies.normal(seed, 2, 17)
    tolerance = {"rtol": 1e-5, "atol": 1e-5}  # float32 sums of 17 products of order one
    np.testing.assert_allclose(alignment.inner_product(tree(left), tree(right)), left @ right, **tolerance)
    np.testing.assert_allclose(alignment.norm(tree(left)), np.linalg.norm(left), **tolerance)
    cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
    np.testing.assert_allclose(alignment.cosine(tree(left), tree(right)), cosine, **tolerance)
    np.testing.assert_allclose(alignment.cosine(tree(left), tree(-3 * left)), -1, **tolerance)


def test_the_cosine_of_no_update_is_not_a_number():
    assert np.isnan(alignment.cosine(tree(np.zeros(17)), tree(np.ones(17))))


def test_trees_of_unequal_structure_are_refused():
    with pytest.raises(ValueError):
        alignment.inner_product((jnp.ones(2),), (jnp.ones(2), jnp.ones(2)))
