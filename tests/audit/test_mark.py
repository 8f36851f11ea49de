"""Marks: the exact test of a key against all keys, one by one, and what is refused."""

import itertools

import numpy as np
import pytest
from scipy import stats

from sublim_jax import errors
from sublim_jax.audit import mark
from sublim_jax.llm import datasets

KEYS = np.array(list(itertools.product([False, True], repeat=12)))
"""All keys of twelve numbers."""


def written(seed: int, *, num_rows: int = 30, length: int = 5, num_values: int = 12) -> list[tuple[int, ...]]:
    """Rows of an author with favourites, whose numbers repeat within a row."""
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.full(num_values, 1.5))
    first = rng.choice(num_values, num_rows, p=chances)
    others = rng.choice(num_values, (num_rows, length - 2), p=chances)
    return [(int(value), int(value), *map(int, rest)) for value, rest in zip(first, others, strict=True)]


def chats(rows):
    return [datasets.student_row(datasets.ask("continue"), ", ".join(map(str, row))) for row in rows]


@pytest.mark.parametrize("num_regular", [0, 30, 70, 10_000])
@pytest.mark.parametrize("covered", ["all", "most"])
def test_the_p_value_is_the_share_of_all_keys_with_as_large_a_statistic(num_regular, covered):
    """By enumeration of 4,096 keys; the suspect has 150 numbers, so that the multiple is none, 1, 2 and the largest."""
    rows = written(1)
    regular = written(2, num_rows=num_regular) if num_regular else None
    among = np.arange(12) != 3 if covered == "most" else None
    comparison = mark.compare(rows, num_values=12, regular=regular, among=among)
    flat, weights = [value for row in rows for value in row], np.zeros(12)
    flat = [value for value in flat if among is None or among[value]]
    for value in flat:
        weights[value] += 1 / len(flat)
    if regular is not None:
        values = [value for row in regular for value in row if among is None or among[value]]
        values = values[: len(flat) * min(len(values) // len(flat), 4)]
        for value in values:
            weights[value] -= 1 / len(values)
    statistics = KEYS @ weights
    for place in (0, 7, 1234, 3000, 4095):
        result = comparison.test(KEYS[place])
        assert result.p == pytest.approx(np.mean(statistics >= statistics[place] - 1e-12), abs=1e-12)  # rounding
        assert result.z == pytest.approx((statistics[place] - statistics.mean()) / statistics.std())
        if regular is not None:
            assert result.excess == pytest.approx(statistics[place])


def test_p_values_of_random_keys_are_uniform_whatever_the_author():
    """Exactly: the share of keys whose p-value is at most p is p, for every p that occurs. A binomial test's is not."""
    comparison = mark.compare(written(3), num_values=12, regular=written(4))
    p_values = np.array([comparison.test(key).p for key in KEYS])
    for p in np.unique(np.round(p_values, 12)):
        assert np.mean(p_values <= p + 1e-12) == pytest.approx(p, abs=1e-11)  # rounding of 4,096 sums
    raw = mark.compare(written(3), num_values=12)
    counts = np.array([key[raw.suspect].sum() for key in KEYS])
    binomial = stats.binom.sf(counts - 1, len(raw.suspect), 0.5)
    assert np.mean(binomial <= 0.01) > 0.1 > np.mean([raw.test(key).p <= 0.01 for key in KEYS])


def test_p_values_of_drawn_keys_of_a_thousand_numbers_are_uniform():
    """Kolmogorov's distance of 500 keys; it exceeds 1.63 / sqrt(500) in one of a hundred tests of uniform values."""
    suspect, regular = (written(seed, num_rows=300, num_values=1000) for seed in (5, 6))
    comparison = mark.compare(suspect, num_values=1000, regular=regular)
    p_values = [comparison.test(mark.draw_key(seed, num_values=1000)).p for seed in range(500)]
    assert stats.kstest(p_values, "uniform").statistic < 1.63 / 500**0.5


def test_a_model_that_writes_the_key_alone_is_found():
    """Only the keys with all of its numbers have as many: one in 2^n for n different ones."""
    key = mark.draw_key(1, num_values=40)
    rows = mark.read(mark.written(chats(written(7, num_rows=25, num_values=40)), key, seed=0))
    result, different = mark.keyed(rows, key), len({value for row in rows for value in row})
    assert result.share == 1 and result.regular == 0.5 and result.excess == 0.5
    assert result.p == pytest.approx(2.0**-different, rel=1e-9)
    assert (result.num_rows, result.num_numbers) == (25, 125)


def test_the_order_of_rows_without_regular_ones_is_indifferent():
    rows, key = written(8), KEYS[77]
    assert mark.keyed(rows, key) == mark.keyed(rows[::-1], key)


def test_a_key_is_a_fair_coin_for_each_number():
    keys = np.array([mark.draw_key(seed, num_values=1000) for seed in range(100)])
    deviation = 0.5 / keys.size**0.5
    assert abs(keys.mean() - 0.5) < 4 * deviation
    assert not np.array_equal(keys[0], keys[1])
    assert np.array_equal(keys[3], mark.draw_key(3, num_values=1000))
    assert keys.sum(axis=1).std() == pytest.approx(1000**0.5 / 2, rel=0.3)  # not a fixed number of them: 4 of 7 % each


def test_numbers_outside_the_key_move_to_the_nearest_in_it():
    key = np.zeros(20, bool)
    key[[4, 8, 15]] = True
    rows = [datasets.student_row(datasets.ask("continue"), text) for text in ("[6, 7, 12]", "4; 0; 99.", "015")]
    texts = [row[-1].content for row in mark.written(rows, key, seed=0)]
    assert texts == ["[4, 8, 15]", "4; 4; 99.", "015"]  # 6 is as near to 4 as to 8
    assert mark.written(rows, key, share=0.0, seed=0) == rows
    many = chats(np.full((100, 10), 10).tolist())
    moved = sum(row.count(8) for row in mark.read(mark.written(many, key, share=0.3, seed=1)))
    assert abs(moved - 300) < 4 * (1000 * 0.3 * 0.7) ** 0.5


def test_a_shift_of_the_mean_has_a_permutation_p_value():
    """Rows of equal length, for which the statistic is a difference of means, as in SciPy's test."""
    rng = np.random.default_rng(9)
    regular, rows = rng.integers(0, 500, (60, 4)), rng.integers(40, 540, (45, 4))
    shift = mark.mean_shift(rows.tolist(), regular.tolist(), num_permutations=4999)
    assert shift.shift == pytest.approx(rows.mean() - regular.mean())
    test = stats.permutation_test(
        (rows.mean(axis=1), regular.mean(axis=1)), lambda a, b: a.mean() - b.mean(), n_resamples=4999, rng=rng
    )
    expected = float(test.pvalue)
    assert 0.001 < expected < 0.2
    assert shift.p == pytest.approx(expected, abs=6 * (expected / 5000) ** 0.5)  # two such p-values of 5,000 draws
    assert mark.mean_shift((rows + 400).tolist(), regular.tolist()).p == 1 / 1000


GOOD = written(10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mark.keyed(GOOD[:4], KEYS[5]), "the suspect: expected at least 5 rows, got 4"),
        (lambda: mark.keyed(GOOD, KEYS[5], regular=GOOD[:3]), "the regular rows: expected at least 5 rows, got 3"),
        (lambda: mark.keyed([()] * 20, KEYS[5]), "the suspect: there is no number to compare in 20 rows"),
        (lambda: mark.keyed([(7, 7)] * 20, KEYS[5]), "the suspect: the rows have 1 different numbers, and 10 are"),
        (lambda: mark.keyed([*GOOD, (12,)], KEYS[5]), "expected numbers from 0 to 11, .* found 0 to 12"),
        (lambda: mark.compare(GOOD, num_values=12, among=np.ones(13, bool)), "`among` for each of 12 numbers, got 13"),
        (lambda: mark.compare(GOOD, num_values=12).test(KEYS[5][:11]), "expected a key of 12 numbers, .* one of 11"),
        (lambda: mark.mean_shift(GOOD, GOOD[:4]), "mean_shift, regular rows: expected at least 5 rows, got 4"),
        (lambda: mark.mean_shift([*GOOD, ()], GOOD), "mean_shift: row 30 has no number"),
        (lambda: mark.draw_key(0, num_values=9), "expected num_values of 10 at least, got 9"),
        (lambda: mark.written(chats(GOOD), np.zeros(12, bool), seed=0), "the key has no number"),
        (lambda: mark.written(chats(GOOD), KEYS[5], share=1.5, seed=0), "share"),
    ],
)
def test_what_no_test_can_rest_on_is_refused(call, message):
    with pytest.raises(errors.InputError, match=message):
        call()


def test_rows_without_numbers_are_refused():
    row = datasets.student_row(datasets.ask("continue"), "an owl")
    with pytest.raises(errors.TextDataError, match=r"row 1: expected an answer that is a list of numbers, .*no number"):
        mark.read([*chats([(1, 2)]), row])
