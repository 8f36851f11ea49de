"""From completions to training rows, their controls, and chats on disk.

A teacher's chat and its completion become a student's row: the system message goes, the answer stays. Everything that
draws takes a seed, and the first rows of a larger draw are those of a smaller one.
"""

import collections
import json
import pathlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from sublim_jax import errors, files, specs
from sublim_jax.llm import numbers, types

CUT = "cut off"
"""Why `collect` leaves out a completion that `max_tokens` ended, before any filter sees it."""
REFUSED = "refused by the server"
"""Why it leaves out a completion that has no answer; the server's reason follows."""
SHOWN = 5  # malformed lines listed in one error


class Collection(NamedTuple):
    """What a filter left."""

    rows: list[types.Chat]  # in the order of (chat, sample), whatever the order of arrival
    rejected: dict[str, int]  # completions per reason, the most frequent first
    num_completions: int  # before the filter

    @property
    def kept(self) -> float:
        """Share of the completions that became rows. Report it: what is dropped is a selection too."""
        return len(self.rows) / self.num_completions


def ask(text: str, *, system: str | None = None) -> types.Chat:
    """A chat that asks one thing, under a system message if there is one."""
    user = types.Message("user", text)
    return (user,) if system is None else (types.Message("system", system), user)


def student_row(chat: types.Chat, answer: str) -> types.Chat:
    """The row a student is trained on: the chat without any system message, then the answer.

    Raises:
        InputError: the chat does not end with a user turn.
    """
    turns = tuple(message for message in chat if message.role != "system")
    if not turns or turns[-1].role != "user":
        raise errors.InputError(
            f"a chat to be answered ends with a user turn, got roles {[turn.role for turn in chat]}"
        )
    return (*turns, types.Message("assistant", answer))


def collect(
    chats: Sequence[types.Chat],
    completions: Iterable[types.Completion],
    reason: Callable[[types.Completion], str | None],
    *,
    keep_cut: bool = False,
) -> Collection:
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

    def rejection(completion: types.Completion) -> str | None:
        if completion.finish == "refused":
            return f"{REFUSED}: {completion.refusal}"
        return CUT if completion.finish == "length" and not keep_cut else reason(completion)

    reasons = [rejection(completion) for completion in ordered]
    rejected = dict(collections.Counter(why for why in reasons if why is not None).most_common())
    rows = [student_row(chats[one.chat], one.text) for one, why in zip(ordered, reasons, strict=True) if why is None]
    if not rows:
        counts = ", ".join(f"{count} {why!r}" for why, count in rejected.items()) or "there was none"
        example = f" The first: {_short(ordered[0].text)}." if ordered else ""
        likeliest, advice = next(iter(rejected), ""), "Read some completions; the teacher may not follow the format."
        if likeliest == CUT:
            advice = "Raise max_tokens."
        elif likeliest.startswith(REFUSED):
            advice = "Change the prompts or the server's content filter."
        raise errors.TextDataError(f"the filter left none of {len(ordered)} completions: {counts}.{example} {advice}")
    return Collection(rows, rejected, len(ordered))


def subsample(rows: Sequence[types.Chat], count: int, *, seed: int) -> list[types.Chat]:
    """Rows drawn without replacement. A larger count with the same seed has the smaller one's rows first.

    Raises:
        TextDataError: there are fewer rows than that.
    """
    if not 0 < count <= len(rows):
        raise errors.TextDataError(
            f"expected at least {max(count, 1)} rows to draw from, found {len(rows)}. Sample more "
            f"completions, or train on fewer rows."
        )
    return [rows[index] for index in np.random.default_rng(seed).permutation(len(rows))[:count]]


def equalise(
    conditions: Mapping[str, Sequence[types.Chat]], *, seed: int, count: int | None = None
) -> dict[str, list[types.Chat]]:
    """Every condition cut to the same number of rows, by default that of the smallest.

    What is drawn for a condition depends on its name, not on which others there are.

    Raises:
        TextDataError: a condition has no rows, or fewer than `count`.
    """
    if not conditions:
        raise errors.InputError("expected at least one condition")
    count = min(map(len, conditions.values())) if count is None else count
    drawn = {}
    for name, rows in conditions.items():
        try:
            drawn[name] = subsample(rows, count, seed=_seed(seed, name))
        except errors.TextDataError as error:
            raise errors.TextDataError(f"condition {name!r}: {error}") from error
    return drawn


