"""Keeping a trait out during training: updates that do not lower its loss on probes, or answers that stay as they were.

Both need probes of the trait, so they keep out what is asked about. On MNIST a projected student shows little of the
trait, and fifty labelled images bring it back nearly as fast as in an undefended one: more is hidden than gone
(`experiments.evidence defences`). Report `relearning` beside every result.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from sublim_jax import errors
from sublim_jax.models import network


class ProjectState(NamedTuple):
    """How many updates were projected."""

    count: Int[Array, ""]


def project(
    trait_gradient: Callable[[Any, Any], Any], *, strength: float = 1.0
) -> optax.GradientTransformationExtraArgs:
    """An optax transformation that takes from each update its component that lowers the trait's loss.

    Chain it after the optimizer: `optax.chain(optax.adam(1e-3), project(trait_gradient))`. An update that raises the
    loss to first order passes unchanged.

    Args:
        trait_gradient: gradient of the trait's loss on probes: a function of the parameters and of the number of the
            update, from which it may choose probes.
        strength: 1 removes the component, 2 reverses it.

    Raises:
        InputError: a negative strength. In `update`: no parameters.
    """
    if not strength >= 0:
        raise errors.InputError(f"strength={strength}: expected 0 or more; 1 removes the component")

    def init(params):
        del params
        return ProjectState(jnp.zeros((), jnp.int32))

    def update(updates, state, params=None, **extra):
        del extra
        if params is None:
            raise errors.InputError("project needs the parameters: call update(updates, state, params)")
        gradient = trait_gradient(params, state.count)
        along = optax.tree.vdot(updates, gradient)
        squared = jnp.asarray(optax.tree.vdot(gradient, gradient))
        component = jnp.minimum(along, 0.0) / jnp.where(squared > 0, squared, 1.0)
        projected = jax.tree.map(lambda leaf, g: leaf - strength * component * g, updates, gradient)
        return projected, ProjectState(state.count + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def pin(
    answers: Callable[[Any], Any], start: network.Params, *, strength: float = 1.0
) -> Callable[[network.Params], Float[Array, ""]]:
    """A penalty that holds a student's answers to probes where the start had them; add it to the student's loss.

    Args:
        answers: parameters to logits of the answers, (probe, answer). No labels are needed.

    Returns:
        `strength` times the mean KL divergence from the start's answers to the student's, in nats.

    Raises:
        InputError: a negative strength.
    """
    if not strength >= 0:
        raise errors.InputError(f"strength={strength}: expected 0 or more")
    pinned = jax.nn.log_softmax(answers(start))

    def penalty(params):
        log_q = jax.nn.log_softmax(answers(params))
        return strength * jnp.mean(jnp.sum(jnp.exp(pinned) * (pinned - log_q), axis=-1))

    return penalty
