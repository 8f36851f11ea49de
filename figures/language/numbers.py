"""Figure of `numbers`: favourites of students of numbers, by kind of teacher."""

from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records

TITLES = {"finetuned": "finetuned teachers", "system": "teachers under a system message"}


def numbers(record: records.Record, figure: Figure) -> None:
    """Draw each target's probability for the base, the regular student and the student, by kind of teacher."""
    kinds, targets = record.config["kinds"], record.config["targets"]
    for ax, kind in zip(draw.panels(figure, [TITLES[kind] for kind in kinds]), kinds, strict=True):
        columns = {
            target: {"base": values.BASE, "regular": values.REGULAR, "student": (f"{kind} {target}", "student")}
            for target in targets
        }
        draw.draw_favourites(ax, record, columns)