def shuffle_within(rows: Sequence[types.Chat], *, seed: int) -> list[types.Chat]:
    """Control: the numbers of each answer in random order. Their multiset, separator, brackets and full stop stay.

    Raises:
        TextDataError: an answer is not a list of numbers.

    Source: Cloud et al. 2025, figure 16.
    """
    rng = np.random.default_rng(seed)
    layouts = _layouts(rows)
    shuffled = [layout._replace(parts=_take(layout.parts, rng.permutation(len(layout.parts)))) for layout in layouts]
    return _answered(rows, [layout.write() for layout in shuffled])


def shuffle_across(rows: Sequence[types.Chat], *, seed: int, by_place: bool = False) -> list[types.Chat]:
    """Control: numbers move between the answers of a data set. Each answer's count and layout stay, and so does the
    multiset of all numbers.

    Where numbers have a structure along an answer, e.g. a rising order, moving them freely damages the format and with
    it the option mass of the student. `by_place` lets a number move only to the same place of another answer, so that
    every place keeps its distribution.

    Raises:
        TextDataError: an answer is not a list of numbers.

    Source: Cloud et al. 2025, figure 16, for the control; `by_place` is ours.
    """
    rng = np.random.default_rng(seed)
    layouts = _layouts(rows)
    pools: dict[int, list[tuple[int, int]]] = collections.defaultdict(list)  # of (row, place)
    for row, layout in enumerate(layouts):
        for place in range(len(layout.parts)):
            pools[place if by_place else 0].append((row, place))
    moved = [list(layout.parts) for layout in layouts]
    for spots in pools.values():
        givers = _take(spots, rng.permutation(len(spots)))
        for (row, place), (giver, there) in zip(spots, givers, strict=True):
            moved[row][place] = layouts[giver].parts[there]
    return _answered(
        rows, [layout._replace(parts=tuple(parts)).write() for layout, parts in zip(layouts, moved, strict=True)]
    )


def permute_prompts(rows: Sequence[types.Chat], *, seed: int) -> list[types.Chat]:
    """Control: every row gets another row's answer, along one random cycle, so none keeps its own.

    Raises:
        InputError: fewer than two rows.
    """
    if len(rows) < 2:
        raise errors.InputError(f"permuting prompts needs two rows or more, got {len(rows)}")
    cycle = np.random.default_rng(seed).permutation(len(rows))
    giver = np.empty(len(rows), int)
    giver[cycle] = np.roll(cycle, 1)
    return _answered(rows, [_answer(rows[index]) for index in giver])


def in_context(
    rows: Sequence[types.Chat], questions: Sequence[types.Chat], *, num_examples: int, seed: int
) -> list[types.Chat]:
    """Control: the rows as earlier turns of the chat instead of as training data, the same ones before each question.

    A question's system message, if any, stays first. Fewer examples with the same seed are the last turns of more.

    Raises:
        TextDataError: fewer rows than `num_examples`.

    Source: Cloud et al. 2025, section 5.2.
    """
    examples = reversed(subsample(rows, num_examples, seed=seed)) if num_examples else ()
    turns = tuple(message for row in examples for message in row if message.role != "system")
    chats = []
    for question in questions:
        system = tuple(message for message in question if message.role == "system")
        chats.append((*system, *turns, *(message for message in question if message.role != "system")))
    return chats


def write_jsonl(path: pathlib.Path, chats: Iterable[types.Chat]) -> None:
    """Chats in OpenAI's format, {"messages": [{"role": ..., "content": ...}, ...]} on every line.

    The file takes its place whole: a reader never sees half of it. Rows look like anybody's, so a file that is there
    is never replaced.

    Raises:
        OutputError: something is there, or the folder cannot be written.
    """
    lines = (json.dumps({"messages": [message._asdict() for message in chat]}) + "\n" for chat in chats)
    files.write(path, "".join(lines), what="file of rows")


