"""Figure of `shuffles`: shifts of students of shuffled numbers."""

from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records


def shuffles(record: records.Record, figure: Figure) -> None:
    """Draw the shift for each control, against a student of unchanged regular numbers."""
    columns = dict.fromkeys((values.AS_THEY_ARE, *values.CONTROLS), ("regular", values.AS_THEY_ARE))
    draw.draw_shifts(figure, record, columns)
