"""Small convolutional networks with auxiliary logits, whose parameters are layers like those of the MLP.

    ConvSpec()                                                 LeNet's size: two convolutions, max pooling, 120, 84
    ConvSpec(blocks="residual", kernel_size=3, channels=(8, 16), hidden_sizes=(64,))       a small residual network

A convolution is the product of its weight, one row for each output channel, with the patches of an image. So the
parameters are a tuple of `mlp.Dense`, the readouts last, and all that is said of layers (`init_sharing`, `trainable`,
`transplant_matching_layers`, the auxiliary readouts) holds here as well; the product is the MLP's, bfloat16 included.
Activations have the batch as their last axis: (channel, row, column, batch).

Patches are put together from shifted copies of the images rather than left to `lax.conv`, which was several times
slower on a CPU when both were tried inside a scan, and slower still under `vmap`, where members become groups of one
convolution. There is no record of that.

There is no normalisation: that of batches carries running averages from batch to batch, and a member is a pure function
of its key. The residual network is shallow enough to train without one.
"""

import dataclasses
import itertools
import math
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key, Shaped

from sublim_jax import errors, specs
from sublim_jax.models import mlp, network

Blocks = Literal["plain", "residual"]
Downsampling = Literal["max_pool", "mean_pool", "stride"]
Readout = Literal["all_positions", "mean_position"]

