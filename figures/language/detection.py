"""Figure of `detection`: how well a teacher's numbers are distinguished from regular ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures.language import draw, values
from sublim_jax import records

DETECTORS = (*values.DETECTORS, values.ASKED_JUDGE)
COLOURS = dict(zip(DETECTORS, ("#2f6690", "#81b1d5", "#e0a458", "#c8553d"), strict=True))


def detection(record: records.Record, figure: Figure) -> None:
    """Draw areas under the ROC curve, and the asked judge's share of right letters."""
    bases = values.complete_bases(record)
    groups = {}
    for condition in ("regular", *record.config["targets"]):
        levels = {
            detector: np.array([_level(base.get(condition, {}), detector) for base in bases.values()])
            for detector in DETECTORS
        }
        groups[condition] = {detector: level for detector, level in levels.items() if np.isfinite(level).any()}
    ax = figure.subplots()
    asked = any(values.ASKED_JUDGE in group for group in groups.values())
    label = "area under the ROC curve" + (", or share of right letters" if asked else "")
    draw.draw_groups(ax, groups, label=label, colours=COLOURS)
    ax.axhline(0.5, color="black", linestyle=":")
    ax.set_ylim(0, 1.15)


def _level(measured: Mapping[str, Any], detector: str) -> float:
    """An area, or the asked judge's share of right letters; NaN if it is not measured."""
    level = measured.get(detector)
    if isinstance(level, dict):  # the asked judge
        level = level["right"] and level["right"]["mean"]
    return np.nan if level is None else level
