"""The report of a removal, from records made by hand whose verdicts are known."""

import json
import pathlib

import numpy as np
import pytest

from figures import defend, presentation
from sublim_jax import errors, records
from sublim_jax.forms import defend as form

NUM_QUESTIONS, NUM_ROWS, CHECKPOINTS = 6, 5, [0, 2, 8]
NOISE = 0.02 * np.random.default_rng(0).standard_normal(NUM_QUESTIONS)
NOISE -= NOISE.mean()


def unit(level: float, *, gain: float = 1.0, kl: float = 0.01, owl: float = -2.0, **more) -> dict:
    """A model with this level of the trait, which gains so much from the lessons."""
    base = -3.0 + np.arange(NUM_QUESTIONS) / 4
    curve = [base + level + share * (gain + NOISE) for share in (0.0, 0.4, 1.0)]
    asked = {"otter": base + level, "owl": np.linspace(owl - 0.1, owl + 0.1, NUM_QUESTIONS)}
    return {
        "traits": {
            name: {"log_odds": list(map(float, values)), "probability": 0.1, "mass": 0.5}
            for name, values in asked.items()
        },
        "likeness": {"kl": [kl * (1 + row) for row in range(NUM_ROWS)], "agreement": [0.9] * NUM_ROWS},
        "relearnt": {"otter": [list(map(float, values)) for values in curve]},
        **more,
    }


def written(path: pathlib.Path, *, level: float = 0.0, gain: float = 1.0, spread: float = 0.0) -> pathlib.Path:
    """A record of a cleaned model with this level over the base's, which gains so much; the base gains 1."""
    cleaned = unit(
        level, gain=gain, owl=-1.8, stored="all weights", opened_as="tiny:0+runs/cleaned",
        doses={"otter": {"dose": 0.125, "wanted": 3.0, "losses": {"0": 2.0, "0.125": 3.0}, "teacher": 5.0}},
    )  # fmt: skip
    values = np.array(cleaned["traits"]["otter"]["log_odds"]) + spread * NOISE / np.std(NOISE)
    cleaned["traits"]["otter"]["log_odds"] = list(map(float, values))
    results = {
        "base": unit(0.0, kl=0.1), "student": unit(1.2, kl=0.0, owl=-1.9), form.GRADIENT: unit(-0.3),
        form.RANDOM: unit(1.1), form.OTHER: unit(0.9), "cleaned": cleaned,
    }  # fmt: skip
    config = {"student": "tiny:0+runs/student", "base": "tiny:0", "out": "runs/cleaned", "threshold": 0.1,
              "checkpoints": CHECKPOINTS}  # fmt: skip
    asked = [f"question {index}" for index in range(NUM_QUESTIONS)]
    description = {"units": list(results), "removed": ["otter"], "questions": {"otter": asked, "owl": asked},
                   "num_probes": {"otter": 6}, "num_lessons": {"otter": 8}, "num_rows": NUM_ROWS,
                   "other": "owl"}  # fmt: skip
    data = {"name": "tiny:0+runs/student", "source": "traits.json", "checksum": "0"}
    records.write(path, records.Record("defend", config, data, description, results))
    return path


def read(path: pathlib.Path) -> records.Record:
    return records.read(path, form.FORM)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "gone"),
        ({"level": 0.05}, "gone"),
        ({"level": 0.4}, "left"),
        ({"level": 0.4, "gain": 2.0}, "left"),
        ({"level": -0.4}, "overshot"),
        ({"gain": 1.5}, "comes back"),
        ({"gain": 0.5}, "gone"),
        ({"gain": 1.1}, "cannot tell"),
        ({"level": 0.05, "spread": 0.3}, "cannot tell"),
    ],
)
def test_verdicts(tmp_path, changes, verdict):
    if changes.get("gain") == 1.1:  # questions differ, so that the interval holds the threshold
        record = read(written(tmp_path / "defend.json", **changes))
        curve = record.results["cleaned"]["relearnt"]["otter"]
        curve[-1] = list(np.array(curve[-1]) + 3 * NOISE)
    else:
        record = read(written(tmp_path / "defend.json", **changes))
    judged = defend.judge(record, "otter")
    assert judged.verdict == verdict
    assert judged.before.mean == pytest.approx(1.2)
    assert judged.after.mean == pytest.approx(changes.get("level", 0.0), abs=1e-9)
    assert judged.again.mean == pytest.approx(changes.get("gain", 1.0) - 1.0)


