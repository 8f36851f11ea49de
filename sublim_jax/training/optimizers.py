"""Optimizers by name, as optax builds them, with settings that a flag can set."""

import dataclasses
from typing import Literal

import optax

from sublim_jax import specs

OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop", "lion", "sign_sgd"]


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """The paper's Adam by default. See `ignored_settings` for those that an optimizer does not have."""

    name: OptimizerName = "adam"
    learning_rate: specs.Positive = 3e-4
    b1: specs.Decay = 0.9  # decay of the first moment: adam, adamw, lion
    b2: specs.Decay = 0.999  # decay of the second moment: adam, adamw, lion, rmsprop
    eps: specs.Positive = 1e-8  # added to the root of the second moment: adam, adamw, rmsprop
    momentum: specs.Decay = 0.0  # sgd, rmsprop
    weight_decay: specs.NonNegative = 0.0  # decoupled from the gradient in adamw and lion, else added to it (L2)


_SETTINGS: dict[OptimizerName, set[str]] = {
    "adam": {"b1", "b2", "eps"},
    "adamw": {"b1", "b2", "eps"},
    "sgd": {"momentum"},
    "rmsprop": {"b2", "eps", "momentum"},
    "lion": {"b1", "b2"},
    "sign_sgd": set(),
}
"""Beside the learning rate and weight decay, which all have."""


def ignored_settings(name: OptimizerName) -> tuple[str, ...]:
    """Fields of `OptimizerSpec` that the optimizer of this name does not have."""
    return tuple(setting for setting in ("b1", "b2", "eps", "momentum") if setting not in _SETTINGS[name])


def build(spec: OptimizerSpec) -> optax.GradientTransformation:
    """The optax transformation. Its state starts afresh in every phase."""
    momentum = None if specs.is_zero(spec.momentum) else spec.momentum
    match spec.name:
        case "adam":
            optimizer = optax.adam(spec.learning_rate, b1=spec.b1, b2=spec.b2, eps=spec.eps)
        case "adamw":
            return optax.adamw(spec.learning_rate, b1=spec.b1, b2=spec.b2, eps=spec.eps, weight_decay=spec.weight_decay)
        case "sgd":
            optimizer = optax.sgd(spec.learning_rate, momentum=momentum)
        case "rmsprop":
            optimizer = optax.rmsprop(
                spec.learning_rate, decay=spec.b2, eps=spec.eps, eps_in_sqrt=False, momentum=momentum
            )
        case "lion":
            return optax.lion(spec.learning_rate, b1=spec.b1, b2=spec.b2, weight_decay=spec.weight_decay)
        case "sign_sgd":
            optimizer = optax.sign_sgd(spec.learning_rate)
    if specs.is_zero(spec.weight_decay):
        return optimizer
    return optax.chain(optax.add_decayed_weights(spec.weight_decay), optimizer)
