"""The scaffold of studies, with a study of two units that counts: resuming, notes, the command."""

import pytest

from experiments import units
from experiments.evidence import __main__ as command
from experiments.evidence import forecast, studies
from experiments.study import Study
from sublim_jax import errors, records

FORM = records.Form(
    experiment="evidence_count",
    results=dict[str, dict[str, int]],
    wanted=lambda record: ["a", "b"],
    present=lambda record: list(record.results),
)


def study(measured, fails=(), **settings):
    def measure(source, config, unit, report):
        if unit in fails:
            raise KeyboardInterrupt
        report("counting")
        measured.append(unit)
        return {"number": len(unit)}

    return Study(
        name="count", doc="How many?\n\nMore.", presets={"default": forecast.ForecastConfig()}, form=FORM,
        units=lambda config: ["a", "b"], measure=measure, **settings,
    )  # fmt: skip


def test_a_stopped_run_resumes_with_what_is_missing(tmp_path):
    measured, config, path = [], forecast.ForecastConfig(), tmp_path / "record.json"
    with pytest.raises(KeyboardInterrupt):
        units.run(study(measured, fails=("b",), reads_images=lambda config: False), config, record=path, visible=False)
    assert records.read(path, FORM).complete is False
    units.run(study(measured, reads_images=lambda config: False), config, record=path, resume=True, visible=False)
    assert measured == ["a", "b"]
    record = records.read(path, FORM)
    assert record.complete
    assert record.results == {"a": {"number": 1}, "b": {"number": 1}}
    assert set(record.seconds) == {"a", "b"}
    units.run(study(measured, reads_images=lambda config: False), config, record=path, resume=True, visible=False)
    assert measured == ["a", "b"]


def test_synthetic_digits_are_named_in_the_record(small_digits, monkeypatch):
    monkeypatch.setattr(units.datasets, "load", lambda **_: small_digits)
    record = units.run(study([]), forecast.ForecastConfig(), visible=False)
    assert record.data["name"] == "synthetic-digits"
    assert "not MNIST" in record.notes[0]


def test_the_command_lists_studies_and_refuses_others(capsys):
    command.main([])
    listed = capsys.readouterr().out
    assert all(f"  {name}" in listed and study.question in listed for name, study in studies.STUDIES.items())
    with pytest.raises(errors.InputError, match=r"expected a study first, one of .*forecast.*, got 'forcast'"):
        command.main(["forcast"])


@pytest.mark.parametrize("name", studies.STUDIES)
def test_every_study_asks_a_question_and_has_presets(name):
    chosen = studies.STUDIES[name]
    assert chosen.question.endswith("?")
    assert f"experiments.evidence {name}" in chosen.doc
    assert {"default", "record", "smoke"} <= set(chosen.presets)
    assert chosen.form.experiment == chosen.record_name
    for config in chosen.presets.values():
        assert chosen.units(config)
