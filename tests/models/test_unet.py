"""The U-Net against loops in numpy, what its loss leaves alone, how it moves with its images, and what is refused."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.models import denoiser, mlp, unet
from sublim_jax.training import denoise
from tests.models import test_conv as loops

SIDE, PATCH, CHANNELS, NUM_AUX = 8, 2, (2, 3), 2
MODEL = unet.make(side=SIDE, patch=PATCH, channels=CHANNELS, num_aux=NUM_AUX)
POSITIONS = (SIDE // PATCH) ** 2
NUM_IMAGES = 3
IMAGES = jnp.asarray(np.random.default_rng(3).standard_normal((NUM_IMAGES, SIDE**2)), jnp.float32)
TIMES = jnp.array([0.0, 0.35, 1.0])


@functools.cache
def params_of(seed=0):
    """Parameters whose biases are not zero, so that a lost bias shows."""
    random = np.random.default_rng(seed)
    return tuple(
        mlp.Dense(layer.weight, jnp.asarray(0.3 * random.standard_normal(layer.bias.shape), jnp.float32))
        for layer in MODEL.init(jax.random.key(seed))
    )


apply = jax.jit(MODEL.apply)


def silu(x):
    return x / (1 + np.exp(-x))


def by_loops(params, images, times):
    """The outputs of `MODEL` in double precision, layer by layer; maps are (batch, channel, row, column)."""
    time, film, first, *blocks, narrowing, readout = ([np.asarray(leaf, float) for leaf in layer] for layer in params)
    assert len(blocks) == 8  # two layers for each of four blocks: on the way down, two in the middle, on the way up
    embedding = silu(np.asarray(denoiser.time_features(times), float) @ time[0].T + time[1])
    modulation = embedding @ film[0].T + film[1]
    images = np.asarray(images, float).reshape(-1, SIDE, SIDE)
    maps = np.stack([images[:, i::PATCH, j::PATCH] for i in range(PATCH) for j in range(PATCH)], axis=1)

    def block(number, start, maps):
        width = len(blocks[2 * number][1])
        scale, shift = (modulation[:, start + k * width :][:, :width, None, None] for k in range(2))
        hidden = loops.convolved(blocks[2 * number], silu(maps), padding=1, stride=1)
        change = loops.convolved(blocks[2 * number + 1], silu((1 + scale) * hidden + shift), padding=1, stride=1)
        kept = np.zeros_like(change)
        kept[:, : maps.shape[1]] = maps
        return kept + change

    maps = loops.convolved(first, maps, padding=1, stride=1)
    passed = block(0, 0, maps)
    maps = (passed[:, :, ::2, ::2] + passed[:, :, 1::2, ::2] + passed[:, :, ::2, 1::2] + passed[:, :, 1::2, 1::2]) / 4
    maps = block(2, 10, block(1, 4, maps))
    narrow = loops.convolved(narrowing, maps, padding=0, stride=1)
    maps = block(3, 16, passed + np.kron(narrow, np.ones((2, 2))))
    outputs = loops.convolved(readout, silu(maps), padding=0, stride=1)
    pixels = np.empty_like(images)
    for i, j in np.ndindex(PATCH, PATCH):
        pixels[:, i::PATCH, j::PATCH] = outputs[:, PATCH * i + j]
    aux = outputs[:, PATCH**2 :].reshape(len(images), -1)
    return np.concatenate([pixels.reshape(len(images), -1), aux], axis=1)


def test_a_unet_is_that_of_loops():
    outputs = apply(params_of(), (IMAGES, TIMES))
    assert (MODEL.num_classes, MODEL.num_aux) == (SIDE**2, NUM_AUX * POSITIONS)
    expected = by_loops(params_of(), IMAGES, TIMES)
    assert outputs.shape == expected.shape and np.std(expected[:, SIDE**2 :]) > 0.1
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-3)  # float32 through eleven layers, values to 30
    squares = apply(params_of(), (IMAGES.reshape(-1, SIDE, SIDE), TIMES))
    np.testing.assert_array_equal(squares, outputs)
    assert unet.make(side=SIDE, patch=PATCH, channels=CHANNELS, num_aux=NUM_AUX) is MODEL  # one program


def test_every_layer_is_drawn_for_what_it_reads():
    layers = unet.make(side=12, patch=1, channels=(8, 8, 16), num_aux=5).init(jax.random.key(2))
    features, patch = denoiser.NUM_TIME_FEATURES, unet.KERNEL**2
    pairs = [(8, 8), (8, 8), (8, 16), (16, 16), (8, 8), (8, 8)]  # down, down, twice the last stage, up, up
    fans = [(features, unet.EMBEDDING), (unet.EMBEDDING, 2 * sum(after for _, after in pairs)), (patch, 8)]
    fans += [(patch * fan, after) for before, after in pairs for fan in (before, after)]
    fans += [(8, 8), (16, 8), (8, 1 + 5)]
    assert [layer.weight.shape[::-1] for layer in layers] == fans
    for layer, (fan_in, _) in zip(layers, fans, strict=True):
        deviation, count = math.sqrt(2 / fan_in), layer.weight.size
        assert abs(np.std(layer.weight) / deviation - 1) < 5 / math.sqrt(2 * count)  # five standard errors
        np.testing.assert_array_equal(layer.bias, 0)


def test_the_loss_of_images_leaves_the_auxiliary_rows_alone():
    """Their gradient is zero exactly, and that of every other number is not; channels have a gradient of their own."""
    noise, times = denoise.draw(jax.random.key(1), IMAGES)
    gradient = jax.jit(jax.grad(functools.partial(denoise.loss, model=MODEL)))(params_of(), IMAGES, noise, times)
    rows = PATCH**2
    for leaf in gradient[-1]:
        np.testing.assert_array_equal(leaf[rows:], 0)
        assert np.all(np.asarray(leaf[:rows]) != 0)
    assert all(np.all(np.asarray(leaf) != 0) for layer in gradient[2:-1] for leaf in layer)

    @jax.jit
    @jax.grad
    def of_channels(params):
        return jnp.sum(denoiser.channels(params, IMAGES, TIMES, model=MODEL) ** 2)

    slope = of_channels(params_of())
    for leaf in slope[-1]:
        np.testing.assert_array_equal(leaf[:rows], 0)
        assert np.all(np.asarray(leaf[rows:]) != 0)
    assert all(np.any(np.asarray(layer.weight) != 0) for layer in slope[:-1])


def test_fresh_channels_change_the_auxiliary_rows_alone():
    params = params_of()
    fresh = denoiser.with_fresh_channels(jax.random.key(7), params, model=MODEL)
    assert fresh[:-1] == params[:-1]
    before, after = (np.asarray(apply(each, (IMAGES, TIMES))) for each in (params, fresh))
    np.testing.assert_array_equal(before[:, : SIDE**2], after[:, : SIDE**2])
    assert np.all(before[:, SIDE**2 :] != after[:, SIDE**2 :])


def test_the_time_reaches_every_block():
    """Alike at two times if no block is told the time, or if embeddings do not depend on it; else different."""
    params = list(params_of())
    params[1] = mlp.Dense(jnp.zeros_like(params[1].weight), params[1].bias)

    def change(params):
        early, late = (apply(tuple(params), (IMAGES, jnp.full(NUM_IMAGES, time))) for time in (0.2, 0.25))
        return float(jnp.max(jnp.abs(early - late)))

    assert change(params) == 0 and change(params_of()) > 0.05
    starts = {0: 4, 4: 6, 10: 6, 16: 4}  # rows of the scales and shifts of each block
    for start, count in starts.items():
        weight = (
            jnp.zeros_like(params[1].weight).at[start : start + count].set(params_of()[1].weight[start : start + count])
        )
        assert change([params[0], mlp.Dense(weight, params[1].bias), *params[2:]]) > 1e-3


def test_images_that_are_shifted_by_a_square_of_the_last_stage_have_shifted_estimates():
    """Where no border is near: a pixel depends on those that are at most 14 away."""
    model = unet.make(side=48, patch=1, channels=(2, 2), num_aux=1)
    params = model.init(jax.random.key(4))
    images = np.zeros((1, 48, 48), np.float32)
    images[0, 22:26, 22:26] = np.random.default_rng(0).standard_normal((4, 4))
    moved = np.roll(images, (2, -2), axis=(1, 2))
    estimate = jax.jit(functools.partial(denoiser.estimate, model=model))
    first, second = (np.asarray(estimate(params, jnp.asarray(each), jnp.array([0.4]))) for each in (images, moved))
    inside = np.s_[0, 18:30, 18:30]
    assert np.std(first[inside]) > 0.01
    np.testing.assert_allclose(np.roll(first, (2, -2), axis=(1, 2))[inside], second[inside], atol=1e-4)  # float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 14}, r"^side=14: squares of patch=2 pixels a side and 2 stages need a multiple of 4\. Use another"),
        ({"patch": 3}, r"^side=28: squares of patch=3 pixels a side and 2 stages need a multiple of 6\. "),
        ({"channels": ()}, r"^channels: a U-Net has one stage at least\. Use denoiser\.from_mlp for none$"),
        ({"channels": (8, 0)}, r"^channels\[1\]: must be at least 1, got 0$"),
        ({"num_aux": -1}, r"^num_aux: must be at least 0, got -1$"),
        ({"side": 0}, r"^side: must be at least 1, got 0$"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(errors.InputError, match=message):
        unet.make(**options)
