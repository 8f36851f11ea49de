"""Functions of the logits of ONE model: what training minimises and what the theorem is about.

Conventions shared by all of them: a sum over the logits given, a mean over the batch, nats. The softmax runs over the
logits it is handed, so a slice distils that slice alone. `weights` lets an example count less or not at all, which is
how a last, partly filled batch keeps the shape of the others. In a distillation loss the student comes first.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from sublim_jax import errors, specs

DistillationLossName = Literal["kl", "reverse_kl", "jeffreys", "mse", "centred_mse"]


def weighted_mean(values: Float[Array, "batch"], weights: Float[Array, "batch"] | None) -> Float[Array, ""]:
    """Mean of per-example values; `weights` need not add up to one. Not a number when all weights are zero."""
    if weights is None:
        return jnp.mean(values)
    return jnp.sum(values * weights) / jnp.sum(weights)


def cross_entropy(
    logits: Float[Array, "batch logit"],
    labels: Integer[Array, "batch"],
    *,
    weights: Float[Array, "batch"] | None = None,
) -> Float[Array, ""]:
    """Mean negative log-probability of the labels, in nats, under the softmax of the logits given."""
    log_q = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_q, labels[:, None].astype(jnp.int32), axis=-1)
    return weighted_mean(-chosen[:, 0], weights)


def _log_softmaxes(student_logits, teacher_logits, temperature):
    specs.check(temperature, specs.Positive, "temperature")
    return (jax.nn.log_softmax(logits / temperature) for logits in (student_logits, teacher_logits))


def distillation_kl(
    student_logits: Float[Array, "batch logit"],
    teacher_logits: Float[Array, "batch logit"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    weights: Float[Array, "batch"] | None = None,
) -> Float[Array, ""]:
    """Mean KL divergence from the teacher's softmax to the student's, KL(teacher || student), in nats.

    Zero exactly when the logits differ by a constant per example, hence always for a single logit.

    Args:
        temperature: divides both logits; the loss is multiplied by its square so that gradients keep their scale.

    Raises:
        InputError: `temperature` is not positive.

    Source: Cloud et al. 2025, section 6.2 (temperature 1); Hinton et al. 2015, section 2.
    """
    log_q, log_p = _log_softmaxes(student_logits, teacher_logits, temperature)
    return temperature**2 * weighted_mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1), weights)


def reverse_kl(
    student_logits: Float[Array, "batch logit"],
    teacher_logits: Float[Array, "batch logit"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    weights: Float[Array, "batch"] | None = None,
) -> Float[Array, ""]:
    """Mean KL(student || teacher), in nats: mode-seeking. Same curvature at equality as `distillation_kl`.

    Raises:
        InputError: `temperature` is not positive.
    """
    return distillation_kl(teacher_logits, student_logits, temperature=temperature, weights=weights)


def jeffreys(
    student_logits: Float[Array, "batch logit"],
    teacher_logits: Float[Array, "batch logit"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    weights: Float[Array, "batch"] | None = None,
) -> Float[Array, ""]:
    """Mean of the two KL divergences, (KL(t || s) + KL(s || t)) / 2, in nats. Books also use the sum.

    Raises:
        InputError: `temperature` is not positive.
    """
    log_q, log_p = _log_softmaxes(student_logits, teacher_logits, temperature)
    per_example = 0.5 * jnp.sum((jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q), axis=-1)
    return temperature**2 * weighted_mean(per_example, weights)


def squared_error(
    student_logits: Float[Array, "batch logit"],
    teacher_logits: Float[Array, "batch logit"],
    *,
    weights: Float[Array, "batch"] | None = None,
) -> Float[Array, ""]:
    """Sum over logits of the squared difference, without the factor 1/2, averaged over the batch."""
    return weighted_mean(jnp.sum((student_logits - teacher_logits) ** 2, axis=-1), weights)


def centred_squared_error(
    student_logits: Float[Array, "batch logit"],
    teacher_logits: Float[Array, "batch logit"],
    *,
    weights: Float[Array, "batch"] | None = None,
) -> Float[Array, ""]:
    """`squared_error` after each example's mean logit is removed: blind to a constant, as softmax losses are."""
    difference = student_logits - teacher_logits
    return weighted_mean(jnp.sum((difference - jnp.mean(difference, axis=-1, keepdims=True)) ** 2, axis=-1), weights)


def distillation_loss(
    name: DistillationLossName, *, temperature: float | Float[Array, ""] = 1.0
) -> Callable[..., Float[Array, ""]]:
    """The loss of that name as a function of (student_logits, teacher_logits, weights=None).

    Raises:
        InputError: unknown name, a temperature that is not positive, or one given to a squared error, which has none.
    """
    specs.check(name, DistillationLossName, "loss")
    specs.check(temperature, specs.Positive, "temperature")
    softmax_losses = {"kl": distillation_kl, "reverse_kl": reverse_kl, "jeffreys": jeffreys}
    squared_losses = {"mse": squared_error, "centred_mse": centred_squared_error}
    if name in softmax_losses:
        return lambda student, teacher, weights=None: softmax_losses[name](
            student, teacher, temperature=temperature, weights=weights
        )
    if not isinstance(temperature, jax.Array) and temperature != 1.0:
        raise errors.InputError(f"loss {name!r} has no temperature, got {temperature}; leave it at 1 or use a KL loss")
    return lambda student, teacher, weights=None: squared_losses[name](student, teacher, weights=weights)
