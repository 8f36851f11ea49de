"""Flax and Equinox modules as networks: the module's own numbers, in one program for many members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from sublim_jax import errors
from sublim_jax.models import adapters

EXAMPLE = np.zeros((3, 4, 2), np.float32)
INPUTS = np.random.default_rng(0).normal(size=(5, 4, 2)).astype("f")
KEY = jax.random.key(3)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(7)(linen.tanh(linen.LayerNorm()(linen.Dense(6)(x.reshape(len(x), -1)))))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.readout = nnx.Linear(8, 6, rngs=rngs), nnx.Linear(6, 7, rngs=rngs)

    def __call__(self, x):
        return self.readout(jnp.tanh(self.hidden(x.reshape(len(x), -1))))


def check(network, expected):
    assert (network.num_classes, network.num_aux) == (4, 3)
    params = jax.jit(network.init)(KEY)
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(params))
    np.testing.assert_allclose(network.apply(params, INPUTS), expected, rtol=1e-5, atol=1e-6)
    many = jax.vmap(network.init)(jax.random.split(KEY, 2))
    assert jax.vmap(network.apply, (0, None))(many, INPUTS).shape == (2, 5, 7)
    gradient = jax.grad(lambda p: jnp.sum(network.apply(p, INPUTS) ** 2))(params)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    assert hash(network) == hash(network)


@pytest.mark.slow
def test_a_linen_module():
    check(
        adapters.from_flax(Linen(), EXAMPLE, num_classes=4), Linen().apply(Linen().init(KEY, EXAMPLE), INPUTS)
    )  # fmt: skip


@pytest.mark.slow
def test_an_nnx_module_by_what_makes_it():
    check(adapters.from_flax(lambda rngs: Nnx(rngs), EXAMPLE, num_classes=4), Nnx(nnx.Rngs(KEY))(INPUTS))


@pytest.mark.slow
def test_an_equinox_module():
    import equinox as eqx

    def make(key):
        return eqx.nn.Sequential([eqx.nn.Lambda(jnp.ravel), eqx.nn.MLP(8, 7, 6, 1, jnp.tanh, key=key)])

    check(adapters.from_equinox(make, EXAMPLE, num_classes=4), jax.vmap(make(KEY))(INPUTS))


def test_bytes_are_examples_of_floats():
    network = adapters.from_flax(Linen(), np.zeros((1, 4, 2), np.uint8), num_classes=7)
    assert network.num_aux == 0
    assert {leaf.dtype for leaf in jax.tree.leaves(network.init(KEY))} == {jnp.dtype("float32")}


class Averaging(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(7)(linen.BatchNorm(use_running_average=False)(x.reshape(len(x), -1)))


class LinenDropping(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(7)(linen.Dropout(0.5, deterministic=False)(x.reshape(len(x), -1)))


class Dropping(Nnx):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


@pytest.mark.parametrize(
    ("make", "num_classes", "message"),
    [
        (lambda: Averaging(), 4, "Averaging has batch_stats besides its parameters"),
        (lambda: LinenDropping(), 4, "LinenDropping draws random numbers while it is applied"),
        (lambda: lambda rngs: Dropping(rngs), 4, "has .*Rng.* besides its parameters"),
        (lambda: Nnx(nnx.Rngs(0)), 4, "Nnx is an nnx module that has its parameters already"),
        (lambda: Linen(), 8, r"maps one input to \(1, 7\): expected \(1, logits\) with at least num_classes=8"),
    ],
)
def test_modules_that_are_no_pure_function_of_a_key_are_refused(make, num_classes, message):
    with pytest.raises(errors.InputError, match=message):
        adapters.from_flax(make(), EXAMPLE, num_classes=num_classes)


@pytest.mark.parametrize(("missing", "call"), [("flax", adapters.from_flax), ("equinox", adapters.from_equinox)])
def test_a_missing_library_is_named(missing, call, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(errors.ExtraMissingError, match=f"pip install {missing}"):
        call(lambda key: None, EXAMPLE, num_classes=4)
