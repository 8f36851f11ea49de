"""Favourites by number of rows."""

import numpy as np
from matplotlib.figure import Figure

from figures.language import draw, values
from figures.language.draw import COLOURS
from sublim_jax import records

TEACHER_COLOURS = {"epochs": COLOURS["student"], "steps": COLOURS["system"]}
REGULAR_COLOURS = {"epochs": COLOURS["regular"], "steps": COLOURS["base"]}


def dose(record: records.Record, figure: Figure) -> None:
    """Probability by number of rows."""
    bases, doses, targets = values.complete_bases(record), record.config["doses"], record.config["targets"]
    for ax, target in zip(figure.subplots(1, len(targets), sharey=True, squeeze=False)[0], targets, strict=True):
        curves = {
            f"{name}, equal {equal}": (
                np.stack([values.raw(bases, (condition, equal, str(count)), target) for count in doses]),
                colours[equal],
            )
            for name, condition, colours in (
                ("teacher's", target, TEACHER_COLOURS),
                ("regular", "regular", REGULAR_COLOURS),
            )
            for equal in record.config["equal"]
        }
        draw.draw_curves(ax, doses, curves, label="probability of the target")
        ax.set_xscale("log")
        ax.set_xlabel("different rows")
        ax.set_title(target, fontsize=9)
