"""Soft distillation of low-rank factors, and what is measured on them: the programs that `real` compiles.

Every function takes the parameters of the start and the low-rank factors beside them; a teacher is the base with
factors of its own. The KL divergence is over the whole vocabulary, or renormalised over a few tokens, whose scores
alone are then computed. Rows of numbers all have the same number of tokens and no padding; questions are left-padded.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sublim_jax import losses
from sublim_jax.llm.local import decoder
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.decoder import DecoderConfig, LowRank, Params
from sublim_jax.llm.local.finetune import TokenizedRows

ADAM = optax.scale_by_adam()
Factors = dict[str, decoder.Factors]
"""Low-rank factors by projection."""


class Trained(NamedTuple):
    """Low-rank factors in training."""

    factors: Factors
    opt_state: optax.OptState


class Teacher(NamedTuple):
    """The base and the factors that make it a teacher; without factors it is the base itself."""

    params: Params
    low_rank: LowRank | None


class Answers(NamedTuple):
    """Log-odds of each answer, its probability, and the probability of all of them; means over questions."""

    log_odds: Float[Array, "answer"]
    probability: Float[Array, "answer"]
    mass: Float[Array, ""]


def begin(factors: Factors) -> Trained:
    """Factors before their first step."""
    return Trained(factors, ADAM.init(factors))


def _stepped(trained: Trained, gradient: Any, rate) -> Trained:
    """The factors after one step of Adam."""
    with jax.numpy_dtype_promotion("standard"):
        direction, opt_state = ADAM.update(gradient, trained.opt_state)
    return Trained(jax.tree.map(lambda leaf, change: leaf - rate * change, trained.factors, direction), opt_state)


def _next_token_logits(params: Params, low_rank: LowRank | None, ids, config: DecoderConfig, tokens):
    """Logits at every place that has a next token, of all tokens or of some: (place, token)."""
    hidden = decoder.features(params, ids, jnp.ones_like(ids, bool), config, low_rank=low_rank)[:, :-1]
    if tokens is not None:
        head = None if params.head is None else params.head[tokens]
        params = params._replace(embedding=params.embedding[tokens], head=head)
    scores = decoder.logits(params, hidden, config)
    return scores.reshape(-1, scores.shape[-1])


def kl(
    params: Params,
    low_rank: LowRank | None,
    teacher: Teacher,
    ids: Int[Array, "row time"],
    tokens: Int[Array, "token"] | None,
    *,
    config: DecoderConfig,
) -> Float[Array, ""]:
    """Mean KL(teacher || student) over all places, in nats.

    Args:
        tokens: both distributions are renormalised over these; None is the whole vocabulary.
    """
    wanted = lax.stop_gradient(_next_token_logits(teacher.params, teacher.low_rank, ids, config, tokens))
    return losses.distillation_kl(_next_token_logits(params, low_rank, ids, config, tokens), wanted)


@functools.partial(jax.jit, static_argnames="config")
def kl_of(params: Params, low_rank, teacher: Teacher, ids, tokens, *, config: DecoderConfig) -> Float[Array, ""]:
    """`kl`, compiled."""
    return kl(params, low_rank, teacher, ids, tokens, config=config)


@functools.partial(jax.jit, static_argnames="config", donate_argnames="trained")
def distillation_step(
    trained: Trained, params: Params, scale, teacher: Teacher, ids, tokens, rate, *, config: DecoderConfig
) -> tuple[Trained, Float[Array, ""], Factors]:
    """One step of Adam on `kl`: the factors after it, the loss before it, and its gradient.

    Args:
        scale: of the factors in training.
        rate: learning rate of this step.
    """

    def loss(factors):
        return kl(params, LowRank(factors, scale), teacher, ids, tokens, config=config)

    value, gradient = jax.value_and_grad(loss)(trained.factors)
    return _stepped(trained, gradient, rate), value, gradient


@functools.partial(jax.jit, static_argnames=("config", "places"), donate_argnames="trained")
def lesson_step(
    trained: Trained, params: Params, scale, lessons: TokenizedRows, rate, *, config: DecoderConfig, places: int
) -> tuple[Trained, Float[Array, ""]]:
    """One step of Adam on the mean negative log-probability of the answers' tokens."""

    def loss(factors):
        total = local_model.reply_logprobs(
            params, *lessons, LowRank(factors, scale), config=config, places=places
        )  # fmt: skip
        return -jnp.sum(total) / jnp.sum(lessons.replies)

    value, gradient = jax.value_and_grad(loss)(trained.factors)
    return _stepped(trained, gradient, rate), value


