"""Table and figure of the experiment `directions`: the share of a trait that some directions, or one vector, hold.

python -m figures.directions            the committed record, to figures/images/directions.png and .pdf

A share is the change from the reference to an edited model over the change to the student, reference by reference, of
those whose student has changed enough; the others are named. Intervals are Student's over references.
"""

import pathlib
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from figures import style, values
from sublim_jax import commands, records
from sublim_jax.forms import directions as form
from sublim_jax.metrics import intervals
from sublim_jax.metrics.intervals import Interval

SENTENCE = "A preference is a vector, a skill is a subspace"
SKILLS = ("digits",)
"""Beds whose trait is a skill; those of the others are preferences."""
PANELS = ("digits", "flow", "language")
"""Beds that are drawn and that the sentence is about; others are in the table and in the caption."""
HALF = 0.5
"""One direction, or one vector, holds a trait if it holds more than so much of it."""


class Curve(NamedTuple):
    """One line of a panel."""

    kind: str
    source: str
    label: str
    colour: str
    style: str = "-"


CURVES = (
    Curve("kept", "student", "student's largest k alone", "#c8553d"),
    Curve("removed", "student", "student without them", "#c8553d", ":"),
    Curve("inside", "auditor", "student inside the auditor's k x k", "#2f6690"),
    Curve("inside", "another reference's auditor", "inside another reference's auditor's", "#81b1d5", "--"),
    Curve("inside", "random", "inside k x k at random", "#8c8c8c"),
)
STEERED = (
    ("mean", 1.0, "reference + mean shift", "#c8553d", "o"),
    ("mean", 2.0, "reference + 2 mean shifts", "#e0a458", "D"),
    ("mean", -1.0, "student - mean shift", "#2f6690", "s"),
    ("random", 1.0, "reference + random vector", "#8c8c8c", "o"),
)
"""Source, how often it is added, label, colour and marker, side by side for every layer."""
KINDS = {
    "kept": "largest directions alone", "removed": "without the largest directions",
    "inside": "the student's inside directions of", "subtracted": "less a dose of the displacement of",
    "shifted": "a vector added",
}  # fmt: skip


def beds(record: records.Record) -> list[str]:
    """The beds of which a reference is measured, in their order."""
    measured = {form.bed_of(unit) for unit in record.results}
    return [bed for bed in record.config["beds"] if bed in measured]


def panels(record: records.Record) -> list[str]:
    """The beds that are drawn."""
    return [bed for bed in beds(record) if bed in PANELS]


def raw(record: records.Record, bed: str, edit: str, measure: str) -> np.ndarray:
    """A measure of an edit for every reference of a bed that is measured."""
    return np.array([
        unit["values"][edit][measure] for name, unit in record.results.items() if form.bed_of(name) == bed
    ])  # fmt: skip


def shares(record: records.Record, bed: str, edit: str, measure: str | None = None) -> np.ndarray:
    """Share of a trait that an edit leaves, by reference; not a number where the student has hardly acquired it.

    Args:
        measure: of the trait; by default of the auditor's.
    """
    about = record.description["beds"][bed]
    trait = measure or about["shares"][0]
    start, student, edited = (raw(record, bed, name, trait) for name in ("reference", "student", edit))
    gains = student - start
    enough = np.abs(gains) >= about["least"]
    return np.where(enough, (edited - start) / np.where(enough, gains, 1.0), np.nan)


def left(record: records.Record, bed: str, edit: str, measure: str | None = None) -> Interval | None:
    """Interval of `shares`; None if no student has acquired the trait."""
    return values.interval(shares(record, bed, edit, measure))


def select(record: records.Record, bed: str, kind: str, source: str, layer: int | None = None) -> dict[float, str]:
    """Edits of a kind and a source by their amount, in increasing order."""
    rows = record.description["beds"][bed]["edits"]
    chosen = {
        row["amount"]: name for name, row in rows.items()
        if (row["kind"], row["source"], row.get("layer")) == (kind, source, layer)
    }  # fmt: skip
    return dict(sorted(chosen.items()))


def num_layers(record: records.Record, bed: str) -> int:
    """Layers to which a vector is added."""
    return 1 + max(row.get("layer", -1) for row in record.description["beds"][bed]["edits"].values())


def needed(record: records.Record, bed: str) -> np.ndarray:
    """For every reference the smallest number of directions that alone hold half of the trait; infinite if none do,
    not a number where the student has hardly acquired it."""
    curve = select(record, bed, "kept", "student")
    table = np.array([shares(record, bed, edit) for edit in curve.values()])
    counts = np.where(table >= HALF, np.array(list(curve))[:, None], np.inf).min(axis=0)
    return np.where(np.isnan(table).any(axis=0), np.nan, counts)


