"""Figure of `context`: favourites with rows in the context."""

import numpy as np
from matplotlib.figure import Figure

from figures.language import draw, values
from figures.language.draw import COLOURS
from sublim_jax import records


def context(record: records.Record, figure: Figure) -> None:
    """Draw each target's probability against the rows in the context, and the trained student's as a line."""
    bases, shots, targets = values.complete_bases(record), record.config["shots"], record.config["targets"]
    for ax, target in zip(draw.panels(figure, targets), targets, strict=True):
        curves = {
            "teacher's rows": (values.by_shots(record, target, target), COLOURS["student"]),
            "regular rows": (values.by_shots(record, target, "regular"), COLOURS["regular"]),
        }
        draw.draw_curves(ax, shots, curves, label="probability of the target")
        trained = values.raw(bases, (target, "trained"), target)
        ax.axhline(float(np.nanmean(trained)), color=COLOURS["student"], linestyle="--", label="trained, mean")
        ax.set_xlabel("rows in the context")
        ax.set_xticks(shots)
        ax.legend()
