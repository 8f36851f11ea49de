"""The study policies: rules about rows by hand, a student in a ball, and a run at toy size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import units
from experiments.evidence import policies
from experiments.evidence.policies import PoliciesConfig
from experiments.study import Source
from sublim_jax import errors, records
from sublim_jax.forms import evidence_policies as form
from sublim_jax.training import optimizers
from sublim_jax.training.loop import TrainPhase

RNG = np.random.default_rng(0)
OWN, CLEAN = (jnp.asarray(RNG.standard_normal((4000, 10)), jnp.float32) for _ in range(2))
OTHERS = jnp.stack([OWN + 100, OWN + 200, OWN + 300])


@pytest.mark.parametrize("share", [0.0, 0.125, 1.0])
def test_a_share_of_rotated_rows_is_the_own_familys_and_the_rest_the_others_in_equal_parts(share):
    rows = np.asarray(policies.rotated(jax.random.key(1), OWN, OTHERS, share) - OWN)
    families = np.round(rows[:, 0] / 100).astype(int)
    np.testing.assert_allclose(rows, 100 * families[:, None] * np.ones(10), atol=1e-3)  # rows stay whole and in place
    counts = np.bincount(families, minlength=4) / len(rows)
    expected = np.array([share, *[(1 - share) / 3] * 3])
    np.testing.assert_allclose(counts, expected, atol=4 * 0.5 / len(rows) ** 0.5)  # four standard deviations


@pytest.mark.parametrize("share", [0.0, 0.75, 1.0])
def test_a_share_of_mixed_rows_is_clean(share):
    rows = np.asarray(policies.mixed(jax.random.key(2), OWN, CLEAN, share))
    clean, theirs = (np.all(rows == np.asarray(each), axis=1) for each in (CLEAN, OWN))
    assert np.all(clean ^ theirs)
    assert clean.mean() == pytest.approx(share, abs=4 * 0.5 / len(rows) ** 0.5)


def test_divergences_are_those_of_each_row():
    theirs, own = np.asarray(OWN[:3], float), np.asarray(CLEAN[:3], float)
    for row, value in enumerate(policies.divergences(OWN[:3], CLEAN[:3])):
        p, q = (np.exp(each[row]) / np.exp(each[row]).sum() for each in (theirs, own))
        assert float(value) == pytest.approx(np.sum(p * np.log(p / q)), rel=1e-4)


def test_rows_that_are_left_are_the_first_of_the_order_and_are_read_more_often():
    order = jnp.array([3, 1, 0, 2, 4, 5, 7, 6])
    assert list(map(int, policies.kept(order, 0.75))) == [3, 1] * 4
    assert list(map(int, policies.kept(order, 0.25))) == [3, 1, 0, 2, 4, 5, 3, 1]


TINY = PoliciesConfig(
    num_references=1, num_others=2, num_images=96, num_generations=2, checkpoints=(2,), radii=(0.5,), own_shares=(0.0,),
    clean_shares=(1.0,), dropped=(0.5,), num_probes=32,
    phase=TrainPhase(num_epochs=2, batch_size=32, optimizer=optimizers.OptimizerSpec(learning_rate=1e-3)),
)  # fmt: skip


def test_conditions_are_all_levels_of_all_rules():
    conditions = policies.conditions(TINY)
    assert [(each["group"], each["level"]) for each in conditions.values()] == [
        ("radius", 0.5), ("rotation", 0.0), ("mixing", 1.0), ("filter", 0.5), ("random filter", 0.5),
        ("generations", 2.0), ("generations", 3.0),
    ]  # fmt: skip
    assert len(policies.conditions(PoliciesConfig())) == 3 + 4 + 5 + 4 + 4 + 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropped": (0.5, 1.0)}, "a filter that drops all rows leaves nothing"),
        ({"radii": (0.5, 0.5)}, r"radii must be different, got \(0.5, 0.5\)"),
        ({"checkpoints": (2, 6)}, "expected increasing numbers of steps below num_steps=6"),
        ({"checkpoints": (3, 2)}, "expected increasing numbers of steps"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(errors.InputError, match=message):
        dataclasses.replace(TINY, **changes)


@pytest.mark.slow
def test_a_student_does_not_leave_its_ball_and_goes_its_own_way_inside(small_digits):
    lineage = policies._Reference(Source("synthetic-digits", "", None, small_digits), TINY, "reference 0")
    free, path = lineage.student(lineage.own)
    norm = float(optax.tree.norm(lineage.reference))
    length = float(optax.tree.norm(optax.tree.sub(free, lineage.reference)))
    assert path["6"]["distance"] == pytest.approx(length / norm, rel=1e-5)
    assert 0 < path["2"]["distance"] < path["6"]["distance"]
    held, held_path = lineage.student(lineage.own, radius=0.5 * length)
    assert held_path["6"]["distance"] == pytest.approx(0.5 * length / norm, rel=1e-4)  # it would go further
    wide, _ = lineage.student(lineage.own, radius=2 * length)
    for ours, theirs in zip(jax.tree.leaves(wide), jax.tree.leaves(free), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert not np.allclose(jax.tree.leaves(held)[0], jax.tree.leaves(free)[0], atol=1e-6)
    # Activations are counted from the reference to the teacher.
    assert lineage.entry(lineage.reference, lineage.reference)["activation"] == pytest.approx(0, abs=1e-6)
    assert lineage.entry(lineage.teacher, lineage.reference)["activation"] == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_a_run_end_to_end(tmp_path, small_digits, monkeypatch):
    monkeypatch.setattr(units.datasets, "load", lambda **_: small_digits)
    record = units.run(policies.STUDY, TINY, record=tmp_path / "record.json", visible=False)
    entry = records.read(tmp_path / "record.json", form.FORM).results["reference 0"]
    assert set(entry["students"]) == set(policies.conditions(TINY))
    assert entry["paths"]["own start"]["6"] != entry["paths"]["shuffled targets"]["6"]
    assert any("reduced" in note for note in record.notes)
    # A student of the start's own answers has nothing to learn; Adam turns rounding into small steps.
    assert entry["students"]["100% of rows answered by the start"]["distance"] < entry["teacher"]["distance"]
