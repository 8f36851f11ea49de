"""A member from its key to its accuracies, against the same protocol written down in plain Python."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import conditions, keys
from sublim_jax.data import noise
from sublim_jax.metrics import representation
from sublim_jax.models import init_sharing, mlp
from sublim_jax.training import ensemble, loop, optimizers, stages
from sublim_jax.training.config import TeacherConfig, UpdateScale
from sublim_jax.training.state import Data
from tests.training import oracle, plain, tiny

CLOSE = oracle.CLOSE


def flat(params):
    return np.concatenate([np.asarray(leaf, float).ravel() for leaf in jax.tree.leaves(params)])


def assert_equal_by_hand(outcome, number, partner, spec):
    return oracle.assert_equal_by_hand(outcome, number, partner, spec, tiny.images())


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 7])
def test_a_member_is_what_the_protocol_says(number):
    assert_equal_by_hand(tiny.member(tiny.everyone(), number), number, (number + 1) % 8, tiny.SPEC)


@pytest.mark.slow
def test_the_teacher_learns_and_reads_better_than_the_reference():
    found = tiny.everyone()
    assert np.mean(found.accuracy["teacher"]) > np.mean(found.accuracy["reference"]) + 0.2


def test_the_partner_matters_to_those_who_start_from_it_and_to_nobody_else():
    usual, other = tiny.everyone(), tiny.outcomes(tiny.MEMBERS, np.roll(tiny.MEMBERS, 3))
    for name in ("teacher", "student_aux", "student_all"):
        np.testing.assert_array_equal(usual.loss[name], other.loss[name])
    for name in ("cross_model_aux", "matched_start", "matched_aux"):
        assert np.all(usual.loss[name] != other.loss[name])


def test_another_seed_is_another_experiment():
    first, second = tiny.everyone(0), tiny.everyone(1)
    assert np.all(first.loss["teacher"] != second.loss["teacher"])
    assert len(np.unique(first.loss["teacher"][:, 0])) == 8, "members differ"


def test_one_trace_serves_all_seeds_and_members():
    tiny.everyone(0)
    traces = tiny.TRACES[tiny.SPEC, 1]
    tiny.everyone(2**32 - 1)
    tiny.outcomes(tiny.MEMBERS + 100, tiny.MEMBERS, seed=5)
    assert tiny.TRACES[tiny.SPEC, 1] == traces >= 1


@pytest.mark.slow  # `test_oracle` has one by hand, among other settings
def test_a_match_of_the_teacher():
    matching = dataclasses.replace(tiny.SPEC.matching, target="teacher")
    spec = dataclasses.replace(tiny.SPEC, conditions=("matched_all",), matching=matching)
    run = jax.jit(lambda *arguments: stages.run(*arguments, seed=0, spec=spec))
    assert_equal_by_hand(run(jnp.int32(3), jnp.int32(1), Data(*map(jnp.asarray, tiny.images()))), 3, 1, spec)


@pytest.mark.slow
def test_a_member_that_diverges_is_flagged_and_spoils_nobody_else(monkeypatch):
    """Member 1's reference is not a number: with it fall its own models and the cross-model student of member 0."""
    draw, bad = mlp.init, jax.random.key_data(keys.stream(keys.members(0, jnp.array([1]))[0], "reference"))

    def spoiled(key, spec):
        factor = jnp.where(jnp.all(jax.random.key_data(key) == bad), jnp.nan, 1.0)
        return jax.tree.map(lambda leaf: leaf * factor, draw(key, spec))

    monkeypatch.setattr(mlp, "init", spoiled)

    def run(member, partner, shared):
        return stages.run(member, partner, shared[1], seed=shared[0], spec=tiny.SMALL)

    found = tiny.outcomes(tiny.MEMBERS, ensemble.cross_model_partners(8), run=ensemble.over_members(run, width=8))
    clean = tiny.everyone()
    for name in ("reference", "teacher", "student_aux", "cross_model_aux"):
        fallen = {1} | ({0} if name == "cross_model_aux" else set())
        assert set(np.flatnonzero(~found.finite[name])) == fallen
        assert set(np.flatnonzero(np.isnan(found.accuracy[name]))) == fallen, "no accuracy is invented"
        well = [number for number in range(8) if number not in fallen]
        np.testing.assert_allclose(found.accuracy[name][well], clean.accuracy[name][well], rtol=1e-6)
        if name != "reference":
            np.testing.assert_allclose(found.loss[name][well], clean.loss[name][well], **CLOSE)


