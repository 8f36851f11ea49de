"""Every row of the atlas is well-formed, and its changes lead to a setting."""

import dataclasses
import math
import pathlib

import jax
import numpy as np
import pytest

from experiments import cost
from experiments.atlas import catalogue, plan, settings, store
from experiments.atlas.rows import factorial, sources
from experiments.atlas.rows.types import Published
from figures.atlas import values
from sublim_jax import errors, records
from sublim_jax.models import init_sharing
from tests.experiments.atlas import tiny

ROWS = catalogue.ROWS["all"]
COMMITTED = pathlib.Path(__file__).parents[3] / store.FOLDER


def test_ids_and_labels_are_unique():
    assert len({row.id for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert len({arm.label for arm in row.arms}) == len(row.arms), row.id


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_is_complete(row):
    assert bool(row.arms) != bool(row.not_run)
    assert set(row.sources) <= set(sources.SOURCES)
    assert row.expected or row.not_run
    for resolved in row.resolved:
        arm, spec = resolved.arm, resolved.setting.member
        measured = {*spec.conditions, "reference", "teacher"}
        for published in arm.published:
            assert published.condition in measured
            assert 0 <= published.value <= 1
            if published.measure == "validation_accuracy":
                assert spec.num_validation_images
            elif published.measure == "gap":
                assert "cross_model_aux" in measured
            elif published.measure != "accuracy":
                assert "representation" in spec.metrics
        if arm.epoch is not None:
            assert "epochs" in spec.metrics and arm.epoch <= spec.student.num_epochs
        if arm.generation is not None:
            assert arm.generation <= spec.num_generations
        if arm.group:
            assert spec.num_validation_images


def test_every_arm_changes_something_or_is_the_base():
    for row in ROWS:
        names = [arm.fingerprint for arm in row.resolved if not arm.arm.epoch and not arm.arm.generation]
        assert len(set(names)) == len(names), row.id


def test_a_sweep_over_numbers_is_one_program_and_one_over_shapes_is_not():
    keys = {row.id: [arm.setting.program_key for arm in row.resolved] for row in ROWS}
    assert len(set(keys["learning-rate"])) == 1
    assert len(set(keys["share-parts"])) == 1
    assert len(set(keys["width"])) == len(keys["width"])


def test_changes_reach_their_place():
    setting = settings.with_changes(
        settings.BASE,
        {
            "both.optimizer.learning_rate": 0.5,
            "model.num_aux": 7,
            "student_model.activation": "tanh",
            "data.num_classes": 4,
            "init_sharing.share": init_sharing.HEADS,
        },
    )
    spec = setting.member
    assert spec.teacher.optimizer.learning_rate == spec.student.optimizer.learning_rate == 0.5
    assert spec.students == dataclasses.replace(spec.mlp_spec, activation="tanh")
    assert spec.model.num_aux == 7 and spec.mlp_spec.activation == "relu"
    assert setting.data.num_classes == 4 and spec.init_sharing.share == init_sharing.HEADS
    assert settings.BASE.member.model.num_aux == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modle.num_aux": 3}, "'modle.num_aux': MemberConfig has no field 'modle'"),
        ({"model.num_auxiliary": 3}, "MLPSpec has no field 'num_auxiliary'"),
        ({"student.optimizer.learning_rate": -1.0}, "learning_rate: must be greater than 0"),
        ({"both.optimizer.learning_rate": math.nan}, r"OptimizerSpec\.learning_rate: expected a finite number"),
        ({"teacher_labels": "shuffled"}, "teacher_labels: expected one of 'true', 'permuted', got 'shuffled'"),
        ({"matching.target": "student"}, "BehaviourMatching.target: expected one of 'reference', 'teacher'"),
        ({"inputs.real": "shuffled"}, "InputSpec.real: expected one of 'upright', .* got 'shuffled'"),
        ({"shared_streams": ("student/nois",)}, r"shared_streams\[0\]: .* did you mean 'student/noise'[?]"),
        ({"shared_streams": "student/noise"}, "shared_streams: expected a tuple"),
        ({"metrics": ("update_cosin",)}, r"metrics\[0\]: .* did you mean 'update_cosine'[?]"),
        ({"conditions": ("student_ghost",)}, r"conditions\[0\]: expected one of"),
        ({"conditions": ()}, "conditions must be different and at least one"),
        ({"conditions": ("student_aux", "student_aux")}, "conditions must be different"),
        ({"model.precision": "bf16"}, "MLPSpec.precision: .* did you mean 'bfloat16'[?]"),
        ({"model.parametrization": "NTK"}, "MLPSpec.parametrization: .* did you mean 'ntk'[?]"),
        ({"model.init_distribution": "xavier"}, "MLPSpec.init_distribution: expected one of"),
        ({"student_model.activation": "swish"}, "MLPChanges.activation: expected one of"),
        (
            {"noise.distribution": "normal"},
            "NoiseSpec.distribution: expected one of 'uniform', 'gaussian', 'bernoulli', got 'normal'",
        ),
        ({"noise.amplitude": math.nan}, "NoiseSpec.amplitude: expected a finite number"),
        ({"both.optimizer.name": "Adam"}, "OptimizerSpec.name: .* did you mean 'adam'[?]"),
        ({"teacher.optimizer.eps": -1}, r"OptimizerSpec.eps: must be greater than 0, got -1\.0"),
        ({"teacher.optimizer.weight_decay": -1}, "OptimizerSpec.weight_decay: must be at least 0"),
        ({"loss": "KL"}, "MemberConfig.loss: .* did you mean 'kl'[?]"),
        ({"temperature": math.inf}, "MemberConfig.temperature: expected a finite number"),
        ({"temperature": True}, "MemberConfig.temperature: expected a number, got True"),
        ({"loss": "mse", "temperature": 2.0}, "loss 'mse' has no temperature"),
        ({"num_generations": 2.5}, "MemberConfig.num_generations: expected a whole number, got 2.5"),
        ({"matching.num_images": 0}, "Matching.num_images: must be at least 1, got 0"),
        ({"matching.num_images": -5}, "Matching.num_images: must be at least 1, got -5"),
        ({"num_validation_images": -1}, "MemberConfig.num_validation_images: must be at least 0, got -1"),
        ({"num_noise_images": 0}, "MemberConfig.num_noise_images: must be at least 1, got 0"),
        ({"target_corruption.bits": 17}, "TargetCorruption.bits: must be at most 16"),
        ({"init_sharing.share": 1}, r"InitSharing.share: expected ParamGroups, got 1\.0"),
        ({"model.num_aux": 0}, "num_aux=0: there are no auxiliary logits for student_aux"),
        ({"model.num_classes": 9}, "model.num_classes=9: the images have data.num_classes=10"),
        ({"data.num_classes": 11}, "DataSpec.num_classes: must be at most 10"),
        ({"data.dataset": "cifar"}, "DataSpec.dataset: expected one of"),
    ],
)
def test_a_bad_change_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settings.with_changes(settings.BASE, changes)


