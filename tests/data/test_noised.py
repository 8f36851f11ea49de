"""Pairs (x_t, t) are functions of their number, on the path and of the distribution that they are said to be."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sublim_jax import errors
from sublim_jax.data import noised

KEY = jax.random.key(11)
IMAGES = jnp.asarray(np.random.default_rng(5).uniform(-1, 1, (7, 6)), jnp.float32)


def test_the_path_leads_from_the_image_to_the_noise():
    noise = jnp.asarray(np.random.default_rng(6).standard_normal((7, 6)), jnp.float32)
    times = jnp.array([0, 1, 0.25, 0.5, 0.75, 0.1, 0.9])
    images = noised.path(IMAGES, noise, times)
    for n, t in enumerate(np.asarray(times)):
        np.testing.assert_allclose(images[n], (1 - t) * IMAGES[n] + t * noise[n], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(images[0], IMAGES[0])
    np.testing.assert_array_equal(images[1], noise[1])
    square = noised.path(IMAGES.reshape(7, 2, 3), noise.reshape(7, 2, 3), times)  # images of any shape
    np.testing.assert_array_equal(square.reshape(7, 6), images)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uniform", "gaussian", "images"])
def test_a_pair_depends_on_its_number_alone(kind):
    inputs = noised.make_inputs(KEY, kind, num_pixels=6, images=IMAGES)
    images, times = inputs(jnp.arange(40))
    again, late = inputs(jnp.array([39, 3, 3, 17]))
    np.testing.assert_array_equal(again, images[jnp.array([39, 3, 3, 17])])
    np.testing.assert_array_equal(late, times[jnp.array([39, 3, 3, 17])])
    assert len(np.unique(np.asarray(times))) == 40
    other = noised.make_inputs(jax.random.key(12), kind, num_pixels=6, images=IMAGES)(jnp.arange(40))
    assert not np.any(np.all(np.asarray(other[0] == images), axis=1)) and not np.any(np.asarray(other[1] == times))


def test_pixels_and_times_have_their_distributions():
    """p-values of 600 to 3,600 numbers under a fixed key; one below .001 would be a fault and not chance."""
    for kind, law in (("uniform", stats.uniform(-1, 2)), ("gaussian", stats.norm())):
        images, times = noised.make_inputs(KEY, kind, num_pixels=6, latest=0.4)(jnp.arange(600))
        assert stats.kstest(np.asarray(images).ravel(), law.cdf).pvalue > 1e-3
        assert stats.kstest(np.asarray(times) / 0.4, "uniform").pvalue > 1e-3
        correlation = np.corrcoef(np.asarray(times), np.asarray(images)[:, 0])[0, 1]
        assert abs(correlation) < 4 / 600**0.5  # four standard errors
    assert np.max(np.abs(noised.make_inputs(KEY, "uniform", num_pixels=6)(jnp.arange(600))[0])) <= 1


def test_real_images_lie_on_their_path_and_all_of_the_first_ones_come():
    inputs = noised.make_inputs(KEY, "images", num_pixels=6, images=IMAGES, num_images=3, latest=1e-6)
    shown, times = inputs(jnp.arange(200))
    distances = np.abs(np.asarray(shown)[:, None] - np.asarray(IMAGES)[None]).max(axis=2)
    assert np.all(distances.min(axis=1) < 1e-5)  # at the beginning of the path, noise times 1e-6
    counts = np.bincount(distances.argmin(axis=1), minlength=7)
    assert counts[3:].sum() == 0
    assert stats.chisquare(counts[:3]).pvalue > 1e-3
    for n in range(3):  # which image comes says nothing of the time
        mean = np.mean(np.asarray(times, float)[distances.argmin(axis=1) == n]) / 1e-6
        assert abs(mean - 0.5) < 4 * (1 / 12 / counts[n]) ** 0.5  # four standard errors


def test_labels_are_those_that_are_asked_for_and_nothing_else_changes():
    """Also those that a compiled program is given: no class comes that is not among them, and each as often."""
    numbers, asked = jnp.arange(900), (8, 1, 5)
    pairs = noised.make_inputs(KEY, "uniform", num_pixels=6)(numbers)
    images, times, labels = noised.make_inputs(KEY, "uniform", num_pixels=6, labels=asked)(numbers)
    np.testing.assert_array_equal(images, pairs[0])
    np.testing.assert_array_equal(times, pairs[1])
    counts = np.bincount(np.asarray(labels), minlength=10)
    assert set(np.flatnonzero(counts)) == set(asked)
    assert stats.chisquare(counts[list(asked)]).pvalue > 1e-3
    by_class = [np.asarray(times)[np.asarray(labels) == label] for label in asked]
    assert stats.f_oneway(*by_class).pvalue > 1e-3  # the class says nothing about the time
    traced = jax.jit(
        lambda classes: noised.make_inputs(KEY, "uniform", num_pixels=6, labels=classes)(numbers[::-7])[2]
    )  # fmt: skip
    np.testing.assert_array_equal(traced(jnp.array(asked)), labels[::-7])  # a function of the number alone


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "others"}, "kind: expected one of 'uniform', 'gaussian', 'images', got 'others'"),
        ({"kind": "uniform", "latest": 0.0}, "latest=0.0: times lie between 0, the image, and 1"),
        ({"kind": "gaussian", "latest": 1.5}, "latest=1.5: times lie"),
        ({"kind": "uniform", "labels": ()}, "labels: give the classes that are asked for, one at least, or None"),
        ({"kind": "images"}, r"kind='images' shows real images .* some of 6 pixels each, got None"),
        ({"kind": "images", "images": IMAGES[:, :4]}, r"6 pixels each, got \(7, 4\)"),
        ({"kind": "images", "images": IMAGES[:0]}, r"6 pixels each, got \(0, 6\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(settings, message):
    with pytest.raises(errors.InputError, match=message):
        inspect.unwrap(noised.make_inputs)(KEY, num_pixels=6, **settings)
