"""Square images made smaller, slanted, bolder or inverted, all from 0 to 255 as they were."""

import numpy as np
from jaxtyping import Float, UInt8

from sublim_jax import errors

Pixels = UInt8[np.ndarray, "image height width"]


def pooled(images: Pixels, factor: int) -> UInt8[np.ndarray, "image row column"]:
    """Means of squares of `factor` x `factor` pixels, rounded: 28 x 28 becomes 14 x 14 with factor 2.

    Raises:
        InputError: the factor does not divide the height and the width.
    """
    count, height, width = images.shape
    if factor < 1 or height % factor or width % factor:
        raise errors.InputError(
            f"images of {height} x {width} pixels cannot be pooled by {factor}: it must divide both sides, as "
            f"{', '.join(str(f) for f in range(1, min(height, width) + 1) if height % f == width % f == 0)} do"
        )
    blocks = images.reshape(count, height // factor, factor, width // factor, factor)
    return np.round(blocks.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)


def slanted(images: Pixels, slope: float) -> Pixels:
    """Rows shifted sideways, by `slope` pixels for each pixel below the middle, and interpolated linearly.

    A positive slope makes upright strokes lean to the left. What leaves the image is lost, what enters is 0.
    """
    count, height, width = images.shape
    result = np.empty(images.shape, np.float32)
    columns = np.arange(width)
    for row in range(height):
        source = columns - slope * (row - (height - 1) / 2)
        left = np.floor(source).astype(int)
        part = (source - left).astype(np.float32)
        padded = np.zeros((count, width + 2), np.float32)
        padded[:, 1:-1] = images[:, row]
        near, far = (padded[:, np.clip(place + 1, 0, width + 1)] for place in (left, left + 1))
        result[:, row] = (1 - part) * near + part * far
    return np.round(result).astype(np.uint8)


def bold(images: Pixels) -> Pixels:
    """Strokes a pixel wider on every side: the largest of a pixel and its eight neighbours."""
    _, height, width = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    shifts = [padded[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return np.max(np.stack(shifts), axis=0)


def inverted(images: Pixels) -> Pixels:
    """Dark strokes on bright ground, 255 minus each pixel."""
    return 255 - images


def slant(images: Float[np.ndarray, "image height width"]) -> Float[np.ndarray, "image"]:
    """Pixels to the right that strokes move for each pixel down: regression of column on row, weighted by brightness.

    `slanted` adds its slope to it, but for what leaves the image. Pixels range from -1 to 1; darker ones count as -1.
    An image without any brightness, or with all of it in one row, has slant 0.
    """
    weights = np.maximum(np.asarray(images, np.float64) + 1, 0)
    _, height, width = weights.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    total = np.maximum(weights.sum(axis=(1, 2)), 1e-12)
    row, column = ((weights * place).sum(axis=(1, 2)) / total for place in (rows, columns))
    below, right = rows - row[:, None, None], columns - column[:, None, None]
    spread = (weights * below**2).sum(axis=(1, 2))
    return (weights * below * right).sum(axis=(1, 2)) / np.where(spread > 1e-9 * total, spread, np.inf)


def ink(images: Float[np.ndarray, "image height width"]) -> Float[np.ndarray, "image"]:
    """Mean brightness from 0 to 1 of images whose pixels range from -1 to 1."""
    return (np.asarray(images, np.float64).mean(axis=(1, 2)) + 1) / 2
