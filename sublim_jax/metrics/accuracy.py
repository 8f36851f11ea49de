"""Classification accuracy on the class logits, in [0, 1]."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer


def num_correct(
    class_logits: Float[Array, "batch class"],
    labels: Integer[Array, "batch"],
    weights: Float[Array, "batch"] | None = None,
) -> Float[Array, ""]:
    """How many labels the largest class logit names. A tie counts for the lower class, as `argmax` breaks it."""
    hits = (predictions(class_logits) == labels).astype(jnp.float32)
    return jnp.sum(hits if weights is None else hits * weights)


def predictions(class_logits: Float[Array, "batch class"]) -> Int[Array, "batch"]:
    """The class with the largest logit."""
    return jnp.argmax(class_logits, axis=-1)
