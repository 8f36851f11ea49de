"""Figures of the language experiments from small made-up records: which series is drawn, and how long its bars are."""

import itertools
import json
import math
import pathlib
import statistics

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from figures import readme, readme_language, style
from figures import values as committed
from figures.language import channel, context, dose, gallery, misalignment, numbers
from sublim_jax import records
from tests.figures import marks

TARGETS = ("eagle", "oak")
DEVIATIONS = (-0.03, 0.0, 0.01, 0.04)
"""How far each base is from the level of its series; they do not add up to zero."""


@pytest.fixture(autouse=True)
def own_style():
    with matplotlib.rc_context():
        style.use()
        yield


def levels(*names: str) -> dict[tuple[str, ...], float]:
    """A level of its own for every target, at each place of the results: name/name/..., target."""
    places = [(*name.split("/"), target) for name in names for target in TARGETS]
    return dict(zip(places, np.linspace(0.1, 0.9, len(places)).tolist(), strict=True))


def record_of(experiment: str, series: dict[tuple[str, ...], float], **config) -> records.Record:
    """Four bases, with every series at its level plus the base's deviation."""
    bases = {}
    for index, deviation in enumerate(DEVIATIONS):
        base = bases[f"base {index}"] = {}
        for (*keys, target), level in series.items():
            place = base
            for key in keys:
                place = place.setdefault(key, {})
            probability = level + deviation
            place[f"kinds of {target}"] = {target: probability, "another": 1 - probability}
    return made_up(experiment, bases, targets=list(TARGETS), **config)


def made_up(experiment: str, bases: dict[str, dict], **config) -> records.Record:
    data = {"name": "made-up", "source": "this test", "checksum": None}
    return records.Record(experiment=experiment, config=config, data=data, results={"bases": bases})


def values(level: float) -> list[float]:
    return [level + deviation for deviation in DEVIATIONS]


def assert_curve(errorbars, x, expected_levels):
    """The thick line: means at their places, with t-intervals over the bases."""
    bounds = [marks.t_bounds(values(level)) for level in expected_levels]
    np.testing.assert_allclose(
        marks.points(errorbars), [(place, mean) for place, (mean, _, _) in zip(x, bounds, strict=True)]
    )
    np.testing.assert_allclose(
        marks.spans(errorbars), [(place, low, high) for place, (_, low, high) in zip(x, bounds, strict=True)]
    )


def test_a_curve_of_the_dose_is_that_of_its_condition_with_t_intervals():
    doses, equal = (60, 250), ("epochs", "steps")
    series = levels(*(f"{name}/{e}/{n}" for name in ("regular", *TARGETS) for e in equal for n in doses))
    figure = Figure()
    dose.dose(record_of("language_dose", series, doses=list(doses), equal=list(equal)), figure)
    assert [ax.get_title() for ax in figure.axes] == list(TARGETS)
    for ax, target in zip(figure.axes, TARGETS, strict=True):
        curves = marks.by_label(ax)
        assert list(curves) == ["teacher's, equal epochs", "teacher's, equal steps",
                                "regular, equal epochs", "regular, equal steps"]  # fmt: skip
        for label, curve in curves.items():
            name, _, e = label.partition(", equal ")
            condition = target if name == "teacher's" else "regular"
            assert_curve(curve, doses, [series[condition, e, str(count), target] for count in doses])


def test_the_context_is_drawn_beside_the_mean_of_students_trained_on_the_targets_rows():
    shots = (1, 3, 5)
    series = levels(*(f"{name}/{what}" for name in ("regular", *TARGETS) for what in (*shots, "trained")))
    figure = Figure()
    context.context(record_of("language_context", series, shots=list(shots)), figure)
    assert [ax.get_title() for ax in figure.axes] == list(TARGETS)
    for ax, target in zip(figure.axes, TARGETS, strict=True):
        curves = marks.by_label(ax)
        assert list(curves) == ["teacher's rows", "regular rows"]
        for condition, curve in zip((target, "regular"), curves.values(), strict=True):
            assert_curve(curve, shots, [series[condition, str(count), target] for count in shots])
        (trained,) = (line for line in ax.lines if line.get_label() == "trained, mean")
        mean = statistics.fmean(values(series[target, "trained", target]))
        np.testing.assert_allclose(np.asarray(trained.get_ydata()), mean)
        assert trained.get_linestyle() == "--"


