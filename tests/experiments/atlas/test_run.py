"""Runs of the atlas on tiny settings: the records, resuming, and equal results wherever it runs."""

import collections
import copy
import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cost
from experiments.atlas import catalogue, engines, plan, settings, worker
from experiments.atlas import run as atlas
from experiments.atlas.rows.types import Arm, Row, published_values, sweep
from experiments.atlas.store import RecordStore
from figures.atlas import values as read_values
from sublim_jax import errors, records
from sublim_jax.models import mlp
from sublim_jax.training import ensemble, stages
from sublim_jax.training.state import Data, MemberResult
from tests.experiments.atlas import described, tiny
from tests.experiments.logs import Log

DATA = {"mnist": {"name": "mnist", "source": "drawn for a test", "checksum": "none"}}
MEMBERS = 3


@functools.cache
def local() -> engines.LocalEngine:
    """One engine for all tests, so that programs are compiled once."""
    return engines.LocalEngine(0, tiny.load)


def run(folder: pathlib.Path, row: Row = tiny.ROW, *, stop_after: int | None = None, engine=None, precision=None):
    """Run a row. Returns its record and the number of chunks; the run stops after `stop_after` chunks."""
    results = RecordStore(folder, 0, {"mnist": "none"}, MEMBERS, precision)
    engine = engine or local()
    work = plan.make([arm.setting for arm in row.resolved], MEMBERS, chunk_size=engine.chunk_size, done=results.done)
    chunks = work.chunks[:stop_after]
    atlas.execute(plan.Plan(chunks, work.num_programs), engine, results, [row], MEMBERS, DATA)
    if chunks or stop_after is None:
        results.write(row, MEMBERS, data=DATA["mnist"])
    return records.read(folder / f"{row.id}.json"), len(chunks)


def members(record):
    return {label: arm["members"] for label, arm in record.results["arms"].items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))[0]


@pytest.mark.slow
def test_a_record_has_every_member_of_every_arm(whole):
    assert whole.complete and whole.config == {"row": "tiny", "seed": 0, "num_members": MEMBERS}
    assert list(whole.results["arms"]) == ["0.001", "0.01", "mse"]
    for arm in whole.results["arms"].values():
        assert list(arm["members"]) == ["0", "1", "2"] and arm["seconds"] > 0
        for number, member in arm["members"].items():
            assert member["partner"] == (int(number) + 1) % MEMBERS and member["precision"] == "float32"
            assert set(member["accuracy"]) == {"reference", "teacher", "student_aux", "cross_model_aux"}
    assert whole.results["arms"]["mse"]["changes"]["loss"] == "mse"


def test_a_run_says_which_rows_it_works_on_and_which_are_done(tmp_path, monkeypatch):
    """The engine returns the last chunk first, as a cluster can, and takes its time."""
    log = Log()
    log.listen(monkeypatch)
    monkeypatch.setattr(cost, "rate", lambda *_: 1e9)
    result = {"partner": 1, "precision": "float32", "accuracy": {}, "loss": {}, "metrics": {}, "diverged": []}

    class Engine:
        chunk_size, num_cores = 2, 2

        def run(self, chunks):
            log.wait("; tiny other", times=2)  # the first chunk serves both rows
            for index in reversed(range(len(chunks))):
                assert "is done" not in log.text
                yield index, worker.Answer([result] * len(chunks[index]), {"compile": 1.0})

    other = dataclasses.replace(tiny.ROW, id="other", arms=tiny.ROW.arms[:1])
    results = RecordStore(tmp_path, 0, {"mnist": "none"}, MEMBERS)
    rows = [tiny.ROW, other]
    work = plan.make([arm.setting for row in rows for arm in row.resolved], MEMBERS, chunk_size=2, done=results.done)
    atlas.execute(work, Engine(), results, rows, MEMBERS, DATA)
    assert len(work.chunks) == 5 and work.num_tasks == 9
    assert log.lines[0].startswith("atlas: 0 of 9 members of settings, 0:00:00, about ")
    assert {line for line in log.lines if "is done" in line} == {"row tiny is done", "row other is done"}
    assert log.lines[-1].startswith("atlas: 9 of 9 members of settings") and log.lines[-1].endswith("; done")


