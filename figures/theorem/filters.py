"""The alignment of students of filtered samples, absolute and relative to a control."""

import numpy as np
from matplotlib.figure import Figure

from figures.theorem.palette import BLUE, PURPLE, RED
from figures.values import numbers
from sublim_jax.metrics import intervals


def draw(figure: Figure, results: dict) -> str:
    """Draw absolute against differential alignment on the left, and the retention of stricter filters on the right."""
    part = results["filters"]
    samples = {name: numbers(values) for name, values in part["random_filter"].items()}
    left, right = figure.subplots(1, 2)
    ratio = samples["differential"] / samples["unfiltered_variance"]
    left.plot(samples["absolute"], ratio, "o", color=BLUE, markersize=3, alpha=0.7, label="random filter")
    against = samples["teacher_reading_differential"] / samples["unfiltered_variance"]
    left.plot(
        samples["absolute"], against, "x", color=RED, markersize=3, alpha=0.7, label="filter that reads the teacher"
    )
    left.axhline(0, color="black", linewidth=0.8)
    left.axvline(0, color="black", linewidth=0.8)
    left.set_xlabel("absolute alignment (standard deviations of a score)")
    left.set_ylabel("alignment minus control, over ε Var(s)")
    left.legend(loc="upper left", bbox_to_anchor=(0, 1.14), ncols=2)
    shares = numbers(part["kept_shares"])
    for name, colour, label in (("random", BLUE, "random filter"), ("oracle", PURPLE, "drops the highest scores")):
        values = numbers(part["retention"][name])
        low, middle, high = np.nanpercentile(values, [5, 50, 95], axis=0)
        right.fill_between(shares, low, high, color=colour, alpha=0.15, linewidth=0)
        right.plot(shares, middle, "o-", color=colour, markersize=3.5, label=label)
    right.axhline(1, color="black", linewidth=0.6, linestyle=":")
    right.set_ylim(0)
    right.set_xlabel("share of completions that the filter accepts")
    right.set_ylabel("retention: Var(s | kept) / Var(s)")
    right.legend(loc="upper left")
    count = len(ratio)
    negative = int(np.sum(samples["absolute"] < 0))
    interval = intervals.wilson(negative, count)
    below = intervals.wilson(int(np.sum(samples["differential"] < 0)), count)
    error = np.max(np.abs(samples["differential"] / samples["variance"] - 1))
    return (
        f"A filter that ignores the teacher leaves the absolute sign to chance ({negative} of {count} negative, 95 % "
        f"Wilson [{interval.low:.2f}, {interval.high:.2f}]) and the sign relative to the control untouched "
        f"({int(np.sum(samples['differential'] < 0))} of {count} negative, [{below.low:.2f}, {below.high:.2f}]; slope "
        f"within {error:.0e} of the variance). Even one that knows the scores only lowers it towards zero; one that "
        "reads the teacher can turn it. "
        f"n = {count} networks 8-16-16-(3+6), 32 prompts of 6 completions; bands 5 to 95 %."
    )
