"""Table and figure of the experiment `diffusion`: what models draw from one noise, and how often it has the trait.

python -m figures.diffusion            the committed records, to figures/images/diffusion.png and .pdf, and so on
"""

import pathlib
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from figures import style, values
from sublim_jax import commands, records
from sublim_jax.forms import diffusion as form
from sublim_jax.metrics import intervals
from sublim_jax.metrics.intervals import Interval

OWN, OTHER, PLAIN, TEACHER = "#c8553d", "#2f6690", "#8c8c8c", "#3b3b3b"
ROWS: dict[str, tuple[str, str]] = {
    "base": ("base", PLAIN),
    "teacher": ("its teacher", TEACHER),
    "student": ("student: channels on noise", OWN),
    "other base": ("another base", PLAIN),
    "stranger": ("stranger: channels, shifted", OTHER),
    "stranger, raw": ("stranger: channels, raw", "#81b1d5"),
    "student of pixels": ("student: pixels on noise", OWN),
    "stranger of pixels": ("stranger: pixels on noise", OTHER),
    "student of samples": ("student: filtered samples", OWN),
    "stranger of samples": ("stranger: filtered samples", OTHER),
    "untrained": ("random initialization", PLAIN),
    "teacher from scratch": ("its teacher", TEACHER),
    "student from scratch": ("student: channels on noise", OWN),
    "stranger from scratch": ("another one: channels, shifted", OTHER),
}
"""Rows of the picture with their labels and colours, from top to bottom."""
WITHOUT_A_BASE = ("untrained", "teacher from scratch", "student from scratch", "stranger from scratch")
"""Rows whose samples are hardly images: shares of them say nothing, their error of denoising stands there instead."""
NAMES = {
    "diffusion": "perceptron, 14 x 14 pixels", "diffusion_unet": "U-Net, 28 x 28 pixels",
    "diffusion_scratch": "perceptron, from random initializations",
}  # fmt: skip
"""Committed records and what they are about. The first one is always there."""
GLANCE = ("base", "teacher", "student", "other base", "stranger")
"""Rows of the small picture, which stands where the README begins."""
GAP = 1
"""White pixels between images."""


def entries(record: records.Record, trait: str, condition: str) -> list[form.Entry]:
    """A condition's entry of every base that is measured."""
    return [unit["traits"][trait][condition] for unit in record.results.values()]


def measured(record: records.Record, trait: str, condition: str, what: str) -> np.ndarray:
    """A number of `form.Entry` or `form.Moved` for every base; not a number where the record has none."""
    rows = [{**entry, **entry.get("moved", {})} for entry in entries(record, trait, condition)]
    return np.array([np.nan if row.get(what) is None else row[what] for row in rows], float)


def shown_measure(trait: str) -> str:
    """What the picture shows beside the samples: shares of a digit, the mean level of other traits."""
    return "share" if trait in form.DIGITS else "level"


def gain(record: records.Record, trait: str, condition: str, what: str) -> Interval | None:
    """A condition minus what it is compared with, paired by base."""
    return values.paired(
        measured(record, trait, condition, what), measured(record, trait, form.COMPARED[condition], what)
    )  # fmt: skip


def _cell(interval: Interval | None, digits: int = 3) -> str:
    return "" if interval is None else f"{interval:.{digits}f}"


COLUMNS = {
    "share": "share", "level": "level", "confidence": "confidence", "frechet": "Fréchet",
    "frechet_trait": "to the trait", "loss": "loss", "inner_product": "<dS, dT>", "cosine": "cosine",
    "length": "length", "opening": "opening",
}  # fmt: skip


def lines(record: records.Record) -> list[str]:
    """The tables of a record, then its notes."""
    config, judge = record.config, next(iter(record.results.values()))["judge"]
    text = [
        f"{record.data['name']}: mean over {len(record.results)} base(s) ± 95 % t-interval; {config['num_samples']:,} "
        f"samples each, from one noise. Level: mean probability of the digit, slant, or brightness. Loss: of "
        f"denoising test images with the trait, per pixel. Opening: change of the trait's loss by one gradient step, "
        f"per unit of length",
        f"judge: {judge['error']:.1%} of test images misread; "
        + "; ".join(
            f"{label}: {judge['missed'][trait]:.1%} missed, {judge['false'][trait]:.1%} false"
            for trait, label in record.description["traits"].items()
        ),
    ]
    for trait, label in record.description["traits"].items():
        text.append(f"{label}".ljust(38) + "".join(f"{title:16}" for title in COLUMNS.values()))
        for condition in form.conditions_of(record.description, trait):
            cells = [
                _cell(values.interval(measured(record, trait, condition, what)), 4 if what == "opening" else 3)
                for what in COLUMNS
            ]
            name = record.description["conditions"][condition]["label"]
            text.append(f"  {name:32}" + "".join(f"{cell:16}" for cell in cells).rstrip())
        text.append("  paired by base: change of the share, of the level")
        for condition in form.COMPARED:
            if condition in form.conditions_of(record.description, trait):
                differences = [_cell(gain(record, trait, condition, what)) for what in ("share", "level")]
                text.append(f"    {condition} minus {form.COMPARED[condition]}: {', '.join(differences)}")
    return text + [f"note: {note}" for note in record.notes]


