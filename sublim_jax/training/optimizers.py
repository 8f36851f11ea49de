"""Optimizers by name, as optax builds them, with settings that a flag can set."""

import dataclasses
from typing import Literal

import optax

from sublim_jax import errors, specs

OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop", "lion", "sign_sgd"]


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """The paper's Adam by default. Settings that the named optimizer does not have are ignored by it."""

    name: OptimizerName = "adam"
    learning_rate: float = 3e-4
    b1: float = 0.9  # decay of the first moment: adam, adamw, lion
    b2: float = 0.999  # decay of the second moment: adam, adamw, lion, rmsprop
    eps: float = 1e-8  # added to the root of the second moment: adam, adamw, rmsprop
    momentum: float = 0.0  # sgd, rmsprop
    weight_decay: float = 0.0  # decoupled from the gradient in adamw and lion, added to it (L2) in the others

    def __post_init__(self):
        if self.learning_rate <= 0:
            raise errors.InputError(f"learning_rate must be positive, got {self.learning_rate}")
        for name, value in {"b1": self.b1, "b2": self.b2, "momentum": self.momentum}.items():
            if not 0 <= value < 1:
                raise errors.InputError(f"{name} must lie in [0, 1), got {value}")


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
