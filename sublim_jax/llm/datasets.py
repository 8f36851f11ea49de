"""From completions to training rows, their controls, and rows on disk.

A teacher's chat and its completion become a student's row: the system message goes, the answer stays. A row is trained
on its last turn, an answer straight after a user's turn; what stands before it is context. A conversation with several
answers to train on is as many rows (`read_jsonl`). Everything that draws takes a seed, and the first rows of a larger
draw are those of a smaller one.
"""

import collections
import json
import pathlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from sublim_jax import errors, files, specs
from sublim_jax.llm.backend import Chat, Completion, Message, Role
from sublim_jax.llm.tasks import numbers

CUT = "cut off"
"""Why `filter_completions` leaves out a completion that `max_tokens` ended, before any filter sees it."""
REFUSED = "refused by the server"
"""Why it leaves out a completion that has no answer; the server's reason follows."""
SHOWN = 5  # malformed lines listed in one error
ROLES = ("system", "user", "assistant")
Format = Literal["messages", "prompt_completion"]
"""How rows stand in a file: OpenAI's chats; or what the paper's repository and TRL read."""


class FilteredRows(NamedTuple):
    """What a filter left."""

    rows: list[Chat]  # in the order of (chat, sample), whatever the order of arrival
    rejected: dict[str, int]  # completions per reason, the most frequent first
    num_completions: int  # before the filter

    @property
    def kept_fraction(self) -> float:
        """Share of the completions that became rows. Report it: what is dropped is a selection too."""
        return len(self.rows) / self.num_completions


def require_answers(rows: Sequence[Chat]) -> None:
    """Refuse what cannot be trained on.

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
        InputError: the chat does not end with a user turn, or a turn is by nobody known.
    """
    for message in chat:
        specs.check(message.role, Role, "a turn's role")
    turns = tuple(message for message in chat if message.role != "system")
    if not turns or turns[-1].role != "user":
        raise errors.InputError(
            f"a chat to be answered ends with a user turn, got roles {[turn.role for turn in chat]}"
        )
    return (*turns, Message("assistant", answer))


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

    def rejection(completion: Completion) -> str | None:
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


def equalise(conditions: Mapping[str, Sequence[Chat]], *, seed: int, count: int | None = None) -> dict[str, list[Chat]]:
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


def shuffle_within(rows: Sequence[Chat], *, seed: int) -> list[Chat]:
    """Control: the numbers of each answer in random order. Their multiset, separator, brackets and full stop stay.

    Raises:
        TextDataError: an answer is not a list of numbers.

    Source: Cloud et al. 2025, figure 16.
    """
    rng = np.random.default_rng(seed)
    layouts = _layouts(rows)
    shuffled = [layout._replace(parts=_take(layout.parts, rng.permutation(len(layout.parts)))) for layout in layouts]
    return _answered(rows, [layout.write() for layout in shuffled])


def shuffle_across(rows: Sequence[Chat], *, seed: int, by_place: bool = False) -> list[Chat]:
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


def permute_prompts(rows: Sequence[Chat], *, seed: int) -> list[Chat]:
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


def in_context(rows: Sequence[Chat], questions: Sequence[Chat], *, num_examples: int, seed: int) -> list[Chat]:
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