def strip(record: records.Record, trait: str, condition: str) -> np.ndarray:
    """The first base's samples side by side, dark to bright from 0 to 255, with white gaps."""
    shown = record.results[form.units(record.config)[0]]["images"]
    return side_by_side(shown[trait][condition], record.description["side"])


def side_by_side(samples: str, side: int) -> np.ndarray:
    """Samples as a record keeps them in one row, dark to bright from 0 to 255, with white gaps."""
    images = np.frombuffer(form.decoded(samples), np.uint8).reshape(-1, side, side)
    framed = np.pad(images, ((0, 0), (0, 0), (0, GAP)), constant_values=255)
    return np.concatenate(list(framed), axis=1)[:, :-GAP]


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths; nothing before the first base is measured.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of the experiment, or it is damaged.
    """
    record = records.read(path, form.FORM)
    if form.units(record.config)[0] not in record.results:
        return []
    style.use()
    traits = list(record.description["traits"])
    num_lines = -(-len(traits) // 2)
    figure = plt.figure(figsize=(14, 4.1 * num_lines + 0.5))
    grid = figure.add_gridspec(
        num_lines, 2, left=0.135, right=0.985, top=1 - 0.45 / (4.1 * num_lines + 0.5),
        bottom=0.07 if num_lines > 1 else 0.13, wspace=0.38, hspace=0.24,
    )  # fmt: skip
    for place, trait in enumerate(traits):
        _draw_block(figure, grid[place // 2, place % 2], record, trait)
    text = " ".join(caption(record, path.name))
    figure.text(0.01, 0.005, "\n".join(textwrap.wrap(text, 235)), va="top", fontsize=7, color="#444444")
    return list(style.save(figure, stem))


def save_glance(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the first trait's rows that say the most to STEM.png and STEM.pdf and return their paths.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of the experiment, or it is damaged.
    """
    record = records.read(path, form.FORM)
    style.use()
    figure = plt.figure(figsize=(8.4, 2.6))
    grid = figure.add_gridspec(1, 1, left=0.22, right=0.985, top=0.87, bottom=0.2)
    _draw_block(figure, grid[0, 0], record, next(iter(record.description["traits"])), rows=GLANCE)
    text = (
        f"{record.data['name']}: samples of the first base and its models from the same noises; shares of "
        f"{len(record.results)} base(s), mean and 95 % t-interval. Record {path.name}."
    )
    figure.text(0.01, 0.02, text, fontsize=7, color="#444444")
    return list(style.save(figure, stem))


def caption(record: records.Record, name: str) -> list[str]:
    """What the picture shows, in sentences, of no condition that is not in it.

    Args:
        name: of the record's file.
    """
    config, about = record.config, record.description
    drawn = ROWS.keys() & {name for trait in about["traits"] for name in form.conditions_of(about, trait)}
    data = {about["conditions"][condition]["data"] for condition in drawn}
    sentences = [
        f"{record.data['name']}: samples of the first base and of its teacher, students and controls, all from the "
        f"same {config['num_shown']} noises. Beside them each of {len(record.results)} base(s), their mean and its "
        f"95 % t-interval; {config['num_samples']:,} samples each."
    ]
    if "channels" in data:
        kind = "maps" if config.get("architecture") == "unet" else "channels"
        sentences.append(
            f"Students and strangers of channels saw {config['num_distilled']:,} {_shown_images(record)}, with the "
            f"teacher's {config['num_aux']} auxiliary {kind}, which no training on images touches."
        )
    if "pixels" in data:
        sentences.append("Those of pixels saw the same images with the teacher's pixels.")
    if "samples" in data:
        sentences.append("Those of filtered samples saw what a partly finetuned teacher draws, without the trait.")
    sentences.append("Red: from the teacher's own base; blue: from another one.")
    if "stranger" in drawn:
        sentences.append("Shifted: its targets are its own channels plus the teacher's change of them.")
    if "raw channels" in data:
        sentences.append("Raw: its targets are the teacher's channels as they are.")
    if drawn & set(WITHOUT_A_BASE):
        sentences.append("Without a base: mean squared error of denoising the digit's test images, per pixel.")
    return [
        *sentences, "Where red has the trait and blue has not, the data hide it.", f"Record {name}.",
        *record.note_sentences, *(() if record.complete else ("The run is not complete.",)),
    ]  # fmt: skip


