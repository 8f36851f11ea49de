"""Panels of the atlas from made-up records: every number at its place, and beside it what was published."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt

from experiments.atlas import catalogue, registry
from figures import style
from figures.atlas import draw
from tests.experiments.atlas import described
from tests.figures import marks

OURS = {"student_aux": [0.5, 0.6, 0.7], "teacher": [0.9, 0.92, 0.94], "reference": [0.1, 0.1, 0.1]}


@pytest.fixture(autouse=True)
def own_style():
    with matplotlib.rc_context():
        style.use()
        yield
    plt.close("all")


def found(*labels: str) -> dict:
    """Three members in each arm; the probe reads .02 better, likeness is half the accuracy."""
    members = {
        str(member): {
            "accuracy": {name: values[member] for name, values in OURS.items()},
            "metrics": {
                "probe_accuracy": {name: values[member] + 0.02 for name, values in OURS.items()},
                "cka": {name: values[member] / 2 for name, values in OURS.items()},
            },
        }
        for member in range(3)
    }
    return {label: {"members": members} for label in labels}


def drawn(row: registry.Row):
    _, ax = plt.subplots()
    draw.draw_row(ax, described.row_of(row), found(*(arm.label for arm in row.arms)))
    return ax


def points(ax, marker: str) -> list[tuple[float, float]]:
    """Places of the marks of one form; on the axis itself, not where a shift shows them."""
    lines = [line for line in ax.lines if line.get_marker() == marker]
    return [(float(xy[0]), float(xy[1])) for line in lines for xy in np.asarray(line.get_xydata())]


def row_of(*arms: registry.Arm, **more) -> registry.Row:
    return registry.Row(id="r", axis="loss", question="What?", arms=arms, **more)


def test_numbers_are_at_their_place_with_members_mean_and_published_value():
    ax = drawn(row_of(
        registry.Arm("1", {"temperature": 1.0}, x=1.0, published=[registry.Published("jasshone", 0.4)]),
        registry.Arm("3", {"temperature": 3.0}, x=3.0),
        x_label="temperature",
    ))  # fmt: skip
    assert points(ax, "o") == [(1.0, pytest.approx(0.6)), (3.0, pytest.approx(0.6))]
    assert points(ax, ".") == [(x, y) for x in (1.0, 3.0) for y in OURS["student_aux"]]
    assert points(ax, draw.MARKERS["jasshone"]) == [(1.0, 0.4)]
    assert ax.get_xlabel() == "temperature"


def test_a_published_value_stands_a_little_to_the_right_at_its_height():
    ax = drawn(
        row_of(registry.Arm("1", x=1.0, published=[registry.Published("jasshone", 0.4)]), registry.Arm("2", x=2.0))
    )
    (mark,) = [line for line in ax.lines if line.get_marker() == draw.MARKERS["jasshone"]]
    shown, plain = mark.get_transform().transform((1.0, 0.4)), ax.transData.transform((1.0, 0.4))
    assert shown[1] == pytest.approx(plain[1])
    assert 2 < shown[0] - plain[0] < 30


def test_one_arm_has_its_conditions_side_by_side_with_what_was_published_of_others():
    ax = drawn(row_of(registry.Arm("base", published=[registry.Published("cloud", 0.94, "teacher")])))
    assert [text.get_text() for text in ax.get_xticklabels()] == ["teacher", "student, aux logits"]
    assert points(ax, "o") == [(0.0, pytest.approx(0.92)), (1.0, pytest.approx(0.6))]
    assert points(ax, draw.MARKERS["cloud"]) == [(0.0, 0.94)]


def test_a_row_is_drawn_in_what_its_published_values_measure():
    """And a value of another measure has no place there."""
    values = [
        registry.Published("jasshone", 0.87, "student_aux", "probe_accuracy"),
        registry.Published("jasshone", 0.81, "reference", "probe_accuracy"),
        registry.Published("barathvelmu", 0.5, "student_aux", "hidden_cosine"),
    ]
    row = row_of(registry.Arm("base", published=values))
    assert draw.measure_of(described.row_of(row)) == "probe_accuracy"
    ax = drawn(row)
    assert points(ax, "o") == [(0.0, pytest.approx(0.12)), (1.0, pytest.approx(0.62))]
    assert points(ax, draw.MARKERS["jasshone"]) == [(0.0, 0.81), (1.0, 0.87)]
    assert points(ax, draw.MARKERS["barathvelmu"]) == []


def test_likeness_is_a_scatter_of_members():
    ax = drawn(row_of(registry.Arm("1", {"metrics": ("representation",)}, x=1.0), about="likeness", x_label="epochs"))
    assert points(ax, "o") == [(value / 2, value) for value in OURS["student_aux"]]
    assert [text.get_text() for text in ax.texts] == ["epochs: 1"]


def test_chance_follows_the_number_of_classes():
    arms = [registry.Arm(str(k), {"data.num_classes": k, "model.num_classes": k}, x=k) for k in (2, 5, 10)]
    dotted = [line for line in drawn(row_of(*arms)).lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(np.asarray(dotted[0].get_ydata()), [0.5, 0.2, 0.1])
    assert len(dotted) == 1
    flat = [line for line in drawn(row_of(*arms[2:], arms[2])).lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(np.asarray(flat[0].get_ydata()), 0.1)


def test_every_published_source_has_a_marker():
    assert {p.source for row in catalogue.ROWS["all"] for arm in row.arms for p in arm.published} <= set(draw.MARKERS)


ENOUGH = {
    "reference": [0.08, 0.1, 0.1, 0.13],
    "teacher": [0.9, 0.92, 0.93, 0.97],
    "student_aux": [0.41, 0.45, 0.5, 0.62],
}
"""Accuracies of four members, of which there are intervals."""


def arm_of(accuracies: dict[str, list[float]]) -> dict:
    members = [dict(zip(accuracies, column, strict=True)) for column in zip(*accuracies.values(), strict=True)]
    return {"members": {str(n): {"accuracy": accuracy, "metrics": {}} for n, accuracy in enumerate(members)}}


def test_means_of_arms_have_t_intervals():
    """Of four members one, of three none."""
    _, ax = plt.subplots()
    row = described.row_of(row_of(registry.Arm("1", x=1.0), registry.Arm("3", x=3.0), registry.Arm("4", x=4.0)))
    raised = {name: [value + 0.1 * value**2 for value in values] for name, values in ENOUGH.items()}
    draw.draw_row(ax, row, {"1": arm_of(ENOUGH), "3": arm_of(raised), "4": arm_of(OURS)})
    (errorbars,) = marks.errorbars(ax)
    bounds = [marks.t_bounds(values["student_aux"]) for values in (ENOUGH, raised)] + [(0.6, 0.6, 0.6)]
    np.testing.assert_allclose(marks.points(errorbars), [(x, b[0]) for x, b in zip((1, 3, 4), bounds, strict=True)])
    np.testing.assert_allclose(marks.spans(errorbars), [(x, *b[1:]) for x, b in zip((1, 3, 4), bounds, strict=True)])


def test_means_of_conditions_have_t_intervals():
    others = [registry.Published("cloud", 0.94, "teacher"), registry.Published("cloud", 0.1, "reference")]
    _, ax = plt.subplots()
    draw.draw_row(ax, described.row_of(row_of(registry.Arm("base", published=others))), {"base": arm_of(ENOUGH)})
    for place, (condition, errorbars) in enumerate(zip(ENOUGH, marks.errorbars(ax), strict=True)):
        mean, low, high = marks.t_bounds(ENOUGH[condition])
        np.testing.assert_allclose(marks.points(errorbars), [(place, mean)])
        np.testing.assert_allclose(marks.spans(errorbars), [(place, low, high)])
        assert errorbars.get_label() == draw.name_of(condition)
