"""Log-probabilities of given tokens over a large vocabulary, with a gradient that is written by hand."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


@jax.custom_vjp
def logprobs(hidden: Float[Array, "place hidden"], head: Float[Array, "vocab hidden"], tokens: Int[Array, "place"]):
    return _logprobs_forward(hidden, head, tokens)[0]


def _product(left, right, left_axis, right_axis):
    """Product over one axis of each matrix, in full float32 where the operands are."""
    axes = ((left_axis,), (right_axis,)), ((), ())
    return lax.dot_general(left, right, axes, precision="highest", preferred_element_type=jnp.float32)


def _logprobs_forward(hidden, head, tokens):
    scores = _product(hidden, head, 1, 1)
    largest = jnp.max(scores, axis=-1)
    weights = jnp.exp(scores - largest[:, None])
    total = jnp.sum(weights, axis=-1)
    chosen = jnp.sum(hidden.astype(jnp.float32) * head[tokens].astype(jnp.float32), axis=-1)
    return chosen - largest - jnp.log(total), (hidden, head, tokens, weights, total)


def _logprobs_backward(saved, gradient):
    """Factors of a place go to the small operand of each product, never to the weights of all words.

    Where the model is sure, a chosen word is raised by as much as it is lowered but for a small rest, so the head's
    product is in float32 whatever the head is.
    """
    hidden, head, tokens, weights, total = saved
    share, hidden32 = (gradient / total)[:, None], hidden.astype(jnp.float32)
    expected = share * _product(weights.astype(head.dtype), head, 1, 0)
    hidden_gradient = gradient[:, None] * head[tokens].astype(jnp.float32) - expected
    lowered = _product(share * hidden32, weights, 0, 0)
    lowered = lax.optimization_barrier(lowered).T  # XLA:CPU is slower at the transposed product
    head_gradient = (-lowered).at[tokens].add(gradient[:, None] * hidden32)
    return hidden_gradient.astype(hidden.dtype), head_gradient.astype(head.dtype), None


logprobs.defvjp(_logprobs_forward, _logprobs_backward)
