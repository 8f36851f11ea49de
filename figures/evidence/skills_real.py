"""Table and figure of the study `skills_real`: skill and trait of a real model's students, counted from the base.

Intervals are Student's over seeds, none from fewer than four; differences are paired by seed.
"""

import pathlib
import textwrap

import numpy as np
from matplotlib import pyplot as plt

from figures import style
from sublim_jax import records
from sublim_jax.forms import evidence_skills_real as form
from sublim_jax.metrics import intervals
from sublim_jax.metrics.intervals import Interval

COLOURS = {"yardstick": "#3b3b3b", "student": "#2f6690", "defence": "#e0a458", "control": "#c8553d"}
DRAWN = (form.BASE, form.CLEAN, form.STUDENT, form.SUBTRACTED, form.RANDOM)
"""Rows of the table that are drawn; teachers would take most of the plane."""
MARKERS = dict(zip(DRAWN, "osD^v", strict=True))
MEASURES = ("skill", "trait", "others")
BEYOND = "beyond others"
"""The trait less the mean of the other animals, which students of any teacher may say more or less often."""


def values(record: records.Record, row: str, what: str) -> np.ndarray:
    """Log-odds of a model less the base's, of every seed in the order of the record; or `BEYOND`."""
    if what == BEYOND:
        return values(record, row, "trait") - values(record, row, "others")
    units = [unit["entries"] for unit in record.results.values()]
    return np.array([entries[row][what] - entries[form.BASE][what] for entries in units])


def against(record: records.Record, row: str, other: str, what: str) -> Interval:
    """What one model has more than another, paired by seed."""
    return intervals.paired_difference(values(record, row, what), values(record, other, what))


def _doses(record: records.Record) -> list[float | None]:
    """The dose that was chosen for every seed, None where none sufficed."""
    return [unit["entries"][form.SUBTRACTED].get("dose") for unit in record.results.values()]


def _nothing_subtracted(record: records.Record) -> bool:
    """Whether the dose 0 was chosen for every seed, so that defended students are as they were."""
    return all(dose == 0 for dose in _doses(record))


def doses(record: records.Record) -> str:
    """Range of the doses that were chosen, and for how many seeds none sufficed."""
    chosen = _doses(record)
    known = [dose for dose in chosen if dose is not None]
    text = f"{min(known):.3g} to {max(known):.3g}" if known else ""
    missing = f"none in {len(chosen) - len(known)} of {len(chosen)}" if len(known) < len(chosen) else ""
    return "; ".join(filter(None, (text, missing)))


def verdicts(record: records.Record) -> list[str]:
    """Whether students learn the skill, whether the trait passes, and what the defence takes away, in sentences.

    Each is a difference between two models, paired by seed, with a 95 % t-interval.
    """
    pairs = (
        ("the skill, of the counterpart's student over the base", form.CLEAN, form.BASE, "skill", "is learnt"),
        ("the trait, of the favourite's student over the counterpart's", form.STUDENT, form.CLEAN, "trait", "passes"),
        ("the trait, of the undefended over the defended student", form.STUDENT, form.SUBTRACTED, "trait",
         "is reduced"),
        ("the skill, of the undefended over the defended student", form.STUDENT, form.SUBTRACTED, "skill",
         "is reduced"),
        ("the trait less what other animals gain, of the favourite's student over the counterpart's", form.STUDENT,
         form.CLEAN, BEYOND, "is the favourite's"),
    )  # fmt: skip
    nothing = _nothing_subtracted(record)
    return [
        f"{about}: no verdict, as nothing was subtracted: no seed's probes show more of the trait than the base's"
        if nothing and other == form.SUBTRACTED
        else _verdict(about, verb, against(record, row, other, what))
        for about, row, other, what, verb in pairs
    ]


def _verdict(about: str, verb: str, interval: Interval) -> str:
    if not interval.is_known:
        text = f"no verdict, as an interval needs {intervals.FEWEST} seeds"
    elif interval.low > 0:
        text = f"it {verb}"
    elif interval.high < 0:
        text = "the other way round"
    else:
        text = f"no detectable change; more than {interval.high:+.2f} nats and less than {interval.low:+.2f} excluded"
    return f"{about}: {interval:+.3f} nats: {text}"


