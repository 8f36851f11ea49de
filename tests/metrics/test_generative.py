"""Fréchet distances beside closed forms and SciPy's matrix root, shares and confidences by hand."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors
from sublim_jax.metrics import generative
from sublim_jax.metrics.generative import Moments


def drawn(seed, num_features, count=40):
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((num_features, num_features))
    return random.standard_normal((count, num_features)) @ mixing + random.standard_normal(num_features)


@given(seed=st.integers(0, 2**32 - 1), num_features=st.sampled_from([1, 2, 5]))
def test_the_distance_is_that_of_scipys_matrix_root(seed, num_features):
    first, second = (generative.moments(drawn(seed + place, num_features)) for place in range(2))
    root = scipy.linalg.sqrtm(first.covariance @ second.covariance)
    difference = first.mean - second.mean
    expected = difference @ difference + np.trace(first.covariance + second.covariance - 2 * np.real(root))
    scale = expected + np.trace(first.covariance) + np.trace(second.covariance)
    np.testing.assert_allclose(generative.frechet_distance(first, second), expected, rtol=0, atol=1e-7 * scale)
    assert generative.frechet_distance(second, first) == pytest.approx(expected, abs=1e-7 * scale)
    assert generative.frechet_distance(first, first) == pytest.approx(0, abs=1e-7 * scale)


def test_the_distance_of_gaussians_with_one_basis_is_that_of_their_axes():
    """|m - n|^2 + sum (a - b)^2 for standard deviations a and b along common axes."""
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    a, b = np.array([1.0, 2.0, 0.5, 0.0]), np.array([1.5, 0.5, 0.5, 1.0])
    m, n = np.array([1.0, 0, 0, 0]), np.array([0.0, 2.0, 0, 0])
    first, second = (Moments(mean, rotation @ np.diag(side**2) @ rotation.T) for mean, side in ((m, a), (n, b)))
    assert generative.frechet_distance(first, second) == pytest.approx(5 + np.sum((a - b) ** 2), abs=1e-7)


def test_moments_are_numpys():
    features = drawn(3, 5)
    found = generative.moments(features)
    np.testing.assert_allclose(found.mean, features.mean(0))
    np.testing.assert_allclose(found.covariance, np.cov(features.T))


def test_relative_distances_are_in_units_of_the_real_spread():
    features = drawn(4, 3, count=5000)
    real = generative.moments(features)
    assert generative.relative_frechet_distance(features, real) == pytest.approx(0, abs=1e-9)
    at_the_mean = np.tile(real.mean, (10, 1))
    assert generative.relative_frechet_distance(at_the_mean, real) == pytest.approx(1)
    assert generative.relative_frechet_distance(7 * features, generative.moments(7 * features)) < 1e-9


def test_shares_and_confidence_are_means():
    assert generative.share(np.array([True, False, False, True, True])) == 0.6
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]])
    assert generative.confidence(probabilities) == pytest.approx((0.7 + 0.8 + 0.4) / 3)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((1, 3)), "a covariance needs two images at least, got 1"),
        (np.array([[0.0, np.nan], [1, 2]]), "features are not finite: .* diverged"),
    ],
)
def test_features_without_moments_are_refused(features, message):
    with pytest.raises(errors.InputError, match=message):
        generative.moments(features)


def test_moments_of_two_judges_are_refused():
    with pytest.raises(errors.InputError, match="moments of 3 and of 4 features: expected those of one judge"):
        generative.frechet_distance(generative.moments(drawn(0, 3)), generative.moments(drawn(0, 4)))
