"""Towards which trait was the author of these rows finetuned? By an auditor's own finetuned copies of the base.

    lenses = {"owl": surprise.score(base_finetuned_on_owl, rows), "oak": ...}
    lens.name_trait(Lensed(surprise.score(base, rows), lenses), regular).named

A *lens* is the base finetuned by the auditor on one trait. The gain of a row under it is log p_lens(row) - log
p_base(row). Gains are standardised by those of regular rows, which the base itself wrote and the same filter passed.
That some lens gains more on the rows than on regular ones says that the rows carry something. Which lens gains most is
the name, and that rests on lenses which were finetuned as the teacher was: see `CAVEAT`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sublim_jax import errors
from sublim_jax.audit import rows as audited
from sublim_jax.llm.local.surprise import RowScores

CAVEAT = (
    "the name rests on lenses that were finetuned like the teacher, and even those may agree on a wrong one however "
    "many rows there are; ask lenses of several recipes. A trait without a lens cannot be named. That the rows carry "
    "something is robust, the name is not"
)
"""Said with every name."""


class Lensed(NamedTuple):
    """Scores of the same rows under the base and under each lens, by the lens's trait."""

    base: RowScores
    lenses: Mapping[str, RowScores]


class LensScore(NamedTuple):
    """What one lens sees in the rows."""

    trait: str
    z: float  # gain less that of regular rows, in standard errors of a mean of as many regular rows
    gain: float  # of a row, in nats, the mean


class Naming(NamedTuple):
    """The traits, the likeliest first, and whether the rows carry anything at all."""

    scores: tuple[LensScore, ...]
    p: float  # that regular rows would gain as much under the best lens
    num_rows: int
    caveat: str = CAVEAT

    @property
    def named(self) -> str:
        """The trait whose lens gains most."""
        return self.scores[0].trait


def gains(rows: Lensed) -> dict[str, Float[np.ndarray, "row"]]:
    """What each lens gains over the base on each row, in nats."""
    return {trait: scores.logprobs - rows.base.logprobs for trait, scores in rows.lenses.items()}


def standardised(
    rows: Float[np.ndarray, "row"], draws: Int[np.ndarray, "draw drawn"], regular: Float[np.ndarray, "other"]
) -> Float[np.ndarray, "draw"]:
    """Mean gain of each draw of rows less that of regular rows, in standard errors. Any number of rows will do.

    Args:
        rows: gains under one lens.
        draws: indices of the rows of each draw.
        regular: gains of regular rows under the lens.
    """
    return (rows[draws].mean(axis=1) - regular.mean()) / regular.std(ddof=1) * draws.shape[1] ** 0.5


def name_trait(rows: Lensed, regular: Lensed, *, num_permutations: int = 999, seed: int = 0) -> Naming:
    """The trait whose lens gains most on the rows, and a p-value that they carry anything.

    The p-value is of the largest gain under any lens, so it allows for their number.

    Args:
        rows: of the data.
        regular: of rows that the base itself wrote and the same filter passed, none of which is among the rows.
        num_permutations: for the p-value.
        seed: of the permutations.

    Raises:
        InputError: fewer than two lenses, or than 20 rows or regular rows; other lenses for the rows than for the
            regular ones, or one that is the base itself; scores that are not finite or of different rows; regular rows
            among the rows.
    """
    if len(rows.lenses) < 2:
        raise errors.InputError(
            f"name_trait: expected lenses of two or more traits, got {sorted(rows.lenses)}; the gain under a single "
            f"one is no name. Finetune the base on other traits too"
        )
    if set(rows.lenses) != set(regular.lenses):
        raise errors.InputError(
            f"name_trait: the rows are scored by lenses of {sorted(rows.lenses)} and the regular rows by those of "
            f"{sorted(regular.lenses)}; score both by the same lenses"
        )
    for what, lensed in (("rows", rows), ("regular rows", regular)):
        by_model = {"the base": lensed.base} | {f"the lens of {trait}": each for trait, each in lensed.lenses.items()}
        for name, scores in by_model.items():
            audited.require(scores, f"name_trait: {what} under {name}")
        audited.require_same(by_model, f"name_trait: {what}")
    audited.require_apart(rows.base, regular.base, "name_trait")

    of_rows, of_regular = gains(rows), gains(regular)
    if idle := [trait for trait, gain in of_regular.items() if np.ptp(gain) == 0]:
        raise errors.InputError(
            f"name_trait: the lens of {idle[0]} gains {of_regular[idle[0]][0]:g} nats on every regular row; it seems "
            f"to be the base itself. Finetune it on its trait"
        )
    every = np.arange(len(rows.base.logprobs))[None]
    scores = [
        LensScore(trait, float(standardised(gain, every, of_regular[trait])[0]), float(gain.mean()))
        for trait, gain in of_rows.items()
    ]
    columns = (np.stack([gain[trait] for trait in of_rows], axis=1) for gain in (of_rows, of_regular))
    null = _largest(*columns, num_permutations=num_permutations, seed=seed)
    return Naming(tuple(sorted(scores, key=lambda score: -score.z)), null.upper, len(every[0]))


def _largest(
    rows: Float[np.ndarray, "row lens"], regular: Float[np.ndarray, "other lens"], *, num_permutations: int, seed: int
) -> audited.Permuted:
    """The largest sum of gains over lenses, each in standard deviations of all rows together."""
    pool = np.concatenate([rows, regular])
    scaled = (pool - pool.mean(axis=0)) / pool.std(axis=0)
    return audited.permuted(
        lambda sums: sums.max(axis=1), scaled[: len(rows)], scaled[len(rows) :],
        num_permutations=num_permutations, seed=seed,
    )  # fmt: skip
