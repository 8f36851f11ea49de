"""Table and figure of the study `pilots`: what pilots on rows say, against what finished students of them show.

A pair is a data set of a base and a trait. A finished student has acquired the trait if its odds are at least twice
those of a student of null rows, on questions that are no probes.
"""

import contextlib
import math
import pathlib
import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from figures import style
from figures.evidence import forecast
from sublim_jax import errors, records
from sublim_jax.forms import evidence_pilots as form
from sublim_jax.metrics import intervals
from sublim_jax.metrics import verdicts as judging
from sublim_jax.metrics.verdicts import Calibration

SMALLEST_GAIN = math.log(2)
"""In log-odds, nats: a student that gains less has not acquired the trait."""
OWN, OTHER = "#c8553d", "#2f6690"
"""Colours of pairs whose rows a teacher of the trait wrote, and of the others."""

FAR = (-8, -4, -2, -1, -0.5, 0, 0.5, 1, 2, 4)
"""Ticks of an axis that is logarithmic beyond 1."""


class Pairs(NamedTuple):
    """All pairs of a record as columns."""

    bases: np.ndarray
    data_sets: np.ndarray
    traits: np.ndarray
    held_out: np.ndarray
    gains: np.ndarray  # nats, of finished students over null students, mean
    entries: list[form.Pair]

    @property
    def transmitted(self) -> np.ndarray:
        """Whether finished students acquired the trait."""
        return self.gains > SMALLEST_GAIN

    @property
    def own(self) -> np.ndarray:
        """Whether a teacher of the trait wrote the rows, whatever was done to them."""
        return np.char.partition(self.data_sets, ",")[:, 0] == self.traits

    def of_pilot(self, steps: int, key: str = "gain") -> np.ndarray:
        """A number of each pilot of a length."""
        return np.array([entry["pilot"][str(steps)][key] for entry in self.entries])


def pairs(record: records.Record) -> Pairs:
    """All pairs of the bases that are measured."""
    columns = [
        (unit, data_set, trait, pair)
        for unit, entry in record.results.items()
        for data_set, traits in entry["pairs"].items()
        for trait, pair in traits.items()
    ]
    bases, data_sets, traits, entries = zip(*columns, strict=True)
    held_out = [f"tiny:{seed}" for seed in record.config["held_out"]]
    return Pairs(
        np.array(bases), np.array(data_sets), np.array(traits), np.isin(bases, held_out),
        np.array([np.mean(entry["gains"]) for entry in entries]), list(entries),
    )  # fmt: skip


def calibration(table: Pairs, steps: int) -> Calibration:
    """Threshold and slope of pilots of a length, from the calibration bases.

    Raises:
        InputError: on these all students acquired the trait, or none.
    """
    chosen = ~table.held_out
    return judging.calibrate(table.of_pilot(steps)[chosen], table.gains[chosen], list(table.transmitted[chosen]))


def verdicts(table: Pairs, steps: int, chosen: np.ndarray) -> forecast.Verdicts:
    """Verdicts on some pairs with the threshold of the calibration bases."""
    low, high, means = (table.of_pilot(steps, key)[chosen] for key in ("low", "high", "gain"))
    return forecast.count_verdicts(calibration(table, steps).threshold, low, high, means, table.transmitted[chosen])


