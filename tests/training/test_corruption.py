"""What students are shown instead of the teacher's logits, against numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from sublim_jax import losses
from sublim_jax.training import corruption
from tests import strategies

BATCH, LOGITS = 50, 6
KEY = jax.random.key(0)


def logits_of(seed, *shape):
    return jnp.asarray(strategies.normal(seed, *(shape or (BATCH, LOGITS))), jnp.float32)


def test_the_default_leaves_targets_alone():
    logits = logits_of(0)
    np.testing.assert_array_equal(corruption.corrupt(KEY, logits, corruption.TargetCorruption()), logits)
    np.testing.assert_array_equal(corruption.keep_largest(logits, corruption.TargetCorruption()), logits)
    np.testing.assert_array_equal(corruption.corrupt(KEY, logits, corruption.TargetCorruption(noise=0.0)), logits)


def test_noise_is_normal_and_independent_over_examples_and_logits():
    clean = 3 + logits_of(0, 2000, LOGITS)
    spoil = jax.jit(corruption.corrupt)
    noise = np.asarray(spoil(KEY, clean, corruption.TargetCorruption(noise=0.5)) - clean, float) / 0.5
    # five standard errors: mean, mean square, fourth moment (96 = E x^8 - 9), and the correlations of columns
    assert abs(noise.mean()) < 5 / noise.size**0.5
    assert abs(np.mean(noise**2) - 1) < 5 * (2 / noise.size) ** 0.5
    assert abs(np.mean(noise**4) - 3) < 5 * (96 / noise.size) ** 0.5
    assert np.abs(np.corrcoef(noise.T)[np.triu_indices(LOGITS, 1)]).max() < 5 / 2000**0.5
    other = spoil(jax.random.key(1), clean, corruption.TargetCorruption(noise=0.5))
    assert not np.any(other == spoil(KEY, clean, corruption.TargetCorruption(noise=0.5)))


@given(seed=strategies.seeds, bits=st.integers(1, 5))
def test_rounding_goes_to_the_nearest_of_the_levels(seed, bits):
    logits = logits_of(seed)
    rounded = np.asarray(corruption.corrupt(KEY, logits, corruption.TargetCorruption(bits=bits)))
    exact = np.asarray(logits, float)
    levels = np.linspace(exact.min(), exact.max(), 2**bits)
    nearest = np.abs(exact[..., None] - levels).min(-1)
    # every value is a level to float32 rounding, and none that is farther than the nearest one
    np.testing.assert_allclose(np.abs(rounded[..., None] - levels).min(-1), 0, atol=2e-6)
    np.testing.assert_allclose(np.abs(rounded - exact), nearest, atol=2e-6)
    assert len(np.unique(rounded)) <= 2**bits
    assert rounded.min() == exact.min() and abs(rounded.max() - exact.max()) < 2e-6


@pytest.mark.parametrize("bits", [1, 3, 4])
def test_all_levels_occur_when_there_are_enough_targets(bits):
    logits = jnp.asarray(np.random.default_rng(0).uniform(-2, 5, size=(400, 5)), jnp.float32)
    assert len(np.unique(corruption.corrupt(KEY, logits, corruption.TargetCorruption(bits=bits)))) == 2**bits
    noisy = corruption.corrupt(KEY, logits, corruption.TargetCorruption(noise=1.0, bits=bits))
    assert len(np.unique(noisy)) == 2**bits, "noise comes before rounding"


def test_targets_that_are_all_equal_have_one_level():
    logits = jnp.full((3, 4), 1.7)
    np.testing.assert_array_equal(corruption.corrupt(KEY, logits, corruption.TargetCorruption(bits=2)), logits)


@given(seed=strategies.seeds, k=st.integers(1, LOGITS), ties=st.booleans())
def test_exactly_the_k_largest_logits_stay(seed, k, ties):
    logits = np.array(logits_of(seed))
    logits = np.round(logits) + 0.0 if ties else logits
    found = np.asarray(corruption.keep_largest(jnp.asarray(logits), corruption.TargetCorruption(top_k=k)))
    kept = found != corruption.REMOVED
    assert np.all(kept.sum(axis=1) == k), "also among equals"
    np.testing.assert_array_equal(found[kept], logits[kept])
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]  # of equals the first
    np.testing.assert_array_equal(np.sort(order, axis=1), np.nonzero(kept)[1].reshape(-1, k))


def test_more_than_there_are_is_all_of_them():
    logits = logits_of(0)
    np.testing.assert_array_equal(
        corruption.keep_largest(logits, corruption.TargetCorruption(top_k=LOGITS + 3)), logits
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_divergence_from_removed_logits_is_that_of_the_rest(k, temperature):
    """The teacher's softmax runs over what was kept, the student's over everything."""
    teacher, student = logits_of(0), logits_of(1)
    shown = corruption.keep_largest(teacher, corruption.TargetCorruption(top_k=k))

    @jax.jit
    def loss(student):
        return losses.distillation_kl(student, shown, temperature=temperature)

    value, gradient = jax.value_and_grad(loss)(student)
    kept = np.asarray(shown) != corruption.REMOVED
    p = special.softmax(np.where(kept, np.asarray(teacher, float), -np.inf) / temperature, axis=1)
    q = special.softmax(np.asarray(student, float) / temperature, axis=1)
    # float32 sums of six terms of order one, multiplied by the temperature's square
    close = {"rtol": 2e-5, "atol": 1e-6 * temperature**2}
    np.testing.assert_allclose(value, temperature**2 * np.mean(np.sum(special.rel_entr(p, q), axis=1)), **close)
    np.testing.assert_allclose(gradient, temperature * (q - p) / BATCH, **close)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": -0.5}, "noise: must be at least 0, got -0.5"),
        ({"bits": 0}, "bits: must be at least 1, got 0"),
        ({"bits": 17}, "bits: must be at most 16, got 17"),
        ({"top_k": 0}, "top_k: must be at least 1, got 0"),
    ],
)
def test_impossible_targets_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(corruption.TargetCorruption(), **changes)