class Clause(NamedTuple):
    """One thing that the sentence says, with its number."""

    bed: str
    what: str
    interval: Interval | None
    expected: str  # "more" or "less" than half

    @property
    def verdict(self) -> str:
        """ "holds", "fails", or "open" where the interval contains one half or is unknown."""
        if self.interval is None or not self.interval.is_known or self.interval.low <= HALF <= self.interval.high:
            return "open"
        return "holds" if (self.interval.low > HALF) == (self.expected == "more") else "fails"


def clauses(record: records.Record, chosen: Sequence[str] | None = None) -> list[Clause]:
    """What the sentence says of beds: whether one direction of each matrix holds more than half of the trait, and
    whether the mean shift of the last layer does.

    Args:
        chosen: beds; all by default.
    """
    rows = []
    for bed in beds(record) if chosen is None else chosen:
        expected = "less" if bed in SKILLS else "more"
        first = select(record, bed, "kept", "student")
        last = select(record, bed, "shifted", "mean", num_layers(record, bed) - 1)
        for what, edit in (("one direction", first[min(first)]), ("one vector", last[1.0])):
            rows.append(Clause(bed, what, left(record, bed, edit), expected))
    return rows


def headline(record: records.Record) -> str:
    """The sentence, and whether the record bears it out."""
    rows = clauses(record, panels(record))
    failing, undecided = ([row for row in rows if row.verdict == verdict] for verdict in ("fails", "open"))
    if not failing and not undecided:
        return SENTENCE
    parts = []
    if failing:
        parts.append("must be corrected: " + ", ".join(_named(record, row) for row in failing))
    if undecided:
        parts.append("is undecided: " + ", ".join(_named(record, row) for row in undecided))
    return f"“{SENTENCE}” " + "; ".join(parts)


def _named(record: records.Record, row: Clause) -> str:
    if row.interval is None:
        return f"no student has the trait of {record.description['beds'][row.bed]['label']}"
    return f"{row.what} holds {row.interval:.2f} of {record.description['beds'][row.bed]['label']}"


def sentences(record: records.Record) -> list[str]:
    """For every bed what one direction, one vector and the auditor's directions hold, and how many hold half."""
    text = []
    for bed in beds(record):
        label = record.description["beds"][bed]["label"]
        counts = needed(record, bed)
        known = counts[~np.isnan(counts)]
        if not len(known):
            text.append(f"{label[0].upper()}{label[1:]}: no student of {len(counts)} references has the trait.")
            continue
        held = "; ".join(
            f"{row.what}{'' if row.what == 'one direction' else ' at the last layer'}: {_cell(row.interval)}"
            for row in clauses(record, [bed])
        )
        middle, fewest, most = (_count(number) for number in (np.median(known), known.min(), known.max()))
        half = f"half of it takes k = {middle} ({fewest} to {most})"
        text.append(f"{label[0].upper()}{label[1:]}, share of the trait held: {held}; {half}.")
        if missing := int(np.isnan(counts).sum()):
            text[-1] += f" In {missing} of {len(counts)} references the student hardly acquired it; they have no share."
    return text + [
        f"{unit}: {entry['num_rows']:,} rows passed the filter for the student, fewer than were asked for."
        for unit, entry in record.results.items() if "num_rows" in entry
    ]  # fmt: skip


def _count(value: float) -> str:
    return "more than were tried" if np.isinf(value) else f"{value:g}"


def _cell(interval: Interval | None, digits: int = 2) -> str:
    return "" if interval is None else f"{interval:.{digits}f}"


def lines(record: records.Record) -> list[str]:
    """The tables of a record, then its notes."""
    text = [f"{record.data['name']}: mean over references ± 95 % t-interval"]
    for bed in beds(record):
        text += _bed_lines(record, bed)
    return [*text, "", headline(record), *sentences(record), *(f"note: {note}" for note in record.notes)]


