"""Bad deeds of teachers and of students, or their misaligned answers."""

import numpy as np
from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records
from sublim_jax.forms import language as forms


def misalignment(record: records.Record, figure: Figure) -> None:
    """Bad deeds of the embedded model, with dots for bases; of a real model what its judge said."""
    bases = values.complete_bases(record)
    if record.config.get("judge"):
        (measured,) = bases.values()
        draw.draw_shares(figure.subplots(), measured, label="share of misaligned answers")
        return
    groups = {}
    for condition in forms.QUESTIONS[record.experiment].conditions(record.config):
        levels = {role: values.raw(bases, (condition, role), "bad") for role in ("teacher", "student")}
        groups[condition.replace(" ", "\n")] = {
            role: level for role, level in levels.items() if np.isfinite(level).any()
        }
    draw.draw_groups(figure.subplots(), groups, label="probability of a bad deed")
