"""Many distillation steps: the student's displacement contracts towards the teacher's, step size and order permitting.

To first order in ε, w = (θ_T − θ_S) / ε obeys w ← (I − α G_b) w from w = D, with G_b the Gauss-Newton matrix of the
batch. For α ≤ 2 / λ_max(G_b) no step lengthens w, hence for ANY order of batches

    ⟨θ_S − θ0, D⟩ / ε = ⟨D − w, D⟩ ≥ |D|² (1 − |w| / |D|) ≥ 0.

That is a statement about the cumulative displacement. A single step may go against D: only with one batch for all steps
and α ≤ 1 / λ_max is each of them signed. So plot the cumulative displacement.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from sublim_jax import errors
from sublim_jax.metrics import alignment as products
from sublim_jax.theory import contract, one_step, spectrum


class Trajectory(NamedTuple):
    """A distillation of several steps, everything divided by ε so that prediction and measurement can be compared."""

    cumulative: Float[Array, "step"]  # ⟨θ_S − θ0, D⟩ / ε after the step; never negative to first order
    step: Float[Array, "step"]  # the same of the step alone; signed for one batch and small rates only
    distance: Float[Array, "step"]  # |θ_T − θ_S| / ε after the step; never increases to first order


def predicted(
    f: contract.LogitFunction,
    loss: contract.Loss | contract.LossFunction,
    reference: PyTree,
    update: PyTree,
    inputs: PyTree,
    learning_rate: float | Float[Array, ""],
) -> Trajectory:
    """The linear law, ε → 0: one product with G_b for each entry of the leading step axis of `inputs`.

    Coq: trajectory_derivative, residual_non_increasing, cumulative_alignment_nonneg
    """

    def step(residual, batch):
        image = spectrum.gauss_newton_product(f, loss, reference, residual, batch)
        after = optax.tree.add_scale(residual, -learning_rate, image)
        gained = learning_rate * products.inner_product(image, update)
        return after, (products.inner_product(optax.tree.sub(update, after), update), gained, products.norm(after))

    return Trajectory(*jax.lax.scan(step, update, inputs)[1])


def measured(
    f: contract.LogitFunction,
    loss: contract.Loss | contract.LossFunction,
    reference: PyTree,
    update: PyTree,
    epsilon: float | Float[Array, ""],
    inputs: PyTree,
    learning_rate: float | Float[Array, ""],
) -> Trajectory:
    """The same quantities of gradient descent on the loss itself, with the teacher at θ0 + ε D.

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
    """Refuse a rate for which the law promises nothing.

    Args:
        largest_eigenvalue: of G_b, over all batches; `spectrum.largest_eigenvalue` from a random start.
        every_step: ask for the condition under which each step of full-batch descent is aligned, not only their sum.

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
    """|D|² (1 − |w| / |D|), the lower bound on the cumulative alignment that the distance to the teacher gives.

    Coq: cumulative_alignment_bound
    """
    length = products.norm(update)
    return length**2 * (1 - jnp.minimum(distance / length, 1.0))
