"""Figure of `divergence`: shifts of students that are trained on some tokens only."""

from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records


def divergence(record: records.Record, figure: Figure) -> None:
    """Draw the shift for each set of tokens, against students of the same tokens of regular numbers."""
    draw.draw_shifts(figure, record, {name: ("regular", name) for name in values.TOKEN_SETS})
