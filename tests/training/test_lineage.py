"""A member from its key to its accuracies, against the same protocol written down in plain Python."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import keys
from sublim_jax.data import noise
from sublim_jax.models import mlp
from sublim_jax.training import ensemble, lineage
from tests.training import plain, tiny

# float32 against double precision over a teacher's and then a student's steps; Adam magnifies small differences.
CLOSE = {"rtol": 1e-3, "atol": 1e-5}
CHOSEN = {"aux": slice(4, None), "class": slice(0, 4), "all": slice(None)}


def by_hand(number, partner, spec, seed=0):
    """Accuracies and losses of one member: the docstring of `lineage`, line by line."""
    own, others = keys.members(seed, jnp.array([number, partner]))
    images = tiny.images()

    def train(start, role, num_examples, task, phase):
        return plain.train(
            start,
            keys.stream(own, role),
            num_examples,
            task,
            epochs=phase.num_epochs,
            batch_size=phase.batch_size,
            optimizer=plain.Adam(phase.optimizer.learning_rate),
        )

    reference, other = (plain.from_jax(mlp.init(keys.stream(key, "reference"), spec.model)) for key in (own, others))
    models, history = {"reference": reference}, {}
    models["teacher"], history["teacher"] = train(
        reference, "teacher/batches", 22, plain.Teaching(images.train_images, images.train_labels, 4), spec.teacher
    )
    starts = {"student": reference, "cross_model": other}
    if any(condition.startswith("matched") for condition in spec.conditions):
        real = (images.train_images[: spec.matching.num_images] - 127.5) / 127.5
        imitated = plain.forward(models[spec.matching.imitates], real)[-1]
        models["matched_start"], history["matched_start"] = train(
            other, "matching/batches", len(real), plain.Distilling(real, imitated, slice(None)), spec.matching.phase
        )
        starts["matched"] = models["matched_start"]
    inputs = noise.draw(keys.stream(own, "student/noise"), jnp.arange(20), num_pixels=16, spec=spec.noise)
    targets = plain.forward(models["teacher"], inputs)[-1]
    for condition in spec.conditions:
        start, _, which = condition.rpartition("_")
        task = plain.Distilling(inputs, targets, CHOSEN[which])
        models[condition], history[condition] = train(starts[start], "student/batches", 20, task, spec.student)
    scores = {
        name: plain.accuracy(params, images.test_images, images.test_labels, 4) for name, params in models.items()
    }
    return scores, history


def assert_equal_by_hand(outcome, number, partner, spec):
    scores, history = by_hand(number, partner, spec)
    assert outcome.accuracy.keys() == outcome.finite.keys() == scores.keys()
    assert outcome.loss.keys() == history.keys()
    for name in history:
        np.testing.assert_allclose(outcome.loss[name], history[name], **CLOSE, err_msg=name)
    for name in scores:
        np.testing.assert_allclose(outcome.accuracy[name], scores[name], rtol=1e-6, err_msg=name)
        assert outcome.finite[name]


@pytest.mark.parametrize("number", [0, 7])
def test_a_member_is_what_the_protocol_says(number):
    assert_equal_by_hand(tiny.member(tiny.everyone(), number), number, (number + 1) % 8, tiny.SPEC)


def test_the_teacher_learns_and_reads_better_than_the_reference():
    found = tiny.everyone()
    assert np.mean(found.accuracy["teacher"]) > np.mean(found.accuracy["reference"]) + 0.2


def test_adding_conditions_changes_no_bit_of_the_others():
    alone, company = tiny.everyone(spec=tiny.SMALL), tiny.everyone(spec=tiny.SPEC)
    assert company.accuracy.keys() - alone.accuracy.keys() == {"student_all", "matched_start", "matched_aux"}
    for name in alone.accuracy:
        np.testing.assert_array_equal(alone.accuracy[name], company.accuracy[name])
    for name in alone.loss:
        np.testing.assert_array_equal(alone.loss[name], company.loss[name])


def test_the_partner_matters_to_those_who_start_from_it_and_to_nobody_else():
    usual, other = tiny.everyone(), tiny.outcomes(tiny.MEMBERS, np.roll(tiny.MEMBERS, 3))
    for name in ("teacher", "student_aux", "student_all"):
        np.testing.assert_array_equal(usual.loss[name], other.loss[name])
    for name in ("cross_model_aux", "matched_start", "matched_aux"):
        assert np.all(usual.loss[name] != other.loss[name])


def test_a_cross_model_student_of_oneself_is_a_student():
    """The control differs from the experiment in the start and in nothing else."""
    found = tiny.outcomes(tiny.MEMBERS, tiny.MEMBERS)
    np.testing.assert_array_equal(found.loss["cross_model_aux"], found.loss["student_aux"])
    np.testing.assert_array_equal(found.accuracy["cross_model_aux"], found.accuracy["student_aux"])


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


def test_a_match_of_the_teacher_and_what_is_heard_of_each_epoch():
    matching = dataclasses.replace(tiny.SPEC.matching, imitates="teacher")
    spec = dataclasses.replace(tiny.SPEC, conditions=("matched_all",), matching=matching)
    heard = []
    run = jax.jit(lambda *arguments: lineage.run(*arguments, seed=0, spec=spec, on_epoch=heard.append))
    images = lineage.Images(*map(jnp.asarray, tiny.images()))
    outcome = run(jnp.int32(3), jnp.int32(1), images)
    jax.effects_barrier()
    assert_equal_by_hand(outcome, 3, 1, spec)
    phases = {"teacher": 2, "matching": 1, "student": 3}
    assert sorted(heard) == sorted(lineage.Progress(3, phase, e) for phase, n in phases.items() for e in range(n))
    assert [progress.phase for progress in heard] == ["teacher"] * 2 + ["matching"] + ["student"] * 3


def test_a_member_that_diverges_is_flagged_and_spoils_nobody_else(monkeypatch):
    """Member 1's reference is not a number: with it fall its own models and the cross-model student of member 0."""
    draw, bad = mlp.init, jax.random.key_data(keys.stream(keys.members(0, jnp.array([1]))[0], "reference"))

    def spoiled(key, spec):
        factor = jnp.where(jnp.all(jax.random.key_data(key) == bad), jnp.nan, 1.0)
        return jax.tree.map(lambda leaf: leaf * factor, draw(key, spec))

    monkeypatch.setattr(mlp, "init", spoiled)

    def run(member, partner, shared):
        return lineage.run(member, partner, shared[1], seed=shared[0], spec=tiny.SMALL)

    found = tiny.outcomes(tiny.MEMBERS, ensemble.partners(8), run=ensemble.over_members(run, width=8))
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
    assert len(lineage.CONDITIONS) == 9
    for condition in lineage.CONDITIONS:
        start, which = lineage.start_of(condition), lineage.distilled_logits_of(condition)
        assert f"{start}_{which}" == condition
        assert start in ("student", "cross_model", "matched") and which in ("aux", "class", "all")
    assert lineage.recorded_conditions(("student_all",)) == ("reference", "teacher", "student_all")
    assert lineage.recorded_conditions(("matched_aux", "student_aux")) == (
        "reference",
        "teacher",
        "matched_start",
        "matched_aux",
        "student_aux",
    )
