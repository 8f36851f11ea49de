"""The theorem's three numbers for a model as it is trained: A, the cosine and an estimate of epsilon*.

    step = first_step(model, reference, update, inputs)

The other files of this folder take `f`, the distilled logits as a function of parameters and inputs. Here a
`network.Model` defines them, so that theory and training use the same model.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sublim_jax import errors, losses
from sublim_jax.models import heads as logit_layout
from sublim_jax.models import network
from sublim_jax.theory import certificate, loss_geometry, spectrum

GRID = tuple(10 ** (exponent / 8) for exponent in range(-24, 9))
"""Values of epsilon from .001 to 10, eight for each factor of ten. At 1 the teacher has made its whole update."""


class FirstStep(NamedTuple):
    """The relation of the student's first gradient step to the teacher's update D."""

    coefficient: Float[Array, ""]  # A >= 0, the alignment of the first step divided by epsilon, as epsilon tends to 0
    cosine: Float[Array, ""]  # between the first step and D, as epsilon tends to 0
    epsilon_star: Float[Array, ""]  # largest epsilon with a positive Taylor bound on the grid; 0 if none
    sign_change: Float[Array, ""]  # the smallest epsilon on the grid with a negative alignment; infinite if none


def first_step(
    model: network.Model,
    reference: network.Params,
    update: PyTree,
    inputs: Float[Array, "batch *shape"],
    *,
    distilled_logits: logit_layout.DistilledLogits = "aux",
    loss: losses.DistillationLossName = "kl",
    temperature: float = 1.0,
    epsilon: Float[Array, "epsilon"] | None = None,
    weights: Float[Array, "batch"] | None = None,
) -> FirstStep:
    """A, the cosine and an estimate of epsilon* for a student that starts at `reference` and distils the teacher.

    The teacher stands at `reference + epsilon * update`. Epsilon* is an estimate from a grid and not a proof, because
    the curvature between grid points and at the kinks of a ReLU is unknown. For an MLP with a smooth activation
    `certificate.certified` proves a radius.

    Args:
        update: the teacher's update D, e.g. from `one_step.teacher_update`, or trained parameters minus the reference.
        inputs: inputs of the model, e.g. noise.
        epsilon: an increasing grid in units of the update; by default `GRID`.
        weights: weights of the inputs; by default equal.

    Raises:
        InputError: the model has none of these logits, or rounds to bfloat16; one logit under a softmax; an unknown
            loss; an update of another shape than the reference.
    """
    shapes = [jax.tree.map(jnp.shape, params) for params in (reference, update)]
    if shapes[0] != shapes[1]:
        raise errors.InputError(
            f"update: expected the shapes of the reference, {shapes[0]}, got {shapes[1]}. It is a difference of "
            f"parameters of one model, e.g. of one_step.teacher_update"
        )
    f, distance = (
        loss_geometry.distilled(model, distilled_logits),
        loss_geometry.from_name(loss, temperature=temperature),
    )
    grid = jnp.asarray(GRID) if epsilon is None else epsilon
    cosine = spectrum.alignment_cosine(f, distance, reference, update, inputs, weights)
    sampled = certificate.sampled(f, distance, reference, update, grid, inputs, weights)
    return FirstStep(cosine.coefficient, cosine.cosine, sampled.taylor, sampled.sign_change)
