"""Pilots: what they say of a trait is compared with closed forms, with simulations, and with plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors, losses
from sublim_jax.audit import forecast
from sublim_jax.audit.forecast import Trait
from sublim_jax.metrics import verdicts
from sublim_jax.models import mlp

SPEC = mlp.MLPSpec(in_size=5, hidden_sizes=(7,), num_classes=3, num_aux=4, activation="tanh")


def judged(gains, *, threshold=0.1, start=2.0, null=1.7):
    """A forecast whose losses after the null exceed those after the data by `gains`, (repeat, probe)."""
    gains = np.asarray(gains, float)
    after_null = null + np.arange(gains.shape[1]) / 7 + np.zeros_like(gains)
    at_start = start + np.arange(gains.shape[1]) / 7
    return verdicts.judge("owl", at_start, after_null - gains, after_null, threshold=threshold)


def test_the_gain_is_the_contrast_to_the_null_and_not_to_the_start():
    forecasted = judged(np.full((4, 6), 0.25))
    assert forecasted.gain.mean == pytest.approx(0.25)
    assert (forecasted.from_null, forecasted.from_data) == (pytest.approx(0.3), pytest.approx(0.55))
    assert (forecasted.num_repeats, forecasted.num_probes, forecasted.trait) == (4, 6, "owl")


@pytest.mark.parametrize(
    ("level", "noise", "verdict"),
    [(0.3, 0.01, "transmits"), (0.02, 0.01, "not seen"), (-0.4, 0.01, "not seen"), (0.1, 0.2, "cannot tell")],
)
def test_verdicts(level, noise, verdict):
    values = level + noise * np.random.default_rng(3).standard_normal((4, 8))
    assert judged(values).verdict == verdict


def test_a_verdict_needs_the_whole_interval_on_one_side():
    values = 0.13 + 0.1 * np.random.default_rng(5).standard_normal((4, 8))
    assert values.mean() > 0.1
    assert judged(values).verdict == "cannot tell"


def test_the_interval_covers_the_mean_of_crossed_samples():
    """Rows and columns have effects of their own: coverage of 95 % intervals, by simulation with standard errors."""
    rng, hits, trials = np.random.default_rng(0), 0, 2000
    for _ in range(trials):
        values = rng.standard_normal((5, 1)) * 0.7 + rng.standard_normal((1, 9)) + 0.5 * rng.standard_normal((5, 9))
        interval = verdicts.crossed_interval(values)
        hits += interval.low <= 0 <= interval.high
    assert hits / trials > 0.95 - 3 * (0.95 * 0.05 / trials) ** 0.5  # three standard errors of the simulation
    assert hits / trials < 0.985  # nor is it far too wide


def test_without_an_effect_of_probes_the_interval_is_students_over_repeats():
    """Columns that are equal add no variance, and Welch's degrees of freedom are those of the rows."""
    rows = np.array([0.3, 0.5, 0.1, 0.4, 0.9])
    interval = verdicts.crossed_interval(np.repeat(rows[:, None], 6, axis=1))
    half = 2.7764451 * rows.std(ddof=1) / 5**0.5  # t(0.975, 4), from a table
    assert interval.low == pytest.approx(rows.mean() - half, rel=1e-6)
    assert interval.high == pytest.approx(rows.mean() + half, rel=1e-6)


def test_fewer_than_four_repeats_give_an_interval_over_probes_alone():
    values = np.random.default_rng(1).standard_normal((3, 10))
    means = values.mean(axis=0)
    interval = verdicts.crossed_interval(values)
    assert interval.half_width == pytest.approx(2.2621572 * means.std(ddof=1) / 10**0.5, rel=1e-6)  # t(0.975, 9)


def test_equal_values_have_an_interval_of_no_width():
    assert verdicts.crossed_interval(np.full((4, 5), 0.2)) == (pytest.approx(0.2), pytest.approx(0.2),
                                                               pytest.approx(0.2), 5)  # fmt: skip


def test_a_pilot_trains_data_and_null_with_the_same_random_numbers():
    """A student that moves by its data plus noise of its key: the noise is common, so only the data differ."""
    calls = []

    def train(key, start, rows):
        calls.append((jax.random.key_data(key).tolist(), float(rows)))
        return start - rows - jax.random.normal(key)

    trait = Trait("distance", lambda params: params * jnp.ones(5) + jnp.arange(5.0))
    forecasts = forecast.pilot(
        jax.random.key(1), train, jnp.asarray(3.0), jnp.asarray(0.5), jnp.asarray(0.2), [trait], threshold=0.1,
        num_repeats=4,
    )  # fmt: skip
    gain = forecasts["distance"].gain
    assert gain.mean == pytest.approx(0.3, abs=1e-6)  # float32 rounding
    assert gain.half_width < 1e-5
    keys = [key for key, _ in calls]
    assert keys[::2] == keys[1::2]
    assert len({tuple(key) for key in keys}) == 4
    assert [rows for _, rows in calls] == pytest.approx([0.5, 0.2] * 4)


