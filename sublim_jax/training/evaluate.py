"""One model on many inputs, a block of them at a time: its test accuracy, its hidden features."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Integer, Shaped

from sublim_jax.data import batches
from sublim_jax.metrics import accuracy
from sublim_jax.models import heads, network
from sublim_jax.training import examples


def test_accuracy(
    params: network.Params,
    inputs: Shaped[Array, "example *shape"],
    labels: Integer[Array, "example"],
    *,
    model: network.Model,
    batch_size: int = 1000,
) -> Float[Array, ""]:
    """Share of the inputs whose label has the largest class logit, in [0, 1].

    Raises:
        InputError: inputs or labels that do not fit the model, or none.
    """
    examples.require_fitting(model, inputs, labels, what="test images")

    def count(correct, batch):
        shown = examples.as_inputs(jnp.take(inputs, batch.indices, axis=0))
        scored = heads.class_logits(model.apply(params, shown), num_classes=model.num_classes)
        return correct + accuracy.num_correct(scored, jnp.take(labels, batch.indices), batch.weights), None

    correct, _ = lax.scan(count, jnp.zeros(()), batches.sequential(len(inputs), batch_size=batch_size))
    return correct / len(inputs)


def hidden_features(
    params: network.Params, inputs: Shaped[Array, "example *shape"], *, model: network.Model, batch_size: int = 1000
) -> Float[Array, "example feature"]:
    """Activations of the last hidden layer."""
    blocks = lax.map(
        lambda indices: model.apply_with_features(params, examples.as_inputs(jnp.take(inputs, indices, axis=0)))[1].T,
        batches.sequential(len(inputs), batch_size=batch_size).indices,
    )
    return blocks.reshape(-1, blocks.shape[-1])[: len(inputs)]
