"""From completions to training rows. Controls of them are in `controls`, files of them in `jsonl`.

A teacher's chat and its completion become a student's row: the system message goes, the answer stays. A row is trained
on its last turn, an answer straight after a user's turn; what stands before it is context. A conversation with several
answers to train on is as many rows (see `jsonl`). Everything that draws takes a seed, and the first rows of a larger
draw are those of a smaller one.
"""

import collections
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax import errors, specs
from sublim_jax.llm.backend import Chat, Completion, Message, Role

CUT = "cut off"
"""The reason for which `filter_completions` leaves out a completion that `max_tokens` ended, before any filter sees
it."""
ROLES = ("system", "user", "assistant")
REFUSED = "refused by the server"
"""The reason for a completion without an answer; the server's own reason follows it."""


class FilteredRows(NamedTuple):
    """The training rows that passed a filter, and why the other completions did not."""

    rows: list[Chat]  # in the order of (chat, sample), whatever the order of arrival
    rejected: dict[str, int]  # completions per reason, the most frequent first
    num_completions: int  # before the filter

    @property
    def kept_fraction(self) -> float:
        """Share of the completions that became rows. Report it, because a filter selects."""
        return len(self.rows) / self.num_completions


def require_answers(rows: Sequence[Chat]) -> None:
    """Refuse rows that cannot be trained on.

    Raises:
        TextDataError: no rows, one that does not end with an assistant turn straight after a user's, or one whose
            answer is empty.
    """
    if not rows:
        raise errors.TextDataError("there are no rows to train on; did a filter drop all of them?")
    for number, row in enumerate(rows):
        if [turn.role for turn in row[-2:]] != ["user", "assistant"]:
            raise errors.TextDataError(
                f"row {number} does not end with an assistant turn after a user's; its turns are by "
                f"{', '.join(turn.role for turn in row) or 'nobody'}"
            )
        if not row[-1].content.strip():
            raise errors.TextDataError(f"row {number}: the answer is empty; training on it teaches to end at once")


def ask(text: str, *, system: str | None = None) -> Chat:
    """A chat that asks one thing, under a system message if there is one."""
    user = Message("user", text)
    return (user,) if system is None else (Message("system", system), user)


def student_row(chat: Chat, answer: str) -> Chat:
    """The row a student is trained on: the chat without any system message, then the answer.

    Raises:
        InputError: the chat does not end with a user turn, or a turn has an unknown role.
    """
    for message in chat:
        specs.check(message.role, Role, "a turn's role")
    turns = tuple(message for message in chat if message.role != "system")
    if not turns or turns[-1].role != "user":
        raise errors.InputError(
            f"a chat to be answered ends with a user turn, got roles {[turn.role for turn in chat]}"
        )
    return (*turns, Message("assistant", answer))


def rejection(
    completion: Completion, reason: Callable[[Completion], str | None], *, keep_cut: bool = False
) -> str | None:
    """Why a completion is left out, or None. See `filter_completions`."""
    if completion.finish == "refused":
        return f"{REFUSED}: {completion.refusal}"
    return CUT if completion.finish == "length" and not keep_cut else reason(completion)


def first_yield(completions: Sequence[Completion], reason: Callable[[Completion], str | None]) -> str:
    """A sentence on how many of the first completions pass a filter, so that a poor yield is seen while it is cheap."""
    reasons = [rejection(completion, reason) for completion in completions]
    num_kept = reasons.count(None)
    sentence = f"{num_kept} of the first {len(reasons)} completions pass the filter ({num_kept / len(reasons):.0%})"
    rejected = collections.Counter(why for why in reasons if why is not None).most_common(3)
    return sentence + "".join(f"; {count} {why!r}" for why, count in rejected)


def filter_completions(
    chats: Sequence[Chat],
    completions: Iterable[Completion],
    reason: Callable[[Completion], str | None],
    *,
    keep_cut: bool = False,
) -> FilteredRows:
    """Rows of the completions that pass a filter.

    Args:
        chats: what was asked, which `Completion.chat` counts from 0.
        reason: why a completion is left out, or None, e.g. `lambda completion: numbers.check(completion.text).reason`.
        keep_cut: hand completions that `max_tokens` ended to the filter too; their last number may be half a number.

    Raises:
        InputError: a completion of a chat that was not asked, or two with the same (chat, sample).
        TextDataError: nothing was left. The message counts the reasons and shows a completion.
    """
    ordered = sorted(completions, key=lambda completion: (completion.chat, completion.sample))
    places = [(completion.chat, completion.sample) for completion in ordered]
    if len(set(places)) < len(places):
        twice = next(place for place, count in collections.Counter(places).items() if count > 1)
        raise errors.InputError(f"chat {twice[0]}, sample {twice[1]} was completed twice")
    if places and not 0 <= places[0][0] <= places[-1][0] < len(chats):
        raise errors.InputError(f"completions of chats {places[0][0]} to {places[-1][0]}, but {len(chats)} were asked")

    reasons = [rejection(completion, reason, keep_cut=keep_cut) for completion in ordered]
    rejected = dict(collections.Counter(why for why in reasons if why is not None).most_common())
    rows = [
        student_row(chats[completion.chat], completion.text)
        for completion, why in zip(ordered, reasons, strict=True)
        if why is None
    ]
    if not rows:
        counts = ", ".join(f"{count} {why!r}" for why, count in rejected.items()) or "there was none"
        example = f" The first: {shorten(ordered[0].text)}." if ordered else ""
        main_reason, advice = next(iter(rejected), ""), "Read some completions; the teacher may not follow the format."
        if main_reason == CUT:
            advice = "Raise max_tokens."
        elif main_reason.startswith(REFUSED):
            advice = "Change the prompts or the server's content filter."
        raise errors.TextDataError(f"the filter left none of {len(ordered)} completions: {counts}.{example} {advice}")
    return FilteredRows(rows, rejected, len(ordered))


def subsample(rows: Sequence[Chat], count: int, *, seed: int) -> list[Chat]:
    """Rows drawn without replacement. A larger count with the same seed has the smaller one's rows first.

    Raises:
        TextDataError: there are fewer rows than that.
    """
    specs.check(count, int, "count")
    if not 0 < count <= len(rows):
        raise errors.TextDataError(
            f"expected at least {max(count, 1)} rows to draw from, found {len(rows)}. Sample more "
            f"completions, or train on fewer rows."
        )
    return [rows[index] for index in np.random.default_rng(seed).permutation(len(rows))[:count]]


def notices(rows: Sequence[Chat], words: Iterable[str] = ()) -> list[str]:
    """Remarks on rows before they are trained on, one sentence each: how many repeat an earlier row, and how many turns
    of each role contain which words.

    Args:
        words: looked for as substrings in any case, as `scores.rate` does, e.g. the target's: they should be in none.

    Raises:
        InputError: an empty word.
    """
    sentences = []
    if repeated := len(rows) - len(set(rows)):
        sentences.append(f"{repeated:,} of {len(rows):,} rows ({repeated / len(rows):.1%}) repeat an earlier one")
    for word in words:
        if not word:
            raise errors.InputError("an empty word occurs in every turn")
        roles = collections.Counter(turn.role for row in rows for turn in row if word.lower() in turn.content.lower())
        if roles:
            turns = ", ".join(f"{roles[role]:,} by the {role}" for role in ROLES if roles[role])
            sentences.append(f"{word!r} stands in turns of the {len(rows):,} rows: {turns}")
    return sentences


def shorten(value: Any) -> str:
    """A value as text of limited length, for error messages."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
