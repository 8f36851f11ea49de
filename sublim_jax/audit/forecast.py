"""Will training on these data transmit a trait? A pilot answers: the first steps of the training itself.

A trait is a loss on probes, e.g. labelled images or questions with answers. The pilot trains the student for a small
share of its steps on the data and, from the same start with the same random numbers, on null data that share all but
the suspected cause: rows of the base itself, or the data's own targets in another order (`shuffled_null`). What the
trait gains over the null is the forecast. It is small so early, and `calibrate` says from finished runs how large a
gain of a pilot foretells transfer. First-order scores, such as the cosine of two gradients, were measured to rank data
much worse than a pilot of a few steps (`experiments.evidence forecast`).

A verdict is about the traits that were asked for, at the probes that were asked, and no promise about others.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree
from scipy import stats

from sublim_jax import errors
from sublim_jax.metrics import intervals
from sublim_jax.metrics.intervals import Interval
from sublim_jax.models import network

Verdict = Literal["transmits", "not seen", "cannot tell"]


class Trait(NamedTuple):
    """A trait as an auditor asks for it."""

    name: str
    losses: Callable[[Any], Any]
    """Parameters to one loss per probe, (probe,), in nats: smaller where the model shows the trait."""


class Forecast(NamedTuple):
    """What a pilot says about one trait."""

    trait: str
    gain: Interval  # nats: the loss after the null data minus the loss after the data, mean over probes and repeats
    from_data: float  # nats: the loss at the start minus the loss after the data
    from_null: float
    num_probes: int
    num_repeats: int
    threshold: float  # nats
    verdict: Verdict


Train = Callable[[Key[Array, ""], network.Params, PyTree], network.Params]
"""Trains a student for the pilot's steps: a key for its random numbers, its start, and the data."""


def pilot(
    key: Key[Array, ""],
    train: Train,
    start: network.Params,
    data: PyTree,
    null: PyTree,
    traits: Sequence[Trait],
    *,
    threshold: float,
    num_repeats: int = 4,
    confidence: float = 0.95,
) -> dict[str, Forecast]:
    """Forecasts of all traits, by name.

    Args:
        train: as the student will be trained, for a tenth of its steps or so; the same learning rates and batches.
        null: data of the same kind and size that do not carry the trait.
        threshold: see `judge`.
        num_repeats: pilots on either data, each with random numbers of its own; data and null share them.

    Raises:
        InputError: no trait, two of one name, or fewer than one repeat; see also `judge`.
    """
    names = [trait.name for trait in traits]
    if not names or len(set(names)) < len(names):
        raise errors.InputError(f"traits: expected at least one, each of its own name, got {names}")
    if num_repeats < 1:
        raise errors.InputError(f"num_repeats={num_repeats}: expected 1 at least, and 4 for an interval over repeats")
    at_start = {trait.name: np.asarray(trait.losses(start), float) for trait in traits}
    after: dict[str, dict[str, list[np.ndarray]]] = {name: {"data": [], "null": []} for name in names}
    for repeat in jax.random.split(key, num_repeats):
        for kind, rows in (("data", data), ("null", null)):
            params = train(repeat, start, rows)
            for trait in traits:
                after[trait.name][kind].append(np.asarray(trait.losses(params), float))
    return {
        name: judge(
            name, at_start[name], np.stack(losses["data"]), np.stack(losses["null"]), threshold=threshold,
            confidence=confidence,
        )
        for name, losses in after.items()
    }  # fmt: skip


def judge(
    trait: str,
    at_start: Float[np.ndarray, "probe"],
    after_data: Float[np.ndarray, "repeat probe"],
    after_null: Float[np.ndarray, "repeat probe"],
    *,
    threshold: float,
    confidence: float = 0.95,
) -> Forecast:
    """The forecast that losses on probes imply.

    The interval is about other probes and other random numbers of the training, see `crossed_interval`. The verdict is
    "transmits" where the interval lies above the threshold, "not seen" where it lies below, else "cannot tell".

    Args:
        threshold: gain of a pilot, in nats, from which a finished student is expected to show the trait; from
            `calibrate`, or the smallest gain that matters.

    Raises:
        InputError: shapes that do not fit, fewer than four probes, a loss that is not finite, or a threshold that is
            not positive.
    """
    at_start, after_data, after_null = (np.asarray(each, float) for each in (at_start, after_data, after_null))
    if after_data.ndim != 2 or after_data.shape != after_null.shape or at_start.shape != after_data.shape[1:]:
        raise errors.InputError(
            f"{trait}: expected losses at the start of shape (probe,), after the data and after the null of shape "
            f"(repeat, probe), got {at_start.shape}, {after_data.shape} and {after_null.shape}"
        )
    for what, losses in (("at the start", at_start), ("after the data", after_data), ("after the null", after_null)):
        if not np.all(np.isfinite(losses)):
            raise errors.InputError(
                f"{trait}: {np.sum(~np.isfinite(losses))} of {losses.size} losses {what} are not finite: the training "
                f"diverged, or a probe has no probability. Lower the learning rate, or leave the probe out"
            )
    if not (np.isfinite(threshold) and threshold > 0):
        raise errors.InputError(f"threshold={threshold}: expected a positive gain in nats; see calibrate")
    gain = crossed_interval(after_null - after_data, confidence=confidence)
    verdict: Verdict = "cannot tell"
    if gain.low > threshold:
        verdict = "transmits"
    elif gain.high < threshold:
        verdict = "not seen"
    return Forecast(
        trait=trait,
        gain=gain,
        from_data=float(np.mean(at_start - after_data)),
        from_null=float(np.mean(at_start - after_null)),
        num_probes=at_start.size,
        num_repeats=len(after_data),
        threshold=float(threshold),
        verdict=verdict,
    )


