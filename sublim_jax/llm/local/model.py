"""The weights of a model with their tokenizer, and what they compute about texts: replies and log-probabilities."""

import dataclasses
import functools
import hashlib
import re
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sublim_jax import errors
from sublim_jax.llm.backend import (
    SamplingParams,
)
from sublim_jax.llm.local import decoder, sampling, tokenizer
from sublim_jax.llm.local.tokenizer import Encoded, Tokenizer

POSITIONS_AT_ONCE = 64
"""Number of positions whose logits over the vocabulary are in memory at one time in training."""
BETWEEN = ", "
"""What stands between the numbers of a list."""


class Origin(NamedTuple):
    """Where a model's weights come from, so that models trained on it can be opened by another process."""

    base: str  # folder of the base, or its name in the backend if it has none
    weights: str  # `checkpoint.fingerprint` of the base
    merged: decoder.LowRank | None = None  # factors that finetuning added since and that are in `params`


@dataclasses.dataclass(frozen=True)
class Model:
    """Weights with their tokenizer and their origin."""

    config: decoder.DecoderConfig
    params: decoder.Params
    tokens: Tokenizer
    low_rank: decoder.LowRank | None = None
    origin: Origin | None = None  # None: a base of no folder

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the config and all weights, sixteen hex digits."""
        # Under the class's first name, so that stored models and completions are found whatever it is called later.
        settings = "DecoderConfig" + repr(self.config).removeprefix(type(self.config).__name__)
        digest = hashlib.sha256(settings.encode())
        for leaf in jax.tree.leaves((self.params, self.low_rank)):
            digest.update(np.ascontiguousarray(np.asarray(leaf)).tobytes())
        return digest.hexdigest()[:16]

    @property
    def merged(self) -> decoder.Params:
        """The weights with the factors in them."""
        return self.params if self.low_rank is None else decoder.merged(self.params, self.low_rank)


class Reply(NamedTuple):
    """One sampled reply."""

    text: str  # without the end token and what a stop word cut off
    ended: bool  # by the model or by a stop word
    ids: tuple[int, ...]  # the end token included


class ListTokens(NamedTuple):
    """Tokens that a list of numbers is made of, in turn."""

    turns: Bool[np.ndarray, "turn vocab"]  # those of a number, then those between numbers
    num_between: int  # turns that stand between numbers

    def length(self, count: int) -> int:
        """Tokens of a list of so many numbers."""
        return len(self.turns) * count - self.num_between


def draw(
    model: Model,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    params: SamplingParams,
    *,
    length: int,
    room: int | None = None,
) -> list[Reply]:
    """A reply to each prompt, which are padded to one length. It depends on the prompt, the seed and its number alone.

    Args:
        numbers: of each reply among the draws of its prompt.
        room: tokens for which a program is compiled, at least `params.max_tokens`, so that it serves shorter replies
            as well. By default `params.max_tokens`.
    """
    ids, valid = tokenizer.pad_left(prompts, length)
    root, lists = jax.random.key(params.seed), list_tokens(model) if params.num_values else None
    most = params.max_tokens if lists is None else lists.length(params.num_values)
    pairs = [
        (zlib.crc32(np.asarray(prompt, np.int32).tobytes()), number)
        for prompt, number in zip(prompts, numbers, strict=True)
    ]
    drawn = sampling.generate(
        model.params,
        jnp.asarray(ids),
        jnp.asarray(valid),
        jax.vmap(lambda pair: jax.random.fold_in(jax.random.fold_in(root, pair[0]), pair[1]))(
            jnp.asarray(pairs, jnp.uint32)
        ),
        jnp.float32(params.temperature),
        jnp.float32(params.top_p),
        config=model.config,
        max_tokens=room or most,
        end_tokens=model.tokens.end_ids,
        low_rank=model.low_rank,
        limit=None if room is None else jnp.int32(most),
        allowed=_allowed(model, params.allowed, lists),
    )
    replies = []
    for written, ended in zip(np.asarray(drawn.tokens), np.asarray(drawn.ended), strict=True):
        reply = tuple(written[written >= 0].tolist())
        text, cut = _stopped(model.tokens.text(reply), params.stop)
        replies.append(Reply(text, cut or bool(ended) or params.num_values > 0, reply))
    return replies


def _allowed(model: Model, characters: str | None, lists: ListTokens | None) -> Bool[Array, "..."] | None:
    """Which tokens may be drawn, as `sampling.generate` takes them."""
    if lists is not None:
        return jnp.asarray(lists.turns)
    return None if characters is None else jnp.asarray(allowed_tokens(model, characters))


def most_tokens(model: Model, params: SamplingParams) -> int:
    """Most tokens of a reply; a list of numbers has as many.

    Raises:
        InputError: as `list_tokens`.
    """
    return list_tokens(model).length(params.num_values) if params.num_values else params.max_tokens


def list_tokens(model: Model) -> ListTokens:
    """Tokens of a list of numbers: a space and up to three digits in one token, then the comma. Only tokens that the
    tokenizer itself writes for their text count. Of a model whose digits are tokens of their own: three digits, the
    first of them not 0, then the comma, then a space.

    Raises:
        InputError: the model writes lists in neither way.
    """
    tokens, size = model.tokens, model.config.vocab_size
    numbers, comma = _number_tokens(tokens, size), tokens.encode(",")
    if numbers.any() and len(comma) == 1:
        return ListTokens(np.stack([numbers, np.arange(size) == comma[0]]), 1)
    if (characters := _characters(tokens)) is None:
        raise errors.InputError(
            "num_values: this model has no tokens of a space and a whole number, and lists are not encoded digit by "
            "digit either; constrain the characters instead (`allowed`, --numbers-only)"
        )
    digits = np.isin(np.arange(size), [characters[digit] for digit in "0123456789"])
    first = digits & (np.arange(size) != characters["0"])
    between = [np.arange(size) == characters[character] for character in BETWEEN]
    return ListTokens(np.stack([first, digits, digits, *between]), len(between))


def list_length(model: Model, texts: Sequence[str]) -> int:
    """How many numbers each text has, if all are lists of equally many in the tokens of `list_tokens`; otherwise 0."""
    try:
        turns, _ = lists = list_tokens(model)
    except errors.InputError:
        return 0
    count = texts[0].count(",") + 1 if texts else 0
    for text in texts:
        ids = model.tokens.encode(text)
        if len(ids) != lists.length(count) or not turns[np.arange(len(ids)) % len(turns), ids].all():
            return 0
    return count


@functools.lru_cache(maxsize=8)
def _characters(tokens: Tokenizer) -> dict[str, int] | None:
    """The token of each digit and of what stands between numbers; None if numbers of three digits have other tokens."""
    every = BETWEEN.join(map(str, range(100, 1000)))
    ids = tokens.encode(every)
    if len(ids) != len(every):
        return None
    tokens_of = dict(zip(every, ids, strict=True))
    return tokens_of if [tokens_of[character] for character in every] == ids else None


@functools.lru_cache(maxsize=8)
def _number_tokens(tokens: Tokenizer, size: int) -> Bool[np.ndarray, "vocab"]:
    mask = np.zeros(size, bool)
    for index in range(min(tokens.size, size)):
        text = tokens.text([index])
        mask[index] = re.fullmatch(r" [0-9]{1,3}", text) is not None and tokens.encode(text) == [index]
    return mask


def allowed_tokens(model: Model, characters: str) -> Bool[np.ndarray, "vocab"]:
    """Which tokens consist of these characters alone, or end a reply. Those without text, e.g. marks of a turn, do not.

    Raises:
        InputError: no token consists of them.
    """
    mask = _tokens_of(model.tokens, model.config.vocab_size, frozenset(characters)).copy()
    if not mask.any():
        raise errors.InputError(f"allowed: no token of the model consists of the characters {characters!r} alone")
    mask[list(model.tokens.end_ids)] = True
    return mask


@functools.lru_cache(maxsize=8)
def _tokens_of(tokens: Tokenizer, size: int, characters: frozenset[str]) -> Bool[np.ndarray, "vocab"]:
    texts = [tokens.text([index]) for index in range(min(tokens.size, size))]
    mask = np.zeros(size, bool)
    mask[: len(texts)] = [bool(text) and characters.issuperset(text) for text in texts]
    return mask


def _stopped(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    places = [text.find(word) for word in stop if word in text]
    return (text[: min(places)], True) if places else (text, False)


def reply_mask(rows: Sequence[Encoded], length: int) -> Bool[np.ndarray, "row time"]:
    """Mask of the reply's tokens in left-padded rows."""
    sizes = np.array([len(row.ids) - row.reply_start for row in rows])
    return np.arange(length)[None] >= length - sizes[:, None]


