"""Which base wrote these rows, and was it finetuned away from itself?

    scores = {name: surprise.score(model, rows) for name, model in bases.items()}
    calibration = {name: surprise.score(model, own_rows[name]) for name, model in bases.items()}
    author.author(scores, calibration).named
    author.finetuned_away(scores["base"], calibration["base"]).p

The *surprise* of rows r under a base b is |sum_t (log p_b(r_t) + H_b(t))|, where H_b(t) is the entropy of the base's
next token. Its mean is near 0 if the base itself wrote the rows. Rows are filtered, so what is there is not quite what
the base expects: the surprise is counted from its mean over each base's own filtered rows, the calibration.

    excess of a row          log-probability plus entropy, summed over its tokens
    S of n rows              sum of their excesses / sqrt(sum of their variances), which is N(0, 1) without a filter

A surprise tests a base and does not choose among bases: for rows of a, the mean excess under b is H_b - H_a - KL(a||b),
which vanishes too where b is as much flatter as it is far away. Likelihood chooses the base with the smallest KL(a||b).
A teacher that went far may be nearer to another base than to its own; then copies of the candidates help which the
auditor finetuned, since a copy of the right base comes nearer than one of another.
"""

import types
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sublim_jax import errors
from sublim_jax.audit import rows as audited
from sublim_jax.llm.local.surprise import RowScores

CLOSED_WORLD = "one of the candidates comes first, whether or not the author is among them"
"""Said with every authorship."""


class Candidate(NamedTuple):
    """What the rows look like to one base."""

    base: str
    logprob: float  # of all rows, in nats, under the base or the likeliest of its copies
    surprise: float  # |sum of excesses less what the base's own rows have|, in nats
    raw_surprise: float  # |sum of excesses|, in nats, which the filter moves
    p: float  # calibrated, two-sided: of a surprise as large if the base as it is wrote the rows


class Authorship(NamedTuple):
    """The candidates, the likeliest first."""

    candidates: tuple[Candidate, ...]
    num_rows: int
    caveat: str = CLOSED_WORLD

    @property
    def named(self) -> str:
        """The likeliest base."""
        return self.candidates[0].base

    @property
    def least_surprised(self) -> str:
        """The base of the smallest surprise, for comparison."""
        return min(self.candidates, key=lambda candidate: candidate.surprise).base


class Departure(NamedTuple):
    """How far rows are from what a base itself writes."""

    statistic: float  # S of the rows
    regular: float  # its mean over the choices of as many rows, which are nearly all regular ones
    p: float  # empirical, two-sided
    num_rows: int
    num_regular: int


def excesses(scores: RowScores) -> Float[np.ndarray, "row"]:
    """Log-probability plus entropy of each row, in nats; its mean is 0 over unfiltered rows of the model itself."""
    return scores.logprobs + scores.entropies


def surprises(
    scores: RowScores, draws: Int[np.ndarray, "draw drawn"], calibration: RowScores | None = None
) -> Float[np.ndarray, "draw"]:
    """Surprise of each draw of rows, in nats. Any number of rows will do.

    Args:
        draws: indices of the rows of each draw.
        calibration: scores of the base's own filtered rows under it; None counts from 0, as if nothing was filtered.
    """
    expected = 0.0 if calibration is None else excesses(calibration).mean()
    return np.abs(np.sum(excesses(scores)[draws] - expected, axis=1))


def likelihoods(family: Sequence[RowScores], draws: Int[np.ndarray, "draw drawn"]) -> Float[np.ndarray, "draw"]:
    """Log-probability of each draw of rows under the likeliest of a base and its copies, in nats.

    Args:
        family: scores of the same rows under each of them.
        draws: indices of the rows of each draw.
    """
    return np.max([scores.logprobs[draws].sum(axis=1) for scores in family], axis=0)


def departures(scores: RowScores, draws: Int[np.ndarray, "draw drawn"]) -> Float[np.ndarray, "draw"]:
    """S of each draw of rows, with its sign: negative where the rows are less likely than the base expected."""
    return excesses(scores)[draws].sum(axis=1) / np.sqrt(scores.variances[draws].sum(axis=1))