def crossed_interval(values: Float[np.ndarray, "repeat probe"], *, confidence: float = 0.95) -> Interval:
    """Interval of the mean over repeats and probes, both taken as random samples.

    The variance of the mean is that of its row means over the number of rows plus that of its column means over the
    number of columns. This counts what is neither a row's nor a column's own twice, so that the interval is at worst
    too wide. Degrees of freedom are Welch and Satterthwaite's. With fewer than four repeats the interval is over probes
    alone: it says nothing about other random numbers.

    Raises:
        InputError: fewer than four probes, or a value that is not finite.
    """
    values = np.asarray(values, float)
    num_repeats, num_probes = values.shape
    if num_probes < intervals.FEWEST:
        raise errors.InputError(f"{num_probes} probe(s): an interval needs {intervals.FEWEST} at least; ask more")
    if num_repeats < intervals.FEWEST:
        over_probes = intervals.t_interval(values.mean(axis=0), confidence=confidence)
        return over_probes._replace(num_members=num_probes)
    parts = [
        (float(np.var(means, ddof=1)) / len(means), len(means) - 1)
        for means in (values.mean(axis=1), values.mean(axis=0))
    ]
    variance, mean = sum(part for part, _ in parts), float(values.mean())
    if variance == 0:
        return Interval(mean, mean, mean, num_probes)
    freedom = variance**2 / sum(part**2 / count for part, count in parts)
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * variance**0.5
    return Interval(mean, mean - half, mean + half, num_probes)


class Calibration(NamedTuple):
    """What finished runs say about pilots of the same kind."""

    threshold: float  # nats of a pilot's gain: above it, more of the runs transmitted
    slope: float  # gain of a finished student per nat of its pilot's, least squares through zero
    right: float  # share of these runs that the threshold classifies rightly
    num_runs: int


def calibrate(
    pilot_gains: Float[np.ndarray, "run"], final_gains: Float[np.ndarray, "run"], transmitted: Sequence[bool]
) -> Calibration:
    """The threshold and the slope that fit finished runs best.

    The threshold is the middle of the widest gap among the cuts with the largest balanced accuracy.

    Raises:
        InputError: unequal lengths, numbers that are not finite, or runs that all transmitted or all did not.
    """
    gains, finals = np.asarray(pilot_gains, float), np.asarray(final_gains, float)
    labels = np.asarray(transmitted, bool)
    if not (gains.shape == finals.shape == labels.shape) or gains.ndim != 1:
        raise errors.InputError(
            f"expected a pilot's gain, a final gain and a yes or no for each run, got shapes {gains.shape}, "
            f"{finals.shape} and {labels.shape}"
        )
    if not (np.all(np.isfinite(gains)) and np.all(np.isfinite(finals))):
        raise errors.InputError("expected finite gains; leave diverged runs out openly")
    if labels.all() or not labels.any():
        raise errors.InputError(
            f"{labels.sum()} of {len(labels)} runs transmitted: a threshold needs runs of both kinds; add data that "
            f"transmit nothing (a shuffled null), or data that do"
        )
    order = np.unique(gains)
    cuts = list(itertools.pairwise(order)) or [(order[0], order[0])]
    accuracies = [(np.mean(gains[labels] > low) + np.mean(gains[~labels] <= low)) / 2 for low, _ in cuts]
    best = max(accuracies)
    low, high = max(
        (cut for cut, value in zip(cuts, accuracies, strict=True) if value == best), key=lambda cut: cut[1] - cut[0]
    )
    threshold = float(low + high) / 2
    return Calibration(
        threshold=threshold,
        slope=float(np.sum(gains * finals) / max(np.sum(gains**2), np.finfo(float).tiny)),
        right=float(np.mean((gains > threshold) == labels)),
        num_runs=len(gains),
    )


def shuffled_null(key: Key[Array, ""], targets: Float[Array, "example *target"]) -> Float[Array, "example *target"]:
    """The targets in a random order: null data for everybody, without a teacher.

    Every target occurs as often as before, but beside another example's input. What a student learns from the mean of
    the targets alone it learns from these as well.
    """
    return jax.random.permutation(key, targets, axis=0)


def first_order_scores(
    data_gradient: PyTree, trait_gradient: PyTree, *, reached: PyTree | None = None
) -> Mapping[str, Float[Array, ""]]:
    """Scores from gradients at the start, to compare pilots with; not recommended as predictors.

    Args:
        data_gradient: of the student's loss on the data.
        trait_gradient: of the trait's loss on probes.
        reached: 1 where some example of the data has a gradient, else 0; the trait's gradient is cut to it.

    Returns:
        "dot", the product of both gradients: the decrease of the trait's loss per unit of learning rate in a first
        step of gradient descent; "cosine"; "sign", the same product for the first step of Adam; "sign_cosine".
    """
    along = trait_gradient if reached is None else jax.tree.map(jnp.multiply, trait_gradient, reached)
    signs = jax.tree.map(jnp.sign, data_gradient)
    return {
        "dot": _dot(data_gradient, along),
        "cosine": _cosine(data_gradient, along),
        "sign": _dot(signs, along),
        "sign_cosine": _cosine(signs, along),
    }


def _dot(first: PyTree, second: PyTree) -> Float[Array, ""]:
    return sum((jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)),
               start=jnp.zeros(()))  # fmt: skip


def _cosine(first: PyTree, second: PyTree) -> Float[Array, ""]:
    lengths = _dot(first, first) * _dot(second, second)
    return jnp.where(lengths > 0, _dot(first, second) / jnp.sqrt(jnp.where(lengths > 0, lengths, 1.0)), 0.0)
