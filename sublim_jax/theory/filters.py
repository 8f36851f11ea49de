"""Sampled and filtered data: the alignment loses its sign, but the difference from a control keeps it.

The teacher writes completions k ~ p_ε(· | x), a filter keeps each with a probability a(x, k) that does not depend on
the teacher, and the student minimises the negative log-likelihood of the kept completions. With the score s = d/dε log
p_ε(k | x) at 0 the alignment is the mean score of the kept completions,

    alignment(ε) = E[s | kept] = alignment(0) + ε Var_0(s | kept) + o(ε).

The filter alone moves the student, even if the teacher never moved, so the first term can have any sign. It is the
alignment of a control: a student of the unmoved reference's data under the same filter. The difference is never
negative to first order for any such filter, including an oracle filter that knows the scores. A filter that depends on
the teacher adds a covariance and can make it negative. If the log-probabilities are affine in ε, up to a term that all
completions of a prompt share, and every prompt is resampled until a completion is kept, the difference is non-negative
for every ε. Without resampling, prompts become rarer or more frequent as the teacher moves, and for large ε the
difference can be negative.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from sublim_jax import errors

PerCompletion = Float[Array, "prompt completion"]


class FilteredAlignment(NamedTuple):
    """The alignment of a student of filtered samples, in units of the score."""

    control: Float[Array, ""]  # alignment(0), the effect of the filter alone
    differential: Float[Array, ""]  # slope of alignment(ε) − alignment(0): variance of the score among kept completions
    retention: Float[Array, ""]  # differential, divided by that without the filter; it can exceed one


def completion_scores(
    log_probability: Callable[[PyTree], PerCompletion], reference: PyTree, update: PyTree
) -> tuple[PerCompletion, PerCompletion]:
    """Log-probabilities of all completions at the reference, and their derivatives s along `update`."""
    return jax.jvp(log_probability, (reference,), (update,))


def kept_distribution(log_probs: PerCompletion, accept: PerCompletion, *, resample: bool = False) -> PerCompletion:
    """Probabilities of kept (prompt, completion) pairs; they add up to one over both axes.

    Args:
        log_probs: normalised over completions; prompts are equally frequent.
        accept: probability in [0, 1] that a completion is kept.
        resample: sample each prompt until a completion is kept, so that prompts stay equally frequent. By default
            prompts with strict filters become rare.
    """
    # In logarithms, because the probabilities of all kept completions can underflow.
    logits = jnp.where(accept > 0, log_probs + jnp.log(jnp.where(accept > 0, accept, 1.0)), -jnp.inf)
    if resample:
        return jax.nn.softmax(logits, axis=-1) / logits.shape[0]
    return jax.nn.softmax(logits, axis=(-2, -1))


def mean_score(
    scores: PerCompletion, log_probs: PerCompletion, accept: PerCompletion, *, resample: bool = False
) -> Float[Array, ""]:
    """Alignment of one student step on filtered samples: E[s | kept], with the log-probabilities of the teacher.

    With the log-probabilities of the reference it is the control, alignment(0).

    Coq: filtered_alignment_is_mean, filtered_affine_monotone
    """
    return jnp.sum(kept_distribution(log_probs, accept, resample=resample) * scores)


def filtered_alignment(
    scores: PerCompletion, log_probs: PerCompletion, accept: PerCompletion, *, resample: bool = False
) -> FilteredAlignment:
    """Control, differential slope and retention at the reference, by an exact sum over all completions.

    With `resample` the variance is the mean over prompts of the variance within each.

    Raises:
        InputError: an acceptance outside [0, 1], or a filter that keeps nothing (where values are concrete).

    Coq: filtered_differential, retained_variance, filtered_beats_control
    """
    if not isinstance(accept, jax.core.Tracer):
        if not bool(jnp.all((accept >= 0) & (accept <= 1))):
            raise errors.InputError(
                f"accept must hold probabilities, got values in [{jnp.min(accept)}, {jnp.max(accept)}]"
            )
        nothing = jnp.any(jnp.all(accept == 0, axis=-1)) if resample else jnp.all(accept == 0)
        if bool(nothing):
            raise errors.InputError(
                "accept keeps nothing" + (" for some prompt" if resample else "") + ": there is no student data"
            )
    control, differential = _moments(scores, log_probs, accept, resample)
    _, unfiltered = _moments(scores, log_probs, jnp.ones_like(accept), resample)
    return FilteredAlignment(control, differential, differential / unfiltered)


def _moments(scores, log_probs, accept, resample):
    probabilities = kept_distribution(log_probs, accept, resample=resample)
    mean = jnp.sum(probabilities * scores)
    per_prompt = jnp.sum(probabilities * scores, axis=-1, keepdims=True) * scores.shape[0]
    return mean, jnp.sum(probabilities * (scores - (per_prompt if resample else mean)) ** 2)


def differential_update(student: PyTree, control: PyTree) -> PyTree:
    """Student minus control: the part of the update that is due to the teacher.

    Both start from the same parameters and train on the same plan. The control's teacher is the unmoved reference under
    the same filter. Report this difference if filters, unequal starts or an adaptive optimiser make the absolute sign
    meaningless.
    """
    return optax.tree.sub(student, control)
