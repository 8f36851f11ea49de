"""Lemma 1 and Theorem 1: the student's first step, its alignment with the teacher's update, and the coefficient A.

    Δθ_S(ε) = −∇θ E[l(f(θ, x), f(θ0 + ε D, x))] at θ = θ0        `student_update`, learning rate one
    alignment(ε) = ⟨Δθ_S(ε), D⟩ = ε A + o(ε),  A = E[vᵀ M v] ≥ 0   `alignment_reverse`, `alignment_forward`

Only D, not ε D, enters the inner product, so A has the unit of loss and alignment(ε) ≈ ε A. Nothing depends on how the
teacher got its update: D is any vector. The sign alone tests little: any subset of the logits, any subset of the inputs
and any loss of the contract give a non-negative alignment too. The value of A, the two code paths and the control at
ε = 0 are what tell a right implementation from a wrong one.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from sublim_jax import losses
from sublim_jax.metrics import alignment as products
from sublim_jax.theory import contract

Weights = Float[Array, "batch"] | None


def normalised(update: PyTree) -> PyTree:
    """The update divided by its norm, so that ε is a distance in parameter space. Not a number for a zero update."""
    length = products.norm(update)
    return jax.tree.map(lambda leaf: leaf / length, update)


def teacher_update(teacher_loss: Callable[[PyTree], Float[Array, ""]], reference: PyTree) -> PyTree:
    """D of a teacher that takes one gradient step: −∇L_T(θ0). Then a student step of any fixed size lowers L_T.

    Coq: theorem1
    """
    return jax.tree.map(jnp.negative, jax.grad(teacher_loss)(reference))


def student_update(
    f: contract.LogitFunction,
    loss: contract.Loss | contract.LossFunction,
    student: PyTree,
    teacher: PyTree,
    inputs: PyTree,
    weights: Weights = None,
) -> PyTree:
    """Minus the gradient of the student's distillation loss at `student`: its first step at learning rate one.

    The teacher's logits are labels, computed once and outside of what is differentiated. No gradient flows through
    them, yet a derivative with respect to the teacher, such as the slope in ε, still does.
    """
    labels = f(teacher, inputs)
    gradient = jax.grad(lambda params: contract.as_loss(loss)(f(params, inputs), labels, weights))(student)
    return jax.tree.map(jnp.negative, gradient)


def logit_tangent(
    f: contract.LogitFunction, reference: PyTree, update: PyTree, inputs: PyTree
) -> tuple[contract.Logits, contract.Logits]:
    """(z, v): the logits at `reference` and their derivative along `update`, v = J D, by one jvp. v is not divided by
    ε.

    Coq: logit_tangent, teacher_logits_derive
    """
    return jax.jvp(lambda params: f(params, inputs), (reference,), (update,))


def per_example_alignment(
    f: contract.LogitFunction,
    loss: contract.Loss | contract.LossFunction,
    reference: PyTree,
    update: PyTree,
    inputs: PyTree,
) -> Float[Array, "batch"]:
    """vᵀ M v of each input, whose weighted mean is A. Every one is non-negative: no input speaks against the teacher.

    Raises:
        InputError: one logit under a softmax, which transmits nothing.

    Coq: quadratic_form_is_variance, variance_nonneg
    """
    logits, tangents = logit_tangent(f, reference, update, inputs)
    loss = contract.as_loss(loss)
    contract.require_informative(loss, logits.shape[-1])
    return loss.metric_form(logits, tangents)


def alignment_coefficient(
    f: contract.LogitFunction,
    loss: contract.Loss | contract.LossFunction,
    reference: PyTree,
    update: PyTree,
    inputs: PyTree,
    weights: Weights = None,
) -> Float[Array, ""]:
    """A = E[vᵀ M v] = dalignment/dε at 0, in units of loss. Zero exactly when the alignment is zero for every ε.

    For a KL loss: the mean variance of v under softmax(z / temperature); for the squared error: 2 E|v|².

    Raises:
        InputError: one logit under a softmax, which transmits nothing.

    Source: Cloud et al. 2025, appendix C. Coq: alignment_coefficient, alignment_derivative, alignment_vanishes
    """
    return losses.weighted_mean(per_example_alignment(f, loss, reference, update, inputs), weights)


def alignment_reverse(
    f: contract.LogitFunction,
    loss: contract.Loss | contract.LossFunction,
    reference: PyTree,
    update: PyTree,
    epsilon: float | Float[Array, ""],
    inputs: PyTree,
    weights: Weights = None,
    *,
    along: PyTree | None = None,
) -> Float[Array, ""]:
    """⟨Δθ_S(ε), D⟩ as it is defined: backpropagate the student's loss, then take the inner product in parameter space.

    Args:
        along: another vector in place of D in the inner product; the teacher still moves along `update`.

    Coq: alignment
    """
    step = student_update(f, loss, reference, optax.tree.add_scale(reference, epsilon, update), inputs, weights)
    return products.inner_product(step, update if along is None else along)


def alignment_forward(
    f: contract.LogitFunction,
    loss: contract.Loss | contract.LossFunction,
    reference: PyTree,
    update: PyTree,
    epsilon: float | Float[Array, ""],
    inputs: PyTree,
    weights: Weights = None,
    *,
    along: PyTree | None = None,
) -> Float[Array, ""]:
    """The same number without a gradient in parameter space: E[p(z, y_ε) · v], forward mode and the pull of logits.

    It shares with `alignment_reverse` only `f` and the loss. It costs two forward passes and can itself be
    differentiated in ε, once or twice, which is how the curvature is had.

    Coq: alignment_formula
    """
    logits, tangents = logit_tangent(f, reference, update if along is None else along, inputs)
    labels = f(optax.tree.add_scale(reference, epsilon, update), inputs)
    per_example = jnp.sum(contract.pull(loss, logits, labels) * tangents, axis=-1)
    return losses.weighted_mean(per_example, weights)


def alignment_by_layer(student_step: PyTree, update: PyTree) -> dict[str, Float[Array, ""]]:
    """The inner product split by the top level of the pytree, e.g. by layer; the parts add up to the whole.

    A mapping with a single key, such as the `{"params": ...}` of flax linen, is split by what it holds.

    Only the sum has a sign. A single layer may well be negative, and so may a student that is allowed to move only in
    some of the coordinates that the teacher moved.

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
    """The alignment over ε and its Taylor parts."""

    epsilon: Float[Array, "epsilon"]
    alignment: Float[Array, "epsilon"]  # ⟨Δθ_S(ε), D⟩, reverse mode
    linear: Float[Array, "epsilon"]  # ε A
    remainder: Float[Array, "epsilon"]  # alignment − ε A, which is O(ε²) for smooth networks
    quadratic: Float[Array, "epsilon"]  # ε² B with B half the second derivative at 0; what the remainder tends to


