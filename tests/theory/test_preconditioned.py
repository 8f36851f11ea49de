"""One preconditioner on both sides keeps the sign; on one side only it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sublim_jax.theory import preconditioned
from tests.theory import cases


@pytest.fixture(scope="module")
def c():
    return cases.case()


def test_the_slope_is_the_dense_quadratic_form_of_the_real_displacement(c):
    d = cases.dense(c, "kl", weighted=False)
    scales = jax.tree.map(jnp.exp, cases.random_like(c.reference, 4))
    moved = np.asarray(ravel_pytree(scales)[0]) * d.update
    rates = preconditioned.diagonal(scales)
    found = preconditioned.alignment_coefficient(c.f, cases.loss("kl"), c.reference, c.update, rates, c.inputs)
    np.testing.assert_allclose(found, moved @ d.gauss_newton @ moved, rtol=1e-9)
    value = preconditioned.alignment(c.f, cases.loss("kl"), c.reference, c.update, rates, 1e-6, c.inputs)
    np.testing.assert_allclose(value / 1e-6, found, rtol=1e-4)  # truncation O(ε) with constants of order 10


def test_any_symmetric_matrix_will_do_and_a_one_sided_one_will_not(c):
    """A random positive matrix P, as a function. On both sides g' P G P g ≥ 0; on the student's alone g' P G g."""
    flat, unravel = ravel_pytree(c.update)
    d = cases.dense(c, "mse", weighted=False)
    signs = []
    for seed in range(20):
        root = np.random.default_rng(seed).standard_normal((len(flat), 3))
        matrix = jnp.asarray(root @ root.T)

        def precondition(gradient, matrix=matrix):
            return unravel(matrix @ ravel_pytree(gradient)[0])

        if seed == 0:
            both = preconditioned.alignment_coefficient(
                c.f, cases.loss("mse"), c.reference, c.update, precondition, c.inputs
            )
            np.testing.assert_allclose(both, d.update @ matrix @ d.gauss_newton @ matrix @ d.update, rtol=1e-8)
            one_sided = preconditioned.alignment(
                c.f,
                cases.loss("mse"),
                c.reference,
                c.update,
                lambda g: g,
                1e-6,
                c.inputs,
                student_preconditioner=precondition,
            )
            np.testing.assert_allclose(one_sided / 1e-6, d.update @ matrix @ d.gauss_newton @ d.update, rtol=1e-3)
        signs.append(d.update @ np.asarray(matrix) @ d.gauss_newton @ d.update > 0)
    assert 0 < sum(signs) < 20


def test_a_negative_scale_is_refused_where_it_stands(c):
    scales = jax.tree.map(jnp.ones_like, c.reference)
    broken = (scales[0]._replace(bias=-scales[0].bias), *scales[1:])
    with pytest.raises(ValueError, match=r"scales\[0\]\.bias: expected finite numbers >= 0"):
        preconditioned.diagonal(broken)
    with pytest.raises(ValueError, match="found nan"):
        preconditioned.diagonal(jax.tree.map(lambda leaf: leaf * jnp.nan, scales))
    jax.eval_shape(lambda s: preconditioned.diagonal(s)(c.update), scales)  # no complaint while tracing
