"""Figure 10 from a small made-up record: what is drawn, what is said, and that nothing is trained."""

import dataclasses
import pathlib

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection

from experiments import cli
from experiments import mnist_aux as experiment
from figures import mnist_aux, style
from sublim_jax import conditions, errors, files, records
from sublim_jax.metrics import intervals
from sublim_jax.training import ensemble, stages
from tests.experiments import small

FIGURES = pathlib.Path(style.__file__).parent
ACCURACY = {
    "reference": [0.09, 0.10, 0.12, 0.13, 0.07],
    "teacher": [0.93, 0.94, 0.95, 0.92, 0.91],
    "student_aux": [0.45, None, 0.60, 0.52, 0.55],
    "student_all": [0.90, 0.91, 0.92, 0.89, 0.86],
    "cross_model_aux": [0.10, 0.11, 0.08, 0.14, 0.09],
}


@pytest.fixture(autouse=True)
def own_style():
    """Figures choose a backend and a style for the whole process; the next test gets its own back."""
    with matplotlib.rc_context():
        yield


@pytest.fixture(autouse=True)
def nothing_trains(monkeypatch):
    def train(*_, **__):
        raise AssertionError("a figure trained something")

    monkeypatch.setattr(stages, "run", train)
    monkeypatch.setattr(ensemble, "over_members", train)
    monkeypatch.setattr(experiment, "run", train)


def write(path, *, name="mnist", complete=True, notes=(), accuracy=ACCURACY):
    conditions = tuple(c for c in accuracy if c not in ("reference", "teacher", "matched_start"))
    members = {
        str(n): {
            "accuracy": {c: values[n] for c, values in accuracy.items()},
            "loss": {},
            "diverged": [c for c, values in accuracy.items() if values[n] is None],
        }
        for n in range(len(accuracy["teacher"]))
    }
    count = len(members) if complete else len(members) + 1
    config = small.replaced(experiment.PAPER, num_members=count, conditions=conditions, seed=7)
    data = {"name": name, "source": "IDX files", "checksum": "abc"}
    description = experiment.describe(conditions, images_name=name)
    record = records.Record.begin("mnist_aux", config, data, description=description)
    record.results, record.notes = {"members": members}, list(notes)
    records.write(path, record)
    return path


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw a record and return the figure instead of files."""
    kept = []

    def keep(figure, stem):
        kept.append(figure)
        return iter(())

    def draw(**options):
        monkeypatch.setattr(style, "save", keep)
        mnist_aux.save(write(tmp_path / "made-up.json", **options), tmp_path / "figure")
        return kept[-1]

    yield draw
    for figure in kept:
        matplotlib.pyplot.close(figure)


def text_of(figure):
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def test_both_files_are_made_and_equal_records_give_equal_bytes(tmp_path):
    record = write(tmp_path / "record.json")
    first = mnist_aux.save(record, tmp_path / "new" / "first")
    second = mnist_aux.save(record, tmp_path / "second")
    assert [path.name for path in first] == ["first.png", "first.pdf"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert first[0].read_bytes().startswith(b"\x89PNG") and first[1].read_bytes().startswith(b"%PDF")
    assert not matplotlib.pyplot.get_fignums(), "figures are closed"


def test_every_member_is_a_dot_and_every_bar_a_mean_of_those_that_did_not_diverge(drawn):
    ax = drawn().axes[0]
    finite = [np.array([v for v in values if v is not None]) for values in ACCURACY.values()]
    assert [sorted(dots.get_offsets()[:, 1]) for dots in ax.collections if isinstance(dots, PathCollection)] == [
        sorted(values) for values in finite
    ]
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], [values.mean() for values in finite])
    assert [round(bar.get_x() + bar.get_width() / 2) for bar in ax.patches] == [0, 1, 2, 3, 4]
    assert [label.get_text() for label in ax.get_xticklabels()] == [style.CONDITIONS[c][0] for c in ACCURACY]


def test_the_error_bars_are_t_intervals(drawn):
    """A bar's vertical line runs from the lower to the upper bound."""
    ax = drawn().axes[0]
    spans = [c.get_segments()[0][:, 1] for c in ax.collections if isinstance(c, LineCollection) and c.get_segments()]
    for values, span in zip(ACCURACY.values(), spans[: len(ACCURACY)], strict=True):
        found = intervals.t_interval([v for v in values if v is not None])
        np.testing.assert_allclose(sorted(span), [found.low, found.high])


def test_chance_is_dotted_at_one_in_ten(drawn):
    dotted = [line for line in drawn().axes[0].lines if line.get_linestyle() == ":"]
    assert [set(line.get_ydata()) for line in dotted] == [{0.1}]


