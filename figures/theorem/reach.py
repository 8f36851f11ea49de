"""How far in ε: the curve beside its line, and the radius within which the sign is certain."""

import numpy as np
from matplotlib.figure import Figure

from figures.values import numbers

RED, BLUE, GREY, DARK = "#c8553d", "#2f6690", "#8c8c8c", "#3b3b3b"
LOSSES = {"mse": "squared error", "kl": "KL divergence"}


def curve(figure: Figure, results: dict) -> str:
    """Upper row: relative distance of the alignment from ε A. Lower row: |alignment - ε A| itself against ε² |B|."""
    part, radii = results["curve"], results["radius"]
    epsilon = numbers(part["epsilon"])
    axes = figure.subplots(2, len(part["curves"]), sharex=True, sharey="row")
    for column, found in zip(axes.T, part["curves"], strict=True):
        line = epsilon[None] * numbers(found["coefficient"])[:, None]
        bend = epsilon[None] ** 2 * np.abs(numbers(found["half_curvature"]))[:, None]
        for name, colour, label in (("float32", RED, "float32"), ("float64", BLUE, "float64")):
            alignment, remainder = (numbers(found[name][key]) for key in ("alignment", "remainder"))
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
        floor = np.median(np.abs(numbers(found["float32"]["remainder"])) / line, axis=0)
        below = epsilon[np.nonzero(floor > 0.1)[0]]
        below = below[below < 1e-2]
        if len(below):
            for ax in column:
                ax.axvspan(epsilon[0], below.max(), color=RED, alpha=0.07, linewidth=0)
            column[1].annotate("float32:\nrounding", (1.5e-9, 1e-5), fontsize=7.5, color=RED)
        if "first_kink" in found:
            mark, label = np.median(numbers(found["first_kink"])), "first kink"
        else:
            rows = [r for r in radii["rows"] if r["network"] == "20-32-32-13" and r["loss"] == found["loss"]]
            mark, label = np.median(numbers(rows[0]["certified"])) if rows else np.nan, "certified ε*"
        for ax in column:
            ax.axvline(mark, color=DARK, linestyle=":", linewidth=1)
            ax.set_xscale("log")
            ax.set_yscale("log")
        column[0].annotate(label, (mark, 1e-11), rotation=90, fontsize=7.5, ha="right", va="bottom")
        column[0].set_title(f"{found['activation'].replace('relu', 'ReLU')}, {LOSSES[found['loss']]}", loc="left")
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


def radius(figure: Figure, results: dict) -> str:
    """Every network three marks: certified, sampled, and where the sign really changes."""
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
