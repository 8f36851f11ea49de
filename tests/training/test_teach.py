"""Teaching against a plain loop, and what it must leave alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.models import mlp
from sublim_jax.training import loop, optimizers, teach
from tests.training import plain, tiny

# float32 against double precision over eight steps; Adam divides by the root of small squares, which costs a digit.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@functools.partial(jax.jit, static_argnames=("model", "phase"))
def program(key, reference, *, model, phase):
    images, labels = (jnp.asarray(array) for array in tiny.images()[:2])
    return teach.teach(key, reference, images, labels, model=model, phase=phase)


@functools.cache
def taught(seed, *, model=tiny.MODEL, phase=tiny.PHASE):
    """Reference, teacher and losses."""
    reference = mlp.init(jax.random.key(seed), model)
    return reference, *program(jax.random.key(seed + 100), reference, model=model, phase=phase)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_teaching_is_what_a_plain_loop_does(name):
    """The last batch of an epoch holds four images instead of six: here padded, there short."""
    phase = dataclasses.replace(tiny.PHASE, optimizer=optimizers.OptimizerSpec(name=name, learning_rate=0.02))
    reference, teacher, history = taught(0, phase=phase)
    images = tiny.images()
    expected, expected_history = plain.train(
        plain.from_jax(reference),
        jax.random.key(100),
        22,
        plain.Teaching(images.train_inputs, images.train_labels, 4),
        epochs=2,
        batch_size=6,
        optimizer=plain.Adam(0.02) if name == "adam" else plain.Descent(0.02),
    )
    np.testing.assert_allclose(history, expected_history, **CLOSE)
    for found, layer in zip(teacher, expected, strict=True):
        np.testing.assert_allclose(found.weight, layer[0], **CLOSE)
        np.testing.assert_allclose(found.bias, layer[1], **CLOSE)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_auxiliary_readout_stays_where_it_was_bit_for_bit(precision):
    reference, teacher, _ = taught(1, model=dataclasses.replace(tiny.MODEL, precision=precision))
    np.testing.assert_array_equal(teacher[-1].weight[4:], reference[-1].weight[4:])
    np.testing.assert_array_equal(teacher[-1].bias[4:], reference[-1].bias[4:])
    assert np.all(teacher[-1].weight[:4] != reference[-1].weight[:4])
    for layer, before in zip(teacher[:-1], reference[:-1], strict=True):
        assert np.mean(layer.weight != before.weight) > 0.9


def test_the_loss_falls():
    _, _, history = taught(2)
    assert history[-1] < 0.9 * history[0]


def test_the_loss_of_all_images_is_that_by_hand():
    images, params = tiny.images(), mlp.init(jax.random.key(0), tiny.MODEL)
    task = plain.Teaching(images.train_inputs, images.train_labels, 4)
    expected, slope = task(plain.forward(plain.from_jax(params), task.images)[-1], np.arange(22))
    arrays = [jnp.asarray(array) for array in images[:2]]
    value, gradient = jax.value_and_grad(teach.loss)(params, *arrays, model=tiny.MODEL)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[-1].bias, slope.sum(axis=0), rtol=1e-4, atol=1e-6)


def test_no_epochs_give_back_the_reference():
    reference, teacher, history = taught(0, phase=loop.TrainPhase(num_epochs=0))
    jax.tree.map(np.testing.assert_array_equal, teacher, reference)
    assert history.shape == (0,)