@pytest.mark.parametrize("row", [row for row in ROWS if row.arms], ids=lambda row: row.id)
def test_settings_have_the_names_that_their_committed_results_have(row):
    """Recorded results are found again: a change of the checks must not change a fingerprint."""
    path = COMMITTED / f"{row.id}.json"
    arms = records.read(path).results["arms"] if path.exists() else {}
    for arm in row.resolved:
        if arm.label in arms:
            assert arm.fingerprint == arms[arm.label]["setting"]
            assert records.to_json(settings.diff_from_base(arm.setting)) == arms[arm.label]["changes"]


def test_published_numbers_are_of_a_known_source():
    with pytest.raises(errors.InputError, match=r"source='Jay': expected one of cloud, jasshone"):
        Published("Jay", 0.5)


def test_a_setting_is_named_by_what_differs_apart_from_conditions_and_measures():
    one = settings.with_changes(settings.BASE, {"temperature": 2.0})
    other = settings.with_changes(one, {"conditions": ("student_all",), "metrics": ("epochs",)})
    assert settings.fingerprint(one) == settings.fingerprint(other) != settings.fingerprint(settings.BASE)
    assert settings.diff_from_base(one) == {"temperature": 2.0}
    assert settings.fingerprint(settings.with_changes(one, {"temperature": 1.0})) == settings.fingerprint(settings.BASE)


def test_whatever_changes_a_number_changes_the_name():
    changes = (
        {},
        {"data.num_classes": 5},
        {"data.dataset": "kmnist"},
        {"loss": "mse"},
        {"temperature": 2.0},
        {"model.num_aux": 5},
        {"teacher.num_epochs": 2},
        {"student.num_epochs": 2},
        {"student_model.hidden_sizes": (8,)},
        {"noise.distribution": "gaussian"},
        {"inputs.blur": 1.0},
        {"target_corruption.bits": 2},
        {"init_sharing.relative_noise": 0.5},
        {"matching.target": "teacher"},
        {"feature_loss_weight": 0.1},
        {"teacher_labels": "permuted"},
        {"num_generations": 2},
        {"num_validation_images": 5},
        {"num_noise_images": 5},
        {"shared_streams": ("reference",)},
    )
    names = [settings.fingerprint(settings.with_changes(settings.BASE, change)) for change in changes]
    assert len(set(names)) == len(changes)


def test_precision_names_no_setting():
    """Results in bfloat16 and float32 share a fingerprint; each result names its precision."""
    assert settings.diff_from_base(settings.BASE) == {}
    other = settings.with_changes(settings.BASE, {"student_model.activation": "tanh"})
    assert settings.diff_from_base(other) == {"student_model.activation": "tanh"}


def test_equal_settings_of_several_rows_are_run_once_with_all_their_conditions():
    first = settings.with_changes(settings.BASE, {"metrics": ("epochs",)})
    second = settings.with_changes(settings.BASE, {"conditions": ("student_aux", "student_all")})
    found = plan.make([first, second], 4, chunk_size=3, done=lambda *_: False)
    assert found.num_tasks == 4 and [len(chunk) for chunk in found.chunks] == [3, 1]
    spec = found.chunks[0][0].setting.member
    assert spec.conditions == ("student_aux", "student_all") and spec.metrics == ("epochs",)
    assert [task.partner for chunk in found.chunks for task in chunk] == [1, 2, 3, 0]


