"""ReLU: the first crossing against a scan, and the exact parabola up to it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given

from sublim_jax.models import mlp
from sublim_jax.theory import kinks, one_step
from tests import strategies
from tests.theory import cases
from tests.theory.effort import examples

ONE = mlp.MLPSpec(in_size=4, hidden_sizes=(6,), num_classes=3, num_aux=3)
DEEP = mlp.MLPSpec(in_size=4, hidden_sizes=(5, 4, 3), num_classes=3, num_aux=3)


def sides(c, spec, epsilon):
    """Which side every hidden unit is on, by running the network."""
    teacher = optax.tree.add_scale(c.reference, epsilon, c.update)
    return np.concatenate([np.ravel(a) > 0 for a in kinks.pre_activations(teacher, c.inputs, spec)])


def test_pre_activations_are_those_of_the_network():
    c = cases.case(DEEP)
    found = kinks.pre_activations(c.reference, c.inputs, DEEP)
    assert [a.shape for a in found] == [(5, 5), (4, 5), (3, 5)]
    readout = c.reference[-1]
    logits = (readout.weight @ jax.nn.relu(found[-1]) + readout.bias[:, None]).T
    np.testing.assert_allclose(logits, mlp.apply(c.reference, c.inputs, DEEP), rtol=1e-12)


@pytest.mark.parametrize("spec", [ONE, DEEP], ids=["one", "deep"])
@examples(15)
@given(seed=strategies.seeds)
def test_no_unit_changes_sides_before_the_radius_and_one_does_there(spec, seed):
    c = cases.case(spec, seed=seed % 10**6)
    radius = kinks.radius(c.reference, c.update, c.inputs, spec)
    assert radius > 0
    before = sides(c, spec, 0.0)
    for share in (0.3, 0.9, 1 - 1e-6):
        np.testing.assert_array_equal(sides(c, spec, share * radius), before)
    assert np.any(sides(c, spec, radius * (1 + 1e-6)) != before)


def test_up_to_the_radius_one_hidden_layer_and_squared_error_make_an_exact_parabola():
    for seed in range(3):
        c = cases.case(ONE, seed=seed)
        radius = kinks.radius(c.reference, c.update, c.inputs, ONE)
        curve = cases.compiled(one_step.alignment_curve)(
            c.f, cases.loss("mse"), c.reference, c.update, radius * jnp.array([0.1, 0.5, 0.999]), c.inputs
        )
        np.testing.assert_allclose(curve.alignment, curve.linear + curve.quadratic, rtol=1e-10)  # rounding only


def test_a_network_without_hidden_units_has_no_kink():
    spec = mlp.MLPSpec(in_size=4, hidden_sizes=(), num_classes=3, num_aux=3)
    c = cases.case(spec)
    assert kinks.radius(c.reference, c.update, c.inputs, spec) == np.inf


def test_roots_that_are_complex_or_negative_do_not_count():
    """1 + s² has none, 1 + s a negative one, 2 − 3 s + s² has 1 and 2; each column is a polynomial by rising power."""
    assert kinks._smallest_positive_root(np.array([[1.0], [0.0], [1.0]])) == np.inf
    assert kinks._smallest_positive_root(np.array([[1.0], [1.0], [0.0]])) == np.inf
    found = kinks._smallest_positive_root(np.array([[1.0, 2.0], [0.0, -3.0], [1.0, 1.0]]))
    np.testing.assert_allclose(found, 1.0, rtol=1e-12)


def test_a_unit_that_touches_its_kink_counts():
    """(1 − s / r)² touches zero at r. Rounding splits the double root by about the square root of its size, mostly into
    a complex pair."""
    for root in np.geomspace(0.03, 30, 200):
        touching = np.array([[1.0], [-2 / root], [1 / root**2]])
        np.testing.assert_allclose(kinks._smallest_positive_root(touching), root, rtol=1e-7)


def test_a_unit_on_its_kink_and_a_smooth_activation_are_refused():
    c = cases.case(ONE)
    black = jnp.zeros_like(c.inputs)
    no_bias = tuple(layer._replace(bias=jnp.zeros_like(layer.bias)) for layer in c.reference)
    with pytest.raises(ValueError, match="zero biases and inputs of zeros"):
        kinks.radius(no_bias, c.update, black, ONE)
    with pytest.raises(ValueError, match="'tanh' has no kink"):
        kinks.radius(c.reference, c.update, c.inputs, cases.SPEC)
