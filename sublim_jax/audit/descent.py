"""Training for a number of steps, rather than epochs, with what is measured on the way: a pilot, a relearning curve.

Batches are those of `training.loop.run_epochs` with the same key, so that the first steps of a run are a prefix of it,
to the bit.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from sublim_jax import errors, specs
from sublim_jax.data import batches
from sublim_jax.models import network
from sublim_jax.training import loop

BatchLoss = Callable[[PyTree, batches.Batch], Float[Array, ""]]
"""A loss of parameters on the examples of a batch, which has their indices and, for spare places, weights of zero."""


class Descent(NamedTuple):
    """Where training ended, and what was measured at each checkpoint."""

    params: network.Params
    measured: PyTree  # with a leading checkpoint axis
    losses: Float[Array, "step"]  # before each step


def descend(
    key: Key[Array, ""] | None,
    start: network.Params,
    loss: BatchLoss,
    *,
    optimizer: optax.GradientTransformation,
    num_examples: int,
    batch_size: int,
    num_steps: int,
    measure: Callable[[network.Params], PyTree] = lambda params: (),
    checkpoints: tuple[int, ...] = (),
) -> Descent:
    """Train for `num_steps` steps. Runs under `jit` and `vmap`.

    Args:
        key: decides the order of the examples; epoch e depends on it and on e only. None takes them as they come.
        num_examples: examples that the indices of a batch refer to.
        measure: what to compute from the parameters at a checkpoint.
        checkpoints: increasing numbers of steps after which to measure, e.g. (0, 10, 20).

    Raises:
        InputError: a number that is not whole or too small, or checkpoints that do not increase or lie after the end.
    """
    for value, annotation, name in (
        (num_examples, specs.Count, "num_examples"),
        (batch_size, specs.Count, "batch_size"),
        (num_steps, specs.CountOrZero, "num_steps"),
    ):
        specs.check(value, annotation, name)
    if list(checkpoints) != sorted(set(checkpoints)) or any(not 0 <= step <= num_steps for step in checkpoints):
        raise errors.InputError(
            f"checkpoints={checkpoints}: expected increasing numbers of steps from 0 to num_steps={num_steps}"
        )
    plan = _plan(key, num_examples, batch_size, num_steps)

    def update(state, batch):
        return loop.gradient_step(state, lambda params: loss(params, batch), optimizer)

    state, measured, histories, done = loop.init_state(start, optimizer), [], [], 0
    for step in (*checkpoints, num_steps):
        part = jax.tree.map(lambda leaf, begin=done, end=step: leaf[begin:end], plan)
        state, history = lax.scan(update, state, part)
        histories.append(history)
        done = step
        if len(measured) < len(checkpoints):
            measured.append(measure(state.params))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *measured) if measured else ()
    return Descent(state.params, stacked, jnp.concatenate(histories))


def _plan(key: Key[Array, ""] | None, num_examples: int, batch_size: int, num_steps: int) -> batches.Batch:
    """The batches of the first steps, epoch after epoch."""
    num_epochs = -(-num_steps // batches.num_batches(num_examples, batch_size))
    if not num_epochs:
        empty: Int[Array, "step batch"] = jnp.zeros((0, batch_size), jnp.int32)
        return batches.Batch(empty, jnp.zeros((0, batch_size)))

    def order(epoch):
        if key is None:
            return batches.sequential(num_examples, batch_size=batch_size)
        return batches.shuffled(jax.random.fold_in(key, epoch), num_examples, batch_size=batch_size)

    epochs = jax.lax.map(order, jnp.arange(num_epochs))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, batch_size)[:num_steps], epochs)
