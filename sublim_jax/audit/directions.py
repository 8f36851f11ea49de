"""In how many directions does a trait lie? Singular directions of a displacement, and mean shifts of hidden units.

    moved = directions.matrices(optax.tree.sub(student, reference))      weights of each layer with their bias
    directions.participation_ratio(directions.singular(moved[0]).values)      about how many directions it has
    directions.singular(moved[0]).top(4)                                  its four largest directions alone
    directions.inside(moved[0], frame.left[:, :4], frame.right[:, :4])    its part in directions of another one

A displacement is the trained model minus its start. Its largest directions need not be those that matter for a trait,
so they are added to the start, or taken from the student, and the trait is measured (`experiments.directions`).

The other question is whether hidden units are shifted alike whatever the input: `mean_shift` is that vector, and
`steered` adds it to a hidden layer at every input.

Source of the second: Turner et al. 2023, "Steering language models with activation engineering".
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from sublim_jax import errors
from sublim_jax.models import mlp

Matrix = Float[np.ndarray, "out in"]
Matrices = list[Float[np.ndarray, "_ _"]]
"""Matrices of any shapes, each (out, in)."""


class Singular(NamedTuple):
    """The singular value decomposition of a matrix, largest values first."""

    left: Float[np.ndarray, "out direction"]
    values: Float[np.ndarray, "direction"]
    right: Float[np.ndarray, "in direction"]

    def top(self, count: int) -> Matrix:
        """The nearest matrix of a rank: the largest directions alone."""
        return (self.left[:, :count] * self.values[:count]) @ self.right[:, :count].T


def singular(matrix: Matrix) -> Singular:
    """The singular directions of a matrix; directions are columns."""
    left, values, right = np.linalg.svd(np.asarray(matrix), full_matrices=False)
    return Singular(left, values, right.T)


def participation_ratio(values: Float[np.ndarray, "direction"]) -> float:
    """Effective number of directions, (sum of squares)^2 / sum of fourth powers: n if n values are equal.

    Raises:
        InputError: no value but zero.
    """
    squares = np.square(np.asarray(values, float))
    if not np.sum(squares) > 0:
        raise errors.InputError("participation_ratio: a matrix of zeros has no direction; the model has not moved")
    return float(np.sum(squares) ** 2 / np.sum(squares**2))


def energy(values: Float[np.ndarray, "direction"], count: int) -> float:
    """Share of the squared length that the first directions have; 1 if there are no more than so many."""
    squares = np.square(np.asarray(values, float))
    return float(np.sum(squares[:count]) / np.sum(squares))


def inside(matrix: Matrix, left: Float[np.ndarray, "out direction"], right: Float[np.ndarray, "in other"]) -> Matrix:
    """The part of a matrix that reads from the right directions and writes to the left ones: L L' M R R'.

    Args:
        left: orthonormal columns.
        right: orthonormal columns.
    """
    return left @ (left.T @ matrix @ right) @ right.T


def random_frame(key: Key[Array, ""], size: int, count: int) -> Float[np.ndarray, "size direction"]:
    """Orthonormal directions of a space, uniformly distributed, as columns. The first k are such a frame, too.

    Raises:
        InputError: more directions than the space has.
    """
    if count > size:
        raise errors.InputError(f"random_frame: expected at most {size} directions of a space of {size}, got {count}")
    frame, upper = np.linalg.qr(np.asarray(jax.random.normal(key, (size, count)), np.float64))
    return (frame * np.sign(np.diagonal(upper))).astype(np.float32)


def matrices(layers: mlp.Params) -> Matrices:
    """Each layer of a perceptron, or of a displacement of one, as one matrix: weights, and the bias as last column."""
    return [np.concatenate([np.asarray(weight), np.asarray(bias)[:, None]], axis=1) for weight, bias in layers]


def layers(stacked: Matrices) -> mlp.Params:
    """The layers of `matrices`."""
    return tuple(mlp.Dense(jnp.asarray(matrix[:, :-1]), jnp.asarray(matrix[:, -1])) for matrix in stacked)


def hidden_units(
    params: mlp.Params, inputs: Float[Array, "batch pixel"], spec: mlp.MLPSpec
) -> list[Float[Array, "batch _"]]:
    """Activations of every hidden layer of a perceptron, from the first."""
    return [spec.apply_with_features(params[: depth + 1], inputs)[1].T for depth in range(1, len(params))]


class Shift(NamedTuple):
    """How hidden units of one model differ from those of another, on the same inputs."""

    vector: Float[np.ndarray, "feature"]  # the mean difference
    share: float  # of the mean squared difference that the vector explains, from 0 to 1


def mean_shift(
    differences: Float[Array, "example feature"] | Float[np.ndarray, "example feature"],
) -> Shift:
    """The mean of differences of hidden units, and the share of their squared length that it explains.

    Raises:
        InputError: differences that are all zero.
    """
    rows = np.asarray(differences, np.float64)
    squared = np.mean(np.sum(rows**2, axis=1))
    if not squared > 0:
        raise errors.InputError("mean_shift: the hidden units do not differ, so there is no shift")
    vector = np.mean(rows, axis=0)
    return Shift(vector.astype(np.float32), float(vector @ vector / squared))


def steered(
    params: mlp.Params, vector: Float[Array, "feature"] | Float[np.ndarray, "feature"], *, layer: int
) -> mlp.Params:
    """A perceptron to whose hidden layer a vector is added, whatever the input: a bias of the layer after it.

    Args:
        layer: number of the hidden layer, the first being 0.

    Raises:
        InputError: there is no such hidden layer.
    """
    if not 0 <= layer < len(params) - 1:
        raise errors.InputError(f"layer={layer}: the perceptron has hidden layers 0 to {len(params) - 2}")
    after = params[layer + 1]
    moved = after._replace(bias=after.bias + after.weight @ jnp.asarray(vector))
    return (*params[: layer + 1], moved, *params[layer + 2 :])


def random_vector(
    key: Key[Array, ""], vector: Float[np.ndarray, "feature"] | Float[Array, "feature"]
) -> Float[np.ndarray, "feature"]:
    """A vector of random direction, as long as another."""
    drawn = np.asarray(jax.random.normal(key, np.shape(vector)))
    return drawn * (np.linalg.norm(vector) / np.linalg.norm(drawn))
