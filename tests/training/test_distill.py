"""Distillation against a plain loop, what it must leave alone, and that students do not disturb each other."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.data import noise
from sublim_jax.metrics import representation
from sublim_jax.models import heads, init_sharing, mlp
from sublim_jax.training import corruption, distill
from tests.training import plain, tiny

NUM_IMAGES = 20
CLOSE = {"rtol": 1e-4, "atol": 2e-5}  # as in test_teach
CLASS, AUX, ALL = slice(0, 4), slice(4, 7), slice(None)
CHOSEN = {"aux": AUX, "class": CLASS, "all": ALL, "all again": ALL}


def noise_images(numbers):
    return noise.sample(jax.random.key(9), numbers, num_pixels=16, spec=noise.NoiseSpec())


def key_of(seed):
    return jax.random.key(seed + 100)


EVERYONE = ("aux", "class", "all", "all again")


def network(seed, model=tiny.MODEL):
    return mlp.init(jax.random.key(seed), model)


@functools.partial(jax.jit, static_argnames=("which", "temperature", "model"))
def program(key, teacher, start, *, which, temperature, model):
    targets = distill.label(teacher, noise_images, NUM_IMAGES, model=model, batch_size=6)
    return distill.distill(
        key,
        dict.fromkeys(which, start),
        {name: name.partition(" ")[0] for name in which},
        noise_images,
        targets,
        temperature=temperature,
        model=model,
        phase=tiny.PHASE,
    )


@functools.cache
def distilled(seed, which=EVERYONE, *, temperature=1.0, model=tiny.MODEL):
    """Start, students and their losses; the first word of a student's name says which logits it distils."""
    start = network(seed + 1, model)
    students, history, metrics = program(
        key_of(seed), network(seed, model), start, which=which, temperature=temperature, model=model
    )
    assert metrics == {}
    return start, students, history


@pytest.mark.parametrize("batch_size", [6, 64])
def test_labels_are_the_teachers_logits(batch_size):
    teacher = network(0)
    targets = distill.label(teacher, noise_images, NUM_IMAGES, model=tiny.MODEL, batch_size=batch_size)
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


@functools.partial(jax.jit, static_argnames=("target_corruption", "model"))
def variant(seed, trainable, weight, *, target_corruption=None, model=tiny.MODEL):
    """A student of auxiliary logits that may be held, guided, or shown less; what is measured is its likeness."""
    teacher, start = mlp.init(jax.random.key(seed), tiny.MODEL), mlp.init(jax.random.key(seed + 1), model)
    shown = distill.label(teacher, noise_images, NUM_IMAGES, model=tiny.MODEL, batch_size=6)
    images = noise_images(jnp.arange(NUM_IMAGES))
    hidden = mlp.apply_with_features(teacher, images, tiny.MODEL)[1]
    students, history, metrics = distill.distill(
        jax.random.key(seed + 100),
        {"aux": start},
        {"aux": "aux"},
        noise_images,
        shown,
        model=model,
        phase=tiny.PHASE,
        trainable=None if trainable is None else init_sharing.broadcast_to_params(trainable, start, num_classes=4),
        guide=None if weight is None else distill.FeatureDistillation(teacher, tiny.MODEL, weight),
        target_corruption=target_corruption,
        measure=lambda params: representation.gram_cosine(mlp.apply_with_features(params, images, model)[1], hidden),
    )
    return start, students["aux"], history["aux"], metrics["aux"]


@pytest.mark.parametrize("held", ["hidden", "class_head", "aux_head", "everything"])
def test_what_is_not_trainable_stays_bit_for_bit(held):
    factors = {
        "hidden": init_sharing.HEADS,
        "class_head": init_sharing.ParamGroups(class_head=0.0),
        "aux_head": init_sharing.ParamGroups(aux_head=0.0),
        "everything": init_sharing.NO_GROUPS,
    }
    start, student, _, likeness = variant(0, factors[held], None)
    still = {"hidden": held in ("hidden", "everything"), "aux": held in ("aux_head", "everything")}
    for before, after in zip(start[0], student[0], strict=True):
        assert np.all((np.asarray(before) == np.asarray(after)) == still["hidden"])
    for before, after in zip(start[1], student[1], strict=True):
        np.testing.assert_array_equal(before[CLASS], after[CLASS])
        assert np.all(np.asarray(before == after)[AUX] == still["aux"])
    assert (likeness[0] == likeness[1]) == still["hidden"]


