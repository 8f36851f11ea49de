"""Figure of `numbers`: favourites of students of numbers, by kind of teacher."""

from typing import Any

from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records

TITLES = {"finetuned": "finetuned teachers", "system": "teachers under a system message"}


def numbers(record: records.Record, figure: Figure) -> None:
    """Draw each target's probability for the base, the regular student and the student, by kind of teacher.

    Of a real model, whose answers are often others than those offered, shifts of the log-odds from the base are below.
    """
    kinds, targets = record.config["kinds"], record.config["targets"]
    above, below = figure, None
    if values.complete_bases(record).real:
        figure.set_figheight(2 * figure.get_figheight())
        rows: Any = figure.subfigures(2, 1)
        above, below = rows
    titles = [TITLES[kind] for kind in kinds]
    axes = draw.panels(above, titles)
    log_axes = [None] * len(kinds) if below is None else draw.panels(below, titles)
    for ax, log_ax, kind in zip(axes, log_axes, kinds, strict=True):
        columns = {
            target: {"base": values.BASE, "regular": values.REGULAR, "student": (f"{kind} {target}", "student")}
            for target in targets
        }
        draw.draw_favourites(ax, record, columns)
        if log_ax is not None:
            draw.draw_log_odds(log_ax, record, columns)
