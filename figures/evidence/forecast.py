"""Table and figure of the study `forecast`: what pilots and gradient scores say, against what finished students show.

A triple is a reference, a data set and a trait. A student has acquired the trait if its loss has fallen by more than .1
nat and its accuracy has risen by .1 or more, against its own start, on test images that are no probes.
"""

import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy import stats

from figures import style
from sublim_jax import errors, records
from sublim_jax.forms import evidence_forecast as form
from sublim_jax.metrics import intervals
from sublim_jax.metrics import verdicts as judging
from sublim_jax.metrics.intervals import Interval
from sublim_jax.metrics.verdicts import Calibration

SMALLEST_GAIN, SMALLEST_RISE = 0.1, 0.1
"""In nats and in accuracy: a student that gains less has not acquired the trait."""
TRANSMITTED, NOT = "#c8553d", "#2f6690"
LABELS = {
    "dot": "product of gradients",
    "cosine": "cosine of gradients",
    "sign": "Adam's first step",
    "sign_cosine": "cosine of Adam's first step",
}


class Triples(NamedTuple):
    """All triples of a record as columns."""

    names: list[str]
    references: np.ndarray  # names of units
    held_out: np.ndarray
    gains: np.ndarray  # nats, of the finished student
    transmitted: np.ndarray
    entries: list[form.Triple]

    def of_pilot(self, steps: int, key: str = "gain") -> np.ndarray:
        """A number of each pilot at a checkpoint."""
        return np.array([entry["pilot"][str(steps)][key] for entry in self.entries])

    def of_score(self, score: form.Score) -> np.ndarray:
        """A first-order score."""
        return np.array([entry["scores"][score] for entry in self.entries])


def triples(record: records.Record) -> Triples:
    """All triples of the references that are measured."""
    names, references, entries = [], [], []
    for unit, cases in record.results.items():
        for name, entry in cases.items():
            names.append(name)
            references.append(unit)
            entries.append(entry)
    gains = np.array([entry["start"]["loss"] - entry["student"]["loss"] for entry in entries])
    rises = np.array([entry["student"]["accuracy"] - entry["start"]["accuracy"] for entry in entries])
    units = np.array(references)
    return Triples(
        names, units, np.char.startswith(units, form.HELD_OUT), gains,
        (gains > SMALLEST_GAIN) & (rises >= SMALLEST_RISE), entries,
    )  # fmt: skip


def rank_correlation(scores: np.ndarray, gains: np.ndarray, references: np.ndarray) -> Interval:
    """Spearman's correlation with a 95 % interval: a percentile bootstrap over references, which are the clusters.

    There is no interval for fewer than four references.
    """
    value = _spearman(scores, gains)
    units = np.unique(references)
    if len(units) < intervals.FEWEST or np.isnan(value):
        return Interval(value, -np.inf, np.inf, len(units))
    rng, draws = np.random.default_rng(0), []
    places = {unit: np.flatnonzero(references == unit) for unit in units}
    for _ in range(1000):
        chosen = np.concatenate([places[unit] for unit in rng.choice(units, len(units))])
        draws.append(_spearman(scores[chosen], gains[chosen]))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Interval(value, float(low), float(high), len(units))


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Not a number where all values of one are equal."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1])


def area(scores: np.ndarray, transmitted: np.ndarray) -> float:
    """Area under the curve: the probability that a transmitting triple has the larger score, ties counting half."""
    positive, negative = scores[transmitted], scores[~transmitted]
    if not len(positive) or not len(negative):
        return float("nan")
    return float(stats.mannwhitneyu(positive, negative).statistic) / (len(positive) * len(negative))


def calibration(table: Triples, steps: int) -> Calibration:
    """Threshold and slope of a pilot, from the calibration references."""
    chosen = ~table.held_out
    return judging.calibrate(table.of_pilot(steps)[chosen], table.gains[chosen], list(table.transmitted[chosen]))