def test_traits_do_not_mix():
    first, second = (
        Trait("a", lambda params: params * jnp.ones(4)),
        Trait("b", lambda params: -2 * params * jnp.ones(4)),
    )
    forecasts = forecast.pilot(
        jax.random.key(0), lambda key, start, rows: start - rows, jnp.asarray(1.0), 1.0, 0.0, [first, second],
        threshold=0.5,
    )  # fmt: skip
    assert {name: each.gain.mean for name, each in forecasts.items()} == {"a": 1.0, "b": -2.0}
    assert [each.verdict for each in forecasts.values()] == ["transmits", "not seen"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(5), np.zeros((4, 6)), np.zeros((4, 6))), "expected losses at the start"),
        ((np.zeros(5), np.zeros((4, 5)), np.zeros((3, 5))), "expected losses at the start"),
        ((np.zeros(3), np.zeros((4, 3)), np.zeros((4, 3))), r"3 probe\(s\)"),
        ((np.zeros(5), np.full((4, 5), np.nan), np.zeros((4, 5))), "20 of 20 losses after the data are not finite"),
        ((np.full(5, np.inf), np.zeros((4, 5)), np.zeros((4, 5))), "5 of 5 losses at the start"),
    ],
)
def test_losses_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(errors.InputError, match=message):
        verdicts.judge("owl", *arguments, threshold=0.1)


@pytest.mark.parametrize("threshold", [0.0, -1.0, np.nan])
def test_a_threshold_is_positive(threshold):
    with pytest.raises(errors.InputError, match="expected a positive gain"):
        judged(np.zeros((4, 5)), threshold=threshold)


def test_a_pilot_refuses_traits_of_one_name_and_no_repeat():
    trait = Trait("a", lambda params: jnp.zeros(4))
    arguments = (jax.random.key(0), lambda key, start, rows: start, jnp.zeros(()), 1.0, 0.0)
    for traits in ([], [trait, trait]):
        with pytest.raises(errors.InputError, match="each of its own name"):
            forecast.pilot(*arguments, traits, threshold=0.1)
    with pytest.raises(errors.InputError, match="num_repeats=0"):
        forecast.pilot(*arguments, [trait], threshold=0.1, num_repeats=0)


@given(seed=st.integers(0, 2**32 - 1))
def test_the_threshold_of_a_calibration_is_the_best_cut(seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(12) < rng.integers(1, 12))
    gains = rng.standard_normal(12) + 1.5 * labels
    calibration = verdicts.calibrate(gains, 3 * gains, labels)

    def balanced(cut):
        return (np.mean(gains[labels] > cut) + np.mean(gains[~labels] <= cut)) / 2

    best = max(balanced((a + b) / 2) for a, b in zip(np.sort(gains), np.sort(gains)[1:], strict=False))
    assert balanced(calibration.threshold) == pytest.approx(best)
    assert calibration.slope == pytest.approx(3.0)
    assert calibration.right == np.mean((gains > calibration.threshold) == labels)


def test_a_calibration_takes_the_middle_of_the_widest_gap():
    calibration = verdicts.calibrate([0.0, 0.1, 0.9, 1.0], [0, 0, 2, 2], [False, False, True, True])
    assert calibration.threshold == pytest.approx(0.5)
    assert calibration.num_runs == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0, 2.0], [True, True]), "runs of both kinds"),
        (([1.0, 2.0], [1.0], [True, False]), "for each run"),
        (([1.0, np.nan], [1.0, 2.0], [True, False]), "finite gains"),
    ],
)
def test_runs_that_cannot_calibrate_are_refused(arguments, message):
    with pytest.raises(errors.InputError, match=message):
        verdicts.calibrate(*arguments)


def test_a_shuffled_null_has_every_target_once_and_elsewhere():
    targets = jnp.arange(40.0).reshape(20, 2)
    shuffled = np.asarray(forecast.shuffled_null(jax.random.key(2), targets))
    assert sorted(map(tuple, shuffled)) == sorted(map(tuple, np.asarray(targets)))
    assert np.mean(shuffled[:, 0] == np.asarray(targets)[:, 0]) < 0.3


def test_first_order_scores_are_derivatives_along_first_steps():
    """dot: the trait's decrease per unit of a step of gradient descent; sign: of a step of signs. In float32."""
    params = SPEC.init(jax.random.key(0))
    images, labels = jax.random.normal(jax.random.key(1), (30, 5)), jnp.arange(30) % 3
    targets = jax.random.normal(jax.random.key(2), (30, 4))

    def data_loss(params):
        return losses.squared_error(SPEC.apply(params, images)[:, 3:], targets)

    def trait_loss(params):
        return losses.cross_entropy(SPEC.apply(params, images)[:, :3], labels)

    gradient, trait_gradient = jax.jit(lambda params: (jax.grad(data_loss)(params), jax.grad(trait_loss)(params)))(
        params
    )
    scores = forecast.first_order_scores(gradient, trait_gradient)
    for name, direction in (("dot", gradient), ("sign", jax.tree.map(jnp.sign, gradient))):
        _, slope = jax.jit(lambda *along: jax.jvp(trait_loss, (params,), along))(jax.tree.map(jnp.negative, direction))
        assert float(scores[name]) == pytest.approx(-float(slope), rel=1e-4)
    flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
            for tree in (gradient, trait_gradient)]  # fmt: skip
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert float(scores["cosine"]) == pytest.approx(cosine, rel=1e-4)
    nothing = forecast.first_order_scores(gradient, jax.tree.map(jnp.zeros_like, gradient))
    assert float(nothing["cosine"]) == 0


def test_scores_are_cut_to_what_the_data_reach():
    first, second = {"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([3.0, 4.0])}
    scores = forecast.first_order_scores(first, second, reached={"a": jnp.array([1.0, 0.0])})
    assert float(scores["dot"]) == 3.0
