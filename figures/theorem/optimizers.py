"""The first step of other optimizers than gradient descent."""

import numpy as np
from matplotlib.figure import Figure

from figures.theorem.palette import BLUE, DARK, GREY, RED
from figures.values import numbers
from sublim_jax.metrics import intervals


def draw(figure: Figure, results: dict) -> str:
    """Draw how often the teacher's loss rises after the student's first step, and a sign step that points away."""
    part = results["optimizers"]
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.9, 1]})
    names = list(part["cosines"])
    for offset, key, colour, label in (
        (-0.2, "descent_teacher", BLUE, "teacher by gradient descent"),
        (0.2, "same_teacher", RED, "teacher by the same optimizer"),
    ):
        shares = []
        for name in names:
            values = numbers(part["cosines"][name][key])
            shares.append(intervals.wilson(int(np.sum(values < 0)), len(values)))
        rates = 100 * np.array([i.mean for i in shares])
        ends = 100 * np.array([[i.low for i in shares], [i.high for i in shares]])
        places = np.arange(len(names)) + offset
        left.bar(places, rates, 0.38, color=colour, alpha=0.55, label=label)
        left.errorbar(places, rates, np.abs(ends - rates), fmt="none", color=DARK, capsize=2, linewidth=1)
    left.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=7.5)
    left.set_ylabel("teacher's loss rises, % of problems")
    left.legend(loc="upper left")
    left.set_title("The student's first step", loc="left")
    _sign_step(right)
    count = part["num_problems"]
    text = "; ".join(f"{name}: {_rises(rows, count)}" for name, rows in part["random_updates"].items())
    return (
        "A positive multiple of the gradient never raises the teacher's loss; other steps can. After a teacher by "
        f"gradient descent: {_counts(part, 'descent_teacher')}; by the same optimizer: {_counts(part, 'same_teacher')} "
        f"of {count} problems. Right: "
        "with f = (10, 1, 1) · θ and D = (1, -3, -3) the gradient step has inner product 32 with D and its sign -5 "
        "(the last two coordinates are equal and drawn as one axis). "
        f"n = {count} problems, 95 % Wilson intervals. Random D, how often L_T rises: {text}."
    )


def _counts(part: dict, teacher: str) -> str:
    """Number of problems in which the teacher's loss rises, for each optimizer with at least one."""
    rises = {name: int(np.sum(numbers(cosines[teacher]) < 0)) for name, cosines in part["cosines"].items()}
    return ", ".join(f"{name} {count}" for name, count in rises.items() if count) or "none"


def _rises(rows: dict, count: int) -> str:
    words = {
        "sign_student": "sign student",
        "sign_both": "sign steps on both sides",
        "metric_both": "one metric on both sides",
        "metric_student": "on the student's only",
    }
    return ", ".join(f"{word} {rows[name] / count:.1%}" for name, word in words.items())


def _sign_step(ax):
    """Draw the counterexample in the plane of the first coordinate and the direction (0, 1, 1) / sqrt 2."""
    root = 2**0.5
    # f · D = 10 - 6 = 4, so the gradient step is along +f = (10, 1, 1); its sign is (1, 1, 1).
    arrows = {
        "D": ((1, -3 * root), DARK),
        "gradient step": ((10, root), BLUE),
        "sign step": ((1, root), RED),
    }
    for label, ((x, y), colour) in arrows.items():
        length = np.hypot(x, y)
        ax.annotate("", (x / length, y / length), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.6})
        ax.annotate(label, (1.08 * x / length, 1.08 * y / length), color=colour, fontsize=8,
                    ha="left" if label != "D" else "center", va="center" if label != "D" else "top")  # fmt: skip
    normal = np.array([3 * root, 1]) / np.hypot(3 * root, 1)
    ax.plot(*(np.outer([-1.1, 1.3], normal).T), color=GREY, linewidth=0.8, linestyle="--")
    ax.annotate("across D", -1.1 * normal, fontsize=7, color=GREY, ha="left", va="top")
    ax.set_aspect("equal")
    ax.set_xlim(-1.2, 1.9)
    ax.set_ylim(-1.3, 1.2)
    ax.grid(False)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("θ₁")
    ax.set_ylabel("θ₂ = θ₃")
    ax.set_title("A sign step that points away", loc="left")
