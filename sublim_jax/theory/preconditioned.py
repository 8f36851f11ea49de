"""Other metrics of parameter space: teacher and student precondition their gradients by one fixed matrix P.

The teacher moves by u = P g_T with g_T = −∇L_T, the student by α P Δθ_S. Lemma 1 with D = u says ⟨Δθ_S, u⟩ ≥ 0, and the
teacher's loss changes by −α ⟨g_T, P Δθ_S⟩ = −α ⟨u, Δθ_S⟩ ≤ 0, for any symmetric positive semidefinite P. This covers
natural gradients with one Fisher matrix, per-layer rates and frozen blocks, if they are the same on both sides. P must
not depend on the gradients: the first step of Adam, Lion or sign descent is not of this form and can raise L_T.
"""

from collections.abc import Callable

import jax
import jax.core
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from sublim_jax import errors
from sublim_jax.metrics import alignment as products
from sublim_jax.theory import loss_geometry, one_step

Preconditioner = Callable[[PyTree], PyTree]
"""A symmetric positive semidefinite linear map of parameter space, the same for teacher and student."""


def diagonal(scales: PyTree) -> Preconditioner:
    """The preconditioner diag(scales), e.g. a rate per parameter; zero freezes a parameter.

    Raises:
        InputError: a negative or non-finite scale (where values are concrete).
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(scales)[0]:
        if not isinstance(leaf, jax.core.Tracer) and not np.all(np.isfinite(leaf) & (np.asarray(leaf) >= 0)):
            raise errors.InputError(
                f"scales{jax.tree_util.keystr(path)}: expected finite numbers >= 0, found {np.min(leaf)} to "
                f"{np.max(leaf)}. A negative one makes the map indefinite and the alignment loses its sign."
            )
    return lambda gradient: jax.tree.map(lambda scale, leaf: scale * leaf, scales, gradient)


def alignment(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    gradient_step: PyTree,
    preconditioner: Preconditioner,
    epsilon: float | Float[Array, ""],
    inputs: PyTree,
    weights: Float[Array, "batch"] | None = None,
    *,
    student_preconditioner: Preconditioner | None = None,
) -> Float[Array, ""]:
    """Alignment ⟨g_T, P Δθ_S(ε)⟩ with the teacher at θ0 + ε P g_T, which is minus the rate of change of L_T.

    Args:
        gradient_step: g_T = −∇L_T(θ0), before preconditioning.
        student_preconditioner: another preconditioner for the student, which voids the theorem; None for the same.

    Coq: theorem1_preconditioned
    """
    teacher = optax.tree.add_scale(reference, epsilon, preconditioner(gradient_step))
    step = one_step.student_update(f, loss, reference, teacher, inputs, weights)
    return products.inner_product(gradient_step, (student_preconditioner or preconditioner)(step))


def alignment_coefficient(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    gradient_step: PyTree,
    preconditioner: Preconditioner,
    inputs: PyTree,
    weights: Float[Array, "batch"] | None = None,
) -> Float[Array, ""]:
    """The coefficient A of the teacher's displacement P g_T, the slope of `alignment` at ε = 0; never negative.

    Coq: theorem1_preconditioned
    """
    return one_step.alignment_coefficient(f, loss, reference, preconditioner(gradient_step), inputs, weights)
