"""Gaussian noise on the weights of a decoder."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sublim_jax import keys
from sublim_jax.llm.local import decoder


def perturbed(key: Key[Array, ""], params: decoder.Params, scale: float, *, embeddings: bool = True) -> decoder.Params:
    """Parameters plus Gaussian noise on every matrix, of `scale` times the standard deviation of its own entries.

    Matrices are the embedding, the head and the linear maps of every layer. Norms and biases stay as they are. With one
    key, noise of another scale has the same direction.

    Args:
        embeddings: whether embedding and head get noise too.
    """

    def noisy(name: str, matrix: Float[Array, "*layer row column"]) -> Float[Array, "*layer row column"]:
        drawn = jax.random.normal(keys.stream(key, name), matrix.shape)
        deviation = jnp.std(matrix.astype(jnp.float32), axis=(-2, -1), keepdims=True)
        return (matrix.astype(jnp.float32) + scale * deviation * drawn).astype(matrix.dtype)

    maps = {name: getattr(params.layers, name) for name in decoder.PROJECTIONS}
    layers = params.layers._replace(**{name: noisy(name, each) for name, each in maps.items() if each is not None})
    if not embeddings:
        return params._replace(layers=layers)
    head = None if params.head is None else noisy("head", params.head)
    return params._replace(embedding=noisy("embedding", params.embedding), layers=layers, head=head)
