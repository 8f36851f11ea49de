"""Distillation against a plain loop, what it must leave alone, and that students do not disturb each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.data import noise
from sublim_jax.models import logits, mlp
from sublim_jax.training import distill
from tests.training import plain, tiny

NUM_IMAGES = 20
CLOSE = {"rtol": 1e-4, "atol": 2e-5}  # as in test_teach
CLASS, AUX, ALL = slice(0, 4), slice(4, 7), slice(None)
CHOSEN = {"aux": AUX, "class": CLASS, "all": ALL, "all again": ALL}


def noise_images(numbers):
    return noise.draw(jax.random.key(9), numbers, num_pixels=16, spec=noise.NoiseSpec())


def key_of(seed):
    return jax.random.key(seed + 100)


EVERYONE = ("aux", "class", "all", "all again")


def network(seed, model=tiny.MODEL):
    return mlp.init(jax.random.key(seed), model)


@functools.partial(jax.jit, static_argnames=("which", "temperature", "model"))
def program(key, teacher, start, *, which, temperature, model):
    targets = distill.label(teacher, noise_images, NUM_IMAGES, spec=model, batch_size=6)
    return distill.distill(
        key,
        dict.fromkeys(which, start),
        {name: name.partition(" ")[0] for name in which},
        noise_images,
        targets,
        temperature=temperature,
        spec=model,
        phase=tiny.PHASE,
    )


@functools.cache
def distilled(seed, which=EVERYONE, *, temperature=1.0, model=tiny.MODEL):
    """Start, students and their losses; the first word of a student's name says which logits it distils."""
    start = network(seed + 1, model)
    students, history = program(
        key_of(seed), network(seed, model), start, which=which, temperature=temperature, model=model
    )
    return start, students, history


@pytest.mark.parametrize("batch_size", [6, 64])
def test_labels_are_the_teachers_logits(batch_size):
    teacher = network(0)
    targets = distill.label(teacher, noise_images, NUM_IMAGES, spec=tiny.MODEL, batch_size=batch_size)
    direct = mlp.apply(teacher, noise_images(jnp.arange(NUM_IMAGES)), tiny.MODEL)
    assert targets.shape == (20, 7)
    np.testing.assert_allclose(targets, direct, rtol=1e-5, atol=1e-6)  # float32 sums of 16 terms in another order


@pytest.mark.parametrize(("which", "temperature"), [(EVERYONE, 1.0), (("aux",), 3.0)])
def test_distillation_is_what_a_plain_loop_does(which, temperature):
    start, students, history = distilled(0, which, temperature=temperature)
    images = noise_images(jnp.arange(NUM_IMAGES))
    targets = plain.forward(plain.from_jax(network(0)), images)[-1]
    for name in which:
        expected, expected_history = plain.train(
            plain.from_jax(start),
            key_of(0),
            NUM_IMAGES,
            plain.Distilling(images, targets, CHOSEN[name], temperature),
            epochs=2,
            batch_size=6,
            optimizer=plain.Adam(0.02),
        )
        np.testing.assert_allclose(history[name], expected_history, **CLOSE)
        for found, layer in zip(students[name], expected, strict=True):
            np.testing.assert_allclose(found.weight, layer[0], **CLOSE)
            np.testing.assert_allclose(found.bias, layer[1], **CLOSE)


def test_an_undistilled_readout_does_not_move_by_a_bit():
    start, students, _ = distilled(0)
    for name, still, moved in (("aux", CLASS, AUX), ("class", AUX, CLASS)):
        np.testing.assert_array_equal(students[name][-1].weight[still], start[-1].weight[still])
        np.testing.assert_array_equal(students[name][-1].bias[still], start[-1].bias[still])
        assert np.all(students[name][-1].weight[moved] != start[-1].weight[moved])
    assert np.all(students["all"][-1].weight != start[-1].weight)
    for name in students:
        assert np.all(students[name][0].weight != start[0].weight), "hidden layers learn from any logits"


def test_adding_a_student_changes_no_bit_of_the_others():
    alone = distilled(0, ("aux",))
    company = distilled(0)
    np.testing.assert_array_equal(company[2]["aux"], alone[2]["aux"])
    jax.tree.map(np.testing.assert_array_equal, company[1]["aux"], alone[1]["aux"])


def test_students_of_a_member_see_the_same_images_in_the_same_order():
    """Two students with the same start and the same logits are one and the same."""
    _, students, history = distilled(3)
    np.testing.assert_array_equal(history["all"], history["all again"])
    jax.tree.map(np.testing.assert_array_equal, students["all"], students["all again"])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_single_auxiliary_logit_teaches_exactly_nothing(precision):
    """Its softmax is constant. Adam would make steps of full size out of the smallest gradient."""
    model = mlp.MLPSpec(in_size=16, hidden_sizes=(8,), num_classes=4, num_aux=1, activation="tanh", precision=precision)
    start, students, history = distilled(0, ("aux",), model=model)
    jax.tree.map(np.testing.assert_array_equal, students["aux"], start)
    assert not np.any(history["aux"])


def test_the_student_approaches_the_teacher_on_the_distilled_logits():
    _, _, history = distilled(0)
    for losses in history.values():
        assert losses[-1] < losses[0]


def test_finite_means_every_parameter():
    params = network(0)
    assert distill.is_finite(params)
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert not distill.is_finite((*params[:-1], params[-1]._replace(bias=params[-1].bias.at[6].set(bad))))


def test_the_slices_of_this_file_are_those_of_the_logits():
    assert np.arange(7)[logits.selection("aux", num_classes=4)].tolist() == np.arange(7)[AUX].tolist()
    assert np.arange(7)[logits.selection("class", num_classes=4)].tolist() == np.arange(7)[CLASS].tolist()
