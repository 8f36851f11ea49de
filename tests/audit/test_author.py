"""Authors of rows, on bases whose scores are known in closed form, and on numbers that are worked out by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats

from sublim_jax import errors
from sublim_jax.audit import author
from sublim_jax.audit import rows as audited
from tests.audit.scored import scores, written

CHANCES = np.array([0.5, 0.2, 0.15, 0.1, 0.05])
OTHER = np.array([0.3, 0.3, 0.2, 0.1, 0.1])


def test_a_surprise_is_the_distance_of_likelihood_and_entropy_from_what_own_rows_have():
    rows = scores([-3.0, -5.0, -1.0, -8.0], [2.0, 4.5, 1.5, 4.0])  # excesses -1, -.5, .5, -4
    draws = np.array([[0, 1], [2, 3], [3, 3]])
    np.testing.assert_allclose(author.surprises(rows, draws), [1.5, 3.5, 8.0], rtol=1e-12)
    own = scores([-1.0, -3.0, -2.0], [1.0, 2.0, 1.0])  # -2/3 in the mean
    np.testing.assert_allclose(author.surprises(rows, draws, own), [1 / 6, 13 / 6, 20 / 3], rtol=1e-12)
    np.testing.assert_allclose(author.departures(rows, draws), [-1.5, -3.5, -8.0], rtol=1e-12)  # two variances of .5


def test_the_likeliest_base_is_named_unless_a_copy_of_another_is_likelier():
    """The author finetuned the sharp base, which expects less of the rows than the flat one does."""
    noise = np.random.default_rng(0).normal(size=60)
    rows = {"sharp": scores(-10 + noise, 12.0), "flat": scores(-9 + noise, 10.0), "odd": scores(-30 + noise, 10.0)}
    own = {
        "sharp": scores(-10 + np.random.default_rng(1).normal(size=500), 12.0, first=100),
        "flat": scores(np.full(500, -7.0), 7.0, first=100),
        "odd": scores(np.full(500, -9.0) + noise[0], 10.0, first=100),
    }
    judged = author.author(rows, own, num_permutations=99)
    assert [each.base for each in judged.candidates] == ["flat", "sharp", "odd"] and judged.named == "flat"
    assert judged.least_surprised == "sharp" and judged.num_rows == 60 and "whether or not" in judged.caveat
    flat, sharp, odd = judged.candidates
    assert sharp.raw_surprise == pytest.approx(abs(120 + noise.sum())) and sharp.raw_surprise > flat.raw_surprise
    assert sharp.surprise == pytest.approx(abs(120 + noise.sum() - 60 * author.excesses(own["sharp"]).mean()))
    assert flat.logprob == pytest.approx(-540 + noise.sum())
    assert sharp.p > 0.05 and odd.p == 0.01  # the least of 99 permutations
    near, far = scores(-8 + noise), scores(-40 + noise)
    copies = {"sharp": [far, near], "flat": [far, far], "odd": [far, far]}
    with_copies = author.author(rows, own, copies=copies, num_permutations=99)
    assert with_copies.named == "sharp" and with_copies.candidates[0].logprob == pytest.approx(-480 + noise.sum())
    assert with_copies.candidates[1] == flat


def test_the_likeliest_of_a_family_is_chosen_for_a_draw_and_not_for_each_row():
    family = [scores([-1.0, -9.0, -2.0]), scores([-5.0, -2.0, -4.0])]
    draws = np.array([[0, 1], [0, 2], [1, 1]])
    np.testing.assert_allclose(author.likelihoods(family, draws), [-7.0, -3.0, -4.0], rtol=1e-12)


def test_a_permutation_p_value_is_the_share_of_all_choices_of_rows():
    """Two of five rows can be chosen in ten ways, which are listed."""
    rows, others = np.array([[4.0], [3.0]]), np.array([[1.0], [3.5], [-2.0]])
    pool = np.concatenate([rows, others])[:, 0]
    sums = np.array([pool[list(pair)].sum() for pair in itertools.combinations(range(5), 2)])
    null = audited.permuted(lambda sums: sums[:, 0], rows, others, num_permutations=4000, seed=1)
    assert null.statistic == 7.0
    two_sided = np.mean(np.abs(sums - sums.mean()) >= 7.0 - sums.mean() - 1e-9)
    for found, exact in ((null.upper, np.mean(sums >= 7.0)), (null.two_sided, two_sided)):
        assert found == pytest.approx(exact, abs=4 * float(exact * (1 - exact) / 4000) ** 0.5)  # 4 standard errors
    assert two_sided > np.mean(sums >= 7.0)


def null_p_values(rng, count: int) -> np.ndarray:
    """P-values of regular rows, each with calibration rows of its own."""
    values = []
    for trial in range(count):
        rows = written(rng, CHANCES, 20).under(CHANCES)
        regular = written(rng, CHANCES, 50, first=100).under(CHANCES)
        values.append(author.finetuned_away(rows, regular, num_permutations=99, seed=trial).p)
    return np.array(values)


@pytest.mark.slow
def test_p_values_of_regular_rows_are_uniform_though_a_filter_moved_their_scores():
    """Kolmogorov and Smirnov's test at 1 in 1,000, which those of a normal distribution around 0 fail."""
    rng = np.random.default_rng(0)
    values = null_p_values(rng, 150)
    uniform = stats.randint(1, 101).cdf  # of 99 permutations: hundredths from .01 on
    assert stats.kstest(values * 100, lambda value: uniform(np.round(value))).pvalue > 1e-3
    every = np.arange(20)[None]
    plain = [author.departures(written(rng, CHANCES, 20).under(CHANCES), every)[0] for _ in range(150)]
    assert stats.kstest(2 * stats.norm.sf(np.abs(plain)), "uniform").pvalue < 1e-6