class Verdicts(NamedTuple):
    """How many verdicts on held-out triples are right, wrong, or not given."""

    right: int
    false_alarms: int
    missed: int
    undecided: int
    guessed_right: int  # if the pilot's mean alone had to decide


def verdicts(table: Triples, steps: int) -> Verdicts:
    """Verdicts on the held-out triples with the threshold of the calibration references."""
    held = table.held_out
    low, high, means = (table.of_pilot(steps, key)[held] for key in ("low", "high", "gain"))
    return count_verdicts(calibration(table, steps).threshold, low, high, means, table.transmitted[held])


def count_verdicts(
    threshold: float, low: np.ndarray, high: np.ndarray, means: np.ndarray, transmitted: np.ndarray
) -> Verdicts:
    """Verdicts by the bounds of pilots' intervals, and by their means, against what finished students acquired."""
    says_yes, says_no = low > threshold, high < threshold
    return Verdicts(
        right=int(np.sum(says_yes & transmitted) + np.sum(says_no & ~transmitted)),
        false_alarms=int(np.sum(says_yes & ~transmitted)),
        missed=int(np.sum(says_no & transmitted)),
        undecided=int(np.sum(~says_yes & ~says_no)),
        guessed_right=int(np.sum((means > threshold) == transmitted)),
    )


def tangent_fit(table: Triples) -> tuple[float, float, int] | None:
    """The factor of the tangent model's gain on calibration triples, R² on held-out ones, and their number."""
    has = np.array(["tangent_loss" in entry for entry in table.entries])
    predicted = np.array([
        entry["start"]["loss"] - entry["tangent_loss"] if "tangent_loss" in entry else np.nan
        for entry in table.entries
    ])  # fmt: skip
    fit, test = has & ~table.held_out, has & table.held_out
    if not fit.any() or test.sum() < intervals.FEWEST:
        return None
    factor = float(np.sum(predicted[fit] * table.gains[fit]) / np.sum(predicted[fit] ** 2))
    rest = table.gains[test] - factor * predicted[test]
    return (
        factor,
        1 - float(np.sum(rest**2) / np.sum((table.gains[test] - table.gains[test].mean()) ** 2)),
        int(test.sum()),
    )


def lines(record: records.Record) -> list[str]:
    """The table of a record, then its notes."""
    table, config = triples(record), record.config
    steps_in_all, held = record.description["num_steps"], table.held_out
    text = [
        f"{record.data['name']}: {len(table.names)} triples of {len(record.results)} references, of which "
        f"{table.transmitted.sum()} transmit; {held.sum()} triples are held out",
        f"{'score':34} {'Spearman, all':22} {'Spearman, held out':26} AUC held out",
    ]
    if not held.any() or held.all():
        return [*text[:1], "the run has no calibration or no held-out reference yet", *_notes(record)]
    rows: list[tuple[str, np.ndarray]] = [(LABELS[score], table.of_score(score)) for score in form.SCORES]
    rows += [(f"pilot of {n} of {steps_in_all} steps", table.of_pilot(n)) for n in config["checkpoints"]]
    for name, scores in rows:
        every, outside = (
            rank_correlation(scores[chosen], table.gains[chosen], table.references[chosen])
            for chosen in (np.full(len(scores), True), held)
        )
        text.append(
            f"{name:34} {shown(every):22} {shown(outside):26} {area(scores[held], table.transmitted[held]):.2f}"
        )
    for steps in config["checkpoints"]:
        try:
            fitted, counts = calibration(table, steps), verdicts(table, steps)
        except errors.InputError as error:
            text.append(f"pilot of {steps} steps: no threshold ({error})")
            continue
        text.append(
            f"pilot of {steps} steps, threshold {fitted.threshold:.3f} nats: of {held.sum()} held-out triples "
            f"{counts.right} right, {counts.false_alarms} false alarms, {counts.missed} missed, {counts.undecided} "
            f"undecided; the mean alone is right in {counts.guessed_right}"
        )
    if (tangent := tangent_fit(table)) is not None:
        text.append(f"tangent model: factor {tangent[0]:.2f}, R² {tangent[1]:.3f} on {tangent[2]} held-out triples")
    return [*text, *_notes(record)]


