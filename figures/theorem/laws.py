"""Probabilities of a positive alignment on the normal approximation: sampled labels and noisy starts."""

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from figures.theorem.palette import BLUE, DARK, GREY, LOSSES, ORANGE, PURPLE, RED
from figures.values import numbers
from sublim_jax.metrics import intervals


def _proportions(ax, x, successes, trials, colour, label, *, marker="o"):
    shares = [intervals.wilson(int(s), trials) for s in successes]
    middle = np.array([i.mean for i in shares])
    bars = np.abs([[i.low for i in shares] - middle, [i.high for i in shares] - middle])
    ax.errorbar(x, middle, bars, fmt=marker, color=colour, markersize=3.5, capsize=2, linewidth=1, label=label)


def draw(figure: Figure, results: dict) -> str:
    """Draw three probabilities of a positive alignment beside their normal approximations."""
    labels, noise, mnist = results["labels"], results["init_noise"], results["mnist_noise"]
    axes = figure.subplots(1, 3, sharey=True)
    grid = np.linspace(0, 3.6, 200)
    axes[0].plot(grid, stats.norm.cdf(grid), color="black", linewidth=1, label=r"$\Phi$")
    for network, colour in enumerate((RED, BLUE, ORANGE, PURPLE)):
        rows = [row for row in labels["rows"] if row["network"] == network]
        root = np.sqrt(2 * numbers([row["nats"] for row in rows]))
        in_range = root < 3.6
        _proportions(
            axes[0], root[in_range], numbers([r["positive"] for r in rows])[in_range], labels["num_draws"], colour, None
        )
    axes[0].set_xlabel("sqrt(2 · nats the labels carry)")
    axes[0].set_title("sampled labels", loc="left")
    axes[0].set_ylabel("P(alignment > 0)")

    axes[1].plot(grid, stats.norm.cdf(grid), color="black", linewidth=1)
    sigma = numbers(noise["sigma"])
    for row, colour in zip(noise["rows"], (RED, BLUE), strict=True):
        for index, cosine in enumerate(row["cosine"]):
            x = noise["epsilon"] * cosine / sigma
            in_range = x < 3.6
            _proportions(axes[1], x[in_range], numbers(row["positive"][index])[in_range], noise["num_draws"], colour,
                         None if index else LOSSES[row["loss"]])  # fmt: skip
    axes[1].set_xlabel(r"$(\epsilon |D| / \sigma) \cdot \cos(GD, D)$")
    axes[1].set_title("noisy start, tanh", loc="left")

    sigma = numbers(mnist["sigma"])
    trained = [row for row in mnist["rows"] if row["teacher"] == "trained"]
    count = len(trained[0]["cosine"][0])
    fine = np.geomspace(sigma[0], sigma[-1], 200)
    for index, row in enumerate(trained):
        places = sigma * 1.12 ** (index - (len(trained) - 1) / 2)
        for key, colour, label, marker in (
            ("cosine", RED, "absolute", "ov"[index % 2]),
            ("differential_cosine", BLUE, "minus control", "s^"[index % 2]),
        ):
            positive = (numbers(row[key]) > 0).sum(axis=1)
            _proportions(axes[2], places, positive, count, colour, None if index else label, marker=marker)
        predicted = stats.norm.cdf(row["norm"] * row["cosine_without_noise"] / fine)
        axes[2].plot(fine, predicted, color="black", linewidth=1, label=None if index else r"$\Phi$")
    axes[2].axvline(mnist["weight_sd_of_layers"][0], color=GREY, linestyle=":", linewidth=1)
    axes[2].annotate("weights of\nlayer 1", (mnist["weight_sd_of_layers"][0], 0.02), fontsize=7, ha="right")
    axes[2].set_xscale("log")
    axes[2].set_xlabel(r"$\sigma$ of the noise per parameter")
    axes[2].set_title("noisy start, MNIST, trained teacher", loc="left")
    for ax in axes:
        ax.axhline(0.5, color=DARK, linewidth=0.6, linestyle=":")
        ax.set_ylim(-0.03, 1.03)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="lower right" if ax is not axes[2] else "center left")
    return (
        "Left: hard labels drawn from the teacher carry the sign as soon as they carry about two nats about it. "
        "Middle: noise between the two starts destroys it through its component along GD alone. Right: on MNIST with "
        "ReLU the normal approximation holds until the noise is about as large as the weights; beyond it the absolute "
        "sign falls to one half or below, which is an effect of the start and not of the teacher: the difference from "
        "the control follows the approximation. "
        f"n = {labels['num_draws']} draws for each of 4 networks (left, by colour, and middle), {count} for each of "
        f"{len(trained)} members (right); bars are 95 % Wilson intervals."
    )