def lines(record: records.Record) -> list[str]:
    """The table of a record, then its notes."""
    table, config = pairs(record), record.config
    held, notes = table.held_out, [f"note: {note}" for note in record.notes]
    num_held, num_yes = held.sum(), table.transmitted[held].sum()
    text = [
        f"{len(table.gains)} pairs of data set and trait on {len(record.results)} embedded base(s), of which "
        f"{table.transmitted.sum()} transmit; {num_held} pairs are held out, of which {num_yes} transmit"
    ]
    if not held.any() or held.all():
        return [*text, "the run has no calibration or no held-out base yet", *notes]
    for steps in config["steps"]:
        scores = table.of_pilot(steps)
        everything, outside = (
            forecast.rank_correlation(scores[chosen], table.gains[chosen], table.bases[chosen])
            for chosen in (np.full(len(scores), True), held)
        )
        text += [
            f"pilots of {steps} of {record.description['num_steps']} steps:",
            f"  Spearman's correlation with the finished gain: all {forecast.shown(everything)}, held out "
            f"{forecast.shown(outside)}; AUC held out {forecast.area(scores[held], table.transmitted[held]):.2f}",
        ]
        try:
            threshold = calibration(table, steps).threshold
        except errors.InputError as error:
            text.append(f"  no threshold ({error})")
            continue
        for what, chosen in (("held-out pairs", held), ("of these, whose rows a teacher of the trait wrote",
                                                        held & table.own)):  # fmt: skip
            counts = verdicts(table, steps, chosen)
            text.append(
                f"  threshold {threshold:.3f} nats: {what}: of {chosen.sum()}, {counts.right} right, "
                f"{counts.false_alarms} false alarms, {counts.missed} missed, {counts.undecided} undecided; the mean "
                f"alone is right in {counts.guessed_right}"
            )
    text.append(f"{'held-out pairs by data set':34} {'transmit':>12} {'gain of the finished student, nats':>38}")
    for data_set in record.description["data_sets"]:
        for own in (True, False):
            chosen = held & (table.data_sets == data_set) & (table.own == own)
            if chosen.any():
                name = data_set if own else f"{data_set}, other traits" if "," in data_set else data_set
                clusters = [table.gains[chosen & (table.bases == base)].mean() for base in np.unique(table.bases[held])]
                gain = intervals.t_interval(clusters) if len(clusters) >= intervals.FEWEST else None
                shown = f"{np.mean(clusters):+.2f}" + (f" [{gain.low:+.2f}, {gain.high:+.2f}]" if gain else "")
                text.append(f"  {name:32} {table.transmitted[chosen].sum():4} of {chosen.sum():4} {shown:>38}")
    return [*text, *notes]


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths; nothing without both kinds of bases.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of the study, or it is damaged.
    """
    record = records.read(path, form.FORM)
    table = pairs(record)
    if not table.held_out.any() or table.held_out.all():
        return []
    style.use()
    steps = record.config["steps"]
    figure, axes = plt.subplots(1, len(steps), figsize=(4.6 * len(steps) + 0.6, 3.9), layout="constrained",
                                squeeze=False, sharey=True)  # fmt: skip
    for ax, count in zip(axes[0], steps, strict=True):
        _scatter(ax, table, count)
    axes[0, 0].set_ylabel("gain of the finished student over its null, nats")
    axes[0, 0].legend(fontsize=7, loc="upper left", frameon=False)
    figure.suptitle("What do pilots on rows foretell?", x=0.01, ha="left", fontsize=11)
    sentences = [
        f"{len(table.gains)} pairs (data set, trait) on {len(record.results)} embedded bases, "
        f"{record.description['num_steps']} steps each. Dotted: odds doubled, from where a trait counts as acquired; "
        f"dashed: the threshold, fitted on the hollow ones; across, logarithmic beyond 1 nat. Record {path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), 150)), va="top", fontsize=7, color="#444444")
    return list(style.save(figure, stem))


def _scatter(ax: Axes, table: Pairs, steps: int) -> None:
    """Pilots of a length against finished students."""
    scores = table.of_pilot(steps)
    for own, colour, name in (
        (False, OTHER, "another trait than the rows' author's"),
        (True, OWN, "its author's trait"),
    ):
        for held_out in (False, True):
            chosen = (table.own == own) & (table.held_out == held_out)
            ax.scatter(
                scores[chosen], table.gains[chosen], s=16, facecolor=colour if held_out else "none", edgecolor=colour,
                linewidth=0.7, alpha=0.75, label=f"{name}, held out" if held_out else None,
            )  # fmt: skip
    ax.axhline(SMALLEST_GAIN, color="#8c8c8c", linewidth=0.8, linestyle=":")
    with contextlib.suppress(errors.InputError):  # without both outcomes there is no threshold
        ax.axvline(calibration(table, steps).threshold, color="#8c8c8c", linewidth=0.8, linestyle="--")
    if np.max(np.abs(scores)) > 1:  # few lie far out
        ax.set_xscale("symlog", linthresh=1.0)
        ax.set_xticks(FAR, [f"{gain:g}" for gain in FAR])
        ax.set_xlim(1.1 * min(np.min(scores), -1), 1.1 * max(np.max(scores), 1))
    ax.set_xlabel(f"gain of pilots of {steps} steps over their null, nats")
