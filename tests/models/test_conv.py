"""Convolutions and pooling against loops in numpy and against flax.linen, and what is refused."""

import dataclasses
import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import sublim_jax as sl
from sublim_jax import errors
from sublim_jax.models import conv, init_sharing, mlp
from sublim_jax.training.config import MemberConfig, TeacherConfig, UpdateScale
from sublim_jax.training.loop import TrainPhase
from tests import strategies

PLAIN = conv.ConvSpec(
    side=11, channels=(3, 2), kernel_size=2, hidden_sizes=(5,), num_classes=4, num_aux=3, activation="tanh"
)  # 11 -> 10 -> 5 -> 4 -> 2
RESIDUAL = dataclasses.replace(PLAIN, blocks="residual", side=8, kernel_size=3, channels=(2, 3))  # 8 -> 4 -> 2
KINDS = tuple(
    dataclasses.replace(spec, downsampling=downsampling, readout=readout)
    for spec in (PLAIN, RESIDUAL)
    for downsampling, readout in (
        ("max_pool", "all_positions"),
        ("mean_pool", "mean_position"),
        ("stride", "all_positions"),
    )
)
BATCH = 6  # no other size of these networks
REORDERED: dict[str, Any] = {
    "rtol": 2e-5,
    "atol": 4e-6,
}  # float32 sums of at most 27 terms in another order, through five layers


def named(spec):
    return f"{spec.blocks}-{spec.downsampling}-{spec.readout}"


