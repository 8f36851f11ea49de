"""The study `forecast`: what students see and where they start, by hand; a run of two cases, end to end."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.evidence import forecast, forecast_cases
from experiments.evidence.forecast_cases import CASES, HIDDEN, Case
from experiments.study import Source
from sublim_jax.training import optimizers
from sublim_jax.training.loop import TrainPhase

ANSWERS = jnp.asarray(np.random.default_rng(0).standard_normal((6, 10)), jnp.float32)


def shown(case, **answers):
    """Targets of a case with four classes and six auxiliary logits."""
    given = {"answers": ANSWERS, "own_answers": 0 * ANSWERS, "other_answers": ANSWERS + 100} | answers
    return np.asarray(forecast_cases.targets(jax.random.key(1), case, num_classes=4, **given))


def test_names_of_cases_differ_and_every_option_occurs():
    assert len({case.name for case in CASES}) == len(CASES) == 26
    for field in ("inputs", "teacher", "target", "start", "loss"):
        annotation = Case.__annotations__[field]
        assert {getattr(case, field) for case in CASES} == set(annotation.__args__)


def test_only_the_first_auxiliary_logits_are_shown():
    targets = shown(Case("", num_aux=2))
    np.testing.assert_array_equal(targets[:, 4:6], ANSWERS[:, 4:6])
    assert np.all(np.delete(targets, [4, 5], axis=1) == np.float32(HIDDEN))


def test_the_two_largest_are_the_largest_of_those_that_are_shown():
    targets = shown(Case("", num_aux=5, target="top two"))
    for row, answers in zip(targets, np.asarray(ANSWERS), strict=True):
        places = 4 + np.argsort(answers[4:9])[-2:]
        assert set(np.flatnonzero(row != np.float32(HIDDEN))) == set(places)


def test_targets_are_changed_as_their_name_says():
    rounded = shown(Case("", num_aux=6, target="rounded"))[:, 4:]
    np.testing.assert_array_equal(rounded, np.round(np.asarray(ANSWERS[:, 4:])))
    mixed = shown(Case("", num_aux=6, target="half another family"))[:, 4:] - np.asarray(ANSWERS[:, 4:])
    np.testing.assert_allclose(mixed[:, 0], [0, 100, 0, 100, 0, 100], atol=1e-4)
    shuffled = shown(Case("", num_aux=6, target="shuffled"))[:, 4:]
    assert sorted(map(tuple, shuffled)) == sorted(map(tuple, np.asarray(ANSWERS[:, 4:])))
    assert not np.array_equal(shuffled, ANSWERS[:, 4:])
    rows = jnp.asarray(np.random.default_rng(1).standard_normal((4000, 10)), jnp.float32)
    noisy = shown(Case("", num_aux=6, target="noisy"), answers=rows, own_answers=-rows, other_answers=rows)[:, 4:]
    assert np.std(noisy - np.asarray(rows[:, 4:])) == pytest.approx(2.0, rel=0.02)  # a residual of 2 sd; 24,000 draws


@pytest.mark.slow
def test_images_have_the_standard_deviation_of_uniform_noise_unless_named_otherwise():
    real = jnp.asarray(np.random.default_rng(2).integers(0, 256, (50, 784)), jnp.uint8)
    spread = {
        kind: float(jnp.std(forecast_cases.draw_inputs(jax.random.key(0), kind, 200, real)))
        for kind in ("uniform", "gaussian", "blurred", "sparse", "dim")
    }
    expected = {"uniform": 1.0, "gaussian": 1.0, "blurred": 1.0, "sparse": 0.05**0.5, "dim": 0.3}
    for kind, value in spread.items():  # 156,800 pixels; blurred ones are correlated
        assert value == pytest.approx(expected[kind] / 3**0.5, rel=0.03), kind
    drawn = forecast_cases.draw_inputs(jax.random.key(0), "real", 50, real)
    np.testing.assert_allclose(drawn, (np.asarray(real, float) - 127.5) / 127.5, atol=1e-6)


@pytest.mark.slow
def test_starts():
    spec = forecast.SPEC
    reference, other, drawn = (spec.init(jax.random.key(seed)) for seed in range(3))
    arguments = jax.random.key(5), reference, other, drawn
    images = jax.random.normal(jax.random.key(9), (5, 784))

    def start(kind):
        key, *params = arguments
        return forecast_cases.start_params(key, kind, *params)

    assert start("own") is reference
    assert start("other") is other
    np.testing.assert_allclose(
        start("own + 0.3 other")[0].weight, reference[0].weight + 0.3 * drawn[0].weight, rtol=1e-6
    )
    permuted = start("own, neurons permuted")
    assert not np.allclose(permuted[0].weight, reference[0].weight)
    np.testing.assert_allclose(spec.apply(permuted, images), spec.apply(reference, images), atol=1e-4)


TINY = forecast.ForecastConfig(
    num_calibration=1, num_held_out=0, num_images=96, num_repeats=4, num_probes=40, num_tangent=1,
    phase=TrainPhase(num_epochs=2, batch_size=32, optimizer=optimizers.OptimizerSpec(learning_rate=1e-3)),
    checkpoints=(2, 3), prefixes=(3,), cases=("10 auxiliary logits", "the reference as the teacher"),
)  # fmt: skip


@pytest.mark.slow
def test_a_reference_end_to_end(small_digits):
    """With the reference as the teacher nothing is to be learnt, so that nothing moves and no pilot gains."""
    source = Source("synthetic-digits", "", None, small_digits)
    triples = forecast.measure(source, TINY, "calibration 0", lambda activity: None)
    assert list(triples) == list(TINY.cases)
    null, taught = triples["the reference as the teacher"], triples["10 auxiliary logits"]
    assert abs(null["prefix"]["3"]) < 0.02  # Adam turns rounding into steps of its own size
    assert abs(null["prefix"]["3"]) < 0.5 * abs(taught["prefix"]["3"])
    assert null["start"] == taught["start"]
    assert null["scores"]["dot"] == pytest.approx(0, abs=1e-3)
    assert taught["prefix"]["3"] != 0
    assert set(taught["pilot"]) == {"2", "3"}
    assert taught["pilot"]["3"]["low"] < taught["pilot"]["3"]["gain"] < taught["pilot"]["3"]["high"]
    assert np.isfinite(taught["tangent_loss"])
    again = forecast.measure(
        source, dataclasses.replace(TINY, cases=TINY.cases[:1]), "calibration 0", lambda activity: None
    )
    assert again["10 auxiliary logits"] == taught