def test_names_of_conditions_say_where_they_start_and_what_they_distil():
    assert len(conditions.CONDITIONS) == 9
    for condition in conditions.CONDITIONS:
        start, which = conditions.start_of(condition), conditions.distilled_logits_of(condition)
        assert f"{start}_{which}" == condition
        assert start in ("student", "cross_model", "matched") and which in ("aux", "class", "all")
    assert conditions.recorded_conditions(("student_all",)) == ("reference", "teacher", "student_all")
    assert conditions.recorded_conditions(("matched_aux", "student_aux")) == (
        "reference",
        "teacher",
        "matched_start",
        "matched_aux",
        "student_aux",
    )


# What a spec may ask for beyond the paper's protocol.

IMAGES = Data(*map(jnp.asarray, tiny.images()))
RICH = dataclasses.replace(
    tiny.SMALL,
    teacher=dataclasses.replace(tiny.PHASE, num_epochs=8),
    teacher_labels="permuted",
    num_validation_images=5,
    metrics=("epochs", "representation", "update_cosine"),
)


@functools.partial(jax.jit, static_argnames="spec")
def teacher_of(number, images, *, spec):
    return stages.train_teacher(number, images, seed=0, spec=spec)


@functools.partial(jax.jit, static_argnames="spec")
def students_of(number, partner, taught, *, spec):
    origin = stages.init_params(number, partner, IMAGES, seed=0, spec=spec.init_config)
    return stages.distill_students(number, origin, taught, IMAGES, seed=0, spec=spec)


def raised(number, partner, spec):
    """Teacher first, students in another program."""
    taught = teacher_of(jnp.int32(number), IMAGES, spec=spec.teacher_config)
    return students_of(jnp.int32(number), jnp.int32(partner), taught, spec=spec)


def assert_same(found, expected, **close):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(functools.partial(np.testing.assert_allclose, **close), found, expected)


