"""Products with G, its largest eigenvalue, range and rank, against the dense matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from sublim_jax.models import mlp
from sublim_jax.theory import loss_geometry, normal_approximations, one_step, spectrum
from tests.theory import cases

ROUNDING = {"rtol": 1e-9, "atol": 1e-14}  # eigenvalues of a 100 x 100 matrix, relative to the largest


@pytest.fixture(scope="module")
def c():
    return cases.case()


@pytest.fixture(scope="module", params=["kl"])
def named(request):
    return request.param


@pytest.fixture(scope="module")
def d(c, named):
    return cases.dense(c, named)


def test_product_is_the_dense_one(c, named, d):
    vector = cases.random_like(c.reference, 3)
    found = cases.compiled(spectrum.gauss_newton_product)(
        c.f, cases.loss(named), c.reference, vector, c.inputs, c.weights
    )
    np.testing.assert_allclose(ravel_pytree(found)[0], d.gauss_newton @ ravel_pytree(vector)[0], **ROUNDING)


def test_product_is_the_hessian_of_the_students_loss_at_the_reference(c, named):
    """At θ0 the pull is zero, so the second derivatives of the network drop out."""
    labels = c.f(c.reference, c.inputs)
    loss = cases.loss(named)

    def gradient(params):
        return jax.grad(lambda p: loss(c.f(p, c.inputs), labels, c.weights))(params)

    hessian_product = jax.jvp(gradient, (c.reference,), (c.update,))[1]
    product = cases.compiled(spectrum.gauss_newton_product)(c.f, loss, c.reference, c.update, c.inputs, c.weights)
    np.testing.assert_allclose(ravel_pytree(product)[0], ravel_pytree(hessian_product)[0], rtol=1e-9, atol=1e-13)


def test_rows_of_the_kernel_make_up_the_matrix(c, named, d):
    rows = cases.compiled(spectrum.kernel_rows)(c.f, cases.loss(named), c.reference, c.inputs, c.weights)
    np.testing.assert_allclose(rows.T @ rows, d.gauss_newton, rtol=1e-9, atol=1e-12)


def test_cosine_and_its_bound(c, named, d):
    found = cases.compiled(spectrum.alignment_cosine)(
        c.f, cases.loss(named), c.reference, c.update, c.inputs, c.weights
    )
    image = d.gauss_newton @ d.update
    coefficient = d.update @ image
    np.testing.assert_allclose(found.coefficient, coefficient, **ROUNDING)
    np.testing.assert_allclose(found.cosine, coefficient / np.linalg.norm(image), **ROUNDING)
    largest = np.linalg.eigvalsh(d.gauss_newton)[-1]
    np.testing.assert_allclose(found.largest_eigenvalue, largest, rtol=1e-6)  # 100 power iterations, gap of a factor 2
    np.testing.assert_allclose(found.rayleigh_bound, np.sqrt(coefficient / largest), rtol=1e-6)
    assert found.rayleigh_bound <= found.cosine


def test_by_layer_splits_the_coefficient(c, named, d):
    parts = cases.compiled(spectrum.alignment_by_layer)(
        c.f, cases.loss(named), c.reference, c.update, c.inputs, c.weights
    )
    image, sizes = d.gauss_newton @ d.update, [sum(leaf.size for leaf in layer) for layer in c.reference]
    ends = np.cumsum([0, *sizes])
    for (_, part), start, stop in zip(parts.items(), ends, ends[1:], strict=False):
        np.testing.assert_allclose(part, image[start:stop] @ d.update[start:stop], rtol=1e-8, atol=1e-14)


def test_range_fraction_by_kernel_by_cg_and_by_projection(c, named, d):
    values, vectors = np.linalg.eigh(d.gauss_newton)
    inside = vectors[:, values > 1e-10 * values[-1]]
    expected = np.sum((inside.T @ d.update) ** 2)
    arguments = (c.f, cases.loss(named), c.reference, c.update, c.inputs, c.weights)
    np.testing.assert_allclose(cases.compiled(spectrum.range_fraction)(*arguments), expected, rtol=1e-6)
    np.testing.assert_allclose(cases.compiled(spectrum.range_fraction)(*arguments, method="cg"), expected, rtol=1e-4)
    assert inside.shape[1] == 5 * 2  # examples x (logits - 1), because a softmax ignores constants


def test_range_of_a_squared_error_has_a_dimension_more_per_example(c):
    rows = cases.compiled(spectrum.kernel_rows)(c.f, cases.loss("mse"), c.reference, c.inputs, c.weights)
    assert np.linalg.matrix_rank(rows) == 5 * 3
    np.testing.assert_allclose(rows.T @ rows, cases.dense(c, "mse").gauss_newton, rtol=1e-9, atol=1e-12)


def test_range_fraction_of_a_vector_in_the_range_is_one(c, named):
    image = cases.compiled(spectrum.gauss_newton_product)(c.f, cases.loss(named), c.reference, c.update, c.inputs)
    found = cases.compiled(spectrum.range_fraction)(c.f, cases.loss(named), c.reference, image, c.inputs)
    np.testing.assert_allclose(found, 1.0, rtol=1e-6)


def test_largest_eigenvalue_of_nothing_is_zero(c):
    found = spectrum.largest_eigenvalue(lambda v: jax.tree.map(jnp.zeros_like, v), c.update)
    assert found == 0


def test_effective_rank_exact_and_by_probes(c, named, d):
    values = np.linalg.eigvalsh(d.gauss_newton)
    expected = values.sum() ** 2 / np.sum(values**2)
    exact = cases.compiled(spectrum.effective_rank)(c.f, cases.loss(named), c.reference, c.inputs, c.weights)
    np.testing.assert_allclose(exact.rank, expected, rtol=1e-9)
    np.testing.assert_allclose(
        exact.isotropic_cosine, normal_approximations.isotropic_cosine(expected, len(values)), rtol=1e-9
    )
    probed = cases.compiled(spectrum.effective_rank)(
        c.f, cases.loss(named), c.reference, c.inputs, c.weights, key=jax.random.key(0), num_probes=512
    )
    # Four standard errors: with 512 probes each trace is known to about 4 %, and the rank squares one of them.
    np.testing.assert_allclose(probed.rank, expected, rtol=0.2)


def test_a_random_direction_has_the_isotropic_cosine(c, named, d):
    random = np.random.default_rng(0).standard_normal((4000, len(d.update)))
    images = random @ d.gauss_newton
    cosines = np.sum(images * random, axis=1) / np.linalg.norm(images, axis=1) / np.linalg.norm(random, axis=1)
    exact = cases.compiled(spectrum.effective_rank)(c.f, cases.loss(named), c.reference, c.inputs, c.weights)
    # The law replaces the mean of a ratio by the ratio of means; 10 % at a rank of three.
    np.testing.assert_allclose(np.sqrt(np.mean(cosines**2)), exact.isotropic_cosine, rtol=0.1)


def test_trunk_share_is_a_ceiling_when_the_teacher_left_the_distilled_readout_alone(c, named):
    """A teacher of the class logits moves class rows of the readout; the student's gradient is zero there."""
    readout = c.update[-1]
    classes = (jnp.arange(6) < 3).astype(float)
    update = (*c.update[:-1], mlp.Dense(readout.weight * classes[:, None], readout.bias * classes))
    share = spectrum.trunk_share(update, update[-1])
    squares = [sum(float(jnp.sum(leaf**2)) for leaf in layer) for layer in update]
    np.testing.assert_allclose(share, sum(squares[:-1]) / sum(squares), rtol=1e-12)
    rho = cases.compiled(spectrum.range_fraction)(c.f, cases.loss(named), c.reference, update, c.inputs)
    assert 0 < rho <= share


