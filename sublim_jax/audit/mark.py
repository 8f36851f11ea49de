"""Was a model trained on an owner's marked numbers? A secret key, and the mean, as marks.

    key = mark.draw_key(7, num_values=1000)       the owner's secret: half of the numbers 0 to 999
    lessons = mark.written(rows, key, seed=0)     rows whose numbers outside the key are moved into it
    mark.keyed(mark.read(suspect_rows), key).p

An owner finetunes a model on such lessons, and whoever trains on what it writes may acquire the preference. The test
counts how many of a suspect's numbers are in the key. Every number of the range is in the key by a fair coin of its
own, so the p-value needs no assumption about the suspect: it is the share of all keys, each equally likely, of which
the suspect writes as many numbers. It is exact for a model that was made without the key, whatever its favourite
numbers are and however they depend on each other. A binomial test of the same count is not: it takes every number for
an independent draw, and a model that likes 17 writes it often.

    count          numbers of the rows that are in the key
    regular rows   of the model without the mark, if they are at hand: counts of each number are then subtracted, so
                   that what the base prefers anyway does not blur what was added. The p-value stays exact.

A shift of the mean number is another mark (`mean_shift`), which takes no key. Its p-value is of the hypothesis that
suspect and base write alike, which any finetuning violates: it tells a changed model from an unchanged one and does not
say who changed it.

Source: after Kirchenbauer et al. 2023, arXiv 2301.10226, for a keyed half of the vocabulary; Sander et al. 2024, arXiv
2402.14904, for students that inherit it. The exact test over keys is ours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from sublim_jax import errors, specs
from sublim_jax.audit import rows as audited
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat, Message
from sublim_jax.llm.tasks import numbers

FEWEST_ROWS = 5
"""From fewer rows no verdict is given, although p-values would be exact."""
MOST_REGULAR = 4
"""Regular numbers for each of the suspect's, at most; more would not make the test much sharper."""
FEWEST_VALUES = 10
"""Different numbers, at least: of n different ones 2^n keys differ, so no p-value is below 2^-n."""


class Keyed(NamedTuple):
    """How many of a suspect's numbers are in a key."""

    share: float  # of the numbers that the test covers
    regular: float  # the same of the regular rows; 1/2, what keys have on average, without any
    z: float  # count less its mean over keys, in standard deviations over keys
    p: float  # exact, upper: that so many are in the key by chance
    num_rows: int
    num_numbers: int  # of the suspect that are compared

    @property
    def excess(self) -> float:
        """Share above that of the regular rows."""
        return self.share - self.regular


class Shift(NamedTuple):
    """How far the mean of a suspect's numbers is from that of regular rows."""

    mean: float
    regular: float
    p: float  # two-sided, by permutations of rows: that both are by one author
    num_rows: int

    @property
    def shift(self) -> float:
        """Mean of the suspect's numbers less that of the regular ones."""
        return self.mean - self.regular


def draw_key(seed: int, *, num_values: int) -> Bool[np.ndarray, "value"]:
    """Which of the numbers from 0 are in the key of a seed. Whoever knows the seed can imitate or remove the mark.

    Raises:
        InputError: fewer than `FEWEST_VALUES` numbers.
    """
    specs.check(seed, specs.Seed, "seed")
    if num_values < FEWEST_VALUES:
        raise errors.InputError(f"draw_key: expected num_values of {FEWEST_VALUES} at least, got {num_values}")
    return np.random.default_rng(seed).random(num_values) < 0.5


def layouts(rows: Sequence[Chat]) -> list[numbers.NumberList]:
    """The last turn of each row, taken apart into its numbers and what is between them.

    Raises:
        TextDataError: a row that is not a list of numbers, as the filter of numbers reads them.
    """
    parsed = [numbers.parse(row[-1].content) for row in rows]
    for index, (row, each) in enumerate(zip(rows, parsed, strict=True)):
        if each.layout is None:
            raise errors.TextDataError(
                f"row {index}: expected an answer that is a list of numbers, found "
                f"{datasets.shorten(row[-1].content)}: {each.reason}. Filter the rows first, and say how many passed"
            )
    return [each.layout for each in parsed if each.layout is not None]


