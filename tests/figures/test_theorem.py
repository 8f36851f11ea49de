"""Every figure of the theorem is drawn from the committed records, with a caption."""

import shutil

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.theorem import config
from figures.theorem import draw, laws, optimizers, summary
from sublim_jax import records
from sublim_jax.forms import theorem as form
from tests.figures import marks

needs_record = pytest.mark.skipif(
    not draw.RECORD.exists(), reason="run python -m experiments.theorem --record experiments/records/theorem.json"
)


@needs_record
@pytest.mark.slow
def test_all_figures_are_drawn_from_the_committed_record(tmp_path):
    paths = draw.save_all(draw.RECORD, tmp_path / "theorem")
    assert {path.name for path in paths} == {f"theorem-{n}.{s}" for n in draw.FIGURES for s in ("png", "pdf")}
    assert all(path.stat().st_size > 5000 for path in paths)


@needs_record
def test_figures_of_parts_that_were_not_run_are_left_out(tmp_path):
    record = records.read(draw.RECORD)
    record.results = {"filters": record.results["filters"]}
    records.write(tmp_path / "record.json", record)
    paths = draw.save_all(tmp_path / "record.json", tmp_path / "part")
    assert [path.name for path in paths] == ["part-filters.png", "part-filters.pdf"]


@pytest.mark.slow
@needs_record
def test_equal_records_give_equal_files(tmp_path):
    record = records.read(draw.RECORD)
    record.results = {"many_steps": record.results["many_steps"]}
    records.write(tmp_path / "record.json", record)
    first, second = (draw.save_all(tmp_path / "record.json", tmp_path / name / "f")[0] for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_the_kill_matrix_is_drawn(tmp_path):
    data = {"name": "drawn networks", "source": "the seeds", "checksum": None}
    record = records.Record.begin(form.MUTANTS.experiment, {"num_problems": 4}, data)
    record.results = {
        "properties": ["sign", "slope"],
        "mutants": [
            {"name": "none", "what": "the library as it is", "kills": {"sign": 0.0, "slope": 0.0}},
            {"name": "halved", "what": "half of it", "kills": {"sign": 0.0, "slope": 1.0}},
        ],
        "missed_by_the_sign_alone": ["halved"],
        "survivors": [],
    }
    records.write(tmp_path / "matrix.json", record)
    paths = draw.save_mutants(tmp_path / "matrix.json", tmp_path / "theorem")
    assert [path.name for path in paths] == ["theorem-mutants.png", "theorem-mutants.pdf"]


def test_every_figure_needs_parts_that_exist_and_every_part_is_drawn():
    needed = {part for parts, _, _ in draw.FIGURES.values() for part in parts}
    assert needed <= set(config.PARTS) and set(config.PARTS) - needed == {"kinks"}


@needs_record
def test_a_record_in_another_place_is_drawn_beside_its_stem(tmp_path):
    shutil.copy(draw.RECORD, tmp_path / "other.json")
    record = records.read(tmp_path / "other.json")
    record.results = {"kinks": record.results["kinks"]}
    records.write(tmp_path / "other.json", record)
    assert draw.save_all(tmp_path / "other.json", tmp_path / "x") == []


RISES = {"sgd": (0, 1), "adam": (2, 30), "sign_descent": (95, 60)}
"""Number of 100 problems in which the loss rises, after a teacher by descent and after one by the same optimizer."""


def first_steps() -> dict:
    """Results of the part about optimizers: the teacher's loss rises where a cosine is negative; two are zero."""

    def cosines(negative: int) -> list[float]:
        return [-0.5] * negative + [0.0] * 2 + [0.25] * (98 - negative)

    students = ("sign_student", "sign_both", "metric_both", "metric_student")
    return {
        "num_problems": 100,
        "cosines": {
            name: {"descent_teacher": cosines(descent), "same_teacher": cosines(same)}
            for name, (descent, same) in RISES.items()
        },
        "random_updates": {"3-2-4": {name: 10 * index for index, name in enumerate(students)}},
    }


def test_how_often_the_loss_rises_is_drawn_for_either_teacher_with_wilson_intervals():
    """The intervals of 2 and 95 of 100 have arms of different length."""
    figure = Figure(layout="constrained")
    caption = optimizers.draw(figure, {"optimizers": first_steps()})
    left = figure.axes[0]
    drawn, labels = marks.bars(left), ["teacher by gradient descent", "teacher by the same optimizer"]
    legend = left.get_legend()
    assert list(drawn) == labels and legend is not None and [text.get_text() for text in legend.get_texts()] == labels
    for index, (bars, errorbars) in enumerate(zip(drawn.values(), marks.errorbars(left), strict=True)):
        offset = (-0.2, 0.2)[index]
        bounds = [marks.wilson_bounds(counts[index], 100) for counts in RISES.values()]
        np.testing.assert_allclose(bars, [(x + offset, 100 * share) for x, (share, _, _) in enumerate(bounds)])
        expected = [(x + offset, 100 * low, 100 * high) for x, (_, low, high) in enumerate(bounds)]
        np.testing.assert_allclose(marks.spans(errorbars), expected, atol=1e-12)  # percent; a bound is zero
    assert [text.get_text() for text in left.get_xticklabels()] == ["sgd", "adam", "sign\ndescent"]
    assert (
        "After a teacher by gradient descent: adam 2, sign_descent 95; by the same optimizer: sgd 1, adam 30, "
        "sign_descent 60 of 100 problems." in caption
    )


def test_the_summary_says_how_often_the_loss_rises_after_either_teacher():
    data = {"name": "drawn networks", "source": "the seeds", "checksum": None}
    record = records.Record(experiment="theorem", config={}, data=data, results={"optimizers": first_steps()})
    assert list(summary.lines(record)) == [
        "optimizers: teacher's loss rises: sgd 0.000|0.010, adam 0.020|0.300, sign_descent 0.950|0.600"
    ]


def test_probabilities_of_a_right_sign_have_wilson_intervals():
    """All three panels have shares far from one half, so that the arms of intervals have different lengths."""
    labels = [{"network": 0, "nats": nats, "positive": count} for nats, count in ((0.5, 2), (2.0, 95))]
    noisy = [
        {"loss": loss, "cosine": [0.5], "positive": [[count, count + 1]]} for loss, count in (("mse", 40), ("kl", 90))
    ]

    def cosines(*positive: int) -> list[list[float]]:
        return [[0.5] * count + [-0.5] * (100 - count) for count in positive]

    member = {
        "teacher": "trained",
        "cosine": cosines(97, 60),
        "differential_cosine": cosines(99, 3),
        "norm": 1.0,
        "cosine_without_noise": 0.5,
    }
    figure = Figure(layout="constrained")
    laws.draw(
        figure,
        {
            "labels": {"num_draws": 100, "rows": labels},
            "init_noise": {"num_draws": 100, "epsilon": 1.0, "sigma": [0.5, 1.0], "rows": noisy},
            "mnist_noise": {"sigma": [0.1, 1.0], "rows": [member], "weight_sd_of_layers": [0.05]},
        },
    )
    expected = (
        [((1.0, 2), (2.0, 95))],
        [((1.0, 40), (0.5, 41)), ((1.0, 90), (0.5, 91))],
        [((0.1, 97), (1.0, 60)), ((0.1, 99), (1.0, 3))],
    )
    for ax, panel in zip(figure.axes, expected, strict=True):
        series = [errorbars for errorbars in marks.errorbars(ax) if marks.points(errorbars)]
        for errorbars, counts in zip(series, panel, strict=True):
            bounds = [(place, *marks.wilson_bounds(count, 100)) for place, count in counts]
            np.testing.assert_allclose(marks.points(errorbars), [(place, share) for place, share, _, _ in bounds])
            np.testing.assert_allclose(marks.spans(errorbars), [(place, low, high) for place, _, low, high in bounds])
    assert list(marks.by_label(figure.axes[1])) == ["squared error", "KL divergence"]
    assert list(marks.by_label(figure.axes[2])) == ["absolute", "minus control"]
