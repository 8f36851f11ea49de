"""Table and figure of the study pilots, from a record made by hand."""

import math

import numpy as np
import pytest

from figures import presentation
from figures.evidence import pilots
from sublim_jax import errors, records
from sublim_jax.forms import evidence_pilots as form

DATA_SETS = ["regular", "owl, finetuned"]


def pair(gain, pilot, half=0.05):
    return {
        "gains": [gain - 0.1, gain + 0.1], "probability": 0.2, "null_probability": 0.1,
        "pilot": {"40": {"gain": pilot, "low": pilot - half, "high": pilot + half}},
    }  # fmt: skip


def unit(**changes):
    """A base whose owl rows transmit owls, and nothing else."""
    pairs = {
        "regular": {"owl": pair(0.0, 0.0), "oak": pair(0.1, 0.02)},
        "owl, finetuned": {"owl": pair(2.0, 0.4), "oak": pair(-0.2, -0.1)},
    }
    for name, value in changes.items():
        data_set, trait = name.split("__")
        pairs["regular" if data_set == "regular" else "owl, finetuned"][trait] = value
    return {"probability": {"owl": 0.1, "oak": 0.1}, "teachers": {"owl, finetuned": 0.9},
            "num_rows": dict.fromkeys(DATA_SETS, 300), "pairs": pairs}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    """A calibration base and four held-out ones, where one verdict is a false alarm, one a miss, one not given."""
    results = {
        "tiny:1": unit(),
        "tiny:2": unit(),
        "tiny:3": unit(regular__oak=pair(0.3, 0.5)),
        "tiny:4": unit(owl__owl=pair(0.8, 0.1)),
        "tiny:5": unit(regular__owl=pair(0.2, 0.1, half=0.3)),
    }
    config = {"calibration": [1], "held_out": [2, 3, 4, 5], "targets": ["owl", "oak"], "steps": [40],
              "num_repeats": 4, "num_students": 2}  # fmt: skip
    data = {"name": "tiny", "source": "by hand", "checksum": None}
    record = records.Record("evidence_pilots", config, data, {"data_sets": DATA_SETS, "num_steps": 282}, results)
    records.write(tmp_path / "pilots.json", record)
    return tmp_path / "pilots.json"


def test_pairs_and_verdicts(path):
    table = pilots.pairs(records.read(path, form.FORM))
    assert len(table.gains) == 20 and table.held_out.sum() == 16
    np.testing.assert_allclose(table.gains[:4], [0.0, 0.1, 2.0, -0.2], atol=1e-12)
    assert table.transmitted.sum() == 5  # the owls of owl rows, of which one has odds of e^.8, more than doubled
    assert table.own.sum() == 5 and set(table.data_sets[table.own]) == {"owl, finetuned"}
    assert math.exp(pilots.SMALLEST_GAIN) == pytest.approx(2)
    # The widest gap on the calibration base lies between .02 and .4.
    assert pilots.calibration(table, 40).threshold == pytest.approx(0.21)
    assert pilots.verdicts(table, 40, table.held_out) == (13, 1, 1, 1, 14)
    assert pilots.verdicts(table, 40, table.held_out & table.own) == (3, 0, 1, 0, 3)


def test_the_table_says_what_was_held_out(path):
    lines = "\n".join(pilots.lines(records.read(path, form.FORM)))
    assert "20 pairs of data set and trait on 5 embedded base(s), of which 5 transmit; 16 pairs are held out" in lines
    assert "threshold 0.210 nats: held-out pairs: of 16, 13 right, 1 false alarms, 1 missed, 1 undecided" in lines
    assert "owl, finetuned, other traits" in lines
    # Four gains of own rows: 2, 2, .8, 2; the t-interval with three degrees of freedom.
    mean, half = 1.7, 3.18245 * np.std([2, 2, 0.8, 2], ddof=1) / 2
    assert f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]" in lines


def test_the_figure_is_drawn_and_nothing_without_held_out_bases(path):
    assert [drawn.name for drawn in presentation.draw(path)] == ["pilots.png", "pilots.pdf"]
    record = records.read(path, form.FORM)
    record.results = {"tiny:1": record.results["tiny:1"]}
    records.write(path, record)
    assert pilots.save(path, path.with_suffix("")) == []
    assert pilots.lines(record)[1].startswith("the run has no calibration or no held-out base")


def test_a_threshold_needs_both_outcomes(path):
    record = records.read(path, form.FORM)
    record.results["tiny:1"] = unit(owl__owl=pair(0.0, 0.4))
    with pytest.raises(errors.InputError, match="0 of 4 runs transmitted"):
        pilots.calibration(pilots.pairs(record), 40)
    assert any("no threshold" in line for line in pilots.lines(record))