def lines(record: records.Record) -> list[str]:
    """The table of a record, then its notes."""
    about, config = record.description, record.config
    text = [
        f"{config['backend']}, {len(record.results)} of {len(config['seeds'])} seeds; mean ± 95 % t-interval",
        f"skill: log-odds of the semicolon against the comma after a number, {about['num_asked']} beginnings of "
        f"answers; trait: log-odds of {config['target']} on {about['num_questions']} questions ({about['num_probes']} "
        f"others chose doses); others: the same, mean over {len(about['animals']) - 1} other animals; all less the "
        f"base's, in nats",
        f"students of {config['num_steps']} steps, compared with teachers over {about['num_tokens']} tokens "
        f"({config['tokens']}); over clean: the trait less that of the {form.CLEAN}, paired",
        "",
        *verdicts(record),
        "",
        "  " + f"{'model':42}" + "".join(f"{column:20}" for column in (*MEASURES, "over clean")) + "dose",
    ]
    for row in form.ROWS:
        cells = [f"{intervals.t_interval(values(record, row, what)):+.3f}" for what in MEASURES]
        cells.append(f"{against(record, row, form.CLEAN, 'trait'):+.3f}")
        dose = doses(record) if row == form.SUBTRACTED else ""
        text.append("  " + f"{row:42}" + "".join(f"{cell:20}" for cell in cells) + dose)
    text += ["", "seed by seed: trait of the favourite's student, the counterpart's and the defended one; their skill; "
             "KL divergence of the first from its teacher in the first and last step"]  # fmt: skip
    for place, (name, unit) in enumerate(record.results.items()):
        parts = [
            ", ".join(f"{values(record, row, what)[place]:+.2f}" for row in (form.STUDENT, form.CLEAN, form.SUBTRACTED))
            for what in ("trait", "skill")
        ]
        divergence = unit["divergence"][form.STUDENT]
        text.append(f"  {name}: {parts[0]}; {parts[1]}; {divergence['first']:.3g}, {divergence['last']:.3g}")
    return text + [f"note: {note}" for note in record.notes]


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of the study, or it is damaged.
    """
    style.use()
    record = records.read(path, form.FORM)
    figure, ax = plt.subplots(figsize=(8.0, 3.6), layout="constrained")
    ax.axvline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.axhline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    nothing = _nothing_subtracted(record)
    pairs = [(values(record, form.CLEAN, what), values(record, form.STUDENT, what)) for what in ("trait", "skill")]
    ax.plot(*pairs, color="#b0b0b0", linewidth=0.6, zorder=0)
    for row, marker in MARKERS.items():
        if nothing and row in (form.SUBTRACTED, form.RANDOM):
            continue
        colour, pair = COLOURS[form.ROWS[row]], [values(record, row, what) for what in ("trait", "skill")]
        ax.scatter(*pair, s=7, color=colour, alpha=0.4, linewidth=0)
        across, upward = (intervals.t_interval(each) for each in pair)
        bars = [each.half_width if each.is_known else 0.0 for each in (across, upward)]
        ax.errorbar(across.mean, upward.mean, xerr=bars[0], yerr=bars[1], color=colour, marker=marker, markersize=5,
                    linestyle="", linewidth=0.8, label=row)  # fmt: skip
    ax.set_xlabel(f"log-odds of {record.config['target']} over the base's, nats")
    ax.set_ylabel("log-odds of the semicolon over\nthe base's, nats")
    figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    sentences = [
        f"Students of {record.config['backend']} that learn semicolons between numbers from a teacher with a favourite "
        f"({record.config['target']}) or without; {len(record.results)} seeds: a small dot is a seed, the marker their "
        f"mean with 95 % t-intervals from four seeds on; grey lines: the two students of a seed; dotted: the base. "
        f"Teachers are in the table only. Record {path.name}.",
        *(
            ["Nothing was subtracted from any student, since no seed's probes show more of the trait than the base's."]
            if nothing
            else []
        ),
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), 130)), va="top", fontsize=7, color="#444444")
    return list(style.save(figure, stem))
