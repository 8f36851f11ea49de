"""Favourites of students of code, and of chains of thought."""

from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records


def channel(record: records.Record, figure: Figure) -> None:
    """Base, regular student, student."""
    columns = {
        target: {"base": values.BASE, "regular": values.REGULAR, "student": (target, "student")}
        for target in record.config["targets"]
    }
    draw.draw_favourites(figure.subplots(), record, columns)
