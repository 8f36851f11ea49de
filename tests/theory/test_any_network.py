"""`f(params, inputs)` is any network: flax modules, a transformer, low-rank factors, a function of one input."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.theorem import problems
from sublim_jax import losses
from sublim_jax.metrics import alignment as products
from sublim_jax.theory import conditions, loss_geometry, one_step, spectrum
from tests.theory import cases, sequence_model


class Convolution(nn.Module):
    """A small convolution with a normalisation: nothing like our network."""

    @nn.compact
    def __call__(self, images):
        features = nn.gelu(nn.Conv(3, (2, 2))(images[..., None]))
        return nn.Dense(4)(nn.LayerNorm()(features.reshape(len(images), -1)))


def linen():
    module = Convolution()
    images = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3, 3)), float)
    params = jax.jit(module.init)(jax.random.key(0), images)
    params = jax.tree.map(lambda leaf: leaf.astype(float), params)
    return module.apply, params, images


def transformer():
    tokens = jnp.array([[0, 2, 1], [1, 1, 0], [2, 0, 2]])
    return sequence_model.logits, sequence_model.init(0), tokens


def low_rank():
    """W0 + B A with W0 fixed: the factors are the parameters, for teacher and student alike."""
    random = np.random.default_rng(2)
    base, readout = random.standard_normal((6, 4)), random.standard_normal((3, 6))
    factors = {"a": jnp.asarray(random.standard_normal((2, 4))), "b": jnp.zeros((6, 2))}

    def f(params, inputs):
        return jnp.tanh(inputs @ (base + params["b"] @ params["a"]).T) @ readout.T

    return f, factors, jnp.asarray(random.standard_normal((5, 4)))


def of_one_input():
    random = np.random.default_rng(3)

    def of_one(params, x):
        return params @ jnp.sin(x)

    f = jax.vmap(of_one, in_axes=(None, 0))
    return f, jnp.asarray(random.standard_normal((3, 4))), jnp.asarray(random.standard_normal((5, 4)))


@pytest.mark.parametrize(
    ("network", "name"), [(linen, "kl"), (transformer, "kl"), (low_rank, "mse"), (of_one_input, "jeffreys")]
)
def test_the_theorem_holds(network, name):
    """The slope by differentiation is A, both code paths agree, G D aligns with D, and nothing refuses it."""
    f, reference, inputs = network()
    loss = cases.loss(name)
    update = one_step.unit_update(cases.random_like(reference, 7))

    @functools.partial(jax.jit, compiler_options=problems.quick_compilation())
    def measure(reference, update):
        arguments = (f, loss, reference, update)

        def value(epsilon):
            return one_step.alignment_reverse(*arguments, epsilon, inputs)

        slope = jax.jvp(value, (0.0,), (1.0,))[1]
        paths = value(0.3), one_step.alignment_forward(*arguments, 0.3, inputs)
        product = spectrum.gauss_newton_product(*arguments, inputs)
        coefficient = one_step.alignment_coefficient(*arguments, inputs)
        return slope, coefficient, products.inner_product(product, update), paths

    slope, coefficient, form, (reverse, forward) = measure(reference, update)
    assert coefficient > 0
    np.testing.assert_allclose([slope, form], [coefficient] * 2, rtol=1e-9)
    np.testing.assert_allclose(reverse, forward, rtol=1e-9)


@pytest.mark.slow
def test_a_transformer_passes_every_check():
    f, reference, inputs = transformer()
    conditions.check(f, cases.loss("kl"), reference, one_step.unit_update(cases.random_like(reference, 7)), inputs)


@pytest.mark.slow
def test_a_researchers_own_loss_needs_nothing_but_a_function():
    """The Jensen-Shannon divergence of the softmaxes: a loss of the contract with M = S / 4."""
    f, reference, inputs = of_one_input()
    update = one_step.unit_update(cases.random_like(reference, 7))

    def jensen_shannon(student, teacher, weights=None):
        log_p, log_q = jax.nn.log_softmax(student), jax.nn.log_softmax(teacher)
        log_mean = jnp.logaddexp(log_p, log_q) - jnp.log(2.0)
        rows = 0.5 * jnp.sum(jnp.exp(log_p) * (log_p - log_mean) + jnp.exp(log_q) * (log_q - log_mean), axis=-1)
        return losses.weighted_mean(rows, weights)

    coefficient = one_step.alignment_coefficient(f, jensen_shannon, reference, update, inputs)
    of_kl = one_step.alignment_coefficient(f, loss_geometry.from_name("kl"), reference, update, inputs)
    np.testing.assert_allclose(coefficient, of_kl / 4, rtol=1e-9)
    value = one_step.alignment_reverse(f, jensen_shannon, reference, update, 1e-5, inputs)
    np.testing.assert_allclose(value / 1e-5, coefficient, rtol=1e-3)
