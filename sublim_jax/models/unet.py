"""A small U-Net as a denoiser, whose parameters are layers like those of the MLP; see `denoiser` and `conv`.

    unet.make()                                  28 x 28 pixels: 16 maps at 14 x 14 positions, 32 at 7 x 7
    unet.make(side=14, patch=1)                  the same maps for images of 14 x 14 pixels

The pixels of a square of `patch` a side are the first maps of one position. On the way down every stage is a residual
block and halves the sides of its maps; on the way up maps are doubled, added to those of the same size from the way
down, and go through another block. A block is told the time: its hidden maps are scaled and shifted by linear functions
of one embedding of the time. Convolutions are those of `conv`, so Flax is not needed.

The last layer reads every position out alike. Its first rows are the pixels of the position's square, the others are
auxiliary maps: like the auxiliary logits of an MLP they are further outputs of the last layer, beside those that the
data are about, and no training on images touches their rows.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sublim_jax import errors, specs
from sublim_jax.models import conv, denoiser, mlp, network
from sublim_jax.models.mlp import Dense

Maps = Float[Array, "_channel _row _column _batch"]
KERNEL = 3
"""Pixels along each side of a kernel."""
EMBEDDING = 64
"""Numbers that say what time it is."""
NUM_MIDDLE = 2
"""Blocks at the last stage, so that its kernels reach from one end of 7 positions to the other."""


@functools.cache
def make(*, side: int = 28, patch: int = 2, channels: tuple[int, ...] = (16, 32), num_aux: int = 4) -> network.Network:
    """A U-Net for square images. Equal settings give the same object.

    Args:
        side: pixels along each side of an image.
        patch: pixels along each side of a position of the first maps.
        channels: maps of each stage, from the largest maps to the smallest.
        num_aux: auxiliary maps. Each is an output, i.e. a channel in the sense of `denoiser`, at every position.

    Raises:
        InputError: sizes that do not divide, or that are no whole numbers of at least 1.
    """
    for name, value in (("side", side), ("patch", patch), ("num_aux", num_aux)):
        specs.check(value, specs.CountOrZero if name == "num_aux" else specs.Count, name)
    specs.check(channels, tuple[specs.Count, ...], "channels")
    if not channels:
        raise errors.InputError("channels: a U-Net has one stage at least. Use denoiser.from_mlp for none")
    factor = patch * 2 ** (len(channels) - 1)
    if side % factor:
        raise errors.InputError(
            f"side={side}: squares of patch={patch} pixels a side and {len(channels)} stages need a multiple of "
            f"{factor}. Use another patch, or fewer channels"
        )
    widths = _widths(channels)
    area = KERNEL**2
    fans = [
        (denoiser.NUM_TIME_FEATURES, EMBEDDING),
        (EMBEDDING, 2 * sum(after for _, after in widths)),
        (area * patch**2, channels[0]),
        *((fan_in, after) for before, after in widths for fan_in in (area * before, area * after)),
        *((below, above) for above, below in itertools.pairwise(channels)),
        (channels[0], patch**2 + num_aux),
    ]

    def initialize(key):
        return mlp.init_layers(key, fans, init_distribution="he_normal", init_scale=1.0)

    def forward(params, inputs):
        noised, times = inputs
        outputs = _outputs(params, _squares(noised.reshape(-1, side, side), patch), times, channels)
        pixels = _unsquared(outputs[: patch**2], patch)
        return jnp.concatenate([pixels.reshape(-1, len(times)), outputs[patch**2 :].reshape(-1, len(times))]).T

    return network.Network(
        initialize=initialize, forward=forward, num_classes=side**2, num_aux=num_aux * (side // patch) ** 2
    )


def _widths(channels: tuple[int, ...]) -> list[tuple[int, int]]:
    """Maps before and after each block, in the order of the blocks."""
    widths = list(itertools.pairwise((channels[0], *channels)))
    widths += [(channels[-1], channels[-1])] * (NUM_MIDDLE - 1)
    return widths + [(each, each) for each in channels[-2::-1]]


def _squares(images: Float[Array, "batch row column"], patch: int) -> Maps:
    """A map for each place in a square."""
    batch, side, _ = images.shape
    cut = images.reshape(batch, side // patch, patch, side // patch, patch)
    return cut.transpose(2, 4, 1, 3, 0).reshape(patch**2, side // patch, side // patch, batch)


def _unsquared(maps: Maps, patch: int) -> Float[Array, "_row _column _batch"]:
    """The images of `_squares`, batch last."""
    _, rows, columns, batch = maps.shape
    cut = maps.reshape(patch, patch, rows, columns, batch)
    return cut.transpose(2, 0, 3, 1, 4).reshape(rows * patch, columns * patch, batch)


def _outputs(params: mlp.Params, maps: Maps, times: denoiser.Times, channels: tuple[int, ...]) -> Maps:
    """What the last layer reads out at every position."""
    features = denoiser.time_features(times)
    embedding = jax.nn.silu(mlp.affine(params[0], features, 1, precision="float32"))
    modulation = iter(jnp.split(
        mlp.affine(params[1], embedding, 0, precision="float32"),
        list(itertools.accumulate(2 * after for _, after in _widths(channels)))[:-1],
    ))  # fmt: skip
    layers, num_stages = iter(params[3:]), len(channels)
    blocks = [(next(layers), next(layers)) for _ in _widths(channels)]
    narrowing, readout = params[-num_stages:-1], params[-1]

    maps, passed = conv.convolve(params[2], maps, padding=1), []
    for stage in range(num_stages + NUM_MIDDLE - 1):
        maps = _block(*blocks[stage], maps, next(modulation))
        if stage < num_stages - 1:
            passed.append(maps)
            maps = _halved(maps)
    for stage in range(num_stages - 2, -1, -1):
        maps = passed[stage] + _doubled(conv.convolve(narrowing[stage], maps))
        maps = _block(*blocks[-1 - stage], maps, next(modulation))
    return conv.convolve(readout, jax.nn.silu(maps))


def _block(first: Dense, second: Dense, maps: Maps, modulation: Float[Array, "_number _batch"]) -> Maps:
    """Maps plus what two convolutions make of them; new maps begin as zeros."""
    scale, shift = jnp.split(modulation[:, None, None], 2)
    hidden = conv.convolve(first, jax.nn.silu(maps), padding=1)
    change = conv.convolve(second, jax.nn.silu((1 + scale) * hidden + shift), padding=1)
    return change + jnp.pad(maps, ((0, len(change) - len(maps)), (0, 0), (0, 0), (0, 0)))


def _halved(maps: Maps) -> Maps:
    """Means of squares of two by two."""
    channels, rows, columns, batch = maps.shape
    return jnp.mean(maps.reshape(channels, rows // 2, 2, columns // 2, 2, batch), axis=(2, 4))


def _doubled(maps: Maps) -> Maps:
    """Every position as a square of two by two."""
    return jnp.repeat(jnp.repeat(maps, 2, axis=1), 2, axis=2)
