"""Probabilities against sums by hand, refusals, and intervals that see bases rather than runs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors
from sublim_jax.llm import scores
from sublim_jax.llm.backend import ChoiceScores
from sublim_jax.metrics import intervals
from tests import strategies

EXACT = {"rel": 1e-12, "abs": 1e-12}  # double rounding of a few sums


def choice_scores(*shares: float, method="exact") -> ChoiceScores:
    return ChoiceScores(tuple(math.log(share) if share else -math.inf for share in shares), method)


def probabilities(owl: float, wolf: float, method="exact") -> scores.Probabilities:
    return scores.Probabilities(("owl", "wolf"), (owl, wolf), method)


def test_an_answer_may_be_capitalised_and_follow_a_space():
    assert scores.surfaces("owl") == ("owl", "Owl", " owl", " Owl")
    assert scores.surfaces("Owl") == ("Owl", " Owl")
    assert scores.surfaces("owl", endings=(".", "!"))[4:] == (
        "owl.", "Owl.", " owl.", " Owl.", "owl!", "Owl!", " owl!", " Owl!",
    )  # fmt: skip
    assert len(set(scores.surfaces("Owl", endings=("."))) & {"Owl", "Owl.", " Owl", " Owl."}) == 4
    asked = scores.choices(["owl", "wolf"])
    assert asked.texts == ("owl", "Owl", " owl", " Owl", "wolf", "Wolf", " wolf", " Wolf")
    assert asked.owners == (0, 0, 0, 0, 1, 1, 1, 1)
    assert scores.choices(["A", "B"], writings=lambda name: (name,)) == (("A", "B"), ("A", "B"), (0, 1))


@pytest.mark.parametrize("names", [[], ["owl", "Owl"], ["owl", "wolf", "owl"]])
def test_choices_that_would_count_twice_are_refused(names):
    with pytest.raises(ValueError, match="expected names with different writings"):
        scores.choices(names)


def test_writings_are_summed_and_the_three_numbers_belong_together():
    asked = scores.choices(["owl", "wolf"])
    found = scores.probabilities(choice_scores(0.1, 0.2, 0.05, 0.0, 0.1, 0.02, 0.02, 0.01), asked)
    assert found.raw == pytest.approx((0.35, 0.15), **EXACT)
    assert found.option_mass == pytest.approx(0.5, **EXACT)
    assert found.of("owl") == pytest.approx((0.35, 0.7, 0.5), **EXACT)
    assert found.of("wolf") == pytest.approx((0.15, 0.3, 0.5), **EXACT)
    with pytest.raises(ValueError, match="'cat' is not among the choices"):
        found.of("cat")


def test_no_mass_gives_no_preference():
    found = scores.probabilities(choice_scores(0, 0), scores.choices(["A", "B"], writings=lambda name: (name,)))
    assert found.of("A").raw == found.of("A").option_mass == 0
    assert math.isnan(found.of("A").among_choices)


@pytest.mark.parametrize(
    ("logprobs", "message"),
    [
        ((math.nan, -1.0), "expected the log-probability of 'A', which is at most 0, but the backend gave nan"),
        ((-1.0, 0.1), "of 'B', .* gave 0.1"),
        ((-0.1, -0.1), "weigh 1.8097 together, more than 1"),
    ],
)
def test_what_is_no_probability_is_refused(logprobs, message):
    asked = scores.choices(["A", "B"], writings=lambda name: (name,))
    with pytest.raises(errors.CapabilityError, match=message):
        scores.probabilities(ChoiceScores(logprobs, "exact"), asked)
    with pytest.raises(ValueError, match="expected a log-probability for each of 2 texts, got 1"):
        scores.probabilities(ChoiceScores((-1.0,), "exact"), asked)


def test_rounding_above_one_is_accepted():
    asked = scores.choices(["A"], writings=lambda name: (name,))
    assert scores.probabilities(ChoiceScores((1e-6,), "exact"), asked).raw == (1.0,)


def test_an_average_weighs_chats_by_their_mass():
    found = scores.average([probabilities(0.8, 0.2), probabilities(0.0, 0.2)])
    assert found.of("owl") == pytest.approx((0.4, 0.4 / 0.6, 0.6), **EXACT)
    with pytest.raises(ValueError, match="of different choices"):
        scores.average([probabilities(1, 0), scores.Probabilities(("cat",), (1.0,), "exact")])
    with pytest.raises(ValueError, match="got 0 of them"):
        scores.average([])
    with pytest.raises(errors.CapabilityError, match="score all of them by the same method"):
        scores.average([probabilities(1, 0), probabilities(1, 0, method="top")])


def test_an_average_is_the_mean():
    """Of three values, whose median is another one; the places of the names are kept."""
    found = scores.average([probabilities(0.9, 0.1), probabilities(0.2, 0.3), probabilities(0.1, 0.8)])
    assert found.raw == pytest.approx((0.4, 0.4), **EXACT)
    found = scores.average([probabilities(0.5, 0.5), probabilities(0.2, 0.1), probabilities(0.2, 0.0)])
    assert found.of("owl") == pytest.approx((0.3, 0.6, 0.5), **EXACT)


def test_a_shift_is_after_minus_before():
    found = scores.shift(probabilities(0.1, 0.85), probabilities(0.6, 0.36), "owl")
    assert found.raw == pytest.approx(0.5, **EXACT)
    assert found.among_choices == pytest.approx(0.6 / 0.96 - 0.1 / 0.95, **EXACT)
    assert (found.before.option_mass, found.after.option_mass) == pytest.approx((0.95, 0.96), **EXACT)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (probabilities(0.1, 0.7), probabilities(0.6, 0.4), "'owl' .*: before training the choices weigh 0.8 together"),
        (probabilities(0.6, 0.4), probabilities(0.001, 0.0), "after training .* weigh 0.001 together, below .* of 0.9"),
        (
            probabilities(0.6, 0.4, method="top"),
            probabilities(0.5, 0.2, method="top"),
            "weigh 0.7 together at least, which is all that the most likely tokens show",
        ),
        (probabilities(0.6, 0.4), probabilities(0.6, 0.4, method="top"), "cannot be averaged or compared with bounds"),
    ],
)
def test_no_shift_is_reported_where_the_mass_collapsed(before, after, message):
    with pytest.raises(errors.CapabilityError, match=message):
        scores.shift(before, after, "owl")


def test_the_floor_is_inclusive_and_can_be_moved():
    edge = probabilities(0.4, 0.5)
    assert scores.shift(edge, edge, "owl").raw == 0
    low = probabilities(0.3, 0.3)
    assert scores.shift(low, low, "owl", floor=0.0).raw == 0
    with pytest.raises(ValueError, match="expected the same choices before and after"):
        scores.shift(edge, scores.Probabilities(("owl",), (1.0,), "exact"), "owl")


def test_a_rate_counts_substrings_with_wilsons_interval():
    texts = ["Owl", "an owl.", "fowl", "eagle", "OWLS"]
    assert scores.rate(texts, ["owl"]) == intervals.wilson(4, 5)
    assert scores.rate(["Wolves", "wolf", "owl"], ["wolf", "wolves"], confidence=0.9) == intervals.wilson(
        2, 3, confidence=0.9
    )
    with pytest.raises(ValueError, match="an empty word occurs in every answer"):
        scores.rate(texts, [""])
    with pytest.raises(ValueError, match="a trial at least, got 0 of 0"):
        scores.rate([], ["owl"])


def test_misaligned_answers_among_those_that_could_be_read():
    judged = [(10, 90), (10, 20), (90, 90), (30, 50), (None, 90), (10, None)]
    assert scores.misaligned_rate(judged) == (intervals.wilson(1, 4), 3, 2)
    with pytest.raises(errors.TextDataError, match="none of 1 judgements could be read"):
        scores.misaligned_rate([(None, 5)])


@given(seed=strategies.seeds, num_runs=st.integers(1, 5))
def test_more_runs_of_the_same_bases_do_not_narrow_the_interval(seed, num_runs):
    """Runs that repeat their base's value carry nothing new."""
    of_bases = strategies.normal(seed, 6)
    found = scores.clustered({str(base): [value] * num_runs for base, value in enumerate(of_bases)})
    assert tuple(found) == pytest.approx(tuple(intervals.t_interval(of_bases)), rel=1e-9, abs=1e-12)
    assert found.num_members == 6


