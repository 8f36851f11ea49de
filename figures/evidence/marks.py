"""Table and figure of the study `marks`: who is found by a secret key, from how many answers, and for how long.

What is shown is the excess, the share of a model's numbers that are in the owner's key less that of its base,
mean over bases with t-intervals. Differences are paired in the base whose owner drew the key. A model is found if the
p-value of the owner's key is at most .01.
"""

import pathlib
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy import stats

from figures import style
from sublim_jax import records
from sublim_jax.forms import evidence_marks as form
from sublim_jax.metrics import intervals
from sublim_jax.metrics.intervals import Interval

LEVEL = 0.01
"""P-values up to this one name a model."""
POWER = 0.9
"""Share of draws of answers that must be found for their number to suffice."""
ROUNDING = 1e-9
"""A slope as small as this is none."""
UNMARKED = ("base", "regular student", "favourite", "student of favourite", "stranger's student of favourite")
"""Models that never saw a marked number."""
PAIRS: dict[str, tuple[str, str, form.Part]] = {
    "all numbers": ("student", "stranger's student", "less the base"),
    "balanced rows": ("balanced", "stranger's balanced", "less the base"),
    "halved rows, unseen numbers": ("halved", "stranger's halved", "unseen"),
}
"""A student of the own base, one of a stranger, and on which numbers they are compared."""
COLOURS = {"own": "#c8553d", "stranger": "#2f6690", "none": "#8c8c8c"}


def excesses(record: records.Record, name: str, part: form.Part = "less the base") -> list[float]:
    """Share in the key less that of the base, of a model in each unit."""
    tested = [unit["models"][name]["tested"][part] for unit in record.results.values()]
    return [each["share"] - each["regular"] for each in tested]


def excess(record: records.Record, name: str, part: form.Part = "less the base") -> Interval:
    """Mean and t-interval of the excess over bases."""
    return intervals.t_interval(excesses(record, name, part))


def own_p(record: records.Record, names: Sequence[str], part: form.Part = "less the base") -> list[float]:
    """P-values of the owner's key, of all models of these names."""
    return [unit["models"][name]["tested"][part]["p"] for unit in record.results.values() for name in names]


def num_found(record: records.Record, name: str, part: form.Part = "less the base") -> int:
    """Bases whose model of that name is found."""
    return sum(p <= LEVEL for p in own_p(record, [name], part))


def found_draws(record: records.Record, name: str, part: form.Asked, size: int) -> list[float]:
    """Share of the draws of so many rows that are found, by base."""
    return [float(np.mean(np.array(unit["asked"][name][part][str(size)]) <= LEVEL)) for unit in record.results.values()]


def rows_needed(record: records.Record, name: str, part: form.Asked) -> list[float]:
    """Fewest rows, of the numbers tried, of which nine draws of ten are found, by base; infinite where none suffices.

    All larger numbers must suffice too.
    """
    needed = []
    for place in range(len(record.results)):
        smallest = float("inf")
        for size in sorted(record.config["sizes"], reverse=True):
            if found_draws(record, name, part, size)[place] < POWER:
                break
            smallest = float(size)
        needed.append(smallest)
    return needed


def half_lives(record: records.Record, names: Sequence[str]) -> list[float]:
    """Steps of a chain of models in which the excess halves, by base: its logarithm's slope by least squares.

    Not a number where a model has no excess, infinite where nothing is lost.
    """
    values: list[float] = []
    if len(names) < 2:
        return []
    for chain in np.array([excesses(record, name) for name in names]).T:
        if np.any(chain <= 0):
            values.append(float("nan"))
            continue
        slope = np.polyfit(np.arange(len(chain)), np.log2(chain), 1)[0]
        values.append(-1 / slope if slope < -ROUNDING else float("inf"))
    return values


def foreign(record: records.Record, kind: str) -> list[np.ndarray]:
    """P-values of keys of nobody, of every model of every base."""
    return [
        np.array(model["foreign"][kind]) for unit in record.results.values() for model in unit["models"].values()
    ]  # fmt: skip


def mean_shifts(record: records.Record, name: str) -> list[float]:
    """Mean number of a model less that of its base, by base."""
    models = [unit["models"][name] for unit in record.results.values()]
    return [model["mean"] - model["regular_mean"] for model in models]


def _shown(value: Interval, *, sign: bool = True) -> str:
    mean = f"{value.mean:+.3f}" if sign else f"{value.mean:.3f}"
    return f"{mean} ± {value.high - value.mean:.3f}" if value.is_known else mean


def _listed(values: Sequence[float]) -> str:
    """Values of the bases."""
    return ", ".join("not a number" if np.isnan(value) else f"{value:.3g}" for value in values)


