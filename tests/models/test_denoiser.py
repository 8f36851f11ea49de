"""Denoisers: their time features, their outputs, and sampling, whose exact answer is known for Gaussians."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.models import denoiser, mlp
from sublim_jax.models.network import Network

MODEL = denoiser.from_mlp(num_pixels=6, hidden_sizes=(9, 7), num_aux=3)
MEAN, DEVIATION = np.array([0.5, -1.0, 0.25, 2.0, 0.0, -0.5]), 0.7


def of_gaussians(num_pixels=6):
    """The best estimate there is, of images whose pixels are independent N(MEAN, DEVIATION^2), and a second channel."""

    def forward(params, inputs):
        noised, times = inputs
        flat, t = noised.reshape(len(noised), -1), times[:, None]
        variance = (1 - t) ** 2 * params["deviation"] ** 2 + t**2
        gain = (1 - t) * params["deviation"] ** 2 / variance
        guess = params["mean"] + gain * (flat - (1 - t) * params["mean"])
        return jnp.concatenate([guess, 100 + t], axis=1)

    return Network(initialize=lambda key: PARAMS, forward=forward, num_classes=num_pixels, num_aux=1)


PARAMS = {"mean": jnp.asarray(MEAN, jnp.float32)[None], "deviation": jnp.float32(DEVIATION)}
GAUSSIAN = of_gaussians()
NOISE = jnp.asarray(np.random.default_rng(2).standard_normal((5, 6)), jnp.float32)


def test_time_features_are_those_of_the_formula():
    times = [0.0, 0.3, 1.0]
    features = np.asarray(denoiser.time_features(jnp.array(times)))
    assert features.shape == (3, denoiser.NUM_TIME_FEATURES)
    for row, t in zip(features, times, strict=True):
        expected = [math.sin(2**n * math.pi / 4 * t) for n in range(8)]
        expected += [math.cos(2**n * math.pi / 4 * t) for n in range(8)]
        expected += [math.exp(-0.5 * ((t - n / 15) / 0.05) ** 2) for n in range(16)]
        np.testing.assert_allclose(row, expected, atol=2e-5)  # float32 sines of up to 100


def test_a_perceptron_sees_pixels_and_features_and_gives_pixels_then_channels():
    params = MODEL.init(jax.random.key(1))
    times = jnp.array([0.0, 0.2, 0.4, 0.9, 1.0])
    hidden = np.concatenate([NOISE, denoiser.time_features(times)], axis=1)
    for place, layer in enumerate(params):
        hidden = hidden @ np.asarray(layer.weight).T + np.asarray(layer.bias)
        if place < 2:
            hidden = hidden / (1 + np.exp(-hidden))  # silu
    assert (MODEL.num_classes, MODEL.num_aux) == (6, 3)
    np.testing.assert_allclose(
        denoiser.estimate(params, NOISE, times, model=MODEL), hidden[:, :6], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        denoiser.channels(params, NOISE, times, model=MODEL), hidden[:, 6:], rtol=1e-4, atol=1e-5
    )
    square = denoiser.estimate(params, NOISE.reshape(5, 2, 3), times, model=MODEL)
    np.testing.assert_allclose(square.reshape(5, 6), hidden[:, :6], rtol=1e-4, atol=1e-5)
    assert denoiser.from_mlp(num_pixels=6, hidden_sizes=(9, 7), num_aux=3) is MODEL  # one program for equal settings


CONDITIONAL = denoiser.from_mlp(num_pixels=6, hidden_sizes=(9, 7), num_aux=3, num_labels=4)
LABELS = jnp.array([2, 0, 3, 3, 1])
TIMES = jnp.array([0.0, 0.2, 0.4, 0.9, 1.0])


def test_a_conditional_perceptron_sees_the_label_as_a_1_among_zeros():
    params = CONDITIONAL.init(jax.random.key(1))
    hidden = np.concatenate([NOISE, denoiser.time_features(TIMES), np.eye(4)[np.asarray(LABELS)]], axis=1)
    for place, layer in enumerate(params):
        hidden = hidden @ np.asarray(layer.weight).T + np.asarray(layer.bias)
        if place < 2:
            hidden = hidden / (1 + np.exp(-hidden))  # silu
    estimate = denoiser.estimate(params, NOISE, TIMES, LABELS, model=CONDITIONAL)
    np.testing.assert_allclose(estimate, hidden[:, :6], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(CONDITIONAL.apply(params, (NOISE, TIMES, LABELS)), hidden, rtol=1e-4, atol=1e-5)


def test_classes_have_no_order():
    """Classes renamed, and the weights of their inputs moved along, give the same outputs; names alone do not."""
    params, renamed = CONDITIONAL.init(jax.random.key(1)), jnp.array([3, 1, 0, 2])
    outputs = CONDITIONAL.apply(params, (NOISE, TIMES, LABELS))
    weight = params[0].weight
    moved = weight.at[:, -4 + renamed].set(weight[:, -4:])
    same = CONDITIONAL.apply((params[0]._replace(weight=moved), *params[1:]), (NOISE, TIMES, renamed[LABELS]))
    np.testing.assert_allclose(same, outputs, rtol=1e-5, atol=1e-6)  # float32 sums in another order
    others = CONDITIONAL.apply(params, (NOISE, TIMES, renamed[LABELS]))
    changed = np.any(~np.isclose(others, outputs, atol=1e-3), axis=1)
    np.testing.assert_array_equal(changed, renamed[LABELS] != LABELS)


def test_each_sample_is_of_the_class_that_it_was_asked_for():
    """Every class has one image, which is drawn exactly, whatever the noise and however few the steps."""
    images = jnp.asarray(np.random.default_rng(3).uniform(-1, 1, (4, 6)), jnp.float32)
    model = Network(
        initialize=lambda key: images, num_classes=6, num_aux=0,
        forward=lambda params, inputs: jnp.take(params, inputs[2], axis=0) + 0 * inputs[0],
    )  # fmt: skip
    sampled = denoiser.sample(images, NOISE, LABELS, model=model, num_steps=3)
    np.testing.assert_allclose(sampled, images[LABELS], atol=1e-6)


@pytest.mark.parametrize(
    ("model", "labels", "message"),
    [(CONDITIONAL, None, "num_labels=4 and was given no labels"), (MODEL, LABELS, "num_labels=0 and was given labels")],
)
def test_a_class_is_asked_for_where_there_are_some_and_only_there(model, labels, message):
    with pytest.raises(errors.InputError, match=f"^this denoiser has {message}: ask a conditional one for a class of"):
        denoiser.estimate(model.init(jax.random.key(1)), NOISE, TIMES, labels, model=model)


def test_fresh_channels_change_the_channels_alone():
    params = MODEL.init(jax.random.key(1))
    fresh = denoiser.with_fresh_channels(jax.random.key(2), params, model=MODEL)
    times = jnp.full(5, 0.3)
    np.testing.assert_array_equal(
        denoiser.estimate(fresh, NOISE, times, model=MODEL), denoiser.estimate(params, NOISE, times, model=MODEL)
    )
    assert fresh[:-1] == params[:-1]
    changed = denoiser.channels(fresh, NOISE, times, model=MODEL) != denoiser.channels(
        params, NOISE, times, model=MODEL
    )
    assert np.all(np.asarray(changed))
    deviations = [float(np.std(each[-1].weight[6:])) for each in (fresh, params)]
    assert deviations[0] / deviations[1] == pytest.approx(1, abs=0.5)  # 21 normal numbers each, of one distribution


def test_a_step_is_that_of_eulers_method():
    """Velocity (x_t - estimate) / t, in NumPy and float64, on a grid of seven times."""
    images, num_steps = np.asarray(NOISE, float), 7
    for place in range(num_steps):
        t, s = 1 - place / num_steps, 1 - (place + 1) / num_steps
        gain = (1 - t) * DEVIATION**2 / ((1 - t) ** 2 * DEVIATION**2 + t**2)
        guess = MEAN + gain * (images - (1 - t) * MEAN)
        images = images + (s - t) * (images - guess) / t
    sampled = denoiser.sample(PARAMS, NOISE, model=GAUSSIAN, num_steps=num_steps)
    np.testing.assert_allclose(sampled, images, rtol=1e-4, atol=1e-5)  # float32


def test_samples_of_gaussians_converge_to_the_exact_flow():
    """x_0 = mean + deviation * noise exactly, and Euler's error falls with the step: first order."""
    exact = MEAN + DEVIATION * np.asarray(NOISE)
    error = [
        np.abs(np.asarray(denoiser.sample(PARAMS, NOISE, model=GAUSSIAN, num_steps=steps)) - exact).max()
        for steps in (50, 100, 200)
    ]
    assert error[2] < 0.02
    np.testing.assert_allclose([error[0] / error[1], error[1] / error[2]], 2, rtol=0.1)  # 2 but for the second order
    one_image = PARAMS | {"deviation": jnp.float32(0)}
    only = denoiser.sample(one_image, NOISE, model=GAUSSIAN, num_steps=3)
    np.testing.assert_allclose(only, np.tile(MEAN, (5, 1)), atol=1e-6)  # the one image there is, after any steps


