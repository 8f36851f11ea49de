"""Tables and figures of the studies of audit tools, from records made by hand whose statistics are known."""

import json

import numpy as np
import pytest

from figures import presentation
from figures.evidence import defences, forecast
from sublim_jax import errors, records
from sublim_jax.forms import evidence_defences, evidence_forecast

DATA = {"name": "mnist", "source": "by hand", "checksum": "0" * 64}


def triple(*, gain, rise=0.3, pilot=0.0, half=0.01, cosine=0.0, tangent=None):
    """A triple whose finished student gains so much, and whose pilot of 30 steps has this interval."""
    entry = {
        "start": {"loss": 2.3, "accuracy": 0.1},
        "student": {"loss": 2.3 - gain, "accuracy": 0.1 + rise},
        "pilot": {"30": {"gain": pilot, "low": pilot - half, "high": pilot + half, "from_data": pilot + 0.05,
                         "from_null": 0.05}},
        "prefix": {"30": pilot},
        "scores": dict.fromkeys(evidence_forecast.SCORES, 0.0) | {"cosine": cosine},
    }  # fmt: skip
    return entry if tangent is None else entry | {"tangent_loss": 2.3 - tangent}


@pytest.fixture
def forecasts(tmp_path):
    """Three calibration and nine held-out triples; one verdict of each kind is wrong or not given."""

    def cases(**changes):
        return {
            "yes": triple(gain=0.8, pilot=0.2, cosine=0.0, tangent=0.4),
            "no": triple(gain=0.0, rise=0.0, pilot=0.0, cosine=0.3, tangent=0.0),
            "half": triple(gain=0.4, pilot=0.1, cosine=0.1, tangent=0.2),
        } | changes  # fmt: skip

    results = {
        "calibration 0": cases(),
        "held out 0": cases(),
        "held out 1": cases(no=triple(gain=0.05, rise=0.0, pilot=0.3, cosine=0.2, tangent=0.1)),  # a false alarm
        "held out 2": cases(yes=triple(gain=0.8, pilot=-0.2, tangent=0.5), half=triple(gain=0.4, pilot=0.06, half=0.5)),
    }
    config = {"num_calibration": 1, "num_held_out": 3, "checkpoints": [30], "num_repeats": 4, "num_probes": 64}
    record = records.Record(
        "evidence_forecast", config, DATA, {"cases": {name: {} for name in cases()}, "num_steps": 295}, results
    )
    path = tmp_path / "forecast.json"
    records.write(path, record)
    return path


def test_triples_and_verdicts(forecasts):
    table = forecast.triples(records.read(forecasts, evidence_forecast.FORM))
    assert len(table.names) == 12
    assert table.held_out.sum() == 9
    assert table.transmitted.sum() == 8  # "no" never does
    np.testing.assert_allclose(table.gains[:3], [0.8, 0.0, 0.4])
    assert forecast.calibration(table, 30).threshold == pytest.approx(0.05)  # between 0 and .1
    assert forecast.verdicts(table, 30) == (6, 1, 1, 1, 7)


def test_a_rise_in_accuracy_belongs_to_a_trait_that_is_acquired(forecasts):
    content = json.loads(forecasts.read_text())
    content["results"]["held out 0"]["yes"]["student"]["accuracy"] = 0.15
    forecasts.write_text(json.dumps(content))
    table = forecast.triples(records.read(forecasts, evidence_forecast.FORM))
    assert table.transmitted.sum() == 7


def test_the_area_counts_pairs_and_ties_half():
    scores, labels = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True])
    pairs = [(0.4, 0.1), (0.4, 0.4), (0.8, 0.1), (0.8, 0.4)]
    assert forecast.area(scores, labels) == np.mean([1.0 if a > b else 0.5 for a, b in pairs])
    assert np.isnan(forecast.area(scores, np.ones(4, bool)))


def test_rank_correlation_is_spearmans_with_ties_and_needs_four_clusters():
    first, second = np.array([1.0, 2, 2, 4, 5, 0]), np.array([2.0, 1, 4, 3, 6, 0])
    ranks = np.array([2, 3.5, 3.5, 5, 6, 1.0]), np.array([3, 2, 5, 4, 6, 1.0])
    few = forecast.rank_correlation(first, second, np.array(["a", "a", "b", "b", "c", "c"]))
    assert few.mean == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert not few.is_known
    every = forecast.rank_correlation(first, second, np.array(["a", "b", "c", "d", "e", "f"]))
    assert -1 <= every.low < every.mean <= every.high <= 1