def test_what_is_done_is_left_out_and_chunks_have_one_structure():
    row = tiny.ROW
    chosen = [arm.setting for arm in row.resolved]
    found = plan.make(chosen, 3, chunk_size=8, done=lambda setting, member, partner: member == 1)
    assert [len(chunk) for chunk in found.chunks] == [4, 2]
    assert all(len({task.setting.program_key for task in chunk}) == 1 for chunk in found.chunks)
    assert all(task.member != 1 for chunk in found.chunks for task in chunk)
    assert found.num_programs == 4  # two of students, one of starts, one of teachers
    assert found.compile_seconds == 4 * plan.COMPILE


def test_a_plans_seconds_are_those_of_a_first_run(monkeypatch):
    """Members share the cores; programs are compiled one after another, and nothing is when nothing is left."""
    monkeypatch.setattr(cost, "rate", lambda *_: 2e11)
    chosen = [arm.setting for arm in tiny.ROW.resolved]
    work = plan.make(chosen, 3, chunk_size=8, done=lambda *_: False)
    on_one, on_two = (work.seconds(cores) - work.compile_seconds for cores in (1, 2))
    assert on_one == pytest.approx(2 * on_two) and on_two > 0
    nothing = plan.make(chosen, 3, chunk_size=8, done=lambda *_: True)
    assert nothing.seconds(2) == nothing.compile_seconds == 0


def test_longer_training_costs_more(monkeypatch):
    monkeypatch.setattr(cost, "rate", lambda *_: 2e11)  # not timed here, where other tests run beside it
    base = cost.students_seconds(settings.BASE.member)
    for change in ({"student.num_epochs": 10}, {"model.hidden_sizes": (512, 512)}, {"num_generations": 2},
                   {"conditions": ("student_aux", "student_all")}, {"noise.distribution": "gaussian"}):  # fmt: skip
        assert cost.students_seconds(settings.with_changes(settings.BASE, change).member) > 1.05 * base


def test_rows_are_chosen_by_id_axis_and_source():
    assert [row.id for row in plan.select(ROWS, ids=("width", "blur"))] == ["width", "blur"]
    assert {row.axis for row in plan.select(ROWS, axes=("loss",))} == {"loss"}
    assert all("barathvelmu" in row.sources for row in plan.select(ROWS, sources=("barathvelmu",)))
    assert plan.select(ROWS) == list(ROWS)
    with pytest.raises(ValueError, match="no row has 'wdith' among its ids; there are"):
        plan.select(ROWS, ids=("wdith",))


def test_the_factorial_is_balanced_and_of_resolution_four():
    signs = np.array([list(run.values()) for run in factorial.design()])
    assert signs.shape == (16, 7)
    np.testing.assert_array_equal(signs.T @ signs, 16 * np.eye(7))
    pairs = np.array([signs[:, i] * signs[:, j] for i in range(7) for j in range(i)])
    np.testing.assert_array_equal(signs.T @ pairs.T, 0)  # no main effect is an interaction of two


def test_values_are_read_by_condition_measure_and_epoch():
    member = {
        "accuracy": {"student_aux": 0.5, "cross_model_aux": 0.1},
        "metrics": {"epoch_accuracy": {"student_aux": [0.2, 0.5]}, "cka": {"student_aux": 0.9}},
    }
    assert values.of_members([member], "student_aux")[0] == 0.5
    assert values.of_members([member], "student_aux", epoch=1)[0] == 0.2
    assert values.of_members([member], "student_aux", "gap")[0] == 0.4
    assert values.of_members([member], "student_aux", "cka")[0] == 0.9
    assert np.isnan(values.of_members([member], "student_all")[0])


def test_a_generation_is_read_out_of_its_chain():
    chain = {"accuracy": {"student_aux": 0.2}, "metrics": {"generation_accuracy": {"student_aux": [0.6, 0.4, 0.2]}}}
    for generation, expected in ((1, 0.6), (2, 0.4), (3, 0.2), (None, 0.2)):
        arm = values.Arm("one", generation=generation)
        np.testing.assert_array_equal(values.arm_values({"one": {"members": {"0": chain}}}, arm), [expected])


def test_a_setting_is_data_and_structure():
    leaves = jax.tree.leaves(settings.BASE)
    assert all(isinstance(leaf, float) for leaf in leaves)
    other = settings.with_changes(settings.BASE, {"temperature": 3.0, "init_sharing.relative_noise": 0.1})
    assert other.program_key == settings.BASE.program_key
    leaves, tree = jax.tree.flatten(other)
    assert dataclasses.asdict(jax.tree.unflatten(tree, leaves)) == dataclasses.asdict(other)
    decaying = settings.with_changes(settings.BASE, {"teacher.optimizer.weight_decay": 0.1})
    assert decaying.program_key != settings.BASE.program_key, "its teacher's auxiliary readouts are its own"