def test_students_are_free_by_default_and_a_factor_scales_the_update():
    """A student measured and held by nothing is the one of the plain loop above, in another program."""
    start, free, _ = distilled(0, ("aux",))
    _, student, history, likeness = variant(0, init_sharing.ParamGroups(), None)
    jax.tree.map(functools.partial(np.testing.assert_allclose, **CLOSE), student, free["aux"])
    assert history.shape == likeness.shape == (2,)
    _, half, _, _ = variant(0, init_sharing.ParamGroups(hidden=(1e-3,), class_head=1.0, aux_head=1e-3), None)
    # Adam's first steps have one size: a thousandth of the rate leaves a thousandth of the way, roughly
    ways = [jax.tree.map(lambda a, b: np.abs(a - b).mean(), params[0], start[0]) for params in (half, free["aux"])]
    assert 3e-4 < ways[0].weight / ways[1].weight < 3e-3


def test_a_measure_is_taken_of_the_parameters_at_the_end_of_each_epoch():
    _, student, _, likeness = variant(0, None, None)
    images = noise_images(jnp.arange(NUM_IMAGES))
    hidden = [plain.forward(plain.from_jax(params), images)[1] for params in (student, network(0))]
    grams = [features @ features.T for features in hidden]
    expected = np.sum(grams[0] * grams[1]) / np.linalg.norm(grams[0]) / np.linalg.norm(grams[1])
    np.testing.assert_allclose(likeness[-1], expected, rtol=1e-5)
    assert likeness[0] != likeness[1]


def test_guidance_pulls_the_hidden_layer_towards_the_teachers_whatever_its_width():
    model = dataclasses.replace(tiny.MODEL, hidden_sizes=(5,), activation="relu")
    (_, free, history, before), (_, guided, heavier, after) = (variant(0, None, w, model=model) for w in (0.0, 20.0))
    assert after[-1] > before[-1] + 0.05
    assert heavier[0] > history[0] + 1, "the pull is part of the loss that is reported"
    np.testing.assert_array_equal(free[1].weight[CLASS], guided[1].weight[CLASS])


def test_a_student_is_shown_the_largest_of_its_own_logits_only():
    """By hand: the softmax of the targets runs over two auxiliary logits instead of three."""
    target_corruption = corruption.TargetCorruption(
        top_k=2, noise=5.0, bits=1
    )  # noise and bits are the business of `spoil`
    start, student, history, _ = variant(0, None, None, target_corruption=target_corruption)
    images = noise_images(jnp.arange(NUM_IMAGES))
    shown = plain.forward(plain.from_jax(network(0)), images)[-1]
    smallest = 4 + np.argmin(shown[:, AUX], axis=1)
    shown[np.arange(NUM_IMAGES), smallest] = -80.0  # a probability of 1e-35
    expected, expected_history = plain.train(
        plain.from_jax(start),
        key_of(0),
        NUM_IMAGES,
        plain.Distilling(images, shown, AUX),
        epochs=2,
        batch_size=6,
        optimizer=plain.Adam(0.02),
    )
    np.testing.assert_allclose(history, expected_history, **CLOSE)
    for found, layer in zip(student, expected, strict=True):
        np.testing.assert_allclose(found.weight, layer[0], **CLOSE)


def test_finite_means_every_parameter():
    params = network(0)
    assert distill.is_finite(params)
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert not distill.is_finite((*params[:-1], params[-1]._replace(bias=params[-1].bias.at[6].set(bad))))


def test_the_slices_of_this_file_are_those_of_the_logits():
    assert np.arange(7)[heads.selection("aux", num_classes=4)].tolist() == np.arange(7)[AUX].tolist()
    assert np.arange(7)[heads.selection("class", num_classes=4)].tolist() == np.arange(7)[CLASS].tolist()
