"""Noise images: the same image whenever it is drawn, and pixels of the law they were asked for."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax.data import noise

LAWS = {
    "uniform": noise.NoiseSpec(),
    "uniform32": noise.NoiseSpec(bits=32),
    "gaussian": noise.NoiseSpec(distribution="gaussian"),
    "bernoulli": noise.NoiseSpec(distribution="bernoulli"),
}
LEVELS = np.arange(256) / 127.5 - 1
MOMENTS = {  # E x^2 and E x^4 at amplitude 1
    "uniform": (np.mean(LEVELS**2), np.mean(LEVELS**4)),
    "uniform32": (1 / 3, 1 / 5),
    "gaussian": (1, 3),
    "bernoulli": (1, 1),
}
NUM_IMAGES = 4
seeds = st.integers(0, 2**32 - 1)


@functools.partial(jax.jit, static_argnames=("num_pixels", "spec"))
def draw(key, numbers, *, num_pixels, spec):
    return noise.sample(key, numbers, num_pixels=num_pixels, spec=spec)


@pytest.mark.parametrize("law", LAWS)
@given(
    seed=seeds, numbers=st.lists(st.integers(0, 2**31 - 1), min_size=NUM_IMAGES, max_size=NUM_IMAGES), data=st.data()
)
def test_an_image_depends_on_the_key_and_its_number_alone(law, seed, numbers, data):
    """Bit for bit, in whatever order and company it is drawn."""
    key, spec = jax.random.key(seed), LAWS[law]
    images = draw(key, jnp.array(numbers), num_pixels=10, spec=spec)
    order = data.draw(st.permutations(range(NUM_IMAGES)))
    again = draw(key, jnp.array([numbers[i] for i in order]), num_pixels=10, spec=spec)
    np.testing.assert_array_equal(again, images[jnp.array(order)])
    company = draw(key, jnp.array([numbers[0], 1, 2, 3]), num_pixels=10, spec=spec)
    np.testing.assert_array_equal(company[0], images[0])


@pytest.mark.parametrize("law", LAWS)
def test_a_batch_of_another_size_or_under_vmap_draws_the_same_images(law):
    key, spec = jax.random.key(0), LAWS[law]
    images = draw(key, jnp.arange(8), num_pixels=784, spec=spec)
    np.testing.assert_array_equal(draw(key, jnp.arange(3, 4), num_pixels=784, spec=spec), images[3:4])
    members = jax.vmap(lambda k: noise.sample(k, jnp.arange(8), num_pixels=784, spec=spec))(jax.random.split(key, 2))
    for member, own in zip(members, jax.random.split(key, 2), strict=True):
        np.testing.assert_array_equal(member, draw(own, jnp.arange(8), num_pixels=784, spec=spec))


@pytest.mark.parametrize("law", LAWS)
def test_an_image_is_the_same_wherever_in_a_program_it_is_drawn(law):
    """Labelling and training draw the same images inside different loops, where the compiler fuses differently."""
    key, spec = jax.random.key(2), LAWS[law]
    plan = jnp.arange(12).reshape(3, 4)
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(784, 3)), jnp.float32)

    @jax.jit
    def used(plan):
        def step(total, numbers):
            images = noise.sample(key, numbers, num_pixels=784, spec=spec)
            return total + jnp.sum(jnp.tanh(images @ weight)), images

        return jax.lax.scan(step, 0.0, plan)[1]

    alone = jax.lax.map(lambda numbers: noise.sample(key, numbers, num_pixels=784, spec=spec), plan)
    np.testing.assert_array_equal(used(plan), alone)


@pytest.mark.parametrize("law", LAWS)
def test_other_numbers_and_other_keys_give_other_images(law):
    images = np.asarray(draw(jax.random.key(0), jnp.arange(8), num_pixels=784, spec=LAWS[law]))
    others = np.asarray(draw(jax.random.key(1), jnp.arange(8), num_pixels=784, spec=LAWS[law]))
    everything = np.concatenate([images, others])
    assert len(np.unique(everything, axis=0)) == 16
    correlations = np.corrcoef(everything)[np.triu_indices(16, 1)]
    assert np.abs(correlations).max() < 5 / 784**0.5  # five standard errors of an empirical correlation


# Statistics of n pixels are held to five standard errors: once in two million by chance.


@pytest.mark.parametrize("amplitude", [1.0, 0.3])
@pytest.mark.parametrize("law", LAWS)
def test_pixels_follow_their_law(law, amplitude):
    spec = dataclasses.replace(LAWS[law], amplitude=amplitude)
    unit = np.asarray(draw(jax.random.key(5), jnp.arange(256), num_pixels=783, spec=spec), float) / amplitude
    count, (variance, fourth) = unit.size, MOMENTS[law]
    assert abs(unit.mean()) < 5 * (variance / count) ** 0.5
    # A two-valued pixel has a square that does not vary: then only rounding is left.
    assert abs(np.mean(unit**2) - variance) < 5 * ((fourth - variance**2) / count) ** 0.5 + 1e-6
    neighbours = np.mean(unit[:, 1:] * unit[:, :-1]) / variance
    assert abs(neighbours) < 5 / count**0.5, "neighbouring pixels are correlated"
    columns = unit.mean(axis=0) / (variance / 256) ** 0.5
    assert np.abs(columns).max() < 6, "some pixel has a mean of its own"  # 783 of them: once in 600,000 by chance


def test_a_uniform_pixel_of_eight_bits_has_256_equally_likely_levels():
    spec = noise.NoiseSpec(amplitude=0.5)
    pixels = np.asarray(draw(jax.random.key(0), jnp.arange(400), num_pixels=784, spec=spec))
    levels, counts = np.unique(pixels, return_counts=True)
    np.testing.assert_allclose(levels, 0.5 * LEVELS, atol=1e-7)
    expected = pixels.size / 256
    statistic = np.sum((counts - expected) ** 2) / expected  # chi-squared of 255 degrees of freedom
    assert abs(statistic - 255) < 5 * (2 * 255) ** 0.5


def test_thirty_two_bits_are_finer_than_eight_and_stay_in_range():
    pixels = np.asarray(draw(jax.random.key(0), jnp.arange(20), num_pixels=784, spec=noise.NoiseSpec(bits=32)))
    assert len(np.unique(pixels)) > 0.9 * pixels.size
    assert pixels.min() >= -1 and pixels.max() < 1


def test_a_bernoulli_pixel_is_one_of_two_values_and_a_gaussian_one_is_not_clipped():
    bernoulli = draw(
        jax.random.key(0), jnp.arange(9), num_pixels=50, spec=noise.NoiseSpec(distribution="bernoulli", amplitude=2.0)
    )
    assert set(np.unique(bernoulli)) == {-2.0, 2.0}
    gaussian = draw(jax.random.key(0), jnp.arange(9), num_pixels=50, spec=noise.NoiseSpec(distribution="gaussian"))
    assert np.abs(gaussian).max() > 2


def test_a_bernoulli_pixel_is_the_sign_of_a_uniform_one():
    """Both are made of the same byte, so the two values are exactly as likely as they should be."""
    uniform, bernoulli = (
        draw(jax.random.key(1), jnp.arange(9), num_pixels=784, spec=noise.NoiseSpec(distribution=law))
        for law in ("uniform", "bernoulli")
    )
    np.testing.assert_array_equal(bernoulli, np.sign(uniform))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("num_pixels", [1, 2, 3, 5, 783])
def test_any_number_of_pixels_can_be_had(law, num_pixels):
    """Also one that four does not divide, as bytes are drawn by fours."""
    images = draw(jax.random.key(0), jnp.arange(6), num_pixels=num_pixels, spec=LAWS[law])
    assert images.shape == (6, num_pixels) and images.dtype == jnp.float32
    assert len(np.unique(images[:, -1])) > 1, "the last pixel does not vary"


@pytest.mark.parametrize("num_images", [1, 7, noise.CHUNK, noise.CHUNK + 3])
@pytest.mark.parametrize("num_words", [1, 196])
def test_words_are_the_bits_of_jax(num_images, num_words):
    keys = jax.random.split(jax.random.key(5), num_images)
    expected = jax.vmap(lambda key: jax.random.bits(key, (num_words,), jnp.uint32))(keys)
    np.testing.assert_array_equal(jax.jit(noise.random_bits, static_argnums=1)(keys, num_words), expected)


def test_words_of_another_generator_are_jaxs_too():
    keys = jax.random.split(jax.random.key(5, impl="rbg"), 3)
    expected = jax.vmap(lambda key: jax.random.bits(key, (4,), jnp.uint32))(keys)
    np.testing.assert_array_equal(noise.random_bits(keys, 4), expected)


def test_a_gaussian_pixel_is_jaxs():
    """Bit for bit; chunks and an odd number of pixels included."""
    keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(5), number))(jnp.arange(noise.CHUNK + 3))
    expected = 0.5 * jax.jit(jax.vmap(lambda key: jax.random.normal(key, (49,))))(keys)
    spec = noise.NoiseSpec(distribution="gaussian", amplitude=0.5)
    np.testing.assert_array_equal(
        draw(jax.random.key(5), jnp.arange(noise.CHUNK + 3), num_pixels=49, spec=spec), expected
    )


def test_no_image_of_bytes_repeats_within_itself():
    """Each 32-bit draw gives four bytes: all four are used, each once."""
    images = np.asarray(draw(jax.random.key(0), jnp.arange(200), num_pixels=64, spec=noise.NoiseSpec()))
    correlations = np.corrcoef(images.T)[np.triu_indices(64, 1)]
    assert np.abs(correlations).max() < 6 / 200**0.5  # 2,016 of them


@pytest.mark.parametrize("amplitude", [0.0, -1.0])
def test_an_amplitude_that_is_not_positive_is_refused(amplitude):
    with pytest.raises(ValueError, match=f"amplitude: must be greater than 0, got {amplitude}"):
        noise.NoiseSpec(amplitude=amplitude)