def _bed_lines(record: records.Record, bed: str) -> list[str]:
    about = record.description["beds"][bed]
    units = {name: unit for name, unit in record.results.items() if form.bed_of(name) == bed}
    text = ["", f"{about['label']}, {len(units)} reference(s)"]
    names = [name for name, row in about["edits"].items() if row["kind"] == "yardstick"]
    text.append(f"  {'':24}" + "".join(f"{title[:30]:32}" for title in about["measures"].values()))
    for name in names:
        cells = (_cell(values.interval(raw(record, bed, name, measure)), 3) for measure in about["measures"])
        text.append(f"  {name:24}" + "".join(f"{cell:32}" for cell in cells).rstrip())
    for source in next(iter(units.values()))["spectra"]:
        spectra = [unit["spectra"][source] for unit in units.values()]
        ratios = (
            f"{rows[0]['matrix']} {_cell(values.interval(np.array([row['participation'] for row in rows])), 1)}"
            for rows in zip(*spectra, strict=True)
        )
        text.append(f"  participation ratio, {source}: {', '.join(ratios)}")
    text.append(f"  {'share of the squared length of':32}" + "".join(f"{rank:<16}" for rank in about["ranks"]).rstrip())
    for source in ("student", "teacher"):
        for rows in zip(*(unit["spectra"][source] for unit in units.values()), strict=True):
            table = np.array([row["energy"] for row in rows])
            name = f"{source}, {rows[0]['matrix']}"
            text.append(f"    {name:30}" + "".join(f"{_cell(values.interval(part)):16}" for part in table.T).rstrip())
    text.append("  cosine of the student's displacement: " + ", ".join(
        f"{other} {_cell(values.interval(np.array([unit['cosines'][other] for unit in units.values()])))}"
        for other in next(iter(units.values()))["cosines"]
    ))  # fmt: skip
    explained = (
        f"layer {number + 1} {_cell(values.interval(np.array([shift['share'] for shift in shifts])))}"
        for number, shifts in enumerate(zip(*(unit["shifts"] for unit in units.values()), strict=True))
    )
    text.append(f"  share of the squared change that its mean explains: {', '.join(explained)}")
    for measure in about["shares"]:
        text.append(f"  share left of {about['measures'][measure]}")
        text += _grid(record, bed, lambda edit, measure=measure: _cell(left(record, bed, edit, measure)), tuple(KINDS))
    for measure in about["measures"]:
        if measure not in about["shares"]:
            text.append(f"  {about['measures'][measure]}")
            text += _grid(
                record, bed,
                lambda edit, measure=measure: _cell(values.interval(raw(record, bed, edit, measure)), 3),
                ("kept", "subtracted", "shifted"),
            )  # fmt: skip
    return text


