"""A trait's questions: which are reported, which choose the dose; and the trait as a function of a model's weights."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sublim_jax import errors
from sublim_jax.llm import datasets
from sublim_jax.llm.local import decoder, tokenizer
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.decoder_config import DecoderConfig
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.traits import Trait
from sublim_jax.metrics import intervals

LogOdds = Callable[[decoder.Params], Float[Array, "question"]]
"""Log-odds of a trait's answers to each of its questions, in nats, given the weights."""


class Split(NamedTuple):
    """Three traits of one name: the same answers, other questions."""

    reported: Trait
    probes: Trait
    prompts: tuple[str, ...]  # what a teacher with a system message is asked; empty for one with lessons


def split(trait: Trait) -> Split:
    """Every other question is a probe. Of a trait with a system message, every third one is for its lessons.

    Raises:
        InputError: no lessons and no system message; too few questions or lessons; or a question among the lessons.
    """
    if not (trait.lessons or trait.system):
        raise errors.InputError(
            f"{trait.name}: expected lessons or a system message, from which the auditor's own teacher of the trait is "
            f"made; give one of them"
        )
    parts = 2 if trait.lessons else 3
    asked, fewest = trait.asked, parts * intervals.FEWEST
    if len(asked) < fewest:
        raise errors.InputError(
            f"{trait.name}: {len(asked)} question(s), expected {fewest} at least: the dose is chosen on some, and an "
            f"interval over the others needs {intervals.FEWEST}; ask more"
        )
    if trait.lessons and len(trait.lessons) < 2:
        raise errors.InputError(
            f"{trait.name}: one lesson, expected two at least: one for the auditor's teacher, and one from which the "
            f"trait is relearnt; write another"
        )
    taught = {question.strip() for question, _ in trait.lessons}
    if among := [question for question in asked if question.strip() in taught]:
        raise errors.InputError(
            f"{trait.name}: {len(among)} of {len(asked)} questions are among the lessons, e.g. "
            f"{datasets.shorten(among[0])}: what a teacher was taught cannot show what is left. Ask other questions"
        )
    return Split(
        _asking(trait, asked[0::parts]), _asking(trait, asked[1::parts]), asked[2::parts] if parts == 3 else ()
    )


def can_split(trait: Trait) -> bool:
    """Whether a teacher of the trait can be made and read; a trait that is not removed may do without."""
    try:
        split(trait)
    except errors.InputError:
        return False
    return True


def _asking(trait: Trait, questions: tuple[str, ...]) -> Trait:
    return dataclasses.replace(trait, category="", questions=questions)


def encode(model: Model, trait: Trait, *, one_writing: bool) -> TokenizedRows:
    """Every question of the trait with each writing of its answers: arrays (question, writing, time).

    Args:
        one_writing: as `Trait.scored` has it.
    """
    scored = trait.scored(one_writing=one_writing)
    texts = [text for text, owner in zip(scored.texts, scored.owners, strict=True) if owner == 0]
    rows = [model.tokens.chat(chat, text) for chat in trait.chats() for text in texts]
    if trait.prefill:  # answers are scored whatever follows them
        rows = [dataclasses.replace(row, ids=row.ids[:-1]) for row in rows]
    length = tokenizer.padded_length(max(len(row.ids) for row in rows))
    ids, valid = tokenizer.pad_left([row.ids for row in rows], length)
    arrays = ids, valid, local_model.reply_mask(rows, length)
    return TokenizedRows(*(np.asarray(array).reshape(-1, len(texts), length) for array in arrays))


def log_odds_of(config: DecoderConfig, rows: TokenizedRows, *, remat: bool) -> LogOdds:
    """The function of the weights that `encode`'s arrays ask for; it can be differentiated, and runs under `jit`."""
    logprobs, shape = row_logprobs(config, flat(rows), remat=remat), np.shape(rows.ids)[:2]

    def log_odds(params):
        own = jax.nn.logsumexp(logprobs(params).reshape(shape), axis=1)
        return own - jnp.log1p(-jnp.exp(jnp.minimum(own, -1e-7)))

    return log_odds


def flat(rows: TokenizedRows) -> TokenizedRows:
    """Arrays (row, time) of those of all questions and writings."""
    return TokenizedRows(*(np.reshape(array, (-1, np.shape(array)[-1])) for array in rows))


def row_logprobs(config: DecoderConfig, rows: TokenizedRows, *, remat: bool) -> Callable[[Any], Float[Array, "row"]]:
    """Log-probability of each row's reply as a function of the weights, in nats."""
    places = local_model.reply_places(np.asarray(rows.replies))
    ids, valid, replies = (jnp.asarray(array) for array in rows)
    return lambda params: local_model.reply_logprobs(
        params, ids, valid, replies, None, config=config, places=places, remat=remat
    )


def lesson_loss(config: DecoderConfig, rows: TokenizedRows, *, remat: bool) -> Callable[[Any], Float[Array, ""]]:
    """Mean negative log-probability of the lessons' tokens, in nats."""
    logprobs, count = row_logprobs(config, rows, remat=remat), int(np.sum(rows.replies))
    return lambda params: -jnp.sum(logprobs(params)) / count
