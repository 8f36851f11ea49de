"""What the tools about rows share: which rows are refused, and exact permutation p-values.

Rows to be judged and rows that calibrate are exchangeable under the null hypothesis, so every choice of as many rows
among all of them is as likely as the one that was made. The p-value is the share of choices that are as extreme.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sublim_jax import errors, specs
from sublim_jax.llm.local.surprise import RowScores

MIN_ROWS = 20
"""From fewer rows no verdict is given."""


class Permuted(NamedTuple):
    """A statistic of the rows, and its values for random choices of as many among them and the calibration."""

    statistic: float
    null: Float[np.ndarray, "permutation"]

    @property
    def two_sided(self) -> float:
        """P-value of a distance from the middle of all values, which is at least 1 / (permutations + 1)."""
        values = np.append(self.null, self.statistic)
        distances = np.abs(values - values.mean())
        return float(np.mean(distances >= distances[-1] * (1 - 1e-12)))

    @property
    def upper(self) -> float:
        """P-value of a value as large as this."""
        return float(np.mean(np.append(self.null, self.statistic) >= self.statistic))


def permuted(
    statistic: Callable[[Float[np.ndarray, "draw quantity"]], Float[np.ndarray, "draw"]],
    rows: Float[np.ndarray, "row quantity"],
    calibration: Float[np.ndarray, "other quantity"],
    *,
    num_permutations: int,
    seed: int,
) -> Permuted:
    """A statistic of sums over rows, and its permutation distribution.

    Args:
        statistic: a value per draw, given the sums of the quantities over its rows.
        seed: of the choices.
    """
    specs.check(num_permutations, specs.Count, "num_permutations")
    specs.check(seed, specs.Seed, "seed")
    pool, rng = np.concatenate([rows, calibration]), np.random.default_rng(seed)
    choices = (rng.choice(len(pool), len(rows), replace=False, shuffle=False) for _ in range(num_permutations))
    sums = np.stack([rows.sum(axis=0), *(pool[choice].sum(axis=0) for choice in choices)])
    values = statistic(sums)
    return Permuted(float(values[0]), values[1:])


def require(rows: RowScores, where: str, *, at_least: int = MIN_ROWS) -> None:
    """Refuse scores that no verdict can rest on.

    Raises:
        InputError: too few rows, other lengths, or a score that is not finite.
    """
    sizes = {field: np.shape(array) for field, array in rows._asdict().items()}
    if len(set(sizes.values())) > 1 or len(sizes["logprobs"]) != 1:
        raise errors.InputError(f"{where}: expected one score of each kind per row, got arrays of shapes {sizes}")
    count = len(rows.logprobs)
    if count < at_least:
        raise errors.InputError(
            f"{where}: expected at least {at_least} rows, got {count}; the scores of fewer differ too much to tell "
            f"authors apart. Give more rows"
        )
    scores = np.stack([rows.logprobs, rows.entropies, rows.variances])
    if not np.isfinite(scores).all():
        row = int(np.argmin(np.isfinite(scores).all(axis=0)))
        raise errors.InputError(
            f"{where}: the scores of row {row} are not finite; a model of this vocabulary may give a token of it "
            f"probability 0, or its weights may have diverged. Leave the row out, or look at the model"
        )


def require_same(scores: Mapping[str, RowScores], where: str) -> None:
    """Refuse scores of different rows by the models of these names.

    Raises:
        InputError: another number of rows, other rows, or another order.
    """
    first, *others = scores
    for name in others:
        counts = len(scores[first].row_ids), len(scores[name].row_ids)
        if counts[0] != counts[1]:
            raise errors.InputError(
                f"{where}: {first} has scores of {counts[0]} rows and {name} of {counts[1]}; score the same rows by all"
            )
        if not np.array_equal(scores[first].row_ids, scores[name].row_ids):
            raise errors.InputError(
                f"{where}: {first} and {name} have scores of different rows, or in another order; score the same list "
                f"of rows by all"
            )


def require_apart(rows: RowScores, calibration: RowScores, where: str) -> None:
    """Refuse calibration rows that are among the rows.

    Raises:
        InputError: a row is in both.
    """
    if shared := int(np.isin(rows.row_ids, calibration.row_ids).sum()):
        raise errors.InputError(
            f"{where}: {shared} of {len(rows.row_ids)} rows are among the calibration rows, which then seem to be of "
            f"the same author; calibrate on rows that were written for it alone"
        )