def _grid(record: records.Record, bed: str, cell, kinds: Sequence[str]) -> list[str]:
    """Rows for every kind and source, columns for amounts."""
    rows, text = record.description["beds"][bed]["edits"], []
    for kind in kinds:
        groups = dict.fromkeys((row["source"], row.get("layer")) for row in rows.values() if row["kind"] == kind)
        header = None
        for source, layer in groups:
            edits = select(record, bed, kind, source, layer)
            if header != list(edits):
                header = list(edits)
                text.append(f"    {KINDS[kind]:40}" + "".join(f"{amount:<16g}" for amount in header).rstrip())
            name = source if layer is None else f"{source}, layer {layer + 1}"
            text.append(f"      {name:38}" + "".join(f"{cell(edit):16}" for edit in edits.values()).rstrip())
    return text


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths; nothing before a reference is measured.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of the experiment, or it is damaged.
    """
    record = records.read(path, form.FORM)
    shown = panels(record)
    if not shown:
        return []
    style.use()
    figure, axes = plt.subplots(
        1, 2 * len(shown), figsize=(4.9 * len(shown), 4.9), sharey=True, squeeze=False,
        width_ratios=(2.3, 1) * len(shown),
    )  # fmt: skip
    figure.subplots_adjust(left=0.05, right=0.99, top=0.8, bottom=0.27, wspace=0.08)
    for place, bed in enumerate(shown):
        draw_directions(axes[0, 2 * place], record, bed)
        draw_vectors(axes[0, 2 * place + 1], record, bed)
    axes[0, 0].set_ylabel("share of the trait")
    axes[0, 0].set_ylim(*limits(record))
    for ax, columns in ((axes[0, 0], 5), (axes[0, 1], 4)):
        handles, labels = ax.get_legend_handles_labels()
        figure.legend(
            handles, labels, ncols=columns, fontsize=8, loc="lower center", frameon=False,
            bbox_to_anchor=(0.5, 0.115 if ax is axes[0, 0] else 0.07),
        )  # fmt: skip
    figure.suptitle("\n".join(textwrap.wrap(headline(record), 130)), x=0.05, ha="left", fontsize=12, fontweight="bold")
    counts = {bed: sum(form.bed_of(unit) == bed for unit in record.results) for bed in shown}
    caption = [
        f"{record.data['name']}; references: {', '.join(f'{bed} {count}' for bed, count in counts.items())}. Lines and "
        f"large marks: means with 95 % t-intervals; dots: references. Left of each pair: the reference plus the k "
        f"largest singular directions, in every matrix, of the student's displacement, the student without them, or "
        f"the student's displacement inside k x k directions of an auditor. Right: one vector, the mean change of a "
        f"layer's units on neutral inputs, added to the reference or taken from the student. 1 is the student, 0 the "
        f"reference.",
        *(("Low-rank factors bound the rank of what the language model's student learns.",) * ("language" in shown)),
        *sentences(record), f"Record {path.name}.", *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]  # fmt: skip
    figure.text(0.01, 0.06, "\n".join(textwrap.wrap(" ".join(caption), 95 * len(shown))), va="top", fontsize=7,
                color="#444444")  # fmt: skip
    return list(style.save(figure, stem))


def limits(record: records.Record) -> tuple[float, float]:
    """The axis of all panels: what means need, but no more than from -1 to 2.5."""
    means = [0.0, 1.0]
    for bed in panels(record):
        for edit, row in record.description["beds"][bed]["edits"].items():
            drawn = row["kind"] in ("kept", "removed", "inside", "shifted") and row["source"] != "teacher"
            if drawn and (interval := left(record, bed, edit)):
                means.append(interval.mean)
    return max(min(means) - 0.15, -1.0), min(max(means) + 0.15, 2.5)


def draw_directions(ax: Axes, record: records.Record, bed: str) -> None:
    """The share of the trait over the number of directions, one line for each way to choose them."""
    for curve in CURVES:
        edits = select(record, bed, curve.kind, curve.source)
        points = [(amount, interval) for amount, edit in edits.items() if (interval := left(record, bed, edit))]
        if not points:
            continue
        amounts, means = [amount for amount, _ in points], [interval.mean for _, interval in points]
        ax.plot(
            amounts, means, color=curve.colour, linestyle=curve.style, marker="o", markersize=3.5, label=curve.label,
            zorder=3,
        )  # fmt: skip
        if all(interval.is_known for _, interval in points):
            ax.fill_between(
                amounts, [interval.low for _, interval in points], [interval.high for _, interval in points],
                color=curve.colour, alpha=0.15, linewidth=0,
            )  # fmt: skip
        if (curve.kind, curve.source) == ("kept", "student"):
            for amount, edit in edits.items():
                finite = shares(record, bed, edit)
                finite = finite[np.isfinite(finite)]
                ax.scatter(np.full(len(finite), amount), finite, s=5, color=curve.colour, alpha=0.5, linewidth=0)
    ranks = sorted({rank for each in panels(record) for rank in select(record, each, "kept", "student")})
    ax.set_xscale("log", base=2)
    ax.set_xlim(min(ranks) / 1.3, max(ranks) * 1.3)
    ax.set_xticks(ranks, [f"{rank:g}" for rank in ranks])
    ax.minorticks_off()
    ax.axhline(0, color="#8c8c8c", linewidth=0.8)
    ax.axhline(1, color="#8c8c8c", linewidth=0.8, linestyle="--")
    ax.set_xlabel("directions k of each matrix")
    ax.set_title(record.description["beds"][bed]["label"], loc="left", fontsize=11)


def draw_vectors(ax: Axes, record: records.Record, bed: str) -> None:
    """The share of the trait after a vector was added to, or taken from, each layer."""
    layers = num_layers(record, bed)
    for place, (source, amount, label, colour, marker) in enumerate(STEERED):
        offset = (place - (len(STEERED) - 1) / 2) * 0.2
        for layer in range(layers):
            numbers = shares(record, bed, select(record, bed, "shifted", source, layer)[amount])
            finite = numbers[np.isfinite(numbers)]
            if not len(finite):
                continue
            interval = intervals.t_interval(finite)
            ax.scatter(np.full(len(finite), layer + offset), finite, s=4, color=colour, alpha=0.5, linewidth=0)
            ax.errorbar(
                layer + offset, interval.mean, yerr=interval.half_width if interval.is_known else None, color=colour,
                marker=marker, markersize=4.5, capsize=2, linewidth=1.1, label=label if layer == 0 else None, zorder=3,
            )  # fmt: skip
    ax.axhline(0, color="#8c8c8c", linewidth=0.8)
    ax.axhline(1, color="#8c8c8c", linewidth=0.8, linestyle="--")
    ax.set_xticks(range(layers), [f"{layer + 1}" for layer in range(layers)])
    ax.set_xlim(-0.5, layers - 0.5)
    ax.set_xlabel("layer")
    ax.set_title("one vector", loc="left", fontsize=9)


def main() -> None:
    """Draw the committed record."""
    for path in save(values.RECORDS / "directions.json", values.IMAGES / "directions"):
        print(commands.shown(path))


if __name__ == "__main__":
    commands.main(main)
