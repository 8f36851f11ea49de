"""Every optimizer by name against a few steps by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_jax.training import optimizers
from tests import strategies

START = np.array([0.5, -1.0, 2.0])
GRADIENTS = strategies.normal(0, 4, 3)
SPEC = optimizers.OptimizerSpec(learning_rate=0.1, b1=0.8, b2=0.9, eps=0.05)  # eps is large, so that its place shows
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}  # float32, four steps of numbers of order one


def by_hand(spec):
    """Parameters after each of the four gradients."""
    p, m, v, trace, path = START.copy(), 0.0, 0.0, 0.0, []
    decoupled = spec.name in ("adamw", "lion")
    for t, g in enumerate(GRADIENTS, start=1):
        g = g + (0 if decoupled else spec.weight_decay * p)
        match spec.name:
            case "adam" | "adamw":
                m, v = spec.b1 * m + (1 - spec.b1) * g, spec.b2 * v + (1 - spec.b2) * g**2
                step = m / (1 - spec.b1**t) / (np.sqrt(v / (1 - spec.b2**t)) + spec.eps)
            case "sgd":
                step = trace = spec.momentum * trace + g
            case "rmsprop":
                v = spec.b2 * v + (1 - spec.b2) * g**2
                step = trace = spec.momentum * trace + g / (np.sqrt(v) + spec.eps)
            case "lion":
                step, m = np.sign(spec.b1 * m + (1 - spec.b1) * g), spec.b2 * m + (1 - spec.b2) * g
            case "sign_sgd":
                step = np.sign(g)
        p = p - spec.learning_rate * (step + (spec.weight_decay * p if decoupled else 0))
        path.append(p)
    return np.array(path)


@pytest.mark.parametrize("changes", [{}, {"momentum": 0.7}, {"weight_decay": 0.3}], ids=str)
@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop", "lion", "sign_sgd"])
def test_steps_are_those_by_hand(name, changes):
    spec = dataclasses.replace(SPEC, name=name, **changes)
    optimizer = optimizers.build(spec)
    params = jnp.asarray(START, jnp.float32)
    state, path = optimizer.init(params), []
    for gradient in jnp.asarray(GRADIENTS, jnp.float32):
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    np.testing.assert_allclose(np.array(path), by_hand(spec), **ROUNDING)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop", "lion", "sign_sgd"])
def test_traced_settings_make_the_steps_of_known_ones(name):
    """Zeros too, which leave something out of the program when they are known."""
    params, gradients = jnp.asarray(START, jnp.float32), jnp.asarray(GRADIENTS, jnp.float32)
    traces = []

    @jax.jit
    def path(spec):
        traces.append(spec)
        optimizer = optimizers.build(spec)

        def step(carry, gradient):
            updates, state = optimizer.update(gradient, carry[1], carry[0])
            moved = optax.apply_updates(carry[0], updates)
            return (moved, state), moved

        with jax.numpy_dtype_promotion("standard"):
            return jax.lax.scan(step, (params, optimizer.init(params)), gradients)[1]

    for changes in ({}, {"momentum": 0.7, "learning_rate": 0.03}, {"weight_decay": 0.3, "b1": 0.6}):
        spec = dataclasses.replace(SPEC, name=name, **changes)
        np.testing.assert_allclose(path(spec), by_hand(spec), **ROUNDING)
    assert len(traces) == 1


def test_the_default_is_the_papers_adam():
    spec = optimizers.OptimizerSpec()
    assert (spec.name, spec.learning_rate, spec.b1, spec.b2, spec.eps) == ("adam", 3e-4, 0.9, 0.999, 1e-8)
    assert spec.momentum == spec.weight_decay == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate: must be greater than 0, got 0.0"),
        ({"b1": 1.0}, "b1: must be less than 1, got 1.0"),
        ({"b2": -0.1}, "b2: must be at least 0, got -0.1"),
        ({"momentum": 1.5}, "momentum: must be less than 1, got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        optimizers.OptimizerSpec(**changes)
