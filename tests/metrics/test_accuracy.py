"""Accuracy counts hits of the largest class logit."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given

from sublim_jax.metrics import accuracy
from tests import strategies


@given(seed=strategies.seeds)
def test_it_counts_what_a_loop_counts(seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.integers(3, size=(20, 4)) * 1.0, rng.integers(4, size=20)  # full of ties
    weights = rng.integers(2, size=20)
    hits = [label == list(row).index(max(row)) for row, label in zip(logits, labels, strict=True)]
    found = accuracy.num_correct(jnp.asarray(logits, jnp.float32), jnp.asarray(labels, jnp.uint8))
    assert found == sum(hits)
    found = accuracy.num_correct(
        jnp.asarray(logits, jnp.float32), jnp.asarray(labels), jnp.asarray(weights, jnp.float32)
    )
    assert found == np.dot(hits, weights)


def test_a_tie_counts_for_the_lower_class():
    np.testing.assert_array_equal(accuracy.predictions(jnp.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])), [1, 0])
