"""Directions of a displacement and shifts of hidden units, against eigenvalues, brute force and the network itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors
from sublim_jax.audit import directions
from sublim_jax.models import mlp

SPEC = mlp.MLPSpec(in_size=5, hidden_sizes=(7, 4), num_classes=3, num_aux=2, activation="silu")
EPS = float(np.finfo(np.float32).eps)


def matrix(seed, shape=(6, 9)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def params(seed=0):
    """Layers with biases that are not zero."""
    layers = SPEC.init(jax.random.key(seed))
    return jax.tree.map(lambda leaf: leaf + 0.1 * jnp.arange(leaf.size).reshape(leaf.shape) / leaf.size, layers)


@given(seed=st.integers(0, 2**31), count=st.integers(1, 6))
def test_the_largest_directions_are_those_of_the_gram_matrix(seed, count):
    own = matrix(seed).astype(float)
    squares = np.linalg.eigvalsh(own @ own.T)[::-1]  # another algorithm than the one under test
    singular = directions.singular(own)
    np.testing.assert_allclose(singular.values**2, squares, rtol=1e-9, atol=1e-9 * squares[0])  # float64 rounding
    rest = own - singular.top(count)
    np.testing.assert_allclose(np.sum(rest**2), np.sum(squares[count:]), atol=1e-9 * squares[0])  # Eckart and Young
    assert np.linalg.matrix_rank(singular.top(count)) == count
    assert directions.energy(singular.values, count) == pytest.approx(np.sum(squares[:count]) / np.sum(squares))
    assert directions.energy(singular.values, 99) == 1


@pytest.mark.parametrize(("values", "ratio"), [([3.0], 1), ([2, 2, 2, 0], 3), ([2, 1], 25 / 17), ([1e-9, 1e-9], 2)])
def test_the_participation_ratio_counts_equal_directions(values, ratio):
    assert directions.participation_ratio(np.array(values, float)) == pytest.approx(ratio)


def test_the_part_inside_directions_is_that_of_both_sides():
    own, frame = matrix(1), directions.singular(matrix(2))
    left, right = frame.left[:, :2], frame.right[:, :3]
    part = directions.inside(own, left, right)
    brute = sum(
        (own * np.outer(a, b)).sum() * np.outer(a, b) for a in left.T for b in right.T
    )  # the sum of components on all pairs of directions
    np.testing.assert_allclose(part, brute, atol=20 * EPS * np.abs(own).max())  # sums of some ten float32 products
    np.testing.assert_allclose(directions.inside(part, left, right), part, atol=20 * EPS * np.abs(own).max())
    every = directions.singular(own)
    np.testing.assert_allclose(directions.inside(own, every.left, every.right), own, atol=50 * EPS * np.abs(own).max())


def test_random_directions_are_orthonormal_nested_and_without_preference():
    frame = directions.random_frame(jax.random.key(0), 8, 5)
    assert frame.shape == (8, 5)
    np.testing.assert_allclose(frame.T @ frame, np.eye(5), atol=20 * EPS)
    many = np.stack([directions.random_frame(jax.random.key(seed), 3, 2) for seed in range(400)])
    means, squares = many.mean(axis=0), (many**2).mean(axis=0)
    assert np.abs(means).max() < 4 * (1 / 3 / 400) ** 0.5  # four standard errors of a coordinate, whose square is 1/3
    assert np.abs(squares - 1 / 3).max() < 4 * (4 / 45 / 400) ** 0.5  # its square has the variance 1/5 - 1/9
    with pytest.raises(errors.InputError, match="expected at most 3 directions of a space of 3, got 4"):
        directions.random_frame(jax.random.key(0), 3, 4)


def test_layers_become_matrices_with_their_bias_and_back():
    own = params()
    made = directions.matrices(own)
    assert [each.shape for each in made] == [(7, 6), (4, 8), (5, 5)]
    inputs = np.append(np.arange(5.0), 1)  # a bias is a weight of an input that is 1
    expected = own[0].weight @ jnp.arange(5.0) + own[0].bias
    np.testing.assert_allclose(made[0] @ inputs, expected, rtol=50 * EPS, atol=50 * EPS)
    for ours, theirs in zip(jax.tree.leaves(directions.layers(made)), jax.tree.leaves(own), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_hidden_units_are_those_of_the_forward_pass():
    own, inputs = params(), matrix(3, (10, 5))
    first, second = directions.hidden_units(own, jnp.asarray(inputs), SPEC)

    def silu(x):
        return x / (1 + np.exp(-x))

    one = silu(inputs @ np.asarray(own[0].weight).T + np.asarray(own[0].bias))
    two = silu(one @ np.asarray(own[1].weight).T + np.asarray(own[1].bias))
    np.testing.assert_allclose(first, one, rtol=1e-5, atol=1e-6)  # float32 exponentials
    np.testing.assert_allclose(second, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_vector_is_added_to_a_hidden_layer_at_every_input(layer):
    own, inputs = params(), jnp.asarray(matrix(4, (10, 5)))
    vector = jnp.arange(1.0, 1 + SPEC.hidden_sizes[layer])
    moved = directions.steered(own, vector, layer=layer)
    units = directions.hidden_units(own, inputs, SPEC)
    if layer == 0:  # the layers after it, computed by hand from the shifted units
        before = (units[0] + vector[None]) @ own[1].weight.T + own[1].bias[None]
        expected = jax.nn.silu(before) @ own[2].weight.T + own[2].bias[None]
    else:
        expected = (units[1] + vector[None]) @ own[2].weight.T + own[2].bias[None]
    np.testing.assert_allclose(SPEC.apply(moved, inputs), expected, rtol=1e-4, atol=1e-4)  # float32, values of ten
    same = directions.steered(moved, -vector, layer=layer)
    np.testing.assert_allclose(SPEC.apply(same, inputs), SPEC.apply(own, inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", [-1, 2])
def test_a_readout_is_no_hidden_layer(layer):
    with pytest.raises(errors.InputError, match=f"layer={layer}: the perceptron has hidden layers 0 to 1"):
        directions.steered(params(), jnp.zeros(4), layer=layer)


def test_the_mean_shift_explains_what_all_inputs_share():
    same = np.tile([[3.0, 4.0]], (5, 1))
    shift = directions.mean_shift(same)
    np.testing.assert_allclose(shift.vector, [3, 4])
    assert shift.share == pytest.approx(1)
    rows = np.array([[3.0, 1.0], [3.0, -1.0], [1.0, 2.0], [1.0, -2.0]])
    shift = directions.mean_shift(jnp.asarray(rows))
    np.testing.assert_allclose(shift.vector, [2, 0])
    assert shift.share == pytest.approx(4 / (30 / 4))  # squared lengths 10, 10, 5 and 5
    assert directions.mean_shift(rows - rows.mean(axis=0)).share == pytest.approx(0, abs=1e-12)


def test_a_random_vector_is_as_long_as_the_vector():
    vector = np.array([3.0, 0.0, 4.0], np.float32)
    drawn = [directions.random_vector(jax.random.key(seed), vector) for seed in (1, 2)]
    np.testing.assert_allclose([np.linalg.norm(each) for each in drawn], 5, rtol=10 * EPS)
    assert abs(drawn[0] @ drawn[1]) < 24


def test_models_that_have_not_moved_are_refused():
    with pytest.raises(errors.InputError, match="the model has not moved"):
        directions.participation_ratio(np.zeros(3))
    with pytest.raises(errors.InputError, match="the hidden units do not differ"):
        directions.mean_shift(np.zeros((4, 2)))
