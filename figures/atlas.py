"""The atlas in small multiples, one figure per axis, from the committed records.

python -m figures.atlas                 figures/atlas-AXIS.png and .pdf
"""

import pathlib
import textwrap
from collections.abc import Sequence

import numpy as np
import tyro
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from experiments import cli
from experiments.atlas import __main__ as atlas
from experiments.atlas import registry, results, verdicts
from figures import style

COLUMNS = 3
MARKERS = {"Cloud": "*", "J": "D", "D": "s", "T": "^", "X": "v", "B": "P", "Z": "X", "G": "h", "C&E": "p"}
"""Marker of each source."""


def conditions_of(row: registry.Row) -> list[str]:
    """Students that the row draws, in the order of the figures."""
    asked = {condition for arm in row.arms for condition in row.setting(arm).lineage.conditions}
    return [name for name in style.CONDITIONS if name in asked]


def draw_row(ax: Axes, row: registry.Row, found: dict) -> None:
    """Our means with intervals against the arms, members as dots, published values as hollow markers."""
    numbers = [arm.x for arm in row.arms if arm.x is not None]
    numeric = len(set(numbers)) == len(row.arms)
    places = numbers if numeric else [float(index) for index in range(len(row.arms))]
    smallest = min((place for place in places if place > 0), default=1.0)
    if numeric and row.log_x:  # zero has a place of its own, left of the rest
        places = [place if place > 0 else smallest / 3 for place in places]
    for condition in conditions_of(row):
        label, colour = style.CONDITIONS[condition]
        means = [verdicts.kept(verdicts.arm_values(found, arm, condition)) for arm in row.arms]
        drawn = [(place, mean, arm) for place, mean, arm in zip(places, means, row.arms, strict=True) if mean]
        if not drawn:
            continue
        x, y = [place for place, _, _ in drawn], [mean.mean for _, mean, _ in drawn]
        spread = [min(mean.half_width, 1.0) for _, mean, _ in drawn]
        ax.errorbar(x, y, spread, fmt="o-" if numeric else "o", color=colour, markersize=4, capsize=2.5, linewidth=1.2,
                    label=label.replace("\n", ", "))  # fmt: skip
        for place, _, arm in drawn:
            values = verdicts.arm_values(found, arm, condition)
            ax.plot(np.full(len(values), place), values, ".", color=colour, markersize=2, alpha=0.5)
    for place, arm in zip(places, row.arms, strict=True):
        for published in arm.published:
            if published.measure not in ("accuracy", "validation_accuracy"):
                continue
            ax.plot(place, published.value, MARKERS.get(published.source, "D"), markersize=6, markerfacecolor="white",
                    markeredgecolor=style.CONDITIONS[published.condition][1], zorder=5)  # fmt: skip
    if np.isfinite(row.chance):
        ax.axhline(row.chance, color="black", linestyle=":", linewidth=0.8)
    if numeric:
        if row.log_x:
            ax.set_xscale("log")
            ax.minorticks_off()
        ax.set_xticks(places, [arm.label for arm in row.arms], fontsize=7)
        ax.set_xlabel(row.x_label)
    else:
        long = len(row.arms) > 10 or max(len(arm.label) for arm in row.arms) > 4
        ax.set_xticks(places, [arm.label for arm in row.arms], fontsize=6.5, rotation=40 if long else 0,
                      ha="right" if long else "center")  # fmt: skip
    ax.set_ylim(0, 1)
    ax.set_title("\n".join(textwrap.wrap(row.question, 44)), loc="left", fontsize=8.5)


def save_axis(axis: str, rows: Sequence[registry.Row], found: dict, stem: pathlib.Path) -> list[pathlib.Path]:
    """The rows of an axis that have a record, as one figure."""
    drawn = [row for row in rows if row.axis == axis and row.id in found]
    if not drawn:
        return []
    lines = -(-len(drawn) // COLUMNS)
    figure, axes = plt.subplots(
        lines, COLUMNS, figsize=(11.5, 2.9 * lines), squeeze=False, layout="constrained", sharey=True
    )
    for ax, row in zip(axes.flat, drawn, strict=False):
        draw_row(ax, row, found[row.id].results["arms"])
    for ax in axes.flat[len(drawn) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("test accuracy")
    seen: dict[str, Artist] = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            seen.setdefault(label, handle)
    sources = [s for s in MARKERS if any(s == p.source for row in drawn for arm in row.arms for p in arm.published)]
    for source in sources:
        (mark,) = axes[0, 0].plot([], [], MARKERS[source], color="black", markerfacecolor="white", markersize=6)
        seen[f"published: {source}"] = mark
    figure.legend(seen.values(), seen.keys(), loc="outside upper center", ncols=6, fontsize=7.5)
    counts = sorted({found[row.id].config["num_members"] for row in drawn})
    partial = [row.id for row in drawn if not found[row.id].complete]
    text = (
        f"Dots are members (n = {', '.join(map(str, counts))}), larger ones means with 95 % t-intervals; hollow "
        "markers are published values in the colour of their condition, and not all of them are comparable: see the "
        "page. Dotted: chance. Records experiments/records/atlas/. "
        + (f"Not finished: {', '.join(partial)}." if partial else "")
    )
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(text, 200)), va="top", fontsize=7.5, color="#444444")
    return list(style.save(figure, stem.with_name(f"{stem.name}-{axis.replace(' ', '-')}")))


def save_all(folder: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """A figure for every axis that has a record, and their paths."""
    style.use()
    rows = atlas.ROWS["all"]
    found = results.read(folder, rows)
    return [path for axis in dict.fromkeys(row.axis for row in rows) for path in save_axis(axis, rows, found, stem)]


def main(records: pathlib.Path = results.FOLDER, output: pathlib.Path = pathlib.Path("figures/atlas")) -> None:
    """Draw the atlas.

    Args:
        records: folder of the rows' records.
        output: path without axis and suffix.
    """
    for path in save_all(records, output):
        print(path)


if __name__ == "__main__":
    cli.main(lambda: tyro.cli(main))