def test_drawn_samples_are_those_of_their_noise():
    key = jax.random.key(4)
    drawn = denoiser.draw(key, PARAMS, 8, shape=(2, 3), model=GAUSSIAN, num_steps=4)
    assert drawn.shape == (8, 2, 3)
    noise = jax.random.normal(key, (8, 2, 3))
    np.testing.assert_array_equal(drawn, denoiser.sample(PARAMS, noise, model=GAUSSIAN, num_steps=4))


def test_what_does_not_fit_is_refused():
    with pytest.raises(errors.InputError, match="num_steps: must be at least 1, got 0"):
        denoiser.sample(PARAMS, NOISE, model=GAUSSIAN, num_steps=0)
    with pytest.raises(
        errors.InputError, match=r"noise of shape \(5, 4\): the denoiser estimates 6 pixels an image, no"
    ):
        denoiser.sample(PARAMS, NOISE[:, :4], model=GAUSSIAN, num_steps=2)
    with pytest.raises(errors.InputError, match=r"MLPSpec.num_aux: must be at least 0, got -1"):
        denoiser.from_mlp(num_aux=-1)
    with pytest.raises(errors.InputError, match=r"num_labels: must be at least 0, got -1"):
        denoiser.from_mlp(num_labels=-1)


def test_a_denoiser_is_a_network_of_the_laboratory():
    assert dataclasses.is_dataclass(MODEL) and isinstance(MODEL, Network)
    assert isinstance(MODEL.init(jax.random.key(0))[0], mlp.Dense)
