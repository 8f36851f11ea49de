"""Kinks of ReLU networks: how far the teacher moves before the first unit crosses its kink.

Along θ0 + s D the pre-activations of hidden layer l are polynomials in s of degree l, as long as no unit of an earlier
layer has changed sides. So the first crossing is the smallest of all positive roots, and up to it the alignment is a
polynomial. With one hidden layer and the squared error it is exactly ε A + ε² B. The alignment stays positive far
beyond the first kink; the radius tells where the exact formula ends, not where the sign changes.
"""

import numpy as np
from jaxtyping import Array, Float

from sublim_jax import errors
from sublim_jax.models import mlp
from sublim_jax.theory import conditions


def pre_activations(
    params: mlp.Params, images: Float[Array, "batch pixel"], spec: mlp.MLPSpec
) -> tuple[Float[Array, "unit batch"], ...]:
    """Pre-activations of each hidden layer, with units first, e.g. for `conditions.require_no_kink`."""
    features, by_layer = images.T, []
    for layer in params[:-1]:
        before = layer.weight @ features + layer.bias[:, None]
        by_layer.append(before)
        features = mlp.ACTIVATIONS[spec.activation](before)
    return tuple(by_layer)


def radius(reference: mlp.Params, update: mlp.Params, images: Float[Array, "batch pixel"], spec: mlp.MLPSpec) -> float:
    """Smallest ε > 0 at which a hidden unit changes sides on one of the images, in float64; infinite if none does.

    Complex roots whose imaginary part is only rounding count as real, so the radius errs towards zero.

    Raises:
        InputError: the activation is not ReLU, or a unit lies on its kink already.
    """
    if spec.activation != "relu":
        raise errors.InputError(
            f"activation={spec.activation!r} has no kink; expected 'relu'. Use certificate.certified."
        )
    if len(reference) > 1:
        conditions.require_no_kink(pre_activations(reference, images, spec))
    features = np.asarray(images, np.float64).T[None]  # (power of s, feature, image)
    nearest = np.inf
    for layer, slope in zip(reference[:-1], update[:-1], strict=True):
        weight, weight_slope = np.asarray(layer.weight, np.float64), np.asarray(slope.weight, np.float64)
        degree = len(features)
        before = np.zeros((degree + 1, len(weight), features.shape[-1]))
        before[:degree] += weight @ features
        before[1:] += weight_slope @ features
        before[0] += np.asarray(layer.bias, np.float64)[:, None]
        before[1] += np.asarray(slope.bias, np.float64)[:, None]
        nearest = min(nearest, _smallest_positive_root(before.reshape(degree + 1, -1)))
        features = before * (before[0] > 0)  # the side of each unit for s from 0 to the first crossing
    return float(nearest)


def _smallest_positive_root(coefficients: np.ndarray) -> float:
    """Smallest positive root of many polynomials, with coefficients by rising power; infinite if there is none."""
    degree = len(coefficients) - 1
    monic = coefficients[1:] / coefficients[0]
    companion = np.zeros((coefficients.shape[1], degree, degree))
    companion[:, 0, :] = -monic.T
    companion[:, np.arange(1, degree), np.arange(degree - 1)] = 1.0
    inverse_roots = np.linalg.eigvals(companion)
    real = np.abs(inverse_roots.imag) <= 1e-7 * np.abs(inverse_roots)
    largest = np.max(np.where(real & (inverse_roots.real > 0), inverse_roots.real, 0.0), initial=0.0)
    return np.inf if largest == 0 else 1 / largest
