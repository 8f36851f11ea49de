"""Draw the rows of the atlas as panels, one figure per axis."""

import collections
import pathlib
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import transforms
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from figures import style
from figures import values as members_of
from figures.atlas.values import Arm, Atlas, Row, arm_values, read

COLUMNS = 3
MARKERS = {
    "cloud": "*",
    "jasshone": "D",
    "divyat09": "s",
    "thierry123454": "^",
    "Xiao0779": "v",
    "barathvelmu": "P",
    "Dezmon": "X",
    "jlov7": "h",
    "jiang": "p",
    "VarenM": "<",
}
"""Marker of each source."""


MEASURES = {
    "accuracy": "test accuracy",
    "validation_accuracy": "validation accuracy",
    "probe_accuracy": "accuracy of a linear readout",
    "cka": "likeness to the teacher's hidden layer (CKA)",
}
"""Label of each measure that a figure can show."""


def measure_of(row: Row) -> str:
    """The measure in the row's figure: that of most of its published values, or test accuracy if there are none."""
    shown = [published.measure for arm in row.arms for published in arm.published if published.measure in MEASURES]
    return collections.Counter(shown).most_common(1)[0][0] if shown else "accuracy"


def conditions_of(row: Row) -> list[str]:
    """Conditions of the row and of its published values, in the order of the figures."""
    conditions = {condition for arm in row.arms for condition in arm.conditions}
    conditions |= {value.condition for arm in row.arms for value in arm.published if value.measure == measure_of(row)}
    return [name for name in style.CONDITIONS if name in conditions]


def name_of(condition: str) -> str:
    """Label of a condition on one line."""
    return style.CONDITIONS[condition][0].replace("\n(", " (").replace(",\n", ", ").replace("\n", ", ")


def draw_row(ax: Axes, row: Row, results: dict) -> None:
    """Draw our means with intervals for each arm, members as dots and published values as hollow markers.

    Args:
        results: by arm, of the row's record.
    """
    if row.about == "likeness":
        draw_likeness(ax, row, results)
    elif len(row.arms) == 1:
        draw_conditions(ax, row, results)
    else:
        draw_arms(ax, row, results)
    chances = [arm.chance for arm in row.arms]
    if len(set(chances)) == 1 and measure_of(row) != "cka":
        ax.axhline(chances[0], color="black", linestyle=":", linewidth=0.8)
    ax.set_ylim(0, 1.03)
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.set_title("\n".join(textwrap.wrap(row.question, 44)), loc="left", fontsize=8.5)


def draw_arms(ax: Axes, row: Row, results: dict) -> None:
    """Draw arms at their number on the axis, or side by side if they have none."""
    numbers = [arm.x for arm in row.arms if arm.x is not None]
    numeric = len(set(numbers)) == len(row.arms)
    places = numbers if numeric else [float(index) for index in range(len(row.arms))]
    if numeric and row.log_x:  # zero is drawn to the left of the rest
        smallest = min((place for place in places if place > 0), default=1.0)
        places = [place if place > 0 else smallest / 3 for place in places]
    for condition in conditions_of(row):
        draw_ours(ax, places, [(arm, condition) for arm in row.arms], row, results, "o-" if numeric else "o")
        for place, arm in zip(places, row.arms, strict=True):
            draw_published(ax, place, row, arm, condition)
    if len(set(chances := [arm.chance for arm in row.arms])) > 1:
        ax.plot(places, chances, color="black", linestyle=":", linewidth=0.8)
    if numeric:
        if row.log_x:
            ax.set_xscale("log")
            ax.minorticks_off()
        at = np.sort(np.log(places) if row.log_x else places)
        crowded = np.min(np.diff(at)) < 0.06 * (at[-1] - at[0])
        ax.set_xticks(places, [arm.label for arm in row.arms], fontsize=7, rotation=40 if crowded else 0)
        ax.set_xlabel(row.x_label)
    else:
        long = len(row.arms) > 10 or max(len(arm.label) for arm in row.arms) > 4
        ax.set_xlim(-0.6, len(places) - 0.4)
        _label_ticks(ax, places, [arm.label for arm in row.arms], long=long)


def draw_conditions(ax: Axes, row: Row, results: dict) -> None:
    """Draw the conditions of the only arm side by side."""
    (arm,), conditions = row.arms, conditions_of(row)
    for place, condition in enumerate(conditions):
        draw_ours(ax, [float(place)], [(arm, condition)], row, results, "o")
        draw_published(ax, place, row, arm, condition)
    ax.set_xlim(-0.6, len(conditions) - 0.4)
    _label_ticks(ax, list(range(len(conditions))), [name_of(condition) for condition in conditions], long=True)


