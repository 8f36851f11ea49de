"""Epsilon*: enclosures hold what they must, radii are honest, and beyond a known zero nothing is certified."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.theorem import problems
from sublim_jax.models import heads, mlp
from sublim_jax.theory import certificate, one_step
from tests import strategies
from tests.theory import cases
from tests.theory.effort import examples

SPECS = {
    name: mlp.MLPSpec(in_size=4, hidden_sizes=(5, 6), num_classes=3, num_aux=3, activation=name)
    for name in ("tanh", "gelu", "silu", "identity")
}


def derivatives(c, name, grid):
    """g, g' and g'' on a grid by JAX."""
    function = _compiled(c.f, name)
    return [np.asarray(part) for part in function(c.reference, c.update, c.inputs, jnp.asarray(grid))]


_CACHE = {}


def _compiled(f, name):
    if (f, name) not in _CACHE:
        loss = cases.loss(name)

        def at(reference, update, inputs, epsilon):
            def value(e):
                return one_step.alignment_forward(f, loss, reference, update, e, inputs)

            slope = jax.jvp(value, (epsilon,), (1.0,))[1]
            return value(epsilon), slope, one_step.curvature(f, loss, reference, update, epsilon, inputs)

        _CACHE[f, name] = jax.jit(
            jax.vmap(at, in_axes=(None, None, None, 0)), compiler_options=problems.quick_compilation()
        )
    return _CACHE[f, name]


@pytest.mark.parametrize(("activation", "loss"), [("tanh", "kl"), ("gelu", "mse"), ("silu", "jeffreys")])
@examples(40)
@given(seed=strategies.seeds, start=st.sampled_from([0.0, 0.3, 2.0]), width=st.sampled_from([1e-3, 0.1, 1.0]))
def test_enclosures_contain_the_alignment_and_its_derivatives(activation, loss, seed, start, width):
    c = cases.case(SPECS[activation], seed=seed)
    chosen = heads.selection("aux", num_classes=3)
    problem = certificate._Enclosure(c.reference, c.update, c.inputs, activation, chosen, loss, 1.0)
    boxes = problem.enclosures(start, start + width)
    for box, values in zip(boxes, derivatives(c, loss, np.linspace(start, start + width, 20)), strict=True):
        slack = 1e-12 * (1 + np.abs(values))  # rounding of JAX, not of the enclosure
        assert np.all((box.low <= values + slack) & (values - slack <= box.high))


@pytest.mark.parametrize("loss", ["kl", "jeffreys", "centred_mse"])
def test_a_radius_is_honest_and_not_timid(loss):
    """Positive all the way, and at least as far as the Taylor bound with one sampled g'' over the whole way."""
    c = cases.case()
    found = certificate.certified(c.reference, c.update, c.inputs, spec=cases.SPEC, loss=loss, limit=8.0)
    coefficient = cases.compiled(one_step.alignment_coefficient)(c.f, cases.loss(loss), c.reference, c.update, c.inputs)
    np.testing.assert_allclose(found.coefficient_low, coefficient, rtol=1e-10)
    assert found.coefficient_low <= coefficient * (1 + 1e-14)
    grid = np.linspace(1e-3, 1, 200) * found.radius
    values, _, bends = derivatives(c, loss, grid)
    assert np.all(values > 0)
    taylor = grid[np.argmax(coefficient + grid / 2 * np.minimum(np.minimum.accumulate(bends), 0) <= 0)]
    assert found.radius >= min(taylor, 8.0)


def test_the_march_stops_before_a_known_sign_change():
    """An identity network of two layers along D from 0 to −: its logits are (1 − ε) (1 − ε) w x, a parabola in ε.

    With one unit a layer, weights 1 and D = (−1, −1): y − z = (ε² − 2ε) x, v = −2x and mse gives g = 4 (2ε − ε²) x²,
    which is positive exactly on (0, 2).
    """
    spec = mlp.MLPSpec(in_size=1, hidden_sizes=(1,), num_classes=1, num_aux=1, activation="identity")
    one, none = jnp.ones((1, 1)), jnp.zeros(1)
    readout = jnp.array([[0.0], [1.0]])
    reference = (mlp.Dense(one, none), mlp.Dense(readout, jnp.zeros(2)))
    update = (mlp.Dense(-one, none), mlp.Dense(-readout, jnp.zeros(2)))
    found = certificate.certified(reference, update, one, spec=spec, loss="mse", max_evaluations=400)
    assert 1.99 < found.radius < 2
    assert not found.limit_reached
    sampled = cases.compiled(certificate.sampled)(
        cases.distilled(spec), cases.loss("mse"), reference, update, jnp.linspace(0.05, 3.0, 60), one
    )
    # g'' = −8 throughout and A = 8: Taylor is exact and positive below 2; the first grid point beyond is 2.05.
    np.testing.assert_allclose([sampled.taylor, sampled.sign_change], [1.95, 2.05], rtol=1e-9)


