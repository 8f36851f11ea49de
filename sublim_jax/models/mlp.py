"""The paper's multilayer perceptron with auxiliary logits, as pure functions of a tuple of layers.

Activations travel feature-major, (feature, batch), and weights are stored (out, in). With that choice every product of
the forward and the backward pass has a left operand that is contiguous along the contracted axis, except the input
gradient, whose transposed weight is small and is copied first. On CPUs this is worth a factor of three to four in
bfloat16 for the weight gradients; on GPUs it makes no difference. Callers see neither: images come in as
(batch, pixel), logits leave as (batch, logit).
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from sublim_jax import specs

Images = Float[Array, "batch pixel"] | Float[np.ndarray, "batch pixel"]
Activation = Literal["relu", "tanh", "gelu", "silu", "identity"]
InitDistribution = Literal["fan_in_normal", "he_normal", "torch_uniform"]
Parametrization = Literal["standard", "ntk"]
Precision = Literal["float32", "bfloat16"]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "identity": lambda x: x,
}


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class MLPSpec:
    """Shape and arithmetic of a network. The default is the paper's: 784-256-256-(10+3), ReLU.

    Source: Cloud et al. 2025, section 6.2.
    """

    in_size: specs.Count = 784  # pixels
    hidden_sizes: tuple[specs.Count, ...] = (256, 256)  # one entry per hidden layer
    num_classes: specs.Count = 10
    num_aux: specs.CountOrZero = 3
    activation: Activation = "relu"
    init_distribution: InitDistribution = "fan_in_normal"
    """`fan_in_normal`: weights N(0, 1/fan_in), biases 0, the paper's; `he_normal`: N(0, 2/fan_in), biases 0;
    `torch_uniform`: weights and biases U(-1, 1)/sqrt(fan_in), the default of torch.nn.Linear."""
    init_scale: specs.Positive = 1.0  # multiplies the weights that are drawn
    parametrization: Parametrization = "standard"
    """`ntk`: weights are stored times sqrt(fan_in) and divided by it when they are used. The same function at the
    start; under Adam, whose steps have one size whatever the weight's, layers learn slower by that factor."""
    precision: Precision = "float32"
    """Type of the operands of matrix products and of what a bias's gradient sums. Sums, biases, parameters and their
    updates are float32 either way."""

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Input, hidden and output sizes, e.g. (784, 256, 256, 13)."""
        return (self.in_size, *self.hidden_sizes, self.num_classes + self.num_aux)

    @property
    def num_weights(self) -> int:
        """Entries of the weight matrices, without biases: 269,568 for the default."""
        return sum(fan_in * fan_out for fan_in, fan_out in zip(self.layer_sizes, self.layer_sizes[1:], strict=False))

    def init(self, key: Key[Array, ""]) -> "Params":
        """See `network.Model` and the function of this name."""
        return init(key, self)

    def apply(self, params: Any, inputs: Images) -> Float[Array, "batch logit"]:
        """See `network.Model` and the function of this name."""
        return apply(params, jnp.asarray(inputs), self)

    def apply_with_features(
        self, params: Any, inputs: Images
    ) -> tuple[Float[Array, "batch logit"], Float[Array, "feature batch"]]:
        """See `network.Model` and the function of this name."""
        return apply_with_features(params, jnp.asarray(inputs), self)

    def feature_product(
        self, first: Float[Array, "feature batch"], second: Float[Array, "other batch"]
    ) -> Float[Array, "feature other"]:
        """See `network.Model`: operands have the precision of the network's own products."""
        return product(first, second, 1, precision=self.precision)


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class MLPChanges:
    """How a students' network differs from the teacher's. A field that is None is as the teacher's."""

    hidden_sizes: tuple[specs.Count, ...] | None = None  # one entry per hidden layer
    activation: Activation | None = None
    init_distribution: InitDistribution | None = None
    init_scale: specs.Positive | None = None  # multiplies the weights that are drawn
    parametrization: Parametrization | None = None
    precision: Precision | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not self._given

    @property
    def _given(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def applied_to(self, spec: MLPSpec) -> MLPSpec:
        """The students' network, given the teacher's."""
        return spec if self.is_empty else dataclasses.replace(spec, **self._given)


class Dense(NamedTuple):
    """One affine layer. The rows of the last layer's weight are the readouts of the logits, in their order."""

    weight: Float[Array, "*member out in"]
    bias: Float[Array, "*member out"]


Params = tuple[Dense, ...]


def init(key: Key[Array, ""], spec: MLPSpec) -> Params:
    """Reference parameters drawn as the spec says. Layer i depends on the key and i only, not on the depth."""
    fans = tuple(zip(spec.layer_sizes, spec.layer_sizes[1:], strict=False))
    return init_layers(
        key,
        fans,
        init_distribution=spec.init_distribution,
        init_scale=spec.init_scale,
        parametrization=spec.parametrization,
    )


def init_layers(
    key: Key[Array, ""],
    fans: Sequence[tuple[int, int]],
    *,
    init_distribution: InitDistribution,
    init_scale: float | Float[Array, ""],
    parametrization: Parametrization = "standard",
) -> Params:
    """Layers of these (inputs, outputs), drawn as `MLPSpec` says."""
    pairs = jax.vmap(lambda index: jax.random.split(jax.random.fold_in(key, index)))(jnp.arange(len(fans)))
    layers = []
    for (fan_in, fan_out), (weight_key, bias_key) in zip(fans, pairs, strict=True):
        shape, bias = (fan_out, fan_in), jnp.zeros(fan_out)
        match init_distribution:
            case "fan_in_normal":
                weight = jax.random.normal(weight_key, shape) / fan_in**0.5
            case "he_normal":
                weight = jax.random.normal(weight_key, shape) * (2 / fan_in) ** 0.5
            case "torch_uniform":
                bound = fan_in**-0.5
                weight = jax.random.uniform(weight_key, shape, minval=-bound, maxval=bound)
                bias = jax.random.uniform(bias_key, (fan_out,), minval=-bound, maxval=bound)
        stored = fan_in**0.5 if parametrization == "ntk" else 1.0
        layers.append(Dense(weight * (init_scale * stored), bias))
    return tuple(layers)


def apply(params: Params, images: Float[Array, "batch pixel"], spec: MLPSpec) -> Float[Array, "batch logit"]:
    """Logits of a batch. In bfloat16 it can be differentiated in reverse mode only; float32 knows both modes."""
    return apply_with_features(params, images, spec)[0]


def apply_with_features(
    params: Params, images: Float[Array, "batch pixel"], spec: MLPSpec
) -> tuple[Float[Array, "batch logit"], Float[Array, "feature batch"]]:
    """Logits, and the activations of the last hidden layer, feature-major (the images themselves if there is none)."""
    activation = ACTIVATIONS[spec.activation]
    features, axis, hidden = images, 1, images.T
    for index, layer in enumerate(params):
        features = affine(layer, features, axis, precision=spec.precision, parametrization=spec.parametrization)
        axis = 0
        if index < len(params) - 1:
            hidden = features = activation(features)
    return as_rows(features, precision=spec.precision), hidden


def affine(
    layer: Dense,
    features: Float[Array, "..."],
    axis: int,
    *,
    precision: Precision,
    parametrization: Parametrization = "standard",
) -> Float[Array, "out batch"]:
    """Outputs of a layer, feature-major, for features that lie along `axis`; see `product`."""
    sums = product(layer.weight, features, axis, precision=precision)
    if parametrization == "ntk":
        sums = sums * layer.weight.shape[1] ** -0.5
    return (_rounded_shift if precision == "bfloat16" else _shift)(sums, layer.bias)


def as_rows(outputs: Float[Array, "out batch"], *, precision: Precision) -> Float[Array, "batch out"]:
    """Feature-major outputs, batch first."""
    return (_rounded_turn if precision == "bfloat16" else _turn)(lax.optimization_barrier(outputs))


def _shift(sums: Float[Array, "out batch"], bias: Float[Array, "out"]) -> Float[Array, "out batch"]:
    return sums + bias[:, None]


def _turn(outputs: Float[Array, "out batch"]) -> Float[Array, "batch out"]:
    return outputs.T


def product(
    weight: Float[Array, "out in"], features: Float[Array, "..."], axis: int, *, precision: Precision
) -> Float[Array, "out batch"]:
    """Sum over the inputs, which lie along `axis` of `features`, in float32 from operands of this precision."""
    specs.check(precision, Precision, "precision")
    multiply = _bfloat16_product if precision == "bfloat16" else _float32_product
    return multiply(weight, features, axis)


def _contract(left, right, left_axis, right_axis, **options):
    """Product over one axis of each matrix. Unlike a transposition, the choice of axes costs nothing on its own."""
    return lax.dot_general(left, right, (((left_axis,), (right_axis,)), ((), ())), **options)


def _float32_product(weight: Float[Array, "out in"], features: Float[Array, "..."], axis: int):
    """Whole float32 products, also on a GPU, unless JAX is told otherwise (`jax.default_matmul_precision`)."""
    chosen = jax.default_matmul_precision.value
    return _contract(weight, features, 1, axis, precision=None if chosen else lax.Precision.HIGHEST)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _bfloat16_product(weight: Float[Array, "out in"], features: Float[Array, "..."], axis: int):
    """bfloat16 operands and float32 sums, forwards and backwards.

    Two habits keep XLA's CPU compiler on its bfloat16 kernels, which know no product over the first axis of the left
    operand and leave it to float32 at half the rate: products name their axes, and where a transpose is needed, of a
    weight or of the logits' gradient, it is one that the compiler cannot fold into a product.
    """
    return _rounded_contract(weight, features, 1, axis)


def _rounded_contract(left, right, left_axis, right_axis):
    left, right = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
    return _contract(left, right, left_axis, right_axis, preferred_element_type=jnp.float32)


def _product_forward(weight, features, axis):
    rounded = features.astype(jnp.bfloat16)
    return _bfloat16_product(weight, rounded, axis), (weight, rounded)


def _product_backward(axis, saved, gradient):
    weight, features = saved
    weight_gradient = _rounded_contract(gradient, features, 1, 1 - axis)
    feature_gradient = _rounded_contract(_transposed(weight), gradient, 1, 0)
    return weight_gradient, feature_gradient if axis == 0 else _transposed(feature_gradient)


def _transposed(matrix: Float[Array, "row column"]) -> Float[Array, "column row"]:
    """The transpose, put together from two halves. Barriers do not keep it apart from a product: XLA drops them before
    it folds transpositions."""
    middle = matrix.shape[0] // 2
    return jnp.concatenate([matrix[:middle].T, matrix[middle:].T], axis=1)


_bfloat16_product.defvjp(_product_forward, _product_backward)

_rounded_shift = jax.custom_vjp(_shift)
"""The gradient of a bias sums, in float32, what the products of its layer's gradient have as operand: a backward pass
writes that matrix once, in bfloat16. (Under `ntk` it is that operand but for the factor.)"""
_rounded_shift.defvjp(
    lambda sums, bias: (_shift(sums, bias), None),
    lambda _, gradient: (gradient, jnp.sum(gradient.astype(jnp.bfloat16).astype(jnp.float32), axis=1)),
)

_rounded_turn = jax.custom_vjp(_turn)
_rounded_turn.defvjp(lambda outputs: (_turn(outputs), None), lambda _, gradient: (_transposed(gradient),))