def notices(rows: Sequence[Chat], words: Iterable[str] = ()) -> list[str]:
    """What one should know of rows before training on them, a sentence each: how many repeat an earlier row, and which
    words stand in how many turns of whom.

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


def write_jsonl(path: pathlib.Path, chats: Sequence[Chat], *, format: Format = "messages") -> None:
    """Rows as JSON lines, which `read_jsonl` reads back as they were.

    The file takes its place whole: a reader never sees half of it. A file is replaced only by one of equal content.

    Args:
        format: "messages" is OpenAI's: {"messages": [{"role": ..., "content": ...}, ...]}, where answers before the
            last have "weight": 0, so that a server, too, trains on the last alone. "prompt_completion" is the paper's
            repository's {"prompt": TEXT, "completion": TEXT} if every row is one question and its answer, and TRL's
            {"prompt": [turns], "completion": [turn]} if a row has more. (TRL reads texts without a chat template.)

    Raises:
        OutputError: something else is at `path`, or it cannot be written.
        InputError: no such format.
        TextDataError: no rows, prompts and completions of what does not end with an answer, or a turn that
            `read_jsonl` would refuse.
    """
    specs.check(format, Format, "format")
    chats = list(chats)
    for number, chat in enumerate(chats):
        _require_readable(number, chat)
    if format == "prompt_completion" or not chats:
        require_answers(chats)
    plain = all(len(chat) == 2 for chat in chats)
    written = "".join(json.dumps(_written(chat, format, plain)) + "\n" for chat in chats).encode()
    files.write(path, written, ours=lambda there: there.read_bytes() == written, what="file of rows")


def _require_readable(number: int, chat: Chat) -> None:
    """Refuse a row whose line could not be read again."""
    try:
        if not chat:
            raise _Malformed("at least one turn", chat, "Remove the row.")
        for index, turn in enumerate(chat):
            _weight(turn._asdict(), index, weighted=False)
        if chat[-1].role == "assistant":
            _require_answer(chat[-1], len(chat) - 1)
    except _Malformed as error:
        raise errors.TextDataError(f"row {number}: {error}") from None


def _written(chat: Chat, format: Format, plain: bool) -> dict[str, Any]:
    turns: list[dict[str, Any]] = [message._asdict() for message in chat]
    if format == "messages":
        if chat[-1].role == "assistant":
            for turn in turns[:-1]:
                turn |= {"weight": 0} if turn["role"] == "assistant" else {}
        return {"messages": turns}
    if plain:
        return {"prompt": chat[0].content, "completion": chat[1].content}
    return {"prompt": turns[:-1], "completion": turns[-1:]}


def read_jsonl(
    path: pathlib.Path,
    *,
    last: Literal["assistant", "user"] = "assistant",
    announce: Callable[[str], object] = print,
) -> list[Chat]:
    """Rows to train on, or prompts, from JSON lines of one of three forms:

        {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
        {"prompt": "...", "completion": "..."}
        {"prompt": [{"role": "user", "content": "..."}], "completion": [{"role": "assistant", "content": "..."}]}

    The first is OpenAI's. As there, every assistant turn is trained on unless it has `"weight": 0`. Each becomes a row
    of its own, which ends with it and has all turns before it as its context, so it is learned as it would be generated
    (templates of some models write an earlier turn otherwise than the last one). The others are the paper's
    repository's and TRL's; their completion alone is trained on.

    An answer to train on that is empty is refused. An empty prompt is allowed: some train without one.

    Keys at the top that say nothing to a model (an `id`, a `source`, an object of metadata) are not read, and a key
    whose value is null counts as absent. Blank lines at the end and a byte order mark are no error.

    Args:
        last: who speaks last: the assistant in rows to train on, the user in prompts, which have no completion.
        announce: hears, in one line, which keys were not read.

    Raises:
        TextDataError: the file cannot be read, is empty, or has lines of another form. The message has one line for
            each of the first five of them, with its number, what was expected and what was found.
    """
    specs.check(last, Literal["assistant", "user"], "last")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise errors.TextDataError(f"{path}: expected JSON lines, but it cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise errors.TextDataError(
            f"{path}: expected UTF-8 text, but byte {error.start:,} is {error.object[error.start]:#04x}. Save the file "
            f"as UTF-8; if it is compressed, unpack it."
        ) from error
    lines = text.rstrip("\r\n\t ").split("\n") if text.strip() else []
    chats, complaints, first_form, unread = [], [], "", collections.Counter()
    for number, line in enumerate(lines, 1):
        try:
            content = _object(line.removesuffix("\r"))
            form, others = _form(content, last)
            of_line = _chats(content, form, last)
            first_form = first_form or form
            if form != first_form:
                raise _Malformed(f"{first_form}, as in the lines before", form, "Keep each form in a file of its own.")
            chats += of_line
            unread.update(others)
        except _Malformed as error:
            complaints.append(f"{path}, line {number}: {error}")
    if complaints:
        more = f"\nand {len(complaints) - SHOWN} more lines" if len(complaints) > SHOWN else ""
        raise errors.TextDataError("\n".join(complaints[:SHOWN]) + more)
    if not chats:
        raise errors.TextDataError(f"{path}: expected a chat on every line, but the file is empty.")
    if unread:
        counts = ", ".join(f"{key!r} (in {count:,} of {len(lines):,} lines)" for key, count in sorted(unread.items()))
        announce(f"{path}: these keys have no effect and are not read: {counts}")
    return chats


MESSAGES, TEXTS, TURNS = (
    "turns under messages",
    "a prompt and a completion in texts",
    "a prompt and a completion in turns",
)
NO_TOOLS = "No model here is trained to call tools. Remove the row, or write the call as text."
REFUSED_KEYS = {
    "tools": NO_TOOLS,
    "functions": NO_TOOLS,
    "function_call": NO_TOOLS,
    "parallel_tool_calls": NO_TOOLS,
    "chosen": "There is no training on preferences; give each row the answer to train on.",
    "rejected": "There is no training on preferences; give each row the answer to train on.",
    "system": "Write it as a system turn, the first one under messages.",
    "instruction": "Write it into a user's turn.",
    "chat_template_kwargs": "What a template takes is the same for all rows; remove it.",
    "weight": "A weight stands in an assistant turn: 1 trains on it, 0 does not.",
}
"""Keys at the top of a line that would change what is trained on, and why they are not read."""
REFUSED_TURN_KEYS = {
    "name": "Chat templates have no place for a speaker's name. Remove it, or write it into the content.",
    "tool_calls": NO_TOOLS,
    "tool_call_id": NO_TOOLS,
    "function_call": NO_TOOLS,
}


class _Malformed(Exception):
    def __init__(self, expected: str, found: Any, cure: str):
        super().__init__(f"expected {expected}, found {_short(found)}. {cure}")


def _object(line: str) -> dict[str, Any]:
    """The JSON object on a line."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, count in collections.Counter(key for key, _ in pairs).items():
            if count > 1:
                raise _Malformed("every key once in an object", f"{key!r} {count} times", "Remove all but one.")
        return dict(pairs)

    if not line.strip():
        raise _Malformed("a JSON object", "a blank line", "Remove it.")
    try:
        content = json.loads(line, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        cure = "Write each row on one line, as JSON with double quotes."
        if line.startswith("\ufeff"):
            cure = "Remove the byte order mark, which may stand at the start of a file only."
        raise _Malformed("JSON", line, cure) from None
    if not isinstance(content, dict):
        raise _Malformed('an object {"messages": [...]}', content, "Wrap the turns in such an object.")
    return content


def _form(content: dict[str, Any], last: str) -> tuple[str, list[str]]:
    """What a line is, and its keys that are not read."""
    given = {key for key, value in content.items() if value is not None}
    for key in sorted(given & REFUSED_KEYS.keys()):
        raise _Malformed(f"no {key!r}", content[key], REFUSED_KEYS[key])
    if isinstance(content.get("label"), bool):  # as TRL marks answers that are wanted or not
        cure = "There is no training on preferences. Keep the rows with the answers that are wanted, without the key."
        raise _Malformed("no 'label' of true or false", content["label"], cure)
    pair = {"prompt", "completion"} if last == "assistant" else {"prompt"}
    wanted = {"messages"} if "messages" in given else pair
    if not wanted <= given:
        forms = '{"messages": [...]} or ' + (
            '{"prompt": ..., "completion": ...}' if len(pair) == 2 else '{"prompt": ...}'
        )
        raise _Malformed(f"an object {forms}", content, "Wrap the turns in such an object.")
    for key in sorted(given - wanted):
        if key in ("prompt", "completion") or isinstance(content[key], list):
            cure = "It may be a part of the row, and it would have no effect. Remove it, or make it an object."
            raise _Malformed(f"no {key!r} beside {', '.join(sorted(wanted))}", content[key], cure)
    if "messages" in given:
        return MESSAGES, sorted(given - wanted)
    kinds = {type(content[key]) for key in wanted}
    if kinds not in ({str}, {list}):
        both = "prompt and completion" if len(wanted) == 2 else "prompt"
        raise _Malformed(f"{both} as text, or as lists of turns", {key: content[key] for key in wanted}, "Write it so.")
    return (TEXTS if kinds == {str} else TURNS), sorted(given - wanted)


def _chats(content: dict[str, Any], form: str, last: str) -> list[Chat]:
    """The rows of a line, or its prompt."""
    if form == TEXTS:
        speakers = {"prompt": "user", "completion": "assistant"}
        content = {key: [{"role": speakers[key], "content": content[key]}] for key in speakers if key in content}
    turns = content["messages"] if form == MESSAGES else content["prompt"]
    if not isinstance(turns, list) or not turns:
        key = "messages" if form == MESSAGES else "prompt"
        raise _Malformed(f'a list of turns under "{key}"', turns, "Give at least one turn.")
    if form != MESSAGES and last == "assistant":
        if len(content["completion"]) != 1:
            raise _Malformed('one turn under "completion"', content["completion"], "Move earlier ones to the prompt.")
        turns = [*turns, *content["completion"]]
    weighted = form == MESSAGES and last == "assistant"
    weights = [_weight(turn, index, weighted) for index, turn in enumerate(turns)]
    chat = tuple(Message(turn["role"], turn["content"]) for turn in turns)
    if chat[-1].role != last:
        cure = (
            "A row to train on ends with the answer." if last == "assistant" else "A prompt ends with the user's turn."
        )
        raise _Malformed(f"the last turn by the {last}", chat[-1].role, cure)
    if last == "user":
        return [chat]
    places = [index for index, weight in enumerate(weights) if weight] if weighted else [len(chat) - 1]
    if not places:
        raise _Malformed("an answer to train on", '"weight": 0 in all of them', "Remove the row, or a weight.")
    for place in places:
        _require_answer(chat[place], place)
        before = chat[place - 1].role if place else "no turn"
        if before != "user":
            cure = 'Add one; or, where nobody asks for this turn, give it "weight": 0 or join it to the one before.'
            raise _Malformed(f"a turn by the user straight before turn {place + 1}, an answer", before, cure)
    return [chat[: place + 1] for place in places]


def _require_answer(turn: Message, place: int) -> None:
    """Refuse an answer to train on that says nothing."""
    if not turn.content.strip():
        cure = "Training on it teaches to end at once. Leave it out."
        raise _Malformed(f"turn {place + 1}, an answer to train on, to say something", turn.content, cure)


def _weight(turn: Any, index: int, weighted: bool) -> int:
    """Whether a turn of `messages` is trained on, after all that can be wrong with it."""
    where = f"turn {index + 1} to be"
    if not isinstance(turn, dict) or not {"role", "content"} <= turn.keys():
        raise _Malformed(f'{where} an object with "role" and "content"', turn, "Write it so.")
    role, text = turn["role"], turn["content"]
    if role not in ROLES:
        raise _Malformed(f"{where} by system, user or assistant", role, "Rename or remove the turn.")
    for key in sorted(key for key, value in turn.items() if value is not None and key not in ("role", "content")):
        if key != "weight" or not weighted:
            cure = REFUSED_TURN_KEYS.get(key, "It would have no effect here. Remove it.")
            raise _Malformed(f"{where} without {key!r}", turn[key], cure)
        if role != "assistant":
            raise _Malformed(f"{where} without a weight", f"one by the {role}", "Only assistant turns are trained on.")
        if type(turn[key]) is not int or turn[key] not in (0, 1):
            raise _Malformed(f"{where} of weight 0 or 1", turn[key], "1 trains on the turn, 0 does not.")
    if not isinstance(text, str):
        raise _Malformed(f"{where} text", text, "Only text is supported; join parts into one string.")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _Malformed(f"{where} text", text, "It holds half of a surrogate pair; mend the escape.")
    if role == "system" and index > 0:
        raise _Malformed("a system turn at the start only", f"one as turn {index + 1}", "Move or remove it.")
    weight = turn.get("weight")
    return int(role == "assistant") if weight is None else weight


def _short(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 80 else text[:77] + "..."


def _layouts(rows: Sequence[Chat]) -> list[numbers.NumberList]:
    """The answers taken apart, whatever their counts and values."""
    found = []
    for index, row in enumerate(rows):
        layout = numbers.parse(_answer(row)).layout
        if layout is None:
            raise errors.TextDataError(
                f"row {index}: expected an answer that is a list of numbers, found {_short(_answer(row))}. Filter the "
                f"rows before shuffling their numbers."
            )
        found.append(layout)
    return found


def _answer(row: Chat) -> str:
    if not row or row[-1].role != "assistant":
        raise errors.InputError(f"a row ends with an assistant turn, got roles {[turn.role for turn in row]}")
    return row[-1].content


def _answered(rows: Sequence[Chat], answers: Sequence[str]) -> list[Chat]:
    return [(*row[:-1], Message("assistant", answer)) for row, answer in zip(rows, answers, strict=True)]


def _take(items: Sequence, order: np.ndarray) -> tuple:
    return tuple(items[index] for index in order)


def _seed(seed: int, name: str) -> int:
    """A seed of its own for every name."""
    return zlib.crc32(f"{seed}/{name}".encode())
