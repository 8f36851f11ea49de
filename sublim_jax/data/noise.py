"""Noise images: inputs drawn from a key, never MNIST.

A noise image is a function of (key, number), so a data set of 60,000 of them occupies no memory: a batch is drawn when
it is needed, the same way each time, in whatever order and company.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt8

from sublim_jax import specs

NoiseLaw = Literal["uniform", "gaussian", "bernoulli"]


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseSpec:
    """The law of one pixel; pixels are independent. MNIST's own range is [-1, 1]."""

    law: NoiseLaw = "uniform"
    """`uniform`: on [-amplitude, amplitude], the paper's; `gaussian`: N(0, amplitude^2), not clipped;
    `bernoulli`: -amplitude or amplitude with equal chance."""
    amplitude: float = 1.0  # in units of MNIST's half range
    bits: Literal[8, 32] = 8
    """Depth of a uniform pixel: 8 gives the 256 grey levels of MNIST, 32 a float32. Other laws ignore it."""

    def __post_init__(self):
        if self.amplitude <= 0:
            raise ValueError(f"noise amplitude must be positive, got {self.amplitude}")


def draw(
    key: Key[Array, ""], numbers: Int[Array, "batch"], *, num_pixels: int, spec: NoiseSpec
) -> Float[Array, "batch pixel"]:
    """The noise images with these numbers. Image n depends on the key and on n alone."""
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
    match spec.law:
        case "uniform" if spec.bits == 8:
            # Whole numbers until one multiplication: bit-equal however the compiler fuses it.
            return (2 * _bytes(keys, num_pixels).astype(jnp.float32) - 255) * (spec.amplitude / 255)
        case "uniform":
            unit = jax.vmap(lambda k: jax.random.uniform(k, (num_pixels,), minval=-1.0))(keys)
        case "gaussian":
            unit = jax.vmap(lambda k: jax.random.normal(k, (num_pixels,)))(keys)
        case "bernoulli":
            unit = 2.0 * (_bytes(keys, num_pixels) >= 128) - 1
    return spec.amplitude * unit


def _bytes(keys: Key[Array, "batch"], num_bytes: int) -> UInt8[Array, "batch byte"]:
    """Uniform bytes, four from each 32-bit draw: a quarter of the work of asking for bytes."""
    words = jax.vmap(lambda k: jax.random.bits(k, (-(-num_bytes // 4),), jnp.uint32))(keys)
    return lax.bitcast_convert_type(words, jnp.uint8).reshape(len(keys), -1)[:, :num_bytes]