Maps = Float[Array, "_channel _row _column _batch"]


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvLayers:
    """The layers between the pixels and the readouts. Every stage halves the sides of the images."""

    channels: tuple[specs.Count, ...] = (6, 16)  # one entry per stage
    kernel_size: specs.Count = 5  # pixels along each side of a kernel
    blocks: Blocks = "plain"
    """`plain`: a stage is a convolution without padding, the activation and the downsampling, as in LeNet; `residual`:
    a first such convolution with padding, and in each stage two further ones whose outputs are added to the inputs.
    Where a stage has more channels than the one before, the inputs are completed with zeros (He et al. 2015, A)."""
    downsampling: Downsampling = "max_pool"
    """`stride`: the convolution is computed at every second position; the others pool squares of two by two."""
    readout: Readout = "all_positions"  # what dense layers see of the last maps: all, or each channel's mean
    hidden_sizes: tuple[specs.Count, ...] = (120, 84)  # dense layers after the convolutions

    def __post_init__(self):
        if not self.channels:
            raise errors.InputError("channels: a convolutional network has one stage at least. Use an MLPSpec for none")
        if self.blocks == "residual" and self.kernel_size % 2 == 0:
            raise errors.InputError(
                f"kernel_size={self.kernel_size}: residual blocks add outputs to inputs, so a kernel needs a centre. "
                f"Use an odd size"
            )
        if self.blocks == "residual" and any(np.diff(self.channels) < 0):
            raise errors.InputError(
                f"channels={self.channels}: residual stages add zeros for new channels and cannot drop any. Use a "
                f"number of channels that does not fall"
            )


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvSpec(ConvLayers):
    """Shape and arithmetic of a convolutional network for square images of one channel. The default has LeNet's size.

    Source: LeCun et al. 1998, section II, with pooling, activations and initialization of this laboratory.
    """

    side: specs.Count = 28  # pixels along each side of an image
    num_classes: specs.Count = 10
    num_aux: specs.CountOrZero = 3
    activation: mlp.Activation = "relu"
    init_distribution: mlp.InitDistribution = "fan_in_normal"  # see `mlp.MLPSpec`; a kernel's inputs are its patch
    init_scale: specs.Positive = 1.0  # multiplies the weights that are drawn
    precision: mlp.Precision = "float32"  # of the operands of matrix products; see `mlp.MLPSpec`

    def __post_init__(self):
        super().__post_init__()
        _ = self.sides  # refuses those that do not divide

    @property
    def in_size(self) -> int:
        """Pixels of an image."""
        return self.side**2

    @property
    def sides(self) -> tuple[int, ...]:
        """Pixels along each side of the maps after each stage, e.g. (12, 4).

        Raises:
            InputError: a stage has maps that are smaller than its kernel, or that cannot be halved.
        """
        sides, side = [], self.side
        for stage in range(len(self.channels)):
            convolved = side if self.blocks == "residual" else side - self.kernel_size + 1
            if convolved < 2 or convolved % 2:
                raise errors.InputError(
                    f"side={self.side}: the maps of stage {stage + 1} of {len(self.channels)} would have "
                    f"{max(convolved, 0)} pixels along each side, which cannot be halved. Use another side or "
                    f"kernel_size, or fewer channels"
                )
            side = convolved // 2
            sides.append(side)
        return tuple(sides)

    @property
    def num_features(self) -> int:
        """Numbers that the first dense layer sees."""
        return self.channels[-1] * (self.sides[-1] ** 2 if self.readout == "all_positions" else 1)

    @property
    def fans(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of every layer, in the order of the parameters; a kernel's inputs are its patch."""
        dense = (self.num_features, *self.hidden_sizes, self.num_classes + self.num_aux)
        patch = self.kernel_size**2
        if self.blocks == "plain":
            kernels = [(patch * before, after) for before, after in itertools.pairwise((1, *self.channels))]
        else:
            kernels = [(patch, self.channels[0])]
            for before, after in itertools.pairwise((self.channels[0], *self.channels)):
                kernels += [(patch * before, after), (patch * after, after)]
        return (*kernels, *itertools.pairwise(dense))

    @property
    def positions(self) -> tuple[int, ...]:
        """At how many positions of an image each layer is applied; once for dense ones."""
        halved = 1 if self.downsampling == "stride" else 2
        if self.blocks == "plain":
            kernels = [(halved * side) ** 2 for side in self.sides]
        else:
            kernels = [(halved * self.sides[0]) ** 2]
            kernels += [side**2 for side in self.sides for _ in range(2)]
        return (*kernels, *(1 for _ in range(len(self.hidden_sizes) + 1)))

    def init(self, key: Key[Array, ""]) -> mlp.Params:
        """See `network.Model`. Layer i depends on the key and i only."""
        return mlp.init_layers(key, self.fans, init_distribution=self.init_distribution, init_scale=self.init_scale)

    def apply(
        self, params: Any, inputs: Shaped[Array, "..."] | Shaped[np.ndarray, "..."]
    ) -> Float[Array, "batch logit"]:
        """See `network.Model`. Inputs are rows of pixels or square images.

        Raises:
            InputError: inputs of another size.
        """
        return self.apply_with_features(params, inputs)[0]

    def apply_with_features(
        self, params: Any, inputs: Shaped[Array, "..."] | Shaped[np.ndarray, "..."]
    ) -> tuple[Float[Array, "batch logit"], Float[Array, "feature batch"]]:
        """See `network.Model`. Features are those of the last dense hidden layer, or what the readouts see."""
        return apply_with_features(params, _as_maps(jnp.asarray(inputs), self.side), self)

    def feature_product(
        self, first: Float[Array, "feature batch"], second: Float[Array, "other batch"]
    ) -> Float[Array, "feature other"]:
        """See `network.Model`: operands have the precision of the network's own products."""
        return mlp.product(first, second, 1, precision=self.precision)


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvStudent(ConvLayers):
    """A convolutional network for the students of any teacher of ours. A field that is None is as the teacher's.

    Pixels, logits and the precision are the teacher's too. Layers of the teacher that fit can be shared: the heads do
    if the last entry of `hidden_sizes` is the teacher's.
    """

    activation: mlp.Activation | None = None
    init_distribution: mlp.InitDistribution | None = None
    init_scale: specs.Positive | None = None  # multiplies the weights that are drawn

    def applied_to(self, teacher: "LayeredSpec") -> ConvSpec:
        """The students' network, given the teacher's.

        Raises:
            InputError: the teacher's inputs are no square images, or their side does not divide.
        """
        side = math.isqrt(teacher.in_size)
        if side**2 != teacher.in_size:
            raise errors.InputError(
                f"in_size={teacher.in_size}: a convolutional student needs square images, and these are none"
            )
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        shared = ("activation", "init_distribution", "init_scale")
        values |= {name: getattr(teacher, name) for name in shared if values[name] is None}
        values |= {name: getattr(teacher, name) for name in ("num_classes", "num_aux", "precision")}
        return ConvSpec(side=side, **values)


LayeredSpec = mlp.MLPSpec | ConvSpec
"""Models of ours: parameters are a tuple of `mlp.Dense`, and the rows of the last one read out the logits in their
order. Only of these can parts of a start be shared, frozen or perturbed."""


def with_layers(model: LayeredSpec | network.Network) -> LayeredSpec:
    """The model, where it has to be one of ours.

    Raises:
        InputError: it is another network.
    """
    if isinstance(model, network.Network):
        raise errors.InputError("model: expected an MLPSpec or a ConvSpec here, got another network")
    return model


def _as_maps(images: Shaped[Array, "batch *shape"], side: int) -> Maps:
    if images.ndim < 2 or math.prod(images.shape[1:]) != side**2 or images.shape[1:] not in _shapes_of(side):
        raise errors.InputError(
            f"images of shape {images.shape[1:]}: expected one channel of {side} x {side} pixels, as rows of {side**2} "
            f"or as (batch, {side}, {side}). Give the network's spec another side, or the images another shape"
        )
    return jnp.moveaxis(images.reshape(len(images), 1, side, side), 0, -1)


def _shapes_of(side: int) -> tuple[tuple[int, ...], ...]:
    return (side**2,), (side, side), (side, side, 1), (1, side, side)


def apply_with_features(
    params: mlp.Params, maps: Maps, spec: ConvSpec
) -> tuple[Float[Array, "batch logit"], Float[Array, "feature batch"]]:
    """Logits, batch first, and the activations of the last hidden layer, feature-major.

    In bfloat16 it can be differentiated in reverse mode only; float32 knows both modes.
    """
    activation = mlp.ACTIVATIONS[spec.activation]
    num_dense = len(spec.hidden_sizes) + 1
    trunk = _plain if spec.blocks == "plain" else _residual
    maps = trunk(params[:-num_dense], maps, spec)
    if spec.readout == "mean_position":
        maps = jnp.mean(maps, axis=(1, 2), keepdims=True)
    features = maps.reshape(-1, maps.shape[-1])
    for layer in params[-num_dense:-1]:
        features = activation(mlp.affine(layer, features, 0, precision=spec.precision))
    outputs = mlp.affine(params[-1], features, 0, precision=spec.precision)
    return mlp.as_rows(outputs, precision=spec.precision), features


def _plain(params: mlp.Params, maps: Maps, spec: ConvSpec) -> Maps:
    for layer in params:
        maps = _halving(layer, maps, spec, padding=0)
    return maps


def _halving(layer: mlp.Dense, maps: Maps, spec: ConvSpec, *, padding: int) -> Maps:
    """A convolution, the activation, and maps of half the sides."""
    stride = 2 if spec.downsampling == "stride" else 1
    convolved = convolve(layer, maps, padding=padding, stride=stride, precision=spec.precision)
    return _pooled(mlp.ACTIVATIONS[spec.activation](convolved), spec.downsampling)


def _residual(params: mlp.Params, maps: Maps, spec: ConvSpec) -> Maps:
    padding, activation = spec.kernel_size // 2, mlp.ACTIVATIONS[spec.activation]
    maps = _halving(params[0], maps, spec, padding=padding)
    for stage, (first, second) in enumerate(zip(params[1::2], params[2::2], strict=True)):
        stride = 2 if stage and spec.downsampling == "stride" else 1
        inputs = _pooled(maps, spec.downsampling) if stage else maps
        hidden = activation(convolve(first, inputs, padding=padding, stride=stride, precision=spec.precision))
        change = convolve(second, hidden, padding=padding, precision=spec.precision)
        kept = inputs[:, ::stride, ::stride]
        kept = jnp.pad(kept, ((0, len(change) - len(kept)), (0, 0), (0, 0), (0, 0)))
        maps = activation(kept + change)
    return maps


def _pooled(maps: Maps, downsampling: Downsampling) -> Maps:
    """Maps of half the sides, unless strides do that."""
    if downsampling == "stride":
        return maps
    channels, rows, columns, batch = maps.shape
    squares = maps.reshape(channels, rows // 2, 2, columns // 2, 2, batch)
    return (jnp.max if downsampling == "max_pool" else jnp.mean)(squares, axis=(2, 4))


def convolve(
    layer: mlp.Dense, maps: Maps, *, padding: int = 0, stride: int = 1, precision: mlp.Precision = "float32"
) -> Maps:
    """Cross-correlation of the maps with the kernels of a layer, plus its biases.

    Args:
        layer: a row of its weight is a kernel, of shape (channel, row, column).
        padding: zeros around the maps.
        stride: every so many positions along each side, from the first on.
    """
    size = math.isqrt(layer.weight.shape[1] // len(maps))
    stretch = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    patches = _patches(jnp.pad(maps, stretch) if padding else maps, size, stride)
    outputs = mlp.affine(layer, patches.reshape(layer.weight.shape[1], -1), 0, precision=precision)
    return outputs.reshape(-1, *patches.shape[2:])


def _patches(maps: Maps, size: int, stride: int) -> Float[Array, "_channel _place _row _column _batch"]:
    """For each place in a kernel, the pixels of the maps that meet it, by position of the kernel."""
    channels, rows, columns, batch = maps.shape
    ends = [(side - size) // stride * stride + 1 for side in (rows, columns)]
    shifted = [
        lax.slice(maps, (0, i, j, 0), (channels, i + ends[0], j + ends[1], batch), (1, stride, stride, 1))
        for i in range(size)
        for j in range(size)
    ]
    return jnp.stack(shifted, axis=1)
