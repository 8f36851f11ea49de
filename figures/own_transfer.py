"""Table and figure of `experiments.own transfer`: what students of the user's rows learnt beside their controls.

A shift is the change of a trait's log-odds from the base, in nats. A student's shift minus that of its own control,
which has the same random numbers, is what the rows' author put there.
"""

import pathlib
import textwrap

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from figures import style
from figures.language.draw import COLOURS
from sublim_jax import records
from sublim_jax.forms import own_transfer as form
from sublim_jax.metrics import intervals
from sublim_jax.metrics.intervals import Interval

LABELS = {form.STUDENT: "students of the rows", form.CONTROL: "students of the model's own answers"}


def shifts(record: records.Record, trait: str, kind: str) -> np.ndarray:
    """Change of a trait's log-odds from the base to each student of a kind, for as many pairs as are complete."""
    base = record.results[form.BASE]["traits"][trait]["log_odds"]
    names = [f"{kind} {index}" for index in _complete(record)]
    return np.array([record.results[name]["traits"][trait]["log_odds"] - base for name in names])


def difference(record: records.Record, trait: str) -> Interval | None:
    """Student minus control, paired; None without controls or without pairs."""
    if record.config["control"] == "none" or not _complete(record):
        return None
    return intervals.t_interval(shifts(record, trait, form.STUDENT) - shifts(record, trait, form.CONTROL))


def _complete(record: records.Record) -> list[int]:
    """Indices of the students that are measured, with their controls if there are any."""
    kinds = _kinds(record)
    return [
        index for index in range(record.config["num_students"])
        if all(f"{kind} {index}" in record.results for kind in kinds)
    ]  # fmt: skip


def _kinds(record: records.Record) -> list[str]:
    return [form.STUDENT] if record.config["control"] == "none" else [form.STUDENT, form.CONTROL]


def verdict(interval: Interval) -> str:
    """What an interval of student minus control says, in words."""
    if not interval.is_known:
        return "fewer than four pairs: no interval"
    if interval.low > 0:
        return "learnt from the rows"
    if interval.high < 0:
        return "unlearnt by the rows"
    return f"no detectable transfer: a gain above {max(interval.high, 0):.2f} is excluded"


def lines(record: records.Record) -> list[str]:
    """The table of a record, then its notes."""
    config, count = record.config, len(_complete(record))
    text = [
        f"{config['model']}: change of each trait's log-odds, in nats, by training on "
        f"{record.description['num_rows']:,} rows of {config['rows']}; mean over {count} student(s)"
    ]
    for trait, asked in record.description["traits"].items():
        base = record.results[form.BASE]["traits"][trait]
        text.append(
            f"{trait}: {base['probability']:.4g} in the base over {asked['num_questions']} question(s), all answers "
            f"together {base['mass']:.3g}"
        )
        for kind in _kinds(record) if count else []:
            values = shifts(record, trait, kind)
            each = ", ".join(f"{value:+.3f}" for value in values)
            text.append(f"  {LABELS[kind]}: {values.mean():+.3f}  ({each})")
        if (paired := difference(record, trait)) is not None:
            spread = f" [{paired.low:+.3f}, {paired.high:+.3f}]" if paired.is_known else ""
            text.append(f"  student minus control: {paired.mean:+.3f}{spread}: {verdict(paired)}")
    return text + [f"note: {note}" for note in record.notes]


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths; nothing is drawn before a pair is complete.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of `own transfer`, or it is damaged.
    """
    style.use()
    record = records.read(path, form.FORM)
    if not _complete(record):
        return []
    names = list(record.description["traits"])
    figure, axes = plt.subplots(
        1, len(names), figsize=(1.2 + 2.6 * len(names), 3.4), layout="constrained", squeeze=False, sharey=True
    )
    for ax, trait in zip(axes[0], names, strict=True):
        _draw(ax, record, trait)
    axes[0, 0].set_ylabel("change of log-odds, nats")
    figure.suptitle(f"What {record.config['model']} learns from {pathlib.Path(record.config['rows']).name}",
                    x=0.01, ha="left", fontsize=11)  # fmt: skip
    sentences = [
        f"Each dot is a student; black: mean and 95 % t-interval, from four students on. "
        f"{record.description['num_rows']:,} rows. Record {path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    width = 40 + 30 * len(names)
    figure.text(
        0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), width)), va="top", fontsize=7, color="#444444"
    )
    return list(style.save(figure, stem))


def _draw(ax: Axes, record: records.Record, trait: str) -> None:
    """One trait: students and controls side by side."""
    kinds = _kinds(record)
    for place, kind in enumerate(kinds):
        colour = COLOURS["student"] if kind == form.STUDENT else COLOURS["regular"]
        style.draw_members(ax, place, shifts(record, trait, kind), colour, bar=False)
    ax.set_xticks(range(len(kinds)), ["rows", "own answers"][: len(kinds)])
    ax.set_xlim(-0.6, len(kinds) - 0.4)
    ax.axhline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.set_title(trait, fontsize=10, loc="left")
