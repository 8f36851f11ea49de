"""A member whose networks are convolutional, against a hand-written loop and as the atlas runs it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sublim_jax as sl
from sublim_jax import errors, keys, losses
from sublim_jax.models import init_sharing
from tests.models import test_conv

CLASSES, RATE, NUM_TRAIN, NUM_NOISE = 4, 0.05, 12, 10
RNG = np.random.default_rng(5)
MODEL = dataclasses.replace(test_conv.PLAIN, downsampling="mean_pool")
DATA = sl.Data(
    RNG.normal(size=(NUM_TRAIN, 121)).astype("f"), RNG.integers(CLASSES, size=NUM_TRAIN),
    RNG.normal(size=(40, 121)).astype("f"), RNG.integers(CLASSES, size=40),
)  # fmt: skip
PHASE = sl.TrainPhase(num_epochs=2, batch_size=64, optimizer=sl.OptimizerSpec(name="sgd", learning_rate=RATE))
"""A batch holds all examples, so that their order is no matter."""


def noise(key, indices):
    return jax.vmap(lambda index: jax.random.normal(jax.random.fold_in(key, index), (121,)))(indices)


CONFIG = sl.MemberConfig(
    model=MODEL, noise_function=noise, num_noise_images=NUM_NOISE, loss="mse", teacher=PHASE, student=PHASE,
    conditions=("student_aux",),
    init_sharing=init_sharing.InitSharing(share=dataclasses.replace(init_sharing.HEADS, hidden=(1.0, 0.0, 1.0))),
)  # fmt: skip


def descended(params, loss):
    """Two steps of plain gradient descent, and the loss before each."""
    values, step = [], jax.jit(jax.value_and_grad(loss))
    for _ in range(2):
        value, gradient = step(params)
        params = jax.tree.map(lambda leaf, slope: leaf - RATE * slope, params, gradient)
        values.append(value)
    return params, values


@jax.jit
def forward(params, inputs):
    return MODEL.apply(params, inputs)  # which `tests.models.test_conv` compares with loops


def test_a_member_is_that_of_a_hand_written_loop():
    """Two members, of which the second is the first one's partner: its kernels are those that are not shared."""
    results = sl.run_members(CONFIG, DATA, num_members=2)
    own, other = keys.members(0, jnp.arange(2))
    reference, foreign = (MODEL.init(keys.stream(key, "reference")) for key in (own, other))
    x, y = jnp.asarray(DATA.train_inputs), jnp.asarray(DATA.train_labels)
    teacher, teacher_losses = descended(reference, lambda p: losses.cross_entropy(forward(p, x)[:, :CLASSES], y))
    shown = noise(keys.stream(own, "student/noise"), jnp.arange(NUM_NOISE))
    targets = forward(teacher, shown)
    start = (reference[0], foreign[1], *reference[2:])
    student, student_losses = descended(
        start, lambda p: losses.squared_error(forward(p, shown)[:, CLASSES:], targets[:, CLASSES:])
    )
    for name, params in (("reference", reference), ("teacher", teacher), ("student_aux", student)):
        predicted = np.argmax(forward(params, jnp.asarray(DATA.test_inputs))[:, :CLASSES], axis=1)
        assert results.accuracy[name][0] == pytest.approx(np.mean(predicted == DATA.test_labels)), name
    np.testing.assert_allclose(results.loss["teacher"][0], teacher_losses, rtol=1e-4)  # float32, in another order
    np.testing.assert_allclose(results.loss["student_aux"][0], student_losses, rtol=1e-4)
    assert student_losses[1] < 0.999 * student_losses[0] and teacher_losses[1] < 0.999 * teacher_losses[0]


def test_images_that_the_network_does_not_take_are_refused_before_anything_is_compiled():
    wrong = DATA._replace(train_inputs=DATA.train_inputs[:, :120])
    with pytest.raises(errors.InputError, match=r"images of shape [(]120,[)]: expected one channel of 11 x 11 pixels"):
        sl.run_members(CONFIG, wrong, num_members=2)
