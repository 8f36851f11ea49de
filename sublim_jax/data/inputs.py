"""What students look at: noise as it is drawn, or smoothed, confined to a subspace, mixed with real images.

`make_inputs` turns an `InputSpec` into a function from the indices of some examples to their images. What is common to
all examples, e.g. a subspace, is computed once; example n depends on the key and on n alone, as in `noise`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Shaped, UInt8

from sublim_jax import errors, keys, specs
from sublim_jax.data import batches, noise
from sublim_jax.data import datasets as image_data

IndexedInputs = Callable[[Int[Array, "batch"]], Float[Array, "batch pixel"]]
InputFunction = Callable[[Any, Any], Any]
"""A key and the indices of some examples, (batch,), to their inputs, (batch, ...)."""

RealImages = Literal["upright", "pixels_shuffled", "one_shuffle"]


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What is done to noise images, in the order of the fields. The default does nothing.

    Images are square. A field that is None is left out of the program; the numbers of the others are data.
    """

    perlin_cells: specs.Count | None = None
    """Perlin-like noise: a coarse lattice of so many cells a side, interpolated smoothly (value noise with Perlin's
    quintic fade; Perlin's own interpolates random slopes). The noise distribution is that of the lattice points."""
    blur: specs.NonNegative | None = None
    """Standard deviation in pixels of a Gaussian blur. At the border the kernel is cut and normalized again."""
    blurred_spectrum: specs.NonNegative | None = None
    """Periodic blur of so many pixels; with gaussian noise: random phases, the power spectrum of blurred noise."""
    mnist_spectrum: bool = False
    """Random phases under the mean power spectrum of the real images; with gaussian noise."""
    preserve_std: bool = False
    """Rescale after a blur, a lattice or a spectrum to the standard deviation that the noise has without them."""
    subspace_dims: specs.NonNegative | None = None
    """Project on a random subspace of so many dimensions, one per member; rescale to the noise's standard deviation per
    pixel. Rounding leaves about a thousandth of it outside."""
    real_weight: specs.Fraction | None = None
    """Pixel by pixel `real_weight * real image + (1 - real_weight) * noise`."""
    real_fraction: specs.Fraction | None = None
    """Probability that an example is a real image instead of noise."""
    real: RealImages = "upright"
    """`upright`: training images as they are; `pixels_shuffled`: each with its pixels in an order of its own;
    `one_shuffle`: all in the same random order."""


def make_inputs(
    key: Key[Array, ""],
    noise_spec: noise.NoiseSpec,
    spec: InputSpec,
    *,
    num_pixels: int,
    real_images: UInt8[Array, "image pixel"],
) -> IndexedInputs:
    """The data set as a function: the numbers of some examples in, their images out.

    Args:
        real_images: bytes; example n is real image n modulo their number. Only read where the spec asks for real images
            or their spectrum.
    """
    side = round(num_pixels**0.5)
    if side * side != num_pixels and is_shaped(spec):
        raise errors.InputError(f"images of {num_pixels} pixels are not square: blur, lattice and spectra do not apply")
    shaping = _shaping(key, spec, num_pixels, real_images)
    drawn_pixels = num_pixels if spec.perlin_cells is None else (spec.perlin_cells + 1) ** 2
    order_key, choice_key = keys.stream(key, "pixel order"), keys.stream(key, "real or noise")
    order = jax.random.permutation(order_key, num_pixels)

    def real(numbers):
        pixels = jnp.take(real_images, numbers % len(real_images), axis=0)
        if spec.real == "one_shuffle":
            pixels = pixels[:, order]
        elif spec.real == "pixels_shuffled":
            orders = batches.argsort_rows(noise.random_bits(_each(order_key, numbers), num_pixels))
            pixels = jnp.take_along_axis(pixels, orders, axis=1)
        return image_data.scale_pixels(pixels)

    def inputs(numbers):
        images = shaping(noise.sample(key, numbers, num_pixels=drawn_pixels, spec=noise_spec))
        if spec.real_weight is not None:
            images = spec.real_weight * real(numbers) + (1 - spec.real_weight) * images
        if spec.real_fraction is not None:
            chosen = jax.vmap(jax.random.uniform)(_each(choice_key, numbers)) < spec.real_fraction
            images = jnp.where(chosen[:, None], real(numbers), images)
        return images

    return inputs


