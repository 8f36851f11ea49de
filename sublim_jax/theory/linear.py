"""Logits that are affine in the parameters: the sign holds for every ε, and one linear layer transmits nothing.

Two facts about f(θ) = c + J θ. First, for every loss of `sublim_jax.losses` the alignment is non-negative for all ε ≥
0, and for the squared errors and the reverse KL it is exactly ε A. This covers linear models,
students that train the last layer only, and any network linearised at its reference. Second, in a single affine layer
the class rows and the auxiliary rows share no parameter, so the tangent kernel between them is zero: the alignment is
zero for every ε and the class rows never move, in any number of steps. A linear network of two layers does transmit.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from sublim_jax.theory import loss_geometry


def linearised(f: loss_geometry.LogitFunction, reference: PyTree) -> loss_geometry.LogitFunction:
    """The tangent model f(θ0, x) + J (θ − θ0), with the value and the derivative of `f` at the reference.

    Coq: monotone_affine_nonneg, squared_error_affine_exact
    """

    def affine(params, inputs):
        change = optax.tree.sub(params, reference)
        logits, tangents = jax.jvp(lambda p: f(p, inputs), (reference,), (change,))
        return logits + tangents

    return affine


def tangent_kernel(
    f: loss_geometry.LogitFunction,
    g: loss_geometry.LogitFunction,
    reference: PyTree,
    f_inputs: PyTree,
    g_inputs: PyTree,
) -> Float[Array, "f_row g_row"]:
    """The matrix J_f J_gᵀ: the change of logit i of `f` after a step on logit j of `g`. It is dense.

    Rows run over inputs, then logits. With `f` the class logits and `g` the distilled ones, all transmission goes
    through this matrix, which is zero for a single layer. With f = g it is the neural tangent kernel.

    Coq: orthogonal_transmits_nothing, class_block_never_moves
    """
    return _jacobian(f, reference, f_inputs) @ _jacobian(g, reference, g_inputs).T


def _jacobian(f, reference, inputs):
    rows = jax.tree.leaves(jax.jacrev(lambda params: f(params, inputs).reshape(-1))(reference))
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in rows], axis=1)
