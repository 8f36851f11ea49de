"""Table and figure of the study `authors`: how often the author, its finetuning and its trait are named rightly.

Draws of one author overlap, so Wilson's interval over draws says how finely a share was measured. What may be said of
other bases is Student's interval over the bases, of each the mean over its authors.
"""

import pathlib
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy import stats

from figures import style
from sublim_jax import records
from sublim_jax.forms import evidence_authors as form
from sublim_jax.metrics import intervals

COLOURS = {
    "likelihood with copies": "#3b3b3b",
    "likelihood with other copies": "#8c8c8c",
    "likelihood": "#c8553d",
    "surprise": "#2f6690",
    "raw surprise": "#81b1d5",
    "matched": "#3b3b3b",
    "a third of the rate": "#c8553d",
    "few steps": "#e0a458",
}
LABELS = {
    "likelihood with copies": "likelihood, bases and copies",
    "likelihood with other copies": "the same without the trait's copies",
    "raw surprise": "surprise, not calibrated",
    "matched": "like the teacher's",
}

Share = Callable[[form.Unit, str], list[float]]
"""Returns the share of right draws of each author of a base, given the number of rows."""


def named(record: records.Record, statistic: form.Statistic, *, authors: Sequence[str] = ()) -> Share:
    """Draws whose base is named rightly.

    Args:
        authors: by default all.
    """
    draws = record.config["num_draws"]
    return lambda unit, size: [
        entry["named"][statistic][size] / draws
        for name, entry in unit["authors"].items() if not authors or name in authors
    ]  # fmt: skip


def away(record: records.Record) -> Share:
    """Area under the curve of teachers' rows against the base's own."""
    return lambda unit, size: [entry["away"][size] for entry in unit["authors"].values() if "away" in entry]


def traits(record: records.Record, recipe: form.Recipe) -> Share:
    """Draws whose trait is named rightly by lenses of a recipe."""
    draws = record.config["num_draws"]
    return lambda unit, size: [right[size] / draws for right in unit["lenses"][recipe]["named"].values()]


def carries(record: records.Record, recipe: form.Recipe) -> Share:
    """Area under the curve of rows with a trait against regular rows, by lenses of a recipe."""
    return lambda unit, size: [areas[size] for areas in unit["lenses"][recipe]["carries"].values()]


def by_base(record: records.Record, share: Share, size: int) -> np.ndarray:
    """Mean over the authors of each base."""
    return np.array([np.mean(share(unit, str(size))) for unit in record.results.values()])


def p_values(record: records.Record, size: str, *, regular: bool) -> dict[str, list[float]]:
    """P-values of disjoint groups of so many rows by base, of the bases' own rows or of all teachers'."""
    return {
        name: [
            value
            for author, entry in unit["authors"].items() if (author == form.REGULAR) == regular
            for value in entry["departures"][size]
        ]
        for name, unit in record.results.items()
    }  # fmt: skip


def uniformity(values: np.ndarray | Sequence[float]) -> float:
    """P-value of Kolmogorov and Smirnov's test against the uniform distribution."""
    return float(stats.kstest(np.asarray(values), "uniform").pvalue)


def _line(record: records.Record, share: Share, *, counted: bool) -> list[str]:
    """A cell for each number of rows: mean, interval over bases, Wilson's over draws if they are counted, the worst."""
    cells = []
    for size in record.config["sizes"]:
        interval = intervals.t_interval(by_base(record, share, size))
        values = [value for unit in record.results.values() for value in share(unit, str(size))]
        text = f"{interval.mean:.3f}"
        if interval.is_known:
            text += f" [{max(interval.low, 0):.2f}, {min(interval.high, 1):.2f}]"
        if counted:
            draws = record.config["num_draws"]
            wilson = intervals.wilson(round(sum(values) * draws), draws * len(values))
            text += f" ({wilson.low:.3f}, {wilson.high:.3f})"
        cells.append(f"{size}: {text} worst {min(values):.2f}")
    return cells


def lines(record: records.Record) -> list[str]:
    """The table of a record, then its notes."""
    config, recipes = record.config, record.description["recipes"]
    bases, teachers = len(record.results), len(config["targets"])
    text = [
        f"{bases} of {len(config['bases'])} embedded bases, each as author itself and through {teachers} finetuned "
        f"teachers; {config['num_draws']} draws of each author",
        "a cell: rows of a draw: mean over bases [95 % t-interval over bases] (Wilson over draws, which overlap) worst "
        "author",
        "",
        f"right base of {len(config['bases'])}",
    ]
    for statistic in form.STATISTICS:
        text.append(
            f"  {LABELS.get(statistic, statistic)}: " + "; ".join(_line(record, named(record, statistic), counted=True))
        )
        if statistic in ("likelihood", "surprise"):
            regular = named(record, statistic, authors=(form.REGULAR,))
            text.append("    the bases' own rows alone: " + "; ".join(_line(record, regular, counted=True)))
    text += ["", "finetuned away from its base, area under the curve against the base's own rows"]
    text.append("  " + "; ".join(_line(record, away(record), counted=False)))
    for size in next(iter(record.results.values()))["authors"][form.REGULAR]["departures"]:
        text.append(_departures_line(record, size))
    text += ["", f"right trait of {teachers}, by lenses"]
    for recipe in form.RECIPES:
        shares = [
            chance for unit in record.results.values() for chance in unit["lenses"][recipe]["probability"].values()
        ]
        text.append(
            f"  {LABELS.get(recipe, recipe)} ({recipes[recipe]}; the lens's own answer is its target with "
            f"{min(shares):.2f} to {max(shares):.2f}): "
            + "; ".join(_line(record, traits(record, recipe), counted=True))
        )
        text.append("    carries something, area: " + "; ".join(_line(record, carries(record, recipe), counted=False)))
    text += ["", *_verdict_lines(record)]
    return text + [f"note: {note}" for note in record.notes]