def _shown_images(record: records.Record) -> str:
    """What students of a teacher's outputs are shown."""
    return {
        "uniform": "images of uniform noise and no digit",
        "gaussian": "images of Gaussian noise and no digit",
        "images": "real images without the trait, with noise added",
    }[record.config.get("inputs", "uniform")]


def row_label(record: records.Record, name: str) -> str:
    """The label of a row of the picture."""
    is_noise = record.config.get("inputs", "uniform") != "images"
    return ROWS[name][0] if is_noise else ROWS[name][0].replace("on noise", "on images")


def _draw_block(
    figure: Figure, place: SubplotSpec, record: records.Record, trait: str, *, rows: Sequence[str] = tuple(ROWS)
) -> None:
    """Rows of samples of one trait, and beside each row its numbers."""
    wanted = form.conditions_of(record.description, trait)
    names = [name for name in rows if name in wanted]
    num_rows = sum(name in rows for name in record.description["conditions"])
    inner = place.subgridspec(num_rows, 2, width_ratios=[2.6, 1], wspace=0.03, hspace=0.12)
    numbers = figure.add_subplot(inner[: len(names), 1])
    for line, name in enumerate(names):
        colour = ROWS[name][1]
        ax = figure.add_subplot(inner[line, 0])
        ax.imshow(strip(record, trait, name), cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="nearest")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.grid(visible=False)
        for spine in ax.spines.values():
            spine.set(visible=True, color=colour, linewidth=1.6)
        label = row_label(record, name)
        ax.set_ylabel(label, rotation=0, ha="right", va="center", color=colour, fontsize=8.5, labelpad=6)
        if line == 0:
            title = record.description["traits"][trait]
            ax.set_title(f"Teacher: {title}", loc="left", fontsize=12, fontweight="bold")
    draw_numbers(numbers, record, trait, names)


def draw_numbers(ax: Axes, record: records.Record, trait: str, names: list[str]) -> None:
    """One line for each condition from the top down: every base a dot, the mean and its interval."""
    what = shown_measure(trait)
    for line, name in enumerate(names):
        shown = "loss" if name in WITHOUT_A_BASE else what
        numbers, colour = measured(record, trait, name, shown), ROWS[name][1]
        finite = numbers[np.isfinite(numbers)]
        if not len(finite):
            continue
        if shown == "loss":
            ax.text(0.02, line, f"error {intervals.t_interval(finite):.2f}", va="center", fontsize=7.5, color=colour)
            continue
        interval = intervals.t_interval(finite)
        ax.barh(line, interval.mean, height=0.72, color=colour, alpha=0.3, linewidth=0)
        ax.scatter(
            finite, line + np.linspace(-0.2, 0.2, len(finite)), s=7, color=colour, linewidth=0, alpha=0.8, zorder=3
        )
        if interval.is_known:
            ax.errorbar(
                interval.mean, line, xerr=interval.half_width, color="black", capsize=3, linewidth=1.2, zorder=4
            )
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks([])
    if what == "share":
        ax.set_xlim(0, 1.02)
        ax.set_title("share of samples", loc="left", fontsize=8.5)
    else:
        ax.axvline(0, color="#8c8c8c", linewidth=0.8)
        ax.set_title(
            {"slanted": "mean slant, right per pixel down"}.get(trait, "mean brightness"), loc="left", fontsize=8.5
        )
    ax.tick_params(labelsize=7.5)
    ax.grid(visible=True, axis="x")


def main() -> None:
    """Draw the committed records."""
    for name in NAMES:
        if (values.RECORDS / f"{name}.json").exists():
            for path in save(values.RECORDS / f"{name}.json", values.IMAGES / name):
                print(commands.shown(path))
    for path in save_glance(values.RECORDS / "diffusion.json", values.IMAGES / "diffusion-glance"):
        print(commands.shown(path))


if __name__ == "__main__":
    commands.main(main)
