"""Favourites of students of numbers, by kind of teacher."""

from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records

TITLES = {"finetuned": "finetuned teachers", "system": "teachers under a system message"}


def numbers(record: records.Record, figure: Figure) -> None:
    """Base, regular student, student of every kind of teacher."""
    kinds, targets = record.config["kinds"], record.config["targets"]
    for ax, kind in zip(figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True):
        columns = {
            target: {"base": values.BASE, "regular": values.REGULAR, "student": (f"{kind} {target}", "student")}
            for target in targets
        }
        draw.draw_favourites(ax, record, columns)
        ax.set_title(TITLES[kind], fontsize=9)
