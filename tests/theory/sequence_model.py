"""A causal transformer of one block in plain JAX, small enough to enumerate every sequence it can write."""

import jax
import jax.numpy as jnp
import numpy as np

VOCABULARY, LENGTH, WIDTH = 3, 3, 6


def init(seed: int) -> dict:
    random = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(random.standard_normal(shape) / np.sqrt(shape[-1]), float)

    return {
        "embedding": normal(VOCABULARY + 1, WIDTH),  # the last row begins every sequence
        "position": normal(LENGTH, WIDTH),
        "query": normal(WIDTH, WIDTH),
        "key": normal(WIDTH, WIDTH),
        "value": normal(WIDTH, WIDTH),
        "up": normal(2 * WIDTH, WIDTH),
        "down": normal(WIDTH, 2 * WIDTH),
        "unembedding": normal(VOCABULARY, WIDTH),
    }


def _of_one(params, tokens):
    """Logits of each next token, (position, token)."""

    def norm(h):
        centred = h - jnp.mean(h, axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)

    shifted = jnp.concatenate([jnp.array([VOCABULARY]), tokens[:-1]])
    h = params["embedding"][shifted] + params["position"]
    a = norm(h)
    scores = (a @ params["query"].T) @ (a @ params["key"].T).T / WIDTH**0.5
    scores = jnp.where(jnp.tril(jnp.ones((LENGTH, LENGTH), bool)), scores, -1e30)
    h = h + jax.nn.softmax(scores) @ (a @ params["value"].T)
    h = h + jax.nn.gelu(norm(h) @ params["up"].T) @ params["down"].T
    return h @ params["unembedding"].T


def logits(params, sequences):
    """Rows of one softmax each, (batch x position, token): what the theorem calls distilled logits."""
    return jax.vmap(_of_one, in_axes=(None, 0))(params, sequences).reshape(-1, VOCABULARY)


def log_probability(params, sequences):
    """Of each whole sequence."""
    log_p = jax.nn.log_softmax(jax.vmap(_of_one, in_axes=(None, 0))(params, sequences))
    return jnp.sum(jnp.take_along_axis(log_p, sequences[..., None], axis=-1), axis=(-1, -2))
