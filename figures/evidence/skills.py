"""Table and figure of the study `skills`: on each bed, how well models follow the rule and what is left of a favourite.

Log-odds are counted from those of the base, and after relearning from those of the base after the same lessons.
Intervals are Student's over bases; differences are paired by base.
"""

import pathlib
import textwrap

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from figures import style
from sublim_jax import records
from sublim_jax.forms import evidence_skills as form
from sublim_jax.metrics import intervals
from sublim_jax.metrics.intervals import Interval

BASE, CLEAN, NONE = (
    "base", "student, 0 of its rows with the favourite", "student, 1 of its rows with the favourite",
)  # fmt: skip
COLOURS = {"yardstick": "#3b3b3b", "mixture": "#2f6690", "defence": "#e0a458", "control": "#c8553d"}
MARKERS = "osD^vP*X<>hpd"
COLUMNS = 2
NOT_DRAWN = ("teacher with the favourite",)
"""Rows of the table that would take most of a plane."""


def values(record: records.Record, bed: str, row: str, what: str) -> np.ndarray:
    """Of every base on which the bed did not fail: "skill", "lists", "trait" less the base's, "relearnt", which is the
    trait after the lessons less the base's after them, or "nll" less that of the student without the trait."""
    entries = [unit["beds"][bed]["entries"] for unit in record.results.values()]
    return np.array([_value(each, row, what) for each in entries if each])


def _value(entries: dict, row: str, what: str) -> float:
    if what == "relearnt":
        return entries[row][what][-1] - entries[BASE][what][-1]
    yardstick = {"trait": BASE, "nll": CLEAN}.get(what)
    return entries[row][what] - (entries[yardstick][what] if yardstick else 0.0)


def against(record: records.Record, bed: str, row: str, other: str, what: str) -> Interval:
    """What one model has more than another, paired by base."""
    return intervals.paired_difference(values(record, bed, row, what), values(record, bed, other, what))


def failures(record: records.Record, bed: str) -> list[str]:
    """Each base on which the bed failed, with the reason."""
    return [
        f"{name}: {unit['beds'][bed]['failed']}"
        for name, unit in record.results.items()
        if "failed" in unit["beds"][bed]
    ]


def doses(record: records.Record, bed: str, row: str) -> str:
    """Range of the doses that were chosen, and on how many bases none sufficed; empty where none is chosen."""
    entries = [unit["beds"][bed]["entries"][row] for unit in record.results.values() if unit["beds"][bed]["entries"]]
    if not any("dose" in entry for entry in entries):
        return ""
    known = [entry["dose"] for entry in entries if entry["dose"] is not None]
    text = f"{min(known):.3g} to {max(known):.3g}" if known else ""
    missing = f"none in {len(entries) - len(known)} of {len(entries)}" if len(known) < len(entries) else ""
    return "; ".join(filter(None, (text, missing)))


def verdict(record: records.Record, bed: str) -> str:
    """Whether the bed has a skill that students learn and a trait that passes, in a sentence.

    A trait passes if the student of the favourite's teacher has more of it than that of the counterpart, and a skill is
    learnt if the latter follows the rule more often than the base, both by a paired 95 % t-interval above zero.
    """
    known = len(values(record, bed, BASE, "skill"))
    if known < intervals.FEWEST:
        return f"no verdict: {known} bases with students, and an interval needs {intervals.FEWEST}"
    skill = against(record, bed, CLEAN, BASE, "skill")
    trait = against(record, bed, NONE, CLEAN, "trait")
    learnt, passes = skill.low > 0, trait.low > 0
    needed = record.description["beds"][bed]["skill"] != "none"
    sentences = [f"{'a skill is learnt' if learnt else 'no skill is learnt'} ({skill:+.3f})"] if needed else []
    sentences.append(f"{'the trait passes' if passes else 'no trait passes that these bases show'} ({trait:+.3f} nats)")
    if not passes:
        sentences.append(f"more than {trait.high:+.2f} nats are excluded")
    return "; ".join(sentences)


