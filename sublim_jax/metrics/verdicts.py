"""What a pilot of a training says about a trait: its gain over a null, an interval, and a verdict.

`audit.forecast` runs pilots; these are functions of the losses that they leave behind, so that a record can be judged
without what made it.
"""

import itertools
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from sublim_jax import errors
from sublim_jax.metrics import intervals
from sublim_jax.metrics.intervals import Interval

Verdict = Literal["transmits", "not seen", "cannot tell"]


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


def judge(
    trait: str,
    at_start,
    after_data,
    after_null,
    *,
    threshold: float,
    confidence: float = 0.95,
) -> Forecast:
    """The forecast that losses on probes imply.

    The interval is about other probes and other random numbers of the training, see `crossed_interval`. The verdict is
    "transmits" where the interval lies above the threshold, "not seen" where it lies below, else "cannot tell".

    Args:
        at_start: losses of the start, (probe,), in nats.
        after_data: losses after each pilot on the data, (repeat, probe).
        after_null: the same after the null data, with the same random numbers.
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


def crossed_interval(values, *, confidence: float = 0.95) -> Interval:
    """Interval of the mean over repeats and probes, both taken as random samples; values are (repeat, probe).

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


def calibrate(pilot_gains, final_gains, transmitted) -> Calibration:
    """The threshold and the slope that fit finished runs best.

    The three arguments have an entry for each run; the last one says whether its student acquired the trait. The
    threshold is the middle of the widest gap among the cuts with the largest balanced accuracy.

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
