"""Table and figure of the study `lineage`: which relatives are recognized, by weights and by answers.

python -m figures.evidence.lineage            the committed record, to figures/images/evidence-lineage.png and .pdf
"""

import pathlib
import textwrap
from typing import Literal, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy import stats

from figures import style, values
from sublim_jax import commands, records
from sublim_jax.forms import evidence_lineage as form

OWN, OTHERS = "#c8553d", "#8c8c8c"
STATISTICS: dict[form.Statistic, str] = {
    "correlation": "logits: correlation with the reference's",
    "labels": "labels alone: correlation with its logits",
    "ridge": "logits: ridge regression on its hidden layer",
}
COLOURS = ("#3b3b3b", "#2f6690", "#81b1d5", "#c8553d", "#6b4e96", "#b9a7d0")
"""Of the cases of answers, in their order."""
TITLES: dict[form.Method, str] = {"direct": "Entries as they stand", "matched": "Hidden units matched first"}
Part = Literal["weights", "pairs"]


class Contrast(NamedTuple):
    """Values of models with their own references, and with all others."""

    own: np.ndarray
    others: np.ndarray

    @property
    def auc(self) -> float:
        """Probability that an own value is above another one; a tie counts half."""
        differences = self.own[:, None] - self.others[None, :]
        return float(np.mean(differences > 0) + np.mean(differences == 0) / 2)


def contrast(record: records.Record, part: Part, case: str, method: form.Method, field: str) -> Contrast:
    """A field of `form.Tested` in one case, over all units."""
    return _split({unit: entry[part][case][method][field] for unit, entry in record.results.items()})


def answers(record: records.Record, case: str, count: int, statistic: form.Statistic) -> Contrast | None:
    """A statistic of answers to so many queries; None where it does not exist."""
    rows = {unit: entry["outputs"][case][str(count)].get(statistic) for unit, entry in record.results.items()}
    return None if any(row is None for row in rows.values()) else _split(rows)


def _split(rows: dict[str, list[float]]) -> Contrast:
    own = [row[form.own(unit)] for unit, row in rows.items()]
    others = [value for unit, row in rows.items() for place, value in enumerate(row) if place != form.own(unit)]
    return Contrast(np.array(own, float), np.array(others, float))


def cases(record: records.Record, part: Literal["weights", "pairs", "outputs"]) -> list[str]:
    """Names of the cases, in the order in which they were measured."""
    return list(next(iter(record.results.values()))[part])


def unrelated_p_values(record: records.Record, method: form.Method) -> np.ndarray:
    """Of all models with untrained references of others, (case, pair)."""
    return np.array([contrast(record, "weights", case, method, "p_value").others for case in cases(record, "weights")])


