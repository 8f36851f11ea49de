"""Sampled and filtered data: the absolute sign is lost, the sign relative to a control is kept.

The teacher writes completions k ~ p_ε(· | x), a filter keeps each with a probability a(x, k) that does not depend on
the teacher, and the student minimises the negative log-likelihood of what was kept. With the score s = d/dε log p_ε(k
| x) at 0 the alignment is the mean score of the kept completions,

    alignment(ε) = E[s | kept] = alignment(0) + ε Var_0(s | kept) + o(ε).

The filter alone moves the student, also when the teacher never moved, so the first term has any sign. It is what a
control shows: a student of the unmoved reference's data under the same filter. The difference is never negative to
first order, whatever the filter, even one that knows the scores. A filter that depends on the teacher adds a
covariance and can turn it. If the log-probabilities are affine in ε, up to what a prompt has in common, and every
prompt is resampled until something is kept, the difference is non-negative for every ε. If what is rejected is lost,
prompts become rarer or more frequent as the teacher moves, and for large ε it need not be.
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
    """What a student of filtered samples receives. The unit of all three is that of the score."""

    control: Float[Array, ""]  # alignment(0): what the filter alone does
    differential: Float[Array, ""]  # slope of alignment(ε) − alignment(0): the variance of the score among what is kept
    retention: Float[Array, ""]  # differential over that without the filter; a filter can also amplify


def completion_scores(
    log_probability: Callable[[PyTree], PerCompletion], reference: PyTree, update: PyTree
) -> tuple[PerCompletion, PerCompletion]:
    """(log p, s): log-probabilities of all completions at the reference, and their derivative along `update`."""
    return jax.jvp(log_probability, (reference,), (update,))


def kept_distribution(log_probs: PerCompletion, accept: PerCompletion, *, resample: bool = False) -> PerCompletion:
    """Probabilities of (prompt, completion) among what the filter keeps; they add up to one over both axes.

    Args:
        log_probs: normalised over completions; prompts are equally frequent.
        accept: probability in [0, 1] that a completion is kept.
        resample: each prompt is sampled until something is kept, so prompts stay equally frequent; by default what is
            rejected is lost, and prompts with strict filters become rare.
    """
    # In logarithms: what is kept may all be so improbable that its probabilities underflow.
    logits = jnp.where(accept > 0, log_probs + jnp.log(jnp.where(accept > 0, accept, 1.0)), -jnp.inf)
    if resample:
        return jax.nn.softmax(logits, axis=-1) / logits.shape[0]
    return jax.nn.softmax(logits, axis=(-2, -1))


def mean_score(
    scores: PerCompletion, log_probs: PerCompletion, accept: PerCompletion, *, resample: bool = False
) -> Float[Array, ""]:
    """alignment(ε) of one student step on filtered samples: E[s | kept], with the TEACHER's `log_probs`.

    With the reference's own log-probabilities it is the control, alignment(0).

    Coq: filtered_alignment_is_mean, filtered_affine_monotone
    """
    return jnp.sum(kept_distribution(log_probs, accept, resample=resample) * scores)


def filtered_alignment(
    scores: PerCompletion, log_probs: PerCompletion, accept: PerCompletion, *, resample: bool = False
) -> FilteredAlignment:
    """Control, differential slope and retention at the reference, exactly, by summing over all completions.

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
    kept = kept_distribution(log_probs, accept, resample=resample)
    mean = jnp.sum(kept * scores)
    per_prompt = jnp.sum(kept * scores, axis=-1, keepdims=True) * scores.shape[0]
    return mean, jnp.sum(kept * (scores - (per_prompt if resample else mean)) ** 2)


def differential_update(student: PyTree, control: PyTree) -> PyTree:
    """Student minus control, both trained from one start on the same plan: the part of the update that the teacher
    made.

    The control's teacher is the unmoved reference, seen through the same filter. The measure to report whenever
    filters, unequal starts or an adaptive optimiser make the absolute sign meaningless.
    """
    return optax.tree.sub(student, control)