@pytest.mark.slow  # together and one after the other, both are compared with a member by hand
def test_a_teacher_can_be_raised_before_its_students():
    assert_same(raised(2, 3, tiny.SMALL), tiny.member(tiny.everyone(spec=tiny.SMALL), 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("init_distribution", "name"),
    [("fan_in_normal", "adam"), pytest.param("torch_uniform", "sgd", marks=pytest.mark.slow)],
)
@pytest.mark.slow
def test_a_teacher_without_auxiliary_logits_is_the_same_one(init_distribution, name):
    """Its readouts have no gradient; with weight decay they shrink all the same, so then they are kept."""
    model = dataclasses.replace(tiny.MODEL, init_distribution=init_distribution)
    phase = dataclasses.replace(tiny.PHASE, optimizer=dataclasses.replace(tiny.PHASE.optimizer, name=name))
    spec = dataclasses.replace(tiny.SMALL, model=model, teacher=phase)
    without_aux_logits = spec.teacher_config.without_aux_logits
    assert (
        without_aux_logits
        == dataclasses.replace(spec, model=dataclasses.replace(model, num_aux=7)).teacher_config.without_aux_logits
    )
    taught = teacher_of(jnp.int32(2), IMAGES, spec=without_aux_logits)
    assert taught.teacher[-1].weight.shape[0] == 4
    found = students_of(jnp.int32(2), jnp.int32(3), taught, spec=spec)
    assert_same(found, raised(2, 3, spec), rtol=1e-5, atol=1e-6)
    decaying = dataclasses.replace(phase, optimizer=dataclasses.replace(phase.optimizer, weight_decay=0.1))
    decayed = dataclasses.replace(spec, teacher=decaying).teacher_config
    assert decayed.without_aux_logits == decayed


def test_renamed_classes_kept_images_and_everything_measured_by_hand():
    outcome = raised(3, 1, RICH)
    by_hand = assert_equal_by_hand(outcome, 3, 1, RICH)
    images, metrics = tiny.images(), outcome.metrics
    assert set(by_hand.names) == set(range(4)) and np.all(by_hand.names != np.arange(4))
    everybody = {"reference", "teacher", "student_aux", "cross_model_aux"}
    held_out, held_out_labels = images.train_inputs[17:], by_hand.names[images.train_labels[17:]]
    train_labels, test_labels = (by_hand.names[labels] for labels in (images.train_labels, images.test_labels))
    teacher = by_hand.hidden("teacher", oracle.scaled(images.test_inputs))
    for name in everybody:
        params, hidden = by_hand.models[name], by_hand.hidden(name, oracle.scaled(images.test_inputs))
        expected = {
            "validation_accuracy": plain.accuracy(params, held_out, held_out_labels, 4),
            "true_label_accuracy": plain.accuracy(params, images.test_inputs, images.test_labels, 4),
            "hidden_cosine": np.mean(
                np.sum(hidden * teacher, 1) / np.linalg.norm(hidden, axis=1) / np.linalg.norm(teacher, axis=1)
            ),
            "cka": representation.linear_cka(*(jnp.asarray(x, jnp.float32) for x in (hidden, teacher))),
            "probe_accuracy": representation.ridge_probe_accuracy(
                jnp.asarray(by_hand.hidden(name, oracle.scaled(images.train_inputs)), jnp.float32),
                jnp.asarray(train_labels),
                jnp.asarray(hidden, jnp.float32),
                jnp.asarray(test_labels),
                num_classes=4,
            ),
        }
        for measure, value in expected.items():
            np.testing.assert_allclose(metrics[measure][name], value, **CLOSE, err_msg=f"{measure} of {name}")
    assert metrics["probe_accuracy"]["teacher"] > 0.6, "the probe knows the classes by their new names"
    towards = flat(by_hand.models["teacher"]) - flat(by_hand.models["reference"])
    for name in ("student_aux", "cross_model_aux"):
        way = flat(by_hand.models[name]) - flat(by_hand.starts[conditions.start_of(name)])
        cosine = way @ towards / np.linalg.norm(way) / np.linalg.norm(towards)
        np.testing.assert_allclose(metrics["update_cosine"][name], cosine, rtol=1e-2, atol=1e-3)
        assert metrics["epoch_accuracy"][name].shape == (3,)
        assert metrics["epoch_accuracy"][name][-1] == outcome.accuracy[name]
        assert metrics["epoch_validation_accuracy"][name][-1] == metrics["validation_accuracy"][name]
    assert metrics.keys() == {"epoch_accuracy", "epoch_validation_accuracy", "update_cosine", *expected}


def test_a_teacher_of_renamed_classes_is_right_by_its_own_names_and_wrong_by_the_true_ones():
    accuracies = [raised(number, 1, RICH) for number in (0, 3)]
    for outcome in accuracies:
        own, true = outcome.accuracy["teacher"], outcome.metrics["true_label_accuracy"]["teacher"]
        assert own > 0.6
        assert own + true < 1 + 1e-6, "no image has the same class under both names"


def test_kept_images_are_not_shown_to_the_teacher():
    altered = IMAGES._replace(
        train_inputs=IMAGES.train_inputs.at[17:].set(0), train_labels=(IMAGES.train_labels.at[17:].add(1)) % 4
    )
    usual = teacher_of(jnp.int32(3), IMAGES, spec=RICH.teacher_config)
    jax.tree.map(np.testing.assert_array_equal, teacher_of(jnp.int32(3), altered, spec=RICH.teacher_config), usual)
    altered = IMAGES._replace(train_inputs=IMAGES.train_inputs.at[16].set(0))
    other = teacher_of(jnp.int32(3), altered, spec=RICH.teacher_config)
    assert np.all(other.loss != usual.loss)


@pytest.mark.slow  # each setting by hand elsewhere, here together
def test_generations_students_built_differently_and_fixed_streams_by_hand():
    spec = dataclasses.replace(
        tiny.SMALL,
        conditions=("student_aux",),
        num_generations=2,
        student_model=mlp.MLPChanges(hidden_sizes=(8, 8)),
        shared_streams=("reference", "student/noise"),
        metrics=("epochs", "update_cosine"),
    )
    outcome = raised(3, 1, spec)
    by_hand = assert_equal_by_hand(outcome, 3, 1, spec)
    for name, found in outcome.metrics["generation_accuracy"].items():
        np.testing.assert_allclose(found, [scores[name] for scores in by_hand.generations], rtol=1e-6)
        assert found[-1] == outcome.accuracy[name] == outcome.metrics["epoch_accuracy"][name][-1]
    assert outcome.metrics.keys() == {"generation_accuracy", "epoch_accuracy"}


def test_everybody_is_run_as_the_network_that_he_is():
    """Students are rectified where teachers have tanh, and the shapes are equal: a model run as the other's is not
    refused. Labels of later generations, the match, the guide and what is measured all have to know whose it is."""
    spec = dataclasses.replace(
        tiny.SMALL,
        conditions=("student_all", "matched_all"),
        num_generations=2,
        student_model=mlp.MLPChanges(activation="relu"),
        feature_loss_weight=0.2,
        metrics=("representation",),
    )
    outcome = raised(3, 1, spec)
    by_hand = assert_equal_by_hand(outcome, 3, 1, spec)
    shown = oracle.scaled(tiny.images().test_inputs)
    teacher = by_hand.hidden("teacher", shown)
    for name, found in outcome.metrics["hidden_cosine"].items():
        hidden = by_hand.hidden(name, shown)
        cosines = np.sum(hidden * teacher, 1) / np.linalg.norm(hidden, axis=1) / np.linalg.norm(teacher, axis=1)
        np.testing.assert_allclose(found, np.mean(cosines), **CLOSE, err_msg=name)
    for name, found in outcome.metrics["generation_accuracy"].items():
        np.testing.assert_allclose(found, [scores[name] for scores in by_hand.generations], rtol=1e-6)


@pytest.mark.slow  # `test_oracle` has each stream by hand
def test_fixed_streams_are_those_of_member_zero():
    untaught = loop.TrainPhase(num_epochs=0)

    def teachers(phase, *fixed):
        spec = TeacherConfig(model=tiny.MODEL, phase=phase, shared_streams=fixed)
        return [flat(teacher_of(jnp.int32(number), IMAGES, spec=spec).teacher) for number in (0, 3)]

    reference, own = teachers(untaught)
    assert np.mean(reference == own) < 0.2
    np.testing.assert_array_equal(*teachers(untaught, "reference"))
    np.testing.assert_array_equal(teachers(untaught, "reference")[1], reference)
    first, second = teachers(tiny.PHASE, "reference")
    assert np.any(first != second), "the order of batches is a member's own"
    np.testing.assert_array_equal(*teachers(tiny.PHASE, "reference", "teacher/batches"))


# The numbers of a spec as data.


@pytest.mark.slow
def test_a_traced_spec_gives_the_numbers_of_a_known_one():
    """Also where a known number leaves something out of the program: momenta, noise, parts that are shared whole."""
    assert_same(
        tiny.traced(jnp.int32(2), jnp.int32(3), tiny.FREE)._replace(metrics={}),
        tiny.member(tiny.everyone(spec=tiny.SMALL), 2),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.slow  # a matter of time alone: results are the same
def test_one_trace_serves_every_learning_rate_temperature_share_and_noise():
    tiny.traced(jnp.int32(2), jnp.int32(3), tiny.FREE)
    count = len(tiny.TRACES_OF_SPECS)
    spec = dataclasses.replace(
        tiny.FREE,
        temperature=2.0,
        student=dataclasses.replace(tiny.FREE.student, optimizer=optimizers.OptimizerSpec(learning_rate=0.01, b1=0.8)),
        init_sharing=init_sharing.InitSharing(
            share=init_sharing.ParamGroups(hidden=(0.7,) * 2, aux_head=0.2), relative_noise=0.1
        ),
        trainable=UpdateScale(hidden=(0.5, 0.5), class_head=0.0, aux_head=1.0),
        noise=noise.NoiseSpec(amplitude=0.6),
    )
    found = tiny.traced(jnp.int32(2), jnp.int32(3), spec)
    assert len(tiny.TRACES_OF_SPECS) == count
    assert_same(found, raised(2, 3, spec), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_students_none_of_whose_parts_may_move_stay_references():
    outcome = tiny.traced(
        jnp.int32(2),
        jnp.int32(3),
        dataclasses.replace(tiny.FREE, trainable=UpdateScale(hidden=(0.0, 0.0), class_head=0.0, aux_head=0.0)),
    )
    assert outcome.accuracy["student_aux"] == outcome.accuracy["reference"] != outcome.accuracy["teacher"]
    np.testing.assert_array_equal(outcome.metrics["epoch_accuracy"]["student_aux"], [outcome.accuracy["reference"]] * 3)
    own = tiny.everyone(spec=tiny.SMALL).accuracy["reference"]
    np.testing.assert_allclose(outcome.accuracy["cross_model_aux"], own[3], rtol=1e-6)


@pytest.mark.parametrize("labels", ["true", "permuted"])
def test_noise_avoids_the_gradient_of_the_teachers_first_batch(labels, monkeypatch):
    """The direction that `student_init` is given, against back-propagation by hand in double precision: that of the
    reference, on the first images, under the names that the teacher learns."""
    given = []
    spec = dataclasses.replace(
        tiny.SMALL, init_sharing=init_sharing.InitSharing(relative_noise=0.5, orthogonal_to_gradient=True)
    )
    spec = dataclasses.replace(spec, teacher_labels=labels)
    monkeypatch.setattr(init_sharing, "student_init", lambda *args, gradient, **rest: given.append(gradient) or args[1])
    stages.init_params(jnp.int32(2), jnp.int32(3), IMAGES, seed=0, spec=spec.init_config)
    (_, own) = keys.members(0, jnp.array([0, 2]))
    names = oracle.rename(own) if labels == "permuted" else np.arange(4)
    params = plain.from_jax(mlp.init(keys.stream(own, "reference"), spec.model))
    first = np.arange(spec.teacher.batch_size)
    task = plain.Teaching(IMAGES.train_inputs, names[IMAGES.train_labels], 4)
    activations = plain.forward(params, task.images[first])
    expected = plain.backward(params, activations, task(activations[-1], first)[1])
    for found, layer in zip(plain.from_jax(given[-1]), expected, strict=True):
        for ours, theirs in zip(found, layer, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_noise_across_the_gradient_knows_the_teachers_names_and_fits_other_students():
    """Only that it runs for every combination; the projection itself is a test of `init_sharing`."""
    start = init_sharing.InitSharing(relative_noise=0.5, orthogonal_to_gradient=True)
    spec = dataclasses.replace(
        tiny.SMALL,
        init_sharing=start,
        student_model=mlp.MLPChanges(hidden_sizes=(8, 8)),
        feature_loss_weight=0.1,
    )
    shapes = jax.eval_shape(lambda n: stages.run(n, n, IMAGES, seed=0, spec=spec), jnp.int32(0))
    assert shapes.accuracy.keys() == {"reference", "teacher", "student_aux", "cross_model_aux"}