def test_rows_of_a_finetuned_copy_depart_in_either_direction():
    rng, every = np.random.default_rng(0), np.arange(100)[None]
    regular = written(rng, CHANCES, 400, first=1000).under(CHANCES)
    surer = np.array([0.62, 0.2, 0.1, 0.05, 0.03])
    for chances, sign in ((surer, 1), (OTHER, -1)):
        rows = written(rng, chances, 100).under(CHANCES)
        found = author.finetuned_away(rows, regular)
        assert found.statistic == pytest.approx(author.departures(rows, every)[0])
        assert np.sign(found.statistic - found.regular) == sign
        assert found.p == 0.001 and (found.num_rows, found.num_regular) == (100, 400)


def bases(count: int = 30) -> tuple[dict, dict]:
    rows = {"a": scores(np.arange(count) - 50.0, 20.0), "b": scores(np.arange(count) - 40.0, 20.0)}
    return rows, {base: scores(np.arange(40) - 50.0, 20.0, first=500) for base in rows}


def test_what_no_verdict_can_rest_on_is_refused():
    rows, own = bases()
    for changed, calibration, message in (
        ({"a": rows["a"]}, own, r"author: expected scores under two or more candidate bases, got \['a'\]"),
        (rows, {"a": own["a"]}, "author: no calibration of b; the filter of the rows moves the surprise"),
        (bases(19)[0], own, "author: a: expected at least 20 rows, got 19"),
        (rows, own | {"b": own["b"].take(slice(5))}, "author: b, calibration: expected at least 20 rows, got 5"),
        (rows | {"b": bases(31)[0]["b"]}, own, "author: a has scores of 30 rows and b of 31"),
        (rows | {"b": rows["b"].take(np.arange(30)[::-1])}, own, "author: a and b have scores of different rows"),
        (rows, own | {"b": scores(np.zeros(40), first=28)}, "author: b: 2 of 30 rows are among the calibration rows"),
    ):
        with pytest.raises(errors.InputError, match=message):
            author.author(changed, calibration)
    copy = rows["a"]
    for copies, message in (
        ({"a": [copy]}, r"author: expected as many copies of every candidate, got \{'a': 1, 'b': 0\}"),
        ({"a": [copy], "b": [copy], "c": [copy]}, "author: expected as many copies of every candidate"),
        ({"a": [copy], "b": [copy.take(slice(25))]}, "author: b has scores of 30 rows and copy 0 of 25"),
        ({"a": [copy._replace(logprobs=copy.logprobs + np.inf)], "b": [copy]}, "author: copy 0 of a: the scores of"),
    ):
        with pytest.raises(errors.InputError, match=message):
            author.author(rows, own, copies=copies)
    with pytest.raises(errors.InputError, match="finetuned_away: 30 of 30 rows are among the calibration rows"):
        author.finetuned_away(rows["a"], rows["a"])
    with pytest.raises(errors.InputError, match="num_permutations"):
        author.author(rows, own, num_permutations=0)


@pytest.mark.parametrize("field", ["logprobs", "entropies", "variances"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_scores_that_are_not_finite_are_refused_by_their_row(field, value):
    rows, own = bases()
    array = getattr(rows["b"], field).copy()
    array[7] = value
    with pytest.raises(errors.InputError, match="author: b: the scores of row 7 are not finite"):
        author.author(rows | {"b": rows["b"]._replace(**{field: array})}, own)
    with pytest.raises(errors.InputError, match="finetuned_away, calibration: the scores of row 7"):
        author.finetuned_away(own["a"], rows["b"]._replace(**{field: array}))


def test_arrays_of_other_lengths_are_refused():
    rows, own = bases()
    cut = rows["a"]._replace(entropies=np.zeros(29))
    with pytest.raises(errors.InputError, match="author: a: expected one score of each kind per row"):
        author.author(rows | {"a": cut}, own)
