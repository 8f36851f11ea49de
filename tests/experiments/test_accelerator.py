"""The script for a machine that is lent for minutes: what it skips, stops and says. Its parts run on toys elsewhere."""

import json
import os
import time

import pytest

from experiments import accelerator, mnist_aux
from sublim_jax import records
from tests.experiments import small


@pytest.fixture
def interpreter(tmp_path_factory, monkeypatch):
    """Replaces the Python that parts are started with by a shell script."""

    def make(script: str) -> None:
        path = tmp_path_factory.mktemp("bin") / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(accelerator.sys, "executable", str(path))

    return make


def states(folder, parts, **options):
    outcome = accelerator.run(folder, parts=parts, say=lambda line: None, **options)
    assert json.loads((folder / "summary.json").read_text()) == outcome
    return [part["state"] for part in outcome.values()]


def test_a_part_runs_in_its_own_process_with_the_flags_and_its_output_is_kept(tmp_path, interpreter):
    interpreter('echo "$@"')
    assert states(tmp_path, ["matmul", "atlas"], flags=["--toy"]) == ["done", "done"]
    assert (tmp_path / "atlas.log").read_text() == f"-m experiments.accelerator {tmp_path} --only atlas --toy\n"


def test_a_part_that_fails_does_not_stop_the_others(tmp_path, interpreter):
    interpreter('case "$*" in *matmul*) exit 3;; esac')
    assert states(tmp_path, ["matmul", "atlas"]) == ["failed with exit code 3: see matmul.log", "done"]


def test_a_part_is_stopped_when_the_time_is_over_and_none_is_begun_after(tmp_path, interpreter, monkeypatch):
    monkeypatch.setattr(accelerator, "TOO_SHORT", 0.2)
    interpreter("exec sleep 60")
    first, second = states(tmp_path, ["matmul", "atlas"], seconds=0.5)
    assert first.startswith("cut short") and second == "not run: no time left"


def test_what_is_complete_is_not_run_again_and_what_is_not_is(tmp_path, interpreter):
    interpreter("exit 1")
    (tmp_path / "summary.json").touch()
    (tmp_path / "matmul.json").write_text(json.dumps({"complete": True}))
    (tmp_path / "atlas.json").write_text(json.dumps({"complete": False}))
    (tmp_path / "peer.json").write_text('{"comp')
    (tmp_path / "figure_10-float32.json").write_text(json.dumps({"complete": True}))  # one of three
    matmul, atlas, precisions = states(tmp_path, ["matmul", "atlas", "precisions"])
    assert matmul == "complete before"
    assert atlas.startswith("failed") and precisions.startswith("failed")
    assert not accelerator.is_complete(accelerator.PARTS["peer"], tmp_path)


def test_a_folder_with_other_files_is_refused(tmp_path, interpreter):
    interpreter("exit 0")
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit, match="other files are there"):
        states(tmp_path, ["matmul"])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ['{"accuracy": 0.5}', '["a"]', "years of work", '{"matmul": {"state": "done"}}'])
def test_a_summary_of_something_else_is_refused(tmp_path, interpreter, content):
    interpreter("exit 0")
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(SystemExit, match="other files are there"):
        states(tmp_path, ["matmul"])
    with pytest.raises(SystemExit, match="this is a file"):
        states(tmp_path / "summary.json", ["matmul"])
    assert (tmp_path / "summary.json").read_text() == content


def test_what_a_part_started_ends_with_it(tmp_path, interpreter, monkeypatch):
    monkeypatch.setattr(accelerator, "TOO_SHORT", 0.2)
    interpreter(f"sleep 60 & echo $! > {tmp_path}/child; wait")
    (first,) = states(tmp_path, ["matmul"], seconds=1.0)
    assert first.startswith("cut short")
    child = int((tmp_path / "child").read_text())
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # until its new parent has seen that it ended
            os.kill(child, 0)
            time.sleep(0.05)


def test_missing_packages_are_named_and_the_rest_runs(tmp_path, interpreter, monkeypatch):
    interpreter("exit 0")
    absent = accelerator.Part(accelerator.matmul, ("x.json",), ("jax", "a_package_nobody_has", "nor_this"))
    monkeypatch.setitem(accelerator.PARTS, "matmul", absent)
    assert states(tmp_path, ["matmul", "atlas"]) == ["not run: missing a_package_nobody_has, nor_this", "done"]


def test_the_script_itself_needs_no_package(run_python):
    """Where tyro or even JAX is missing it still says so, part by part."""
    code = "import sys; from experiments import accelerator; print({'jax', 'numpy', 'tyro', 'rich'} & set(sys.modules))"
    done = run_python("-c", code)
    assert done.stdout == "set()\n", done.stderr


def test_utilisation_is_the_counted_work_over_time_and_the_measured_rate(tmp_path):
    """By hand for a student of two conditions: six operations a weight, example and step, less the first layer's."""
    config = small.replaced(
        mnist_aux.PRESETS["default"], num_members=7, conditions=("student_aux", "student_all"), num_noise_images=1000
    )
    description = mnist_aux.describe(config.member.conditions, images_name="mnist")
    data = {"name": "mnist", "source": "", "checksum": None}
    record = records.Record.begin("mnist_aux", config, data, description=description)
    record.seconds = {"data": 5.0, "compile": 30.0, "teacher": 2.0, "student": 1.5, "evaluation": 0.5}
    accuracy = dict.fromkeys(("reference", "teacher", "student_aux", "student_all"), 0.5)
    member = {"accuracy": accuracy, "loss": {}, "diverged": []}
    record.results = {"members": {str(number): member for number in range(7)}}
    record.complete = True
    records.write(tmp_path / "figure_10-bfloat16.json", record)
    rates = records.Record.begin("accelerator.matmul", config, {"name": "", "source": "", "checksum": None})
    rates.results, rates.complete = {"gflops": {"bfloat16": 4000.0}}, True
    records.write(tmp_path / "matmul.json", rates)
    weights, first = 784 * 256 + 256 * 256 + 256 * 13, 784 * 256
    work = 7 * (5 * (6 * weights - 2 * first) * (60_000 + 2 * 1000) + 2 * weights * 1000)
    rate, figure = accelerator.report(tmp_path)
    assert rate == "matrix product, bfloat16: 4.0 TFLOP/s"
    assert f"{work / 4.0 / 4e12:.1%} of the product's rate" in figure
    assert "compilation 30.0 s, training 4.0 s" in figure


def test_the_summary_keeps_what_an_earlier_run_said_of_other_parts(tmp_path, interpreter):
    interpreter("exit 0")
    states(tmp_path, ["matmul"])
    accelerator.run(tmp_path, parts=["atlas"], say=lambda line: None)
    assert list(json.loads((tmp_path / "summary.json").read_text())) == ["matmul", "atlas"]


@pytest.mark.parametrize("flags", [["--seconds", "nan"], ["--seconds", "-1"], ["--cpu-devices", "0"]])
def test_numbers_that_are_no_time_and_no_count_are_refused(tmp_path, flags, capsys):
    with pytest.raises(SystemExit) as end:
        accelerator.main([str(tmp_path / "new"), *flags])
    assert end.value.code == 2 and "expected a finite number above zero" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