def make_inputs_of_shape(
    key: Key[Array, ""],
    noise_spec: noise.NoiseSpec,
    spec: InputSpec,
    *,
    shape: tuple[int, ...],
    real_images: Shaped[Array, "image *shape"],
) -> IndexedInputs:
    """`make_inputs` for inputs of any shape, which are drawn as a row of pixels each.

    Raises:
        InputError: the spec asks for real images or their spectrum, and those are no bytes.
    """
    real_images = jnp.asarray(real_images)
    if real_images.dtype != jnp.uint8:
        if spec.real_weight is not None or spec.real_fraction is not None or spec.mnist_spectrum:
            raise errors.InputError(
                f"inputs that are mixed with real images, or have their spectrum, need bytes: the data are "
                f"{real_images.dtype}. Give the data as bytes (uint8), or a noise_function"
            )
        real_images = jnp.zeros((1, *real_images.shape[1:]), jnp.uint8)
    rows = make_inputs(
        key, noise_spec, spec, num_pixels=math.prod(shape), real_images=real_images.reshape(len(real_images), -1)
    )
    return rows if len(shape) == 1 else lambda indices: rows(indices).reshape(len(indices), *shape)


def _each(key, numbers):
    """A key for each example."""
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


def blur_matrix(sigma: float | Float[Array, ""], side: int, *, periodic: bool = False) -> Float[Array, "side side"]:
    """One-dimensional Gaussian blur; rows sum to 1. The identity at `sigma` 0."""
    distance = jnp.abs(jnp.arange(side)[:, None] - jnp.arange(side)[None, :])
    if periodic:
        distance = jnp.minimum(distance, side - distance)
    kernel = jnp.exp(-0.5 * (distance / jnp.maximum(sigma, 1e-3)) ** 2)
    return kernel / jnp.sum(kernel, axis=1, keepdims=True)


def lattice_matrix(cells: int, side: int) -> Float[Array, "side point"]:
    """Interpolation from `cells + 1` lattice points to `side` pixels, with Perlin's fade 6t^5 - 15t^4 + 10t^3."""
    place = np.arange(side) * cells / side
    left = np.floor(place).astype(int)
    t = place - left
    fade = t**3 * (t * (6 * t - 15) + 10)
    matrix = np.zeros((side, cells + 1), np.float32)
    matrix[np.arange(side), left] = 1 - fade
    matrix[np.arange(side), left + 1] += fade
    return jnp.asarray(matrix)


def mean_spectrum(images: UInt8[Array, "image pixel"], side: int, *, num_images: int = 2000) -> Float[Array, "side w"]:
    """Root of the mean power of each frequency over the first images, without the mean, for `rfft2`."""
    pixels = image_data.scale_pixels(images[:num_images]).reshape(-1, side, side)
    return jnp.sqrt(jnp.mean(jnp.abs(jnp.fft.rfft2(pixels - jnp.mean(pixels))) ** 2, axis=0)) / side


def is_shaped(spec: InputSpec) -> bool:
    return spec.mnist_spectrum or any(v is not None for v in (spec.perlin_cells, spec.blur, spec.blurred_spectrum))


def _shaping(key, spec, num_pixels, real_images):
    """The linear maps that the spec asks for, in order, as one function of a batch of drawn pixels."""
    steps, side = [], round(num_pixels**0.5)

    def separable(matrix):
        """The same matrix along both sides of the image, scaled to unit mean variance with `preserve_std`."""
        gain = 1 / jnp.mean(jnp.sum(matrix**2, axis=1)) if spec.preserve_std else 1.0

        def step(images):
            grid = images.reshape(len(images), matrix.shape[1], matrix.shape[1])
            return gain * jnp.einsum("ip,npq,jq->nij", matrix, grid, matrix).reshape(len(images), -1)

        return step

    if spec.perlin_cells is not None:
        steps.append(separable(lattice_matrix(spec.perlin_cells, side)))
    if spec.blur is not None:
        steps.append(separable(blur_matrix(spec.blur, side)))
    if spec.blurred_spectrum is not None:
        steps.append(separable(blur_matrix(spec.blurred_spectrum, side, periodic=True)))
    if spec.mnist_spectrum:
        spectrum = mean_spectrum(real_images, side)
        if spec.preserve_std:
            spectrum = spectrum / jnp.linalg.norm(jnp.fft.irfft2(spectrum, (side, side)))

        def colour(images):
            frequencies = jnp.fft.rfft2(images.reshape(-1, side, side)) * spectrum[None]
            return jnp.fft.irfft2(frequencies, (side, side)).reshape(len(images), -1)

        steps.append(colour)
    if spec.subspace_dims is not None:
        basis, _ = jnp.linalg.qr(jax.random.normal(keys.stream(key, "subspace"), (num_pixels, num_pixels)))
        inside = jnp.arange(num_pixels) < spec.subspace_dims
        gain = jnp.sqrt(num_pixels / jnp.maximum(jnp.sum(inside), 1))
        # One product of bfloat16 operands an image. Two, onto the basis and back, stay inside but take twice as long.
        projector = (gain * jnp.matmul(basis * inside[None, :], basis.T, precision="highest")).astype(jnp.bfloat16)

        def project(images):
            return jnp.matmul(images.astype(jnp.bfloat16), projector, preferred_element_type=jnp.float32)

        steps.append(project)

    def shape(images):
        for step in steps:
            images = step(images)
        return images

    return shape
