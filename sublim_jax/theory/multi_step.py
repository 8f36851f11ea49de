"""Many distillation steps: the student approaches the teacher, if the learning rate is not too large.

To first order in ε, w = (θ_T − θ_S) / ε obeys w ← (I − α G_b) w from w = D, with G_b the Gauss-Newton matrix of the
batch. For α ≤ 2 / λ_max(G_b) no step lengthens w, hence for ANY order of batches

    ⟨θ_S − θ0, D⟩ / ε = ⟨D − w, D⟩ ≥ |D|² (1 − |w| / |D|) ≥ 0.

This is about the cumulative displacement. A single step can go against D: each step is aligned only with one batch for
all steps and α ≤ 1 / λ_max. So plot the cumulative displacement.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from sublim_jax import errors
from sublim_jax.metrics import alignment as products
from sublim_jax.theory import loss_geometry, one_step, spectrum


class Trajectory(NamedTuple):
    """A distillation of several steps. All values are divided by ε, so that prediction and measurement compare."""

    cumulative: Float[Array, "step"]  # ⟨θ_S − θ0, D⟩ / ε after the step; never negative to first order
    step: Float[Array, "step"]  # the inner product of the step alone; non-negative for one batch and small rates
    distance: Float[Array, "step"]  # |θ_T − θ_S| / ε after the step; never increases to first order


def predicted(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    inputs: PyTree,
    learning_rate: float | Float[Array, ""],
) -> Trajectory:
    """The prediction for ε → 0: one product with G_b for each batch of `inputs`, whose leading axis is the step.

    Coq: trajectory_derivative, residual_non_increasing, cumulative_alignment_nonneg
    """

    def step(residual, batch):
        image = spectrum.gauss_newton_product(f, loss, reference, residual, batch)
        after = optax.tree.add_scale(residual, -learning_rate, image)
        gained = learning_rate * products.inner_product(image, update)
        return after, (products.inner_product(optax.tree.sub(update, after), update), gained, products.norm(after))

    return Trajectory(*jax.lax.scan(step, update, inputs)[1])


def measured(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    epsilon: float | Float[Array, ""],
    inputs: PyTree,
    learning_rate: float | Float[Array, ""],
) -> Trajectory:
    """The trajectory of gradient descent on the loss itself, with the teacher at θ0 + ε D.

    Coq: multi_step_alignment, multi_step_lowers_teacher_loss
    """
    teacher = optax.tree.add_scale(reference, epsilon, update)

    def step(student, batch):
        change = one_step.student_update(f, loss, student, teacher, batch)
        after = optax.tree.add_scale(student, learning_rate, change)
        cumulative = products.inner_product(optax.tree.sub(after, reference), update) / epsilon
        gained = learning_rate * products.inner_product(change, update) / epsilon
        return after, (cumulative, gained, products.norm(optax.tree.sub(teacher, after)) / epsilon)

    return Trajectory(*jax.lax.scan(step, reference, inputs)[1])


def require_admissible(learning_rate: float, largest_eigenvalue: float, *, every_step: bool = False) -> None:
    """Refuse a learning rate for which the cumulative displacement can lose its sign.

    Args:
        largest_eigenvalue: of all G_b; `spectrum.largest_eigenvalue` from a random start.
        every_step: require that each step of full-batch descent is aligned, not only their sum.

    Raises:
        InputError: the rate exceeds 2 / λ_max, or 1 / λ_max with `every_step`.

    Coq: step_contracts, full_batch_step_alignment_nonneg
    """
    bound = (1.0 if every_step else 2.0) / largest_eigenvalue
    if not 0 < learning_rate <= bound:
        raise errors.InputError(
            f"learning_rate={learning_rate}: expected a rate in (0, {bound:.3g}], {'1' if every_step else '2'} over "
            f"the largest eigenvalue {largest_eigenvalue:.3g}. Beyond it a step can lengthen the distance to the "
            "teacher, and the displacement loses its sign. Lower the rate or enlarge the batch."
        )


def recovered_bound(distance: Float[Array, "step"], update: PyTree) -> Float[Array, "step"]:
    """Lower bound |D|² (1 − |w| / |D|) on the cumulative alignment, from the distance to the teacher.

    Coq: cumulative_alignment_bound
    """
    length = products.norm(update)
    return length**2 * (1 - jnp.minimum(distance / length, 1.0))
