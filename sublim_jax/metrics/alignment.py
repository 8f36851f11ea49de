"""Inner products and cosines of updates, which are parameter pytrees of equal structure."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


def inner_product(left: PyTree[Array], right: PyTree[Array]) -> Float[Array, ""]:
    """Sum over all parameters of the product, <left, right>."""
    return sum(
        (jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)), jnp.zeros(())
    )


def norm(update: PyTree[Array]) -> Float[Array, ""]:
    """Euclidean length of an update over all parameters."""
    return jnp.sqrt(inner_product(update, update))


def cosine(left: PyTree[Array], right: PyTree[Array]) -> Float[Array, ""]:
    """Inner product of the normalised updates, in [-1, 1]; not a number if one of them is zero."""
    return inner_product(left, right) / (norm(left) * norm(right))


def difference(after: PyTree[Array], before: PyTree[Array]) -> PyTree[Array]:
    """`after - before`, leaf by leaf: the update that a phase of training made."""
    return jax.tree.map(jnp.subtract, after, before)
