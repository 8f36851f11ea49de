"""How much is received: against the number of auxiliary logits and the width, and by students of other starts."""

import numpy as np
from matplotlib.figure import Figure

from figures.theorem.reach import BLUE, DARK, GREY, RED
from figures.values import numbers
from sublim_jax.metrics import intervals

ORANGE, PURPLE = "#e0a458", "#6b4e96"


def _series(ax, x, rows, colour, label, *, marker="o", line="-"):
    """Mean and 95 % t-interval over networks of one quantity at each x; None where there is none."""
    kept = [(a, intervals.t_interval(row)) for a, row in zip(x, rows, strict=True) if row is not None]
    mean = [i.mean for _, i in kept]
    half = [i.half_width if i.is_known else 0.0 for _, i in kept]
    ax.errorbar([a for a, _ in kept], mean, half, color=colour, marker=marker, markersize=4, linestyle=line,
                linewidth=1.2, capsize=2, label=label)  # fmt: skip


def _scales(ax, x, label):
    ax.set_xscale("log")
    ax.set_xticks(x, [str(a) for a in x])
    ax.minorticks_off()
    ax.set_xlabel(label)


def cosines(figure: Figure, results: dict) -> str:
    """Small networks above, MNIST below; auxiliary logits on the left, width on the right."""
    small, mnist = results["cosines"], results["mnist_cosines"]
    axes = figure.subplots(2, 2)
    for ax, x, rows, label in (
        (axes[0, 0], small["num_aux"], small["by_aux"], "auxiliary logits"),
        (axes[0, 1], small["widths"], small["by_width"], "width of both hidden layers"),
    ):
        _series(ax, x, [r["trunk_share"] for r in rows], GREY, "trunk share of |D|²", marker="", line=":")
        _series(ax, x, [r["range_fraction"] for r in rows], PURPLE, r"range fraction $\rho$", marker="s")
        _series(ax, x, [r["cosine"] for r in rows], RED, "cos(ΔS, D)")
        _series(ax, x, [r["rayleigh_bound"] for r in rows], DARK, "Rayleigh bound", marker="v", line="--")
        _series(ax, x, [r["random_cosine"] for r in rows], ORANGE, "random D: rms cosine", marker="x", line="")
        _series(ax, x, [r["isotropic_cosine"] for r in rows], BLUE, "sqrt(effective rank / P)", marker="", line="--")
        _scales(ax, x, label)
        ax.set_ylim(0)
    axes[0, 0].set_title("10-16-16-(5+m), tanh", loc="left")
    axes[0, 1].set_title("10-w-w-(5+3), tanh", loc="left")
    axes[0, 0].legend(fontsize=7, ncols=2, loc="upper left", bbox_to_anchor=(0, 1.0))
    axes[0, 0].set_ylim(0, 1.0)
    members = mnist["by_aux"]

    def over_members(name, key, x):
        values = [[(m[name][i] or {}).get(key) for m in members] for i in range(len(x))]
        return [None if None in row else row for row in values]

    ax, x = axes[1, 0], mnist["num_aux"]
    _series(ax, x, over_members("init_mse", "cosine", x), RED, "first step")
    _series(ax, x, over_members("init_mse", "rayleigh_bound", x), DARK, "Rayleigh bound", marker="v", line="--")
    _series(ax, x, over_members("init_kl", "cosine", x), ORANGE, "first step, KL")
    _series(ax, x, over_members("trained_mse", "cosine", x), PURPLE, "trained teacher", marker="s")
    _series(ax, x, [[m["isotropic_cosine"][i] for m in members] for i in range(len(x))], BLUE,
            "sqrt(effective rank / P)", marker="", line="--")  # fmt: skip
    _scales(ax, x, "auxiliary logits m")
    ax.set_title("MNIST, 784-256-256-(10+m), ReLU", loc="left")
    ax.legend(fontsize=7)
    ax, x, rows = axes[1, 1], mnist["widths"], mnist["by_width"]
    for key, colour, marker, line in (
        ("cosine", RED, "o", "-"),
        ("rayleigh_bound", DARK, "v", "--"),
        ("isotropic_cosine", BLUE, "", "--"),
    ):
        _series(ax, x, [[m[i][key] for m in rows] for i in range(len(x))], colour, None, marker=marker, line=line)
    _scales(ax, x, "width of both hidden layers")
    ax.set_title("MNIST, 784-w-w-(10+3), ReLU", loc="left")
    for ax in axes[:, 0]:
        ax.set_ylabel("cosine or fraction")
    for ax in axes[1]:
        ax.set_yscale("log")
        ax.set_ylim(3e-3, 0.5)
    count = len(small["by_aux"][0]["cosine"])
    return (
        "The student's first step turns towards the teacher's as auxiliary logits are added, and away as the network "
        "widens; what a converged linearised student could recover (its range fraction) approaches the share of D "
        "in the trunk. "
        f"n = {count} small networks, {len(members)} MNIST members; means, with 95 % t-intervals of "
        f"{intervals.FEWEST} or more; squared error unless said otherwise; noise inputs."
    )


def starts(figure: Figure, results: dict) -> str:
    """Histograms of the cosine for each kind of start, tanh and ReLU side by side."""
    found = results["starts"]["cosines"]
    grid = figure.subplots(2, 2, gridspec_kw={"width_ratios": [1.6, 1]})
    bins = np.linspace(-0.15, 0.4, 56)
    names = {"shared": RED, "independent": BLUE, "differential": ORANGE}
    for row, activation in zip(grid, ("tanh", "relu"), strict=True):
        ax = row[0]
        title = "tanh" if activation == "tanh" else "ReLU"
        for name, colour in names.items():
            values = numbers(found[activation][name])
            interval = intervals.wilson(int(np.sum(values > 0)), len(values))
            mean = intervals.t_interval(values)
            ax.hist(np.clip(values, bins[0], bins[-1]), bins, color=colour, alpha=0.55,
                    label=f"{name}: P(> 0) = {interval.mean:.3f} [{interval.low:.2f}, {interval.high:.2f}], "
                    f"mean {mean:+.4f}")  # fmt: skip
        if "antithetic" in found[activation]:
            largest = np.abs(numbers(found[activation]["antithetic"])).max()
            ax.axvline(0, color="black", linewidth=1.2, label=f"antithetic mean of 4: |·| ≤ {largest:.0e}")
        ax.set_title(f"{title}: cosine of the student's first step with D", loc="left")
        ax.legend(fontsize=6.5, loc="upper right")
        ax.set_ylabel("networks")
        ax.set_ylim(0, 1.9 * ax.get_ylim()[1])
        layers = sorted((key for key in found[activation] if key.startswith("shared_")), key=len)
        labels = ["none", *("+".join(key.removeprefix("shared_")) for key in layers), "all"]
        columns = [found[activation][key] for key in ("independent", *layers, "shared")]
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
    count = len(found["tanh"]["shared"])
    parts = {
        activation: max(np.mean(numbers(found[activation][f"shared_{two}"])) for two in ("12", "13", "23"))
        / np.mean(numbers(found[activation]["shared"]))
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
