"""Noised images and their times, as denoisers see them, and the straight path from an image to noise.

The path of rectified flow is x_t = (1 - t) x_0 + t e with Gaussian noise e: the image at time 0, noise at time 1. What
a student is shown is a pair (x_t, t). Pair n depends on the key and on n alone, as noise images do, so a data set of
any size takes no memory. Students of a conditional denoiser are shown triples (x_t, t, label).

Source: Liu et al. 2023, "Flow straight and fast".
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from sublim_jax import errors, keys, specs
from sublim_jax.data import noise as noise_data
from sublim_jax.data.noise import NoiseSpec

Images = Float[Array, "batch *shape"]
Times = Float[Array, "batch"]
Kind = Literal["uniform", "gaussian", "images"]
"""`uniform`: pixels uniform on [-1, 1], 256 grey levels; `gaussian`: N(0, 1); `images`: real images on their path. The
time is uniform on [0, `latest`], whatever the image."""
IndexedPairs = Callable[[Int[Array, "batch"]], Any]
"""The numbers of some examples to (x_t, t): images of shape (batch, pixel), and times of shape (batch,); and to labels
of shape (batch,) where there are some."""


def path(images: Images, noise: Images, times: Times) -> Images:
    """The images at these times on their ways to the noise."""
    t = times.reshape(-1, *(1 for _ in images.shape[1:]))
    return (1 - t) * images + t * noise


def make_inputs(
    key: Key[Array, ""],
    kind: Kind,
    *,
    num_pixels: int,
    images: Float[Array, "image pixel"] | None = None,
    num_images: int | Int[Array, ""] | None = None,
    labels: Sequence[int] | Int[Array, "label"] | None = None,
    latest: float | Float[Array, ""] = 1.0,
) -> IndexedPairs:
    """The data set as a function: the numbers of some examples in, their noised images and times out.

    Args:
        images: real images, for the kind "images".
        num_images: how many of them, the first ones, are drawn from; all by default.
        labels: classes that are asked for, all alike and whatever the image. None are, by default.
        latest: the largest time.

    Raises:
        InputError: unknown kind, real images that are missing or of another size, a `latest` that is not in (0, 1], or
            no class among the `labels`.
    """
    specs.check(kind, Kind, "kind")
    if not isinstance(latest, jax.Array) and not 0 < latest <= 1:
        raise errors.InputError(f"latest={latest}: times lie between 0, the image, and 1, noise; give one in (0, 1]")
    if kind == "images" and (images is None or images.shape[1:] != (num_pixels,) or not len(images)):
        shape = None if images is None else images.shape
        raise errors.InputError(
            f"kind='images' shows real images on their path, so it needs some of {num_pixels} pixels each, got {shape}"
        )
    if labels is not None and not len(labels):
        raise errors.InputError("labels: give the classes that are asked for, one at least, or None")
    streams = keys.streams(key, ("noise", "times", "images", "labels"))
    spec = NoiseSpec(distribution="uniform" if kind == "uniform" else "gaussian")

    def uniform(stream, numbers):
        return jax.vmap(lambda number: jax.random.uniform(jax.random.fold_in(streams[stream], number)))(numbers)

    def place(stream, numbers, count):
        return jnp.minimum((uniform(stream, numbers) * count).astype(jnp.int32), count - 1)

    def pairs(numbers):
        times = latest * uniform("times", numbers)
        noise = noise_data.sample(streams["noise"], numbers, num_pixels=num_pixels, spec=spec)
        if kind != "images" or images is None:
            return noise, times
        count = len(images) if num_images is None else num_images
        return path(jnp.take(images, place("images", numbers, count), axis=0), noise, times), times

    def triples(numbers):
        asked = jnp.asarray(labels, jnp.int32)
        return *pairs(numbers), jnp.take(asked, place("labels", numbers, len(asked)))

    return pairs if labels is None else triples
