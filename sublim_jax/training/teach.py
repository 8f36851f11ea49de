"""Teaching: the reference becomes a teacher, by cross-entropy on its class logits unless another loss is given."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key, Shaped

from sublim_jax import errors, losses
from sublim_jax.models import heads, network
from sublim_jax.training import examples, loop, optimizers

LossFunction = Callable[[Any, Any, Any], Any]
"""A teacher's loss: logits (batch, logit), labels (batch,) and weights (batch,) to a scalar. Weights are 1, and 0 for
examples that only fill the last batch of an epoch: average with them, e.g. `losses.weighted_mean`."""


def teach(
    key: Key[Array, ""],
    reference: network.Params,
    inputs: Shaped[Array, "example *shape"],
    labels: Integer[Array, "example"],
    *,
    model: network.Model,
    phase: loop.TrainPhase,
    loss_function: LossFunction | None = None,
) -> tuple[network.Params, Float[Array, "epoch"]]:
    """Teacher parameters and the mean loss of each epoch.

    With the cross-entropy the auxiliary logits enter no loss: in the MLP their readout rows stay exactly where the
    reference had them.

    Args:
        inputs: bytes, which are scaled from 0 to 255 to [-1, 1], or floats, which are used as they are.
        loss_function: the mean cross-entropy of the class logits by default.

    Raises:
        InputError: inputs or labels that do not fit the model, or none; a loss that is not one float.

    Source: Cloud et al. 2025, section 6.2.
    """
    examples.require_fitting(model, inputs, labels, what="training images")
    optimizer = optimizers.build(phase.optimizer)

    def update(state, batch):
        shown = examples.as_inputs(jnp.take(inputs, batch.indices, axis=0))
        targets = jnp.take(labels, batch.indices, axis=0)

        return loop.gradient_step(
            state, lambda params: _loss(params, shown, targets, batch.weights, model, loss_function), optimizer
        )

    state, history = loop.run_epochs(
        update, loop.init_state(reference, optimizer), key=key, num_examples=len(inputs), phase=phase
    )
    return state.params, history


def loss(
    params: network.Params,
    inputs: Shaped[Array, "example *shape"],
    labels: Integer[Array, "example"],
    *,
    model: network.Model,
    loss_function: LossFunction | None = None,
) -> Float[Array, ""]:
    """What teaching lowers; see `teach`."""
    return _loss(params, examples.as_inputs(inputs), labels, None, model, loss_function)


def _loss(params, inputs, labels, weights, model, loss_function):
    outputs = model.apply(params, inputs)
    if loss_function is not None:
        value = jnp.asarray(loss_function(outputs, labels, jnp.ones(len(labels)) if weights is None else weights))
        if value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
            raise errors.InputError(
                f"teacher_loss gives {value.dtype} of shape {value.shape}: expected one float for a batch. Average "
                f"over the examples with losses.weighted_mean"
            )
        return value
    return losses.cross_entropy(heads.class_logits(outputs, num_classes=model.num_classes), labels, weights=weights)
