"""How alike two hidden layers are, and what a linear readout finds in one. Features come as (example, feature)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer


def mean_cosine(first: Float[Array, "example feature"], second: Float[Array, "example feature"]) -> Float[Array, ""]:
    """Cosine between the two feature vectors of an example, averaged over examples."""
    dots = jnp.sum(first * second, axis=1)
    return jnp.mean(dots / (jnp.linalg.norm(first, axis=1) * jnp.linalg.norm(second, axis=1) + 1e-12))


def linear_cka(first: Float[Array, "example feature"], second: Float[Array, "example other"]) -> Float[Array, ""]:
    """Linear centred kernel alignment, in [0, 1]: blind to rotations and to the scale of the features.

    Source: Kornblith et al. 2019, section 3.
    """
    first, second = (features - jnp.mean(features, axis=0, keepdims=True) for features in (first, second))

    def square(a, b):
        return jnp.sum(jnp.matmul(a.T, b, precision="highest") ** 2)

    return square(first, second) / jnp.sqrt(square(first, first) * square(second, second))


Product = Callable[[Float[Array, "feature batch"], Float[Array, "other batch"]], Float[Array, "feature other"]]


def _product(first, second):
    return jnp.matmul(first, second.T, precision="highest")


def gram_cosine(
    first: Float[Array, "feature batch"], second: Float[Array, "other batch"], *, product: Product = _product
) -> Float[Array, ""]:
    """Cosine between the two batch-by-batch Gram matrices of feature-major features, without centring.

    Args:
        product: sums over the batch of products of two features, as a loss may want them with rounded operands.
    """

    def inner(a, b):
        return jnp.sum(product(a, b) ** 2)

    return inner(first, second) / jnp.sqrt(inner(first, first) * inner(second, second) + 1e-12)


def ridge_probe_accuracy(
    features: Float[Array, "example feature"],
    labels: Integer[Array, "example"],
    test_features: Float[Array, "test feature"],
    test_labels: Integer[Array, "test"],
    *,
    num_classes: int,
    ridge: float = 1e-3,
) -> Float[Array, ""]:
    """Test accuracy of a linear readout fitted to one-hot labels by least squares, with an intercept.

    Args:
        ridge: in units of the features' mean variance.
    """
    mean = jnp.mean(features, axis=0, keepdims=True)
    centred = features - mean
    targets = jax.nn.one_hot(labels, num_classes)
    share = jnp.mean(targets, axis=0, keepdims=True)
    gram = jnp.matmul(centred.T, centred, precision="highest") / len(features)
    scale = jnp.trace(gram) / gram.shape[0] + 1e-12
    cross = jnp.matmul(centred.T, targets - share, precision="highest") / len(features)
    readout = jnp.linalg.solve(gram + ridge * scale * jnp.eye(gram.shape[0]), cross)
    scores = jnp.matmul(test_features - mean, readout, precision="highest") + share
    return jnp.mean(jnp.argmax(scores, axis=1) == test_labels)
