"""Layers that students of another depth take from the reference."""

import jax
import jax.numpy as jnp

from sublim_jax.models import init_sharing, mlp


def test_a_deeper_student_has_the_references_readout_at_its_end_only_also_where_it_would_fit_before():
    shallow = mlp.MLPSpec(in_size=4, hidden_sizes=(6,), num_classes=4, num_aux=2)  # six outputs, as hidden units
    deep = mlp.MLPSpec(in_size=4, hidden_sizes=(6, 6), num_classes=4, num_aux=2)
    reference, own = shallow.init(jax.random.key(0)), deep.init(jax.random.key(1))
    student = init_sharing.transplant_matching_layers(reference, own)
    for layer, origin in zip(student, (reference[0], own[1], reference[1]), strict=True):
        assert jnp.array_equal(layer.weight, origin.weight) and jnp.array_equal(layer.bias, origin.bias)