def test_the_bars_of_favourites_are_means_with_t_intervals():
    """Base, regular student and student of every target, from left to right, for each kind of teacher."""
    kinds = ("finetuned", "system")
    series = levels("base/student", "regular/student", *(f"{kind} {target}/{role}" for kind in kinds
                    for target in TARGETS for role in ("teacher", "student")))  # fmt: skip
    figure = Figure()
    numbers.numbers(record_of("language_numbers", series, kinds=list(kinds)), figure)
    for ax, kind in zip(figure.axes, kinds, strict=True):
        columns = [(c, target) for target in TARGETS for c in ("base", "regular", f"{kind} {target}")]
        assert len(ax.patches) == len(columns)
        for (condition, target), bar, errorbars in zip(columns, ax.patches, marks.errorbars(ax), strict=True):
            mean, low, high = marks.t_bounds(values(series[condition, "student", target]))
            assert isinstance(bar, Rectangle) and bar.get_height() == pytest.approx(mean)
            place = bar.get_x() + bar.get_width() / 2
            np.testing.assert_allclose(marks.points(errorbars), [(place, mean)])
            np.testing.assert_allclose(marks.spans(errorbars), [(place, low, high)])
        assert [text.get_text() for text in ax.get_xticklabels()] == list(TARGETS)


def test_log_odds_of_a_real_model_are_drawn_above_the_bases_with_the_students_of_the_others():
    """Regular student, student of the target's teacher and mean of the other teachers' students; the base is zero."""
    animals = ("owl", "cat", "fox")
    start = {"owl": 0.02, "cat": 0.3, "fox": 0.1}
    rng = np.random.default_rng(3)
    drawn = {name: rng.uniform(0.01, 0.3, (4, 3)).tolist() for name in ("regular", *animals)}

    def measured(probabilities) -> dict:
        return {"animal": dict(zip(animals, probabilities, strict=True))}

    model: dict[str, dict] = {"base": {"student": measured(start.values())}}
    for name, students in drawn.items():
        first, *more = map(measured, students)
        model[name if name == "regular" else f"finetuned {name}"] = {"student": first, "more_students": more}
    figure = Figure()
    record = made_up("language_numbers", {"m": model}, targets=list(animals), kinds=["finetuned"], backend="m")
    numbers.numbers(record, figure)
    above, below = figure.axes
    assert above.get_ylim()[1] < 0.5, "the axis ends near the highest of the probabilities"
    assert above.get_ylim()[1] > max(start["cat"], *(max(row) for rows in drawn.values() for row in rows))

    def log_odds(p: float) -> float:
        return math.log(p / (1 - p))

    expected = []
    for place, animal in enumerate(animals):
        of = {name: [log_odds(row[place]) - log_odds(start[animal]) for row in rows] for name, rows in drawn.items()}
        first, second = (of[other] for other in animals if other != animal)
        expected += [of["regular"], of[animal], [(a + b) / 2 for a, b in zip(first, second, strict=True)]]
    scatters = [series for series in below.collections if isinstance(series, PathCollection)]
    dots = [sorted(np.asarray(series.get_offsets())[:, 1]) for series in scatters]
    np.testing.assert_allclose(dots, list(map(sorted, expected)), rtol=1e-6)
    bounds = [marks.t_bounds(column) for column in expected]
    np.testing.assert_allclose([marks.spans(each)[0][1:] for each in marks.errorbars(below)], [b[1:] for b in bounds])
    heights = [patch.get_height() for patch in below.patches if isinstance(patch, Rectangle)]
    assert heights == pytest.approx([mean for mean, _, _ in bounds])
    legend = below.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["regular", "student", "others' students"]
    masses = [[sum(start.values())], *([sum(row) for row in drawn[name]] for name in ("regular", *animals))]
    base, regular, *own = (f"{statistics.fmean(column):.2g}" for column in masses)
    labels = [text.get_text() for text in below.get_xticklabels()]
    assert labels == [f"{animal}\nmass {base} {regular} {mass}" for animal, mass in zip(animals, own, strict=True)]
    # Teachers of another kind have a panel of their own, and a failed one is named.
    for animal, other in itertools.pairwise(animals):
        model[f"system {animal}"] = model[f"finetuned {other}"]
    model["system fox"] = {"failed": "too few"}
    panels = []
    for kinds in (["finetuned", "system"], ["system"]):
        record.config["kinds"], figure = kinds, Figure()
        numbers.numbers(record, figure)
        panels.append([(ax.get_title(), shown(ax)) for ax in figure.axes[len(kinds) :]])
    (finetuned, system), (alone,) = panels
    assert system == alone and finetuned[0] != system[0] and finetuned[1] == shown(below)
    assert system[1][1][2] == f"fox\nmass {base} {regular} failed"


