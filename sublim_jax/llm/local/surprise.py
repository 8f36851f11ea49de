"""How surprised a model is by rows: log-probability of each completion beside what the model expected of it.

    scores = surprise.score(model, rows)
    scores.logprobs + scores.entropies      mean 0 over rows that the model itself wrote and nobody filtered

At every token of a completion, its end included, the model has a distribution over the vocabulary. The entropy is minus
the mean of the log-probability under that distribution, and the variance is that of the log-probability. A row has the
sums over its tokens. See `sublim_jax.audit.author` for what they tell.
"""

import functools
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt64

from sublim_jax import errors, specs
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat
from sublim_jax.llm.local import choice_scoring, decoder, tokenizer
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.model import Model

SCORES_AT_ONCE = 2**23
"""Logits that are in memory at one time, 32 megabytes in float32, however many rows a batch has."""
MAX_LENGTH = 4096
"""Tokens of a row that is scored, unless the caller says otherwise."""


class RowScores(NamedTuple):
    """Sums over the completion's tokens of each row, in nats, and which rows they are."""

    logprobs: Float[np.ndarray, "row"]
    entropies: Float[np.ndarray, "row"]
    variances: Float[np.ndarray, "row"]  # of the log-probabilities, in nats squared
    num_tokens: Int[np.ndarray, "row"]  # the end token included
    row_ids: UInt64[np.ndarray, "row"]  # hashes of the chats, equal for equal chats whatever the model

    def take(self, places: Any) -> "RowScores":
        """The rows at these places, as a slice or an array of indices."""
        return RowScores(*(array[places] for array in self))


def score(model: Model, rows: Sequence[Chat], *, batch_size: int = 64, max_length: int = MAX_LENGTH) -> RowScores:
    """Scores of the last turn of each row, given the turns before it.

    Args:
        rows: chats that end with an assistant's turn after a user's.
        batch_size: rows that are read together. Rows of one padded length share a compiled program.
        max_length: tokens of a row; longer ones are refused.

    Raises:
        TextDataError: no rows, or one that does not end with an answer.
        ContextError: a row is longer than `max_length`.
    """
    specs.check(batch_size, specs.Count, "batch_size")
    datasets.require_answers(rows)
    encoded = [model.tokens.chat(row[:-1], row[-1].content) for row in rows]
    longest = max(range(len(rows)), key=lambda row: len(encoded[row].ids))
    if len(encoded[longest].ids) > max_length:
        raise errors.ContextError(
            f"row {longest} has {len(encoded[longest].ids)} tokens, and {max_length} are allowed; drop it, or raise "
            f"max_length"
        )
    sums = np.zeros((3, len(rows)))
    by_length: dict[int, list[int]] = {}
    for row, each in enumerate(encoded):
        by_length.setdefault(tokenizer.padded_length(len(each.ids)), []).append(row)
    for length, group in sorted(by_length.items()):
        places = local_model.reply_places(local_model.reply_mask([encoded[row] for row in group], length))
        size = min(batch_size, choice_scoring.power_of_two(len(group)))
        for start in range(0, len(group), size):
            batch = group[start : start + size]
            filled = [encoded[row] for row in batch + [batch[-1]] * (size - len(batch))]
            ids, valid = tokenizer.pad_left([each.ids for each in filled], length)
            of_batch = _sums(
                model.params, jnp.asarray(ids), jnp.asarray(valid),
                jnp.asarray(local_model.reply_mask(filled, length)), model.low_rank,
                config=model.config, places=places,
            )  # fmt: skip
            sums[:, batch] = np.asarray(of_batch)[:, : len(batch)]
    num_tokens = np.array([len(each.ids) - each.reply_start for each in encoded])
    return RowScores(sums[0], sums[1], sums[2], num_tokens, row_ids(rows))


def row_ids(rows: Sequence[Chat]) -> UInt64[np.ndarray, "row"]:
    """A 64-bit hash of each chat, equal for equal chats."""
    texts = (repr([tuple(turn) for turn in row]).encode("utf-8", "backslashreplace") for row in rows)
    digests = [hashlib.blake2b(text, digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), np.uint64)


@functools.partial(jax.jit, static_argnames=("config", "places"))
def _sums(
    params: decoder.Params,
    ids: Int[Array, "row time"],
    valid: Bool[Array, "row time"],
    replies: Bool[Array, "row time"],
    low_rank: decoder.LowRank | None,
    *,
    config: decoder.DecoderConfig,
    places: int,
) -> Float[Array, "3 row"]:
    """Log-probability, entropy and variance, summed over each row's reply, a few places at a time.

    Args:
        places: at the right edge, which hold all replies; nothing is computed over the vocabulary elsewhere.
    """
    num_rows = len(ids)
    hidden = decoder.features(params, ids, valid, config, low_rank=low_rank)[:, -places - 1 : -1]
    flat = hidden.reshape(-1, hidden.shape[-1]), ids[:, -places:].reshape(-1)
    count = num_rows * places
    size = max(1, min(count, SCORES_AT_ONCE // config.vocab_size))
    spare = -count % size
    chunks = jax.tree.map(
        lambda leaf: jnp.pad(leaf, ((0, spare), *[(0, 0)] * (leaf.ndim - 1))).reshape(-1, size, *leaf.shape[1:]), flat
    )

    def moments(chunk):
        hidden, targets = chunk
        logprobs = jax.nn.log_softmax(decoder.logits(params, hidden, config))
        probabilities = jnp.exp(logprobs)
        entropies = -jnp.sum(probabilities * logprobs, axis=-1)
        variances = jnp.sum(probabilities * jnp.square(logprobs + entropies[:, None]), axis=-1)
        return jnp.stack([jnp.take_along_axis(logprobs, targets[:, None], axis=-1)[:, 0], entropies, variances])

    of_places = jnp.moveaxis(lax.map(moments, chunks), 1, 0).reshape(3, -1)[:, :count].reshape(3, num_rows, places)
    return jnp.sum(jnp.where(replies[None, :, -places:], of_places, 0.0), axis=-1)
