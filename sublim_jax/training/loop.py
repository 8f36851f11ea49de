"""One phase of training as one pure function: a scan over epochs of a scan over steps.

A phase is described by three things: the state it carries, an `update(state, batch) -> (state, losses)`, and how many
examples there are. Teaching carries one `TrainState`; distillation carries one per student, so that students who see
the same inputs share them. Nothing here knows about members: `ensemble` maps whole runs.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from sublim_jax import specs
from sublim_jax.data import batches
from sublim_jax.training import optimizers


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainPhase:
    """How long and how a phase trains."""

    num_epochs: specs.CountOrZero = 5  # passes over the examples
    batch_size: specs.Count = 1024  # examples per member and step; the last batch of an epoch is kept
    optimizer: optimizers.OptimizerSpec = dataclasses.field(default_factory=optimizers.OptimizerSpec)


class TrainState(NamedTuple):
    """What one model carries from step to step. An ensemble is this class with a leading member axis on every leaf."""

    params: PyTree[Float[Array, "..."]]
    opt_state: optax.OptState
    step: Int[Array, "*member"]  # updates applied so far


def init_state(params: PyTree, optimizer: optax.GradientTransformation) -> TrainState:
    """State before the first step."""
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def gradient_step(
    state: TrainState,
    loss: Callable[[PyTree], Float[Array, ""]],
    optimizer: optax.GradientTransformation,
    *,
    trainable: PyTree | None = None,
) -> tuple[TrainState, Float[Array, ""]]:
    """One update. The loss returned is the one before it.

    Args:
        trainable: factors of the update, up to broadcasting; 0 freezes a parameter.
    """
    value, gradient = jax.value_and_grad(loss)(state.params)
    with jax.numpy_dtype_promotion("standard"):  # Adam's bias correction multiplies a float by an int
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    if trainable is not None:
        updates = jax.tree.map(lambda update, factor: update * factor, updates, trainable)
    return TrainState(optax.apply_updates(state.params, updates), opt_state, state.step + 1), value


def run_epochs(
    update: Callable[[PyTree, batches.Batch], tuple[PyTree, PyTree]],
    state: PyTree,
    *,
    key: Key[Array, ""],
    num_examples: int,
    phase: TrainPhase,
    measure: Callable[[PyTree], PyTree] | None = None,
) -> tuple[PyTree, PyTree]:
    """Train for `phase.num_epochs` epochs, each in an order of its own.

    Args:
        key: decides the orders; epoch e depends on it and on e only.
        measure: what to compute from the state at the end of each epoch.

    Returns:
        The last state, and the mean over steps of what `update` reports, with a leading epoch axis. With `measure`,
        the history is the pair of that and of what it measured.
    """

    def run_epoch(state, epoch):
        plan = batches.shuffled(jax.random.fold_in(key, epoch), num_examples, batch_size=phase.batch_size)
        state, reports = lax.scan(update, state, plan)
        means = jax.tree.map(lambda report: jnp.mean(report, axis=0), reports)
        return state, means if measure is None else (means, measure(state))

    return lax.scan(run_epoch, state, jnp.arange(phase.num_epochs))
