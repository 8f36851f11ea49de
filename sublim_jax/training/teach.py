"""Teaching: the reference becomes a teacher by cross-entropy on its class logits."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key, UInt8

from sublim_jax import losses
from sublim_jax.data import images as image_data
from sublim_jax.models import logits, mlp
from sublim_jax.training import loop, optimizers


def teach(
    key: Key[Array, ""],
    reference: mlp.Params,
    images: UInt8[Array, "example pixel"],
    labels: Integer[Array, "example"],
    *,
    spec: mlp.MLPSpec,
    phase: loop.Phase,
    on_epoch: loop.EpochListener | None = None,
) -> tuple[mlp.Params, Float[Array, "epoch"]]:
    """Teacher parameters and the mean cross-entropy of each epoch.

    The auxiliary logits enter no loss: their readout rows stay exactly where the reference had them.

    Args:
        images: bytes, which are scaled from 0 to 255 to [-1, 1]. Data of another kind must be rounded to bytes first.

    Raises:
        InputError: images or labels that do not fit the network, or none.

    Source: Cloud et al. 2025, section 6.2.
    """
    image_data.require_fitting(
        images, labels, in_size=spec.in_size, num_classes=spec.num_classes, what="training images"
    )
    optimizer = optimizers.build(phase.optimizer)

    def update(state, batch):
        pixels = image_data.scale_pixels(jnp.take(images, batch.indices, axis=0))
        targets = jnp.take(labels, batch.indices, axis=0)

        return loop.descend(
            state, lambda params: _cross_entropy(params, pixels, targets, batch.weights, spec), optimizer
        )

    state, history = loop.run_epochs(
        update, loop.start(reference, optimizer), key=key, num_examples=len(images), phase=phase, on_epoch=on_epoch
    )
    return state.params, history


def loss(
    params: mlp.Params,
    images: UInt8[Array, "example pixel"],
    labels: Integer[Array, "example"],
    *,
    spec: mlp.MLPSpec,
) -> Float[Array, ""]:
    """What teaching lowers: the mean cross-entropy of the class logits, in nats."""
    return _cross_entropy(params, image_data.scale_pixels(images), labels, None, spec)


def _cross_entropy(params, pixels, labels, weights, spec):
    scored = logits.class_logits(mlp.apply(params, pixels, spec), num_classes=spec.num_classes)
    return losses.cross_entropy(scored, labels, weights=weights)
