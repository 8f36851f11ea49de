"""One line per part of what came out, with its interval."""

from collections.abc import Iterator

import numpy as np

from figures.values import numbers
from sublim_jax import records
from sublim_jax.metrics import intervals


def lines(record: records.Record) -> Iterator[str]:
    """What a person wants to see at the end of a run; parts that were not run are left out."""
    for part, found in record.results.items():
        if part in LINES:
            yield f"{part}: {LINES[part](found)}"


def _curve(found) -> str:
    epsilon = numbers(found["epsilon"])
    at = int(np.argmin(np.abs(np.log10(epsilon) + 2)))
    line = epsilon[at] * numbers(found["curves"][0]["coefficient"])
    both = [
        np.median(np.abs(numbers(found["curves"][0][name]["remainder"])[:, at]) / line)
        for name in ("float32", "float64")
    ]
    return f"at epsilon 0.01 the line is off by {both[0]:.1e} in float32 and {both[1]:.1e} in float64 (tanh, mse)"


def _radius(found) -> str:
    return "; ".join(
        f"{row['network']} {row['loss']} certified to {np.median(numbers(row['certified'])):.3g}, "
        f"sampled {np.median(numbers(row['sampled'])):.3g}"
        for row in found["rows"]
    )


def _kinks(found) -> str:
    one, zero = found["one_hidden_layer"], found["zero_bias_black_input"]
    wrong = intervals.wilson(zero["rows"]["relu"]["negative"], zero["num_updates"])
    return (
        f"first kink at {np.median(numbers(one['first_kink'])):.3g}, parabola exact to "
        f"{numbers(one['relative_error_before']).max():.1e} before it; on the kink {wrong:.3f} negative"
    )


def _cosines(found) -> str:
    shown = zip(found["num_aux"], found["by_aux"], strict=True)
    return "cosine " + ", ".join(f"m={m} {np.mean(numbers(row['cosine'])):.3f}" for m, row in shown)


def _starts(found) -> str:
    texts = []
    for activation, columns in found["cosines"].items():
        for name in ("shared", "independent", "differential"):
            values = numbers(columns[name])
            positive = intervals.wilson(int(np.sum(values > 0)), len(values))
            texts.append(f"{activation} {name} P(>0) {positive.mean:.3f}, mean {intervals.t_interval(values):+.4f}")
    return "; ".join(texts)


def _labels(found) -> str:
    gaps = [row["positive"] / found["num_draws"] - row["predicted"] for row in found["rows"]]
    return f"largest distance from the normal law {np.max(np.abs(gaps)):.3f} over {len(gaps)} settings"


def _init_noise(found) -> str:
    gaps = [numbers(row["positive"]) / found["num_draws"] - numbers(row["predicted"]) for row in found["rows"]]
    return f"largest distance from the normal law {np.max(np.abs(gaps)):.3f}"


def _filters(found) -> str:
    values = {name: numbers(column) for name, column in found["random_filter"].items()}
    return (
        f"absolute negative {np.mean(values['absolute'] < 0):.2f}, differential negative "
        f"{np.mean(values['differential'] < 0):.2f}, slope within "
        f"{np.max(np.abs(values['differential'] / values['variance'] - 1)):.1e} of the variance"
    )


def _optimizers(found) -> str:
    return "teacher's loss rises: " + ", ".join(
        f"{name} {np.mean(numbers(row['descent_teacher']) < 0):.3f}|{np.mean(numbers(row['same_teacher']) < 0):.3f}"
        for name, row in found["cosines"].items()
    )


def _many_steps(found) -> str:
    return "; ".join(
        f"{name}: cumulative >= {min(run['smallest_cumulative']):.2g}, runs with a negative step "
        f"{np.mean(numbers(run['smallest_step_of_law']) < -1e-10):.2f}"
        for name, run in found["runs"].items()
    )


def _mnist_cosines(found) -> str:
    texts = []
    for index, count in enumerate(found["num_aux"]):
        values = [member["init_mse"][index]["cosine"] for member in found["by_aux"]]
        texts.append(f"m={count} {np.mean(values):.3f}")
    return "cosine " + ", ".join(texts)


def _mnist_noise(found) -> str:
    texts = []
    for row in found["rows"]:
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
