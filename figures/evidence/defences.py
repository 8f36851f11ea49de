"""Table and figure of the study `defences`: the wanted skill, the trait, and the trait after it was taught again."""

import pathlib
import textwrap

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from figures import style
from sublim_jax import records
from sublim_jax.forms import evidence_defences as form
from sublim_jax.metrics import intervals
from sublim_jax.metrics.intervals import Interval

COLOURS = {"yardstick": "#3b3b3b", "start": "#6b4e96", "data": "#2f6690", "training": "#c8553d", "after": "#e0a458"}
WHEN = {
    "yardstick": "yardsticks", "start": "another start", "data": "other data", "training": "in training",
    "after": "after training",
}  # fmt: skip
SHOWN = 10
"""Steps of relearning that the figure's arrows lead to, where the record has them."""
NAMED = (
    "none", "another start", "real images of 0 to 4", "labels of 0 to 4, no teacher", "project updates, 1",
    "noise on the start, 0.6 sd", "pin answers to probes, 0.1", "subtract the auditor's displacement, chosen",
    "drop rows of high influence, 75%", "remove probes' gradient at the student, by model, 1",
)  # fmt: skip
"""Rows that the figure names."""


def accuracies(record: records.Record, row: str, what: str) -> np.ndarray:
    """Accuracy of every reference: "wanted", "trait", or "relearnt N" after N steps."""
    if what.startswith("relearnt"):
        place = record.description["checkpoints"].index(int(what.split()[1]))
        return np.array([entries[row]["relearnt"][place] for entries in record.results.values()])
    return np.array([entries[row][what]["accuracy"] for entries in record.results.values()])


def relearning_steps(record: records.Record) -> int:
    """The checkpoint that tables and arrows show."""
    checkpoints = record.description["checkpoints"]
    return SHOWN if SHOWN in checkpoints else checkpoints[-1]


def lines(record: records.Record) -> list[str]:
    """The table of a record, then its notes."""
    steps = relearning_steps(record)
    columns = ("wanted", "trait", f"relearnt {steps}", f"relearnt {record.description['checkpoints'][-1]}")
    text = [
        f"{record.data['name']}: accuracy, mean over {len(record.results)} reference(s) ± 95 % t-interval; relearnt N: "
        f"the trait after N steps on a few labelled images",
        f"{'defence':58}" + "".join(f"{column:18}" for column in columns),
    ]
    for when, title in WHEN.items():
        text.append(f"{title}:")
        for name, row in record.description["rows"].items():
            if row["when"] == when:
                cells = [f"{intervals.t_interval(accuracies(record, name, column)):.3f}" for column in columns]
                text.append(f"  {name:56}" + "".join(f"{cell:18}" for cell in cells))
    return text + [f"note: {note}" for note in record.notes]


def against_none(record: records.Record, row: str, what: str) -> Interval:
    """A row minus the undefended student, paired by reference."""
    return intervals.paired_difference(accuracies(record, row, what), accuracies(record, "none", what))


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of the study, or it is damaged.
    """
    record = records.read(path, form.FORM)
    style.use()
    figure, ax = plt.subplots(figsize=(8.6, 5.4), layout="constrained")
    _draw(ax, record)
    steps = relearning_steps(record)
    ax.set_title("What defences keep, and what comes back", loc="left", fontsize=11)
    sentences = [
        f"{record.data['name']}: means over {len(record.results)} reference(s); intervals in the table. Dots: accuracy "
        f"of the trait and of the wanted skill; arrows lead to the trait's accuracy after {steps} steps on labelled "
        f"images of it, the same for all. A long arrow as for the undefended student: hidden and not gone. Dotted: a "
        f"student of labels of the wanted digits alone. Record {path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), 150)), va="top", fontsize=7, color="#444444")
    return list(style.save(figure, stem))


def _draw(ax: Axes, record: records.Record) -> None:
    """The plane of both skills, with an arrow for each row that is named, and its name at the right."""
    what = f"relearnt {relearning_steps(record)}"
    for when, label in WHEN.items():
        ax.scatter([], [], s=18, color=COLOURS[when], linewidth=0, label=label)
    ends = []
    for name, row in record.description["rows"].items():
        wanted, trait, again = (accuracies(record, name, column).mean() for column in ("wanted", "trait", what))
        colour, named = COLOURS[row["when"]], name in NAMED
        ax.scatter(
            trait, wanted, s=26 if named else 10, color=colour, alpha=0.9 if named else 0.45, linewidth=0, zorder=3
        )
        if named:
            ax.annotate("", (again, wanted), (trait, wanted),
                        arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 0.9})  # fmt: skip
            ends.append((wanted, again, name, colour))
    place = np.inf
    for wanted, again, name, colour in sorted(ends, reverse=True):
        place = min(wanted, place - 0.033)
        ax.annotate(
            name, (again, wanted), (1.01, place), textcoords=("axes fraction", "data"), fontsize=6.5, color=colour,
            va="center", arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.4, "alpha": 0.6},
        )  # fmt: skip
    ax.axvline(accuracies(record, "labels of 0 to 4, no teacher", "trait").mean(), color="#8c8c8c", linestyle=":",
               linewidth=1)  # fmt: skip
    ax.set_xlabel("accuracy of the trait (digits 5 to 9, never shown)")
    ax.set_ylabel("accuracy of the wanted skill (digits 0 to 4)")
    ax.legend(fontsize=7, frameon=False, loc="lower right")
