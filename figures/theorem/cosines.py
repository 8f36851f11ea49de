"""Cosines of the student's first step with the teacher's, against auxiliary logits and width."""

from matplotlib.figure import Figure

from figures.theorem.palette import BLUE, DARK, GREY, ORANGE, PURPLE, RED
from sublim_jax.metrics import intervals


def _series(ax, x, rows, colour, label, *, marker="o", line="-"):
    """Draw mean and 95 % t-interval of one quantity at each x; rows that are None are left out."""
    means = [(a, intervals.t_interval(row)) for a, row in zip(x, rows, strict=True) if row is not None]
    mean = [i.mean for _, i in means]
    half = [i.half_width if i.is_known else 0.0 for _, i in means]
    ax.errorbar([a for a, _ in means], mean, half, color=colour, marker=marker, markersize=4, linestyle=line,
                linewidth=1.2, capsize=2, label=label)  # fmt: skip


def _scales(ax, x, label):
    ax.set_xscale("log")
    ax.set_xticks(x, [str(a) for a in x])
    ax.minorticks_off()
    ax.set_xlabel(label)


def draw(figure: Figure, results: dict) -> str:
    """Draw small networks above and MNIST below, against auxiliary logits on the left and width on the right."""
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
