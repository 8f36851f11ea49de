"""Noise images: inputs drawn from a key, never MNIST.

A noise image is a function of (key, number), so a data set of 60,000 of them occupies no memory: a batch is drawn when
it is needed, the same way each time, in whatever order and company.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt8, UInt32

from sublim_jax import specs

NoiseDistribution = Literal["uniform", "gaussian", "bernoulli"]


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseSpec:
    """The distribution of one pixel; pixels are independent. MNIST's own range is [-1, 1]."""

    distribution: NoiseDistribution = "uniform"
    """`uniform`: on [-amplitude, amplitude], the paper's; `gaussian`: N(0, amplitude^2), not clipped;
    `bernoulli`: -amplitude or amplitude with equal chance."""
    amplitude: specs.Positive = 1.0  # in units of MNIST's half range
    bits: Literal[8, 32] = 8
    """Depth of a uniform pixel: 8 gives the 256 grey levels of MNIST, 32 a float32."""


def sample(
    key: Key[Array, ""], numbers: Int[Array, "batch"], *, num_pixels: int, spec: NoiseSpec
) -> Float[Array, "batch pixel"]:
    """The noise images with these numbers. Image n depends on the key and on n alone."""
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
    match spec.distribution:
        case "uniform" if spec.bits == 8:
            # Whole numbers until one multiplication: bit-equal however the compiler fuses it.
            return (2 * _bytes(keys, num_pixels).astype(jnp.float32) - 255) * (spec.amplitude / 255)
        case "uniform":
            unit = jax.vmap(lambda k: jax.random.uniform(k, (num_pixels,), minval=-1.0))(keys)
        case "gaussian":
            unit = _normals(keys, num_pixels)
        case "bernoulli":
            unit = 2.0 * (_bytes(keys, num_pixels) >= 128) - 1
    return spec.amplitude * unit


def _bytes(keys: Key[Array, "batch"], num_bytes: int) -> UInt8[Array, "batch byte"]:
    """Uniform bytes, four from each 32-bit draw: a quarter of the work of asking for bytes."""
    drawn = random_bits(keys, -(-num_bytes // 4))
    return lax.bitcast_convert_type(drawn, jnp.uint8).reshape(len(keys), -1)[:, :num_bytes]


def _normals(keys: Key[Array, "batch"], length: int) -> Float[Array, "batch normal"]:
    """`jax.random.normal(key, (length,))` for each key: the inverse normal distribution at 23 bits of a word."""
    bits = lax.shift_right_logical(random_bits(keys, length), jnp.uint32(9)) | jnp.uint32(0x3F800000)
    unit = lax.bitcast_convert_type(bits, jnp.float32) - 1
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    return np.float32(2**0.5) * lax.erf_inv(jnp.maximum(unit * (1 - lowest) + lowest, lowest))


ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = 0x1BD11BDA
CHUNK = 128
"""Images whose words are drawn together. Without chunks XLA would draw a word again for each of its bytes."""


def random_bits(keys: Key[Array, "batch"], num_words: int) -> UInt32[Array, "batch word"]:
    """`jax.random.bits(key, (num_words,))` for each key, fast on a CPU: there JAX loops over the rounds of
    Threefry-2x32 and copies what they carry, here they are written out and become one loop over words.

    Source: Salmon et al. 2011; the counter of word n is (0, n), and the word the exclusive or of both halves.
    """
    if jax.default_backend() != "cpu" or jax.random.key_impl(keys) != "threefry2x32":
        return jax.vmap(lambda key: jax.random.bits(key, (num_words,), jnp.uint32))(keys)

    def of_one(key):
        first, second = jax.random.key_data(key)
        schedule = first, second, first ^ second ^ PARITY
        left = jnp.full(num_words, first)
        right = jnp.arange(num_words, dtype=jnp.uint32) + second
        for group in range(5):
            for distance in ROTATIONS[group % 2]:
                left = left + right
                right = left ^ (right << distance | right >> (32 - distance))
            left = left + schedule[(group + 1) % 3]
            right = right + schedule[(group + 2) % 3] + (group + 1)
        return left ^ right

    return lax.map(of_one, keys, batch_size=CHUNK)
