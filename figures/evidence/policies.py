"""Table and figure of the study `policies`: how much of a trait students acquire under each rule.

What is shown is the accuracy of the trait, mean over references with t-intervals; differences are paired with the
undefended student of the same reference. Half-lives of chains are in generations.
"""

import pathlib
import textwrap
from collections.abc import Callable

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from figures import style
from sublim_jax import records
from sublim_jax.forms import evidence_policies as form
from sublim_jax.metrics import intervals
from sublim_jax.metrics.intervals import Interval

COLOURS: dict[form.Path, str] = {"own start": "#c8553d", "another start": "#2f6690", "shuffled targets": "#8c8c8c"}
LABELS: dict[form.Group, str] = {
    "radius": "held in a ball around the start",
    "rotation": "rows rotate among families",
    "mixing": "mixed with the start's own answers",
    "filter": "without the rows that depart most",
    "random filter": "without as many rows at random",
    "generations": "students of students",
}


def _over_references(record: records.Record, value: Callable[[form.Unit], float]) -> Interval:
    """Mean and t-interval over references; bounds are infinite for fewer than four."""
    return intervals.t_interval([value(entry) for entry in record.results.values()])


def _last(record: records.Record) -> str:
    return str(record.description["num_steps"])


def _steps(record: records.Record) -> list[str]:
    return [*map(str, record.config["checkpoints"]), _last(record)]


def in_group(record: records.Record, group: form.Group) -> list[tuple[str, float]]:
    """Names and levels of a group's conditions, in order."""
    return [
        (name, condition["level"])
        for name, condition in record.description["conditions"].items()
        if condition["group"] == group
    ]


def half_lives(record: records.Record) -> list[float]:
    """Generations in which the trait above chance halves, of each reference: its logarithm's slope by least squares.

    Chance is the reference's own accuracy. Not a number where a generation is not above it, infinite where nothing is
    lost.
    """
    names = [name for name, _ in in_group(record, "generations")]
    if not names:
        return []
    values = []
    for entry in record.results.values():
        chain = [entry["paths"]["own start"][_last(record)], *(entry["students"][name] for name in names)]
        above = np.array([each["accuracy"] for each in chain]) - entry["reference"]["accuracy"]
        if np.any(above <= 0):
            values.append(float("nan"))
            continue
        slope = np.polyfit(np.arange(len(above)), np.log2(above), 1)[0]
        values.append(-1 / slope if slope < 0 else float("inf"))
    return values


def lines(record: records.Record) -> list[str]:
    """The table of a record, then its notes."""
    last = _last(record)
    text = [
        f"{record.data['name']}: mean over {len(record.results)} reference(s) ± 95 % t-interval",
        f"{'':44} {'trait':>17}  {'minus undefended':>17}  {'distance':>9}  {'activation':>17}",
    ]

    def row(name: str, entry: Callable[[form.Unit], form.Entry], *, paired: bool = True) -> str:
        accuracy = _over_references(record, lambda unit: entry(unit)["accuracy"])
        change = _over_references(
            record, lambda unit: entry(unit)["accuracy"] - unit["paths"]["own start"][last]["accuracy"]
        )
        distance = _over_references(record, lambda unit: entry(unit)["distance"])
        activation = _over_references(record, lambda unit: entry(unit)["activation"])
        shown = _shown(change, sign=True) if paired else ""
        return (
            f"{name:44} {_shown(accuracy):>17}  {shown:>17}  {distance.mean:9.3f}  {_shown(activation):>17}"
        ).rstrip()

    text += [row("the reference", lambda unit: unit["reference"], paired=False),
             row("the teacher", lambda unit: unit["teacher"], paired=False), "without a rule, by steps:"]  # fmt: skip
    for path in form.PATHS:
        text += [
            row(f"  {path}, {step}", lambda unit, path=path, step=step: unit["paths"][path][step], paired=step == last)
            for step in _steps(record)
        ]
    for group in form.GROUPS:
        if names := in_group(record, group):
            text.append(f"{LABELS[group]}:")
            text += [row(f"  {name}", lambda unit, name=name: unit["students"][name]) for name, _ in names]
    if lives := [value for value in half_lives(record) if np.isfinite(value)]:
        text.append(
            f"half-life of the trait above chance: {_shown(intervals.t_interval(lives))} generations "
            f"({len(lives)} of {len(record.results)} references)"
        )
    return [*text, *(f"note: {note}" for note in record.notes)]


