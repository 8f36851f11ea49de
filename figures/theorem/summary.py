"""A summary of the record: one line per part, with its interval."""

from collections.abc import Iterator

import numpy as np

from figures.values import numbers
from sublim_jax import records
from sublim_jax.metrics import intervals


def lines(record: records.Record) -> Iterator[str]:
    """One line for every part of the record, e.g. at the end of a run."""
    for part, results in record.results.items():
        if part in LINES:
            yield f"{part}: {LINES[part](results)}"


def _curve(part) -> str:
    epsilon = numbers(part["epsilon"])
    at = int(np.argmin(np.abs(np.log10(epsilon) + 2)))
    line = epsilon[at] * numbers(part["curves"][0]["coefficient"])
    errors = [
        np.median(np.abs(numbers(part["curves"][0][name]["remainder"])[:, at]) / line)
        for name in ("float32", "float64")
    ]
    return f"at epsilon 0.01 the line is off by {errors[0]:.1e} in float32 and {errors[1]:.1e} in float64 (tanh, mse)"


def _radius(part) -> str:
    return "; ".join(
        f"{row['network']} {row['loss']} certified to {np.median(numbers(row['certified'])):.3g}, "
        f"sampled {np.median(numbers(row['sampled'])):.3g}"
        for row in part["rows"]
    )


def _kinks(part) -> str:
    one_layer, zero = part["one_hidden_layer"], part["zero_bias_black_input"]
    wrong = intervals.wilson(zero["rows"]["relu"]["negative"], zero["num_updates"])
    return (
        f"first kink at {np.median(numbers(one_layer['first_kink'])):.3g}, parabola exact to "
        f"{numbers(one_layer['relative_error_before']).max():.1e} before it; on the kink {wrong:.3f} negative"
    )


def _cosines(part) -> str:
    shown = zip(part["num_aux"], part["by_aux"], strict=True)
    return "cosine " + ", ".join(f"m={m} {np.mean(numbers(row['cosine'])):.3f}" for m, row in shown)


def _starts(part) -> str:
    texts = []
    for activation, columns in part["cosines"].items():
        for name in ("shared", "independent", "differential"):
            values = numbers(columns[name])
            positive = intervals.wilson(int(np.sum(values > 0)), len(values))
            texts.append(f"{activation} {name} P(>0) {positive.mean:.3f}, mean {intervals.t_interval(values):+.4f}")
    return "; ".join(texts)


def _labels(part) -> str:
    gaps = [row["positive"] / part["num_draws"] - row["predicted"] for row in part["rows"]]
    return f"largest distance from the normal law {np.max(np.abs(gaps)):.3f} over {len(gaps)} settings"


def _init_noise(part) -> str:
    gaps = [numbers(row["positive"]) / part["num_draws"] - numbers(row["predicted"]) for row in part["rows"]]
    return f"largest distance from the normal law {np.max(np.abs(gaps)):.3f}"


def _filters(part) -> str:
    values = {name: numbers(column) for name, column in part["random_filter"].items()}
    return (
        f"absolute negative {np.mean(values['absolute'] < 0):.2f}, differential negative "
        f"{np.mean(values['differential'] < 0):.2f}, slope within "
        f"{np.max(np.abs(values['differential'] / values['variance'] - 1)):.1e} of the variance"
    )


def _optimizers(part) -> str:
    return "teacher's loss rises: " + ", ".join(
        f"{name} {np.mean(numbers(row['descent_teacher']) < 0):.3f}|{np.mean(numbers(row['same_teacher']) < 0):.3f}"
        for name, row in part["cosines"].items()
    )


def _many_steps(part) -> str:
    return "; ".join(
        f"{name}: cumulative >= {min(run['smallest_cumulative']):.2g}, runs with a negative step "
        f"{np.mean(numbers(run['smallest_step_of_law']) < -1e-10):.2f}"
        for name, run in part["runs"].items()
    )


def _mnist_cosines(part) -> str:
    texts = []
    for index, count in enumerate(part["num_aux"]):
        values = [member["init_mse"][index]["cosine"] for member in part["by_aux"]]
        texts.append(f"m={count} {np.mean(values):.3f}")
    return "cosine " + ", ".join(texts)


def _mnist_noise(part) -> str:
    texts = []
    for row in part["rows"]:
        shares = np.mean(numbers(row["cosine"]) > 0, axis=1)
        texts.append(f"member {row['member']} {row['teacher']} P(>0) {shares.round(2).tolist()}")
    return "; ".join(texts)


LINES = {
    "curve": _curve,
    "radius": _radius,
    "kinks": _kinks,
    "cosines": _cosines,
    "starts": _starts,
    "labels": _labels,
    "init_noise": _init_noise,
    "filters": _filters,
    "optimizers": _optimizers,
    "many_steps": _many_steps,
    "mnist_cosines": _mnist_cosines,
    "mnist_noise": _mnist_noise,
}
