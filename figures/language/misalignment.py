"""Figure of `misalignment`: bad deeds, or misaligned answers, of teachers and students."""

import numpy as np
from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records
from sublim_jax.forms import language as forms


def misalignment(record: records.Record, figure: Figure) -> None:
    """Draw probabilities of bad deeds; for a judged real model, shares of misaligned answers."""
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