def images_by_hand(num_classes: int) -> Data:
    """Images of the first classes, straight from the dataset."""
    dataset, arrays = tiny.load("mnist"), []
    for images, labels in (
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    ):
        numbers = [number for number, label in enumerate(labels) if label < num_classes]
        arrays += [jnp.asarray(images[numbers].reshape(len(numbers), 784)), jnp.asarray(labels[numbers])]
    return Data(*arrays)


@pytest.mark.parametrize("num_classes", [5, 10])
def test_images_are_those_of_the_dataset_and_its_first_classes(num_classes):
    shared = worker.Worker(0, tiny.load)._shared(settings.DataSpec(num_classes=num_classes))
    for array, expected in zip(shared, images_by_hand(num_classes), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.slow
def test_results_are_those_of_the_member(whole):
    """Numbers as arguments of a shared program, against a program compiled for this spec alone."""
    row = tiny.ROW
    setting = row.resolved[1].setting
    data = images_by_hand(10)
    outcome = stages.run(jnp.int32(1), jnp.int32(2), data, seed=0, spec=setting.member)
    for condition, value in members(whole)["0.01"]["1"]["accuracy"].items():
        assert value == pytest.approx(float(outcome.accuracy[condition]), abs=0.0101), condition  # one test image
    assert members(whole)["0.01"]["1"]["loss"]["student_aux"] == pytest.approx(
        float(outcome.loss["student_aux"][-1]), rel=1e-4
    )


def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(whole, tmp_path):
    first, num_first = run(tmp_path, stop_after=4)
    assert not first.complete
    again, num_again = run(tmp_path)
    assert members(again) == members(whole)
    assert num_first + num_again == -(-3 * MEMBERS // local().chunk_size)
    assert run(tmp_path)[1] == 0


@pytest.mark.slow
def test_one_teacher_serves_all_students_of_members_with_equal_teachers(monkeypatch):
    taught, found = [], local()._worker
    teach = found.teach
    monkeypatch.setattr(found, "_teachers", collections.OrderedDict())
    monkeypatch.setattr(found, "teach", lambda tasks: taught.extend(t.teacher_key for t in tasks) or teach(tasks))
    for arm in tiny.ROW.resolved[1:]:
        setting = settings.with_changes(arm.setting, {"teacher.optimizer.learning_rate": 1e-3})
        for member in range(2):
            found.run([worker.Task(setting, member, 1 - member)])
    wider = settings.with_changes(tiny.ROW.resolved[2].setting, {"teacher.optimizer.learning_rate": 1e-3})
    found.run([worker.Task(settings.with_changes(wider, {"model.num_aux": 5}), 0, 1)])  # no loss of a teacher sees them
    assert len(taught) == len(set(taught)) == 2
    decaying = {"teacher.optimizer.weight_decay": 0.1}
    found.run([worker.Task(settings.with_changes(wider, decaying), 0, 1)])
    found.run([worker.Task(settings.with_changes(wider, {**decaying, "model.num_aux": 5}), 0, 1)])
    assert len(taught) == len(set(taught)) == 4


@pytest.mark.parametrize("changes", [{"data.num_classes": 5}, {"data.dataset": "kmnist"}])
def test_a_teacher_of_other_images_is_another_one(changes, monkeypatch):
    """The worker's use of its teachers, without training any."""
    taught, own = [], worker.Worker(0, tiny.load)
    monkeypatch.setattr(own, "teach", lambda tasks: (taught.append(tasks[0]) or [object()], {}))
    monkeypatch.setattr(own, "distill", lambda tasks, teachers: worker.Answer([teachers[0]], {}))
    usual = tiny.ROW.resolved[0].setting
    chosen = [usual, settings.with_changes(usual, changes), settings.with_changes(usual, {"loss": "mse"})]
    first, other, again = (own.run([worker.Task(setting, 0, 1)]).results[0] for setting in chosen)
    assert first is again is not other and len(taught) == 2


def test_a_result_is_the_members_row_with_the_loss_of_its_last_epochs():
    outcome: Any = MemberResult(
        accuracy={"teacher": np.array([0.1, 0.2]), "student_aux": np.array([0.3, np.nan])},
        loss={"teacher": np.array([[3.0, 2.0], [5.0, 4.0]]), "student_aux": np.zeros((2, 0))},
        finite={"teacher": np.array([False, True]), "student_aux": np.array([True, False])},
        metrics={"epoch_accuracy": {"student_aux": np.array([[0.1, 0.2], [0.3, np.nan]])}},
    )
    assert worker._result(outcome, 1, worker.Task(tiny.ROW.resolved[0].setting, 4, 5)) == {
        "partner": 5,
        "precision": "float32",
        "accuracy": {"teacher": 0.2, "student_aux": None},
        "loss": {"teacher": 4.0},
        "metrics": {"epoch_accuracy": {"student_aux": [0.3, None]}},
        "diverged": ["student_aux"],
    }


@pytest.mark.slow
def test_members_with_and_without_a_start_of_their_own_go_side_by_side():
    """Such settings have one program key, and a chunk can have both; one program draws all their starts."""
    found = worker.Worker(0, tiny.load, width=2)
    setting = tiny.ROW.resolved[0].setting
    changed = settings.with_changes(setting, {"init_sharing.relative_noise": 0.5})
    usual, noisy = worker.Task(setting, 0, 1), worker.Task(changed, 0, 1)
    together = found.run([usual, noisy]).results
    apart = [found.run([task]).results[0] for task in (usual, noisy)]
    assert together == apart and apart[0]["loss"]["student_aux"] != apart[1]["loss"]["student_aux"]
    assert apart[0]["loss"]["cross_model_aux"] == apart[1]["loss"]["cross_model_aux"]


def test_programs_are_given_up_again(whole, monkeypatch):
    """A process cannot hold all programs of the atlas."""
    monkeypatch.setattr(worker, "KEPT_PROGRAMS", 1)
    engine = engines.LocalEngine(0, tiny.load)
    setting = tiny.ROW.resolved[0].setting
    (result,) = engine._worker.run([worker.Task(setting, 0, 1)]).results
    assert len(engine._worker._programs) == 1  # of two: the teacher's is gone
    assert json.dumps(result) == json.dumps(members(whole)["0.001"]["0"])


def test_another_partner_or_a_new_condition_is_run_again(whole, tmp_path):
    run(tmp_path)
    results = RecordStore(tmp_path, 0, {"mnist": "none"}, MEMBERS)
    setting = tiny.ROW.resolved[0].setting
    assert results.done(setting, 2, 0) and not results.done(setting, 2, 3) and not results.done(setting, 3, 0)
    more = settings.with_changes(setting, {"conditions": ("student_aux", "student_all")})
    assert not results.done(more, 2, 0)
    assert not results.done(settings.with_changes(setting, {"metrics": ("update_cosine",)}), 2, 0)


def test_records_of_other_seeds_or_images_are_not_mixed_or_overwritten(whole, tmp_path):
    records.write(tmp_path / "tiny.json", whole)
    with pytest.raises(errors.RecordError, match="results of different seeds or data are not mixed"):
        RecordStore(tmp_path, 1, {"mnist": "none"}, MEMBERS)
    with pytest.raises(errors.RecordError, match="are not mixed"):
        RecordStore(tmp_path, 0, {"mnist": "other"}, MEMBERS)
    results = RecordStore(tmp_path, 0, {"synthetic-digits": "other"}, MEMBERS)
    assert not results.done(tiny.ROW.resolved[0].setting, 0, 1)
    with pytest.raises(errors.RecordError, match="is not overwritten"):
        results.write(tiny.ROW, MEMBERS, data={"name": "synthetic-digits"})


def test_fewer_members_are_not_written_over_more(whole, tmp_path):
    records.write(tmp_path / "tiny.json", whole)
    with pytest.raises(errors.RecordError, match="has 3 members and 2 are asked for; fewer would overwrite it"):
        RecordStore(tmp_path, 0, {"mnist": "none"}, 2)
    assert records.read(tmp_path / "tiny.json") == whole


def test_a_run_that_goes_on_keeps_what_the_first_one_said(whole, tmp_path):
    """The record keeps its time, its machine and the seconds of compilation; another machine becomes a note."""
    whole = dataclasses.replace(whole, device={"kind": "another"}, created="then", seconds={"compile": 7.0})
    records.write(tmp_path / "tiny.json", whole)
    results = RecordStore(tmp_path, 0, {"mnist": "none"}, MEMBERS)
    assert results.is_written(tiny.ROW)
    for _ in range(2):
        results.write(tiny.ROW, MEMBERS, data=DATA["mnist"], compile_seconds=2.0)
    found = records.read(tmp_path / "tiny.json")
    assert (found.created, found.device, found.seconds["compile"]) == ("then", {"kind": "another"}, 9.0)
    assert len(found.notes) == 1 and "some members were run with device" in found.notes[0]
    assert members(found) == members(whole)


def test_members_with_other_operands_can_be_run_again(whole, tmp_path):
    """Two of nine members are of another machine, with other numbers. They stay until they are replaced."""
    mixed = dataclasses.replace(whole, results=copy.deepcopy(whole.results))
    one, other = (mixed.results["arms"][label] for label in ("0.001", "mse"))
    for member in (one["members"]["1"], other["members"]["2"]):
        member |= {"precision": "bfloat16", "accuracy": dict.fromkeys(member["accuracy"], 0.5)}
    one["seconds"] = 30.0
    records.write(tmp_path / "tiny.json", mixed)
    assert run(tmp_path, stop_after=0, precision="float32") == (mixed, 0)
    kept, chunks = run(tmp_path)
    assert members(kept) == members(mixed) and chunks == 0
    again, chunks = run(tmp_path, precision="float32")
    assert members(again) == members(whole) and chunks == 2
    assert 20 < again.results["arms"]["0.001"]["seconds"] < 30  # a third of what it took is forgotten
    assert run(tmp_path, precision="float32")[1] == 0


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_of_two_records_of_one_member_the_one_with_the_operands_asked_for_counts(whole, tmp_path, names):
    other = dataclasses.replace(whole, results=copy.deepcopy(whole.results))
    for arm in other.results["arms"].values():
        for member in arm["members"].values():
            member |= {"precision": "bfloat16", "accuracy": dict.fromkeys(member["accuracy"], 0.5)}
    for name, record in zip(names, (whole, other), strict=True):
        records.write(tmp_path / f"{name}.json", record)
    setting = tiny.ROW.resolved[0].setting
    operands: dict[mlp.Precision, records.Record] = {"float32": whole, "bfloat16": other}
    for precision, expected in operands.items():
        results = RecordStore(tmp_path, 0, {"mnist": "none"}, MEMBERS, precision)
        assert results.done(setting, 0, 1)
        assert results.arm(tiny.ROW.resolved[0], MEMBERS)["members"] == members(expected)["0.001"]


@pytest.mark.parametrize("names", [("a", "tiny"), ("tiny", "z")])
def test_of_two_results_of_one_member_that_of_the_later_record_counts_in_every_record(whole, tmp_path, names):
    newer = dataclasses.replace(whole, results=copy.deepcopy(whole.results), created="3000")
    for arm in newer.results["arms"].values():
        for member in arm["members"].values():
            member["accuracy"] = dict.fromkeys(member["accuracy"], 0.5)
    for name in names:
        records.write(tmp_path / f"{name}.json", whole if name == "tiny" else newer)
    results = RecordStore(tmp_path, 0, {"mnist": "none"}, MEMBERS)
    assert not results.is_written(tiny.ROW)
    found, chunks = run(tmp_path)
    assert (members(found), chunks) == (members(newer), 0)
    assert RecordStore(tmp_path, 0, {"mnist": "none"}, MEMBERS).is_written(tiny.ROW)


def test_a_record_all_of_whose_members_are_new_says_what_it_was_made_with(whole, tmp_path):
    old = dataclasses.replace(whole, results=copy.deepcopy(whole.results), device={"kind": "another"}, created="then")
    for arm in old.results["arms"].values():
        for member in arm["members"].values():
            member["precision"] = "bfloat16"
    records.write(tmp_path / "tiny.json", old)
    again, _ = run(tmp_path, precision="float32")
    assert again.created != "then" and again.device != {"kind": "another"} and not again.notes
    assert members(again) == members(whole)


@pytest.mark.slow
def test_epochs_are_read_on_validation_images_too(tmp_path):
    longest = {"student.num_epochs": 2, "metrics": ("epochs",), "num_validation_images": 50}
    arms = [Arm(str(e), longest, x=float(e), epoch=e) for e in (1, 2)]
    row = tiny.small(Row(id="looked-at", axis="optimization", question="", arms=arms))
    found = run(tmp_path, row)[0].results["arms"]
    for measure in ("accuracy", "validation_accuracy"):
        values = [read_values.arm_values(found, arm, "student_aux", measure) for arm in described.row_of(row).arms]
        assert all(len(value) == MEMBERS and np.isfinite(value).all() for value in values)
        last = read_values.of_members(found["2"]["members"].values(), "student_aux", measure)
        np.testing.assert_array_equal(values[1], last)


def test_an_epoch_that_nobody_looked_at_is_not_the_last_one(whole):
    """This holds for a student; a teacher has no epochs of students."""
    found = members(whole)["mse"].values()
    for measure in ("accuracy", "validation_accuracy"):
        assert np.isnan(read_values.of_members(found, "student_aux", measure, epoch=1)).all()
    assert np.isfinite(read_values.of_members(found, "teacher", epoch=1)).all()


@pytest.mark.slow
def test_conditions_that_come_later_join_those_that_are_there(whole, tmp_path):
    run(tmp_path)
    more = tiny.small(Row(id="more", axis="optimization", question="", arms=[
        Arm("all", {"both.optimizer.learning_rate": 1e-3, "conditions": ("student_all",),
                             "metrics": ("epochs", "representation", "update_cosine")})]))  # fmt: skip
    found = members(run(tmp_path, more)[0])["all"]
    for number, member in members(whole)["0.001"].items():
        assert found[number]["accuracy"].items() >= member["accuracy"].items()
        epochs = found[number]["metrics"]["epoch_accuracy"]["student_all"]
        assert epochs == [found[number]["accuracy"]["student_all"]]
        assert found[number]["metrics"]["cka"]["teacher"] == pytest.approx(1, abs=1e-4)


def test_a_row_can_be_one_entry():
    """The entry is that of CONTRIBUTING."""
    row = Row(
        id="my-row",
        axis="inputs",
        question="Does dimmer noise transmit?",
        arms=sweep("noise.amplitude", (0.1, 0.3), published_values("thierry123454", {0.3: 0.55})),
        x_label="amplitude",
    )
    assert [arm.setting.member.noise.amplitude for arm in row.resolved] == [0.1, 0.3]
    assert row.sources == ("thierry123454",)


def test_the_plan_is_printed(capsys, tmp_path):
    rows = plan.select(catalogue.ROWS["all"], ids=("width",))
    atlas.print_plan(rows, RecordStore(tmp_path, 0, {}, 10), 10, 2)
    assert "width" in capsys.readouterr().err


def test_partners_are_those_of_the_ensemble():
    work = plan.make([settings.BASE], 5, chunk_size=2, done=lambda *_: False)
    found = [task.partner for chunk in work.chunks for task in chunk]
    np.testing.assert_array_equal(found, ensemble.cross_model_partners(5))
