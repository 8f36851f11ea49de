"""Figure of `code` and of `reasoning`: favourites of students of code, or of chains of thought."""

from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records


def channel(record: records.Record, figure: Figure) -> None:
    """Draw the target probabilities of the base, the regular student and the student; of a real model, log-odds too."""
    columns = {
        target: {"base": values.BASE, "regular": values.REGULAR, "student": (target, "student")}
        for target in record.config["targets"]
    }
    if not values.complete_bases(record).real:
        draw.draw_favourites(figure.subplots(), record, columns)
        return
    figure.set_figheight(2 * figure.get_figheight())
    above, below = figure.subplots(2, 1)
    draw.draw_favourites(above, record, columns)
    draw.draw_log_odds(below, record, columns)