def draw_likeness(ax: Axes, row: Row, results: dict) -> None:
    """Draw every member's accuracy against the likeness of its hidden layer to its teacher's."""
    for shade, arm in zip(np.linspace(0.35, 1.0, len(row.arms)), row.arms, strict=True):
        likeness, accuracy = (arm_values(results, arm, measure=name) for name in ("cka", "accuracy"))
        ax.plot(likeness, accuracy, "o", color=style.CONDITIONS["student_aux"][1], alpha=shade, markersize=4)
        if len(likeness):
            ax.annotate(f"{row.x_label}: {arm.label}", (np.nanmean(likeness), np.nanmax(accuracy)), (0, 4),
                        textcoords="offset points", ha="center", fontsize=7)  # fmt: skip
    ax.set_xlabel(MEASURES["cka"])


def draw_ours(ax: Axes, places, shown: Sequence[tuple[Arm, str]], row: Row, results, form: str) -> None:
    """Draw members and mean of these arms and conditions, which share a colour, at these places."""
    condition = shown[0][1]
    colour = style.CONDITIONS[condition][1]
    values = [arm_values(results, arm, condition, measure_of(row)) for arm, condition in shown]
    means = [(place, members_of.interval(members)) for place, members in zip(places, values, strict=True)]
    drawn = [(place, mean.mean, mean.half_width if mean.is_known else 0.0) for place, mean in means if mean is not None]
    if not drawn:
        return
    ax.errorbar(*zip(*drawn, strict=True), fmt=form, color=colour, markersize=4, capsize=2.5, linewidth=1.2,
                label=name_of(condition))  # fmt: skip
    for place, members in zip(places, values, strict=True):
        ax.plot(np.full(len(members), place), members, ".", color=colour, markersize=2, alpha=0.5)


def draw_published(ax: Axes, place: float, row: Row, arm: Arm, condition: str) -> None:
    """Draw the published values of an arm's condition, a little to the right."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    for published in arm.published:
        if (published.condition, published.measure) == (condition, measure_of(row)):
            ax.plot(place, published.value, MARKERS.get(published.source, "o"), markersize=6, markerfacecolor="white",
                    markeredgecolor=style.CONDITIONS[condition][1], zorder=5,
                    transform=transforms.offset_copy(ax.transData, figure, x=7, units="points"))  # fmt: skip


def _label_ticks(ax: Axes, places, labels: Sequence[str], *, long: bool) -> None:
    """Set tick labels that are words; long ones are rotated."""
    ax.set_xticks(places, labels, fontsize=6.5, rotation=40 if long else 0, ha="right" if long else "center")


def save_axis(axis: str, atlas: Atlas, stem: pathlib.Path) -> list[pathlib.Path]:
    """Save one figure with the recorded rows of an axis, and return its paths."""
    drawn = [row for row in atlas.rows if row.axis == axis and row.id in atlas.records]
    if not drawn:
        return []
    lines = -(-len(drawn) // COLUMNS)
    figure, axes = plt.subplots(
        lines, COLUMNS, figsize=(11.5, 2.9 * lines), squeeze=False, layout="constrained", sharey=True
    )
    for ax, row in zip(axes.flat, drawn, strict=False):
        draw_row(ax, row, atlas.arms(row.id))
    for ax in axes.flat[len(drawn) :]:
        ax.set_visible(False)
    for index, row in enumerate(drawn):
        if index % COLUMNS == 0 or measure_of(row) != measure_of(drawn[index - 1]):
            axes.flat[index].set_ylabel(MEASURES[measure_of(row)])
    seen: dict[str, Artist] = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            seen.setdefault(label, handle)
    shown = {
        p.source for row in drawn if row.about != "likeness" for arm in row.arms for p in arm.published
        if p.measure == measure_of(row)
    }  # fmt: skip
    sources = sorted(shown, key=lambda source: [*MARKERS, source].index(source))
    for source in sources:
        marker = MARKERS.get(source, "o")
        (mark,) = axes[0, 0].plot([], [], marker, color="black", markerfacecolor="white", markersize=6)
        seen[f"published: {atlas.sources[source].short}"] = mark
    figure.legend(seen.values(), seen.keys(), loc="outside upper center", ncols=6, fontsize=7.5)
    counts = sorted({atlas.records[row.id].config["num_members"] for row in drawn})
    partial = [row.id for row in drawn if not atlas.records[row.id].complete]
    text = (
        f"Dots are members (n = {', '.join(map(str, counts))}), larger ones means with 95 % t-intervals; hollow "
        "markers beside them are published values in the colour of their condition; the page says which of them are "
        "not comparable, and why. Dotted: chance. Records experiments/records/atlas/. "
        + (f"Not finished: {', '.join(partial)}." if partial else "")
    )
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(text, 200)), va="top", fontsize=7.5, color="#444444")
    return list(style.save(figure, stem.with_name(f"{stem.name}-{axis.replace(' ', '-')}")))


def save_all(folder: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Save a figure for every axis with a record, and return the paths."""
    style.use()
    atlas = read(folder)
    return [path for axis in dict.fromkeys(row.axis for row in atlas.rows) for path in save_axis(axis, atlas, stem)]