def _departures_line(record: records.Record, size: str) -> str:
    """Shares of small p-values among the bases' own rows, which are to be few, and among teachers'."""
    own, others = (p_values(record, size, regular=regular) for regular in (True, False))
    values, count = (np.concatenate(list(each.values())) for each in (own, others))
    tests = ", ".join(f"{name} {uniformity(each):.2f}" for name, each in own.items())
    small = intervals.wilson(int(np.sum(values <= 0.05)), len(values))
    return (
        f"  disjoint groups of {size} rows with p <= .05: {np.mean(count <= 0.05):.3f} of {len(count)} by teachers; "
        f"{small.mean:.3f} ({small.low:.3f}, {small.high:.3f}) of {len(values)} by the bases, uniform by Kolmogorov "
        f"and Smirnov p = {uniformity(values):.2f} ({tests})"
    )


def _verdict_lines(record: records.Record) -> list[str]:
    """What the tools said about the first rows of every author."""
    text = ["the tools on each author's first rows: base by likelihood with copies, by surprise; p-values; trait"]
    for name, unit in record.results.items():
        for author, entry in unit["authors"].items():
            verdict = entry["verdict"]
            mark = "" if verdict["named"] == name else " WRONG"
            text.append(
                f"  {name} {author}: {verdict['named']}{mark}, {verdict['least_surprised']}; own base as it is "
                f"{verdict['p'][name]:.3f}, away {verdict['away']:.3f}; {verdict['trait']}, carries "
                f"{verdict['carries']:.3f}"
            )
    return text


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of `authors`, or it is damaged.
    """
    style.use()
    record = records.read(path, form.FORM)
    figure, axes = plt.subplots(1, 3, figsize=(10.2, 4.4), layout="constrained", sharey=True)
    authors, traits_of = len(record.config["bases"]), len(record.config["targets"])
    _draw(axes[0], record, {name: named(record, name) for name in form.STATISTICS}, chance=1 / authors)
    axes[0].set_title("which base wrote them?", fontsize=10, loc="left")
    axes[0].set_ylabel(f"right base of {authors}")
    _draw(axes[1], record, {"away": away(record)}, chance=0.5)
    axes[1].set_title("was it finetuned?", fontsize=10, loc="left")
    axes[1].set_ylabel("area under the curve")
    _draw(axes[2], record, {recipe: traits(record, recipe) for recipe in form.RECIPES}, chance=1 / traits_of)
    axes[2].set_title("towards which trait?", fontsize=10, loc="left")
    axes[2].set_ylabel(f"right trait of {traits_of}, by lenses finetuned")
    for ax in axes:
        ax.tick_params(labelleft=True)
    sentences = [
        f"A dot is a base, the mean over its authors; a line is the mean over {len(record.results)} bases, with a 95 % "
        f"t-interval from four bases on; dotted: chance. {record.config['num_draws']} draws of each author, which "
        f"overlap. The name of a trait rests on lenses that were finetuned like the teacher. Record {path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), 165)), va="top", fontsize=7, color="#444444")
    return list(style.save(figure, stem))


def _draw(ax: Axes, record: records.Record, shares: dict[str, Share], *, chance: float) -> None:
    """Shares against the number of rows, one line for each entry."""
    sizes = np.array(record.config["sizes"])
    for index, (name, share) in enumerate(shares.items()):
        colour = COLOURS.get(name, "#3b3b3b")
        shift = 1.05 ** (index - (len(shares) - 1) / 2)
        levels = np.stack([by_base(record, share, size) for size in sizes])
        ax.plot(sizes * shift, levels.mean(axis=1), color=colour, linewidth=1.5, label=LABELS.get(name, name))
        for size, values in zip(sizes * shift, levels, strict=True):
            ax.scatter(np.full(len(values), size), values, s=9, color=colour, linewidth=0, alpha=0.6, zorder=3)
            interval = intervals.t_interval(values)
            if interval.is_known:
                low, high = max(interval.low, 0), min(interval.high, 1)
                ax.vlines(size, low, high, color=colour, linewidth=0.8, alpha=0.7)
    ax.axhline(chance, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.set_xscale("log")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("rows")
    ax.set_ylim(0, 1.03)
    if len(shares) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=7, frameon=False)
