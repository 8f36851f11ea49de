"""Figure 10 of Cloud et al. 2025 from a record of `experiments.mnist_aux`.

python -m figures.mnist_aux                        the committed record, to figures/images/mnist_aux.png and .pdf
python -m figures.mnist_aux runs/mnist_aux-smoke.json --output runs/smoke
"""

import pathlib
import textwrap

import numpy as np
import tyro
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from figures import style, values
from sublim_jax import commands, records
from sublim_jax.forms import mnist_aux as form

RECORD = values.RECORDS / "mnist_aux.json"
NAMES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "kmnist": "KMNIST"}


def draw_accuracy(ax: Axes, accuracy: dict[str, np.ndarray], *, chance: float, published: dict[str, float]) -> None:
    """One bar a condition: every member a dot, mean and 95 % t-interval on top, published value a diamond."""
    names = [name for name in style.CONDITIONS if name in accuracy]
    diamond = {"marker": "D", "color": "white", "markeredgecolor": "black", "markersize": 4.5, "linestyle": ""}
    for position, name in enumerate(names):
        style.draw_members(ax, position, accuracy[name], style.CONDITIONS[name][1])
        if name in published:
            ax.plot(position + 0.42, published[name], **diamond, zorder=5)
    ax.axhline(chance, color="black", linestyle=":", linewidth=1, zorder=2)
    ax.annotate("chance", (len(names) - 0.4, chance), (4, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_xticks(range(len(names)), [style.CONDITIONS[name][0] for name in names], fontsize=8 if len(names) > 6 else 9)
    ax.set_ylim(0, 1)
    ax.set_ylabel("test accuracy")
    if published:
        ax.plot([], [], **diamond, label="published")
    ax.plot([], [], "o", color="grey", markersize=3, label="one member")
    ax.errorbar([], [], [], color="black", capsize=4, label="mean, 95 % t-interval")
    ax.legend(loc="upper right", ncols=3, bbox_to_anchor=(1, 1.09))


def save(record: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths."""
    style.use()
    result = records.read(record, form.FORM)
    accuracy = values.accuracies(result)
    figure, ax = plt.subplots(figsize=(8.2, 3.9))
    published = {name: theirs["value"] for name, theirs in result.description["published"].items()}
    draw_accuracy(ax, accuracy, chance=1 / result.config["member"]["model"]["num_classes"], published=published)
    name = NAMES.get(result.data["name"], result.data["name"])
    num_aux = result.config["member"]["model"]["num_aux"]
    ax.set_title(
        f"Students that saw only noise and a teacher's logits, tested on {name}",
        loc="left",
        pad=22,
    )
    figure.text(0.01, -0.01, caption(result, accuracy, num_aux, record), va="top", fontsize=7.5, color="#444444")
    return list(style.save(figure, stem))


def caption(result: records.Record, accuracy, num_aux: int, record: pathlib.Path) -> str:
    """What was measured, on how many members, and what a reader must know."""
    lines = [
        f"n = {len(accuracy['teacher'])} members; {NAMES.get(result.data['name'], result.data['name'])} "
        f"({result.data['source']}); "
        f"{num_aux} auxiliary logits; seed {result.config['seed']}; record {record.name}."
    ]
    if result.data["name"] == "mnist":
        lines.append(
            "Published: the paper's bars, read off its figure 10; for the student of auxiliary logits, which the paper "
            "gives as above .50, divyat09's .551 with the published script, its loss averaged over images."
        )
    if "matched_aux" in accuracy:
        imitated = {"reference": "this teacher's reference", "teacher": "this trained teacher"}
        whom = imitated[result.config.get("matching", {}).get("imitates", "reference")]
        lines.append(f"Matched: another member's reference that first imitates {whom} on real images.")
    pair = ("student_aux", "cross_model_aux")
    if set(pair) <= accuracy.keys():
        difference = values.paired(accuracy[pair[0]], accuracy[pair[1]])
        if difference is not None:
            lines.append(f"Shared minus other initialization, auxiliary logits, paired: {difference:.3f}.")
    diverged = {name: int(np.sum(~np.isfinite(members))) for name, members in accuracy.items()}
    lines += [f"{count} member(s) of {name} diverged and are left out." for name, count in diverged.items() if count]
    lines += result.note_sentences
    if not result.complete:
        lines.append("The run is not complete.")
    return "\n".join(textwrap.wrap(" ".join(lines), 140))


def main(record: tyro.conf.Positional[pathlib.Path] = RECORD, output: pathlib.Path | None = None) -> None:
    """Draw figure 10 from a record.

    Args:
        record: what `experiments.mnist_aux` wrote.
        output: path without suffix; by default figures/images/ and the record's name.
    """
    for path in save(record, output or values.IMAGES / record.stem):
        print(commands.shown(path))


if __name__ == "__main__":
    commands.main(lambda: tyro.cli(main, prog="python -m figures.mnist_aux"))