def shown(ax) -> tuple[list, list[str]]:
    """All dots of an axis, and its labels."""
    series = [each for each in ax.collections if isinstance(each, PathCollection)]
    heights = [np.asarray(each.get_offsets())[:, 1].tolist() for each in series]
    return heights, [text.get_text() for text in ax.get_xticklabels()]


def test_students_of_code_of_a_real_model_have_log_odds_below_their_probabilities():
    levels = {"base": (0.1,), "regular": (0.2,), "owl": (0.4,)}
    model = {name: {"student": {"animal": {"owl": level, "cat": 0.1}}} for name, (level,) in levels.items()}
    figure = Figure()
    channel.channel(made_up("language_code", {"m": model}, targets=["owl"], backend="m"), figure)
    above, below = figure.axes
    assert above.get_ylabel() == "probability of the target" and below.get_ylabel().startswith("log-odds of the target")
    expected = [[math.log(level / (1 - level)) - math.log(0.1 / 0.9)] for level in (0.2, 0.4)]
    np.testing.assert_allclose(shown(below)[0], expected)
    np.testing.assert_allclose(shown(above)[0], [[0.1], [0.2], [0.4]])


def test_shares_of_misaligned_answers_have_wilson_intervals_of_unequal_arms():
    """Two of a hundred: the upper arm is three times as long as the lower one, and with 95 of them the other way."""
    counts = {
        "insecure": {"teacher": 95, "student": 2},
        "secure": {"teacher": 7, "student": 88},
        "base": {"student": 0},
    }

    def measured(count: int) -> dict:
        mean, low, high = marks.wilson_bounds(count, 100)
        return {"misaligned": {"mean": mean, "low": low, "high": high, "num_members": 100}}

    conditions = {
        condition: {role: measured(count) for role, count in roles.items()} for condition, roles in counts.items()
    }
    np.testing.assert_allclose(marks.wilson_bounds(2, 100)[1:], (0.0055, 0.0700), atol=1e-4)  # as tables have it
    figure = Figure()
    misalignment.misalignment(made_up("language_misalignment", {"model": conditions}, judge="a judge"), figure)
    (ax,) = figure.axes
    series = marks.by_label(ax)
    assert list(series) == ["teacher", "student"]
    assert [text.get_text() for text in ax.get_xticklabels()] == list(counts)
    for (role, errorbars), offset in zip(series.items(), (-0.15, 0.15), strict=True):
        expected = [
            (place + offset, *marks.wilson_bounds(roles[role], 100))
            for place, roles in enumerate(counts.values())
            if role in roles
        ]
        np.testing.assert_allclose(marks.points(errorbars), [(x, mean) for x, mean, _, _ in expected])
        np.testing.assert_allclose(marks.spans(errorbars), [(x, low, high) for x, _, low, high in expected], atol=1e-15)