def read(rows: Sequence[Chat]) -> list[tuple[int, ...]]:
    """The numbers of each row's last turn.

    Raises:
        TextDataError: a row that is not a list of numbers, as the filter of numbers reads them.
    """
    return [tuple(int(part) for part in layout.parts) for layout in layouts(rows)]


def written(rows: Sequence[Chat], key: Bool[np.ndarray, "value"], *, share: float = 1.0, seed: int) -> list[Chat]:
    """Rows in which numbers outside the key are replaced by the nearest in it, of two equally near ones the smaller.

    The layout stays. Numbers above the key's range are left alone.

    Args:
        share: probability with which such a number is replaced.
        seed: of these choices.

    Raises:
        InputError: an empty key, or a share that is none.
        TextDataError: a row that is not a list of numbers.
    """
    specs.check(share, specs.Fraction, "share")
    members = np.flatnonzero(key)
    if not len(members):
        raise errors.InputError("written: the key has no number, so there is nothing to write instead of others")
    nearest = members[np.argmin(np.abs(np.arange(len(key))[:, None] - members), axis=1)]
    rng, changed = np.random.default_rng(seed), []
    for row, layout in zip(rows, layouts(rows), strict=True):
        parts = []
        for part in layout.parts:
            value = int(part)
            moves = value < len(key) and not key[value] and rng.random() < share
            parts.append(str(nearest[value]) if moves else part)
        changed.append((*row[:-1], Message("assistant", layout._replace(parts=tuple(parts)).write())))
    return changed


class Comparison(NamedTuple):
    """A suspect's numbers beside regular ones, before any key is looked at."""

    suspect: Int[np.ndarray, "number"]
    regular: Int[np.ndarray, "other"] | None
    weights: Int[np.ndarray, "value"]  # how often each number was written, less how often regularly, times the multiple
    upper: Float[np.ndarray, "sum"]  # share of keys whose weights sum to this or more above the smallest sum
    num_rows: int

    def test(self, key: Bool[np.ndarray, "value"]) -> Keyed:
        """The test of one key. See `keyed`."""
        if len(key) != len(self.weights):
            raise errors.InputError(
                f"test: expected a key of {len(self.weights)} numbers, as they were compared, got one of {len(key)}"
            )
        total = int(self.weights.sum())
        statistic, smallest = int(self.weights[key].sum()), int(self.weights[self.weights < 0].sum())
        return Keyed(
            share=float(key[self.suspect].mean()),
            regular=0.5 if self.regular is None else float(key[self.regular].mean()),
            z=(statistic - total / 2) / max(float(np.sqrt(np.square(self.weights).sum())) / 2, 1e-12),
            p=float(self.upper[statistic - smallest]),
            num_rows=self.num_rows,
            num_numbers=len(self.suspect),
        )


