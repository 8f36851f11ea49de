"""Names of traits from gains under lenses, on numbers that are worked out by hand and on draws without a trait."""

import statistics

import numpy as np
import pytest
from scipy import stats

from sublim_jax import errors
from sublim_jax.audit import lens
from sublim_jax.audit.lens import Lensed
from tests.audit.scored import scores


def lensed(base, *, first: int = 0, **gains) -> Lensed:
    """Rows with these log-probabilities under the base, and gains under lenses."""
    base = np.asarray(base, float)
    return Lensed(scores(base, first=first), {trait: scores(base + gain, first=first) for trait, gain in gains.items()})


def test_a_gain_is_standardised_by_regular_rows():
    rows, regular = np.array([3.0, 1.0, 2.0, 7.0]), np.array([0.0, 2.0, 1.0, -1.0, 4.0])
    mean, deviation = statistics.mean(regular), statistics.stdev(regular)
    expected = [(2.0 - mean) / deviation * 2**0.5, (4.5 - mean) / deviation * 2**0.5]
    np.testing.assert_allclose(lens.standardised(rows, np.array([[0, 1], [2, 3]]), regular), expected, rtol=1e-12)
    assert lens.gains(lensed([-5.0, -3.0], owl=[1.0, 2.0]))["owl"].tolist() == [1.0, 2.0]


def test_the_trait_is_the_lens_of_the_largest_standardised_gain():
    """Oak's gains are larger and differ more between rows; owl's are more than any regular row's."""
    rng = np.random.default_rng(0)
    base, noise, regular_noise = rng.normal(-20, 5, 80), rng.normal(size=(2, 80)), rng.normal(size=(2, 300))
    rows = lensed(base, owl=0.1 * noise[0] + 0.1, oak=3 * noise[1] + 1, ash=-2 + noise[0])
    regular = lensed(
        rng.normal(-20, 5, 300), first=100, owl=0.1 * regular_noise[0], oak=3 * regular_noise[1], ash=regular_noise[0]
    )
    naming = lens.name_trait(rows, regular)
    assert [score.trait for score in naming.scores] == ["owl", "oak", "ash"] and naming.named == "owl"
    expected = {
        trait: (gain.mean() - own.mean()) / own.std(ddof=1) * 80**0.5
        for (trait, gain), own in zip(lens.gains(rows).items(), lens.gains(regular).values(), strict=True)
    }
    for score in naming.scores:
        assert score.z == pytest.approx(expected[score.trait], rel=1e-9)
        assert score.gain == pytest.approx(lens.gains(rows)[score.trait].mean())
    assert (naming.p, naming.num_rows) == (0.001, 80)
    assert "finetuned like the teacher" in naming.caveat and "the name is not" in naming.caveat


def test_regular_rows_have_uniform_p_values_under_the_best_of_several_lenses():
    """Kolmogorov and Smirnov's test at 1 in 1,000. The best of four without allowance would be too small too often."""
    rng, values, plain = np.random.default_rng(0), [], []
    traits = ("owl", "oak", "ash", "eagle")
    for trial in range(150):
        rows, regular = (
            lensed(rng.normal(size=count), first=first, **{trait: rng.normal(size=count) ** 2 for trait in traits})
            for count, first in ((20, 0), (40, 50))
        )
        naming = lens.name_trait(rows, regular, num_permutations=99, seed=trial)
        values.append(naming.p)
        plain.append(stats.norm.sf(naming.scores[0].z))
    uniform = stats.randint(1, 101).cdf
    assert stats.kstest(np.array(values) * 100, lambda value: uniform(np.round(value))).pvalue > 1e-3
    assert np.mean(np.array(plain) < 0.05) > 0.1 > np.mean(np.array(values) < 0.05)


def test_rows_that_gain_less_than_regular_ones_carry_nothing():
    """Under every lens: the p-value looks for gains alone."""
    rng = np.random.default_rng(0)
    rows = lensed(rng.normal(size=40), owl=rng.normal(-1, 1, 40), oak=rng.normal(-1, 1, 40))
    regular = lensed(rng.normal(size=80), first=100, owl=rng.normal(size=80), oak=rng.normal(size=80))
    assert lens.name_trait(rows, regular).p > 0.99


def test_what_cannot_be_named_is_refused():
    base = np.linspace(-9, -5, 25)
    steps = np.arange(25) / 9
    rows, regular = lensed(base, owl=steps, oak=0.2), lensed(base, first=50, owl=steps, oak=steps**2)
    others = rows._replace(lenses={**rows.lenses, "oak": scores(base, first=3)})
    broken = rows._replace(lenses={**rows.lenses, "oak": scores(np.where(base > -6, np.nan, base))})
    few = lensed(base[:19], owl=0.1, oak=0.2)
    for first, second, message in (
        (lensed(base, owl=0.1), regular, r"name_trait: expected lenses of two or more traits, got \['owl'\]"),
        (rows, lensed(base, first=50, owl=0.1, ash=0.1), r"scored by lenses of \['oak', 'owl'\] and the regular rows"),
        (few, regular, "name_trait: rows under the base: expected at least 20 rows, got 19"),
        (rows, few, "name_trait: regular rows under the base: expected at least 20 rows"),
        (others, regular, "name_trait: rows: the base and the lens of oak have scores of different rows"),
        (broken, regular, "name_trait: rows under the lens of oak: the scores of row 19 are not finite"),
        (rows, lensed(np.full(25, -9), first=50, owl=steps, oak=0), "the lens of oak gains 0 nats on every regular"),
        (rows, rows, "name_trait: 25 of 25 rows are among the calibration rows"),
    ):
        with pytest.raises(errors.InputError, match=message):
            lens.name_trait(first, second)
