"""Index plans: which examples form which batch. Data are gathered, or drawn, when a step needs them."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt32


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
    of plain numbers, so `ascending` makes one number of 64 bits of a random word and its place.
    """
    if jax.default_backend() != "cpu":
        return jax.random.permutation(key, length)
    order = jnp.arange(length)
    for _ in range(math.ceil(3 * math.log(max(length, 1)) / math.log(2**32 - 1))):
        key, own = jax.random.split(key)
        order = jnp.take(order, argsort_rows(jax.random.bits(own, (length,), jnp.uint32)))
    return order


def argsort_rows(words: UInt32[Array, "*list item"]) -> Int[Array, "*list item"]:
    """Places of the items of each list from the smallest to the largest, of equals the first one first."""
    if jax.default_backend() != "cpu":
        return jnp.argsort(words, axis=-1)
    with jax.enable_x64(True):
        places = lax.broadcasted_iota(jnp.uint64, words.shape, words.ndim - 1)
        pairs = words.astype(jnp.uint64) << jnp.uint64(32) | places
        return lax.sort(pairs, is_stable=False).astype(jnp.uint32).astype(jnp.int32)


def sequential(num_examples: int, *, batch_size: int) -> Batch:
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
