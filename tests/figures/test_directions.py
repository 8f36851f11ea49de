"""The table and the figure of the experiment on directions, from a small made-up record."""

import copy
import statistics

import numpy as np
import pytest
from matplotlib import pyplot as plt

from experiments.directions import lineage, study
from experiments.directions.config import DirectionsConfig
from figures import directions, presentation, readme, values
from sublim_jax import errors, records
from sublim_jax.forms import directions as form
from tests.figures import marks

CONFIG = DirectionsConfig(ranks=(1, 4, 16), doses=(0.5, 1.0))
EDITS = {bed: lineage.edits(CONFIG, bed) for bed in CONFIG.beds}
SPREAD = (-0.03, 0.0, 0.01, 0.05)
KEPT = {"digits": {1: 0.1, 4: 0.3, 16: 0.9}, "flow": {1: 1.1, 4: 0.8, 16: 0.9}, "language": {1: 0.8, 4: 0.9, 16: 1.0}}
KEPT["language-full"] = {1: 0.2, 4: 0.4, 16: 0.9}
VECTOR = {"digits": 0.05, "flow": 0.7, "language": 0.75, "language-full": 0.1}


def share_of(bed, edit, index):
    """What an edit of the made-up record leaves of the trait."""
    row = EDITS[bed][edit]
    if edit in ("reference", "student"):
        return float(edit == "student")
    if row.kind == "kept":
        return KEPT[bed].get(int(row.amount), 1.0) + SPREAD[index]
    if row.kind == "shifted" and row.source == "mean" and row.layer is not None:
        return VECTOR[bed] * abs(row.amount) + SPREAD[index] * (row.layer + 1)
    return 0.2


def made_up(bed, index, measures):
    start, gain = 0.1 + index / 100, 0.6 + index / 10
    values = {edit: {measure: start + gain * share_of(bed, edit, index) for measure in measures} for edit in EDITS[bed]}
    spectrum = {"matrix": "layer 1", "values": [2.0, 1.0], "participation": 25 / 17 + index, "energy": [0.5, 0.75, 1.0]}
    return {
        "values": values,
        "spectra": {source: [spectrum] for source in ("student", "teacher", "auditor")},
        "shifts": [{"length": 1.0, "share": 0.5}] * CONFIG.num_layers(bed),
        "cosines": {"teacher": 0.7, "auditor": 0.3},
    }


@pytest.fixture(scope="module")
def whole():
    config, description = records.to_json(CONFIG), study.describe(CONFIG)
    results = {
        unit: made_up(bed := form.bed_of(unit), int(unit[-1]), description["beds"][bed]["measures"])
        for unit in form.units(config)
    }
    data: records.Data = {"name": "digits", "source": "this test", "checksum": None}
    made = records.Record(
        experiment="directions", config=config, data=data, description=description, results=results, notes=["a note"]
    )
    form.FORM.require(made)
    return made


@pytest.fixture
def record(whole):
    return copy.deepcopy(whole)


def test_a_share_is_the_change_over_the_students(record):
    np.testing.assert_allclose(directions.shares(record, "digits", "student's top 4"), [0.3 + each for each in SPREAD])
    np.testing.assert_allclose(directions.shares(record, "digits", "student's top 4", "B")[1], 0.3)
    mean, low, high = marks.t_bounds([0.3 + each for each in SPREAD])
    interval = directions.left(record, "digits", "student's top 4")
    assert interval is not None
    np.testing.assert_allclose(interval[:3], (mean, low, high))


def test_a_student_without_the_trait_has_no_share_and_is_named(record):
    record.results["flow 2"]["values"]["student"]["share"] = 0.15
    shares = directions.shares(record, "flow", "student's top 4")
    assert np.isnan(shares[2]) and np.isfinite(shares[[0, 1, 3]]).all()
    text = " ".join(directions.sentences(record))
    assert "In 1 of 4 references the student hardly acquired it; they have no share." in text
    interval = directions.left(record, "flow", "student's top 4")
    assert interval is not None and not interval.is_known  # three are left


def test_half_of_the_trait_takes_as_many_directions_as_every_reference_says(record):
    np.testing.assert_array_equal(directions.needed(record, "digits"), [16] * 4)
    np.testing.assert_array_equal(directions.needed(record, "flow"), [1] * 4)
    record.results["digits 0"]["values"]["student's top 4"]["A"] = 0.1 + 0.6 * 0.5
    for edit in ("student's top 1", "student's top 4", "student's top 16"):
        record.results["digits 3"]["values"][edit]["A"] = 0.13
    np.testing.assert_array_equal(directions.needed(record, "digits"), [4, 16, 16, np.inf])
    text = " ".join(directions.sentences(record))
    assert "half of it takes k = 16 (4 to more than were tried)" in text


def test_the_sentence_holds_fails_or_is_open(record):
    assert directions.headline(record) == directions.SENTENCE
    assert [row.verdict for row in directions.clauses(record)] == ["holds"] * 6 + ["fails"] * 2
    assert "A favourite, all weights trained, share of the trait held: one direction: 0.21" in " ".join(
        directions.sentences(record)
    )
    for index in range(4):  # the mean shift of the language model's last layer holds a tenth
        row = record.results[f"language {index}"]["values"]
        row["reference plus 1 x mean vector, layer 2"]["log_odds"] = 0.1 + index / 100 + 0.1 * (0.6 + index / 10)
    assert "must be corrected: one vector holds 0.10 ± 0.00 of a favourite" in directions.headline(record)
    record.results["flow 1"]["values"]["student's top 1"]["share"] = -1.0
    headline = directions.headline(record)
    assert "must be corrected: one vector" in headline and "is undecided: one direction holds" in headline
    assert (
        directions.Clause("digits", "", directions.left(record, "digits", "student's top 16"), "less").verdict
        == "fails"
    )


