"""Inner products, lengths and cosines of updates, which are pytrees of parameters; `optax.tree` has the rest."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree


def inner_product(left: PyTree[Array], right: PyTree[Array]) -> Float[Array, ""]:
    """Sum over all parameters of the product, <left, right>: `optax.tree.vdot`, always an array."""
    return jnp.asarray(optax.tree.vdot(left, right))


def norm(update: PyTree[Array]) -> Float[Array, ""]:
    """Euclidean length of an update over all parameters."""
    # Not optax.tree.norm: it adds the squares in another order, and committed results would differ in their last bits.
    return jnp.sqrt(inner_product(update, update))


def cosine(left: PyTree[Array], right: PyTree[Array]) -> Float[Array, ""]:
    """Inner product of the normalised updates, in [-1, 1]; not a number if one of them is zero."""
    return inner_product(left, right) / (norm(left) * norm(right))