def _notes(record: records.Record) -> list[str]:
    return [f"note: {note}" for note in record.notes]


def shown(value: Interval) -> str:
    """A correlation with its interval, as text."""
    if np.isnan(value.mean):
        return "undefined"
    bounds = f" [{value.low:.2f}, {value.high:.2f}]" if value.is_known else f" (n={value.num_members})"
    return f"{value.mean:.2f}{bounds}"


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths; nothing without both kinds of references.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of the study, or it is damaged.
    """
    record = records.read(path, form.FORM)
    table = triples(record)
    if not table.held_out.any() or table.held_out.all():
        return []
    style.use()
    last = record.config["checkpoints"][-1]
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.6), layout="constrained")
    _scatter(axes[0], table, table.of_score("cosine"), "cosine of gradients at the start")
    _scatter(axes[1], table, table.of_pilot(last), f"gain of a pilot of {last} steps over its null, nats")
    axes[0].set_ylabel("gain of the finished student, nats")
    _curve(axes[2], record, table)
    axes[1].legend(fontsize=7, loc="upper left", frameon=False)
    figure.suptitle("What foretells how much of a trait a finished student will have?",
                    x=0.01, ha="left", fontsize=11)  # fmt: skip
    sentences = [
        f"{record.data['name']}: {len(table.names)} triples (reference, data set, trait) of {len(record.results)} "
        f"references, {record.description['num_steps']} steps each; hollow: references on which thresholds are fitted. "
        f"Right: Spearman's correlation over held-out triples with the finished student's gain, bars a 95 % bootstrap "
        f"over references (from four on). Record {path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), 170)), va="top", fontsize=7, color="#444444")
    return list(style.save(figure, stem))


def _scatter(ax: Axes, table: Triples, scores: np.ndarray, label: str) -> None:
    """Scores against what finished students gained."""
    for transmitted, colour, name in ((True, TRANSMITTED, "acquires the trait"), (False, NOT, "does not")):
        for held_out in (True, False):
            chosen = (table.transmitted == transmitted) & (table.held_out == held_out)
            ax.scatter(
                scores[chosen], table.gains[chosen], s=14, facecolor=colour if held_out else "none", edgecolor=colour,
                linewidth=0.7, alpha=0.75, label=f"{name}, held out" if held_out else None,
            )  # fmt: skip
    ax.axhline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.axvline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.set_xlabel(label)


def _curve(ax: Axes, record: records.Record, table: Triples) -> None:
    """Rank correlation of pilots by their length, with the gradient scores as levels."""
    held, total = table.held_out, record.description["num_steps"]
    checkpoints: Sequence[int] = record.config["checkpoints"]
    ranks = {n: rank_correlation(table.of_pilot(n)[held], table.gains[held], table.references[held])
             for n in checkpoints}  # fmt: skip
    shares = [100 * n / total for n in checkpoints]
    ax.plot(shares, [ranks[n].mean for n in checkpoints], color=TRANSMITTED, marker="o", label="pilot")
    for share, rank in zip(shares, ranks.values(), strict=True):
        if rank.is_known:
            ax.plot([share, share], [rank.low, rank.high], color=TRANSMITTED, linewidth=1)
    levels: Mapping[form.Score, str] = {"cosine": "#3b3b3b", "sign": "#8c8c8c"}
    for score, colour in levels.items():
        rank = rank_correlation(table.of_score(score)[held], table.gains[held], table.references[held])
        ax.axhline(rank.mean, color=colour, linestyle="--", linewidth=1, label=LABELS[score])
    ax.set_xlabel("length of the pilot, % of the training")
    ax.set_ylabel("Spearman's correlation")
    ax.set_ylim(min(0.0, ax.get_ylim()[0]), 1.02)
    ax.legend(fontsize=7, frameon=False, loc="lower right")