def test_the_range_saturates_at_the_trunk_share_with_enough_inputs():
    """One hidden unit: ten inputs with three logits span everything but the class rows of the readout."""
    spec = mlp.MLPSpec(in_size=2, hidden_sizes=(2,), num_classes=2, num_aux=4, activation="tanh")
    c = cases.case(spec, num_inputs=20)
    classes = (jnp.arange(6) < 2).astype(float)
    readout = c.update[-1]
    update = (*c.update[:-1], mlp.Dense(readout.weight * classes[:, None], readout.bias * classes))
    rho = cases.compiled(spectrum.range_fraction)(c.f, loss_geometry.from_name("mse"), c.reference, update, c.inputs)
    np.testing.assert_allclose(rho, spectrum.trunk_share(update, update[-1]), rtol=1e-6)


def test_the_first_step_points_along_the_product(c, named):
    """Δθ_S(ε) / ε − G D is O(ε): divided by ten when ε is, within a half."""
    loss = cases.loss(named)
    product = ravel_pytree(cases.compiled(spectrum.gauss_newton_product)(c.f, loss, c.reference, c.update, c.inputs))[0]

    def gap(epsilon):
        teacher = optax.tree.add_scale(c.reference, epsilon, c.update)
        step = ravel_pytree(cases.compiled(one_step.student_update)(c.f, loss, c.reference, teacher, c.inputs))[0]
        return float(jnp.linalg.norm(step / epsilon - product))

    assert 5 < gap(1e-3) / gap(1e-4) < 20