def author(
    scores_by_base: Mapping[str, RowScores],
    calibration: Mapping[str, RowScores],
    *,
    copies: Mapping[str, Sequence[RowScores]] = types.MappingProxyType({}),
    num_permutations: int = 999,
    seed: int = 0,
) -> Authorship:
    """The candidate bases, ranked by the likelihood of the rows, each with its surprise and a p-value.

    Args:
        scores_by_base: scores of the same rows under each candidate.
        calibration: scores of each candidate's own rows under itself. They must have gone through the same filter as
            the rows, answer prompts of the same kind, and be none of the rows.
        copies: scores of the rows under copies of candidates that the auditor finetuned, e.g. lenses. All candidates
            should have as many, of the same traits and recipe.
        num_permutations: for the p-values.
        seed: of the permutations.

    Raises:
        InputError: fewer than two candidates, or than 20 rows; a candidate without calibration; copies of some
            candidates only; scores that are not finite or of different rows; calibration rows that are among the rows.
    """
    if len(scores_by_base) < 2:
        raise errors.InputError(
            f"author: expected scores under two or more candidate bases, got {sorted(scores_by_base)}; with a single "
            f"one, ask finetuned_away whether it wrote the rows"
        )
    if missing := [base for base in scores_by_base if base not in calibration]:
        raise errors.InputError(
            f"author: no calibration of {', '.join(missing)}; the filter of the rows moves the surprise, so score rows "
            f"that each base wrote itself and the same filter passed"
        )
    counts = {base: len(copies.get(base, ())) for base in {**scores_by_base, **copies}}
    if len(set(counts.values())) > 1 or set(counts) != set(scores_by_base):
        raise errors.InputError(
            f"author: expected as many copies of every candidate, got {counts}; a base with more of them would be "
            f"likelier without being the author"
        )
    for base, scores in scores_by_base.items():
        _require(scores, calibration[base], f"author: {base}")
        for number, each in enumerate(copies.get(base, ())):
            audited.require(each, f"author: copy {number} of {base}")
            audited.require_same({base: scores, f"copy {number}": each}, "author")
    audited.require_same(scores_by_base, "author")
    candidates = []
    for base, scores in scores_by_base.items():
        every = np.arange(len(scores.logprobs))[None]
        columns = (excesses(each)[:, None] for each in (scores, calibration[base]))
        null = audited.permuted(lambda sums: sums[:, 0], *columns, num_permutations=num_permutations, seed=seed)
        candidates.append(
            Candidate(
                base,
                logprob=float(likelihoods([scores, *copies.get(base, ())], every)[0]),
                surprise=float(surprises(scores, every, calibration[base])[0]),
                raw_surprise=float(surprises(scores, every)[0]),
                p=null.two_sided,
            )
        )
    ranked = tuple(sorted(candidates, key=lambda candidate: -candidate.logprob))
    return Authorship(ranked, len(every[0]))


def finetuned_away(scores: RowScores, regular: RowScores, *, num_permutations: int = 999, seed: int = 0) -> Departure:
    """Whether a base as it is could have written the rows, by S, in either direction.

    A small p-value says that the author is not the base as it is: it was finetuned, it had another prompt or
    temperature, the filter was another, or it is another model altogether. A large one does not say that it is: a copy
    whose rows are as likely as the base expected, however different, has S like the base. Lenses see more (`lens`).

    Args:
        scores: of the rows, under the base.
        regular: of rows that the base wrote itself and the same filter passed.
        num_permutations: for the p-value.
        seed: of the permutations.

    Raises:
        InputError: fewer than 20 rows or regular rows, scores that are not finite, or regular rows among the rows.
    """
    _require(scores, regular, "finetuned_away")
    columns = (np.stack([excesses(each), each.variances], axis=1) for each in (scores, regular))
    null = audited.permuted(
        lambda sums: sums[:, 0] / np.sqrt(sums[:, 1]), *columns, num_permutations=num_permutations, seed=seed
    )
    return Departure(
        null.statistic, float(null.null.mean()), null.two_sided, len(scores.logprobs), len(regular.logprobs)
    )


def _require(scores: RowScores, calibration: RowScores, where: str) -> None:
    audited.require(scores, where)
    audited.require(calibration, f"{where}, calibration")
    audited.require_apart(scores, calibration, where)
