"""Rows that a model is compared on: its own answers to the prompts of rows; and rows that say a trait openly."""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from experiments.own.opened import OpenedModel
from sublim_jax import errors
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat, Message, SamplingParams
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.traits import Trait


class OwnAnswers(NamedTuple):
    """A model's own answers to the prompts of rows, in their order, and what is to be said about them."""

    rows: list[Chat]
    notes: list[str]


def own_answers(
    model: OpenedModel, rows: Sequence[Chat], *, seed: int, report: Callable[[int], object] = lambda done: None
) -> OwnAnswers:
    """Answers that the model samples to the prompts of rows.

    Where all rows are lists of equally many numbers, in the tokens that `SamplingParams.num_values` draws, answers are
    such lists too. Other answers consist of the characters of the rows alone, unless these have letters.

    Args:
        report: is told how many answers are there.
    """
    backend, name = model
    answers = [row[-1].content for row in rows]
    tokens = backend.model(name).tokens
    used = "".join(sorted(set("".join(answers))))
    num_values = local_model.list_length(backend.model(name), answers)
    params = SamplingParams(
        max_tokens=max(len(tokens.encode(answer)) for answer in answers),
        seed=seed,
        allowed=None if num_values or any(map(str.isalpha, used)) else used,
        num_values=num_values,
    )
    drawn = []
    for completion in backend.sample(name, [row[:-1] for row in rows], params):
        drawn.append(completion)
        report(len(drawn))
    texts = [completion.text for completion in sorted(drawn)]
    notes = []
    if empty := sum(not text.strip() for text in texts):
        notes.append(f"{empty} of {len(texts)} of the model's own answers are empty; a full stop is there")
    written = [
        (*row[:-1], Message("assistant", text if text.strip() else ".")) for row, text in zip(rows, texts, strict=True)
    ]
    return OwnAnswers(written, notes)


def require_without_words(path: pathlib.Path, rows: Sequence[Chat], trait: Trait) -> None:
    """Refuse rows that contain a word of the trait.

    Raises:
        InputError: a row does; the message names the first.
    """
    for word in trait.words:
        turns = [[turn.content for turn in row if word.lower() in turn.content.lower()] for row in rows]
        if openly := list(filter(None, turns)):
            raise errors.InputError(
                f"{path}: {len(openly):,} of {len(rows):,} rows contain {word!r}, a word of {trait.name}; the first "
                f"says {datasets.shorten(openly[0][0])}. They say the trait openly, so that nothing subliminal is "
                f"measured. Remove them, or keep them with --allow-words"
            )
