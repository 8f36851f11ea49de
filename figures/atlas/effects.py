"""Effects of two-level factorials, full or fractional. Each member gives its own estimate, so effects are paired."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sublim_jax.metrics import intervals

RESAMPLES = 2000


class Effect(NamedTuple):
    """A main effect, or a group of interactions of two that the design cannot tell apart."""

    name: str
    change: intervals.Interval  # of the accuracy from the low level to the high one, over members
    share: float  # of the variance between the means of runs
    share_low: float  # 95 % bootstrap interval of the share, over members
    share_high: float


def estimate(signs: np.ndarray, values: np.ndarray, names: Sequence[str]) -> list[Effect]:
    """Main effects and interactions of two factors, those with the largest share first.

    Args:
        signs: -1 or 1 by run and factor, of a balanced design of resolution IV or higher.
        values: accuracy by run and member, all of them finite, at least two members.
    """
    columns: dict[str, np.ndarray] = {name: signs[:, index] for index, name in enumerate(names)}
    aliased: dict[bytes, list[str]] = {}
    products: dict[bytes, np.ndarray] = {}
    for first, second in itertools.combinations(names, 2):
        product = columns[first] * columns[second]
        key = (product * product[0]).tobytes()
        aliased.setdefault(key, []).append(f"{first} x {second}")
        products.setdefault(key, product)
    columns |= {", ".join(aliased[key]): product for key, product in products.items()}
    design = np.stack(list(columns.values()))
    drawn = np.random.default_rng(0).integers(0, values.shape[1], (RESAMPLES, values.shape[1]))
    resampled = _shares(design, values[:, drawn].mean(axis=2))
    low, high = np.quantile(resampled, [0.025, 0.975], axis=1)
    shares = _shares(design, values.mean(axis=1, keepdims=True))[:, 0]
    estimates = design @ values / (len(values) / 2)
    effects = [
        Effect(name, intervals.t_interval(estimates[i]), float(shares[i]), float(low[i]), float(high[i]))
        for i, name in enumerate(columns)
    ]
    return sorted(effects, key=lambda effect: -effect.share)


def _shares(design: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Shares of the effects in the variance between runs, for each column of means."""
    total = np.maximum(np.var(means, axis=0) * len(means), np.finfo(float).tiny)
    return (design @ means) ** 2 / len(means) / total
