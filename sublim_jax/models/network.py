"""What training needs of a model, whoever built it.

A `Model` draws parameters from a key and maps parameters and a batch of inputs to logits, class logits first. The
paper's `mlp.MLPSpec` is one, `conv.ConvSpec` another; `Network` makes one of two functions, `adapters` one of a Flax
or Equinox module.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree, Shaped

from sublim_jax import errors, specs

Params = PyTree
Inputs = Shaped[Array, "batch *shape"] | Shaped[np.ndarray, "batch *shape"]
Several = tuple[Shaped[Array, "batch ..."], ...]
"""A batch of several arrays at once, as denoisers take images and times."""


@runtime_checkable
class Model(Protocol):
    """The interface of every model. Implementations are immutable and hashable."""

    @property
    def num_classes(self) -> int:
        """Class logits, which come first in the output and are scored against labels."""
        ...

    @property
    def num_aux(self) -> int:
        """Auxiliary logits, which follow the class logits and enter no loss of the teacher."""
        ...

    def init(self, key: Key[Array, ""]) -> Params:
        """Parameters drawn from the key: a pytree of floating-point arrays."""
        ...

    def apply(self, params: Params, inputs: Inputs) -> Float[Array, "batch logit"]:
        """Logits of a batch."""
        ...

    def apply_with_features(
        self, params: Params, inputs: Inputs
    ) -> tuple[Float[Array, "batch logit"], Float[Array, "feature batch"]]:
        """Logits, and the activations of the last hidden layer, feature-major.

        Raises:
            InputError: the model does not give its features.
        """
        ...

    def feature_product(
        self, first: Float[Array, "feature batch"], second: Float[Array, "other batch"]
    ) -> Float[Array, "feature other"]:
        """Sums over a batch of products of two features, in the model's own arithmetic."""
        ...


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A model made of pure functions.

    Two networks are equal if their functions are the same objects, so programs are compiled once for each function:
    define them once and not in a loop.
    """

    initialize: Callable[[Any], Any]
    """A function from a PRNG key to parameters: a pytree of floating-point arrays."""
    forward: Callable[[Any, Any], Any]
    """A function from parameters and a batch of inputs to logits of shape (batch, logit), class logits first."""
    num_classes: specs.Count
    num_aux: specs.CountOrZero
    features: Callable[[Any, Any], Any] | None = None
    """A function from parameters and inputs to the last hidden layer, of shape (batch, feature). Only needed for
    feature distillation and for the measure "representation"."""

    def init(self, key: Key[Array, ""]) -> Params:
        """See `Model`."""
        return self.initialize(key)

    def apply(self, params: Params, inputs: Inputs | Several) -> Float[Array, "batch logit"]:
        """See `Model`."""
        return self.forward(params, inputs)

    def apply_with_features(
        self, params: Params, inputs: Inputs
    ) -> tuple[Float[Array, "batch logit"], Float[Array, "feature batch"]]:
        """See `Model`."""
        if self.features is None:
            raise errors.InputError(
                "this network has no features: feature distillation and the measure 'representation' need the last "
                "hidden layer. Give Network(features=...), or leave them out"
            )
        hidden = self.features(params, inputs)
        return self.forward(params, inputs), hidden.reshape(len(hidden), -1).T

    def feature_product(
        self, first: Float[Array, "feature batch"], second: Float[Array, "other batch"]
    ) -> Float[Array, "feature other"]:
        """See `Model`."""
        return jnp.matmul(first, second.T, precision="highest")
