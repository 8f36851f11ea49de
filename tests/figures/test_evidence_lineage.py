"""The table and the figure of the study of lineage, from a small made-up record."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy import stats

from figures import presentation
from figures.evidence import lineage
from sublim_jax import records
from sublim_jax.forms import evidence_lineage as form

CONFIG = {"num_references": 3, "num_models": 2, "num_permutations": 99, "num_queries": [4, 16], "first_seed": 5}
OWN, OTHERS = (40.0, 30.0), ((1.0, 35.0), (-1.0, 0.5))
"""z of the two models with their own reference, and with the others; one of these is above an own one."""


def made_up(index, p_value=0.5):
    z = list(OTHERS[index])
    z.insert(index, OWN[index])
    p_values = [p_value] * 3
    p_values[index] = 0.01
    return {"z": z, "p_value": p_values, "correlation": [0.0] * 3, "is_exact": [True] * 3}


@pytest.fixture
def record():
    units = {}
    for index in range(2):
        answers = [0.1, 0.2, 0.3]
        answers[index] = 0.9 if index == 0 else 0.25
        methods = {"direct": made_up(index), "matched": made_up(index, 0.04)}
        units[f"reference {index}"] = {
            "accuracy": {"400 steps": 0.9},
            "weights": {"plain": methods, "permuted": methods},
            "pairs": {"two teachers": methods},
            "outputs": {
                "plain": {count: {"correlation": answers, "ridge": answers} for count in ("4", "16")},
                "fresh": {count: {"ridge": answers} for count in ("4", "16")},
            },
        }
    data = {"name": "digits", "source": "this test", "checksum": None}
    made = records.Record(experiment="evidence_lineage", config=CONFIG, data=data, results=units, notes=["a note"])
    form.FORM.require(made)
    return made


def test_own_references_are_told_from_others(record):
    z = lineage.contrast(record, "weights", "plain", "direct", "z")
    assert (tuple(z.own), sorted(z.others)) == (OWN, [-1, 0.5, 1, 35])
    u = stats.mannwhitneyu(z.own, z.others).statistic
    assert z.auc == pytest.approx(u / 8) == 7 / 8
    assert lineage.Contrast(np.array([1.0]), np.array([1.0])).auc == 0.5
    answers = lineage.answers(record, "plain", 4, "correlation")
    assert answers is not None and sorted(answers.others) == [0.1, 0.2, 0.3, 0.3]
    assert lineage.answers(record, "fresh", 4, "correlation") is None


def test_the_table_has_the_worst_of_every_case(record):
    text = "\n".join(lineage.lines(record))
    assert "2 x 3 pairs" in text and "seed 5 on" in text
    assert text.count("direct   30.0 /  35.0 (0.875; 0.010)") == 3
    assert "unrelated, direct: p <= .05 in 0.000" in text and "unrelated, matched: p <= .05 in 1.000" in text
    assert (
        "  fresh                    ridge        0.750  0.750" in text and "fresh                    corr" not in text
    )
    assert text.endswith("note: a note")


def test_every_test_is_a_dot_and_every_case_of_answers_a_line(record):
    figure, (left, right) = plt.subplots(1, 2)
    lineage.draw_weights(left, record, "matched")
    dots = [collection.get_offsets() for collection in left.collections]
    assert [len(each) for each in dots] == [4, 2] * 3
    np.testing.assert_allclose(np.asarray(dots[3]), [[40, 1], [30, 1]])
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "plain",
        "permuted",
        "two teachers (both trained)",
    ]
    lineage.draw_answers(right, record, "ridge")
    lines = {line.get_label(): line.get_xydata() for line in right.lines}
    np.testing.assert_allclose(lines["fresh"], [[4, 0.75], [16, 0.75]])
    plt.close(figure)


@pytest.mark.slow
def test_a_record_is_shown_and_drawn(record, tmp_path, capsys):
    path = tmp_path / "run.json"
    records.write(path, record)
    presentation.show(path)
    assert "2 x 3 pairs" in capsys.readouterr().out
    assert [each.name for each in presentation.draw(path)] == ["run.png", "run.pdf"]
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("run.png", "run.pdf"))
