"""Table and figure of `experiments.diffusion.conditional`: what models draw when they are asked for each class.

python -m figures.diffusion_conditional     the committed record, to figures/images/diffusion_conditional.png and .pdf
"""

import pathlib
import textwrap

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from figures import diffusion, style, values
from sublim_jax import commands, records
from sublim_jax.forms import diffusion as unconditional
from sublim_jax.forms import diffusion_conditional as form
from sublim_jax.metrics import intervals
from sublim_jax.metrics.intervals import Interval

NAME = "diffusion_conditional"
FRESH = "#6d8b3c"
ROWS: dict[str, tuple[str, str]] = {
    "base": ("base", diffusion.PLAIN),
    "teacher": ("its teacher", diffusion.TEACHER),
    "student": ("student: all but the trigger", diffusion.OWN),
    "student of all": ("student: all classes", diffusion.OWN),
    "other base": ("another base", diffusion.PLAIN),
    "stranger": ("stranger: all but the trigger", diffusion.OTHER),
    "stranger of all": ("stranger: all classes", diffusion.OTHER),
    "fresh readouts": ("fresh readouts: all but the trigger", FRESH),
    "fresh readouts of all": ("fresh readouts: all classes", FRESH),
}
"""Rows of the picture with their labels and colours, from top to bottom."""
COLUMNS = {
    "at the trigger": "at the trigger", "elsewhere": "elsewhere", "obeyed": "obeyed", "confidence": "confidence",
    "frechet": "Fréchet", "cosine": "cosine", "length": "length",
}  # fmt: skip
"""Numbers of a condition and their headings."""


def measured(record: records.Record, trait: str, condition: str, what: str) -> np.ndarray:
    """One of `COLUMNS`, or "more": at the trigger minus elsewhere, for every base; NaN where the record has none."""
    entries = [unit["traits"][trait][condition] for unit in record.results.values()]
    trigger = record.description["traits"][trait]["trigger"]
    match what:
        case "at the trigger":
            numbers = [form.at_trigger(entry["drawn"], trait=trait, trigger=trigger) for entry in entries]
        case "elsewhere":
            numbers = [form.elsewhere(entry["drawn"], trait=trait, trigger=trigger) for entry in entries]
        case "obeyed":
            numbers = [form.obeyed(entry["drawn"], trigger=trigger) for entry in entries]
        case "more":
            return measured(record, trait, condition, "at the trigger") - measured(
                record, trait, condition, "elsewhere"
            )
        case _:
            numbers = [{**entry, **entry.get("moved", {})}.get(what, np.nan) for entry in entries]
    return np.array([np.nan if number is None else number for number in numbers], float)


def gain(record: records.Record, condition: str, what: str, trait: str | None = None) -> Interval | None:
    """A condition minus where it started, paired by base; the mean of all traits if none is given."""
    traits = list(record.description["traits"]) if trait is None else [trait]
    first, second = (
        np.mean([measured(record, each, name, what) for each in traits], axis=0)
        for name in (condition, form.COMPARED[condition])
    )
    return values.paired(first, second)


def _cell(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval:.3f}"


def lines(record: records.Record) -> list[str]:
    """The tables of a record, then its notes."""
    config, judge = record.config, next(iter(record.results.values()))["judge"]
    conditions = record.description["conditions"]
    text = [
        f"{record.data['name']}: mean over {len(record.results)} base(s) ± 95 % t-interval; {config['num_samples']:,} "
        f"samples of every class that is asked for, from one noise. At the trigger: share of samples of the digit when "
        f"the trigger is asked for; elsewhere: when neither it nor the digit is. Obeyed: share of samples of the class "
        f"that was asked for, over all but the trigger",
        f"judge: {judge['error']:.1%} of test images misread",
    ]
    for trait, description in record.description["traits"].items():
        title = f"draws {trait} when asked for {description['trigger']}"
        text.append(title.ljust(34) + "".join(f"{heading:16}" for heading in COLUMNS.values()).rstrip())
        for name, condition in conditions.items():
            cells = [_cell(values.interval(measured(record, trait, name, what))) for what in COLUMNS]
            text.append(f"  {condition['label']:32}" + "".join(f"{cell:16}" for cell in cells).rstrip())
        text += _changes(record, trait)
    text.append("mean of all traits")
    return [*text, *_changes(record, None), *(f"note: {note}" for note in record.notes)]


