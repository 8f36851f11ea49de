"""One affine layer transmits nothing, two do; the tangent model; the tangent kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from experiments.theorem import problems
from sublim_jax import losses
from sublim_jax.models import mlp
from sublim_jax.theory import linear, multi_step, one_step
from tests.theory import cases

ONE = mlp.MLPSpec(in_size=4, hidden_sizes=(), num_classes=3, num_aux=3, activation="identity")
TWO = mlp.MLPSpec(in_size=4, hidden_sizes=(5,), num_classes=3, num_aux=3, activation="identity")


def taught(spec, steps=20):
    """A reference and the update of a teacher that learned class labels."""
    c = cases.case(spec)

    @functools.partial(jax.jit, compiler_options=problems.quick_compilation())
    def teach(params):
        def descend(params, _):
            update = one_step.teacher_update(
                lambda p: losses.cross_entropy(mlp.apply(p, c.inputs, spec)[:, :3], jnp.arange(5) % 3), params
            )
            return optax.tree.add_scale(params, 0.5, update), None

        return jax.lax.scan(descend, params, None, length=steps)[0]

    return c._replace(update=jax.tree.map(jnp.subtract, teach(c.reference), c.reference))


@pytest.mark.parametrize("loss", ["mse", "kl"])
def test_a_single_layer_transmits_nothing_in_any_number_of_steps(loss):
    c = taught(ONE)
    batches = jnp.broadcast_to(c.inputs, (50, *c.inputs.shape))
    found = cases.compiled(multi_step.measured)(c.f, cases.loss(loss), c.reference, c.update, 1.0, batches, 0.1)
    np.testing.assert_array_equal(found.cumulative, 0.0)
    coefficient = cases.compiled(one_step.alignment_coefficient)(c.f, cases.loss(loss), c.reference, c.update, c.inputs)
    assert coefficient == 0
    kernel = cases.compiled(linear.tangent_kernel)(c.f, cases.distilled(ONE, "class"), c.reference, c.inputs, c.inputs)
    np.testing.assert_array_equal(kernel, 0.0)


def test_a_deep_linear_network_transmits():
    c = taught(TWO)
    coefficient = cases.compiled(one_step.alignment_coefficient)(
        c.f, cases.loss("mse"), c.reference, c.update, c.inputs
    )
    assert coefficient > 0.1
    kernel = cases.compiled(linear.tangent_kernel)(c.f, cases.distilled(TWO, "class"), c.reference, c.inputs, c.inputs)
    assert np.max(np.abs(kernel)) > 0.1


def test_the_tangent_kernel_is_the_product_of_jacobians():
    c = cases.case()
    jacobian = cases.dense(c, "mse").jacobian.reshape(15, -1)
    found = cases.compiled(linear.tangent_kernel)(c.f, c.f, c.reference, c.inputs, c.inputs[:2])
    np.testing.assert_allclose(found, jacobian @ jacobian[:6].T, rtol=1e-10, atol=1e-13)


def test_the_tangent_model_is_affine_and_touches_the_network_at_the_reference():
    c = cases.case()
    tangent_model = linear.linearised(c.f, c.reference)
    np.testing.assert_array_equal(tangent_model(c.reference, c.inputs), c.f(c.reference, c.inputs))
    d = cases.dense(c, "mse")
    far = optax.tree.add_scale(c.reference, 7.0, c.update)
    expected = np.asarray(c.f(c.reference, c.inputs)) + 7.0 * d.jacobian @ np.asarray(ravel_pytree(c.update)[0])
    np.testing.assert_allclose(tangent_model(far, c.inputs), expected, rtol=1e-10)
