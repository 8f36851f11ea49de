"""Displacement along the teacher's update over many steps."""

import numpy as np
from matplotlib.figure import Figure

from figures.theorem.palette import BLUE, GREY, RED
from figures.values import numbers
from sublim_jax.metrics import intervals


def draw(figure: Figure, results: dict) -> str:
    """Draw the cumulative displacement beside its prediction on the left, and single steps on the right."""
    part = results["many_steps"]
    run = part["runs"]["minibatches"]
    shown = run["examples"]
    left, right = figure.subplots(1, 2)
    steps = np.arange(1, part["num_steps"] + 1)
    measured, predicted = numbers(shown["measured_cumulative"]), numbers(shown["predicted_cumulative"])
    for index, (m, p) in enumerate(zip(measured, predicted, strict=True)):
        left.plot(steps, p, color="black", linewidth=0.8, label=None if index else "law")
        left.plot(steps, m, "o", color=BLUE, markersize=2.2, alpha=0.7, label=None if index else "measured")
    left.set_ylim(0)
    left.set_xlabel("step")
    left.set_ylabel("⟨θ_S - θ0, D⟩ / ε")
    left.set_title("Cumulative: never negative", loc="left")
    left.legend(loc="lower right")
    single = numbers(shown["measured_step"])
    for row in single:
        right.plot(steps, row, color=GREY, linewidth=0.6)
    below = np.where(single < 0, single, np.nan)
    right.plot(np.broadcast_to(steps, single.shape).T, below.T, "o", color=RED, markersize=3)
    right.axhline(0, color="black", linewidth=0.8)
    right.set_yscale("symlog", linthresh=1e-3)
    right.set_xlabel("step")
    right.set_ylabel("⟨one step, D⟩ / ε")
    right.set_title("Step by step: against D now and then", loc="left")
    count = len(run["smallest_step"])
    shares = []
    for name, label in (
        ("minibatches", "minibatches at 1.9 / λ_max"),
        ("full_batch", "full batch at 1 / λ_max"),
        ("full_batch_overshooting", "full batch at 1.9 / λ_max"),
    ):
        # The linear law is counted: at a finite ε a step that is zero to first order can have either sign.
        negative = int(np.sum(numbers(part["runs"][name]["smallest_step_of_law"]) < -1e-10))
        interval = intervals.wilson(negative, count)
        shares.append(f"{label} {interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]")
    lowest = min(min(each["smallest_cumulative"]) for each in part["runs"].values())
    error = max(run["largest_error_of_law"])
    return (
        "Many steps add up along D, in any order of batches, although single steps point against it (red). Eight of "
        f"n = {count} tanh networks 6-10-(2+3), 50 steps over 5 minibatches of 4, ε = {part['epsilon']:g}; measured "
        f"within {error:.1e} of the law; smallest cumulative displacement of all runs {lowest:.2g}. Share of runs with "
        f"a negative step in the law, with 95 % Wilson intervals: {'; '.join(shares)}."
    )