def _shown(value: Interval, *, sign: bool = False) -> str:
    mean = f"{value.mean:+.3f}" if sign else f"{value.mean:.3f}"
    return f"{mean} ± {value.high - value.mean:.3f}" if value.is_known else mean


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of the study, or it is damaged.
    """
    record = records.read(path, form.FORM)
    if not record.results:
        return []
    style.use()
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 6.2), layout="constrained", sharey=True)
    _paths(axes[0, 0], record)
    _levels(axes[0, 1], record, {"radius": "#c8553d"}, "radius, share of the undefended distance", undefended=1.0)
    _levels(axes[0, 2], record, {"rotation": "#c8553d"}, "share of rows from the own family", undefended=1.0)
    _levels(axes[1, 0], record, {"mixing": "#c8553d"}, "share of rows answered by the start", undefended=0.0)
    _levels(
        axes[1, 1],
        record,
        {"filter": "#c8553d", "random filter": "#8c8c8c"},
        "share of rows dropped",
        undefended=0.0,
    )
    _levels(axes[1, 2], record, {"generations": "#c8553d"}, "generation", undefended=1.0)
    for ax in axes[:, 0]:
        ax.set_ylabel("test accuracy of the trait")
    figure.suptitle("How much of a trait passes under rules about weights and data", x=0.01, ha="left", fontsize=11)
    sentences = [
        f"{record.data['name']}, {len(record.results)} reference(s), 95 % t-intervals from four on. Dotted level: the "
        f"references. Upper left: students without a rule after {', '.join(_steps(record))} steps, and each reference. "
        f"Open marks: shift of the last hidden layer on noise along the teacher's. Record {path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), 170)), va="top", fontsize=7, color="#444444")
    return list(style.save(figure, stem))


def _paths(ax: Axes, record: records.Record) -> None:
    """Accuracy against distance of students without a rule."""
    for path, colour in COLOURS.items():
        of_units = np.array([
            [[unit["paths"][path][step][name] for step in _steps(record)] for name in ("distance", "accuracy")]
            for unit in record.results.values()
        ])  # fmt: skip
        for distances, accuracies in of_units:
            ax.plot(distances, accuracies, color=colour, linewidth=0.5, alpha=0.4)
        ax.plot(*of_units.mean(axis=0), color=colour, marker="o", markersize=3, label=path)
    _chance(ax, record)
    ax.set_xlabel("distance from the start over the norm of the reference")
    ax.legend(fontsize=7, frameon=False, loc="upper left")


def _levels(ax: Axes, record: records.Record, colours: dict[form.Group, str], label: str, *, undefended: float) -> None:
    """Accuracy, and activation, of groups by level, among which the undefended student has one."""
    last = _last(record)
    for group, colour in colours.items():
        entries: list[tuple[float, Callable[[form.Unit], form.Entry]]] = [
            (level, lambda unit, name=name: unit["students"][name]) for name, level in in_group(record, group)
        ]
        entries.append((undefended, lambda unit: unit["paths"]["own start"][last]))
        entries.sort(key=lambda pair: pair[0])
        values = [_over_references(record, lambda unit, e=entry: e(unit)["accuracy"]) for _, entry in entries]
        levels = [level for level, _ in entries]
        ax.plot(levels, [value.mean for value in values], color=colour, marker="o", markersize=3.5, label=LABELS[group])
        for level, value in zip(levels, values, strict=True):
            if value.is_known:
                ax.plot([level, level], [value.low, value.high], color=colour, linewidth=1)
        activations = [
            _over_references(record, lambda unit, e=entry: e(unit)["activation"]).mean for _, entry in entries
        ]
        ax.plot(levels, activations, color=colour, linestyle=":", marker="o", markersize=3.5, markerfacecolor="none")
    _chance(ax, record)
    ax.set_xlabel(label)
    ax.legend(fontsize=7, frameon=False)


def _chance(ax: Axes, record: records.Record) -> None:
    chance = _over_references(record, lambda unit: unit["reference"]["accuracy"])
    ax.axhline(chance.mean, color="#8c8c8c", linewidth=0.8, linestyle=":")
