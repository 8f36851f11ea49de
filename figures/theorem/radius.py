"""The radius in ε within which the sign of the alignment is certain."""

import numpy as np
from matplotlib.figure import Figure

from figures.theorem.palette import BLUE, DARK, GREY, LOSSES, RED
from figures.values import numbers


def draw(figure: Figure, results: dict) -> str:
    """Draw three marks for every network: the certified radius, the sampled one, and the first negative alignment."""
    part = results["radius"]
    top = part["grid"][1]
    ax = figure.subplots()
    position, ticks = 0, []
    for row in part["rows"]:
        certified, sampled, change = (numbers(row[key]) for key in ("certified", "sampled", "sign_change"))
        order = np.argsort(certified)
        places = position + np.arange(len(order))
        change = change[order]
        ax.vlines(places, np.maximum(certified[order], 1e-3), np.where(np.isnan(change), top * 1.5, change),
                  color=GREY, linewidth=0.6)  # fmt: skip
        ax.plot(places, certified[order], "o", color=BLUE, markersize=4, label=None if position else "certified")
        ax.plot(
            places,
            sampled[order],
            "_",
            color=DARK,
            markersize=7,
            label=None if position else "Taylor bound, g'' sampled",
        )
        ax.plot(places, np.where(np.isnan(change), np.nan, change), "x", color=RED, markersize=5,
                label=None if position else "first negative alignment")  # fmt: skip
        ax.plot(places, np.where(np.isnan(change), top * 1.5, np.nan), "^", color=RED, markersize=4, fillstyle="none",
                label=None if position else f"none up to {top:g}")  # fmt: skip
        ticks.append((np.mean(places), f"{row['network']}\n{LOSSES[row['loss']]}"))
        position += max(len(order), 5) + 2
    ax.set_yscale("log")
    ax.set_ylabel("ε, with |D| = 1")
    ax.set_xticks([place for place, _ in ticks], [name for _, name in ticks], fontsize=7.5)
    ax.legend(loc="lower left")
    ax.set_title("How far the teacher may move before the sign of the alignment is in doubt", loc="left")
    return (
        "Below each blue dot the alignment is proved positive, by interval arithmetic that marches outwards piece by "
        "piece until its budget of 40 evaluations is spent: it is not a border of the sign. The dash is an estimate "
        "from one Taylor bound. The sign changes far beyond both, where it changes at all. One column a network: n = "
        + ", ".join(str(len(row["certified"])) for row in part["rows"])
        + "; tanh, 32 noise inputs."
    )
