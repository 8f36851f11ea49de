"""Many steps: the law against dense products, training against the law, and what the rate must satisfy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.theory import multi_step, spectrum
from tests.theory import cases

NUM_STEPS = 12


@pytest.fixture(scope="module", params=["kl"])
def named(request):
    return request.param


@pytest.fixture(scope="module")
def plan():
    """Three inputs a step, drawn anew: (step, batch, pixel)."""
    return jnp.asarray(np.random.default_rng(5).standard_normal((NUM_STEPS, 3, 4)), float)


@pytest.fixture(scope="module")
def largest(named, plan):
    c = cases.case()
    return max(
        np.linalg.eigvalsh(cases.dense(c._replace(inputs=batch, weights=jnp.ones(3)), named).gauss_newton)[-1]
        for batch in plan
    )


def test_the_law_is_the_product_of_dense_matrices(named, plan, largest):
    c, rate = cases.case(), 1.9 / largest
    found = cases.compiled(multi_step.predicted)(c.f, cases.loss(named), c.reference, c.update, plan, rate)
    w = update = cases.dense(c, named).update
    for step, batch in enumerate(plan):
        dense = cases.dense(c._replace(inputs=batch, weights=jnp.ones(3)), named).gauss_newton
        np.testing.assert_allclose(found.step[step], rate * update @ dense @ w, rtol=1e-8, atol=1e-12)
        w = w - rate * dense @ w
        np.testing.assert_allclose(found.cumulative[step], update @ (update - w), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(found.distance[step], np.linalg.norm(w), rtol=1e-9)


def test_training_follows_the_law(named, plan, largest):
    """ε = 1e-4 with |D| = 1: truncation of relative order ε times curvature, rounding 1e-12."""
    c, rate = cases.case(), 1.9 / largest
    arguments = (c.f, cases.loss(named), c.reference, c.update)
    law = cases.compiled(multi_step.predicted)(*arguments, plan, rate)
    training = cases.compiled(multi_step.measured)(*arguments, 1e-4, plan, rate)
    scale = float(jnp.max(jnp.abs(law.cumulative)))
    for name in law._fields:
        np.testing.assert_allclose(getattr(training, name), getattr(law, name), atol=0.01 * scale, rtol=0.01)
    np.testing.assert_allclose(jnp.cumsum(training.step), training.cumulative, rtol=1e-6)


def test_the_cumulative_alignment_is_signed_and_the_distance_falls(named, plan, largest):
    c = cases.case()
    found = cases.compiled(multi_step.predicted)(c.f, cases.loss(named), c.reference, c.update, plan, 1.9 / largest)
    assert jnp.all(found.cumulative >= 0)
    assert jnp.all(jnp.diff(found.distance) <= 1e-15)
    assert jnp.all(multi_step.recovered_bound(found.distance, c.update) <= found.cumulative + 1e-15)


def test_the_bound_is_the_formula_and_zero_for_a_student_further_away_than_it_began():
    """|D|² − |D| |w| by hand, for |D| = 5."""
    update = {"weight": jnp.array([3.0, 0.0]), "bias": jnp.array(4.0)}
    found = multi_step.recovered_bound(jnp.array([0.0, 1.0, 4.0, 5.0, 7.5]), update)
    np.testing.assert_allclose(found, [25.0, 20.0, 5.0, 0.0, 0.0], atol=1e-14)


def test_one_batch_and_a_small_rate_sign_every_step(named):
    c = cases.case()
    batches = jnp.broadcast_to(c.inputs, (NUM_STEPS, *c.inputs.shape))
    largest = np.linalg.eigvalsh(cases.dense(c, named, weighted=False).gauss_newton)[-1]
    found = cases.compiled(multi_step.predicted)(c.f, cases.loss(named), c.reference, c.update, batches, 1.0 / largest)
    assert jnp.all(found.step >= 0)


def test_the_rate_is_checked_against_the_largest_eigenvalue(named):
    c = cases.case()
    start = cases.random_like(c.reference, 11)

    @jax.jit
    def largest():
        return spectrum.largest_eigenvalue(
            lambda v: spectrum.gauss_newton_product(c.f, cases.loss(named), c.reference, v, c.inputs), start
        )

    found = float(largest())
    np.testing.assert_allclose(
        found, np.linalg.eigvalsh(cases.dense(c, named, weighted=False).gauss_newton)[-1], rtol=1e-5
    )
    multi_step.require_admissible(1.99 / found, found)
    multi_step.require_admissible(0.99 / found, found, every_step=True)
    with pytest.raises(ValueError, match="2 over the largest eigenvalue"):
        multi_step.require_admissible(2.01 / found, found)
    with pytest.raises(ValueError, match="1 over the largest eigenvalue"):
        multi_step.require_admissible(1.01 / found, found, every_step=True)
    with pytest.raises(ValueError, match="expected a rate"):
        multi_step.require_admissible(-0.1, found)