@pytest.mark.parametrize("first_step", [0.003, 0.01, 0.3, 0.7])
def test_the_march_does_not_pass_a_dip_that_it_could_jump_over(first_step):
    """Three layers of one identity unit, whose logit along D is ε (1 − ε) (1 − ε / 1.02), so that v = 1 and mse gives
    g = 2 ε (1 − ε) (1 − ε / 1.02): negative on (1, 1.02) alone, and growing without bound beyond."""
    spec = mlp.MLPSpec(in_size=1, hidden_sizes=(1, 1), num_classes=1, num_aux=1, activation="identity")

    def layers(first, second, readout):
        ends = jnp.array([[0.0], [readout]]), jnp.zeros(2)
        return tuple(
            mlp.Dense(*parts)
            for parts in ((jnp.array([[first]]), jnp.zeros(1)), (jnp.array([[second]]), jnp.zeros(1)), ends)
        )

    reference, update = layers(0.0, 1.0, 1.0), layers(1.0, -1.0, -1 / 1.02)
    found = certificate.certified(
        reference,
        update,
        jnp.ones((1, 1)),
        spec=spec,
        loss="mse",
        first_step=first_step,
        limit=3.0,
        max_evaluations=400,
    )
    assert 0.9 < found.radius <= 1
    assert not found.limit_reached


class Enclosed:
    """A problem whose lower bounds on g, g' and g'' over an interval are a function of it, and A is 1."""

    coefficient_low = 1.0

    def __init__(self, bounds):
        self.bounds, self.num_evaluations = bounds, 0

    def enclose(self, low, high):
        self.num_evaluations += 1
        return self.bounds(low, high)


def test_a_bound_that_is_positive_by_rounding_alone_proves_nothing():
    """A + h / 2 g'' is 2^-53 however small h is: less than what its two operations can be wrong by."""
    problem = Enclosed(lambda low, high: (0.0, 1.0, -2 * (1 - 2**-53) / (high - low) if high > low else 0.0))
    assert certificate._extend(problem, 1.0, 0.01, 80).radius == 0  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("value_low", [0.0, -1e-3])
def test_the_march_ends_where_the_alignment_is_not_known_to_be_positive(value_low):
    """At 0.01 the value has no positive lower bound, though the slope would carry it up again."""
    problem = Enclosed(lambda low, high: (value_low, 1.0, 0.0))
    assert certificate._extend(problem, 1.0, 0.01, 80).radius == 0.01  # pyright: ignore[reportArgumentType]


def test_an_affine_network_is_certified_up_to_the_limit():
    spec = mlp.MLPSpec(in_size=4, hidden_sizes=(), num_classes=3, num_aux=3, activation="identity")
    c = cases.case(spec)
    found = certificate.certified(c.reference, c.update, c.inputs, spec=spec, loss="mse", limit=100.0)
    assert found.limit_reached
    assert found.radius == 100.0


def test_a_teacher_nobody_sees_has_no_radius():
    c = cases.case()
    nothing = jax.tree.map(jnp.zeros_like, c.update)
    found = certificate.certified(c.reference, nothing, c.inputs, spec=cases.SPEC)
    assert found.radius == 0
    assert found.coefficient_low <= 0


def test_float32_parameters_are_certified_as_the_numbers_they_are():
    c = cases.case()
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (c.reference, c.update, c.inputs))
    with jax.enable_x64(False):
        found = certificate.certified(*single, spec=cases.SPEC, loss="mse", limit=1.0)
    double = certificate.certified(c.reference, c.update, c.inputs, spec=cases.SPEC, loss="mse", limit=1.0)
    np.testing.assert_allclose(found.coefficient_low, double.coefficient_low, rtol=1e-5)


def test_the_temperature_is_that_of_the_loss():
    c = cases.case()
    found = certificate.certified(c.reference, c.update, c.inputs, spec=cases.SPEC, temperature=3.0, limit=0.1)
    coefficient = cases.compiled(one_step.alignment_coefficient)(
        c.f, cases.loss("kl", 3.0), c.reference, c.update, c.inputs
    )
    np.testing.assert_allclose(found.coefficient_low, coefficient, rtol=1e-10)


def test_what_cannot_be_certified_is_refused():
    c = cases.case()
    relu = mlp.MLPSpec(in_size=4, hidden_sizes=(5, 6), num_classes=3, num_aux=3)
    with pytest.raises(ValueError, match=r"activation='relu'.*kinks\.radius"):
        certificate.certified(c.reference, c.update, c.inputs, spec=relu)
    single = mlp.MLPSpec(in_size=4, hidden_sizes=(), num_classes=2, num_aux=1, activation="tanh")
    d = cases.case(single)
    with pytest.raises(ValueError, match="num_logits=1"):
        certificate.certified(d.reference, d.update, d.inputs, spec=single)
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, c.update)
    with pytest.raises(ValueError, match="update: expected finite parameters"):
        certificate.certified(c.reference, broken, c.inputs, spec=cases.SPEC)
