"""Cosines of students that share their start with the teacher, some layers of it, or nothing."""

import numpy as np
from matplotlib.figure import Figure

from figures.theorem.palette import BLUE, ORANGE, RED
from figures.values import numbers
from sublim_jax.metrics import intervals


def draw(figure: Figure, results: dict) -> str:
    """Draw histograms of the cosine for each kind of start, and its mean by shared layers; tanh above, ReLU below."""
    samples = results["starts"]["cosines"]
    grid = figure.subplots(2, 2, gridspec_kw={"width_ratios": [1.6, 1]})
    bins = np.linspace(-0.15, 0.4, 56)
    names = {"shared": RED, "independent": BLUE, "differential": ORANGE}
    for row, activation in zip(grid, ("tanh", "relu"), strict=True):
        ax = row[0]
        title = "tanh" if activation == "tanh" else "ReLU"
        for name, colour in names.items():
            values = numbers(samples[activation][name])
            interval = intervals.wilson(int(np.sum(values > 0)), len(values))
            mean = intervals.t_interval(values)
            ax.hist(np.clip(values, bins[0], bins[-1]), bins, color=colour, alpha=0.55,
                    label=f"{name}: P(> 0) = {interval.mean:.3f} [{interval.low:.2f}, {interval.high:.2f}], "
                    f"mean {mean:+.4f}")  # fmt: skip
        if "antithetic" in samples[activation]:
            largest = np.abs(numbers(samples[activation]["antithetic"])).max()
            ax.axvline(0, color="black", linewidth=1.2, label=f"antithetic mean of 4: |·| ≤ {largest:.0e}")
        ax.set_title(f"{title}: cosine of the student's first step with D", loc="left")
        ax.legend(fontsize=6.5, loc="upper right")
        ax.set_ylabel("networks")
        ax.set_ylim(0, 1.9 * ax.get_ylim()[1])
        layers = sorted((key for key in samples[activation] if key.startswith("shared_")), key=len)
        labels = ["none", *("+".join(key.removeprefix("shared_")) for key in layers), "all"]
        columns = [samples[activation][key] for key in ("independent", *layers, "shared")]
        means = [intervals.t_interval(numbers(values)) for values in columns]
        half = [i.half_width if i.is_known else 0.0 for i in means]
        row[1].errorbar(range(len(labels)), [i.mean for i in means], half, fmt="o", color=BLUE, markersize=4, capsize=3)
        row[1].axhline(0, color="black", linewidth=0.8)
        row[1].set_yscale("symlog", linthresh=0.02)
        row[1].set_ylim(-0.01, 0.25)
        row[1].set_yticks([-0.01, 0, 0.01, 0.02, 0.1], ["-0.01", "0", "0.01", "0.02", "0.1"])
        row[1].minorticks_off()
        row[1].set_xticks(range(len(labels)), labels)
        row[1].set_title(f"{title}: mean cosine by shared layers", loc="left")
    grid[1, 0].set_xlabel("cosine")
    grid[1, 1].set_xlabel("layers that student and teacher share")
    count = len(samples["tanh"]["shared"])
    parts = {
        activation: max(np.mean(numbers(samples[activation][f"shared_{pair}"])) for pair in ("12", "13", "23"))
        / np.mean(numbers(samples[activation]["shared"]))
        for activation in ("tanh", "relu")
    }
    return (
        "A shared start always gives a positive alignment. Independent tanh starts average to zero, exactly so over "
        "four antithetic copies; independent ReLU starts do NOT: their mean is positive without any teacher, and only "
        "the difference from a control (the same student of an unmoved teacher) is centred. Sharing two "
        f"layers of three gives at most {parts['tanh']:.0%} (tanh) or {parts['relu']:.0%} (ReLU) of the mean cosine of "
        "sharing all. "
        f"n = {count} networks 20-32-32-(10+3) per histogram; 95 % Wilson and t-intervals."
    )
