"""Test accuracy against a loop, whatever the size of the blocks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.data import datasets as image_data
from sublim_jax.models import mlp
from sublim_jax.training import evaluate
from tests.training import plain, tiny


@pytest.mark.parametrize("batch_size", [1, 4, 9, 1000])
def test_it_is_the_share_of_images_whose_label_has_the_largest_class_logit(batch_size):
    images, labels = (jnp.asarray(array) for array in tiny.images()[2:])
    params = mlp.init(jax.random.key(3), tiny.MODEL)
    # An auxiliary logit above all others must not be taken for a class.
    params = (*params[:-1], params[-1]._replace(bias=params[-1].bias.at[4].set(100.0)))
    hits = jnp.argmax(mlp.apply(params, image_data.scale_pixels(images), tiny.MODEL)[:, :4], axis=-1)
    # Spare places repeat example 0: it is a hit, so that it would show if they counted.
    labels = labels.at[0].set(hits[0].astype(labels.dtype))
    expected = plain.accuracy(plain.from_jax(params), images, np.asarray(labels), num_classes=4)
    assert 0 < expected < 1
    found = evaluate.test_accuracy(params, images, labels, model=tiny.MODEL, batch_size=batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [4, 1000])
def test_hidden_features_are_the_activations_before_the_readout(batch_size):
    model = dataclasses.replace(tiny.MODEL, hidden_sizes=(8, 5))
    params, images = mlp.init(jax.random.key(3), model), tiny.images().test_inputs
    found = evaluate.hidden_features(params, jnp.asarray(images), model=model, batch_size=batch_size)
    assert found.shape == (9, 5)
    expected = plain.forward(plain.from_jax(params), (images.astype(float) - 127.5) / 127.5)[-2]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # float32 sums of 16 terms
