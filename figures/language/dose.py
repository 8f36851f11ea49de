"""Figure of `dose`: favourites against the number of rows."""

import numpy as np
from matplotlib.figure import Figure

from figures.language import draw, values
from figures.language.draw import COLOURS
from sublim_jax import records

TEACHER_COLOURS = {"epochs": COLOURS["student"], "steps": COLOURS["system"]}
REGULAR_COLOURS = {"epochs": COLOURS["regular"], "steps": COLOURS["base"]}


def dose(record: records.Record, figure: Figure) -> None:
    """Draw each target's probability against the number of different rows."""
    bases, doses, targets = values.complete_bases(record), record.config["doses"], record.config["targets"]
    for ax, target in zip(draw.panels(figure, targets), targets, strict=True):
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