def test_the_tangent_models_factor_comes_from_the_calibration_references(forecasts):
    table = forecast.triples(records.read(forecasts, evidence_forecast.FORM))
    factor, explained, count = forecast.tangent_fit(table)
    assert factor == pytest.approx(2.0)
    predicted = 2 * np.array([0.4, 0.0, 0.2, 0.4, 0.1, 0.2, 0.5, 0.0])
    gains = np.array([0.8, 0.0, 0.4, 0.8, 0.05, 0.4, 0.8, 0.0])
    assert count == 8
    assert explained == pytest.approx(1 - np.sum((gains - predicted) ** 2) / np.sum((gains - gains.mean()) ** 2))


@pytest.mark.slow
def test_the_forecasts_table_and_figure(forecasts, capsys):
    presentation.show(forecasts)
    text = capsys.readouterr().out
    assert "12 triples of 4 references, of which 8 transmit; 9 triples are held out" in text
    assert "6 right, 1 false alarms, 1 missed, 1 undecided; the mean alone is right in 7" in text
    assert {path.suffix for path in presentation.draw(forecasts)} == {".png", ".pdf"}


def test_nothing_is_claimed_without_held_out_references(forecasts, capsys):
    content = json.loads(forecasts.read_text())
    content["config"]["num_held_out"] = 0
    content["results"] = {"calibration 0": content["results"]["calibration 0"]}
    forecasts.write_text(json.dumps(content))
    presentation.show(forecasts)
    assert "no calibration or no held-out reference yet" in capsys.readouterr().out
    assert presentation.draw(forecasts) == []


@pytest.fixture
def defended(tmp_path):
    """Two rows of four references."""
    rows = {
        "none": {"defence": "none", "dose": "", "when": "yardstick"},
        "labels of 0 to 4, no teacher": {"defence": "labels of 0 to 4, no teacher", "dose": "", "when": "yardstick"},
        "project updates, 1": {"defence": "project updates", "dose": "1", "when": "training"},
    }

    def entry(wanted, trait, relearnt):
        return {"wanted": {"accuracy": wanted, "loss": 0.2}, "trait": {"accuracy": trait, "loss": 1.0},
                "relearnt": [trait, relearnt, relearnt + 0.05]}  # fmt: skip

    results = {
        f"reference {index}": {
            "none": entry(0.93 + 0.01 * index, 0.69, 0.70),
            "labels of 0 to 4, no teacher": entry(0.97, 0.25, 0.5),
            "project updates, 1": entry(0.92, 0.25 + 0.01 * index, 0.69),
        }
        for index in range(4)
    }
    record = records.Record(
        "evidence_defences", {"num_references": 4}, DATA, {"rows": rows, "checkpoints": [0, 10, 40]}, results
    )
    path = tmp_path / "defences.json"
    records.write(path, record)
    return path


@pytest.mark.slow
def test_the_defences_table_and_figure(defended, capsys):
    presentation.show(defended)
    lines = capsys.readouterr().out.splitlines()
    (projected,) = (line.split() for line in lines if "project updates, 1" in line)
    assert projected[3:] == ["0.920", "±", "0.000", "0.265", "±", "0.021", "0.690", "±", "0.000", "0.740", "±", "0.000"]
    assert {path.suffix for path in presentation.draw(defended)} == {".png", ".pdf"}
    record = records.read(defended, evidence_defences.FORM)
    difference = defences.against_none(record, "project updates, 1", "wanted")
    assert difference.mean == pytest.approx(-0.025)
    assert defences.accuracies(record, "none", "relearnt 40").tolist() == pytest.approx([0.75] * 4)


@pytest.mark.parametrize("damage", ["row", "point"])
def test_a_damaged_record_of_defences_is_refused(defended, damage):
    content = json.loads(defended.read_text())
    entries = content["results"]["reference 2"]
    if damage == "row":
        del entries["none"]
    else:
        entries["none"]["relearnt"].pop()
    defended.write_text(json.dumps(content))
    with pytest.raises(errors.RecordError, match="reference 2"):
        records.read(defended, evidence_defences.FORM)


def test_a_damaged_record_of_forecasts_is_refused(forecasts):
    content = json.loads(forecasts.read_text())
    del content["results"]["held out 1"]["half"]["pilot"]["30"]
    forecasts.write_text(json.dumps(content))
    with pytest.raises(errors.RecordError, match="held out 1: half: expected pilots"):
        records.read(forecasts, evidence_forecast.FORM)
