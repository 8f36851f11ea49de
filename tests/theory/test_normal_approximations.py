"""The laws of chance against simulation; tolerances are four standard errors of the simulated share and truncation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.theorem import problems
from sublim_jax import losses
from sublim_jax.metrics import alignment as products
from sublim_jax.theory import normal_approximations, one_step, spectrum
from tests.theory import cases

NUM_TRIALS = 2000


@pytest.fixture(scope="module")
def c():
    return cases.case(num_inputs=8)


def share_tolerance(probability: float, truncation: float) -> float:
    return 4 * (probability * (1 - probability) / NUM_TRIALS) ** 0.5 + truncation


@pytest.mark.parametrize(("epsilon", "num_labels"), [(0.2, 256), (0.2, 1024)])
def test_sampled_labels(c, epsilon, num_labels):
    """One step on hard labels drawn from the teacher; truncation: the law is first order in ε."""
    coefficient = cases.compiled(one_step.alignment_coefficient)(c.f, cases.loss("kl"), c.reference, c.update, c.inputs)

    @functools.partial(jax.jit, compiler_options=problems.quick_compilation())
    def alignments(key):
        logits, tangents = one_step.logit_tangent(c.f, c.reference, c.update, c.inputs)
        teacher_logits = c.f(optax.tree.add_scale(c.reference, epsilon, c.update), c.inputs)
        which, drawn = jax.random.split(key)
        rows = jax.random.randint(which, (NUM_TRIALS, num_labels), 0, len(c.inputs))
        labels = jax.random.categorical(drawn, teacher_logits[rows])

        def of_one(rows, labels):
            # A student's step on the cross-entropy of these labels, aligned with D: in logit space, as in one_step.
            _, slope = jax.jvp(lambda z: losses.cross_entropy(z[rows], labels), (logits,), (tangents,))
            return -slope

        return jax.lax.map(lambda pair: of_one(*pair), (rows, labels))

    found = np.asarray(alignments(jax.random.key(0)))
    expected = float(normal_approximations.sign_probability_labels(coefficient, epsilon, num_labels))
    assert 0.55 < expected < 0.999
    np.testing.assert_allclose(np.mean(found > 0), expected, atol=share_tolerance(expected, 0.03))
    deviation = np.sqrt(coefficient / num_labels)
    np.testing.assert_allclose(found.std(), deviation, rtol=0.1)
    np.testing.assert_allclose(
        found.mean(), epsilon * coefficient, atol=4 * deviation / NUM_TRIALS**0.5 + 0.2 * epsilon * coefficient
    )


def test_two_nats_of_labels_make_the_sign_right_for_97_7_per_cent():
    coefficient, epsilon = 0.03, 0.2
    num_labels = normal_approximations.num_labels_for(0.97725, coefficient, epsilon)
    np.testing.assert_allclose(
        normal_approximations.sign_probability_labels(coefficient, epsilon, num_labels), 0.97725, rtol=1e-9
    )
    np.testing.assert_allclose(normal_approximations.kl_budget(coefficient, epsilon, num_labels), 2.0, rtol=1e-3)


def test_the_budget_is_the_divergence_of_the_teacher_from_the_reference(c):
    """KL(p_ε || p_0) = ε² A / 2 + O(ε³), here at ε = 0.01."""
    coefficient = cases.compiled(one_step.alignment_coefficient)(c.f, cases.loss("kl"), c.reference, c.update, c.inputs)
    teacher = c.f(optax.tree.add_scale(c.reference, 0.01, c.update), c.inputs)
    divergence = losses.distillation_kl(c.f(c.reference, c.inputs), teacher)
    np.testing.assert_allclose(normal_approximations.kl_budget(coefficient, 0.01, 1), divergence, rtol=0.05)


@pytest.mark.parametrize("probability", [0.5, 1.0, 1.2, 0.3])
def test_a_probability_no_number_of_labels_reaches_is_refused(probability):
    with pytest.raises(ValueError, match=r"\(1/2, 1\)"):
        normal_approximations.num_labels_for(probability, 0.1, 0.1)


@pytest.mark.parametrize("sigma", [0.003, 0.01])
def test_noise_between_the_starts(c, sigma):
    loss, epsilon = cases.loss("mse"), 0.03
    cosine = cases.compiled(spectrum.alignment_cosine)(c.f, loss, c.reference, c.update, c.inputs).cosine

    @functools.partial(jax.jit, compiler_options=problems.quick_compilation())
    def alignments(key):
        teacher = optax.tree.add_scale(c.reference, epsilon, c.update)

        def of_one(key):
            leaves, structure = jax.tree.flatten(c.reference)
            keys = jax.random.split(key, len(leaves))
            noise = structure.unflatten(
                [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
            )
            start = optax.tree.add_scale(c.reference, sigma, noise)
            step = one_step.student_update(c.f, loss, start, teacher, c.inputs)
            return products.inner_product(step, c.update)

        return jax.vmap(of_one)(jax.random.split(key, NUM_TRIALS))

    expected = float(normal_approximations.sign_probability_init_noise(cosine, epsilon, sigma))
    assert 0.6 < expected < 0.9999
    found = np.mean(np.asarray(alignments(jax.random.key(1))) > 0)
    np.testing.assert_allclose(found, expected, atol=share_tolerance(expected, 0.03))


def test_limits():
    assert normal_approximations.sign_probability_labels(0.0, 0.1, 100) == 0.5
    np.testing.assert_allclose(normal_approximations.sign_probability_init_noise(0.5, 1.0, 1e-6), 1.0)
    np.testing.assert_allclose(normal_approximations.isotropic_cosine(4.0, 100), 0.2, rtol=1e-6)
    assert jnp.shape(normal_approximations.sign_probability_labels(jnp.ones(3), 0.1, 100)) == (3,)
