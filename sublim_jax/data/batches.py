"""Index plans: which examples form which batch. Data are gathered, or drawn, when a step needs them."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key


class Batch(NamedTuple):
    """The examples of one step, or of each step of an epoch when there is a leading step axis.

    The last batch of an epoch is kept even if it is not full. It has the shape of the others; its spare places repeat
    example 0 with weight 0.
    """

    indices: Int[Array, "*step batch"]
    weights: Float[Array, "*step batch"]  # 1 for an example that counts, 0 for a spare place


def num_batches(num_examples: int, batch_size: int) -> int:
    """Steps in an epoch, the partly filled one included: 59 for 60,000 examples in batches of 1,024."""
    return -(-num_examples // batch_size)


def shuffled(key: Key[Array, ""], num_examples: int, *, batch_size: int) -> Batch:
    """One epoch in random order: every example once."""
    return _cut(_permutation(key, num_examples), batch_size)


def _permutation(key: Key[Array, ""], length: int) -> Int[Array, "length"]:
    """`jax.random.permutation(key, length)`, fast on a CPU: XLA calls a function for each comparison of pairs, but not
    of plain numbers, so a random word and its place become one number of 64 bits.
    """
    if jax.default_backend() != "cpu":
        return jax.random.permutation(key, length)
    order = jnp.arange(length)
    for _ in range(math.ceil(3 * math.log(max(length, 1)) / math.log(2**32 - 1))):
        key, own = jax.random.split(key)
        words = jax.random.bits(own, (length,), jnp.uint32)
        with jax.enable_x64(True):
            pairs = words.astype(jnp.uint64) << jnp.uint64(32) | jnp.arange(length, dtype=jnp.uint64)
            places = lax.sort(pairs, is_stable=False).astype(jnp.uint32)
        order = jnp.take(order, places.astype(jnp.int32))
    return order


def in_order(num_examples: int, *, batch_size: int) -> Batch:
    """One pass from the first example to the last, for evaluation."""
    return _cut(jnp.arange(num_examples), batch_size)


def _cut(order: Int[Array, "example"], batch_size: int) -> Batch:
    num_examples = len(order)
    steps = num_batches(num_examples, batch_size)
    spare = steps * batch_size - num_examples
    weights = jnp.arange(steps * batch_size) < num_examples
    return Batch(
        jnp.pad(order, (0, spare)).reshape(steps, batch_size),
        weights.astype(jnp.float32).reshape(steps, batch_size),
    )
