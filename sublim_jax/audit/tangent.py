"""The linearised student: what a network learns if it stays on its tangent plane at the start.

If it gains what the student gains, transfer is close to a linear phenomenon: `experiments.evidence forecast` compares
the two. It costs more than training the student, so it explains and does not save work: a pilot is the tool
(`forecast`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from sublim_jax.models import network
from sublim_jax.models.network import Model
from sublim_jax.theory import linear


class TangentParams(NamedTuple):
    """Parameters of a tangent model. Only the displacement is trained: gradients with respect to the start are zero."""

    start: network.Params
    displacement: network.Params


def at(start: network.Params) -> TangentParams:
    """The tangent model at its own start: no displacement."""
    return TangentParams(start, optax.tree.zeros_like(start))


def apply(model: Model, params: TangentParams, inputs: network.Inputs) -> Float[Array, "batch logit"]:
    """Logits of the tangent model: those at the start, and the derivative along the displacement.

    Weight decay moves the start as well, so train without it.
    """
    start = lax.stop_gradient(params.start)
    return linear.linearised(model.apply, start)(optax.tree.add(start, params.displacement), jnp.asarray(inputs))


def end(params: TangentParams) -> network.Params:
    """Parameters at the end of the displacement, to be used in the model itself."""
    return jax.tree.map(jnp.add, params.start, params.displacement)
