"""Antithetic students: the same function, and a mean alignment of zero, for any depth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.theorem import problems
from sublim_jax import losses
from sublim_jax.metrics import alignment as products
from sublim_jax.models import mlp
from sublim_jax.theory import one_step, symmetry
from tests.theory import cases


@pytest.mark.parametrize("hidden", [(5,), (5, 4), (3, 4, 5, 3)])
def test_antithetic_students_are_one_function_and_cancel(hidden):
    spec = mlp.MLPSpec(in_size=4, hidden_sizes=hidden, num_classes=3, num_aux=2, activation="tanh")
    c, other = cases.case(spec), cases.case(spec, seed=50).reference

    @functools.partial(jax.jit, compiler_options=problems.quick_compilation())
    def alignments():
        update = one_step.teacher_update(
            lambda p: losses.cross_entropy(mlp.apply(p, c.inputs, spec)[:, :3], jnp.arange(5) % 3), c.reference
        )
        teacher = optax.tree.add(c.reference, update)
        found, outputs = [], []
        for student in symmetry.antithetic_students(other, activation="tanh"):
            step = one_step.student_update(c.f, cases.loss("kl"), student, teacher, c.inputs)
            found.append(products.inner_product(step, update))
            outputs.append(mlp.apply(student, c.inputs, spec))
        return jnp.stack(found), jnp.stack(outputs)

    found, outputs = alignments()
    np.testing.assert_allclose(outputs, np.broadcast_to(outputs[0], outputs.shape), rtol=1e-12, atol=1e-14)
    assert np.max(np.abs(found)) > 1e-5  # each one is something
    assert abs(np.mean(found)) < 1e-14 * np.max(np.abs(found)) * 100  # rounding of four sums of a hundred terms


def test_flips_of_a_relu_network_change_it():
    spec = mlp.MLPSpec(in_size=4, hidden_sizes=(5,), num_classes=3, num_aux=2)
    c = cases.case(spec)
    flipped = symmetry.flipped(c.reference, (-1,))
    assert not np.allclose(mlp.apply(flipped, c.inputs, spec), mlp.apply(c.reference, c.inputs, spec))
    with pytest.raises(ValueError, match="activation='relu'"):
        symmetry.antithetic_students(c.reference, activation="relu")


def test_what_cannot_be_flipped_is_refused():
    c = cases.case()
    with pytest.raises(ValueError, match="one sign per hidden layer, 2 of them, got 1"):
        symmetry.flipped(c.reference, (1,))
    with pytest.raises(ValueError, match="no hidden unit"):
        symmetry.antithetic_students(c.reference[-1:], activation="tanh")
