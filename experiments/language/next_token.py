"""What `real` measures on a model: words as the next token, their gradients, and hidden states on numbers."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sublim_jax.llm.local import decoder
from sublim_jax.llm.local.decoder import DecoderConfig, LowRank, Params

Factors = dict[str, decoder.Factors]
"""Low-rank factors, or a gradient with respect to them, by projection."""


class Words(NamedTuple):
    """Log-odds of each word, its probability, and the probability of all of them; means over questions."""

    log_odds: Float[Array, "word"]
    probability: Float[Array, "word"]
    mass: Float[Array, ""]


@functools.partial(jax.jit, static_argnames="config")
def words(
    params: Params,
    low_rank: LowRank | None,
    ids: Int[Array, "question time"],
    valid: Bool[Array, "question time"],
    writings: Bool[Array, "word vocab"],
    *,
    config: DecoderConfig,
) -> Words:
    """How likely each word is as the next token after left-padded questions.

    Args:
        writings: which tokens write each word.
    """
    log_p = _last_logprobs(params, low_rank, ids, valid, config)
    odds = jax.vmap(lambda tokens: _log_odds(log_p, tokens), out_axes=1)(writings)
    chosen = jax.vmap(lambda tokens: _log_probability(log_p, tokens), out_axes=1)(writings)
    anything = _log_probability(log_p, jnp.any(writings, axis=0))
    return Words(odds.mean(axis=0), jnp.exp(chosen).mean(axis=0), jnp.exp(anything).mean())


class Pair(NamedTuple):
    """Log-odds of one token against another, and the probability of both together; means over rows."""

    log_odds: Float[Array, ""]
    mass: Float[Array, ""]


@functools.partial(jax.jit, static_argnames="config")
def pair(
    params: Params,
    low_rank: LowRank | None,
    ids: Int[Array, "row time"],
    valid: Bool[Array, "row time"],
    first: Int[Array, ""],
    second: Int[Array, ""],
    *,
    config: DecoderConfig,
) -> Pair:
    """How much likelier one token is than another as the next one after left-padded rows."""
    log_p = _last_logprobs(params, low_rank, ids, valid, config)
    left, right = log_p[:, first], log_p[:, second]
    return Pair(jnp.mean(left - right), jnp.mean(jnp.exp(left) + jnp.exp(right)))


@functools.partial(jax.jit, static_argnames="config")
def log_odds_gradient(
    factors: Factors, scale, params: Params, ids, valid, tokens: Bool[Array, "vocab"], *, config: DecoderConfig
) -> Factors:
    """Gradient of a word's mean log-odds over questions with respect to low-rank factors."""

    def mean_log_odds(factors):
        log_p = _last_logprobs(params, LowRank(factors, scale), ids, valid, config, remat=True)
        return jnp.mean(_log_odds(log_p, tokens))

    return jax.grad(mean_log_odds)(factors)


def _last_logprobs(
    params: Params, low_rank: LowRank | None, ids, valid, config: DecoderConfig, *, remat: bool = False
) -> Float[Array, "row vocab"]:
    hidden = decoder.features(params, ids, valid, config, low_rank=low_rank, remat=remat)[:, -1]
    return jax.nn.log_softmax(decoder.logits(params, hidden, config))


def _log_probability(log_p: Float[Array, "row vocab"], tokens: Bool[Array, "vocab"]) -> Float[Array, "row"]:
    return jax.nn.logsumexp(jnp.where(tokens, log_p, -jnp.inf), axis=-1)


def _log_odds(log_p: Float[Array, "row vocab"], tokens: Bool[Array, "vocab"]) -> Float[Array, "row"]:
    return _log_probability(log_p, tokens) - _log_probability(log_p, ~tokens)


@functools.partial(jax.jit, static_argnames="config")
def mean_streams(
    params: Params, low_rank: LowRank | None, ids: Int[Array, "row time"], *, config: DecoderConfig
) -> Float[Array, "layer hidden"]:
    """Mean hidden state after every layer over all places but the first, which holds outliers."""
    streams = decoder.residual_streams(params, ids, jnp.ones_like(ids, bool), config, low_rank=low_rank)
    return streams[:, :, 1:].mean(axis=(1, 2))


class FirstOrder(NamedTuple):
    """What one distillation step changes in a word's log-odds, to first order, at the start where `b` is zero."""

    sgd_slope: float  # along minus the gradient, per unit of learning rate
    cosine: float  # of minus the gradient and the log-odds' gradient
    adam_step: float  # Adam's first step, which moves every entry by the learning rate


def first_order(loss: Factors, log_odds: Factors, *, learning_rate: float) -> FirstOrder:
    """The prediction from the gradients of the distillation loss and of the log-odds.

    Only `b` enters: at the start both gradients with respect to `a` are zero.
    """
    pairs = [(loss[name].b, log_odds[name].b) for name in loss]
    product = -sum(float(jnp.vdot(*pair)) for pair in pairs)
    norms = [sum(float(jnp.vdot(leaf, leaf)) for leaf in leaves) ** 0.5 for leaves in zip(*pairs, strict=True)]
    signs = -sum(float(jnp.vdot(jnp.sign(slope), odds)) for slope, odds in pairs)
    return FirstOrder(product, product / max(norms[0] * norms[1], 1e-30), learning_rate * signs)


def adam_steps(num_steps: int, num_warmup_steps: int) -> float:
    """Learning rates of the first steps added up, in units of the full one.

    As long as Adam's steps are sign steps, the first-order prediction is this often that of one step.
    """
    first = 1 / num_warmup_steps
    return sum(min(1.0, first + (1 - first) * step / num_warmup_steps) for step in range(num_steps))
