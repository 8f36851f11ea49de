"""Likeness of hidden layers against numpy in double precision, and what it must not see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from sublim_jax.metrics import representation
from sublim_jax.models import mlp
from tests import strategies

EXAMPLES, FEATURES, OTHERS = 9, 5, 4  # all different, so that a swapped axis shows
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32 sums of at most 45 products, squared
cka = jax.jit(representation.linear_cka)
gram_cosine = jax.jit(representation.gram_cosine)


def float32(array):
    return jnp.asarray(array, jnp.float32)


def features(seed, width=FEATURES):
    """Features with means of their own and some correlation between the two kinds of a seed."""
    return strategies.normal(seed, EXAMPLES, width) + strategies.normal(seed + 1, width)


def rotation(seed, width=FEATURES):
    return np.linalg.qr(strategies.normal(seed, width, width))[0]


def gram_oracle(first, second, centre):
    """Cosine of the example-by-example Gram matrices, which are never formed in the code."""
    middle = np.eye(EXAMPLES) - 1 / EXAMPLES if centre else np.eye(EXAMPLES)
    grams = [middle @ f @ f.T @ middle for f in (first, second)]
    return np.sum(grams[0] * grams[1]) / np.linalg.norm(grams[0]) / np.linalg.norm(grams[1])


@given(seed=strategies.seeds)
def test_cka_is_the_cosine_of_the_centred_gram_matrices(seed):
    first, second = features(seed), features(seed + 2, OTHERS)
    expected = gram_oracle(first, second, centre=True)
    assert 0.01 < expected < 0.99
    np.testing.assert_allclose(cka(float32(first), float32(second)), expected, **CLOSE)


@given(seed=strategies.seeds)
def test_cka_is_blind_to_rotations_scales_and_shifts_and_to_nothing_else(seed):
    first, second = features(seed), features(seed + 2, OTHERS)
    value = cka(float32(first), float32(second))
    moved = 3 * first @ rotation(seed) + strategies.normal(seed + 5, FEATURES)
    np.testing.assert_allclose(cka(float32(moved), float32(second)), value, **CLOSE)
    np.testing.assert_allclose(cka(float32(second), float32(first)), value, **CLOSE)
    np.testing.assert_allclose(cka(float32(first), float32(moved)), 1, **CLOSE)
    stretched = first * np.array([1, 1, 1, 1, 5])
    assert cka(float32(first), float32(stretched)) < 0.99
    shuffled = np.roll(first, 1, axis=0)
    assert cka(float32(first), float32(shuffled)) < 0.95, "examples correspond"


@given(seed=strategies.seeds)
def test_the_gram_cosine_does_not_centre_and_takes_features_first(seed):
    first, second = features(seed), features(seed + 2, OTHERS)
    value = gram_cosine(float32(first.T), float32(second.T))
    np.testing.assert_allclose(value, gram_oracle(first, second, centre=False), **CLOSE)
    rotated = 0.5 * first @ rotation(seed)
    np.testing.assert_allclose(gram_cosine(float32(first.T), float32(rotated.T)), 1, **CLOSE)


def test_the_gram_cosine_of_dead_features_is_zero_and_has_a_gradient():
    alive, dead = float32(features(0).T), jnp.zeros((OTHERS, EXAMPLES))
    value, gradient = jax.value_and_grad(representation.gram_cosine, argnums=1)(alive, dead)
    assert value == 0 and not np.any(gradient)


def test_a_gram_cosine_of_bfloat16_operands_has_the_value_and_gradient_of_float32():
    first, second = float32(features(0).T), float32(features(2, OTHERS).T)
    product = functools.partial(mlp.product, axis=1, precision="bfloat16")
    value, gradient = jax.value_and_grad(representation.gram_cosine)(first, second)
    rough, roughly = jax.value_and_grad(functools.partial(representation.gram_cosine, product=product))(first, second)
    assert value != rough
    np.testing.assert_allclose(rough, value, rtol=4 * 2**-8)  # four products of operands of 8 significant bits
    np.testing.assert_allclose(roughly, gradient, atol=8 * 2**-8 * np.abs(gradient).max())


@given(seed=strategies.seeds)
def test_the_mean_cosine_is_over_examples(seed):
    first, second = features(seed), features(seed + 2)
    expected = np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(first, second, strict=True)])
    np.testing.assert_allclose(representation.mean_cosine(float32(first), float32(second)), expected, **CLOSE)
    lengths = np.random.default_rng(seed).uniform(0.1, 9, size=(EXAMPLES, 1))
    np.testing.assert_allclose(representation.mean_cosine(float32(first), float32(-lengths * first)), -1, **CLOSE)
    silent = jnp.asarray(first, jnp.float32).at[0].set(0.0)  # a dead example counts as a right angle
    np.testing.assert_allclose(representation.mean_cosine(silent, silent), (EXAMPLES - 1) / EXAMPLES, **CLOSE)


# The probe. Classes of unequal size, offset features, more test than training examples.

CLASSES = 3
probe = jax.jit(representation.ridge_probe_accuracy, static_argnames=("num_classes", "ridge"))


def clouds(seed, num_examples, spread=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, size=num_examples, p=[0.6, 0.3, 0.1])
    centres = np.random.default_rng(99).normal(size=(CLASSES, FEATURES))
    return 4 + centres[labels] + spread * rng.normal(size=(num_examples, FEATURES)), labels.astype(np.uint8)


def probe_oracle(train, labels, test, test_labels, ridge):
    """Least squares with an intercept that is not penalized: penalties as further equations."""
    mean = train.mean(0)
    unit = ridge * np.mean((train - mean) ** 2) * len(train)
    design = np.block([[np.ones((len(train), 1)), train], [np.zeros((FEATURES, 1)), unit**0.5 * np.eye(FEATURES)]])
    wanted = np.concatenate([np.eye(CLASSES)[labels], np.zeros((FEATURES, CLASSES))])
    readout = np.linalg.lstsq(design, wanted, rcond=None)[0]
    return np.mean(np.argmax(np.hstack([np.ones((len(test), 1)), test]) @ readout, axis=1) == test_labels)


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 30.0])
def test_the_probe_is_least_squares_with_an_intercept(ridge):
    """Accuracies are equal, not close: no score of these examples is as near to another as float32 rounding."""
    found = []
    for seed in range(10):
        (train, labels), (test, test_labels) = clouds(seed, 40), clouds(seed + 100, 60)
        expected = probe_oracle(train, labels, test, test_labels, ridge)
        value = probe(
            *(float32(train), jnp.asarray(labels), float32(test), jnp.asarray(test_labels)),
            num_classes=CLASSES,
            ridge=ridge,
        )
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        found.append(expected)
    assert len(set(found)) > 3


def test_the_probe_finds_what_is_linearly_there_and_nothing_else():
    (train, labels), (test, test_labels) = clouds(0, 40, spread=0.05), clouds(1, 60, spread=0.05)

    def accuracy(train, labels, test, test_labels):
        arguments = float32(train), jnp.asarray(labels), float32(test), jnp.asarray(test_labels)
        return probe(*arguments, num_classes=CLASSES, ridge=1e-3)

    assert accuracy(train, labels, test, test_labels) == 1
    dead = accuracy(np.zeros_like(train), labels, np.zeros_like(test), test_labels)
    np.testing.assert_allclose(dead, np.mean(test_labels == 0), rtol=1e-6)  # the commonest class, everywhere
    scaled = accuracy(1e-3 * train, labels, 1e-3 * test, test_labels)
    assert scaled == 1, "the ridge is in units of the features"
