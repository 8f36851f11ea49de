"""Draws values of bases: groups of columns, curves, shares of answers."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from figures import style
from figures.language import values
from figures.language.values import Keys
from sublim_jax import records
from sublim_jax.metrics.intervals import Interval

COLOURS = {
    "base": "#8c8c8c",
    "regular": "#2f6690",
    "student": "#c8553d",
    "teacher": "#3b3b3b",
    "system": "#e0a458",
    "regular, sampled": "#8fb3d1",
    "student, sampled": "#e8a798",
}
"""Colours by column name."""
OTHER_COLOUR = "#6b4e96"
OTHERS = "others' students"
"""Column of the students of the other targets' teachers."""

Groups = Mapping[str, Mapping[str, np.ndarray]]
"""Values by group and column; each array has one value per base."""


def panels(figure: Figure | SubFigure, titles: Sequence[str]) -> list[Axes]:
    """Axes side by side with a common vertical scale, one for each title."""
    axes = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize=9)
    return list(axes)


def draw_groups(
    ax: Axes,
    groups: Groups,
    *,
    label: str,
    colours: Mapping[str, str] = COLOURS,
    bars: Mapping[tuple[str, str], Interval | None] = MappingProxyType({}),
) -> None:
    """Draw groups of columns: a dot for every base, with mean and 95 % t-interval.

    Args:
        bars: intervals of columns with a single value, by group and column.
    """
    position, ticks = 0.0, []
    for name, columns in groups.items():
        start = position
        for column, levels in columns.items():
            style.draw_members(ax, position, levels, colours.get(column, OTHER_COLOUR), lacking="all failed")
            if (bar := bars.get((name, column))) is not None:
                widths = [[bar.mean - bar.low], [bar.high - bar.mean]]
                ax.errorbar(position, bar.mean, widths, color=colours.get(column, OTHER_COLOUR), capsize=3)
            position += 1
        ticks.append(((start + position - 1) / 2, name))
        position += 0.7
    ax.set_xticks([place for place, _ in ticks], [name for _, name in ticks])
    ax.set_ylabel(label)
    ax.set_xlim(-0.7, position - 1.0)
    names = dict.fromkeys(column for columns in groups.values() for column in columns)
    if len(names) > 1:
        for column in names:
            ax.plot([], [], "s", color=colours.get(column, OTHER_COLOUR), alpha=0.6, label=column)
        ax.legend(loc="upper left", ncols=len(names))


def draw_curves(ax: Axes, x: Sequence[float], curves: Mapping[str, tuple[np.ndarray, str]], *, label: str) -> None:
    """Draw a thin line for every base and a thick one for the mean, with 95 % t-intervals.

    Args:
        curves: values of shape (x, base) and colour, by label.
    """
    for name, (levels, colour) in curves.items():
        ax.plot(x, levels, color=colour, linewidth=0.6, alpha=0.5)
        intervals = [values.interval(row) for row in levels]
        means = [np.nan if interval is None else interval.mean for interval in intervals]
        widths = [interval.half_width if interval is not None and interval.is_known else 0.0 for interval in intervals]
        ax.errorbar(x, means, widths, color=colour, linewidth=2, capsize=3, label=name)
    ax.set_ylabel(label)
    ax.legend()


def draw_shares(ax: Axes, conditions: Mapping[str, Mapping[str, dict]], *, label: str) -> None:
    """Draw the share of misaligned answers of each teacher and its student, with the record's intervals."""
    for offset, role in ((-0.15, "teacher"), (0.15, "student")):
        shares = {place: roles[role]["misaligned"] for place, roles in enumerate(conditions.values()) if role in roles}
        readable = {place: share for place, share in shares.items() if share}
        means = np.array([share["mean"] for share in readable.values()])
        bounds = np.array([(share["low"], share["high"]) for share in readable.values()]).reshape(-1, 2)
        errors = np.abs(bounds.T - means)
        places = np.array(list(readable)) + offset
        ax.errorbar(places, means, errors, fmt="o", capsize=4, color=COLOURS[role], label=role)
    ax.set_xlim(-0.5, len(conditions) - 0.5)
    ax.set_xticks(range(len(conditions)), [condition.replace(" ", "\n") for condition in conditions])
    ax.set_ylabel(label)
    ax.legend()


def draw_favourites(ax: Axes, record: records.Record, targets: Mapping[str, Mapping[str, Keys]]) -> None:
    """Draw the probability of every target, and rates of sampled answers if the record has them.

    The axis goes to one, except for a real model, whose answers are often others than those offered.

    Args:
        targets: for every target, the keys of each column in the results.
    """
    bases = values.complete_bases(record)
    groups: dict[str, dict[str, np.ndarray]] = {}
    bars: dict[tuple[str, str], Interval | None] = {}
    for target, columns in targets.items():
        groups[target] = {column: values.raw(bases, keys, target) for column, keys in columns.items()}
        if record.config.get("num_eval_samples"):
            for column in ("regular", "student"):
                groups[target][f"{column}, sampled"] = values.sampled(bases, columns[column], target)
                bars[target, f"{column}, sampled"] = values.sampled_interval(bases, columns[column], target)
    draw_groups(ax, groups, label="probability of the target", bars=bars)
    if bases.real:
        ax.set_ylim(0, min(1.12, 1.25 * ax.get_ylim()[1]))
        return
    ax.set_ylim(0, 1.12)
    ax.set_yticks(np.linspace(0, 1, 6))


def draw_log_odds(ax: Axes, record: records.Record, targets: Mapping[str, Mapping[str, Keys]]) -> None:
    """Draw shifts of a real model's log-odds from the base, for every target: those of its columns but `base`, and the
    mean over the students of the other targets' teachers. Below the target are the option masses of its columns, the
    base's first, as means over students.

    Args:
        targets: as for `draw_favourites`; the columns `base` and `student` among them.
    """
    bases = values.complete_bases(record)
    groups: dict[str, dict[str, np.ndarray]] = {}
    for target, columns in targets.items():
        masses = [_mean_text(values.option_mass(bases, keys, target)) for keys in columns.values()]
        name = f"{target}\nmass {' '.join(masses)}"
        groups[name] = {
            column: values.log_odds_shift(bases, columns["base"], keys, target)
            for column, keys in columns.items()
            if column != "base"
        }
        students = {other: columns["student"] for other, columns in targets.items()}
        if np.isfinite(others := values.others_log_odds(bases, students, target)).any():
            groups[name][OTHERS] = others - values.log_odds(bases, columns["base"], target)
    draw_groups(ax, groups, label="log-odds of the target\nabove the base's, nats")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.margins(y=0.15)
    ax.tick_params(axis="x", labelsize=7)


def _mean_text(levels: np.ndarray) -> str:
    """The mean over the bases that have a value, as text."""
    finite = levels[np.isfinite(levels)]
    return f"{np.mean(finite):.2g}" if len(finite) else "failed"


def draw_shifts(figure: Figure, record: records.Record, columns: Mapping[str, Keys]) -> None:
    """Draw the shifts of every target in its own axes, one group for each column.

    Args:
        columns: names of the columns in the results, with the keys of the probabilities before the shift.
    """
    bases, targets = values.complete_bases(record), record.config["targets"]
    for ax, target in zip(panels(figure, targets), targets, strict=True):
        groups = {
            name.replace("_", " "): {"student": values.shift(bases, before, (target, name), target)}
            for name, before in columns.items()
        }
        draw_groups(ax, groups, label="shift of the target")
        ax.axhline(0, color="black", linewidth=0.8)
        ax.tick_params(axis="x", labelsize=7.5)
