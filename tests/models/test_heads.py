"""Which logits are which."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax.models import heads


@given(num_classes=st.integers(1, 5), num_aux=st.integers(0, 5))
def test_class_and_auxiliary_logits_are_the_two_parts_of_all(num_classes, num_aux):
    outputs = np.arange(2.0 * (num_classes + num_aux)).reshape(2, -1)
    parts = {which: outputs[:, heads.selection(which, num_classes=num_classes)] for which in ("class", "aux", "all")}
    assert parts["class"].shape[1] == num_classes and parts["aux"].shape[1] == num_aux
    np.testing.assert_array_equal(np.concatenate([parts["class"], parts["aux"]], axis=1), parts["all"])
    np.testing.assert_array_equal(parts["all"], outputs)


def test_the_class_logits_come_first_whatever_axes_precede():
    outputs = jnp.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(heads.class_logits(outputs, num_classes=3), outputs[:, :, :3])
    np.testing.assert_array_equal(heads.aux_logits(outputs, num_classes=3), outputs[:, :, 3:])


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="distilled_logits: expected one of 'aux', 'class', 'all', got 'ghost'"):
        inspect.unwrap(heads.selection)("ghost", num_classes=3)