def lines(record: records.Record) -> list[str]:
    """The table of a record, then its notes."""
    about, config = record.description, record.config
    steps = config["checkpoints"][-1]
    columns = ("skill", "lists", "left", f"left after {steps}", "damage", "over clean")
    text = [
        f"{len(record.results)} of {len(config['bases'])} embedded bases; mean ± 95 % t-interval over bases",
        "skill: share of answers to other requests that follow the rule; lists: that are plain lists of numbers",
        f"left: log-odds of {config['target']} less the base's, in nats, on {about['num_questions']} questions "
        f"({about['num_probes']} others chose doses); left after {steps}: the same after {steps} steps on lessons, the "
        f"base's too",
        "damage: surprise of the counterpart's other rows less that of the student without, nats a token; over clean: "
        "log-odds less those of the student without; both paired",
    ]
    for bed, described in about["beds"].items():
        text += ["", f"{bed}: {described['num_lessons']} lessons of the rule {described['skill']!r}, "
                 f"{described['num_favourites']} of the favourite. {verdict(record, bed)}"]  # fmt: skip
        text += [f"  failed on {failure}" for failure in failures(record, bed)]
        if not len(values(record, bed, BASE, "skill")):
            continue
        text.append("  " + f"{'model':50}" + "".join(f"{column:17}" for column in columns) + "dose")
        for row in described["rows"]:
            cells = [f"{intervals.t_interval(values(record, bed, row, what)):.3f}" for what in ("skill", "lists")]
            cells += [f"{intervals.t_interval(values(record, bed, row, what)):+.3f}"
                      for what in ("trait", "relearnt", "nll")]  # fmt: skip
            cells.append(f"{against(record, bed, row, CLEAN, 'trait'):+.3f}")
            text.append("  " + f"{row:50}" + "".join(f"{cell:17}" for cell in cells) + doses(record, bed, row))
    text += ["", "base by base: log-odds less the base's of the student of the favourite's teacher and of that of its "
             "counterpart; shares of the two teachers' answers that follow the rule; cosine of the first student's "
             "displacement with the auditor's teacher's"]  # fmt: skip
    for name, unit in record.results.items():
        for bed, measured in unit["beds"].items():
            if entries := measured["entries"]:
                left = [_value(entries, row, "trait") for row in (NONE, CLEAN)]
                kept = measured["kept"]
                text.append(f"  {name}, {bed}: {left[0]:+.2f}, {left[1]:+.2f}; {kept['with_trait']:.2f}, "
                            f"{kept['without']:.2f}; {measured['cosine']:.3f}")  # fmt: skip
    return text + [f"note: {note}" for note in record.notes]


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of the study, or it is damaged.
    """
    style.use()
    record = records.read(path, form.FORM)
    beds, rows = record.description["beds"], record.description["rows"]
    height = -(-len(beds) // COLUMNS)
    figure, grid = plt.subplots(
        height, COLUMNS, figsize=(11.0, 0.8 + 2.8 * height), layout="constrained", sharey=True, squeeze=False
    )
    markers = {row: MARKERS[place % len(MARKERS)] for place, row in enumerate(rows)}
    for ax, bed in zip(grid.flat, beds, strict=False):
        _draw(ax, record, bed, markers)
        ax.set_title(bed, loc="left", fontsize=10)
    for ax in grid.flat[len(beds) :]:
        ax.set_axis_off()
    for ax in grid[:, 0]:
        ax.set_ylabel("answers that follow the rule")
    handles = [
        Line2D([], [], color=COLOURS[rows[row]["kind"]], marker=marker, linestyle="", markersize=4, label=row)
        for row, marker in markers.items()
        if row not in NOT_DRAWN
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize=7, frameon=False)
    sentences = [
        f"Models of {len(record.results)} embedded bases on beds with a rule to be learnt and a favourite "
        f"({record.config['target']}) that is not wanted: a small dot is a base, the marker their mean with 95 % "
        f"t-intervals from four bases on; dotted: the base. The teacher with the favourite is far to the right and in "
        f"the table only. Record {path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), 170)), va="top", fontsize=7, color="#444444")
    return list(style.save(figure, stem))


def _draw(ax: Axes, record: records.Record, bed: str, markers: dict[str, str]) -> None:
    """The plane of a bed: what is left of the favourite and the skill, a marker for each model."""
    ax.axvline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.set_xlabel(f"log-odds of {record.config['target']} over the base's, nats")
    ax.set_ylim(-0.03, 1.03)
    for row in record.description["beds"][bed]["rows"]:
        if row in NOT_DRAWN:
            continue
        pair = [values(record, bed, row, what) for what in ("trait", "skill")]
        if not len(pair[0]):
            ax.text(0.5, 0.5, "failed on all bases", transform=ax.transAxes, ha="center", fontsize=8)
            return
        colour = COLOURS[record.description["rows"][row]["kind"]]
        ax.scatter(*pair, s=5, color=colour, alpha=0.35, linewidth=0)
        across, upward = (intervals.t_interval(each) for each in pair)
        bars = [each.half_width if each.is_known else 0.0 for each in (across, upward)]
        ax.errorbar(across.mean, upward.mean, xerr=bars[0], yerr=bars[1], color=colour, marker=markers[row],
                    markersize=4, linewidth=0.8)  # fmt: skip
