"""Sampled labels, noise between the starts, filtered samples."""

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from figures.theorem.reach import BLUE, DARK, GREY, LOSSES, RED
from figures.theorem.receive import ORANGE, PURPLE
from figures.values import numbers
from sublim_jax.metrics import intervals


def _proportions(ax, x, successes, trials, colour, label, *, marker="o"):
    found = [intervals.wilson(int(s), trials) for s in successes]
    middle = np.array([i.mean for i in found])
    spread = np.abs([[i.low for i in found] - middle, [i.high for i in found] - middle])
    ax.errorbar(x, middle, spread, fmt=marker, color=colour, markersize=3.5, capsize=2, linewidth=1, label=label)


def laws(figure: Figure, results: dict) -> str:
    """Three probabilities of a right sign on the normal law."""
    labels, noise, mnist = results["labels"], results["init_noise"], results["mnist_noise"]
    axes = figure.subplots(1, 3, sharey=True)
    grid = np.linspace(0, 3.6, 200)
    axes[0].plot(grid, stats.norm.cdf(grid), color="black", linewidth=1, label=r"$\Phi$")
    for network, colour in enumerate((RED, BLUE, ORANGE, PURPLE)):
        rows = [row for row in labels["rows"] if row["network"] == network]
        root = np.sqrt(2 * numbers([row["nats"] for row in rows]))
        keep = root < 3.6
        _proportions(
            axes[0], root[keep], numbers([r["positive"] for r in rows])[keep], labels["num_draws"], colour, None
        )
    axes[0].set_xlabel("sqrt(2 · nats the labels carry)")
    axes[0].set_title("sampled labels", loc="left")
    axes[0].set_ylabel("P(alignment > 0)")

    axes[1].plot(grid, stats.norm.cdf(grid), color="black", linewidth=1)
    sigma = numbers(noise["sigma"])
    for row, colour in zip(noise["rows"], (RED, BLUE), strict=True):
        for index, cosine in enumerate(row["cosine"]):
            x = noise["epsilon"] * cosine / sigma
            keep = x < 3.6
            _proportions(axes[1], x[keep], numbers(row["positive"][index])[keep], noise["num_draws"], colour,
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
        law = stats.norm.cdf(row["norm"] * row["cosine_without_noise"] / fine)
        axes[2].plot(fine, law, color="black", linewidth=1, label=None if index else r"$\Phi$")
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
        "ReLU the law holds until the noise is about as large as the weights; beyond it the absolute sign falls to one "
        "half or below, which is the other start's doing and not the teacher's: the difference from the control keeps "
        "to the law. "
        f"n = {labels['num_draws']} draws for each of 4 networks (left, by colour, and middle), {count} for each of "
        f"{len(trained)} members (right); bars are 95 % Wilson intervals."
    )


def filters(figure: Figure, results: dict) -> str:
    """Left: absolute against differential alignment of random filters. Right: what stricter filters retain."""
    part = results["filters"]
    found = {name: numbers(values) for name, values in part["random_filter"].items()}
    left, right = figure.subplots(1, 2)
    ratio = found["differential"] / found["unfiltered_variance"]
    left.plot(found["absolute"], ratio, "o", color=BLUE, markersize=3, alpha=0.7, label="random filter")
    against = found["teacher_reading_differential"] / found["unfiltered_variance"]
    left.plot(
        found["absolute"], against, "x", color=RED, markersize=3, alpha=0.7, label="filter that reads the teacher"
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
    negative = int(np.sum(found["absolute"] < 0))
    interval = intervals.wilson(negative, count)
    below = intervals.wilson(int(np.sum(found["differential"] < 0)), count)
    error = np.max(np.abs(found["differential"] / found["variance"] - 1))
    return (
        f"A filter that ignores the teacher leaves the absolute sign to chance ({negative} of {count} negative, 95 % "
        f"Wilson [{interval.low:.2f}, {interval.high:.2f}]) and the sign relative to the control untouched "
        f"({int(np.sum(found['differential'] < 0))} of {count} negative, [{below.low:.2f}, {below.high:.2f}]; slope "
        f"within {error:.0e} of the variance). Even one that knows the scores only lowers it towards zero; one that "
        "reads the teacher can turn it. "
        f"n = {count} networks 8-16-16-(3+6), 32 prompts of 6 completions; bands 5 to 95 %."
    )
