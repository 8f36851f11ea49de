"""The experiment on directions as a study: its units and description, and a run at toy size, stopped and resumed."""

import dataclasses

import numpy as np
import pytest

from experiments import units
from experiments.directions import study
from experiments.directions.config import PRESETS, DirectionsConfig
from experiments.study import Source
from sublim_jax import records
from sublim_jax.data import datasets
from sublim_jax.forms import directions as form

TOY = DirectionsConfig(
    num_references=2, bases=(0, 1), beds=("digits", "flow"), ranks=(1, 4), doses=(0.5,), num_neutral=20, pooling=7,
    hidden_sizes=(8, 6), num_aux=4, num_steps=20, batch_size=16, num_tested=50, flow_hidden_sizes=(16,),
    num_base_steps=20, num_samples=20, num_judge_epochs=2, largest_judge_error=1.0,
)  # fmt: skip


def test_units_take_the_beds_in_turn_and_the_description_names_every_edit():
    config = PRESETS["record"]
    names = study.units(config)
    assert names[:5] == ["digits 0", "flow 0", "language 0", "language-full 0", "digits 1"] and len(names) == 32
    assert form.bed_of("language-full 12") == "language-full"
    description = study.describe(config)["beds"]
    assert list(description) == list(config.beds) and description["digits"]["shares"] == ["A", "B"]
    assert description["digits"]["ranks"][-1] == 128 and description["language"]["ranks"] == [1, 2, 4, 8, 16]
    row = description["flow"]["edits"]["student less mean vector, layer 3"]
    assert row == {"kind": "shifted", "source": "mean", "amount": -1.0, "layer": 2}
    assert len(set(config.bases)) == len(config.bases) == config.num_references


@pytest.mark.parametrize(
    ("beds", "expected"),
    [
        (("language",), "tiny"),
        (("language-full", "language"), "tiny"),
        (("digits",), "small"),
        (("flow", "language"), "small"),
    ],
)
def test_the_record_names_what_its_beds_read(small_digits, monkeypatch, beds, expected):
    images = dataclasses.replace(small_digits, name="small")
    monkeypatch.setattr(datasets, "load", lambda **_: images)
    config = dataclasses.replace(DirectionsConfig(), beds=beds)
    assert units.read(study.STUDY, config, None, print).data["name"] == expected


def test_a_reader_learns_that_a_run_is_reduced_and_what_the_model_is():
    assert not any("reduced" in note for note in study.notes(PRESETS["record"]))
    assert any("reduced" in note for note in study.notes(PRESETS["smoke"]))
    assert any("embedded" in note for note in study.notes(PRESETS["record"]))
    assert study.notes(dataclasses.replace(DirectionsConfig(), beds=("digits",))) == []


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_record(small_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda **_: small_digits)
    whole, stopped = tmp_path / "whole.json", tmp_path / "stopped.json"
    first = units.run(study.STUDY, TOY, record=whole, visible=False)
    assert first.complete
    measured = first.results["flow 1"]
    assert measured["judge"]["error"] <= 1 and set(first.results["digits 0"]) == set(measured) - {"judge"}
    values = first.results["digits 0"]["values"]
    moved = [abs(values[name]["A"] - values["reference"]["A"]) for name in ("teacher", "student", "auditor")]
    assert max(moved) > 0.02
    np.testing.assert_allclose(values["student"]["A"], values["student's matrices"]["A"])  # its readouts have not moved
    seen = []

    def interrupted(source: Source, config, unit, report):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(unit)
        return study.measure(source, config, unit, report)

    with pytest.raises(KeyboardInterrupt):
        units.run(dataclasses.replace(study.STUDY, measure=interrupted), TOY, record=stopped, visible=False)
    assert seen == ["digits 0", "flow 0", "digits 1"]
    study._opened.clear()  # as in another process
    units.run(study.STUDY, TOY, record=stopped, resume=True, visible=False)
    assert records.read(stopped, form.FORM).results == records.read(whole, form.FORM).results
