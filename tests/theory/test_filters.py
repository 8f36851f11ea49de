"""Filtered samples: moments against sums by hand, the slope against differentiation, a transformer by enumeration."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.theorem import problems
from sublim_jax.metrics import alignment as products
from sublim_jax.theory import filters, one_step
from tests.theory import sequence_model

LOG_P = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
SCORES = np.array([[1.0, -1.0, -1.0], [3.0, 1.0, -0.5]])  # mean zero under each row, as scores are
ACCEPT = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.25]])


def test_moments_by_hand_where_rejected_samples_are_lost():
    kept = ACCEPT * np.exp(LOG_P)
    kept /= kept.sum()
    mean = np.sum(kept * SCORES)
    found = filters.filtered_alignment(jnp.array(SCORES), jnp.array(LOG_P), jnp.array(ACCEPT))
    np.testing.assert_allclose(found.control, mean, rtol=1e-12)
    np.testing.assert_allclose(found.differential, np.sum(kept * (SCORES - mean) ** 2), rtol=1e-12)
    everything = np.exp(LOG_P) / 2
    variance = np.sum(everything * SCORES**2) - np.sum(everything * SCORES) ** 2
    np.testing.assert_allclose(found.retention, found.differential / variance, rtol=1e-12)


def test_moments_by_hand_where_each_prompt_is_resampled():
    kept = ACCEPT * np.exp(LOG_P)
    kept /= kept.sum(axis=1, keepdims=True)
    means = np.sum(kept * SCORES, axis=1, keepdims=True)
    found = filters.filtered_alignment(jnp.array(SCORES), jnp.array(LOG_P), jnp.array(ACCEPT), resample=True)
    np.testing.assert_allclose(found.control, means.mean(), rtol=1e-12)
    np.testing.assert_allclose(found.differential, np.sum(kept * (SCORES - means) ** 2) / 2, rtol=1e-12)


def test_what_a_resampled_filter_retains_is_a_share_of_the_variance_within_prompts():
    """A constant added to a prompt's scores changes no variance within it, with the filter or without."""
    within = filters.filtered_alignment(jnp.array(SCORES), jnp.array(LOG_P), jnp.array(ACCEPT), resample=True)
    means = np.sum(np.exp(LOG_P) * SCORES, axis=1, keepdims=True)
    unfiltered = np.sum(np.exp(LOG_P) * (SCORES - means) ** 2) / 2
    np.testing.assert_allclose(within.retention, within.differential / unfiltered, rtol=1e-12)
    shifted = SCORES + np.array([[2.0], [-5.0]])
    found = filters.filtered_alignment(jnp.array(shifted), jnp.array(LOG_P), jnp.array(ACCEPT), resample=True)
    np.testing.assert_allclose(found.retention, within.retention, rtol=1e-12)


def test_no_filter_has_no_control_and_keeps_everything():
    found = filters.filtered_alignment(jnp.array(SCORES), jnp.array(LOG_P), jnp.ones((2, 3)), resample=True)
    np.testing.assert_allclose(found.control, np.mean(np.sum(np.exp(LOG_P) * SCORES, axis=1)), atol=1e-15)
    np.testing.assert_allclose(found.retention, 1.0, rtol=1e-12)


def test_what_is_kept_may_be_too_improbable_for_a_number():
    kept = filters.kept_distribution(jnp.array([[0.0, -2000.0, -2001.0]]), jnp.array([[0.0, 1.0, 1.0]]))
    np.testing.assert_allclose(kept, [[0.0, 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))]], rtol=1e-12)


def test_impossible_filters_are_refused():
    scores, log_p = jnp.array(SCORES), jnp.array(LOG_P)
    for outside in (1.5, -0.5, jnp.nan):
        with pytest.raises(ValueError, match="probabilities"):
            filters.filtered_alignment(scores, log_p, jnp.ones((2, 3)).at[1, 2].set(outside))
    with pytest.raises(ValueError, match="keeps nothing"):
        filters.filtered_alignment(scores, log_p, jnp.zeros((2, 3)))
    half = jnp.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match="for some prompt"):
        filters.filtered_alignment(scores, log_p, half, resample=True)
    filters.filtered_alignment(scores, log_p, half)


@pytest.mark.slow
def test_a_transformers_filtered_sequences_by_exact_enumeration():
    """Every sequence of 3 tokens of 3, a whole-sequence filter, and the student's real step in parameter space."""
    params = sequence_model.init(0)
    update = one_step.unit_update(sequence_model.init(1))
    sequences = jnp.array(list(itertools.product(range(3), repeat=3)))
    accept = jnp.asarray(np.random.default_rng(0).random((1, 27)) < 0.4, float)

    def log_probability(p):
        return sequence_model.log_probability(p, sequences)[None]

    @functools.partial(jax.jit, compiler_options=problems.quick_compilation())
    def student_step(epsilon):
        teacher = log_probability(optax.tree.add_scale(params, epsilon, update))
        kept = filters.kept_distribution(teacher, accept)
        return jax.grad(lambda p: jnp.sum(kept * log_probability(p)))(params)

    log_probs, scores = jax.jit(lambda: filters.completion_scores(log_probability, params, update))()
    found = filters.filtered_alignment(scores, log_probs, accept)
    np.testing.assert_allclose(jnp.sum(jnp.exp(log_probs)), 1.0, rtol=1e-12)
    control = student_step(0.0)
    np.testing.assert_allclose(products.inner_product(control, update), found.control, rtol=1e-9)
    moved = student_step(1e-5)
    difference = products.inner_product(filters.differential_update(moved, control), update)
    np.testing.assert_allclose(
        difference / 1e-5, found.differential, rtol=1e-3
    )  # truncation O(ε), constants of order 10
    assert found.differential > 0
