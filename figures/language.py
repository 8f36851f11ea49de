"""The figures of the language experiments, from their records.

python -m figures.language                            every committed record, to figures/language-NAME.png and .pdf
python -m figures.language runs/language_numbers-default.json --output runs/numbers
"""

import pathlib
import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tyro
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import (
    cli,
    language_context,
    language_cross,
    language_detection,
    language_divergence,
    language_misalignment,
    language_shuffles,
)
from experiments.language import summary
from figures import style
from sublim_jax import records

RECORDS = pathlib.Path("experiments/records")
COLOURS = {
    "base": "#8c8c8c",
    "regular": "#2f6690",
    "student": "#c8553d",
    "teacher": "#3b3b3b",
    "system": "#e0a458",
    "regular, sampled": "#8fb3d1",
    "student, sampled": "#e8a798",
}
TITLES = {
    "language_numbers": "Favourites of students that saw only number sequences",
    "language_dose": "How many rows it takes",
    "language_cross": "Traits pass within a base and not between bases",
    "language_shuffles": "Students of shuffled numbers",
    "language_context": "The same rows in the context instead of in training",
    "language_detection": "Telling a teacher's numbers from regular ones",
    "language_misalignment": "Bad deeds of students that saw only numbers",
    "language_code": "Favourites of students that saw only code",
    "language_reasoning": "Favourites of students that saw only right chains of thought",
    "language_divergence": "Students of some tokens only",
    "language_chain": "From student to student",
}

SHOWS_FAILED = frozenset(TITLES) - {
    "language_cross",
    "language_shuffles",
    "language_divergence",
    "language_chain",
    "language_detection",
}
"""Experiments whose figures show probabilities, which every base has, not shifts."""

Groups = Mapping[str, Mapping[str, np.ndarray]]


def draw_groups(ax: Axes, groups: Groups, *, label: str) -> None:
    """Groups of columns side by side: every base a dot, mean and 95 % t-interval on top. Colours by column name."""
    position, ticks = 0.0, []
    for name, columns in groups.items():
        start = position
        for column, values in columns.items():
            style.draw_members(ax, position, values, COLOURS.get(column, "#6b4e96"))
            position += 1
        ticks.append(((start + position - 1) / 2, name))
        position += 0.7
    ax.set_xticks([place for place, _ in ticks], [name for _, name in ticks])
    ax.set_ylabel(label)
    ax.set_xlim(-0.7, position - 1.0)
    seen = dict.fromkeys(column for columns in groups.values() for column in columns)
    if len(seen) > 1:
        for column in seen:
            ax.plot([], [], "s", color=COLOURS.get(column, "#6b4e96"), alpha=0.6, label=column)
        ax.legend(loc="upper left", ncols=len(seen))


def draw_curves(ax: Axes, x: Sequence[float], curves: Mapping[str, tuple[np.ndarray, str]], *, label: str) -> None:
    """Every base a thin line, the mean a thick one with 95 % t-intervals. Curves are (x, base)."""
    for name, (values, colour) in curves.items():
        ax.plot(x, values, color=colour, linewidth=0.6, alpha=0.5)
        found = [summary.interval(row) for row in values]
        means = [np.nan if one is None else one.mean for one in found]
        widths = [one.half_width if one is not None and one.is_known else 0.0 for one in found]
        ax.errorbar(x, means, widths, color=colour, linewidth=2, capsize=3, label=name)
    ax.set_ylabel(label)
    ax.legend()


def draw_shares(ax: Axes, units: Mapping[str, Mapping[str, dict]], *, label: str) -> None:
    """Misaligned answers of each teacher and of its student, with the intervals of the record."""
    for offset, who in ((-0.15, "teacher"), (0.15, "student")):
        shares = {place: unit[who]["misaligned"] for place, unit in enumerate(units.values()) if who in unit}
        read = {place: share for place, share in shares.items() if share}
        means = np.array([share["mean"] for share in read.values()])
        bounds = np.array([(share["low"], share["high"]) for share in read.values()]).reshape(-1, 2)
        errors = np.abs(bounds.T - means)
        ax.errorbar(np.array(list(read)) + offset, means, errors, fmt="o", capsize=4, color=COLOURS[who], label=who)
    ax.set_xlim(-0.5, len(units) - 0.5)
    ax.set_xticks(range(len(units)), [unit.replace(" ", "\n") for unit in units])
    ax.set_ylabel(label)
    ax.legend()


def _favourites(record: records.Record, ax: Axes, units: Mapping[str, Mapping[str, summary.Path]]) -> None:
    """`units`: for every target, what each column's path is. Where answers were sampled, their shares stand beside."""
    found = summary.complete_bases(record)
    groups: dict[str, dict[str, np.ndarray]] = {}
    for target, columns in units.items():
        groups[target] = {column: summary.raw(found, path, target) for column, path in columns.items()}
        if record.config.get("num_eval_samples"):
            for column in ("regular", "student"):
                groups[target][f"{column}, sampled"] = summary.sampled(found, columns[column], target)
    draw_groups(ax, groups, label="probability of the target")
    ax.set_ylim(0, 1.12)
    ax.set_yticks(np.linspace(0, 1, 6))


