"""Log-probabilities of many texts after the same prompt, which is read once.

Keys and values of the prompt are shared by all choices, so that a choice costs its own tokens only; one of a single
token costs nothing, because the prompt's last hidden state scores every token.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sublim_jax.llm.local import decoder
from sublim_jax.llm.local.model import Model


def logprobs(
    model: Model,
    ids: Int[np.ndarray, "row time"],
    valid: Bool[np.ndarray, "row time"],
    choices: Sequence[Sequence[int]],
    *,
    batch_size: int,
) -> Float[np.ndarray, "row choice"]:
    """Log-probability, in nats, of each choice's tokens after each left-padded prompt.

    Args:
        choices: one or more tokens each; an end token counts if it is among them.
        batch_size: choices that are read at once after one prompt.
    """
    first = np.array([choice[0] for choice in choices])
    longer = [index for index, choice in enumerate(choices) if len(choice) > 1]
    room = max((len(choices[index]) - 1 for index in longer), default=0)
    scores, cache = _read(
        model.params, jnp.asarray(ids), jnp.asarray(valid), model.low_rank, config=model.config, room=room
    )
    logprobs = np.asarray(scores)[:, first].astype(np.float64)
    for start in range(0, len(longer), batch_size):
        members = longer[start : start + batch_size]
        tokens, sizes = np.zeros((power_of_two(len(members)), room + 1), np.int32), np.zeros(len(members), np.int32)
        for place, index in enumerate(members):
            sizes[place] = len(choices[index])
            tokens[place, : sizes[place]] = choices[index]
        rest = _continue(
            model.params, cache, jnp.asarray(valid), jnp.asarray(tokens), model.low_rank, config=model.config
        )
        counted = np.arange(1, room + 1) < sizes[:, None]
        logprobs[:, members] += np.sum(np.where(counted, np.asarray(rest)[:, : len(members)], 0.0), axis=-1)
    return logprobs


def power_of_two(count: int) -> int:
    """The smallest power of two that is not below `count`."""
    return 1 << (count - 1).bit_length()


@functools.partial(jax.jit, static_argnames=("config", "room"))
def _read(params: decoder.Params, ids, valid, low_rank, *, config: decoder.DecoderConfig, room: int):
    """Log-probabilities of the token after each prompt, and the prompts' cache with room for more tokens."""
    batch, time = ids.shape
    cache = decoder.empty_cache(config, batch, time + room, params.embedding.dtype)
    seen = jnp.concatenate([valid, jnp.ones((batch, room), bool)], axis=1)
    hidden, cache = decoder.run(params, ids, decoder.positions(valid), seen, config, cache=cache, low_rank=low_rank)
    with jax.default_matmul_precision("highest"):
        scores = decoder.logits(params, hidden[:, -1], config)
    return jax.nn.log_softmax(scores), cache


@functools.partial(jax.jit, static_argnames="config")
def _continue(
    params: decoder.Params, cache, valid: Bool[Array, "row time"], tokens: Int[Array, "choice place"], low_rank, *,
    config: decoder.DecoderConfig,
) -> Float[Array, "row choice rest"]:  # fmt: skip
    """Log-probability of every token of the choices but the first, one prompt after the other."""
    num_choices, room = len(tokens), tokens.shape[1] - 1
    time = valid.shape[1]

    def after(prompt):
        cache, valid = prompt
        seen = jnp.broadcast_to(jnp.concatenate([valid, jnp.ones(room, bool)]), (num_choices, time + room))
        places = jnp.broadcast_to(jnp.sum(valid) + jnp.arange(room), (num_choices, room))
        hidden, _ = decoder.run(
            params, tokens[:, :-1], places, seen, config, cache=_shared(cache, num_choices), at=time, low_rank=low_rank
        )
        return decoder.logprobs(params, hidden, tokens[:, 1:], config)

    by_prompt = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, leaf.ndim - 4, 0), cache)  # layers may come before rows
    return jax.lax.map(after, (by_prompt, valid))


def _shared(cache, count: int):
    """The cache of one prompt for so many rows."""
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf[..., None, :, :, :], (*leaf.shape[:-3], count, *leaf.shape[-3:])), cache
    )
