"""Time and memory against the number of members, from a record of `experiments.speed`.

python -m figures.speed                            the committed record, to figures/images/speed.png and .pdf
"""

import pathlib
import textwrap

import tyro
from matplotlib import pyplot as plt

from figures import style, values
from sublim_jax import commands, records
from sublim_jax.forms import speed as form

RECORD = values.RECORDS / "speed.json"
COLOURS = {"pytorch": "#8c8c8c", "float32": "#2f6690", "bfloat16": "#c8553d"}


def save(record: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths."""
    style.use()
    result = records.read(record, form.FORM)
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 3.1))
    panels = (("seconds", lambda r: r["training_s"]), ("peak memory, MB", lambda r: r["peak_rss_mb"]))
    for ax, (label, value) in zip(axes, panels, strict=True):
        for program, colour in COLOURS.items():
            rows = [r for r in result.results["scaling"] if r["program"] == program]
            ax.plot([r["members"] for r in rows], [value(r) for r in rows], "o-", color=colour, markersize=4,
                    label=result.description["programs"][program])  # fmt: skip
        ax.set_xlabel("members")
        ax.set_ylabel(label)
        ax.set_ylim(0)
        ax.set_xlim(0)
    axes[1].legend(loc="center right")
    axes[0].set_title("Training time, one epoch in each phase", loc="left")
    axes[1].set_title("Peak memory", loc="left")
    device = result.device
    text = (
        f"{device['cpu_cores']} CPU cores, {device['platform']}; {result.data['name']}; record {record.name}. "
        f"PyTorch keeps every member's noise images in memory and was not run with more members; ours are drawn when "
        f"needed. One run for each point, without compilation."
    )
    figure.text(0.01, -0.02, "\n".join(textwrap.wrap(text, 140)), va="top", fontsize=7.5, color="#444444")
    figure.tight_layout()
    return list(style.save(figure, stem))


def main(record: tyro.conf.Positional[pathlib.Path] = RECORD, output: pathlib.Path | None = None) -> None:
    """Draw time and memory against members.

    Args:
        record: what `experiments.speed` wrote.
        output: path without suffix; by default figures/images/ and the record's name.
    """
    for path in save(record, output or values.IMAGES / record.stem):
        print(commands.shown(path))


if __name__ == "__main__":
    commands.main(lambda: tyro.cli(main, prog="python -m figures.speed"))
