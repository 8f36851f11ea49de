"""Intervals against scipy, Wilson's by root finding, and how often they cover the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from sublim_jax.metrics import intervals
from tests import strategies

EXACT = {"rtol": 1e-9, "atol": 1e-12}  # double rounding and scipy's quantiles
counts = st.integers(4, 30)
levels = st.sampled_from([0.5, 0.9, 0.95, 0.999])


@given(seed=strategies.seeds, count=counts, confidence=levels)
def test_the_t_interval_is_scipys(seed, count, confidence):
    values = 0.5 + strategies.normal(seed, count, scale=0.1)
    found = intervals.t_interval(values, confidence=confidence)
    expected = stats.t.interval(confidence, count - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose((found.low, found.high), expected, **EXACT)
    np.testing.assert_allclose((found.mean, found.half_width), (values.mean(), np.ptp(expected) / 2), **EXACT)
    assert found.num_members == count


@given(seed=strategies.seeds, count=counts, confidence=levels)
def test_the_paired_difference_is_that_of_scipys_paired_test(seed, count, confidence):
    shared = strategies.normal(seed, count)
    first, second = shared + 0.1, shared + strategies.normal(seed + 1, count, scale=0.1)
    found = intervals.paired_difference(first, second, confidence=confidence)
    expected = stats.ttest_rel(first, second).confidence_interval(confidence)
    np.testing.assert_allclose((found.low, found.high), (expected.low, expected.high), **EXACT)
    np.testing.assert_allclose(found.mean, np.mean(first - second), **EXACT)


@given(trials=st.integers(1, 200), share=st.floats(0, 1), confidence=levels)
def test_wilsons_bounds_are_the_rates_that_the_score_test_just_accepts(trials, share, confidence):
    successes = round(share * trials)
    z = stats.norm.ppf((1 + confidence) / 2)
    rate = successes / trials

    def excess(p):
        return (rate - p) ** 2 - z**2 * p * (1 - p) / trials

    found = intervals.wilson(successes, trials, confidence=confidence)
    low = 0.0 if successes == 0 else optimize.brentq(excess, 0, rate - 1e-9, xtol=1e-15)
    high = 1.0 if successes == trials else optimize.brentq(excess, rate + 1e-9, 1, xtol=1e-15)
    np.testing.assert_allclose((found.low, found.high), (low, high), rtol=1e-9, atol=1e-9)
    assert 0 <= found.low <= found.mean == rate <= found.high <= 1
    assert found.num_members == trials


@pytest.mark.parametrize("count", [4, 7, 25])
def test_the_t_interval_covers_the_mean_as_often_as_it_says(count):
    samples = strategies.normal(0, 4000, count)
    covered = np.mean([found.low <= 0 <= found.high for found in map(intervals.t_interval, samples)])
    assert abs(covered - 0.95) < 4 * (0.95 * 0.05 / 4000) ** 0.5  # four standard errors of the simulation


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_wilsons_interval_covers_the_rate_about_as_often_as_it_says(rate):
    """Exactly, by summing binomial probabilities: near 0.95, not above it, as the interval is an approximation."""
    found = [intervals.wilson(k, 100) for k in range(101)]
    inside = [interval.low <= rate <= interval.high for interval in found]
    assert abs(stats.binom.pmf(np.arange(101), 100, rate) @ inside - 0.95) < 0.015


def test_a_pairing_removes_what_the_members_share():
    shared = strategies.normal(0, 10)
    first, second = shared + 0.01, shared + strategies.normal(1, 10, scale=0.001)
    assert intervals.paired_difference(first, second).low > 0
    assert intervals.t_interval(first).low < intervals.t_interval(second).high


def test_how_an_interval_prints():
    assert f"{intervals.t_interval([0.5, 0.6, 0.5, 0.6]):.3f}" == "0.550 ± 0.092"
    assert f"{intervals.t_interval([0.5, 0.6, 0.4]):+.3f}" == "+0.500 (n=3)"
    assert f"{intervals.t_interval([0.5]):.2f}" == "0.50 (n=1)"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_there_is_no_interval_from_fewer_than_four_values(count):
    values = np.linspace(0.2, 0.6, 5)[:count]
    for found in (intervals.t_interval(values), intervals.paired_difference(values, np.zeros(count))):
        assert found == (values.mean(), -np.inf, np.inf, count) and not found.is_known
    assert intervals.t_interval(np.linspace(0.2, 0.6, 4)).is_known and intervals.wilson(1, 3).is_known


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intervals.t_interval([]), r"expected one value per member, got shape \(0,\)"),
        (lambda: intervals.t_interval(np.ones((2, 3))), r"expected one value per member, got shape \(2, 3\)"),
        (lambda: intervals.t_interval([1, np.nan, np.inf]), "2 of 3 members are not finite; leave them out openly"),
        (lambda: intervals.t_interval([1, None]), "1 of 2 members are not finite"),
        (lambda: intervals.paired_difference([1, 2], [np.nan, 1]), "1 of 2 members are not finite"),
        (lambda: intervals.paired_difference([1, 2], [1]), "must belong to the same members, got 2 and 1 of them"),
        (lambda: intervals.wilson(1, 0), "expected 0 <= successes <= trials and a trial at least, got 1 of 0"),
        (lambda: intervals.wilson(-1, 5), "got -1 of 5"),
        (lambda: intervals.wilson(6, 5), "got 6 of 5"),
    ],
)
def test_what_has_no_interval_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
