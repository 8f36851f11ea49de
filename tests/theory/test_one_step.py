"""One step against dense Jacobians, formulas and itself in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from sublim_jax import losses
from sublim_jax.metrics import alignment as products
from sublim_jax.models import mlp
from sublim_jax.theory import loss_geometry, one_step
from tests.theory import cases

ROUNDING = {"rtol": 1e-11, "atol": 1e-15}  # float64 sums over a hundred parameters


@pytest.fixture(scope="module")
def c():
    return cases.case()


@pytest.mark.parametrize("name", cases.LOSSES)
def test_coefficient_is_the_dense_quadratic_form(c, name):
    d = cases.dense(c, name)
    found = cases.compiled(one_step.alignment_coefficient)(
        c.f, cases.loss(name), c.reference, c.update, c.inputs, c.weights
    )
    np.testing.assert_allclose(found, d.update @ d.gauss_newton @ d.update, **ROUNDING)
    per_example = cases.compiled(one_step.per_example_alignment)(c.f, cases.loss(name), c.reference, c.update, c.inputs)
    tangents = d.jacobian @ d.update
    np.testing.assert_allclose(per_example, np.einsum("bi,bij,bj->b", tangents, d.metric, tangents), **ROUNDING)


def test_logit_tangent_is_the_jacobian_times_the_update(c):
    logits, tangents = one_step.logit_tangent(c.f, c.reference, c.update, c.inputs)
    d = cases.dense(c, "mse")
    np.testing.assert_allclose(tangents, d.jacobian @ d.update, **ROUNDING)
    np.testing.assert_array_equal(logits, c.f(c.reference, c.inputs))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("name", ["kl", "mse"])
def test_student_update_is_the_pulled_back_pull(c, name, weighted):
    d = cases.dense(c, name)
    teacher = optax.tree.add_scale(c.reference, 0.5, c.update)
    step = cases.compiled(one_step.student_update)(
        c.f, cases.loss(name), c.reference, teacher, c.inputs, c.weights if weighted else None
    )
    pull = np.asarray(loss_geometry.pull(cases.loss(name), c.f(c.reference, c.inputs), c.f(teacher, c.inputs)))
    shares = np.asarray(c.weights) / np.sum(c.weights) if weighted else np.full(5, 1 / 5)
    np.testing.assert_allclose(ravel_pytree(step)[0], np.einsum("b,bi,bip->p", shares, pull, d.jacobian), **ROUNDING)


def test_student_update_is_one_step_of_training_without_the_learning_rate(c):
    """The same loss, the same gradient: what `training.distill` descends."""
    teacher = optax.tree.add_scale(c.reference, 0.5, c.update)

    def student_loss(params):
        student, target = (mlp.apply(p, c.inputs, cases.SPEC)[:, 3:] for p in (params, teacher))
        return losses.distillation_kl(student, target, temperature=2.0, weights=c.weights)

    step = cases.compiled(one_step.student_update)(
        c.f, loss_geometry.from_name("kl", temperature=2.0), c.reference, teacher, c.inputs, c.weights
    )
    np.testing.assert_allclose(ravel_pytree(step)[0], -ravel_pytree(jax.grad(student_loss)(c.reference))[0], **ROUNDING)


def test_teacher_update_descends(c):
    def loss(params):
        return losses.cross_entropy(mlp.apply(params, c.inputs, cases.SPEC)[:, :3], jnp.arange(5) % 3)

    update = one_step.teacher_update(loss, c.reference)
    assert loss(optax.tree.add_scale(c.reference, 1e-3, update)) < loss(c.reference)


def test_a_normalised_update_has_length_one_and_its_direction(c):
    twice = optax.tree.add(c.update, c.update)
    np.testing.assert_allclose(products.norm(twice), 2.0, rtol=1e-12)
    shortened = one_step.unit_update(twice)
    np.testing.assert_allclose(products.norm(shortened), 1.0, rtol=1e-12)
    np.testing.assert_allclose(ravel_pytree(shortened)[0], ravel_pytree(c.update)[0], rtol=1e-12)


def test_layers_add_up_and_are_named_by_their_place(c):
    step = cases.compiled(one_step.student_update)(
        c.f, cases.loss("mse"), c.reference, optax.tree.add(c.reference, c.update), c.inputs
    )
    parts = one_step.alignment_by_layer(step, c.update)
    assert list(parts) == ["[0]", "[1]", "[2]"]
    np.testing.assert_allclose(sum(parts.values()), products.inner_product(step, c.update), rtol=1e-12)
    np.testing.assert_allclose(parts["[1]"], products.inner_product(step[1], c.update[1]), rtol=1e-12)
    assert list(one_step.alignment_by_layer(jnp.ones(2), jnp.ones(2))) == ["."]


def test_a_mapping_with_one_key_is_split_by_what_it_holds():
    """As flax linen has it: everything lies under "params"."""
    layers = {"Dense_0": {"bias": jnp.ones(2), "kernel": jnp.ones((3, 2))}, "Dense_1": {"bias": jnp.full(4, 2.0)}}
    parts = one_step.alignment_by_layer({"params": layers}, {"params": layers})
    assert {name: float(part) for name, part in parts.items()} == {
        "['params']['Dense_0']": 8.0,
        "['params']['Dense_1']": 16.0,
    }
    assert list(one_step.alignment_by_layer(layers, layers)) == ["['Dense_0']", "['Dense_1']"]
    assert list(one_step.alignment_by_layer((layers,), (layers,))) == ["[0]"]


@pytest.mark.parametrize("name", ["kl", "mse"])
def test_the_remainder_of_the_curve_is_its_curvature_and_then_cubic(c, name):
    """Truncation: halving ε must divide what the quadratic part leaves by 8, within a quarter."""
    epsilon = jnp.array([0.01, 0.02])
    curve = cases.compiled(one_step.alignment_curve)(
        c.f, cases.loss(name), c.reference, c.update, epsilon, c.inputs, c.weights
    )
    coefficient = cases.compiled(one_step.alignment_coefficient)(
        c.f, cases.loss(name), c.reference, c.update, c.inputs, c.weights
    )
    np.testing.assert_allclose(curve.linear, epsilon * coefficient, rtol=1e-12)
    np.testing.assert_allclose(curve.remainder, curve.alignment - curve.linear, rtol=1e-12)
    cubic = curve.remainder - curve.quadratic
    assert 6 < cubic[1] / cubic[0] < 10
    assert abs(cubic[0]) < 0.1 * abs(curve.quadratic[0])


def test_curvature_of_a_parabola():
    """f(t) = t + c t² at 0 along 1 with squared error: alignment = 2 (ε + c ε²), so its second derivative is 4 c."""

    def f(params, inputs):
        return params[None] + inputs * params[None] ** 2

    found = one_step.curvature(
        f, losses.squared_error, jnp.zeros(1), jnp.ones(1), 0.7, jnp.array([[3.0], [5.0]]), jnp.array([1.0, 3.0])
    )
    np.testing.assert_allclose(found, 4 * (3 + 3 * 5) / 4, rtol=1e-12)


def test_along_another_direction_the_two_paths_still_agree(c):
    probe = cases.random_like(c.reference, 9)
    arguments = (c.f, loss_geometry.from_name("jeffreys"), c.reference, c.update, 0.4, c.inputs, c.weights)
    np.testing.assert_allclose(
        cases.compiled(one_step.alignment_reverse)(*arguments, along=probe),
        cases.compiled(one_step.alignment_forward)(*arguments, along=probe),
        rtol=1e-10,
    )


@pytest.mark.parametrize("name", cases.LOSSES)
def test_float32_keeps_the_sign_of_the_coefficient_and_follows_the_line(c, name):
    """At ε = 0.01 with |D| = 1: rounding of logits, 1e-7 |z| / (ε |v|), is below 1e-3, curvature a few per cent."""
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), c._replace(f=None))
    with jax.enable_x64(False):
        loss = cases.loss(name)
        coefficient = cases.compiled(one_step.alignment_coefficient)(
            c.f, loss, single.reference, single.update, single.inputs
        )
        value = cases.compiled(one_step.alignment_reverse)(
            c.f, loss, single.reference, single.update, 0.01, single.inputs
        )
    assert coefficient.dtype == value.dtype == jnp.float32
    assert coefficient > 0
    np.testing.assert_allclose(value / 0.01, coefficient, rtol=0.05)


def test_float32_metric_form_is_not_negative_where_the_difference_of_moments_is():
    """Var = E v² − (E v)² loses all digits for v = 1000 + small; the sum of squares does not."""
    with jax.enable_x64(False):
        logits, tangents = jnp.zeros((1, 3)), jnp.array([[1000.0, 1000.001, 1000.002]], jnp.float32)
        form = loss_geometry.from_name("kl").metric_form(logits, tangents)[0]
        moments = jnp.mean(tangents**2) - jnp.mean(tangents) ** 2
    assert 0 < form < 1e-5
    assert abs(float(moments)) > 1e-2


def test_one_logit_is_refused_by_every_function_that_sees_the_loss(c):
    def one(params, inputs):
        return c.f(params, inputs)[:, :1]

    kl = loss_geometry.from_name("kl")
    for call in (
        lambda: one_step.alignment_coefficient(one, kl, c.reference, c.update, c.inputs),
        lambda: one_step.student_update(one, kl, c.reference, c.reference, c.inputs),
        lambda: one_step.alignment_forward(one, kl, c.reference, c.update, 0.1, c.inputs),
    ):
        with pytest.raises(ValueError, match="nothing is transmitted"):
            call()
