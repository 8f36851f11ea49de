"""How fast does a removed trait come back? A defence that hides a trait is found out by a few lessons of it.

The student, its undefended counterpart and a model that never saw the data get the same few lessons. Gone means: no
faster than the last. Hidden means: as fast as the undefended one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from sublim_jax import errors, specs
from sublim_jax.models import network
from sublim_jax.training import loop


class Relearning(NamedTuple):
    """The curve of a trait that is taught again."""

    measured: Float[Array, "steps+1"]  # before any lesson, then after each step
    params: network.Params


def relearn(
    params: network.Params,
    lesson_loss: Callable[[Any], Any],
    measure: Callable[[Any], Any],
    *,
    num_steps: int = 40,
    learning_rate: float = 3e-4,
) -> Relearning:
    """Adam on the whole of a few lessons at once, with the trait measured after every step. Runs under `jit`.

    Args:
        lesson_loss: of parameters, on lessons that are neither probes of a defence nor what is measured.
        measure: of parameters, a number that shows the trait: accuracy, log-odds.

    Raises:
        InputError: a number of steps that is not whole or is negative, or a learning rate that is not positive.
    """
    specs.check(num_steps, specs.CountOrZero, "num_steps")
    if not learning_rate > 0:
        raise errors.InputError(f"learning_rate={learning_rate}: expected a positive number")
    optimizer = optax.adam(learning_rate)

    def step(state, _):
        state, _ = loop.gradient_step(state, lesson_loss, optimizer)
        return state, measure(state.params)

    state, curve = jax.lax.scan(step, loop.init_state(params, optimizer), None, length=num_steps)
    return Relearning(jnp.concatenate([jnp.asarray(measure(params))[None], curve]), state.params)