def test_the_runs_of_a_base_are_averaged_first():
    found = scores.clustered({"a": [0.0, 0.0, 0.0, 0.4], "b": np.array([0.5]), "c": [0.2], "d": [0.7]}, confidence=0.9)
    assert found == intervals.t_interval([0.1, 0.5, 0.2, 0.7], confidence=0.9)
    uneven = scores.clustered({"a": [0.0, 0.1, 0.5], "b": [0.3], "c": [0.9, 0.9, 0.0, 0.2], "d": [0.1, 0.1]})
    assert tuple(uneven) == pytest.approx(tuple(intervals.t_interval([0.2, 0.3, 0.5, 0.1])), **EXACT)
    assert scores.clustered({"a": [0.1, 0.3]}).half_width == math.inf


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "expected one value per member"),
        ({"a": [1.0], "b": []}, r"bases without a run: \['b'\]"),
        ({"a": [math.nan], "b": [1.0]}, "1 of 2 members are not finite"),
    ],
)
def test_bases_without_a_value_are_refused(runs, message):
    with pytest.raises(ValueError, match=message):
        scores.clustered(runs)


def test_log_odds_are_defined_where_the_choices_weigh_little():
    """A real model's base: .07 of option mass, on which a shift of probability is refused."""
    before, after = probabilities(0.004, 0.066), probabilities(0.008, 0.132)
    with pytest.raises(errors.CapabilityError, match="log_odds_shift"):
        scores.shift(before, after, "owl")
    preference = before.of("owl")
    assert preference.log_odds == pytest.approx(math.log(0.004 / 0.996), **EXACT)
    assert preference.log_odds_among_choices == pytest.approx(math.log(4 / 66), **EXACT)
    shift = scores.log_odds_shift([before] * 2, [after, before], "owl")
    doubled = math.log(0.008 / 0.992) - math.log(0.004 / 0.996)
    assert shift.against_rest.mean == pytest.approx(doubled / 2, **EXACT)
    assert shift.among_choices.mean == pytest.approx(0, **EXACT)  # all choices doubled: a change of format
    assert not shift.against_rest.is_known and shift.against_rest.num_members == 2