def curvature(
    f: contract.LogitFunction,
    loss: contract.Loss | contract.LossFunction,
    reference: PyTree,
    update: PyTree,
    epsilon: float | Float[Array, ""],
    inputs: PyTree,
    weights: Weights = None,
) -> Float[Array, ""]:
    """d²alignment/dε² at `epsilon`, by a jvp of a jvp. For ReLU it sees the smooth pieces and not the kinks between."""

    def value(e):
        return alignment_forward(f, loss, reference, update, e, inputs, weights)

    def slope(e):
        return jax.jvp(value, (e,), (jnp.ones_like(e),))[1]

    epsilon = jnp.asarray(epsilon, jnp.result_type(*jax.tree.leaves(reference)))
    return jax.jvp(slope, (epsilon,), (jnp.ones_like(epsilon),))[1]


def alignment_curve(
    f: contract.LogitFunction,
    loss: contract.Loss | contract.LossFunction,
    reference: PyTree,
    update: PyTree,
    epsilon: Float[Array, "epsilon"],
    inputs: PyTree,
    weights: Weights = None,
) -> Curve:
    """The alignment at each ε beside what the theorem predicts.

    With |D| = 1, float32 resolves it from ε ≈ 1e-4 upwards (below, the logits' own rounding, about 1e-7 |z| / |v|,
    wins); float64 from about 1e-9.

    Raises:
        InputError: one logit under a softmax, which transmits nothing.
    """

    def at(e):
        return alignment_reverse(f, loss, reference, update, e, inputs, weights)

    alignment = jax.lax.map(at, epsilon)
    linear = epsilon * alignment_coefficient(f, loss, reference, update, inputs, weights)
    half_curvature = curvature(f, loss, reference, update, 0.0, inputs, weights) / 2
    return Curve(epsilon, alignment, linear, alignment - linear, epsilon**2 * half_curvature)
