"""Exact log-probabilities of whole answers, from a server's scores of chats that end with these answers.

A server scores every token of a chat. The tokens of an answer are those between the prompt and the tokens that close
the assistant's turn; the first of these, the end token, belongs to the answer.
"""

import math
from collections.abc import Sequence

from sublim_jax import errors
from sublim_jax.llm.backend import ChoiceScores
from sublim_jax.llm.openai.validation import Scored


def exact_scores(
    where: str,
    prompt: Sequence[Scored],
    rows: Sequence[Sequence[Scored]],
    choices: Sequence[str],
    ending: Sequence[str],
) -> ChoiceScores:
    """Scores of the choices after one prompt.

    Args:
        where: the server and its model's template, with which a message begins.
        rows: the scored tokens of the prompt with each choice as a closed answer.
        ending: ids of the tokens that close an answer, see `turn_ending`.

    Raises:
        CapabilityError: the template writes two choices alike, or an answer in a chat differently from a generated one.
    """
    choice_of: dict[tuple[str, ...], str] = {}
    logprobs = []
    for choice, row in zip(choices, rows, strict=True):
        answer = _answer(where, prompt, row, ending)
        other = choice_of.setdefault(tuple(_ids(answer)), choice)
        if other != choice:
            raise errors.CapabilityError(
                f"{where} writes {other!r} and {choice!r} alike, so that they would count twice. Leave one of them out."
            )
        logprobs.append(math.fsum(token.logprob for token in answer))
    return ChoiceScores(tuple(logprobs), "exact")


def turn_ending(where: str, unclosed: Sequence[Scored], closed: Sequence[Scored]) -> list[str]:
    """Ids of the tokens that close an assistant's turn: those by which the closed row is longer.

    Raises:
        CapabilityError: the closed row does not continue the unclosed one.
    """
    if _ids(closed[: len(unclosed)]) != _ids(unclosed) or len(closed) == len(unclosed):
        raise errors.CapabilityError(
            f"{where} does not close an assistant's turn after its text, so that whole answers cannot be scored. Score "
            f"them locally."
        )
    return _ids(closed[len(unclosed) :])


def _answer(where: str, prompt: Sequence[Scored], row: Sequence[Scored], ending: Sequence[str]) -> Sequence[Scored]:
    """The tokens of a closed answer and the one that ends it."""
    stop = len(row) - len(ending)
    if _ids(row[: len(prompt)]) != _ids(prompt) or _ids(row[stop:]) != list(ending) or stop < len(prompt):
        raise errors.CapabilityError(
            f"{where} writes an answer given in the chat otherwise than one that it generates, e.g. without its "
            f"thinking, so that choices cannot be scored there. Set the template's switch in extra_body "
            f"(chat_template_kwargs), or score locally."
        )
    return row[len(prompt) : stop + 1]


def _ids(row: Sequence[Scored]) -> list[str]:
    return [token.id for token in row]
