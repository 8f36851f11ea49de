"""What a server asks of a model: draws after given tokens, and how likely given tokens are.

`local.Local` answers many chats at once and is told no tokens; a server answers one request at a time, with the
log-probabilities of its tokens. The draws are the same: a token depends on the prompt, the seed, the sample's number
and its place.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sublim_jax import errors
from sublim_jax.llm import decoder, local, tokens, types, wire

ROWS_AT_ONCE = 64  # samples drawn together
PLACES_AT_ONCE = 64  # of a text, whose scores over the vocabulary are held at one time


def draw(model: local.Model, prompt: Sequence[int], how: wire.Draws, *, seed: int) -> list[local.Reply]:
    """`how.num_samples` draws after a prompt; those of `Local.sample` for the same seed and the prompt of a chat."""
    sampling = types.Sampling(
        temperature=how.temperature, top_p=how.top_p, max_tokens=how.max_tokens, stop=how.stop, seed=seed
    )
    found = []
    for first in range(0, how.num_samples, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, how.num_samples - first)
        size = 1 << (count - 1).bit_length()  # few shapes; the rows beyond are drawn in vain
        numbers = range(first, first + size)
        found += local.draw(model, [prompt] * size, numbers, sampling, length=tokens.bucket(len(prompt)))[:count]
    return found


def score(model: local.Model, ids: Sequence[int], *, top: int) -> tuple[wire.Token | None, ...]:
    """How likely each token was after those before it, in nats at temperature 1; None for the first.

    Args:
        top: of how many of the likeliest tokens it is told, too.
    """
    length, size = tokens.bucket(len(ids)), min(wire.MAX_TOP, model.config.vocab_size) if top else 0
    padded, valid = tokens.left_padded([ids], length)
    arrays = _token_scores(
        model.params, jnp.asarray(padded), jnp.asarray(valid), model.low_rank, config=model.config, top=size
    )
    own, values, indices = (np.asarray(array)[length - len(ids) :] for array in arrays)
    text = functools.cache(lambda index: model.tokens.text([index]))
    found: list[wire.Token | None] = [None]
    for index, logprob, likely, which in zip(ids[1:], own, values, indices, strict=True):
        others = tuple(
            wire.Token(int(i), text(int(i)), float(v)) for v, i in zip(likely[:top], which[:top], strict=True)
        )
        found.append(wire.Token(int(index), text(int(index)), float(logprob), others))
    return tuple(found)


def check_ids(model: local.Model, ids: Sequence[int], *, room: int, max_length: int) -> None:
    """Refuse tokens that the model does not know, or that with `room` more are too many.

    Raises:
        ContextError: too many.
        Refusal: not one of the model's tokens.
    """
    if len(ids) + room > max_length:
        raise errors.ContextError(
            f"a prompt of {len(ids)} tokens with {room} more takes {len(ids) + room}, and {max_length} are allowed; "
            f"shorten it or ask for fewer"
        )
    for index in ids:
        if not 0 <= index < model.config.vocab_size:
            raise wire.Refusal(400, f"token id {index} is not below {model.config.vocab_size}", param="prompt")


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
    """Log-probability of every token but the first, and the likeliest ones in its place, a few places at a time."""
    hidden = decoder.features(params, ids, valid, config, low_rank=low_rank)[0]

    def place(pair):
        state, target = pair
        scores = jax.nn.log_softmax(decoder.logits(params, state, config))
        values, indices = lax.top_k(scores, max(top, 1))
        return scores[target], values[:top], indices[:top]

    return lax.map(place, (hidden[:-1], ids[0, 1:]), batch_size=PLACES_AT_ONCE)
