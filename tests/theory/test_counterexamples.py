"""Every counterexample is negative where it says so, equals its closed form, and A is what the formula gives."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax.theory import counterexamples
from tests.theory.effort import examples

EXAMPLES = {example.name: example for example in counterexamples.all_of_them()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_negative_and_exact_where_it_says(name):
    example = {e.name: e for e in counterexamples.all_of_them()}[name]  # anew, in float64
    found = float(example.alignment(example.epsilon))
    assert found < 0
    np.testing.assert_allclose(found, example.exact(example.epsilon), rtol=1e-9)


@examples(10)
@given(name=st.sampled_from(sorted(EXAMPLES)), log_epsilon=st.floats(-10, 1))
def test_the_closed_form_holds_at_other_sizes(name, log_epsilon):
    example = {e.name: e for e in counterexamples.all_of_them()}[name]
    epsilon = math.exp(log_epsilon)
    np.testing.assert_allclose(example.alignment(epsilon), example.exact(epsilon), rtol=1e-8, atol=1e-12)


def test_brier_is_positive_when_small_and_negative_when_large():
    example = counterexamples.brier_large_epsilon()
    assert example.alignment(0.01) > 0
    np.testing.assert_allclose(example.alignment(1e-6) / 1e-6, example.coefficient, rtol=1e-4)
    np.testing.assert_allclose(example.alignment(100.0), -3 / 32, rtol=1e-9)


def test_without_domination_every_size_down_to_the_last_input_is_negative():
    example = counterexamples.no_domination(60)
    for exponent in range(1, 58):
        epsilon = 2.0**-exponent
        assert example.exact(epsilon) <= -3.9 * epsilon
    assert counterexamples.no_domination(8).exact(2.0**-20) > 0  # with eight inputs, far below them, the theorem holds


def test_finite_counterexamples_do_not_depend_on_the_precision():
    assert jnp.result_type(float) == jnp.float64
    assert all(example.epsilon > 0 for example in EXAMPLES.values())