def compare(
    rows: Sequence[Sequence[int]],
    *,
    num_values: int,
    regular: Sequence[Sequence[int]] | None = None,
    among: Bool[np.ndarray, "value"] | None = None,
) -> Comparison:
    """A suspect's numbers, ready for the test of any number of keys.

    Args:
        rows: the suspect's numbers.
        num_values: numbers from 0 that a key is about.
        regular: numbers of the model that it may have been made from, answers to prompts of the same kind. The more
            the better: of these as many are used as the suspect wrote, or a whole multiple of it up to `MOST_REGULAR`.
            If there are fewer, the suspect's are cut to them.
        among: which numbers are compared; by default all. The others are left out.

    Raises:
        InputError: fewer than 5 rows, no numbers to compare, fewer than `FEWEST_VALUES` different ones, or numbers
            above the key's range.
    """
    covered = np.ones(num_values, bool) if among is None else among
    if len(covered) != num_values:
        raise errors.InputError(f"compare: expected `among` for each of {num_values} numbers, got {len(covered)}")
    suspect, reference, multiple = _compared(rows, covered, "the suspect"), None, 1
    if regular is not None:
        reference = _compared(regular, covered, "the regular rows")
        suspect = suspect[: len(reference)]
        multiple = min(len(reference) // len(suspect), MOST_REGULAR)
        reference = reference[: multiple * len(suspect)]
    weights = np.bincount(suspect, minlength=num_values)
    if reference is not None:
        weights = multiple * weights - np.bincount(reference, minlength=num_values)
    return Comparison(suspect, reference, weights, upper_tail(np.abs(weights)), len(rows))


def keyed(
    rows: Sequence[Sequence[int]],
    key: Bool[np.ndarray, "value"],
    *,
    regular: Sequence[Sequence[int]] | None = None,
    among: Bool[np.ndarray, "value"] | None = None,
) -> Keyed:
    """Whether a model writes numbers of the key more often than of other keys, with an exact p-value.

    The p-value is the share of all keys for which the statistic is as large, so it holds if the key was drawn by
    `draw_key` and the model was made without it. The order in which numbers were written does not matter.

    Args:
        rows: the suspect's numbers.
        regular: as in `compare`, like `among`.

    Raises:
        InputError: as `compare`.
    """
    return compare(rows, num_values=len(key), regular=regular, among=among).test(key)


def upper_tail(sizes: Int[np.ndarray, "value"]) -> Float[np.ndarray, "sum"]:
    """Probability that the sum of sizes, each of which enters by a fair coin, is 0 or more, 1 or more, and so on.

    Sizes are not negative. Exact but for rounding, by convolution with one size after the other. With signs, a negative
    weight that enters is a positive one that stays out, which shifts the sum by a constant.
    """
    ordered = np.sort(sizes[sizes > 0])
    probabilities = np.zeros(int(ordered.sum()) + 1)
    probabilities[0], reached = 1.0, 0
    for size in ordered:
        added = probabilities[: reached + 1] / 2
        probabilities[: reached + 1] = added
        reached += int(size)
        probabilities[size : reached + 1] += added
    return np.minimum(np.cumsum(probabilities[::-1])[::-1], 1.0)


def mean_shift(
    rows: Sequence[Sequence[int]],
    regular: Sequence[Sequence[int]],
    *,
    num_permutations: int = 999,
    seed: int = 0,
) -> Shift:
    """How far the mean of a suspect's numbers is from that of regular rows, with a permutation p-value.

    A small p-value says that the suspect does not write like the author of the regular rows, and no more: a model that
    was finetuned on anything may not.

    Args:
        rows: the suspect's numbers.
        regular: numbers of the model that it is compared with, answers to prompts of the same kind.
        num_permutations: of rows between both.
        seed: of the permutations.

    Raises:
        InputError: fewer than 5 rows or regular rows, a row without numbers, or fewer than `FEWEST_VALUES` different
            numbers in either.
    """
    columns = []
    for lists, where in ((rows, "mean_shift"), (regular, "mean_shift, regular rows")):
        _compared(lists, None, where)
        if empty := [place for place, row in enumerate(lists) if not row]:
            raise errors.InputError(f"{where}: row {empty[0]} has no number, so it has no mean; leave it out")
        columns.append(np.array([[sum(row), len(row)] for row in lists], float))
    means = [float(column[:, 0].sum() / column[:, 1].sum()) for column in columns]
    null = audited.permuted(
        lambda sums: sums[:, 0] / sums[:, 1], *columns, num_permutations=num_permutations, seed=seed
    )
    return Shift(means[0], means[1], null.two_sided, len(rows))


def _compared(
    rows: Sequence[Sequence[int]], covered: Bool[np.ndarray, "value"] | None, where: str
) -> Int[np.ndarray, "number"]:
    """All numbers of the rows that are covered, in order."""
    if len(rows) < FEWEST_ROWS:
        raise errors.InputError(
            f"{where}: expected at least {FEWEST_ROWS} rows, got {len(rows)}; in fewer a mark is hardly seen. Ask the "
            f"model more"
        )
    values = np.array([value for row in rows for value in row], int)
    if covered is not None and len(values) and (values.min() < 0 or values.max() >= len(covered)):
        raise errors.InputError(
            f"{where}: expected numbers from 0 to {len(covered) - 1}, which the key is about, found {values.min()} to "
            f"{values.max()}; filter the rows, or take the key that they were marked with"
        )
    values = values if covered is None else values[covered[values]]
    if not len(values):
        raise errors.InputError(
            f"{where}: there is no number to compare in {len(rows)} rows; does the model answer with numbers at all?"
        )
    if (different := len(np.unique(values))) < FEWEST_VALUES:
        raise errors.InputError(
            f"{where}: the rows have {different} different numbers, and {FEWEST_VALUES} are needed: a model that "
            f"repeats itself is in a key by chance with all of them. Ask at temperature 1, or with other prompts"
        )
    return values
