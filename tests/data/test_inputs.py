"""What is done to noise images, against scipy, numpy's Fourier transform and plain selections."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from sublim_jax.data import inputs, noise
from tests import strategies

SIDE = 8
FEW, MANY = 40, 3000  # batches of two sizes, for each of which a program is compiled
GAUSSIAN = noise.NoiseSpec(distribution="gaussian", amplitude=0.7)
KEY = jax.random.key(3)
# Eleven times an image with a different byte for every pixel, so that its place can be read.
CODES = np.tile(np.arange(SIDE * SIDE, dtype=np.uint8), (11, 1))


def real_images(num_images=11):
    """Images with horizontal streaks, so that exchanged sides show; image n is brighter than image n - 1."""
    rng = np.random.default_rng(0)
    streaks = np.cumsum(rng.normal(size=(num_images, SIDE, SIDE)), axis=2)
    pixels = 60 + 10 * np.arange(num_images)[:, None, None] + 12 * streaks
    return np.clip(pixels, 0, 255).astype(np.uint8).reshape(num_images, -1)


REAL = real_images()
SCALED = (REAL.astype(float) - 127.5) / 127.5
CLOSE = {"rtol": 1e-5, "atol": 2e-6}  # float32 sums of at most 64 products of order one


@functools.partial(jax.jit, static_argnames=("law", "num_pixels"))
def program(key, numbers, real, spec, *, law, num_pixels):
    source = inputs.make_inputs(key, law, spec, num_pixels=num_pixels, real_images=real)
    return source(numbers)


def draw(spec, numbers, *, key=KEY, law=GAUSSIAN, num_pixels=SIDE * SIDE, real=REAL):
    """Images as a compiled program draws them, few or many at a time. The numbers of the spec are data to it."""
    padded = np.zeros(FEW if len(numbers) <= FEW else MANY, np.int32)
    padded[: len(numbers)] = numbers
    images = program(key, jnp.asarray(padded), jnp.asarray(real), spec, law=law, num_pixels=num_pixels)
    return images[: len(numbers)]


def drawn_noise(numbers, *, key=KEY, law=GAUSSIAN, num_pixels=SIDE * SIDE):
    return np.asarray(draw(inputs.InputSpec(), numbers, key=key, law=law, num_pixels=num_pixels))


# Which image, and when.

SPECS = {
    "default": inputs.InputSpec(),
    "lattice": inputs.InputSpec(perlin_cells=3),
    "blur": inputs.InputSpec(blur=1.0),
    "blurred_spectrum": inputs.InputSpec(blurred_spectrum=1.0),
    "mnist_spectrum": inputs.InputSpec(mnist_spectrum=True),
    "subspace": inputs.InputSpec(subspace_dims=5.0),
    "weight": inputs.InputSpec(real_weight=0.5, real="one_shuffle"),
    "share": inputs.InputSpec(real_fraction=0.5, real="pixels_shuffled"),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_an_image_depends_on_the_key_and_its_number_alone(spec):
    images = np.asarray(draw(spec, [4, 0, 65, 9]))
    # Bit-equal apart from the products, whose sums may be cut differently in another company.
    np.testing.assert_allclose(draw(spec, [9, 65, 4, 1000])[:3], images[[3, 2, 0]], rtol=1e-6, atol=1e-6)
    other = np.asarray(draw(spec, [4, 0, 65, 9], key=jax.random.key(4)))
    assert not np.any(np.all(other == images, axis=1)) or spec.real_fraction is not None
    assert images.shape == (4, SIDE * SIDE) and images.dtype == np.float32
    assert len(np.unique(images, axis=0)) == 4


def test_the_default_is_the_noise_itself():
    law = noise.NoiseSpec()  # bit-equal however it is compiled
    expected = noise.sample(KEY, jnp.array([5, 3]), num_pixels=64, spec=law)
    np.testing.assert_array_equal(draw(inputs.InputSpec(), [5, 3], law=law), expected)


def test_one_trace_serves_all_numbers():
    traces = []

    @jax.jit
    def shaped(spec):
        traces.append(spec)
        source = inputs.make_inputs(KEY, GAUSSIAN, spec, num_pixels=64, real_images=jnp.asarray(REAL))
        return source(jnp.arange(2))

    for number in (0.3, 0.7):
        spec = inputs.InputSpec(
            blur=number, blurred_spectrum=2 * number, real_weight=number, real_fraction=number, preserve_std=True
        )
        fixed = inputs.make_inputs(KEY, GAUSSIAN, spec, num_pixels=64, real_images=jnp.asarray(REAL))
        np.testing.assert_allclose(shaped(spec), fixed(jnp.arange(2)), **CLOSE)
    assert len(traces) == 1


# Blurs.


@given(sigma=st.floats(0.5, 2.5), side=st.sampled_from([7, 12]))
def test_a_blur_is_scipys_with_rows_normalized_at_the_border(sigma, side):
    columns = ndimage.gaussian_filter1d(np.eye(side), sigma, axis=0, mode="constant", truncate=2 * side / sigma)
    expected = columns / columns.sum(axis=1, keepdims=True)
    assert np.abs(expected - expected.T).max() > 1e-4, "a transposed matrix shows"
    np.testing.assert_allclose(inputs.blur_matrix(sigma, side), expected, **CLOSE)


@given(sigma=st.floats(0.3, 1.2))
def test_a_periodic_blur_is_scipys(sigma):
    side = 14  # of the kernel's further turns around nothing is left: exp(-(7/1.2)^2 / 2) = 4e-8
    expected = ndimage.gaussian_filter1d(np.eye(side), sigma, axis=0, mode="wrap", truncate=6.5 / sigma)
    np.testing.assert_allclose(inputs.blur_matrix(sigma, side, periodic=True), expected, **CLOSE)


@given(sigma=st.floats(0, 50), periodic=st.booleans())
def test_rows_of_a_blur_sum_to_one_and_a_blur_of_nothing_is_the_identity(sigma, periodic):
    matrix = np.asarray(inputs.blur_matrix(sigma, 9, periodic=periodic), float)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    assert np.all(matrix >= 0)
    np.testing.assert_array_equal(inputs.blur_matrix(0.0, 9, periodic=periodic), np.eye(9))


@pytest.mark.parametrize("periodic", [False, True])
def test_images_are_blurred_along_both_sides(periodic):
    spec = inputs.InputSpec(blurred_spectrum=0.8) if periodic else inputs.InputSpec(blur=1.3)
    matrix = np.asarray(inputs.blur_matrix(0.8 if periodic else 1.3, SIDE, periodic=periodic), float)
    grids = drawn_noise(range(6)).reshape(6, SIDE, SIDE)
    expected = np.stack([matrix @ grid @ matrix.T for grid in grids]).reshape(6, -1)
    np.testing.assert_allclose(draw(spec, range(6)), expected, **CLOSE)
    unblurred = dataclasses.replace(spec, blur=None if periodic else 0.0, blurred_spectrum=0.0 if periodic else None)
    np.testing.assert_allclose(draw(unblurred, range(6)), drawn_noise(range(6)), rtol=1e-6)


# Lattices.


@pytest.mark.parametrize(("cells", "side"), [(2, 8), (4, 8), (7, 28), (3, 7), (1, 5)])
def test_a_lattice_is_interpolated_with_perlins_fade(cells, side):
    matrix = np.asarray(inputs.lattice_matrix(cells, side), float)
    assert matrix.shape == (side, cells + 1)
    values = strategies.normal(0, cells + 1)
    for pixel in range(side):
        left, t = divmod(pixel * cells / side, 1)
        fade = np.polynomial.Polynomial([0, 0, 0, 10, -15, 6])(t)
        left = int(left)
        expected = values[left] + fade * (values[left + 1] - values[left])
        np.testing.assert_allclose(matrix[pixel] @ values, expected, rtol=1e-5, atol=1e-6)
    if side % cells == 0:
        np.testing.assert_allclose(matrix[:: side // cells] @ values, values[:-1], rtol=1e-6)


def test_a_lattice_of_one_cell_a_pixel_is_the_noise_without_its_last_row_and_column():
    points = drawn_noise(range(3), num_pixels=(SIDE + 1) ** 2).reshape(3, SIDE + 1, SIDE + 1)
    found = draw(inputs.InputSpec(perlin_cells=SIDE), range(3))
    np.testing.assert_allclose(found, points[:, :-1, :-1].reshape(3, -1), rtol=1e-6)


def test_images_are_interpolated_along_both_sides():
    matrix = np.asarray(inputs.lattice_matrix(3, SIDE), float)
    points = drawn_noise(range(5), num_pixels=16).reshape(5, 4, 4)
    expected = np.stack([matrix @ grid @ matrix.T for grid in points]).reshape(5, -1)
    np.testing.assert_allclose(draw(inputs.InputSpec(perlin_cells=3), range(5)), expected, **CLOSE)


# Spreads.

KEPT = {
    "lattice": inputs.InputSpec(perlin_cells=3),
    "blur": inputs.InputSpec(blur=1.2),
    "blurred_spectrum": inputs.InputSpec(blurred_spectrum=1.2),
    "mnist_spectrum": inputs.InputSpec(mnist_spectrum=True),
}


def squares(images):
    """Mean square over pixels and images, and its standard error over images, whose pixels are correlated."""
    per_image = np.mean(np.asarray(images, float) ** 2, axis=1)
    return per_image.mean(), per_image.std() / len(per_image) ** 0.5


@pytest.mark.parametrize("name", KEPT)
def test_spreads_are_kept_if_asked(name):
    kept, error = squares(draw(dataclasses.replace(KEPT[name], preserve_std=True), range(MANY)))
    assert abs(kept - 0.7**2) < 5 * error and error < 0.05 * 0.7**2
    lost, _ = squares(draw(KEPT[name], range(FEW)))
    assert lost < 0.8 * 0.7**2


@pytest.mark.parametrize("dims", [1.0, 5.0, 64.0])
def test_a_subspace_has_its_rank_and_the_spread_of_the_noise(dims):
    spec = inputs.InputSpec(subspace_dims=dims)
    images = np.asarray(draw(spec, range(MANY)), float)
    spectrum = np.linalg.svd(images, compute_uv=False)
    assert np.all(spectrum[: int(dims)] > 0.5 * spectrum[0])
    assert np.all(spectrum[int(dims) :] < 3e-3 * spectrum[0])  # entries of the projector are off by up to 2^-9
    spread, error = squares(images)
    assert abs(spread - 0.7**2) < 5 * error + 0.01 * 0.7**2  # operands of 8 significant bits
    both = np.concatenate([images, draw(spec, range(MANY), key=jax.random.key(5))])
    assert np.linalg.matrix_rank(both, tol=1e-2 * spectrum[0]) == min(2 * dims, 64), "members differ"


def test_a_subspace_is_a_projection_of_the_noise():
    """Up to the gain: what is left of an image is what points along it."""
    images = np.asarray(draw(inputs.InputSpec(subspace_dims=16.0), range(FEW)), float)
    clean = drawn_noise(range(FEW)).astype(float)
    basis = np.linalg.svd(images, full_matrices=False)[2][:16]
    gain = (64 / 16) ** 0.5
    # bfloat16 operands: each coordinate, a sum of 64 products, is off by 2^-8 of its terms' root mean square
    np.testing.assert_allclose(images, gain * clean @ basis.T @ basis, atol=5 * gain * 2**-8 * np.abs(clean).max())


@pytest.mark.parametrize("dims", [0.0, 100.0])
def test_no_dimension_is_black_and_more_than_all_are_all(dims):
    found = draw(inputs.InputSpec(subspace_dims=dims), range(4))
    expected = draw(inputs.InputSpec(subspace_dims=64.0), range(4)) if dims else np.zeros((4, 64))
    np.testing.assert_array_equal(found, expected)


def test_a_subspace_does_not_mind_what_is_not_square():
    images = draw(inputs.InputSpec(subspace_dims=3.0), range(20), num_pixels=10, real=REAL[:, :10])
    assert np.linalg.matrix_rank(np.asarray(images, float), tol=0.05) == 3


# Spectra.


def test_the_mean_spectrum_is_that_of_numpy():
    grids = SCALED.reshape(-1, SIDE, SIDE)
    for count in (11, 4):
        power = np.abs(np.fft.rfft2(grids[:count] - grids[:count].mean())) ** 2
        found = inputs.mean_spectrum(jnp.asarray(REAL), SIDE, num_images=count)
        np.testing.assert_allclose(found, np.sqrt(power.mean(axis=0)) / SIDE, rtol=1e-4, atol=1e-5)


def test_noise_under_the_images_spectrum_has_that_spectrum_and_random_phases():
    count = MANY
    found = np.asarray(draw(inputs.InputSpec(mnist_spectrum=True), range(count)), float)
    grids = SCALED.reshape(-1, SIDE, SIDE)
    power = 0.7**2 * np.mean(np.abs(np.fft.fft2(grids - grids.mean())) ** 2, axis=0)
    assert np.abs(np.log(power / power.T)).max() > 1, "exchanged sides show"
    transformed = np.fft.fft2(found.reshape(-1, SIDE, SIDE))
    # The power of a frequency varies by itself, or by sqrt(2) of it where it is real; 64 of them, five errors.
    assert np.abs(np.mean(np.abs(transformed) ** 2, axis=0) / power - 1).max() < 5 * (2 / count) ** 0.5
    coherence = np.abs(np.mean(transformed, axis=0)) / power**0.5
    assert coherence.max() < 5 / count**0.5
    # Image by image: a circular convolution of the noise.
    white = np.fft.fft2(drawn_noise(range(5)).reshape(5, SIDE, SIDE)) / 0.7
    expected = np.fft.ifft2(white * power**0.5 / SIDE).real.reshape(5, -1)
    np.testing.assert_allclose(found[:5], expected, rtol=1e-4, atol=1e-5)


# Real images.


def test_the_share_is_exact_at_its_ends_and_a_probability_between():
    numbers = [0, 3, 12, 10, 32]
    real = SCALED[[0, 3, 1, 10, 10]]  # numbers modulo eleven images
    np.testing.assert_allclose(draw(inputs.InputSpec(real_fraction=1.0), numbers), real, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(draw(inputs.InputSpec(real_fraction=0.0), numbers), drawn_noise(numbers))
    many, clean = np.asarray(draw(inputs.InputSpec(real_fraction=0.3), range(MANY))), drawn_noise(range(MANY))
    is_noise = np.all(many == clean, axis=1)
    is_real = np.all(np.abs(many - SCALED[np.arange(MANY) % 11]) < 1e-6, axis=1)
    assert np.all(is_noise ^ is_real)
    assert abs(is_real.mean() - 0.3) < 5 * (0.3 * 0.7 / MANY) ** 0.5
    more = np.asarray(draw(inputs.InputSpec(real_fraction=0.6), range(MANY)))
    assert np.all(np.all(more != clean, axis=1)[is_real]), "what is real at 0.3 is real at 0.6"


def test_the_weight_mixes_pixel_by_pixel_and_is_exact_at_its_ends():
    numbers = [0, 3, 12, 10, 32]
    real, clean = SCALED[[0, 3, 1, 10, 10]], drawn_noise(numbers)
    np.testing.assert_allclose(draw(inputs.InputSpec(real_weight=1.0), numbers), real, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(draw(inputs.InputSpec(real_weight=0.0), numbers), clean, rtol=1e-6)
    np.testing.assert_allclose(
        draw(inputs.InputSpec(real_weight=0.25), numbers), 0.25 * real + 0.75 * clean, rtol=1e-5, atol=1e-6
    )


def test_the_weight_comes_before_the_share_and_both_after_the_blur():
    spec = inputs.InputSpec(blur=1.0, real_weight=0.25, real_fraction=0.5)
    blurred = np.asarray(draw(inputs.InputSpec(blur=1.0), range(30)), float)
    real = SCALED[np.arange(30) % 11]
    mixed = 0.25 * real + 0.75 * blurred
    found = np.asarray(draw(spec, range(30)), float)
    is_real = np.all(np.abs(found - real) < 1e-5, axis=1)
    assert 0 < is_real.sum() < 30
    np.testing.assert_allclose(found[~is_real], mixed[~is_real], **CLOSE)


def bytes_of(images):
    return np.rint(np.asarray(images, float) * 127.5 + 127.5).astype(int)


@pytest.mark.parametrize("real", ["one_shuffle", "pixels_shuffled"])
def test_shuffles_keep_every_images_pixels(real):
    found = bytes_of(draw(inputs.InputSpec(real_fraction=1.0, real=real), range(11)))
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(REAL, axis=1))
    assert np.all(np.mean(found == REAL, axis=1) < 0.7)
    coded = bytes_of(draw(inputs.InputSpec(real_fraction=1.0, real=real), range(4), real=CODES))
    orders = len(np.unique(coded, axis=0))
    assert orders == (1 if real == "one_shuffle" else 4)
    if real == "one_shuffle":
        np.testing.assert_array_equal(found, REAL[:, coded[0]])
    other = bytes_of(draw(inputs.InputSpec(real_fraction=1.0, real=real), range(4), real=CODES, key=jax.random.key(9)))
    assert not np.any(np.all(other == coded, axis=1)), "members have orders of their own"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"real_weight": 1.5}, "real_weight: must be at most 1, got 1.5"),
        ({"real_fraction": -0.1}, "real_fraction: must be at least 0, got -0.1"),
        ({"perlin_cells": 0}, "perlin_cells: must be at least 1, got 0"),
        ({"blur": -1.0}, "blur: must be at least 0, got -1.0"),
        ({"blurred_spectrum": -1.0}, "blurred_spectrum: must be at least 0, got -1.0"),
        ({"subspace_dims": -2.0}, "subspace_dims: must be at least 0, got -2.0"),
    ],
)
def test_impossible_inputs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        inputs.InputSpec(**changes)


@pytest.mark.parametrize("name", ["lattice", "blur", "blurred_spectrum", "mnist_spectrum"])
def test_images_that_are_not_square_cannot_be_shaped(name):
    with pytest.raises(ValueError, match="images of 10 pixels are not square"):
        inputs.make_inputs(KEY, GAUSSIAN, SPECS[name], num_pixels=10, real_images=jnp.asarray(REAL[:, :10]))