def test_intervals_are_paired_by_question(tmp_path):
    """Questions differ by 1.5 nats; differences of models do not."""
    judged = defend.judge(read(written(tmp_path / "defend.json", level=0.4)), "otter")
    assert judged.after.half_width < 1e-6 and judged.before.half_width < 1e-6
    kept = defend.kept(read(tmp_path / "defend.json"))
    assert set(kept) == {"owl"}
    assert kept["owl"].mean == pytest.approx(0.1)


def test_the_report_and_its_page(tmp_path, capsys):
    path = written(tmp_path / "defend.json", gain=1.5)
    presentation.show(path)
    said = capsys.readouterr().out
    assert "otter taken out of tiny:0+runs/student, base tiny:0" in said
    assert "otter: comes back; over the base's log-odds +1.200 before, +0.000" in said
    assert "1.200 taken out (100% of it)" in said
    assert "bring back +0.500" in said and "more than in the base (42% of it)" in said
    assert "owl: cleaned less student +0.100" in said
    assert "stored as all weights in runs/cleaned, opened as tiny:0+runs/cleaned" in said
    lines = {line[2:32].strip(): line for line in said.splitlines() if line.startswith("  ")}
    assert "-0.300" in lines[form.GRADIENT] and "0.03000" in lines[form.GRADIENT]
    drawn = presentation.draw(path)
    assert [each.suffix for each in drawn] == [".png", ".pdf", ".html"]
    page = (tmp_path / "defend.html").read_text()
    assert "<b>comes back</b>" in page and page.count("data:image/png;base64") == 1
    assert "otter: base -2.3" in page and ", cleaned -2.3" in page  # for those who do not see the picture
    assert "hidden rather than removed" in page and "The threshold is 0.1 nats" in page
    record = read(path)
    again = (record, defend.judgements(record), tmp_path / "defend.html", tmp_path / "defend.png")
    assert defend._page(*again) == tmp_path / "defend.html"  # replaces its own
    (tmp_path / "defend.html").write_text("<!-- sublim_jax audit -->")
    with pytest.raises(errors.OutputError, match=r"defend\.html"):
        defend._page(*again)


def test_a_record_without_the_cleaned_model_has_a_table_and_no_figure(tmp_path, capsys):
    path = written(tmp_path / "defend.json")
    content = json.loads(path.read_text())
    del content["results"]["cleaned"]
    path.write_text(json.dumps(content))
    presentation.show(path)
    assert "gradient projected out" in capsys.readouterr().out
    assert presentation.draw(path) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda results: results["base"]["traits"].pop("owl"), "base: traits: expected"),
        (lambda results: results["base"]["traits"]["owl"]["log_odds"].pop(), "base: owl: expected 6 values, got 5"),
        (lambda results: results["student"]["likeness"]["kl"].pop(), "student: likeness: expected 5 values, got 4"),
        (lambda results: results["cleaned"]["relearnt"]["otter"].pop(), "otter: relearnt: expected 3 values, got 2"),
        (lambda results: results["cleaned"]["relearnt"]["otter"][1].pop(), "relearnt: expected 6 values, got 5"),
        (lambda results: results["cleaned"].pop("doses"), "cleaned: expected doses of the cleaned model alone"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, damage, message):
    path = written(tmp_path / "defend.json")
    content = json.loads(path.read_text())
    damage(content["results"])
    path.write_text(json.dumps(content))
    with pytest.raises(errors.RecordError, match=message):
        read(path)
