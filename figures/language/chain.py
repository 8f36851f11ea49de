"""Figure of `chain`: shifts from student to student."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records


def chain(record: records.Record, figure: Figure) -> None:
    """Draw the shift of each target against the generation."""
    bases, generations = values.complete_bases(record), range(record.config["num_generations"] + 1)
    ax = figure.subplots()
    colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    curves = {}
    for index, target in enumerate(record.config["targets"]):
        shifts = [values.shift_from_regular(bases, target, str(generation)) for generation in generations]
        curves[target] = (np.stack(shifts), colours[index % len(colours)])
    draw.draw_curves(ax, list(generations), curves, label="shift of the target")
    ax.set_xlabel("generation (0 is the teacher)")
    ax.set_xticks(list(generations))