def params_of(spec, seed=0):
    """Parameters whose biases are not zero, so that a lost bias shows."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: spec.init(jax.random.key(0)))
    return tuple(
        mlp.Dense(
            jnp.asarray(random.standard_normal(layer.weight.shape) / layer.weight.shape[1] ** 0.5, jnp.float32),
            jnp.asarray(0.3 * random.standard_normal(layer.bias.shape), jnp.float32),
        )
        for layer in shapes
    )


def images_of(spec, seed=0):
    return jnp.asarray(strategies.normal(seed, BATCH, spec.in_size), jnp.float32)


def convolved(layer, images, *, padding, stride):
    """By loops in double precision. Images are (batch, channel, row, column), as PyTorch has them."""
    weight, bias = (np.asarray(leaf, float) for leaf in layer)
    size = math.isqrt(weight.shape[1] // images.shape[1])
    kernels = weight.reshape(len(weight), images.shape[1], size, size)
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    count = (padded.shape[2] - size) // stride + 1
    outputs = np.empty((len(images), len(weight), count, count))
    for row, column in np.ndindex(count, count):
        patch = padded[:, :, row * stride : row * stride + size, column * stride : column * stride + size]
        outputs[:, :, row, column] = np.einsum("bcij,ocij->bo", patch, kernels) + bias
    return outputs


def pooled(images, downsampling):
    count = images.shape[2] // 2
    outputs = np.empty((*images.shape[:2], count, count))
    for row, column in np.ndindex(count, count):
        square = images[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(*images.shape[:2], 4)
        outputs[:, :, row, column] = square.max(-1) if downsampling == "max_pool" else square.mean(-1)
    return outputs


def by_loops(params, rows, spec):
    """Logits of a network, written down once more."""
    layers, maps = list(params), np.asarray(rows, float).reshape(len(rows), 1, spec.side, spec.side)
    strides = spec.downsampling == "stride"

    def shrink(maps):
        return maps if strides else pooled(maps, spec.downsampling)

    if spec.blocks == "plain":
        for _ in spec.channels:
            maps = shrink(np.tanh(convolved(layers.pop(0), maps, padding=0, stride=1 + strides)))
    else:
        maps = shrink(np.tanh(convolved(layers.pop(0), maps, padding=1, stride=1 + strides)))
        for stage, channels in enumerate(spec.channels):
            stride = 2 if strides and stage else 1
            maps = shrink(maps) if stage else maps
            hidden = np.tanh(convolved(layers.pop(0), maps, padding=1, stride=stride))
            change = convolved(layers.pop(0), hidden, padding=1, stride=1)
            kept = np.zeros_like(change)
            kept[:, : maps.shape[1]] = maps[:, :, ::stride, ::stride]
            assert change.shape[1] == channels
            maps = np.tanh(kept + change)
    features = maps.mean((2, 3)) if spec.readout == "mean_position" else maps.reshape(len(rows), -1)
    for weight, bias in layers[:-1]:
        features = np.tanh(features @ np.asarray(weight, float).T + np.asarray(bias, float))
    return features @ np.asarray(layers[-1].weight, float).T + np.asarray(layers[-1].bias, float)


@pytest.mark.parametrize(("padding", "stride"), [(0, 1), (1, 1), (2, 2), (0, 3)])
def test_a_convolution_is_that_of_loops(padding, stride):
    layer = mlp.Dense(
        jnp.asarray(strategies.normal(1, 4, 2 * 9), jnp.float32), jnp.asarray(strategies.normal(2, 4), jnp.float32)
    )
    images = strategies.normal(3, 5, 2, 7, 7)
    maps = jnp.asarray(images.transpose(1, 2, 3, 0), jnp.float32)
    outputs = conv.convolve(layer, maps, padding=padding, stride=stride)
    expected = convolved(layer, images, padding=padding, stride=stride).transpose(1, 2, 3, 0)
    np.testing.assert_allclose(outputs, expected, **REORDERED)


@pytest.mark.parametrize("spec", KINDS, ids=named)
def test_a_network_is_that_of_loops(spec):
    params, images = params_of(spec), images_of(spec)
    logits, features = jax.jit(spec.apply_with_features)(params, images)
    np.testing.assert_allclose(logits, by_loops(params, images, spec), **REORDERED)
    assert features.shape == (5, BATCH)
    np.testing.assert_allclose(
        logits, features.T @ params[-1].weight.T + params[-1].bias[None], **REORDERED
    )  # features are what the readouts see


class Linen(linen.Module):
    """The same network as readers of Flax would write it."""

    spec: conv.ConvSpec

    @linen.compact
    def __call__(self, rows):
        spec, strides = self.spec, self.spec.downsampling == "stride"
        pool = {"max_pool": linen.max_pool, "mean_pool": linen.avg_pool}.get(spec.downsampling)

        def convolution(channels, stride=1):
            padding = "VALID" if spec.blocks == "plain" else spec.kernel_size // 2
            return linen.Conv(channels, (spec.kernel_size,) * 2, strides=stride, padding=padding)

        def shrink(x):
            return x if pool is None else pool(x, (2, 2), strides=(2, 2))

        x = rows.reshape(-1, spec.side, spec.side, 1)
        for stage, channels in enumerate(spec.channels):
            if spec.blocks == "plain" or stage == 0:
                x = shrink(linen.tanh(convolution(channels, 1 + strides)(x)))
            if spec.blocks == "residual":
                stride = 2 if strides and stage else 1
                x = shrink(x) if stage else x
                hidden = convolution(channels)(linen.tanh(convolution(channels, stride)(x)))
                kept = x[:, ::stride, ::stride]
                x = linen.tanh(hidden + jnp.pad(kept, ((0, 0),) * 3 + ((0, channels - kept.shape[-1]),)))
        x = x.mean((1, 2)) if spec.readout == "mean_position" else jnp.moveaxis(x, -1, 1).reshape(len(x), -1)
        for size in spec.hidden_sizes:
            x = linen.tanh(linen.Dense(size)(x))
        return linen.Dense(spec.num_classes + spec.num_aux)(x)


def linen_variables(params, spec):
    variables, size = {}, spec.kernel_size
    num_kernels = len(params) - len(spec.hidden_sizes) - 1
    for index, (weight, bias) in enumerate(params):
        if index < num_kernels:
            kernel = weight.reshape(len(weight), -1, size, size).transpose(2, 3, 1, 0)
            variables[f"Conv_{_order(spec)[index]}"] = {"kernel": kernel, "bias": bias}
        else:
            variables[f"Dense_{index - num_kernels}"] = {"kernel": weight.T, "bias": bias}
    return {"params": variables}


def _order(spec):
    """Flax numbers modules as they are made: in a block, the second convolution before the first."""
    if spec.blocks == "plain":
        return range(len(spec.channels))
    return [0, *(number for stage in range(len(spec.channels)) for number in (2 * stage + 2, 2 * stage + 1))]


@pytest.mark.parametrize("spec", KINDS[:2] + KINDS[5:], ids=named)
def test_gradients_are_those_of_flax(spec):
    params, images, module = params_of(spec), images_of(spec), Linen(spec)
    weights = jnp.asarray(strategies.normal(9, BATCH, 7), jnp.float32)

    def loss(params, apply):
        return jnp.sum(weights * apply(params, images) ** 2)

    ours = jax.jit(jax.grad(functools.partial(loss, apply=spec.apply)))(params)
    theirs = jax.jit(jax.grad(lambda p: loss(p, lambda q, x: module.apply(linen_variables(q, spec), x))))(params)
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.abs(other).max() > 0.01
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=2e-5)  # sums of 600 float32 terms of order 0.1


@pytest.mark.parametrize("spec", (PLAIN, KINDS[5]), ids=named)
def test_bfloat16_rounds_operands_and_nothing_else(spec):
    """Forwards and backwards within a few roundings of 2^-8 of the largest number, and not within those of float32."""
    rounded, params, images = dataclasses.replace(spec, precision="bfloat16"), params_of(spec), images_of(spec)

    def outcome(spec):
        return jax.jit(jax.value_and_grad(lambda p: jnp.sum(spec.apply(p, images) ** 2)))(params)

    exact, ours = (jax.tree.leaves(outcome(each)) for each in (spec, rounded))
    assert all(leaf.dtype == jnp.float32 for leaf in ours)
    for mine, other in zip(ours, exact, strict=True):
        error = np.abs(mine - other).max() / np.abs(other).max()
        assert 1e-6 < error < 0.05


@pytest.mark.slow
def test_many_networks_in_one_vmap_are_each_as_alone():
    images = images_of(PLAIN)
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), params_of(PLAIN, 1), params_of(PLAIN, 2))
    together = jax.vmap(PLAIN.apply, in_axes=(0, None))(both, images)
    for row, seed in enumerate((1, 2)):
        np.testing.assert_allclose(together[row], PLAIN.apply(params_of(PLAIN, seed), images), **REORDERED)


def test_images_may_be_rows_or_squares():
    params, images = params_of(PLAIN), images_of(PLAIN)
    logits = PLAIN.apply(params, images)
    for shape in ((11, 11), (11, 11, 1), (1, 11, 11)):
        np.testing.assert_array_equal(PLAIN.apply(params, np.asarray(images).reshape(BATCH, *shape)), logits)


@pytest.mark.parametrize("spec", KINDS, ids=named)
def test_layers_have_the_fans_that_the_spec_says(spec):
    params = spec.init(jax.random.key(0))
    assert tuple(layer.weight.shape[::-1] for layer in params) == spec.fans
    assert len(spec.positions) == len(params) and spec.fans[-1][1] == spec.num_classes + spec.num_aux


def test_weights_are_drawn_with_the_variance_of_their_patch_and_readouts_do_not_depend_on_their_number():
    spec = dataclasses.replace(PLAIN, channels=(3, 200), init_distribution="he_normal", init_scale=2.0)
    weight = spec.init(jax.random.key(3))[1].weight  # 200 kernels of 2 x 2 x 3: 2400 numbers
    assert np.std(weight) == pytest.approx(2 * (2 / 12) ** 0.5, rel=5 / (2 * 2400) ** 0.5)  # five standard errors
    fewer = dataclasses.replace(spec, num_aux=0).init(jax.random.key(3))
    np.testing.assert_array_equal(fewer[-1].weight, spec.init(jax.random.key(3))[-1].weight[:4])


def test_the_default_has_lenets_size():
    spec = sl.conv()
    assert spec.sides == (12, 4) and spec.num_features == 256
    assert spec.fans == ((25, 6), (150, 16), (256, 120), (120, 84), (84, 13))
    assert spec.positions == (576, 64, 1, 1, 1)
    assert hash(spec) == hash(sl.conv()) and isinstance(spec, sl.Model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 10}, "side=10: the maps of stage 1 of 2 would have 9 pixels along each side, which cannot be halved"),
        ({"side": 9}, "side=9: the maps of stage 2 of 2 would have 3 pixels"),
        ({"side": 3, "kernel_size": 8}, "side=3: the maps of stage 1 of 2 would have 0 pixels"),
        (
            {"blocks": "residual", "kernel_size": 3, "channels": (3, 3)},
            "side=11: the maps of stage 1 of 2 would have 11 pixels",
        ),
        ({"blocks": "residual", "side": 8}, "kernel_size=2: residual blocks add outputs to inputs, so a kernel needs"),
        (
            {"blocks": "residual", "side": 8, "kernel_size": 3, "channels": (3, 2)},
            r"channels=\(3, 2\): residual stages",
        ),
        ({"channels": ()}, "channels: a convolutional network has one stage at least"),
        ({"blocks": "dense"}, "ConvSpec.blocks: expected one of 'plain', 'residual', got 'dense'"),
        ({"downsampling": "maxpool"}, "ConvSpec.downsampling: .* did you mean 'max_pool'[?]"),
        ({"readout": "mean"}, "ConvSpec.readout: expected one of 'all_positions', 'mean_position'"),
        ({"channels": (3, 0)}, r"ConvSpec.channels\[1\]: must be at least 1"),
    ],
    ids=str,
)
def test_a_network_that_is_none_is_refused(changes, message):
    with pytest.raises(errors.InputError, match=message):
        dataclasses.replace(PLAIN, **changes)


@pytest.mark.parametrize("shape", [(BATCH, 120), (BATCH, 11, 12), (BATCH, 1, 121), (121,), (BATCH, 3, 11, 11)])
def test_images_of_another_size_are_refused(shape):
    expected = re.escape("expected one channel of 11 x 11 pixels, as rows of 121 or as (batch, 11, 11)")
    with pytest.raises(errors.InputError, match=expected):
        PLAIN.apply(params_of(PLAIN), jnp.zeros(shape))


TEACHER = mlp.MLPSpec(in_size=121, hidden_sizes=(6, 5), num_classes=4, num_aux=3, activation="tanh")
STUDENT = conv.ConvStudent(channels=(3, 2), kernel_size=2, hidden_sizes=(5,))


def test_a_convolutional_student_has_the_logits_the_pixels_and_the_arithmetic_of_its_teacher():
    assert STUDENT.applied_to(TEACHER) == PLAIN
    other = dataclasses.replace(TEACHER, precision="bfloat16", init_distribution="he_normal", init_scale=2.0)
    student = dataclasses.replace(STUDENT, activation="relu", init_scale=3.0).applied_to(other)
    assert (student.precision, student.init_distribution, student.activation, student.init_scale) == (
        "bfloat16",
        "he_normal",
        "relu",
        3.0,
    )
    pooling = dataclasses.replace(STUDENT, downsampling="mean_pool")
    assert pooling.applied_to(PLAIN) == dataclasses.replace(PLAIN, downsampling="mean_pool")


def test_heads_of_an_mlp_fit_a_convolutional_student_and_nothing_else_does():
    reference, own = TEACHER.init(jax.random.key(0)), PLAIN.init(jax.random.key(1))
    student = init_sharing.transplant_matching_layers(reference, own)
    for layer, origin in zip(student, (*own[:-1], reference[-1]), strict=True):
        np.testing.assert_array_equal(layer.weight, origin.weight)


def test_parts_of_a_network_are_shared_by_kernel_and_by_head():
    reference, other = PLAIN.init(jax.random.key(0)), PLAIN.init(jax.random.key(1))
    share = init_sharing.ParamGroups(hidden=(1.0, 0.0, 0.0), class_head=0.0, aux_head=1.0)
    student = init_sharing.interpolate(reference, other, share, num_classes=4)
    for layer, origin in zip(student[:-1], (reference[0], *other[1:-1]), strict=True):
        np.testing.assert_array_equal(layer.weight, origin.weight)
    np.testing.assert_array_equal(student[-1].weight[:4], other[-1].weight[:4])
    np.testing.assert_array_equal(student[-1].weight[4:], reference[-1].weight[4:])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model": dataclasses.replace(TEACHER, in_size=120), "student_model": STUDENT},
            "in_size=120: a convolutional student needs square images",
        ),
        (
            {"model": dataclasses.replace(TEACHER, in_size=100), "student_model": STUDENT},
            "side=10: the maps of stage 1 of 2 would have 9 pixels",
        ),
        (
            {"model": PLAIN, "student_model": mlp.MLPChanges(hidden_sizes=(3,))},
            "student_model: these are changes of an MLP, and the teacher is a convolutional network",
        ),
        (
            {"model": PLAIN, "init_sharing": init_sharing.InitSharing(permute_neurons=True)},
            "init_sharing.permute_neurons: the students are a convolutional network",
        ),
        (
            {"model": sl.Network(initialize=PLAIN.init, forward=PLAIN.apply, num_classes=4, num_aux=3),
             "student_model": STUDENT},
            "student_model: it is about layers, which an MLPSpec or a ConvSpec has",
        ),
    ],
    ids=("no square", "no half", "changes of an MLP", "permuted", "network"),
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(errors.InputError, match=message):
        MemberConfig(**settings)


def test_layers_are_asked_of_a_network_that_has_them():
    network = sl.Network(initialize=PLAIN.init, forward=PLAIN.apply, num_classes=4, num_aux=3)
    with pytest.raises(errors.InputError, match="model: expected an MLPSpec or a ConvSpec here, got another network"):
        conv.with_layers(network)
    assert conv.with_layers(PLAIN) is PLAIN


def test_what_layers_allow_is_allowed():
    config = MemberConfig(
        model=PLAIN,
        init_sharing=init_sharing.InitSharing(share=init_sharing.HEADS, relative_noise=0.1),
        trainable=UpdateScale(aux_head=0.0),
        student_model=dataclasses.replace(STUDENT, downsampling="mean_pool"),
    )
    assert config.students_differ and config.students == dataclasses.replace(PLAIN, downsampling="mean_pool")
    teacher = TeacherConfig(model=PLAIN, phase=TrainPhase()).without_aux_logits
    assert teacher.model == dataclasses.replace(PLAIN, num_aux=0)
