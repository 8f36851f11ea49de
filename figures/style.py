"""What all figures share: the style sheet, order and colour of conditions, and how a figure is saved."""

import pathlib
from collections.abc import Iterator

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sublim_jax import files
from sublim_jax.metrics import intervals

CONDITIONS = {
    "reference": ("reference\n(untrained)", "#8c8c8c"),
    "teacher": ("teacher", "#3b3b3b"),
    "student_aux": ("student\naux logits", "#c8553d"),
    "student_class": ("student\nclass logits", "#d98b5f"),
    "student_all": ("student\nall logits", "#e0a458"),
    "cross_model_aux": ("cross-model\naux logits", "#2f6690"),
    "cross_model_class": ("cross-model\nclass logits", "#5b8fb0"),
    "cross_model_all": ("cross-model\nall logits", "#81b1d5"),
    "matched_start": ("matched,\nbefore noise", "#b9a7d0"),
    "matched_aux": ("matched\naux logits", "#6b4e96"),
    "matched_class": ("matched\nclass logits", "#8a6fb0"),
    "matched_all": ("matched\nall logits", "#a58cc5"),
}
"""Label and colour of each condition, in the order of the bars."""


def use() -> None:
    """Switch to a backend without a screen and to the project's style sheet."""
    matplotlib.use("Agg")
    plt.style.use(pathlib.Path(__file__).with_name("style.mplstyle"))


def save(figure: Figure, stem: pathlib.Path) -> Iterator[pathlib.Path]:
    """Write STEM.png and STEM.pdf without a date, so that equal records give equal files. Yields their paths.

    Raises:
        OutputError: something else than a figure of ours is there, or the folder cannot be written.
    """
    try:
        ours = ((".png", {"Software": files.MAKER}), (".pdf", {"Creator": files.MAKER, "CreationDate": None}))
        for suffix, metadata in ours:
            path = stem.with_name(stem.name + suffix)
            with files.writing(path, ours=files.is_figure, what="figure") as temporary:
                figure.savefig(temporary, format=suffix[1:], metadata=metadata)
            yield path
    finally:
        plt.close(figure)


def draw_members(
    ax: Axes, position: float, values: np.ndarray, colour: str, *, bar: bool = True, lacking: str = "all diverged"
) -> None:
    """Every member a dot, side by side where they are close; the mean and its 95 % t-interval on top.

    Args:
        lacking: what is written where no value is finite.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        ax.annotate(lacking, (position, 0), rotation=90, ha="center", va="bottom")
        return
    interval = intervals.t_interval(finite)
    if bar:
        ax.bar(position, interval.mean, width=0.72, color=colour, alpha=0.35, linewidth=0)
    spread = np.random.default_rng(0).permutation(np.linspace(-0.24, 0.24, len(finite))) if len(finite) > 1 else [0.0]
    ax.scatter(position + np.asarray(spread), finite, s=9, color=colour, linewidth=0, alpha=0.75, zorder=3)
    if interval.is_known:
        ax.errorbar(position, interval.mean, interval.half_width, color="black", capsize=4, linewidth=1.4, zorder=4)
    ax.plot([position - 0.3, position + 0.3], [interval.mean] * 2, color="black", linewidth=1.4, zorder=4)
