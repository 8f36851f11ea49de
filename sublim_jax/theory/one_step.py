"""Lemma 1 and Theorem 1: the student's first step, its alignment with the teacher's update, and the coefficient A.

    Δθ_S(ε) = −∇θ E[l(f(θ, x), f(θ0 + ε D, x))] at θ = θ0        `student_update`, learning rate one
    alignment(ε) = ⟨Δθ_S(ε), D⟩ = ε A + o(ε),  A = E[vᵀ M v] ≥ 0   `alignment_reverse`, `alignment_forward`

Only D, not ε D, enters the inner product, so A has the unit of loss and alignment(ε) ≈ ε A. Nothing depends on how the
teacher got its update: D is any vector. The sign alone is a weak test: any subset of the logits, any subset of the
inputs and any distillation loss give a non-negative alignment too. The value of A, the agreement of two code paths and
the control at ε = 0 distinguish a correct implementation from a wrong one.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from sublim_jax import losses
from sublim_jax.metrics import alignment as products
from sublim_jax.theory import loss_geometry

Weights = Float[Array, "batch"] | None


def unit_update(update: PyTree) -> PyTree:
    """The update divided by its norm, so that ε is a distance in parameter space; not a number for a zero update."""
    length = products.norm(update)
    return jax.tree.map(lambda leaf: leaf / length, update)


def teacher_update(teacher_loss: Callable[[PyTree], Float[Array, ""]], reference: PyTree) -> PyTree:
    """The update D = −∇L_T(θ0) of a teacher that takes one gradient step.

    A student's step of any fixed size then lowers L_T, for small ε.

    Coq: theorem1
    """
    return jax.tree.map(jnp.negative, jax.grad(teacher_loss)(reference))


def student_update(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    student: PyTree,
    teacher: PyTree,
    inputs: PyTree,
    weights: Weights = None,
) -> PyTree:
    """The student's first step at learning rate one: minus the gradient of its distillation loss at `student`.

    The teacher's logits are labels, computed outside the function that is differentiated. No gradient of the student
    flows through them, but a derivative with respect to the teacher, such as the slope in ε, does.
    """
    labels = f(teacher, inputs)
    gradient = jax.grad(lambda params: loss_geometry.as_loss(loss)(f(params, inputs), labels, weights))(student)
    return jax.tree.map(jnp.negative, gradient)


def logit_tangent(
    f: loss_geometry.LogitFunction, reference: PyTree, update: PyTree, inputs: PyTree
) -> tuple[loss_geometry.Logits, loss_geometry.Logits]:
    """The logits z at `reference` and their derivative v = J D along `update`, by one jvp.

    Coq: logit_tangent, teacher_logits_derive
    """
    return jax.jvp(lambda params: f(params, inputs), (reference,), (update,))


def per_example_alignment(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    inputs: PyTree,
) -> Float[Array, "batch"]:
    """The value vᵀ M v of each input, whose weighted mean is A. It is never negative.

    Raises:
        InputError: one logit under a softmax, which transmits nothing.

    Coq: quadratic_form_is_variance, variance_nonneg
    """
    logits, tangents = logit_tangent(f, reference, update, inputs)
    loss = loss_geometry.as_loss(loss)
    loss_geometry.require_informative(loss, logits.shape[-1])
    return loss.metric_form(logits, tangents)


def alignment_coefficient(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    inputs: PyTree,
    weights: Weights = None,
) -> Float[Array, ""]:
    """The coefficient A = E[vᵀ M v], the slope of the alignment in ε at 0, in units of loss.

    It is zero exactly when the alignment is zero for every ε. For a KL loss it is the mean variance of v under
    softmax(z / temperature), for the squared error 2 E|v|².

    Raises:
        InputError: one logit under a softmax, which transmits nothing.

    Source: Cloud et al. 2025, appendix C. Coq: alignment_coefficient, alignment_derivative, alignment_vanishes
    """
    return losses.weighted_mean(per_example_alignment(f, loss, reference, update, inputs), weights)


def alignment_reverse(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    epsilon: float | Float[Array, ""],
    inputs: PyTree,
    weights: Weights = None,
    *,
    along: PyTree | None = None,
) -> Float[Array, ""]:
    """The alignment ⟨Δθ_S(ε), D⟩ by its definition: the gradient of the student's loss, then an inner product.

    Args:
        along: a vector in place of D in the inner product; the teacher still moves along `update`.

    Coq: alignment
    """
    step = student_update(f, loss, reference, optax.tree.add_scale(reference, epsilon, update), inputs, weights)
    return products.inner_product(step, update if along is None else along)


def alignment_forward(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    epsilon: float | Float[Array, ""],
    inputs: PyTree,
    weights: Weights = None,
    *,
    along: PyTree | None = None,
) -> Float[Array, ""]:
    """The alignment without a gradient in parameter space: E[p(z, y_ε) · v], from the pull and a logit tangent.

    It shares only `f` and the loss with `alignment_reverse`. It costs two forward passes, and its derivatives in ε give
    the curvature.

    Coq: alignment_formula
    """
    logits, tangents = logit_tangent(f, reference, update if along is None else along, inputs)
    labels = f(optax.tree.add_scale(reference, epsilon, update), inputs)
    per_example = jnp.sum(loss_geometry.pull(loss, logits, labels) * tangents, axis=-1)
    return losses.weighted_mean(per_example, weights)


def alignment_by_layer(student_step: PyTree, update: PyTree) -> dict[str, Float[Array, ""]]:
    """The inner product of each part at the top level of the pytree, e.g. of each layer; the parts add up to the whole.

    A mapping with a single key, such as the `{"params": ...}` of flax linen, is split one level below.

    Only the sum has a sign. A single layer can be negative, and so can a student that trains only some of the
    coordinates that the teacher moved.

    Coq: frozen_part_negative
    """
    inner, depth = student_step, 1
    while isinstance(inner, Mapping) and len(inner) == 1:
        (inner,), depth = inner.values(), depth + 1
    parts: dict[str, Float[Array, ""]] = {}
    left, right = jax.tree_util.tree_flatten_with_path(student_step)[0], jax.tree.leaves(update)
    for (path, change), direction in zip(left, right, strict=True):
        layer = jax.tree_util.keystr(path[:depth]) or "."
        parts[layer] = parts.get(layer, jnp.zeros(())) + jnp.vdot(change, direction)
    return parts


class Curve(NamedTuple):
    """The alignment as a function of ε, and the terms of its Taylor expansion."""

    epsilon: Float[Array, "epsilon"]
    alignment: Float[Array, "epsilon"]  # ⟨Δθ_S(ε), D⟩, reverse mode
    linear: Float[Array, "epsilon"]  # ε A
    remainder: Float[Array, "epsilon"]  # alignment − ε A, which is O(ε²) for smooth networks
    quadratic: Float[Array, "epsilon"]  # ε² B with B half the second derivative at 0, the limit of the remainder


def curvature(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    epsilon: float | Float[Array, ""],
    inputs: PyTree,
    weights: Weights = None,
) -> Float[Array, ""]:
    """Second derivative of the alignment at `epsilon`, by a jvp of a jvp. For ReLU it ignores the kinks."""

    def value(e):
        return alignment_forward(f, loss, reference, update, e, inputs, weights)

    def slope(e):
        return jax.jvp(value, (e,), (jnp.ones_like(e),))[1]

    epsilon = jnp.asarray(epsilon, jnp.result_type(*jax.tree.leaves(reference)))
    return jax.jvp(slope, (epsilon,), (jnp.ones_like(epsilon),))[1]


def alignment_curve(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    epsilon: Float[Array, "epsilon"],
    inputs: PyTree,
    weights: Weights = None,
) -> Curve:
    """The alignment at each ε and its prediction by the theorem.

    With |D| = 1, float32 resolves it from ε ≈ 1e-4 upwards; below, the rounding of the logits dominates, about
    1e-7 |z| / |v|. Float64 resolves it from about 1e-9.

    Raises:
        InputError: one logit under a softmax, which transmits nothing.
    """

    def at(e):
        return alignment_reverse(f, loss, reference, update, e, inputs, weights)

    alignment = jax.lax.map(at, epsilon)
    linear = epsilon * alignment_coefficient(f, loss, reference, update, inputs, weights)
    half_curvature = curvature(f, loss, reference, update, 0.0, inputs, weights) / 2
    return Curve(epsilon, alignment, linear, alignment - linear, epsilon**2 * half_curvature)
