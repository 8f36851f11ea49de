"""The theorem holds for convolutional networks, whose weights are shared between places and whose maps are pooled."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.theorem import problems
from sublim_jax import errors
from sublim_jax.models import conv
from sublim_jax.theory import loss_geometry, one_step
from tests import strategies
from tests.theory import cases

POOLED = conv.ConvSpec(
    side=7, channels=(2, 2), kernel_size=2, hidden_sizes=(3,), num_classes=2, num_aux=2, activation="tanh"
)
RESIDUAL = conv.ConvSpec(
    side=4, channels=(2, 3), kernel_size=3, hidden_sizes=(), num_classes=2, num_aux=2, activation="tanh",
    blocks="residual", downsampling="stride", readout="mean_position",
)  # fmt: skip
NUM_INPUTS = 3


@functools.cache
def measure(spec: conv.ConvSpec):
    """A, the slope of the alignment at zero, and the alignment of a step of 0.3 by both code paths."""
    f, loss = loss_geometry.distilled(spec), cases.loss("kl")

    @functools.partial(jax.jit, compiler_options=problems.quick_compilation())
    def compiled(reference, update, inputs):
        arguments = (f, loss, reference, update)

        def value(epsilon):
            return one_step.alignment_reverse(*arguments, epsilon, inputs)

        paths = value(0.3), one_step.alignment_forward(*arguments, 0.3, inputs)
        slope = jax.jvp(value, (0.0,), (1.0,))[1]
        return one_step.alignment_coefficient(*arguments, inputs), slope, paths

    return compiled


@pytest.mark.slow
@given(spec=st.sampled_from([POOLED, RESIDUAL]), seed=strategies.seeds)
def test_the_alignment_of_a_small_step_is_never_negative_and_the_predicted_one(spec, seed):
    shapes = jax.eval_shape(lambda: spec.init(jax.random.key(0)))
    reference = jax.tree.map(lambda leaf: leaf.astype(float), cases.random_like(shapes, seed, 0.5))
    update = one_step.unit_update(cases.random_like(reference, seed + 1))
    inputs = strategies.normal(seed, NUM_INPUTS, spec.in_size)
    coefficient, slope, (reverse, forward) = measure(spec)(reference, update, inputs)
    assert coefficient >= 0
    np.testing.assert_allclose(slope, coefficient, rtol=1e-9, atol=1e-14)  # float64 rounding, nothing is truncated
    np.testing.assert_allclose(reverse, forward, rtol=1e-9, atol=1e-14)


def test_the_theorem_asks_for_whole_products():
    with pytest.raises(errors.InputError, match="precision='bfloat16': expected 'float32'"):
        loss_geometry.distilled(conv.ConvSpec(precision="bfloat16"))