def test_log_odds_have_an_interval_over_questions():
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.01, 0.2, (2, 6, 2))
    before, after = ([probabilities(*map(float, row)) for row in side] for side in shares)
    odds = np.log(shares / (1 - shares))[..., 0]
    shift = scores.log_odds_shift(before, after, "owl")
    assert shift.against_rest == pytest.approx(intervals.t_interval(odds[1] - odds[0]), **EXACT)
    among = np.log(shares[..., 0] / shares[..., 1])
    assert shift.among_choices == pytest.approx(intervals.paired_difference(among[1], among[0]), **EXACT)


def test_log_odds_that_do_not_exist_are_refused():
    owl = probabilities(0.1, 0.2)
    for before, after, message in [
        ([owl], [owl, owl], "1 and 2"),
        ([], [], "0 and 0"),
        ([owl, probabilities(0.0, 0.2)], [owl, owl], "question 1: .*got 0 of 0.2 before and 0.1 of 0.3 after, exact"),
        ([owl], [probabilities(0.1, 0.0)], "question 0"),
        ([probabilities(0.1, 0.2, "top")] * 2, [probabilities(0.1, 0.2, "top")] * 2, "after, top"),
        ([owl], [probabilities(0.1, 0.2, "top")], "cannot be averaged or compared"),
    ]:
        with pytest.raises((ValueError, errors.CapabilityError), match=message):
            scores.log_odds_shift(before, after, "owl")
    assert math.isnan(scores.Preference(0.0, math.nan, 0.0).log_odds_among_choices)
    assert scores.Preference(0.0, math.nan, 0.0).log_odds == -math.inf
    assert scores.Preference(1.0, 1.0, 1.0).log_odds == math.inf