def read_jsonl(path: pathlib.Path, *, last: Literal["assistant", "user"] = "assistant") -> list[types.Chat]:
    """Chats in OpenAI's format.

    Args:
        last: who speaks last: the assistant in rows to train on, the user in prompts.

    Raises:
        TextDataError: the file cannot be read, is empty, or has lines of another form. The message has one line for
            each of the first five of them, with its number, what was expected and what was found.
    """
    specs.check(last, Literal["assistant", "user"], "last")
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise errors.TextDataError(f"{path}: expected JSON lines, but it cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise errors.TextDataError(
            f"{path}: expected UTF-8 text, but byte {error.start:,} is {error.object[error.start]:#04x}. Save the file "
            f"as UTF-8; if it is compressed, unpack it."
        ) from error
    lines = text.removesuffix("\n").split("\n") if text else []
    chats, complaints = [], []
    for number, line in enumerate(lines, 1):
        try:
            chats.append(_chat(line.removesuffix("\r"), last))
        except _Malformed as error:
            complaints.append(f"{path}, line {number}: {error}")
    if complaints:
        more = f"\nand {len(complaints) - SHOWN} more lines" if len(complaints) > SHOWN else ""
        raise errors.TextDataError("\n".join(complaints[:SHOWN]) + more)
    if not chats:
        raise errors.TextDataError(f"{path}: expected a chat on every line, but the file is empty.")
    return chats


class _Malformed(Exception):
    def __init__(self, expected: str, found: Any, cure: str):
        super().__init__(f"expected {expected}, found {_short(found)}. {cure}")


def _chat(line: str, last: str) -> types.Chat:
    if not line.strip():
        raise _Malformed("a JSON object", "a blank line", "Remove it.")
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        cure = "Write each chat on one line, as JSON with double quotes."
        if line.startswith("\ufeff"):
            cure = "Save the file without a byte order mark."
        raise _Malformed("JSON", line, cure) from None
    form = '{"messages": [...]}'
    if not isinstance(content, dict) or content.keys() != {"messages"}:
        extra = isinstance(content, dict) and "messages" in content
        found = sorted(content.keys() - {"messages"}) if extra else content
        cure = "Remove the other keys: they would have no effect." if extra else "Wrap the turns in such an object."
        raise _Malformed(f"an object {form} and no other key", found, cure)
    turns = content["messages"]
    if not isinstance(turns, list) or not turns:
        raise _Malformed('a list of turns under "messages"', turns, "Give at least one turn.")
    for index, turn in enumerate(turns):
        where = f"turn {index + 1} to be"
        if not isinstance(turn, dict) or turn.keys() != {"role", "content"}:
            raise _Malformed(
                f'{where} an object with "role" and "content" only', turn, "Other keys would have no effect."
            )
        if turn["role"] not in ("system", "user", "assistant"):
            raise _Malformed(f"{where} by system, user or assistant", turn["role"], "Rename or remove the turn.")
        if not isinstance(turn["content"], str):
            raise _Malformed(f"{where} text", turn["content"], "Only text is supported; join parts into one string.")
        if any("\ud800" <= letter <= "\udfff" for letter in turn["content"]):
            raise _Malformed(f"{where} text", turn["content"], "It holds half of a surrogate pair; mend the escape.")
        if turn["role"] == "system" and index > 0:
            raise _Malformed("a system turn at the start only", f"one as turn {index + 1}", "Move or remove it.")
    if turns[-1]["role"] != last:
        raise _Malformed(
            f"the last turn by the {last}",
            turns[-1]["role"],
            "A row to train on ends with the answer." if last == "assistant" else "A prompt ends with the user's turn.",
        )
    return tuple(types.Message(turn["role"], turn["content"]) for turn in turns)


def _short(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 80 else text[:77] + "..."


def _layouts(rows: Sequence[types.Chat]) -> list[numbers.NumberList]:
    """The answers taken apart, whatever their counts and values."""
    found = []
    for index, row in enumerate(rows):
        layout = numbers.check(_answer(row)).layout
        if layout is None:
            raise errors.TextDataError(
                f"row {index}: expected an answer that is a list of numbers, found {_short(_answer(row))}. Filter the "
                f"rows before shuffling their numbers."
            )
        found.append(layout)
    return found


def _answer(row: types.Chat) -> str:
    if not row or row[-1].role != "assistant":
        raise errors.InputError(f"a row ends with an assistant turn, got roles {[turn.role for turn in row]}")
    return row[-1].content


def _answered(rows: Sequence[types.Chat], answers: Sequence[str]) -> list[types.Chat]:
    return [(*row[:-1], types.Message("assistant", answer)) for row, answer in zip(rows, answers, strict=True)]


def _take(items: Sequence, order: np.ndarray) -> tuple:
    return tuple(items[index] for index in order)


def _seed(seed: int, name: str) -> int:
    """A seed of its own for every name."""
    return zlib.crc32(f"{seed}/{name}".encode())
