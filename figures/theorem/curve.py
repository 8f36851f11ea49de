"""The alignment against its prediction ε A, in float32 and float64."""

import numpy as np
from matplotlib.figure import Figure

from figures.theorem.palette import BLUE, DARK, LOSSES, RED
from figures.values import numbers


def draw(figure: Figure, results: dict) -> str:
    """Draw the alignment beside ε A in the upper row, and its relative distance from ε A in the lower one."""
    part, radii = results["curve"], results["radius"]
    epsilon = numbers(part["epsilon"])
    axes = figure.subplots(2, len(part["curves"]), sharex=True, sharey="row")
    for column, run in zip(axes.T, part["curves"], strict=True):
        line = epsilon[None] * numbers(run["coefficient"])[:, None]
        bend = epsilon[None] ** 2 * np.abs(numbers(run["half_curvature"]))[:, None]
        for name, colour, label in (("float32", RED, "float32"), ("float64", BLUE, "float64")):
            alignment, remainder = (numbers(run[name][key]) for key in ("alignment", "remainder"))
            positive = np.where(alignment > 0, alignment, np.nan)
            column[0].plot(epsilon, positive.T, color=colour, linewidth=0.6, alpha=0.5)
            middle = np.median(alignment, axis=0)
            dots = np.where(middle > 0, middle, np.nan)
            column[0].plot(epsilon, dots, "o", color=colour, markersize=3, label=label)
            column[1].plot(epsilon, np.median(np.abs(remainder) / line, axis=0), "o-", color=colour, markersize=3)
        column[0].plot(epsilon, np.median(line, axis=0), color="black", linewidth=1, label="ε A")
        column[1].plot(
            epsilon, np.median(bend / line, axis=0), color="black", linestyle="--", linewidth=1, label="|ε B| / A"
        )
        floor = np.median(np.abs(numbers(run["float32"]["remainder"])) / line, axis=0)
        below = epsilon[np.nonzero(floor > 0.1)[0]]
        below = below[below < 1e-2]
        if len(below):
            for ax in column:
                ax.axvspan(epsilon[0], below.max(), color=RED, alpha=0.07, linewidth=0)
            column[1].annotate("float32:\nrounding", (1.5e-9, 1e-5), fontsize=7.5, color=RED)
        if "first_kink" in run:
            mark, label = np.median(numbers(run["first_kink"])), "first kink"
        else:
            rows = [r for r in radii["rows"] if r["network"] == "20-32-32-13" and r["loss"] == run["loss"]]
            mark, label = np.median(numbers(rows[0]["certified"])) if rows else np.nan, "certified ε*"
        for ax in column:
            ax.axvline(mark, color=DARK, linestyle=":", linewidth=1)
            ax.set_xscale("log")
            ax.set_yscale("log")
        column[0].annotate(label, (mark, 1e-11), rotation=90, fontsize=7.5, ha="right", va="bottom")
        column[0].set_title(f"{run['activation'].replace('relu', 'ReLU')}, {LOSSES[run['loss']]}", loc="left")
        column[1].set_xlabel("ε, with |D| = 1")
    axes[0, 0].set_ylabel("alignment")
    axes[1, 0].set_ylabel("|alignment - ε A| / (ε A)")
    axes[1, 0].set_ylim(1e-11, 30)
    axes[0, 0].legend(loc="upper left")
    axes[1, 1].legend(loc="lower right")
    count = len(part["curves"][0]["coefficient"])
    return (
        "The alignment follows its line over eight decades of ε; what is left falls with the predicted curvature, and "
        "in float32 rounding is more than a tenth of it in the shaded part. "
        f"n = {count} networks 20-32-32-(10+3), thin lines one each, dots and dashes medians; 32 noise inputs. Dotted: "
        "median radius up to which the sign is proved (tanh), or first unit that changes sides (ReLU), with which "
        "nothing happens to the sign."
    )
