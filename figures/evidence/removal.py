"""Table and figure of the study `removal`: what is left of a preference after an edit, what it costs, what comes back.

Log-odds are counted from those of the base, and after relearning from those of the base after the same lessons.
Intervals are Student's over bases.
"""

import pathlib
import textwrap

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from figures import style
from sublim_jax import records
from sublim_jax.forms import evidence_removal as form
from sublim_jax.metrics import intervals
from sublim_jax.metrics.intervals import Interval

COLOURS = {
    "yardstick": "#3b3b3b", "displacement": "#2f6690", "dose": "#5b8fb0", "rank": "#81b1d5", "control": "#c8553d",
    "gradient": "#e0a458", "steering": "#6b4e96",
}  # fmt: skip
TITLES = {
    "yardstick": "yardsticks", "displacement": "the auditor's displacement", "dose": "at other doses",
    "rank": "cut to a rank", "control": "controls", "gradient": "gradient of the probes", "steering": "steering",
}  # fmt: skip
BASE, NONE = "base", "none"


def left(record: records.Record, row: str, *, relearnt: bool = False) -> np.ndarray:
    """Log-odds of the target less the base's, of every base, in nats.

    Args:
        relearnt: after the lessons, the base's too.
    """
    place = -1 if relearnt else 0
    return np.array([
        unit["entries"][row]["relearnt"][place] - unit["entries"][BASE]["relearnt"][place]
        for unit in record.results.values()
    ])  # fmt: skip


def values(record: records.Record, row: str, what: str) -> np.ndarray:
    """Of every base: "kl" or "nll" in nats a token, or the total variation among the other names of a category."""
    entries = [unit["entries"][row] for unit in record.results.values()]
    return np.array([entry[what] if what in ("kl", "nll") else entry["others"][what] for entry in entries])


def doses(record: records.Record, row: str) -> str:
    """Range of the doses that were chosen, and of how many bases none sufficed; empty where none is chosen."""
    entries = [unit["entries"][row] for unit in record.results.values()]
    if not any("dose" in entry for entry in entries):
        return ""
    known = [entry["dose"] for entry in entries if entry["dose"] is not None]
    text = f"{min(known):.3g} to {max(known):.3g}" if known else ""
    missing = f"none in {len(entries) - len(known)} of {len(entries)}" if len(known) < len(entries) else ""
    return "; ".join(filter(None, (text, missing)))


def against_none(record: records.Record, row: str, *, relearnt: bool = False) -> Interval:
    """What an edit leaves, less what the student has, paired by base."""
    return intervals.paired_difference(left(record, row, relearnt=relearnt), left(record, NONE, relearnt=relearnt))


def lines(record: records.Record) -> list[str]:
    """The table of a record, then its notes."""
    about, config = record.description, record.config
    steps, categories = config["checkpoints"][-1], about["categories"]
    columns = ("left", f"left after {steps}", "nats a token", *(f"other {each}s" for each in categories))
    text = [
        f"students of {config['target']} teachers on {len(record.results)} of {len(config['bases'])} embedded bases; "
        f"mean ± 95 % t-interval over bases",
        f"left: log-odds of {config['target']} less the base's, in nats, on {about['num_questions']} questions "
        f"({about['num_probes']} others chose doses); left after {steps}: the same after {steps} steps on "
        f"{about['num_lessons']} lessons, the base's too",
        "nats a token: divergence from the student on other rows; other names: total variation from the "
        "student without the target",
        f"{'edit':74}" + "".join(f"{column:18}" for column in columns) + "dose",
    ]
    for kind, title in TITLES.items():
        text.append(f"{title}:")
        for name, row in about["rows"].items():
            if row["kind"] == kind:
                cells = [f"{intervals.t_interval(left(record, name)):+.3f}"]
                cells.append(f"{intervals.t_interval(left(record, name, relearnt=True)):+.3f}")
                cells.append(f"{intervals.t_interval(values(record, name, 'kl')):.5f}")
                cells += [f"{intervals.t_interval(values(record, name, each)):.3f}" for each in categories]
                text.append(f"  {name:72}" + "".join(f"{cell:18}" for cell in cells) + doses(record, name))
    text += ["", "base by base: log-odds of the student, the rows' author and the auditor's teacher; cosine of the "
             "student's displacement with the auditor's"]  # fmt: skip
    for name, unit in record.results.items():
        text.append(
            f"  {name}: {unit['entries'][NONE]['trait']:+.2f} (base {unit['entries'][BASE]['trait']:+.2f}), "
            f"{unit['teacher']:+.2f}, {unit['auditor']:+.2f}; {unit['cosine']:.3f}"
        )
    return text + [f"note: {note}" for note in record.notes]


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of the study, or it is damaged.
    """
    style.use()
    record = records.read(path, form.FORM)
    rows = record.description["rows"]
    figure, axes = plt.subplots(
        1, 3, figsize=(11.0, 0.8 + 0.21 * len(rows)), layout="constrained", sharey=True, width_ratios=(1, 1, 0.8)
    )
    steps = record.config["checkpoints"][-1]
    panels = (
        ("what is left", {row: left(record, row) for row in rows}, "log-odds over the base's, nats"),
        (f"after {steps} steps on lessons", {row: left(record, row, relearnt=True) for row in rows},
         "log-odds over the base's after them"),
        ("what it costs", {row: values(record, row, "kl") for row in rows}, "divergence, nats a token"),
    )  # fmt: skip
    for ax, (title, numbers, label) in zip(axes, panels, strict=True):
        _draw(ax, rows, numbers)
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_xlabel(label)
    for ax in axes[:2]:
        ax.axvline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    axes[2].set_xscale("symlog", linthresh=1e-4)
    axes[2].set_xlim(left=0)
    axes[2].tick_params(axis="x", labelsize=7)
    sentences = [
        f"Students that acquired {record.config['target']} from numbers, {len(record.results)} embedded bases: a dot "
        f"is a base, the larger one their mean with a 95 % t-interval from four bases on; dotted: the base. Record "
        f"{path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), 170)), va="top", fontsize=7, color="#444444")
    return list(style.save(figure, stem))


def _draw(ax: Axes, rows: dict, numbers: dict[str, np.ndarray]) -> None:
    """A line for each edit: every base a dot, the mean and its interval on top."""
    order = [name for kind in TITLES for name, row in rows.items() if row["kind"] == kind]
    for place, name in enumerate(order):
        colour, interval = COLOURS[rows[name]["kind"]], intervals.t_interval(numbers[name])
        ax.scatter(numbers[name], np.full(len(numbers[name]), place), s=7, color=colour, alpha=0.45, linewidth=0)
        half = interval.half_width if interval.is_known else 0.0
        ax.errorbar(interval.mean, place, xerr=half, color=colour, marker="o", markersize=4, capsize=2, linewidth=1)
    ax.set_yticks(range(len(order)), order, fontsize=6.5)
    ax.set_ylim(len(order) - 0.4, -0.6)
