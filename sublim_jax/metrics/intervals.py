"""Interval estimates: Student's t for means, paired where members are shared, Wilson for proportions.

Values come as one number per member. A member whose run diverged is not a number here; it is never dropped silently:
every function refuses it, and the caller says how many it left out. From fewer than `FEWEST` values there is a mean and
no interval: its bounds are infinite, and a caller shows the values themselves.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from sublim_jax import errors

FEWEST = 4
"""Values for an interval. Student's quantile is 4.3 standard errors for three values and 12.7 for two."""


class Interval(NamedTuple):
    """A mean or a proportion with the bounds of its confidence interval."""

    mean: float
    low: float
    high: float
    num_members: int

    @property
    def half_width(self) -> float:
        """Half the distance between the bounds; infinite where there is no interval."""
        return (self.high - self.low) / 2

    @property
    def is_known(self) -> bool:
        """There are values enough for bounds."""
        return bool(np.isfinite(self.half_width))

    def __format__(self, spec: str) -> str:
        """`f"{interval:.3f}"` gives "0.551 ± 0.036", and "0.551 (n=3)" where there is no interval."""
        bounds = f"± {self.half_width:{spec.lstrip('+')}}" if self.is_known else f"(n={self.num_members})"
        return f"{self.mean:{spec}} {bounds}"


def t_interval(values, *, confidence: float = 0.95) -> Interval:
    """Mean of independent members, with the standard deviation of n - 1 degrees of freedom.

    Bounds are infinite for fewer than `FEWEST` values.

    Raises:
        InputError: no value, or one that is not finite; a confidence that is not between 0 and 1.
    """
    _require_confidence(confidence)
    values = _finite(values)
    mean, count = float(np.mean(values)), len(values)
    if count < FEWEST:
        return Interval(mean, -np.inf, np.inf, count)
    standard_error = float(np.std(values, ddof=1)) / count**0.5
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * standard_error
    return Interval(mean, mean - half, mean + half, count)


def paired_difference(first, second, *, confidence: float = 0.95) -> Interval:
    """Interval of mean(first - second) where entry i of both belongs to the same member.

    Raises:
        InputError: unequal lengths, no value, or one that is not finite.
    """
    first, second = _finite(first), _finite(second)
    if len(first) != len(second):
        raise errors.InputError(
            f"paired values must belong to the same members, got {len(first)} and {len(second)} of them"
        )
    return t_interval(first - second, confidence=confidence)


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion; sensible at 0 and 1, where the normal interval is not.

    Raises:
        InputError: `successes` outside 0..`trials`, or no trial.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise errors.InputError(f"expected 0 <= successes <= trials and a trial at least, got {successes} of {trials}")
    _require_confidence(confidence)
    z = float(stats.norm.ppf((1 + confidence) / 2))
    rate = successes / trials
    centre = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * (rate * (1 - rate) / trials + z**2 / (4 * trials**2)) ** 0.5
    return Interval(rate, max(min(centre - half, rate), 0.0), min(max(centre + half, rate), 1.0), trials)


def _require_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise errors.InputError(f"confidence={confidence}: expected a probability between 0 and 1, e.g. 0.95")


def _finite(values) -> np.ndarray:
    try:
        values = np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise errors.InputError(f"expected one number per member ({error})") from error
    if values.ndim != 1 or len(values) == 0:
        raise errors.InputError(f"expected one value per member, got shape {values.shape}")
    if not np.all(np.isfinite(values)):
        raise errors.InputError(
            f"{np.sum(~np.isfinite(values))} of {len(values)} members are not finite; leave them out openly"
        )
    return values
