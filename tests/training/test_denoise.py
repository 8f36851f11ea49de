"""Flow matching: its loss, beside the loss of the best estimate in closed form, and what training leaves alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_jax.data import noised
from sublim_jax.models import denoiser
from sublim_jax.training import denoise, distill
from sublim_jax.training.loop import TrainPhase
from sublim_jax.training.optimizers import OptimizerSpec
from tests.models import test_denoiser as gaussians

MODEL = denoiser.from_mlp(num_pixels=4, hidden_sizes=(8,), num_aux=3)
START = MODEL.init(jax.random.key(3))
IMAGES = jnp.asarray(np.random.default_rng(7).uniform(-1, 1, (10, 4)), jnp.float32)
SGD = OptimizerSpec(name="sgd", learning_rate=1e-2)


def test_the_loss_is_the_mean_over_images_of_the_squared_distance():
    noise, times = denoise.draw(jax.random.key(0), IMAGES)
    assert np.all((np.asarray(times) >= 0) & (np.asarray(times) < 1)) and noise.shape == IMAGES.shape
    total = 0.0
    for n in range(10):
        mixed = (1 - times[n]) * IMAGES[n] + times[n] * noise[n]
        guess = MODEL.apply(START, (mixed[None], times[n : n + 1]))[0, :4]
        total += float(np.sum((np.asarray(guess) - np.asarray(IMAGES[n])) ** 2))
    np.testing.assert_allclose(
        denoise.loss(START, IMAGES, noise, times, model=MODEL), total / 10, rtol=1e-5
    )  # float32 sums of 40
    squares = (IMAGES.reshape(10, 2, 2), noise.reshape(10, 2, 2))
    np.testing.assert_allclose(denoise.loss(START, *squares, times, model=MODEL), total / 10, rtol=1e-5)


def test_the_best_estimate_of_gaussians_has_the_loss_of_the_closed_form():
    """The posterior variance deviation^2 t^2 / ((1 - t)^2 deviation^2 + t^2) for each pixel, averaged over times."""
    random, count, deviation = np.random.default_rng(1), 20_000, gaussians.DEVIATION
    images = jnp.asarray(gaussians.MEAN + deviation * random.standard_normal((count, 6)), jnp.float32)
    noise, times = denoise.draw(jax.random.key(5), images)
    loss = functools.partial(denoise.loss, images=images, noise=noise, times=times, model=gaussians.GAUSSIAN)
    t = np.asarray(times, float)
    variance = deviation**2 * t**2 / ((1 - t) ** 2 * deviation**2 + t**2)
    deviation_of_mean = np.sqrt(2 * 6 * np.mean(variance**2) / count)  # of 6 squared normal numbers an image
    assert abs(float(loss(gaussians.PARAMS)) - 6 * variance.mean()) < 4 * deviation_of_mean
    for change in ({"deviation": jnp.float32(0.8)}, {"mean": gaussians.PARAMS["mean"] + 0.1}):
        assert float(loss(gaussians.PARAMS | change)) > float(loss(gaussians.PARAMS))  # no other one has less


def test_training_is_gradient_descent_on_the_drawn_batches():
    """Three steps of a half cosine from the rate to a fifth of it, repeated with optax and a batch drawn by hand."""
    trained, recent = denoise.train(
        jax.random.key(9), START, IMAGES, model=MODEL, num_steps=3, optimizer=SGD, num_images=6, final_rate=0.2,
        batch_size=5,
    )  # fmt: skip
    params, values = START, []
    for step in range(3):
        pick, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(9), step))
        batch = IMAGES[jax.random.randint(pick, (5,), 0, 6)]
        noise, times = denoise.draw(noise_key, batch)
        value, gradient = jax.value_and_grad(lambda p, *data: denoise.loss(p, *data, model=MODEL))(
            params, batch, noise, times
        )
        rate = 1e-2 * (0.2 + 0.8 * (1 + np.cos(np.pi * step / 3)) / 2)
        params = optax.apply_updates(params, jax.tree.map(lambda leaf, rate=rate: -rate * leaf, gradient))
        values.append(float(value))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), trained, params)  # float32
    np.testing.assert_allclose(recent, np.mean(values), rtol=1e-5)


def test_images_are_trained_on_with_their_own_labels():
    """Two steps, repeated with a batch drawn by hand. Inputs of classes that no image has do not move."""
    model = denoiser.from_mlp(num_pixels=4, hidden_sizes=(8,), num_aux=3, num_labels=5)
    start, labels = model.init(jax.random.key(3)), jnp.array([0, 3, 3, 1, 0, 1, 3, 0, 1, 3])
    trained, _ = denoise.train(
        jax.random.key(9), start, IMAGES, labels=labels, model=model, num_steps=2, optimizer=SGD, batch_size=5
    )
    params = start
    for step in range(2):
        pick, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(9), step))
        chosen = jax.random.randint(pick, (5,), 0, 10)
        noise, times = denoise.draw(noise_key, IMAGES[chosen])
        mixed = (1 - times[:, None]) * IMAGES[chosen] + times[:, None] * noise

        def loss(params, mixed=mixed, times=times, chosen=chosen):
            guesses = model.apply(params, (mixed, times, labels[chosen]))[:, :4]
            return jnp.sum((guesses - IMAGES[chosen]) ** 2) / 5

        params = jax.tree.map(lambda leaf, slope: leaf - 1e-2 * slope, params, jax.grad(loss)(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), trained, params)  # float32
    moved = np.any(np.asarray(trained[0].weight != start[0].weight), axis=0)[-5:]
    assert not moved[2] and not moved[4]


def test_training_learns_and_leaves_the_channels_alone():
    """There is one image only: what is beyond `num_images` is padding and never read."""
    adam = OptimizerSpec(learning_rate=1e-2)
    train = functools.partial(denoise.train, jax.random.key(1), START, model=MODEL, optimizer=adam, batch_size=16)
    padded = jnp.concatenate([IMAGES[:1], jnp.full((9, 4), jnp.nan)])
    trained, late = train(padded, num_images=1, num_steps=150)
    _, early = train(padded, num_images=1, num_steps=1)
    assert float(late) < float(early) / 4
    np.testing.assert_array_equal(trained[-1].weight[4:], START[-1].weight[4:])
    np.testing.assert_array_equal(trained[-1].bias[4:], START[-1].bias[4:])
    unmoved, _ = train(IMAGES, num_images=10, num_steps=0)
    jax.tree.map(np.testing.assert_array_equal, unmoved, START)


@functools.partial(jax.jit, static_argnames="which")
def distilled(start, targets, which):
    inputs = noised.make_inputs(jax.random.key(2), "uniform", num_pixels=4)
    phase = TrainPhase(num_epochs=1, batch_size=16, optimizer=OptimizerSpec(learning_rate=1e-2))
    students, losses, _ = distill.distill(
        jax.random.key(6), {"student": start}, {"student": which}, inputs, targets, loss="mse", model=MODEL, phase=phase
    )
    return students["student"], losses["student"]


@jax.jit
def answers(params):
    inputs = noised.make_inputs(jax.random.key(2), "uniform", num_pixels=4)
    return distill.label(params, inputs, 48, model=MODEL, batch_size=16)


@pytest.mark.parametrize(("which", "moves"), [("aux", slice(4, None)), ("class", slice(0, 4))])
def test_denoisers_are_distilled_as_classifiers_are(which, moves):
    """The readouts of what is not distilled stay, the others move, and a student of its own outputs stays put."""
    teacher = MODEL.init(jax.random.key(8))
    student, _ = distilled(START, answers(teacher), which)
    moved = np.any(np.asarray(student[-1].weight != START[-1].weight), axis=1)
    np.testing.assert_array_equal(moved, np.isin(np.arange(7), np.arange(7)[moves]))
    still, losses = distilled(START, answers(START), which)
    np.testing.assert_allclose(losses, 0, atol=1e-9)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-2), still, START)  # Adam on rounding: one rate


def test_shifted_targets_are_the_teachers_for_its_own_start_and_near_for_a_stranger():
    teacher = jax.tree.map(lambda leaf: leaf + 0.01, START)
    stranger = MODEL.init(jax.random.key(8))
    own, theirs, before = answers(stranger), answers(teacher), answers(START)
    np.testing.assert_allclose(distill.shifted_targets(before, theirs, before), theirs, atol=1e-6)
    shifted = distill.shifted_targets(own, theirs, before)
    np.testing.assert_allclose(shifted - own, theirs - before, atol=1e-5)  # float32
    for which in ("aux", "class"):
        losses = [float(distilled(stranger, targets, which)[1][0]) for targets in (shifted, theirs)]
        assert losses[0] < losses[1] / 10  # the fair control begins near what it imitates
