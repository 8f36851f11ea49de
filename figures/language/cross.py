"""Figure of `cross`: shifts of every base's student for every base's teacher."""

import numpy as np
from matplotlib.figure import Figure

from figures.language import values
from sublim_jax import records


def cross(record: records.Record, figure: Figure) -> None:
    """Draw the grid of students (rows) and teachers (columns)."""
    names, shifts = values.cross_grid(record)
    ax = figure.subplots()
    top = max(0.1, float(np.nanmax(np.abs(shifts))))
    image = ax.imshow(shifts, cmap="RdBu_r", vmin=-top, vmax=top)
    for (row, column), shift in np.ndenumerate(shifts):
        text = f"{shift:+.2f}" if np.isfinite(shift) else "failed"
        ax.annotate(text, (column, row), ha="center", va="center", color="w" if shift > 0.6 * top else "k")
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("base of the teacher")
    ax.set_ylabel("base of the student")
    ax.grid(visible=False)
    figure.colorbar(image, label="shift of the target")