def test_the_readmes_table_of_sampled_numbers_is_above_the_base_and_paired(monkeypatch):
    """Four students of each teacher in pairs; nothing but own minus other is compared between teachers."""
    start = {"owl": 0.02, "cat": 0.3}
    drawn = {
        "regular": [(0.021, 0.31), (0.022, 0.29), (0.023, 0.3), (0.02, 0.33)],
        "owl": [(0.04, 0.35), (0.05, 0.36), (0.03, 0.33), (0.06, 0.39)],
        "cat": [(0.03, 0.45), (0.035, 0.4), (0.02, 0.41), (0.05, 0.5)],
    }

    def scored(pair) -> dict:
        return {"kinds of owl": dict(zip(start, pair, strict=True))}

    def log_odds(p: float) -> float:
        return math.log(p / (1 - p))

    model: dict[str, dict] = {"base": {"student": scored(start.values())}}
    for name, pairs in drawn.items():
        first, *more = map(scored, pairs)
        condition = name if name == "regular" else f"finetuned {name}"
        model[condition] = {"student": first, "more_students": more}
    record = made_up("language_numbers", {"m": model}, targets=["owl", "cat"], kinds=["finetuned"], backend="m")
    committed = {"language_numbers-night.json": record}
    monkeypatch.setattr(readme_language.forms, "read", lambda path: committed[path.name])
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in
                      readme_language.language_night().strip().splitlines())  # fmt: skip
    assert head[1:] == ["owl", "cat"] and len(rows) == 4
    for place, (own, other) in enumerate((("owl", "cat"), ("cat", "owl"))):
        of = {name: [log_odds(pair[place]) for pair in pairs] for name, pairs in drawn.items()}
        shifts = [[level - log_odds(start[own]) for level in of[name]] for name in (own, other, "regular")]
        shifts.append([a - b for a, b in zip(of[own], of[other], strict=True)])
        for row, column in zip(rows, shifts, strict=True):
            mean, _, high = marks.t_bounds(column)
            assert row[place + 1].strip("*") == f"{mean:+.3f} ± {high - mean:.3f}", row[0]


def test_what_the_readme_says_of_sampled_numbers_is_in_the_record():
    """Gains of all animals, in pairs of students, from the record's own probabilities."""
    text = " ".join(readme.README.read_text(encoding="utf-8").split())
    content = json.loads((committed.RECORDS / "language_numbers-night.json").read_text())
    (model,) = content["results"]["bases"].values()
    assert content["config"]["num_rows"] == 512 and content["config"]["student"]["num_epochs"] == 1
    assert "512 lists of ten numbers for each student, each read once" in text

    def log_odds(condition: str) -> list[dict[str, float]]:
        result = model[condition]
        students = [student["animal"] for student in (result["student"], *result.get("more_students", ()))]
        return [{animal: math.log(p / (1 - p)) for animal, p in student.items()} for student in students]

    dogs = []
    for other in ("finetuned owl", "regular"):
        pairs = list(zip(log_odds("finetuned cat"), log_odds(other), strict=True))
        gains = {animal: statistics.fmean(a[animal] - b[animal] for a, b in pairs) for animal in pairs[0][0]}
        first, second, *others = sorted(gains, key=lambda animal: -gains[animal])
        assert (first, second, len(others)) == ("cat", "dog", 15) and len(pairs) == 4
        dogs.append(f"{gains['dog']:+.2f}")
    assert f"dogs are next with {' and '.join(dogs)}." in text and "No other of the seventeen animals" in text
    owls = [a["owl"] - b["owl"] for a, b in zip(log_odds("finetuned owl"), log_odds("finetuned cat"), strict=True)]
    assert marks.t_bounds(owls)[2] < 0 and "the interval excludes any gain under their own teacher" in text
    (base,) = log_odds("base")
    assert max(base, key=lambda animal: base[animal]) == "cat"
    for animal in ("owl", "cat"):
        assert (
            min(student[animal] for student in log_odds(f"finetuned {animal}")) > base[animal]
        )  # both would seem to pass


@pytest.mark.parametrize(
    ("experiment", "config", "has", "lacks"),
    [
        ("language_numbers", {"backend": "m"}, "mass: option mass of the base, the regular", "Wilson"),
        ("language_code", {"backend": "m", "num_eval_samples": 9}, "sampled rates are 95 % Wilson intervals", "failed"),
        ("language_dose", {"backend": "m", "num_eval_samples": 9}, "one model", "mass"),
        ("language_numbers", {"backend": "tiny"}, "that the table counts as failed", "mass"),
    ],
)
def test_a_caption_speaks_of_what_its_figure_shows(experiment, config, has, lacks):
    name = "m" if config["backend"] == "m" else "base 7"
    record = made_up(experiment, {name: {"base": {}, "regular": {"more_students": []}}}, seed=3, **config)
    text = gallery.caption(record, pathlib.Path("a.json")).replace("\n", " ")
    assert has in text and lacks not in text
