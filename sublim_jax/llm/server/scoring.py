"""Draws after given tokens, and log-probabilities of given tokens, as the server needs them.

`LocalBackend` answers many chats at once, without tokens; a server answers one request at a time, with the
log-probabilities of its tokens. The draws are the same: a token depends on the prompt, the seed, the sample's number
and its place.

Lengths and counts in a request are rounded up to powers of two (`bucket`), so that all requests together compile a
handful of programs.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sublim_jax import errors
from sublim_jax.llm.backend import SamplingParams
from sublim_jax.llm.local import decoder, tokenizer
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.model import Model, Reply
from sublim_jax.llm.local.tokenizer import Tokenizer
from sublim_jax.llm.server import responses, schema
from sublim_jax.llm.server.api_error import APIError

ROWS_AT_ONCE = 64  # samples drawn together
PLACES_AT_ONCE = 64  # of a text, whose logits over the vocabulary are held at one time
UNREADABLE = "\ufffd"  # replaces bytes that are a part of a letter
SHORTEST = 16  # tokens for which a program is compiled


def draw(model: Model, prompt: Sequence[int], params: SamplingParams) -> list[Reply]:
    """`num_samples` draws after a prompt; those of `LocalBackend.sample` for the same seed and the prompt of a chat."""
    draws = []
    for first in range(0, params.num_samples, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, params.num_samples - first)
        numbers = [*range(first, first + count), *[first] * (power_of_two(count) - count)]  # repeated, it ends no later
        draws += local_model.draw(
            model, [prompt] * len(numbers), numbers, params, length=bucket(len(prompt)), room=bucket(params.max_tokens)
        )[:count]
    return draws


def bucket(length: int) -> int:
    """The shape that holds `length` tokens."""
    return max(SHORTEST, power_of_two(length))


def power_of_two(count: int) -> int:
    """The smallest one that is not below `count`, which is at least 1."""
    return 1 << (count - 1).bit_length()


def score(model: Model, ids: Sequence[int], *, top: int) -> tuple[responses.Token | None, ...]:
    """Log-probability of each token after those before it, in nats at temperature 1; None for the first.

    Args:
        top: number of most likely tokens to return in each place.
    """
    length, size = bucket(len(ids)), min(schema.MAX_TOP, model.config.vocab_size) if top else 0
    padded, valid = tokenizer.pad_left([ids], length)
    arrays = _token_scores(
        model.params, jnp.asarray(padded), jnp.asarray(valid), model.low_rank, config=model.config, top=size
    )
    own, values, indices = (np.asarray(array)[length - len(ids) :] for array in arrays)
    text = functools.cache(lambda index: model.tokens.text([index]))
    scored: list[responses.Token | None] = [None]
    for index, logprob, top_values, top_indices in zip(ids[1:], own, values, indices, strict=True):
        others = tuple(
            responses.Token(int(i), text(int(i)), float(v))
            for v, i in zip(top_values[:top], top_indices[:top], strict=True)
        )
        scored.append(responses.Token(int(index), text(int(index)), float(logprob), others))
    return tuple(scored)


def pieces(reader: Tokenizer, ids: Sequence[int], text: str | None = None) -> tuple[str, ...]:
    """The part of the text that each token adds: joined, the pieces are the text.

    Of tokens that hold parts of one letter, one adds it and the others add nothing. A space belongs to the next word.

    Args:
        text: the text that the ids encode. By default it is their decoded text.
    """
    if text is not None:
        ends = [min(end, len(text)) for end in itertools.accumulate(reader.ends(text), max)]
        edges = 0, *ends[:-1], len(text)
        return tuple(text[first:last] for first, last in itertools.pairwise(edges))
    parts, whole, context, settled = [""] * len(ids), reader.text(ids), 0, 0
    for place in range(len(ids)):
        before, after = reader.text(ids[context:settled]), reader.text(ids[context : place + 1])
        if len(after) > len(before) and not after.endswith(UNREADABLE):
            parts[place], context, settled = after[len(before) :], settled, place + 1
    joined = "".join(parts)
    if whole.startswith(joined) and ids:
        parts[-1] += whole[len(joined) :]
        return tuple(parts)
    return (whole, *parts[1:])[: len(ids)]


def cut(parts: Sequence[str], length: int) -> tuple[str, ...]:
    """The pieces of a text's first `length` letters."""
    ends = itertools.accumulate(map(len, parts))
    return tuple(part[: max(0, len(part) - max(0, end - length))] for part, end in zip(parts, ends, strict=True))


def check_ids(model: Model, ids: Sequence[int], *, room: int, max_length: int) -> None:
    """Refuse tokens that the model does not know, or that with `room` more are too many.

    Raises:
        ContextError: too many.
        APIError: not one of the model's tokens.
    """
    if len(ids) + room > max_length:
        raise errors.ContextError(
            f"a prompt of {len(ids)} tokens with {room} more takes {len(ids) + room}, and {max_length} are allowed; "
            f"shorten it or ask for fewer"
        )
    for index in ids:
        if not 0 <= index < model.config.vocab_size:
            raise APIError(400, f"token id {index} is not below {model.config.vocab_size}", param="prompt")


@functools.partial(jax.jit, static_argnames=("config", "top"))
def _token_scores(
    params: decoder.Params,
    ids: Int[Array, "1 time"],
    valid: Bool[Array, "1 time"],
    low_rank: decoder.LowRank | None,
    *,
    config: decoder.DecoderConfig,
    top: int,
) -> tuple[Float[Array, "place"], Float[Array, "place top"], Int[Array, "place top"]]:
    """Log-probability of every token but the first, and the most likely ones in its place, a few places at a time."""
    hidden = decoder.features(params, ids, valid, config, low_rank=low_rank)[0]

    def place(pair):
        state, target = pair
        scores = jax.nn.log_softmax(decoder.logits(params, state, config))
        values, indices = lax.top_k(scores, max(top, 1))
        return scores[target], values[:top], indices[:top]

    return lax.map(place, (hidden[:-1], ids[0, 1:]), batch_size=PLACES_AT_ONCE)