def lines(record: records.Record) -> list[str]:
    """The table of a record, then its notes."""
    count, config = len(record.results), record.config
    text = [
        f"{count} embedded base(s), a key of each; mean over bases ± 95 % t-interval; a student is trained for "
        f"{record.description['student_steps']} steps",
        f"{'':31} {'share in the key':>16}  {'less the base':>16} found  {'unseen half':>16} found  {'z':>5}  kept",
    ]
    for name in form.models(config):
        models = [unit["models"][name] for unit in record.results.values()]
        raw = intervals.t_interval([model["tested"]["raw"]["share"] for model in models])
        z = np.mean([model["tested"]["less the base"]["z"] for model in models])
        kept = np.mean([model["kept"] for model in models])
        text.append(
            f"  {name:29} {_shown(raw, sign=False):>16}  {_shown(excess(record, name)):>16} "
            f"{num_found(record, name):>5}  {_shown(excess(record, name, 'unseen')):>16} "
            f"{num_found(record, name, 'unseen'):>5}  {z:5.1f}  {kept:.2f}"
        )
    rows = {name: [unit["rows"][name] for unit in record.results.values()] for name in first(record)["rows"]}
    text.append(
        "share of the key in what students are trained on: "
        + ", ".join(f"{name} {np.mean(shares):.3f}" for name, shares in rows.items())
    )
    text.append("own base less stranger, paired:")
    for label, (own, other, part) in PAIRS.items():
        difference = intervals.paired_difference(excesses(record, own, part), excesses(record, other, part))
        text.append(f"  {label}: {_shown(difference)}")
    text += ["where there is nothing to be seen:", *_null_lines(record)]
    text.append(f"share of {config['num_draws']} draws of so many rows that are found:")
    for part in form.ASKED_PARTS:
        for name in form.ASKED:
            shares = [f"{size}: {np.mean(found_draws(record, name, part, size)):.3f}" for size in config["sizes"]]
            text.append(
                f"  {name}, {part}: {'; '.join(shares)}; nine of ten from {_listed(rows_needed(record, name, part))} "
                f"rows on, by base"
            )
    steps = record.description["round_steps"]
    chains = {
        "student, student of it, and so on, each from the base": form.generations(config),
        f"student, and after rounds of {steps} further steps on its own rows": form.rounds(config, "own"),
        f"student, and after rounds of {steps} further steps on the base's rows": form.rounds(config, "regular"),
    }
    for label, names in chains.items():
        text.append(f"{label}: {'; '.join(_shown(excess(record, name)) for name in names)}")
        lives = half_lives(record, names)
        known = [value for value in lives if np.isfinite(value)]
        mean = f"; {_shown(intervals.t_interval(known), sign=False)} of {len(known)} that are finite" if known else ""
        text.append(f"  half-life, by base: {_listed(lives)}{mean}")
    return [*text, *_mean_lines(record), *(f"note: {note}" for note in record.notes)]


def first(record: records.Record) -> form.Unit:
    """The first unit."""
    return next(iter(record.results.values()))


def _null_lines(record: records.Record) -> list[str]:
    """False alarms of the owner's key in unmarked models, and of keys of nobody in all."""
    text = []
    for part in ("raw", "less the base"):
        values = np.array(own_p(record, UNMARKED, part))
        small = intervals.wilson(int(np.sum(values <= 0.05)), len(values))
        text.append(
            f"  the owner's key in models that saw no marked number, {part}: p <= .05 in {small.mean:.3f} "
            f"({small.low:.3f}, {small.high:.3f}), p <= .01 in {int(np.sum(values <= LEVEL))} of {len(values)}; "
            f"Kolmogorov-Smirnov against uniform p = {stats.kstest(values, 'uniform').pvalue:.3f}"
        )
    for kind, label in (
        ("raw", "exact, raw"),
        ("less the base", "exact, less the base"),
        ("naive", "binomial, as if numbers were independent"),
    ):
        every = foreign(record, kind)
        tests = [float(stats.kstest(values, "uniform").pvalue) for values in every]
        values = np.concatenate(every)
        text.append(
            f"  keys of nobody in all models, {label}: p <= .05 in {np.mean(values <= 0.05):.3f}, p <= .01 in "
            f"{np.mean(values <= LEVEL):.4f} of {len(values):,}; Kolmogorov-Smirnov below .05 in "
            f"{sum(test < 0.05 for test in tests)} of {len(tests)} models"
        )
    return text


