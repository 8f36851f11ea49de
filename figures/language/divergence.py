"""Shifts of students of some tokens only."""

from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records


def divergence(record: records.Record, figure: Figure) -> None:
    """Shift of each set of tokens against regular numbers with the same set."""
    draw.draw_shifts(figure, record, {name: ("regular", name) for name in values.TOKEN_SETS})
