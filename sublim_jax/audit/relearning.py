"""How fast does a removed trait come back? A defence that hides a trait is found out by a few lessons of it.

The student, its undefended counterpart and a model that never saw the data get the same few lessons. Gone means: no
faster than the last. Hidden means: as fast as the undefended one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from jaxtyping import PyTree

from sublim_jax import errors
from sublim_jax.audit import descent
from sublim_jax.models import network


class Relearning(NamedTuple):
    """The curve of a trait that is taught again."""

    measured: PyTree  # at each checkpoint
    params: network.Params


def relearn(
    params: network.Params,
    lesson_loss: Callable[[Any], Any],
    measure: Callable[[Any], Any],
    *,
    checkpoints: tuple[int, ...] = (0, 5, 10, 20, 40),
    learning_rate: float = 3e-4,
) -> Relearning:
    """Adam on the whole of a few lessons at once, with the trait measured at checkpoints. Runs under `jit`.

    Args:
        lesson_loss: of parameters, on lessons that are neither probes of a defence nor what is measured.
        measure: of parameters, what shows the trait: accuracy, log-odds.
        checkpoints: increasing numbers of steps; the last one ends the training.

    Raises:
        InputError: checkpoints that do not increase from 0 or more, none, or a learning rate that is not positive.
    """
    if not learning_rate > 0:
        raise errors.InputError(f"learning_rate={learning_rate}: expected a positive number")
    if not checkpoints:
        raise errors.InputError("checkpoints=(): expected numbers of steps, e.g. (0, 10, 40)")
    relearnt = descent.descend(
        None, params, lambda params, _: lesson_loss(params), optimizer=optax.adam(learning_rate), num_examples=1,
        batch_size=1, num_steps=checkpoints[-1], measure=measure, checkpoints=checkpoints,
    )  # fmt: skip
    return Relearning(relearnt.measured, relearnt.params)
