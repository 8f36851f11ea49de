"""Completions of a batch of prompts, drawn token by token with a cache; one key per row, so that rows do not know
their company."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from sublim_jax.llm.local import decoder


class Drawn(NamedTuple):
    """Completions of a batch."""

    tokens: Int[Array, "batch new"]  # the end token included; -1 after it
    logprobs: Float[Array, "batch new"]  # of the drawn tokens at temperature 1, in nats; 0 after the end
    ended: Bool[Array, "batch"]  # whether an end token came before the room was used up


@functools.partial(jax.jit, static_argnames=("config", "max_tokens", "end_tokens"))
def generate(
    params: decoder.Params,
    tokens: Int[Array, "batch time"],
    valid: Bool[Array, "batch time"],
    keys: Key[Array, "batch"],
    temperature: Float[Array, ""],
    top_p: Float[Array, ""],
    *,
    config: decoder.DecoderConfig,
    max_tokens: int,
    end_tokens: tuple[int, ...],
    low_rank: decoder.LowRank | None = None,
    limit: Int[Array, ""] | None = None,
    allowed: Bool[Array, "vocab"] | Bool[Array, "turn vocab"] | None = None,
) -> Drawn:
    """Draw a completion of each left-padded prompt.

    Args:
        max_tokens: the room for each completion, which is a shape.
        limit: draw so many tokens at most; by default as many as there is room for. It is no shape, so that requests of
            many lengths share a program.
        keys: one per row: token t of a row depends on its key and t only, not on the other rows.
        temperature: 0 takes the most likely token.
        top_p: tokens are drawn from the smallest set of most likely tokens with this much probability; 1 is all.
        allowed: tokens that may be drawn, end tokens among them; the distribution is renormalised over them. Of
            several rows, each step has the next one, and the first again after the last.
    """
    batch, time = tokens.shape
    cache = decoder.empty_cache(config, batch, time + max_tokens, params.embedding.dtype)
    seen = jnp.concatenate([valid, jnp.ones((batch, max_tokens), bool)], axis=1)
    lengths = jnp.sum(valid, axis=1)
    hidden, cache = decoder.run(params, tokens, decoder.positions(valid), seen, config, cache=cache, low_rank=low_rank)
    places, ends = jnp.arange(max_tokens), jnp.asarray(end_tokens, jnp.int32)

    def draw(scores, step):
        if allowed is not None:
            scores = jnp.where(allowed if allowed.ndim == 1 else allowed[step % len(allowed)], scores, -jnp.inf)
        uniform = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, step)))(keys)
        tempered = _nucleus(scores / jnp.maximum(temperature, 1e-6), top_p)
        token = jnp.where(temperature > 0, _inverted(tempered, uniform), jnp.argmax(scores, axis=-1))
        chosen = jnp.take_along_axis(scores, token[:, None], axis=1)[:, 0]
        return token, chosen - jax.nn.logsumexp(scores, axis=-1)

    def append(index, scores, written: Drawn):
        token, logprob = draw(scores, index)
        here = (places == index)[None] & ~written.ended[:, None]
        ended = written.ended | jnp.any(token[:, None] == ends[None], axis=1)
        tokens = jnp.where(here, token[:, None], written.tokens)
        return token, Drawn(tokens, jnp.where(here, logprob[:, None], written.logprobs), ended)

    def step(state):
        index, token, cache, written = state
        hidden, cache = decoder.run(
            params, token[:, None], (lengths + index - 1)[:, None], seen, config, cache=cache, at=time + index - 1,
            low_rank=low_rank,
        )  # fmt: skip
        token, written = append(index, decoder.logits(params, hidden[:, -1], config), written)
        return index + 1, token, cache, written

    most = max_tokens if limit is None else limit
    nothing = Drawn(jnp.full((batch, max_tokens), -1), jnp.zeros((batch, max_tokens)), jnp.zeros(batch, bool))
    token, written = append(0, decoder.logits(params, hidden[:, -1], config), nothing)
    *_, written = lax.while_loop(
        lambda state: (state[0] < most) & ~jnp.all(state[3].ended),
        step,
        (jnp.ones((), jnp.int32), token, cache, written),
    )
    return written


def _inverted(scores: Float[Array, "batch vocab"], uniform: Float[Array, "batch"]) -> Int[Array, "batch"]:
    """The token at which the cumulated probability passes `uniform`, found in two steps of sqrt(vocab).

    One uniform a row, where Gumbel noise takes one a word. A float32 uniform has 2^23 values, so words less likely than
    1e-7 are drawn a little too seldom or too often.
    """
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    size = math.isqrt(scores.shape[-1] - 1) + 1
    blocks = jnp.pad(weights, ((0, 0), (0, size * size - scores.shape[-1]))).reshape(-1, size, size)
    totals = jnp.cumsum(jnp.sum(blocks, axis=-1), axis=-1)
    left = uniform * totals[:, -1]

    def place(cumulated, aim):
        """First index whose cumulated weight exceeds the aim; rounding may leave none, then the last with weight."""
        index = jnp.sum(cumulated <= aim[:, None], axis=-1)
        return jnp.minimum(index, jnp.sum(cumulated < cumulated[:, -1:], axis=-1))

    block = place(totals, left)
    before = jnp.where(block > 0, jnp.take_along_axis(totals, jnp.maximum(block - 1, 0)[:, None], axis=1)[:, 0], 0.0)
    inside = jnp.cumsum(jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0], axis=-1)
    return block * size + place(inside, left - before)


def _nucleus(scores: Float[Array, "batch vocab"], top_p: Float[Array, ""]) -> Float[Array, "batch vocab"]:
    """Scores with everything outside the nucleus removed. All of them at `top_p` 1, which costs no sorting."""

    def cut(scores):
        ordered = jnp.sort(scores, axis=-1)[:, ::-1]
        before = jnp.cumsum(jax.nn.softmax(ordered), axis=-1) - jax.nn.softmax(ordered)
        least = jnp.maximum(top_p, jnp.finfo(jnp.float32).tiny)  # one that is rounded to 0 keeps the most likely
        smallest = jnp.min(jnp.where(before < least, ordered, jnp.inf), axis=-1, keepdims=True)
        return jnp.where(scores >= smallest, scores, -jnp.inf)

    return lax.cond(top_p < 1, cut, lambda scores: scores, scores)