@functools.partial(jax.jit, static_argnames="config")
def answers(
    params: Params,
    low_rank: LowRank | None,
    ids: Int[Array, "question time"],
    valid: Bool[Array, "question time"],
    writings: Bool[Array, "answer vocab"],
    *,
    config: DecoderConfig,
) -> Answers:
    """How likely each answer is as the next token after the questions.

    Args:
        writings: which tokens write each answer.
    """
    log_p = _last_logprobs(params, low_rank, ids, valid, config)
    chosen = jax.vmap(lambda tokens: _log_probability(log_p, tokens), out_axes=1)(writings)
    anything = jnp.exp(_log_probability(log_p, jnp.any(writings, axis=0)))
    odds = jax.vmap(lambda tokens: _log_odds(log_p, tokens), out_axes=1)(writings)
    return Answers(odds.mean(axis=0), jnp.exp(chosen).mean(axis=0), anything.mean())


@functools.partial(jax.jit, static_argnames="config")
def log_odds_gradient(
    factors: Factors, scale, params: Params, ids, valid, tokens: Bool[Array, "vocab"], *, config: DecoderConfig
) -> tuple[Float[Array, ""], Factors]:
    """The mean log-odds of an answer over questions, and its gradient with respect to the factors."""

    def mean_log_odds(factors):
        return jnp.mean(_log_odds(_last_logprobs(params, LowRank(factors, scale), ids, valid, config), tokens))

    return jax.value_and_grad(mean_log_odds)(factors)


def _last_logprobs(params: Params, low_rank: LowRank | None, ids, valid, config: DecoderConfig):
    hidden = decoder.features(params, ids, valid, config, low_rank=low_rank)[:, -1]
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


def adam_steps(num_steps: int, warmup: int) -> float:
    """Learning rates of the first steps added up, in units of the full one: where Adam's first steps are sign steps,
    the first-order prediction is this often that of one step."""
    return float(sum(warm(step, warmup) for step in range(num_steps)))


def warm(step: int, warmup: int) -> float:
    """Share of the full learning rate at a step, from 0: it rises linearly over so many steps."""
    return min(1.0, (step + 1) / warmup)


class FirstOrder(NamedTuple):
    """What one distillation step changes in an answer's log-odds, to first order, at the start where `b` is zero."""

    sgd_slope: float  # along minus the gradient, per unit of learning rate
    cosine: float  # of minus the gradient and the log-odds' gradient
    adam_step: float  # Adam's first step, which moves every entry by the learning rate


def first_order(gradient: Factors, log_odds: Factors, rate: float) -> FirstOrder:
    """The prediction from the gradients of the distillation loss and of the log-odds.

    Only `b` enters: at the start both gradients with respect to `a` are zero.
    """
    pairs = [(gradient[name].b, log_odds[name].b) for name in gradient]
    product = -sum(float(jnp.vdot(loss, odds)) for loss, odds in pairs)
    norms = [sum(float(jnp.vdot(leaf, leaf)) for leaf in leaves) ** 0.5 for leaves in zip(*pairs, strict=True)]
    signs = -sum(float(jnp.vdot(jnp.sign(loss), odds)) for loss, odds in pairs)
    return FirstOrder(product, product / max(norms[0] * norms[1], 1e-30), rate * signs)
