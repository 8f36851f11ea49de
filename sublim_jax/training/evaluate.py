"""One model on many images, a block of them at a time: its test accuracy, its hidden features."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Integer, UInt8

from sublim_jax.data import batches
from sublim_jax.data import images as image_data
from sublim_jax.metrics import accuracy
from sublim_jax.models import logits, mlp


def test_accuracy(
    params: mlp.Params,
    images: UInt8[Array, "example pixel"],
    labels: Integer[Array, "example"],
    *,
    spec: mlp.MLPSpec,
    batch_size: int = 1000,
) -> Float[Array, ""]:
    """Share of the images whose label has the largest class logit, in [0, 1].

    Raises:
        InputError: images or labels that do not fit the network, or none.
    """
    image_data.require_fitting(images, labels, in_size=spec.in_size, num_classes=spec.num_classes, what="test images")

    def count(correct, batch):
        pixels = image_data.scale_pixels(jnp.take(images, batch.indices, axis=0))
        scored = logits.class_logits(mlp.apply(params, pixels, spec), num_classes=spec.num_classes)
        return correct + accuracy.num_correct(scored, jnp.take(labels, batch.indices), batch.weights), None

    correct, _ = lax.scan(count, jnp.zeros(()), batches.in_order(len(images), batch_size=batch_size))
    return correct / len(images)


def hidden_features(
    params: mlp.Params, images: UInt8[Array, "example pixel"], *, spec: mlp.MLPSpec, batch_size: int = 1000
) -> Float[Array, "example feature"]:
    """Activations of the last hidden layer."""
    blocks = lax.map(
        lambda indices: (
            mlp.apply_with_features(params, image_data.scale_pixels(jnp.take(images, indices, axis=0)), spec)[1].T
        ),
        batches.in_order(len(images), batch_size=batch_size).indices,
    )
    return blocks.reshape(-1, blocks.shape[-1])[: len(images)]
