"""Images pooled, slanted, bold and inverted, and statistics of them, beside second implementations."""

import numpy as np
import pytest
from scipy import ndimage

from sublim_jax import errors
from sublim_jax.data import transforms

IMAGES = np.random.default_rng(3).integers(0, 256, (3, 12, 18), dtype=np.uint8)


def test_pooled_pixels_are_the_means_of_their_squares():
    pooled = transforms.pooled(IMAGES, 3)
    assert pooled.shape == (3, 4, 6) and pooled.dtype == np.uint8
    for row in range(4):
        for column in range(6):
            block = IMAGES[1, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3].astype(int)
            assert abs(int(pooled[1, row, column]) - block.sum() / 9) <= 0.5  # rounded to a whole number
    np.testing.assert_array_equal(transforms.pooled(IMAGES, 1), IMAGES)


@pytest.mark.parametrize("factor", [0, 4, 5, 24])
def test_a_factor_that_does_not_divide_is_refused(factor):
    message = f"^images of 12 x 18 pixels cannot be pooled by {factor}: it must divide both sides, as 1, 2, 3, 6 do$"
    with pytest.raises(errors.InputError, match=message):
        transforms.pooled(IMAGES, factor)


@pytest.mark.parametrize("slope", [0.3, -1.25])
def test_slanted_rows_are_those_of_linear_interpolation(slope):
    slanted = transforms.slanted(IMAGES, slope)
    for row in (0, 7, 11):
        source = np.arange(18) - slope * (row - 5.5)
        padded = np.concatenate([[0.0], IMAGES[2, row], [0.0]])
        expected = np.interp(source + 1, np.arange(20), padded)
        np.testing.assert_allclose(slanted[2, row], expected, atol=0.51)  # rounded to whole numbers, in float32


def test_bold_is_a_grey_dilation_and_inverted_the_negative():
    for image, bold in zip(IMAGES, transforms.bold(IMAGES), strict=True):
        np.testing.assert_array_equal(bold, ndimage.grey_dilation(image, size=(3, 3), mode="constant"))
    np.testing.assert_array_equal(transforms.inverted(IMAGES).astype(int) + IMAGES, 255)


def test_slant_is_the_slope_of_a_regression_and_slanting_adds_to_it():
    rows, columns = np.nonzero(IMAGES[0])
    weights = IMAGES[0][rows, columns].astype(float)
    expected = np.polyfit(rows, columns, 1, w=np.sqrt(weights))[0]
    scaled = (IMAGES.astype(float) - 127.5) / 127.5
    np.testing.assert_allclose(transforms.slant(scaled)[0], expected, rtol=1e-9)

    strokes = np.zeros((2, 28, 28), np.uint8)
    strokes[0, 6:22, 13:15] = 200  # upright: rows 6 to 21, whose middle is 13.5
    strokes[1, 6:22, 10:18] = 100
    moved = (transforms.slanted(strokes, 0.5).astype(float) - 127.5) / 127.5
    # Brightness is rounded to whole numbers out of 100.
    np.testing.assert_allclose(transforms.slant(moved), 0.5, atol=5e-3)
    assert transforms.slanted(strokes, 0.5)[0, 21, 18] > 0 and transforms.slanted(strokes, 0.5)[0, 6, 9] > 0


def test_dark_images_have_no_slant_and_ink_is_mean_brightness():
    dark = np.full((1, 4, 4), -1.5)
    row = dark.copy()
    row[0, 2] = 1.0
    assert transforms.slant(dark) == transforms.slant(row) == 0
    np.testing.assert_allclose(transforms.ink(np.array([[[-1.0, 1.0, 1.0, 1.0]]])), [0.75])
