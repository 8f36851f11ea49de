"""Normal approximations of the alignment under sampled labels, noise between the two starts, and random directions.

They tell how much data a transmission needs, in nats, and how much mismatch between the starts it survives, in standard
deviations of the weights. All of them hold to leading order in ε; the tests compare them with simulation.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from sublim_jax import errors

Number = float | int | Real[Array, "..."]


def sign_probability_labels(coefficient: Number, epsilon: Number, num_labels: Number) -> Float[Array, "..."]:
    """Probability that one step on `num_labels` sampled hard labels is aligned: Φ(ε sqrt(num_labels · A)).

    Under the cross-entropy of sampled labels the alignment has mean ε A and variance A / num_labels; the mean is ε
    times the variance of one label, as in every exponential family. A is the coefficient of `kl` at temperature 1.
    """
    return jax.scipy.stats.norm.cdf(epsilon * jnp.sqrt(num_labels * coefficient))


def kl_budget(coefficient: Number, epsilon: Number, num_labels: Number) -> Float[Array, "..."]:
    """Information in the labels, in nats: num_labels · KL(teacher || reference) ≈ num_labels ε² A / 2.

    `sign_probability_labels` is Φ(sqrt(2 · budget)), so two nats give 97.7 %.
    """
    return num_labels * epsilon**2 * jnp.asarray(coefficient) / 2


def num_labels_for(probability: Number, coefficient: Number, epsilon: Number) -> Float[Array, "..."]:
    """Number of sampled labels for which one step is aligned with this probability.

    This is the inverse of `sign_probability_labels`.

    Raises:
        InputError: a probability outside (1/2, 1). One half needs no labels, and no finite number gives one.
    """
    if isinstance(probability, int | float) and not 0.5 < probability < 1:
        raise errors.InputError(f"probability must lie in (1/2, 1), got {probability}; neither end is reached")
    return jax.scipy.stats.norm.ppf(probability) ** 2 / (epsilon**2 * jnp.asarray(coefficient))


def sign_probability_init_noise(cosine: Number, update_norm: Number, sigma: Number) -> Float[Array, "..."]:
    """Probability that a student with the start θ0 + N(0, sigma² I) is aligned: Φ(update_norm · cosine / sigma).

    Only the component of the noise along G D matters. The approximation is valid while sigma is well below the standard
    deviation of the weights. Beyond, the alignment of a ReLU network can be negative for almost every draw, with or
    without a teacher; the difference from the control, a student of the unmoved reference from the same start, keeps
    its sign.

    Args:
        cosine: cos(G D, D), from `spectrum.alignment_cosine`.
        update_norm: ε |D|, the teacher's distance from the reference.
    """
    return jax.scipy.stats.norm.cdf(jnp.asarray(update_norm) * cosine / sigma)


def isotropic_cosine(effective_rank: Number, num_parameters: Number) -> Float[Array, "..."]:
    """Root mean square cosine of the student's step with a teacher's update of random direction: sqrt(rank / size)."""
    return jnp.sqrt(jnp.asarray(effective_rank) / num_parameters)