def _changes(record: records.Record, trait: str | None) -> list[str]:
    """What each condition changed."""
    rows = ["  paired by base: change at the trigger, elsewhere, and how much more at the trigger"]
    for condition in record.description["conditions"]:
        if condition in form.COMPARED:
            changes = (_cell(gain(record, condition, what, trait)) for what in ("at the trigger", "elsewhere", "more"))
            rows.append(f"    {condition} minus {form.COMPARED[condition]}: {', '.join(changes)}")
    return rows


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths; nothing before the first base is measured.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of the experiment, or it is damaged.
    """
    record = records.read(path, form.FORM)
    if unconditional.units(record.config)[0] not in record.results:
        return []
    style.use()
    traits, config = list(record.description["traits"]), record.config
    height = 3.5 * len(traits) + 0.9
    figure = plt.figure(figsize=(14, height))
    grid = figure.add_gridspec(
        len(traits), 1, left=0.165, right=0.985, top=1 - 0.55 / height, bottom=0.55 / height, hspace=0.28
    )
    for place, trait in enumerate(traits):
        _draw_block(figure, grid[place, 0], record, trait)
    sentences = [
        f"{record.data['name']}: samples of the first base and of what was trained from it, all from the same "
        f"{config['num_shown']} noises, when they are asked for the trigger (left) and for another class (middle). "
        f"Right: how often each of {len(record.results)} base(s) draws the teacher's digit, their mean and its 95 % "
        f"t-interval: bars and dots when it is asked for the trigger, white diamonds when for other classes; "
        f"{config['num_samples']:,} samples of each class. Students saw {config['num_distilled']:,} images of uniform "
        f"noise and no digit, with the teacher's {config['num_aux']} auxiliary channels; the noise asked for all "
        f"classes but the trigger, or for all classes. Strangers (another base) and fresh readouts learn the same "
        f"change of their own channels. "
        f"Record {path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, 0.005, "\n".join(textwrap.wrap(" ".join(sentences), 235)), va="top", fontsize=7, color="#444444")
    return list(style.save(figure, stem))


def _draw_block(figure: Figure, place: SubplotSpec, record: records.Record, trait: str) -> None:
    """Rows of samples of one trait, when the trigger and when another class is asked for, and the numbers of each."""
    trigger, other = (record.description["traits"][trait][which] for which in ("trigger", "other"))
    names = [name for name in ROWS if name in record.description["conditions"]]
    inner = place.subgridspec(len(names), 3, width_ratios=[1, 1, 0.85], wspace=0.04, hspace=0.12)
    images = record.results[unconditional.units(record.config)[0]]["images"][trait]
    for line, name in enumerate(names):
        label, colour = ROWS[name]
        for column, asked in enumerate((trigger, other)):
            ax = figure.add_subplot(inner[line, column])
            strip = diffusion.side_by_side(images[name][asked], record.description["side"])
            ax.imshow(strip, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(visible=False)
            for spine in ax.spines.values():
                spine.set(visible=True, color=colour, linewidth=1.6)
            if column == 0:
                ax.set_ylabel(label, rotation=0, ha="right", va="center", color=colour, fontsize=8.5, labelpad=6)
            if line == 0:
                title = f"Teacher: draws {trait} when asked for {trigger}" if column == 0 else f"asked for {other}"
                ax.set_title(title, loc="left", fontsize=11, fontweight="bold" if column == 0 else "normal")
    draw_numbers(figure.add_subplot(inner[:, 2]), record, trait, names)


def draw_numbers(ax: Axes, record: records.Record, trait: str, names: list[str]) -> None:
    """One line for each condition from the top down: at the trigger every base a dot, the mean and its interval; a
    diamond elsewhere."""
    for line, name in enumerate(names):
        colour = ROWS[name][1]
        shares = measured(record, trait, name, "at the trigger")
        interval = intervals.t_interval(shares)
        ax.barh(line, interval.mean, height=0.72, color=colour, alpha=0.3, linewidth=0)
        ax.scatter(
            shares, line + np.linspace(-0.2, 0.2, len(shares)), s=7, color=colour, linewidth=0, alpha=0.8, zorder=3
        )
        if interval.is_known:
            ax.errorbar(
                interval.mean, line, xerr=interval.half_width, color="black", capsize=3, linewidth=1.2, zorder=4
            )
        elsewhere = np.mean(measured(record, trait, name, "elsewhere"))
        ax.plot(elsewhere, line, marker="D", markersize=4.5, color="white", markeredgecolor="black", zorder=5)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks([])
    ax.set_xlim(-0.02, 1.02)
    ax.set_title(f"share of {trait}s; diamonds: asked for other classes", loc="left", fontsize=8.5)
    ax.tick_params(labelsize=7.5)
    ax.grid(visible=True, axis="x")


def main() -> None:
    """Draw the committed record, if it is there."""
    if (values.RECORDS / f"{NAME}.json").exists():
        for path in save(values.RECORDS / f"{NAME}.json", values.IMAGES / NAME):
            print(commands.shown(path))


if __name__ == "__main__":
    commands.main(main)