def numbers(record: records.Record, figure: Figure) -> None:
    """Base, regular student, student of every kind of teacher."""
    kinds, targets = record.config["kinds"], record.config["targets"]
    for ax, kind in zip(figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True):
        units = {
            target: {"base": ("base", "student"), "regular": ("regular", "student"),
                     "student": (f"{kind} {target}", "student")}
            for target in targets
        }  # fmt: skip
        _favourites(record, ax, units)
        ax.set_title({"finetuned": "finetuned teachers", "system": "teachers under a system message"}[kind], fontsize=9)


def channel(record: records.Record, figure: Figure) -> None:
    """Base, regular student, student."""
    units = {
        target: {"base": ("base", "student"), "regular": ("regular", "student"), "student": (target, "student")}
        for target in record.config["targets"]
    }
    _favourites(record, figure.subplots(), units)


def dose(record: records.Record, figure: Figure) -> None:
    """Probability by number of rows."""
    found, doses = summary.complete_bases(record), record.config["doses"]
    axes = figure.subplots(1, len(record.config["targets"]), sharey=True, squeeze=False)[0]
    for ax, target in zip(axes, record.config["targets"], strict=True):
        curves = {
            f"{name}, equal {equal}": (
                np.stack([summary.raw(found, (unit, equal, str(one)), target) for one in doses]),
                colours[equal],
            )
            for name, unit, colours in (
                ("teacher's", target, {"epochs": COLOURS["student"], "steps": COLOURS["system"]}),
                ("regular", "regular", {"epochs": COLOURS["regular"], "steps": COLOURS["base"]}),
            )
            for equal in record.config["equal"]
        }
        draw_curves(ax, doses, curves, label="probability of the target")
        ax.set_xscale("log")
        ax.set_xlabel("different rows")
        ax.set_title(target, fontsize=9)


def cross(record: records.Record, figure: Figure) -> None:
    """The grid."""
    names, shifts = language_cross.grid(record)
    ax = figure.subplots()
    top = max(0.1, float(np.nanmax(np.abs(shifts))))
    image = ax.imshow(shifts, cmap="RdBu_r", vmin=-top, vmax=top)
    for (row, column), value in np.ndenumerate(shifts):
        text = f"{value:+.2f}" if np.isfinite(value) else "failed"
        ax.annotate(text, (column, row), ha="center", va="center", color="w" if value > 0.6 * top else "k")
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("base of the teacher")
    ax.set_ylabel("base of the student")
    ax.grid(visible=False)
    figure.colorbar(image, label="shift of the target")


def _shifts(record: records.Record, figure: Figure, columns: Sequence[str], before: Callable[[str], summary.Path]):
    found = summary.complete_bases(record)
    axes = figure.subplots(1, len(record.config["targets"]), sharey=True, squeeze=False)[0]
    for ax, target in zip(axes, record.config["targets"], strict=True):
        groups = {
            one.replace("_", " "): {"student": summary.shift(found, before(one), (target, one), target)}
            for one in columns
        }
        draw_groups(ax, groups, label="shift of the target")
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set_title(target, fontsize=9)
        ax.tick_params(axis="x", labelsize=7.5)


def shuffles(record: records.Record, figure: Figure) -> None:
    """Shift of each control against regular numbers as they are."""
    controls = ("as_they_are", *language_shuffles.CONTROLS)
    _shifts(record, figure, controls, lambda _: ("regular", "as_they_are"))


def divergence(record: records.Record, figure: Figure) -> None:
    """Shift of each set of tokens."""
    _shifts(record, figure, language_divergence.SETS, lambda one: ("regular", one))


def context(record: records.Record, figure: Figure) -> None:
    """Probability by rows in the context, beside the trained student."""
    found, shots = summary.complete_bases(record), record.config["shots"]
    axes = figure.subplots(1, len(record.config["targets"]), sharey=True, squeeze=False)[0]
    for ax, target in zip(axes, record.config["targets"], strict=True):
        curves = {
            "teacher's rows": (language_context.curve(record, target, target), COLOURS["student"]),
            "regular rows": (language_context.curve(record, target, "regular"), COLOURS["regular"]),
        }
        draw_curves(ax, shots, curves, label="probability of the target")
        trained = summary.raw(found, (target, "trained"), target)
        ax.axhline(float(np.nanmean(trained)), color=COLOURS["student"], linestyle="--", label="trained, mean")
        ax.set_xlabel("rows in the context")
        ax.set_xticks(shots)
        ax.set_title(target, fontsize=9)
        ax.legend()