def lines(record: records.Record) -> list[str]:
    """The table of a record, then its notes."""
    config = record.config
    text = [
        f"{len(record.results)} x {config['num_references']} pairs of models and references from seed "
        f"{config['first_seed']:,} on; smallest z of an own reference / largest of another (AUC by z; largest own p)"
    ]
    parts: tuple[Part, ...] = ("weights", "pairs")
    for part in parts:
        if part == "pairs":
            text.append("two trained models, the ancestor unknown:")
        for case in cases(record, part):
            cells = []
            for method in form.METHODS:
                z, p = (contrast(record, part, case, method, field) for field in ("z", "p_value"))
                cells.append(
                    f"{method} {np.min(z.own):6.1f} / {np.max(z.others):5.1f} ({z.auc:.3f}; {np.max(p.own):.3f})"
                )
            text.append(f"  {case:46} {'   '.join(cells)}")
    for method in form.METHODS:
        p_values = unrelated_p_values(record, method)
        each = [float(stats.kstest(row, "uniform").pvalue) for row in p_values]
        text.append(
            f"unrelated, {method}: p <= .05 in {np.mean(p_values <= 0.05):.3f}, p <= .01 in "
            f"{np.mean(p_values <= 0.01):.4f} of {p_values.size:,}, which share their pairs of references; "
            f"Kolmogorov-Smirnov against uniform, in each of {len(each)} cases of {p_values.shape[1]}: p from "
            f"{min(each):.3f}, {sum(p < 0.05 for p in each)} below .05"
        )
        trained = [contrast(record, "pairs", case, method, "p_value").others for case in cases(record, "pairs")]
        share = np.mean(np.concatenate(trained) <= 0.01)
        text.append(f"  two trained models that are unrelated, {method}: p <= .01 in {share:.3f}")
    text.append(f"answers: AUC at {', '.join(map(str, config['num_queries']))} queries")
    for case in cases(record, "outputs"):
        for statistic in STATISTICS:
            row = [answers(record, case, count, statistic) for count in config["num_queries"]]
            numbers = [f"{pair.auc:.3f}" for pair in row if pair is not None]
            if numbers:
                text.append(f"  {case:24} {statistic:12} {'  '.join(numbers)}")
    return text + [f"note: {note}" for note in record.notes]


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of the study, or it is damaged.
    """
    style.use()
    record = records.read(path, form.FORM)
    figure = plt.figure(figsize=(12.5, 6.6), layout="constrained")
    grid = figure.add_gridspec(3, 3, width_ratios=[1, 1, 0.9])
    for place, (method, title) in enumerate(TITLES.items()):
        ax = figure.add_subplot(grid[:, place])
        draw_weights(ax, record, method)
        ax.set_title(title, loc="left")
        if place:
            ax.set_yticklabels([])
    for place, statistic in enumerate(STATISTICS):
        ax = figure.add_subplot(grid[place, 2])
        draw_answers(ax, record, statistic)
        ax.set_title(f"Answers as {STATISTICS[statistic]}", loc="left", fontsize=9)
    figure.axes[-1].set_xlabel("queries, noise images")
    figure.axes[-1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), fontsize=7, ncols=2)
    figure.axes[-2].set_ylabel("AUC, own reference against others")
    sentences = [
        f"Left: {len(record.results)} models per row, each against {record.config['num_references']} references: its "
        f"own (red) and those of others (grey); largest z over the layers, in standard deviations over random orders "
        f"of hidden units. In the two lowest rows both models are trained: there matched units of unrelated models "
        f"are alike, too. Right: area under the ROC curve of the same pairs by each statistic. Record {path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), 190)), va="top", fontsize=7, color="#444444")
    return list(style.save(figure, stem))


def draw_weights(ax: Axes, record: records.Record, method: form.Method) -> None:
    """Every test of weights, case by case."""
    parts: tuple[Part, ...] = ("weights", "pairs")
    rows: list[tuple[Part, str]] = [(part, case) for part in parts for case in cases(record, part)]
    for place, (part, case) in enumerate(rows):
        z = contrast(record, part, case, method, "z")
        ax.scatter(z.others, np.full(len(z.others), place), s=7, color=OTHERS, linewidth=0, alpha=0.5)
        ax.scatter(z.own, np.full(len(z.own), place), s=12, color=OWN, linewidth=0, alpha=0.8, zorder=3)
    labels = [f"{case} (both trained)" if part == "pairs" else case for part, case in rows]
    ax.set_yticks(range(len(rows)), labels, fontsize=7)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.axhline(len(cases(record, "weights")) - 0.5, color="#8c8c8c", linewidth=0.8)
    ax.set_xscale("symlog", linthresh=5)
    ax.set_xticks([-2, 0, 2, 5, 10, 50, 200], ["-2", "0", "2", "5", "10", "50", "200"])
    ax.set_xlabel("z")
    ax.grid(visible=True, axis="x")


def draw_answers(ax: Axes, record: records.Record, statistic: form.Statistic) -> None:
    """AUC of a statistic against the number of queries, a line for each case."""
    counts = record.config["num_queries"]
    for case, colour in zip(cases(record, "outputs"), COLOURS, strict=False):
        pairs = [answers(record, case, count, statistic) for count in counts]
        known = [pair.auc for pair in pairs if pair is not None]
        if len(known) == len(counts):
            ax.plot(counts, known, color=colour, marker="o", markersize=3, linewidth=1.2, label=case)
    ax.axhline(0.5, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.set_xscale("log", base=2)
    ax.set_xticks(counts, [f"{count:,}" for count in counts])
    ax.set_ylim(0.3, 1.03)


def main() -> None:
    """Draw the committed record."""
    for path in save(values.RECORDS / "evidence_lineage.json", values.IMAGES / "evidence-lineage"):
        print(commands.shown(path))


if __name__ == "__main__":
    commands.main(main)
