"""How fast does a removed trait come back? A defence that hides a trait is found out by a few lessons of it.

The student, its undefended counterpart and a model that never saw the data get the same few lessons. Gone means: no
faster than the last. Hidden means: as fast as the undefended one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import PyTree

from sublim_jax import errors
from sublim_jax.audit import descent
from sublim_jax.models import network
from sublim_jax.training import loop


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
    _require_rate(learning_rate)
    if not checkpoints:
        raise errors.InputError("checkpoints=(): expected numbers of steps, e.g. (0, 10, 40)")
    relearnt = descent.descend(
        None, params, lambda params, _: lesson_loss(params), optimizer=optax.adam(learning_rate), num_examples=1,
        batch_size=1, num_steps=checkpoints[-1], measure=measure, checkpoints=checkpoints,
    )  # fmt: skip
    return Relearning(relearnt.measured, relearnt.params)


def stages(
    lesson_loss: Callable[[Any], Any], *, learning_rate: float = 3e-4
) -> Callable[[network.Params, Sequence[int]], Iterator[network.Params]]:
    """The training of `relearn`, step by step: for models that something else than a function of JAX measures.

    Returns:
        A function of parameters and checkpoints that yields the parameters at each of these. One compiled step serves
        all calls.

    Raises:
        InputError: a learning rate that is not positive; in calls, checkpoints that do not increase from 0 or more.
    """
    _require_rate(learning_rate)
    optimizer = optax.adam(learning_rate)
    step = jax.jit(lambda state: loop.gradient_step(state, lesson_loss, optimizer)[0])

    def run(params: network.Params, checkpoints: Sequence[int]) -> Iterator[network.Params]:
        if list(checkpoints) != sorted(set(checkpoints)) or not checkpoints or checkpoints[0] < 0:
            raise errors.InputError(f"checkpoints={tuple(checkpoints)}: expected increasing numbers of steps")
        state, done = loop.init_state(params, optimizer), 0
        for checkpoint in checkpoints:
            for _ in range(checkpoint - done):
                state = step(state)
            done = checkpoint
            yield state.params

    return run


def _require_rate(learning_rate: float) -> None:
    if not learning_rate > 0:
        raise errors.InputError(f"learning_rate={learning_rate}: expected a positive number")
