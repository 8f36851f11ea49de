"""What a set of images looks like to a judge: the share with a trait, its confidence, and Fréchet distances.

A judge is a classifier; here it is only its probabilities and its hidden features, (image, feature). Numbers are
float64 and computed by NumPy.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from sublim_jax import errors


class Moments(NamedTuple):
    """Mean and covariance of features over images."""

    mean: Float[np.ndarray, "feature"]
    covariance: Float[np.ndarray, "feature feature"]  # of n - 1 degrees of freedom


def share(has_trait: Bool[np.ndarray, "image"]) -> float:
    """Share of the images that have a trait."""
    return float(np.mean(has_trait))


def confidence(probabilities: Float[np.ndarray, "image class"]) -> float:
    """Mean of the largest probability: near 1 for clear images, 1 / classes for a judge that cannot tell."""
    return float(np.mean(np.max(probabilities, axis=1)))


def moments(features: Float[np.ndarray, "image feature"]) -> Moments:
    """Mean and covariance.

    Raises:
        InputError: fewer than two images, or features that are not finite.
    """
    features = np.asarray(features, np.float64)
    if len(features) < 2:
        raise errors.InputError(f"a covariance needs two images at least, got {len(features)}")
    if not np.all(np.isfinite(features)):
        raise errors.InputError("features are not finite: the images are probably those of a training that diverged")
    centred = features - features.mean(axis=0)
    return Moments(features.mean(axis=0), centred.T @ centred / (len(features) - 1))


def _root(matrix: Float[np.ndarray, "feature feature"]) -> Float[np.ndarray, "feature feature"]:
    """The symmetric root of a covariance matrix; eigenvalues that rounding made negative are 0."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def frechet_distance(first: Moments, second: Moments) -> float:
    """Squared Fréchet (2-Wasserstein) distance between Gaussians with these moments.

    |m - n|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), which is symmetric and 0 for equal moments. For features of an
    Inception network it is the "FID".

    Raises:
        InputError: the moments are of different numbers of features.

    Source: Dowson and Landau 1982; Heusel et al. 2017.
    """
    if first.mean.shape != second.mean.shape:
        raise errors.InputError(
            f"moments of {len(first.mean)} and of {len(second.mean)} features: expected those of one judge"
        )
    root = _root(first.covariance)
    values = np.linalg.eigvalsh(root @ second.covariance @ root)
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    difference = first.mean - second.mean
    distance = difference @ difference + traces - 2 * np.sum(np.sqrt(np.maximum(values, 0)))
    return float(max(distance, 0.0))


def relative_frechet_distance(features: Float[np.ndarray, "image feature"], real: Moments) -> float:
    """The Fréchet distance of some images to real ones, over the trace of the real ones' covariance.

    1 is the distance of images that all have the features' mean, and nothing else.
    """
    return frechet_distance(moments(features), real) / float(np.trace(real.covariance))
