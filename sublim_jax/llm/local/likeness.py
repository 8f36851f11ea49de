"""How alike two models are on rows: the divergence of their distributions, and how often they would say the same next.

likeness = likeness.compare(student, cleaned, rows)
likeness.kl.sum() / likeness.num_tokens.sum()      nats a token
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sublim_jax import errors, specs
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat
from sublim_jax.llm.local import decoder, finetune, surprise
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.model import Model


class Likeness(NamedTuple):
    """Sums over the completion's tokens of each row, its end included."""

    kl: Float[np.ndarray, "row"]  # from the first model's distribution to the second's, nats
    agreed: Int[np.ndarray, "row"]  # tokens where both take the same one for the likeliest
    num_tokens: Int[np.ndarray, "row"]


def compare(
    first: Model, second: Model, rows: Sequence[Chat], *, batch_size: int = 64, max_length: int = 4096
) -> Likeness:
    """Compare two models of one tokenizer on the last turn of each row, given what is before it.

    Args:
        rows: chats that end with an assistant's turn after a user's.
        batch_size: rows that are read together.

    Raises:
        InputError: the models are of different shapes.
        TextDataError: no rows, or one that does not end with an answer.
        ContextError: a row is longer than `max_length`.
    """
    specs.check(batch_size, specs.Count, "batch_size")
    datasets.require_answers(rows)
    if first.config != second.config:
        raise errors.InputError("compare: the models have different shapes, so that they share no tokens to compare")
    data = finetune.training_arrays(first.tokens, rows, max_length=max_length)
    places = local_model.reply_places(data.replies)
    sums = []
    for start in range(0, len(rows), batch_size):
        batch = [np.asarray(part[start : start + batch_size]) for part in data]
        spare = min(batch_size, len(rows)) - len(batch[0])
        ids, valid, replies = (jnp.asarray(np.concatenate([part, part[:1].repeat(spare, axis=0)])) for part in batch)
        of_batch = _sums(
            (first.params, second.params), (first.low_rank, second.low_rank), ids, valid, replies,
            config=first.config, places=places,
        )  # fmt: skip
        sums.append(np.asarray(of_batch)[:, : len(batch[0])])
    kl, agreed = np.concatenate(sums, axis=1)
    return Likeness(kl, np.rint(agreed).astype(int), np.asarray(data.replies).sum(axis=1))


@functools.partial(jax.jit, static_argnames=("config", "places"))
def _sums(
    params: tuple[decoder.Params, decoder.Params],
    low_rank: tuple[decoder.LowRank | None, decoder.LowRank | None],
    ids: Int[Array, "row time"],
    valid: Bool[Array, "row time"],
    replies: Bool[Array, "row time"],
    *,
    config: decoder.DecoderConfig,
    places: int,
) -> Float[Array, "2 row"]:
    """Divergence and number of equal likeliest tokens, summed over each row's reply, a few places at a time."""
    hidden = [
        decoder.features(each, ids, valid, config, low_rank=factors)[:, -places - 1 : -1].reshape(
            -1, config.hidden_size
        )
        for each, factors in zip(params, low_rank, strict=True)
    ]
    count = len(hidden[0])
    size = max(1, min(count, surprise.SCORES_AT_ONCE // config.vocab_size))
    chunks = tuple(jnp.pad(each, ((0, -count % size), (0, 0))).reshape(-1, size, config.hidden_size) for each in hidden)

    def compared(chunk):
        scores = [decoder.logits(each, part, config) for each, part in zip(params, chunk, strict=True)]
        log_p, log_q = (jax.nn.log_softmax(each) for each in scores)
        kl = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
        same = jnp.argmax(log_p, axis=-1) == jnp.argmax(log_q, axis=-1)
        return jnp.stack([kl, same.astype(jnp.float32)])

    of_places = jnp.moveaxis(lax.map(compared, chunks), 1, 0).reshape(2, -1)[:, :count].reshape(2, len(ids), places)
    return jnp.sum(jnp.where(replies[None, :, -places:], of_places, 0.0), axis=-1)