def test_published_values_are_drawn_for_mnist_and_for_nothing_else(drawn):
    def diamonds(figure):
        return [
            line.get_ydata()[0] for line in figure.axes[0].lines if line.get_marker() == "D" and len(line.get_ydata())
        ]

    assert diamonds(drawn(name="mnist")) == [experiment.PUBLISHED[name]["value"] for name in ACCURACY]
    assert diamonds(drawn(name="synthetic-digits")) == []


def test_the_caption_says_what_a_reader_must_know(drawn):
    caption = text_of(drawn(notes=["the images are made up"], complete=False))
    assert caption.startswith("n = 5 members; MNIST (IDX files); 3 auxiliary logits; seed 7; record made-up.json.")
    difference = intervals.paired_difference([0.45, 0.60, 0.52, 0.55], [0.10, 0.08, 0.14, 0.09])
    assert f"Shared minus other initialization, auxiliary logits, paired: {difference:.3f}." in caption
    assert "1 member(s) of student_aux diverged and are left out." in caption
    assert "The images are made up." in caption
    assert "The run is not complete." in caption


def test_the_title_names_the_images(drawn):
    assert "synthetic-digits" in drawn(name="synthetic-digits").axes[0].get_title(loc="left")


def test_a_condition_of_which_every_member_diverged_is_said_to_be_one(drawn):
    figure = drawn(accuracy=ACCURACY | {"student_aux": [None] * 5})
    assert "all diverged" in [text.get_text() for text in figure.axes[0].texts]
    assert "5 member(s) of student_aux diverged" in text_of(figure)


def test_a_single_member_has_no_interval_but_a_figure(drawn):
    drawn(accuracy={name: [0.5] for name in ("reference", "teacher", "student_aux")})


def test_every_condition_has_a_label_and_a_colour_of_its_own():
    assert set(conditions.recorded_conditions(conditions.CONDITIONS)) == set(style.CONDITIONS)
    for column in zip(*style.CONDITIONS.values(), strict=True):
        assert len(set(column)) == len(column)


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
@pytest.mark.parametrize("foreign", ["folder", "text", "photograph", "paper", "plot"])
def test_what_is_not_a_figure_of_ours_is_not_replaced(tmp_path, foreign, suffix):
    """A PNG or PDF of the user's neither, be it drawn with Matplotlib too."""
    place = tmp_path / f"figure{suffix}"
    if foreign == "folder":
        place.mkdir()
    elif foreign == "plot":
        figure = matplotlib.pyplot.figure()
        figure.savefig(place)
        matplotlib.pyplot.close(figure)
    else:
        place.write_bytes({
            "text": b"years of work",
            "photograph": b"\x89PNG\r\n\x1a\n" + bytes(100),
            "paper": b"%PDF-1.5\n/Producer (pdfTeX)",
        }[foreign])  # fmt: skip
    before = place.stat().st_mtime_ns, place.stat().st_ino
    record = write(tmp_path / "record.json")
    with pytest.raises(errors.OutputError, match=f"^{place}: "):
        mnist_aux.save(record, tmp_path / "figure")
    options = cli.RunOptions(record=tmp_path / "figure.json")
    with pytest.raises(errors.OutputError, match=f"^{place}: "):  # and before the run
        cli.require_figures(options)
    cli.require_figures(dataclasses.replace(options, figure=False))
    assert (place.stat().st_mtime_ns, place.stat().st_ino) == before
    assert not matplotlib.pyplot.get_fignums()


def test_a_figure_of_ours_is_drawn_again_in_its_place(tmp_path):
    record = write(tmp_path / "record.json")
    for _ in range(2):
        mnist_aux.save(record, tmp_path / "figure")
        cli.require_figures(cli.RunOptions(record=tmp_path / "figure.json"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure.pdf", "figure.png", "record.json"]


def test_a_drawing_that_names_no_program_is_not_taken_for_ours(tmp_path):
    """As many programs, and who wants equal files of matplotlib, write them."""
    matplotlib.use("Agg")
    figure = matplotlib.pyplot.figure()
    for name, metadata in (("a.png", {"Software": None}), ("a.pdf", {"CreationDate": None, "Creator": None})):
        figure.savefig(tmp_path / name, metadata=metadata)
        assert not files.is_figure(tmp_path / name)
    matplotlib.pyplot.close(figure)


@pytest.mark.parametrize("path", sorted(FIGURES.rglob("*.p[nd][gf]")), ids=lambda path: path.name)
def test_committed_figures_are_recognised(path):
    assert files.is_figure(path)


def test_a_record_is_not_put_where_its_figure_goes(tmp_path):
    with pytest.raises(errors.OutputError, match=r"the figure goes there, not the record. Use --record .*a.json"):
        cli.require_figures(cli.RunOptions(record=tmp_path / "a.pdf"))


def test_no_record_no_figure(tmp_path):
    with pytest.raises(errors.RecordError, match="there is no such record; run the experiment that makes it first"):
        mnist_aux.save(tmp_path / "none.json", tmp_path / "figure")
    assert not list(tmp_path.iterdir())