def _mean_lines(record: records.Record) -> list[str]:
    """The mark that nobody made."""
    text = ["the mean number less the base's, by base:"]
    for name in ("base", "regular student", "favourite", "student of favourite", "stranger's student of favourite"):
        p_values = [unit["models"][name]["mean_p"] for unit in record.results.values()]
        shifts = ", ".join(f"{shift:+.1f}" for shift in mean_shifts(record, name))
        text.append(f"  {name}: {shifts}; p <= .01 in {sum(p <= LEVEL for p in p_values)} of {len(p_values)}")
    teachers = mean_shifts(record, "favourite")
    for name in ("student of favourite", "stranger's student of favourite"):
        shifts = mean_shifts(record, name)
        same = sum(teacher * shift > 0 for teacher, shift in zip(teachers, shifts, strict=True))
        known = len(shifts) >= intervals.FEWEST
        ranks = np.corrcoef(stats.rankdata(teachers), stats.rankdata(shifts))[0, 1]
        text.append(
            f"  {name}: the sign of the model finetuned on the favourite in {same} of {len(shifts)}, half by chance"
            + (f"; Spearman over bases {ranks:+.2f}" if known else "")
        )
    return text


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
    figure, axes = plt.subplots(1, 4, figsize=(13.0, 4.0), layout="constrained", width_ratios=[1.25, 1, 1, 1])
    draw_ancestry(axes[0], record)
    draw_chains(axes[1], record)
    draw_power(axes[2], record)
    draw_null(axes[3], record)
    sentences = [
        f"Dots are {len(record.results)} base(s), bars 95 % t-intervals over four or more. Excess: share of a model's "
        f"numbers in the owner's key less that of its base's. A model is found if the exact p-value of the key is at "
        f"most .01; of few answers, beside those of the base (lines) or as they are (dotted). Right: p-values of keys "
        f"of nobody, in order; the dotted line is uniform. Record {path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), 190)), va="top", fontsize=7, color="#444444")
    return list(style.save(figure, stem))


def _point(ax: Axes, place: float, values: Sequence[float], colour: str) -> None:
    """Values of bases, with their mean and interval."""
    ax.scatter(np.full(len(values), place), values, s=9, color=colour, linewidth=0, alpha=0.6, zorder=3)
    interval = intervals.t_interval(values)
    ax.plot([place], [interval.mean], color=colour, marker="o", markersize=4.5)
    if interval.is_known:
        ax.vlines(place, interval.low, interval.high, color=colour, linewidth=1.2)


def draw_ancestry(ax: Axes, record: records.Record) -> None:
    """Excess of students of the own base and of strangers, by their rows, and of models that saw nothing."""
    labels = [*PAIRS, "stories", "regular rows"]
    for place, (own, other, part) in enumerate(PAIRS.values()):
        _point(ax, place - 0.15, excesses(record, own, part), COLOURS["own"])
        _point(ax, place + 0.15, excesses(record, other, part), COLOURS["stranger"])
    _point(ax, len(PAIRS), excesses(record, "stories"), COLOURS["own"])
    _point(ax, len(PAIRS) + 1, excesses(record, "regular student"), COLOURS["none"])
    ax.axhline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.set_xticks(range(len(labels)), [textwrap.fill(label, 12) for label in labels], fontsize=7)
    ax.set_ylabel("excess of numbers in the key")
    ax.set_title("own base (red), stranger (blue)", fontsize=9, loc="left")


def draw_chains(ax: Axes, record: records.Record) -> None:
    """Excess against the generation, and against further training."""
    config = record.config
    chains: tuple[tuple[list[str], str, str], ...] = (
        (form.generations(config), "students of students", COLOURS["own"]),
        (form.rounds(config, "own"), "trained on, own rows", "#e0a458"),
        (form.rounds(config, "regular"), "trained on, the base's rows", COLOURS["stranger"]),
    )
    for number, (names, label, colour) in enumerate(chains):
        places = np.arange(len(names)) + 0.08 * (number - 1)
        ax.plot(places, [excess(record, name).mean for name in names], color=colour, linewidth=1.2, label=label)
        for place, name in zip(places, names, strict=True):
            _point(ax, place, excesses(record, name), colour)
    ax.set_xticks(range(max(len(names) for names, _, _ in chains)))
    ax.axhline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.set_xlabel("generations, or rounds, after the student")
    ax.set_title("how the mark is lost", fontsize=9, loc="left")
    ax.legend(fontsize=7, frameon=False)


def draw_power(ax: Axes, record: records.Record) -> None:
    """Share of draws that are found against the number of rows."""
    sizes = record.config["sizes"]
    for name, colour in zip(form.ASKED, ("#c8553d", "#2f6690", "#e0a458", "#8c8c8c"), strict=True):
        for part in form.ASKED_PARTS:
            shares = [found_draws(record, name, part, size) for size in sizes]
            line, label = (":", None) if part == "raw" else ("-", name)
            ax.plot(sizes, np.mean(shares, axis=1), line, color=colour, marker="o", markersize=3, label=label)
    ax.axhline(LEVEL, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.set_xticks([], minor=True)
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("answers of the suspect")
    ax.set_title("share of draws that are found", fontsize=9, loc="left")
    ax.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def draw_null(ax: Axes, record: records.Record) -> None:
    """P-values of keys of nobody in all models, in order, by test."""
    for kind, label, colour in (
        ("naive", "binomial", COLOURS["own"]),
        ("raw", "exact over keys", "#3b3b3b"),
        ("less the base", "exact, less the base", COLOURS["stranger"]),
    ):
        values = np.sort(np.concatenate(foreign(record, kind)))
        ax.plot(values, np.arange(1, len(values) + 1) / len(values), color=colour, linewidth=1.2, label=label)
    ax.plot([0, 1], [0, 1], color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.set_xlabel("p-value of a key of nobody")
    ax.set_title("share of keys up to it", fontsize=9, loc="left")
    ax.legend(fontsize=7, frameon=False)
