"""What becomes of a teacher's logits before a student sees them: noise, rounding, all but the largest removed."""

import dataclasses
from typing import Annotated

import annotated_types
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sublim_jax import specs

REMOVED = -1e9
"""Logit of what is removed: its probability is exactly zero in float32."""


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetCorruption:
    """The default leaves the logits as they are. Noise comes first, then rounding, then the choice of the largest."""

    noise: specs.NonNegative | None = None  # standard deviation of normal noise, drawn once per example and logit
    bits: Annotated[int, annotated_types.Interval(ge=1, le=16)] | None = None
    """Levels 2**bits between the smallest and the largest of all targets."""
    top_k: specs.Count | None = None  # keep the k largest of an example's distilled logits; for the loss "kl" alone


def corrupt(
    key: Key[Array, ""], targets: Float[Array, "example logit"], spec: TargetCorruption
) -> Float[Array, "example logit"]:
    """All targets of a data set with the noise and the rounding of the spec."""
    if spec.noise is not None:
        targets = targets + spec.noise * jax.random.normal(key, targets.shape)
    if spec.bits is not None:
        low, high = jnp.min(targets), jnp.max(targets)
        step = (high - low) / (2**spec.bits - 1)
        levels = jnp.round((targets - low) / jnp.where(step > 0, step, 1.0))
        targets = low + step * levels
    return targets


def keep_largest(logits: Float[Array, "batch logit"], spec: TargetCorruption) -> Float[Array, "batch logit"]:
    """The distilled logits of a batch with all but the `top_k` largest of each example removed; of equals the first."""
    if spec.top_k is None or spec.top_k >= logits.shape[-1]:
        return logits
    largest = jax.lax.top_k(logits, spec.top_k)[1]
    is_largest = jnp.any(largest[:, :, None] == jnp.arange(logits.shape[-1])[None, None, :], axis=1)
    return jnp.where(is_largest, logits, REMOVED)