def test_three_references_decide_nothing(record):
    for bed in CONFIG.beds:
        del record.results[f"{bed} 3"]
    assert {row.verdict for row in directions.clauses(record)} == {"open"}
    assert "(n=3)" in directions.headline(record)


def test_the_table_has_raw_values_shares_and_spectra(record):
    text = "\n".join(directions.lines(record))
    starts = [0.1 + index / 100 for index in range(4)]
    half = marks.T_QUANTILE[4] * statistics.stdev(starts) / 2
    assert f"{statistics.fmean(starts):.3f} ± {half:.3f}" in text
    assert "participation ratio, teacher: layer 1 3.0 ± 2.1" in text  # 25/17 + 1.5, and the spread of 0 to 3
    assert f"{'student, layer 1':30}0.50 ± 0.00     0.75 ± 0.00     1.00 ± 0.00" in text
    assert "share left of accuracy of permuted digits (B)" in text and text.endswith("note: a note")
    row = next(line for line in text.splitlines() if line.startswith("      mean, layer 3"))
    assert [row.split()[place] for place in (3, 6, 9)] == ["0.72", "0.72", "1.42"]  # three times the mean spread


def test_what_the_readme_says_of_directions_is_in_the_record():
    """Each sentence stands there word for word, beside the numbers that bear it out."""
    text = readme.README.read_text(encoding="utf-8").partition("## Is a trait a direction?\n")[2].partition("\n## ")[0]
    text, made = " ".join(text.split()), records.read(values.RECORDS / "directions.json", form.FORM)

    def left(bed, edit, measure=None):
        interval = directions.left(made, bed, edit, measure)
        assert interval is not None
        return interval

    assert "one direction of every matrix is enough for the digit that is drawn and for most of the favourite" in text
    assert left("flow", "student's top 1").low > 0.9 and left("language", "student's top 1").low > 0.5
    assert "while eight hold about half of reading digits" in text
    assert left("digits", "student's top 1").high < 0.15 and abs(left("digits", "student's top 8").mean - 0.5) < 0.05
    assert "it moves the flow model most of the way" in text
    assert left("flow", "reference plus 1 x mean vector, layer 3").low > 0.5
    assert "on rows of numbers the language model's mean change points the other way" in text
    assert left("language", "reference plus 1 x mean vector, layer 2").high < 0
    assert "Few random directions hold nothing, and little lies in those of an auditor of another reference." in text
    for bed in ("digits", "flow", "language"):
        assert left(bed, "inside 8 x 8 at random").high < 0.06
        assert left(bed, "inside another reference's auditor's top 8").high < 0.06
    assert "for digits half of it removes most of the skill and leaves the second one" in text
    assert left("digits", "less 0.5 x auditor").high < 0.2 and left("digits", "less 0.5 x auditor", "B").low > 0.9
    control = left("language", "less 0.5 x another trait's auditor")
    assert f"another favourite's auditor removes the favourite as well (share left {control:.2f})" in text


def test_lines_and_vectors_are_drawn_for_every_amount(record):
    left, right = plt.subplots(1, 2)[1]
    directions.draw_directions(left, record, "digits")
    lines = {line.get_label(): line for line in left.lines if not line.get_label().startswith("_")}
    assert list(lines) == [curve.label for curve in directions.CURVES]
    kept = lines["student's largest k alone"]
    np.testing.assert_array_equal(kept.get_xdata(), [1, 4, 16])
    np.testing.assert_allclose(kept.get_ydata(), [0.1075, 0.3075, 0.9075])
    directions.draw_vectors(right, record, "flow")
    bars = {bar.get_label(): bar for bar in marks.errorbars(right)}
    ((_, height),) = marks.points(bars["reference + mean shift"])
    assert height == pytest.approx(0.7075)
    assert len(marks.errorbars(right)) == len(directions.STEERED) * 3
    assert directions.limits(record) == pytest.approx((-0.15, 1.665))  # two shifts of language
    plt.close("all")


@pytest.mark.slow
def test_a_record_is_shown_and_drawn(record, tmp_path, capsys):
    path = tmp_path / "run.json"
    records.write(path, record)
    presentation.show(path)
    assert directions.SENTENCE in capsys.readouterr().out
    assert [each.name for each in presentation.draw(path)] == ["run.png", "run.pdf"]
    for bed in ("digits", "flow"):
        for index in range(4):
            del record.results[f"{bed} {index}"]
    records.write(path, record)
    assert len(presentation.draw(path)) == 2  # one bed alone


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda unit: unit["values"].pop("teacher"),
            r"digits 0: expected the edits of digits; these differ: \['teacher'\]",
        ),
        (lambda unit: unit["values"]["teacher"].pop("B"), r"teacher: expected the measures \['A', 'B'\], got \['A'\]"),
        (lambda unit: unit["spectra"].update(student=[]), "digits 0: student: a displacement without singular values"),
        (lambda unit: unit["spectra"]["student"][0]["energy"].pop(), r"expected an energy for each of \[1, 4, 16\]"),
        (lambda unit: unit["shifts"][0].update(share=1.5), "must be at most 1, got 1.5"),
        (lambda unit: unit.pop("cosines"), "expected the key 'cosines'"),
    ],
)
def test_damaged_records_are_refused(record, change, message):
    change(record.results["digits 0"])
    with pytest.raises(errors.InputError, match=message):
        form.FORM.require(record)
