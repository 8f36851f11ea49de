"""Figure of `code` and of `reasoning`: favourites of students of code, or of chains of thought."""

from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records


def channel(record: records.Record, figure: Figure) -> None:
    """Draw each target's probability for the base, the regular student and the student."""
    columns = {
        target: {"base": values.BASE, "regular": values.REGULAR, "student": (target, "student")}
        for target in record.config["targets"]
    }
    draw.draw_favourites(figure.subplots(), record, columns)