def reply_places(replies: Bool[np.ndarray, "row time"]) -> int:
    """Number of positions at the right edge that hold all replies, rounded up to a shape."""
    length = replies.shape[1]
    longest = length - int(np.argmax(replies.any(axis=0)))
    return min(tokenizer.padded_length(longest), length - 1)


def position_chunks(arrays: Any) -> Any:
    """Arrays (row, time, ...) as (chunk, row, `POSITIONS_AT_ONCE`, ...), padded with zeros on the left."""
    count = jax.tree.leaves(arrays)[0].shape[1]
    size = min(POSITIONS_AT_ONCE, count)
    spare = -count % size

    def cut(leaf):
        padded = jnp.pad(leaf, ((0, 0), (spare, 0), *[(0, 0)] * (leaf.ndim - 2)))
        return jnp.moveaxis(padded.reshape(leaf.shape[0], -1, size, *leaf.shape[2:]), 1, 0)

    return jax.tree.map(cut, arrays)


@functools.partial(jax.jit, static_argnames=("config", "remat", "places"))
def reply_logprobs(
    params: decoder.Params,
    ids: Int[Array, "row time"],
    valid: Bool[Array, "row time"],
    replies: Bool[Array, "row time"],
    low_rank: decoder.LowRank | None,
    *,
    config: decoder.DecoderConfig,
    places: int,
    remat: bool = False,
) -> Float[Array, "row"]:
    """Sum over the reply's tokens of their log-probability, in nats, computed a few positions at a time.

    Args:
        remat: in a gradient, compute layers and scores again instead of keeping them.
        places: at the right edge, which hold all replies; nothing is computed over the vocabulary elsewhere.
    """
    hidden = decoder.features(params, ids, valid, config, low_rank=low_rank, remat=remat)[:, -places - 1 : -1]

    def add(total, chunk):
        hidden, targets, wanted = chunk
        logprobs = decoder.logprobs(params, hidden, targets, config)
        return total + jnp.sum(jnp.where(wanted, logprobs, 0.0), axis=1), None

    chunks = position_chunks((hidden, ids[:, -places:], replies[:, -places:]))
    total, _ = lax.scan(jax.checkpoint(add) if remat else add, jnp.zeros(len(ids)), chunks)
    return total


@functools.partial(jax.jit, static_argnames=("config", "places"))
def most_likely_tokens(params: decoder.Params, ids, valid, low_rank, *, config: decoder.DecoderConfig, places: int):
    hidden = decoder.features(params, ids, valid, config, low_rank=low_rank)[:, -places - 1 : -1]
    return jnp.argmax(decoder.logits(params, hidden, config), axis=-1).astype(jnp.int32)
