"""Each condition is refused by its message, and what satisfies it passes."""

import jax
import jax.numpy as jnp
import pytest

from sublim_jax.models import mlp
from sublim_jax.theory import conditions, counterexamples, kinks, loss_geometry
from tests.theory import cases

Z = jnp.array([[0.3, -1.2, 2.0], [1.0, 0.0, 0.5]])
Y = jnp.array([[2.0, 1.0, -3.0], [-1.0, 4.0, 0.0]])


@pytest.mark.parametrize("name", cases.LOSSES)
def test_our_losses_fulfil_the_contract(name):
    for dtype in (jnp.float32, jnp.float64) if name == "kl" else (jnp.float64,):
        conditions.check_loss(loss_geometry.from_name(name), Z.astype(dtype), Y.astype(dtype))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mismatched_temperature", "expected no gradient where student and teacher logits are equal"),
        ("hard_labels", "hard or smoothed labels"),
        ("negated", "symmetric positive semidefinite"),
        ("skewed", "expected no gradient"),
        ("null_space", "expected pulls outside the null space of the metric"),
    ],
)
def test_losses_outside_the_contract_are_refused(name, message):
    def null_space(student, teacher, weights=None):
        seen = jnp.stack([teacher[:, 0], jnp.ones_like(teacher[:, 0]), 0 * teacher[:, 0]], axis=-1)
        return jnp.mean(jnp.sum(seen * (student - teacher), axis=-1) ** 2 / 2)

    loss = {**counterexamples.contract_violations(), "null_space": null_space}[name]
    with pytest.raises(ValueError, match=message):
        conditions.check_loss(loss, Z, Y)


def test_temperatures():
    conditions.require_equal_temperatures(2.0, 2.0)
    with pytest.raises(ValueError, match=r"found 1\.0 for the student and 2.0 for the teacher"):
        conditions.require_equal_temperatures(1.0, 2.0)


def test_weight_decay():
    conditions.require_no_weight_decay(0.0)
    conditions.require_no_weight_decay(0.1, towards_reference=True)
    with pytest.raises(ValueError, match=r"expected 0, found 0\.1"):
        conditions.require_no_weight_decay(0.1)


def test_frozen_parameters_are_named():
    c = cases.case()
    everything = jax.tree.map(lambda leaf: jnp.ones_like(leaf, bool), c.update)
    conditions.require_trained(c.update, everything)
    without_biases = tuple(mlp.Dense(True, False) for _ in c.update)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"\[0\]\.bias .*\[2\]\.bias"):
        conditions.require_trained(c.update, without_biases)
    still = tuple(layer._replace(bias=jnp.zeros_like(layer.bias)) for layer in c.update)
    conditions.require_trained(still, without_biases)
    with pytest.raises(ValueError, match=r"\[1\]\.weight"):
        conditions.require_trained(still, (True, False, True))


def test_kinks():
    spec = mlp.MLPSpec(in_size=4, hidden_sizes=(5,), num_classes=3, num_aux=3)
    c = cases.case(spec)
    smallest = conditions.require_no_kink(kinks.pre_activations(c.reference, c.inputs, spec))
    assert smallest > 0
    with pytest.raises(ValueError, match=r"expected every pre-activation further than 1000\.0 from zero, found 25"):
        conditions.require_no_kink(kinks.pre_activations(c.reference, c.inputs, spec), margin=1000.0)
    at_zero = mlp.init(jax.random.key(0), spec)  # the paper's zero biases
    with pytest.raises(ValueError, match="found 5 within it"):
        conditions.require_no_kink(kinks.pre_activations(at_zero, jnp.zeros((1, 4)), spec))


def test_one_function_on_both_sides():
    c = cases.case()
    conditions.require_same_function(c.f, c.f, c.reference, c.inputs)
    with pytest.raises(ValueError, match="dropout, batch statistics"):
        conditions.require_same_function(c.f, lambda p, x: c.f(p, x).astype(jnp.bfloat16), c.reference, c.inputs)


def test_one_call_checks_whatever_is_given():
    c = cases.case()
    arguments = (c.f, cases.loss("kl"), c.reference, c.update, c.inputs)
    report = conditions.check(*arguments, temperatures=(1.0, 1.0), trained=(True, True, True), teacher_f=c.f)
    assert report.smallest_eigenvalue > -1e-12
    for options, message in (
        ({"temperatures": (1.0, 4.0)}, "temperature"),
        ({"weight_decay": 0.01}, "weight decay"),
        ({"trained": (True, False, True)}, "frozen"),
        ({"pre_activations": jnp.zeros(3)}, "kinks"),
        ({"teacher_f": lambda p, x: 2 * c.f(p, x)}, "equal logits"),
    ):
        with pytest.raises(ValueError, match=message):
            conditions.check(*arguments, **options)
    with pytest.raises(ValueError, match="num_logits=1"):
        conditions.check(lambda p, x: c.f(p, x)[:, :1], *arguments[1:])
