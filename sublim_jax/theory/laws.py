"""Laws of chance: sampled labels, noise between the two starts, random directions. Each is a normal law to first order.

They say how much data a transmission needs and how much mismatch it survives: in nats of information and in weight
standard deviations. All are leading-order statements in ε; the tests hold them against simulation.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from sublim_jax import errors

Number = float | int | Real[Array, "..."]


def sign_probability_labels(coefficient: Number, epsilon: Number, num_labels: Number) -> Float[Array, "..."]:
    """P(alignment > 0) of one step on `num_labels` hard labels sampled from the teacher: Φ(ε sqrt(num_labels · A)).

    Under the cross-entropy of sampled labels the alignment has mean ε A and variance A / num_labels: the mean is ε
    times the variance of one label, as in every exponential family. A is that of `kl` at temperature 1.
    """
    return jax.scipy.stats.norm.cdf(epsilon * jnp.sqrt(num_labels * coefficient))


def kl_budget(coefficient: Number, epsilon: Number, num_labels: Number) -> Float[Array, "..."]:
    """What the labels say about the teacher, in nats: num_labels · KL(teacher || reference) ≈ num_labels ε² A / 2.

    `sign_probability_labels` is Φ(sqrt(2 · budget)): two nats for 97.7 %.
    """
    return num_labels * epsilon**2 * jnp.asarray(coefficient) / 2


def num_labels_for(probability: Number, coefficient: Number, epsilon: Number) -> Float[Array, "..."]:
    """How many sampled labels make the sign of one step right with that probability; inverse of the label law.

    Raises:
        InputError: a probability outside (1/2, 1): half is had without any label, and one with no finite number.
    """
    if isinstance(probability, int | float) and not 0.5 < probability < 1:
        raise errors.InputError(f"probability must lie in (1/2, 1), got {probability}; the law reaches neither end")
    return jax.scipy.stats.norm.ppf(probability) ** 2 / (epsilon**2 * jnp.asarray(coefficient))


def sign_probability_init_noise(cosine: Number, update_norm: Number, sigma: Number) -> Float[Array, "..."]:
    """P(alignment > 0) of a student that starts at θ0 + N(0, sigma² I): Φ(update_norm · cosine / sigma).

    Only the component of the noise along G D matters. Valid while sigma is well below the standard deviation of the
    weights; beyond, a ReLU network can be negative for almost every draw, teacher or not, and only the difference from
    the control (a student of the unmoved reference from the same start) keeps its sign.

    Args:
        cosine: cos(G D, D), from `spectrum.alignment_cosine`.
        update_norm: ε |D|, the teacher's distance from the reference.
    """
    return jax.scipy.stats.norm.cdf(jnp.asarray(update_norm) * cosine / sigma)


def isotropic_cosine(effective_rank: Number, num_parameters: Number) -> Float[Array, "..."]:
    """Root mean square cosine of the student's step with a teacher's update of random direction: sqrt(rank / size)."""
    return jnp.sqrt(jnp.asarray(effective_rank) / num_parameters)