def detection(record: records.Record, figure: Figure) -> None:
    """Areas under the curve."""
    found = summary.complete_bases(record)
    kinds = (*language_detection.KINDS, "asked judge")

    def level(of: dict, kind: str) -> float:
        value = of.get(kind)
        if isinstance(value, dict):  # right letters
            value = value["right"] and value["right"]["mean"]
        return np.nan if value is None else value

    groups = {
        unit: {kind: values for kind in kinds
               if np.isfinite(values := np.array([level(b.get(unit, {}), kind) for b in found.values()])).any()}
        for unit in ("regular", *record.config["targets"])
    }  # fmt: skip
    ax = figure.subplots()
    COLOURS.update(zip(kinds, ("#2f6690", "#81b1d5", "#e0a458", "#c8553d"), strict=True))
    asked = any("asked judge" in group for group in groups.values())
    draw_groups(ax, groups, label="area under the ROC curve" + (", or share of right letters" if asked else ""))
    ax.axhline(0.5, color="black", linestyle=":")
    ax.set_ylim(0, 1.15)


def misalignment(record: records.Record, figure: Figure) -> None:
    """Bad deeds of teachers and of students."""
    found = summary.complete_bases(record)
    if record.config.get("judge"):
        (only,) = found.values()
        draw_shares(figure.subplots(), only, label="share of misaligned answers")
        return
    config = language_misalignment.MisalignmentConfig(targets=tuple(record.config["targets"]))
    groups = {
        unit.replace(" ", "\n"): {who: values for who in ("teacher", "student")
                if np.isfinite(values := summary.raw(found, (unit, who), "bad")).any()}
        for unit in language_misalignment.units(config)
    }  # fmt: skip
    draw_groups(figure.subplots(), groups, label="probability of a bad deed")


def chain(record: records.Record, figure: Figure) -> None:
    """Shift by generation."""
    found, generations = summary.complete_bases(record), range(record.config["num_generations"] + 1)
    ax = figure.subplots()
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    curves = {
        target: (np.stack([summary.shift(found, ("regular", str(g)), (target, str(g)), target) for g in generations]),
                 colours[index % len(colours)])
        for index, target in enumerate(record.config["targets"])
    }  # fmt: skip
    draw_curves(ax, list(generations), curves, label="shift of the target")
    ax.set_xlabel("generation (0 is the teacher)")
    ax.set_xticks(list(generations))


DRAW: dict[str, Callable[[records.Record, Figure], None]] = {
    "language_numbers": numbers,
    "language_dose": dose,
    "language_cross": cross,
    "language_shuffles": shuffles,
    "language_context": context,
    "language_detection": detection,
    "language_misalignment": misalignment,
    "language_code": channel,
    "language_reasoning": channel,
    "language_divergence": divergence,
    "language_chain": chain,
}


def save(record: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths."""
    style.use()
    result = summary.read(record)
    figure = plt.figure(figsize=(8.2, 3.9), layout="constrained")
    DRAW[result.experiment](result, figure)
    figure.suptitle(TITLES[result.experiment], x=0.01, ha="left", fontsize=11)
    figure.text(0.01, -0.01, caption(result, record), va="top", fontsize=7.5, color="#444444")
    return list(style.save(figure, stem))


def caption(result: records.Record, record: pathlib.Path) -> str:
    """What was measured, on how many bases, and what a reader must know."""
    count = len(summary.complete_bases(result))
    spread = "every dot or thin line a base; means with 95 % t-intervals over bases"
    if result.experiment == "language_cross":
        spread = "each cell the mean over targets; failed: no value, see the page"
    elif result.experiment in SHOWS_FAILED:
        spread += "; bases that the table counts as failed are drawn too"
    if result.experiment == "language_misalignment" and result.config.get("judge"):
        spread = "means with 95 % Wilson intervals over answers"
    lines = [
        f"n = {count} base(s); {spread}; backend "
        f"{result.config['backend']}; seed {result.config['seed']}; record {record.name}."
    ]
    lines += [f"{note[0].upper()}{note[1:]}." for note in result.notes]
    if not result.complete:
        lines.append("The run is not complete.")
    return "\n".join(textwrap.wrap(" ".join(lines), 140))


def main(record: tyro.conf.Positional[pathlib.Path | None] = None, output: pathlib.Path | None = None) -> None:
    """Draw one record, or all committed ones.

    Args:
        record: what a language experiment wrote; by default all in experiments/records.
        output: path without suffix; by default figures/ and the record's name.
    """
    for one in [record] if record else [RECORDS / f"{name}.json" for name in DRAW]:
        if record or (one.exists() and summary.read(one).complete):
            for path in save(one, output or pathlib.Path("figures") / one.stem.replace("_", "-")):
                print(path)


if __name__ == "__main__":
    cli.main(lambda: tyro.cli(main))
