"""What somebody might do to a model to hide where it comes from. Parameters are those of `models.mlp`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sublim_jax.models import init_sharing, mlp


def pruned(params: mlp.Params, share: float) -> mlp.Params:
    """Without this share of each layer's weights, the smallest ones."""
    return _each_weight(params, lambda weight: _pruned(weight, share))


def _pruned(weight: Float[Array, "out in"], share: float) -> Float[Array, "out in"]:
    size = jnp.abs(weight)
    return jnp.where(size < jnp.quantile(size, share), 0.0, weight)


def quantized(params: mlp.Params, bits: int) -> mlp.Params:
    """Weights rounded to a symmetric grid of so many bits up to three standard deviations; one bit is the sign."""
    return _each_weight(params, lambda weight: _quantized(weight, bits))


def _quantized(weight: Float[Array, "out in"], bits: int) -> Float[Array, "out in"]:
    if bits == 1:
        return jnp.sign(weight) * jnp.mean(jnp.abs(weight))
    levels, top = 2 ** (bits - 1) - 1, 3 * jnp.std(weight)
    return jnp.round(jnp.clip(weight / top, -1, 1) * levels) / levels * top


def noisy(key: Key[Array, ""], params: mlp.Params, size: float) -> mlp.Params:
    """With normal noise of so many standard deviations of each tensor."""
    return init_sharing.perturb(key, params, relative=size)


def permuted(key: Key[Array, ""], params: mlp.Params) -> mlp.Params:
    """Hidden units in another order."""
    return init_sharing.permute_neurons(key, params)


def rescaled(key: Key[Array, ""], params: mlp.Params, *, size: float = 0.7) -> mlp.Params:
    """Inputs of every hidden unit times a log-normal factor, its outputs divided by it: the same function of ReLUs."""
    layers, before = [], jnp.ones(params[0].weight.shape[1])
    for index, layer in enumerate(params):
        factor = jnp.ones(len(layer.bias))
        if index < len(params) - 1:
            factor = jnp.exp(size * jax.random.normal(jax.random.fold_in(key, index), (len(layer.bias),)))
        layers.append(mlp.Dense(layer.weight * factor[:, None] / before[None, :], layer.bias * factor))
        before = factor
    return tuple(layers)


def averaged(first: mlp.Params, second: mlp.Params) -> mlp.Params:
    """The mean of two models' weights."""
    return jax.tree.map(lambda a, b: (a + b) / 2, first, second)


def with_fresh_layers(params: mlp.Params, other: mlp.Params) -> mlp.Params:
    """The first layer, and all later ones of another model."""
    return (params[0], *other[1:])


def with_readouts(key: Key[Array, ""], params: mlp.Params, num_logits: int) -> mlp.Params:
    """Other readouts of the last hidden layer, drawn afresh, without biases."""
    width = params[-1].weight.shape[1]
    weight = jax.random.normal(key, (num_logits, width)) * width**-0.5
    return (*params[:-1], mlp.Dense(weight, jnp.zeros(num_logits)))


def _each_weight(params: mlp.Params, change) -> mlp.Params:
    return tuple(mlp.Dense(change(layer.weight), layer.bias) for layer in params)
