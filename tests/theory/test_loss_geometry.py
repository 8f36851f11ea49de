"""The metric of each loss against its formula and against differentiation; what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import losses
from sublim_jax.models import mlp
from sublim_jax.theory import conditions, loss_geometry
from tests.theory import cases

LOGITS = np.array([[0.3, -1.2, 2.0, 0.1], [5.0, -4.0, 0.0, 1.0]])
TANGENTS = np.array([[1.0, 0.5, -0.3, 2.0], [-0.7, 1.1, 0.2, 0.4]])
ROUNDING = {"rtol": 1e-12, "atol": 1e-14}  # float64, a handful of operations on numbers of order one


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", cases.LOSSES)
def test_the_metric_is_the_formula(name, temperature):
    if "mse" in name and temperature != 1:
        pytest.skip("squared errors have no temperature")
    loss = loss_geometry.from_name(name, temperature=temperature)
    by_hand = cases.metric_by_hand(name, LOGITS, temperature)
    z, u = jnp.array(LOGITS), jnp.array(TANGENTS)
    np.testing.assert_allclose(loss.metric_product(z, u), np.einsum("bij,bj->bi", by_hand, TANGENTS), **ROUNDING)
    np.testing.assert_allclose(
        loss.metric_form(z, u), np.einsum("bi,bij,bj->b", TANGENTS, by_hand, TANGENTS), **ROUNDING
    )
    np.testing.assert_allclose(conditions.metric_matrices(loss, z), by_hand, **ROUNDING)


@pytest.mark.parametrize("name", cases.LOSSES)
def test_a_bare_function_gets_the_same_metric_by_differentiation(name):
    loss = loss_geometry.as_loss(losses.distillation_loss(name))
    named = loss_geometry.from_name(name)
    z, u = jnp.array(LOGITS), jnp.array(TANGENTS)
    np.testing.assert_allclose(loss.metric_product(z, u), named.metric_product(z, u), **ROUNDING)
    np.testing.assert_allclose(loss.metric_form(z, u), named.metric_form(z, u), **ROUNDING)
    assert loss_geometry.as_loss(named) is named


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mse", lambda z, y, t: 2 * (y - z)),
        ("centred_mse", lambda z, y, t: 2 * (y - z - (y - z).mean(axis=-1, keepdims=True))),
        ("kl", lambda z, y, t: t * (softmax(y / t) - softmax(z / t))),
        ("reverse_kl", lambda z, y, t: np.einsum("bij,bj->bi", cases.metric_by_hand("kl", z, t), y - z)),
    ],
)
def test_the_pull_is_the_formula_of_each_row_and_ignores_the_batch(name, expected):
    temperature = 1.0 if "mse" in name else 2.0
    loss = loss_geometry.from_name(name, temperature=temperature)
    found = loss_geometry.pull(loss, jnp.array(LOGITS), jnp.array(LOGITS + TANGENTS))
    np.testing.assert_allclose(found, expected(LOGITS, LOGITS + TANGENTS, temperature), **ROUNDING)


def softmax(z):
    shares = np.exp(z - z.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def test_a_loss_is_called_as_training_calls_it():
    z, y, w = jnp.array(LOGITS), jnp.array(LOGITS + TANGENTS), jnp.array([1.0, 3.0])
    for name in cases.LOSSES:
        np.testing.assert_array_equal(loss_geometry.from_name(name)(z, y, w), losses.distillation_loss(name)(z, y, w))


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jeffreys", "centred_mse"])
def test_one_logit_is_refused_where_a_constant_is_invisible(name):
    with pytest.raises(ValueError, match="num_logits=1: expected at least 2"):
        loss_geometry.from_name(name)(jnp.ones((3, 1)), jnp.ones((3, 1)))
    with pytest.raises(ValueError, match="squared error"):
        loss_geometry.pull(loss_geometry.from_name(name), jnp.ones((3, 1)), jnp.ones((3, 1)))


def test_one_logit_is_enough_for_the_squared_error():
    assert loss_geometry.from_name("mse")(jnp.ones((3, 1)), jnp.zeros((3, 1))) == 1


def test_bad_temperatures_are_refused_as_in_training():
    with pytest.raises(ValueError, match="temperature: must be greater than 0"):
        loss_geometry.from_name("kl", temperature=0.0)
    with pytest.raises(ValueError, match="has no temperature"):
        loss_geometry.from_name("mse", temperature=2.0)


def test_distilled_selects_the_logits_of_the_network():
    c = cases.case()
    whole = mlp.apply(c.reference, c.inputs, cases.SPEC)
    for which, columns in (("aux", slice(3, None)), ("class", slice(0, 3)), ("all", slice(None))):
        np.testing.assert_array_equal(
            loss_geometry.distilled(cases.SPEC, which)(c.reference, c.inputs), whole[:, columns]
        )


def test_a_network_without_those_logits_or_without_a_forward_mode_is_refused():
    with pytest.raises(ValueError, match="num_aux=0: there are none"):
        loss_geometry.distilled(mlp.MLPSpec(num_aux=0), "aux")
    with pytest.raises(ValueError, match="expected 'float32'"):
        loss_geometry.distilled(mlp.MLPSpec(precision="bfloat16"))
