"""Training rows and prompts in files of JSON lines, in the forms of OpenAI, of TRL and of the paper's repository.

A row is trained on its last turn. A conversation with several answers to train on is read as that many rows.
"""

import collections
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

from sublim_jax import errors, files, specs
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat, Message

SHOWN = 5  # malformed lines listed in one error
Format = Literal["messages", "prompt_completion"]
"""Forms of rows in a file: OpenAI's chats, or the prompts and completions of the paper's repository and TRL."""
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
    "weight": "A weight belongs in an assistant turn: 1 trains on it, 0 does not.",
}
"""Keys at the top of a line that would change what is trained on, and how to express it instead."""
REFUSED_TURN_KEYS = {
    "name": "Chat templates have no place for a speaker's name. Remove it, or write it into the content.",
    "tool_calls": NO_TOOLS,
    "tool_call_id": NO_TOOLS,
    "function_call": NO_TOOLS,
}


def write(path: pathlib.Path, chats: Sequence[Chat], *, format: Format = "messages") -> None:
    """Rows as JSON lines, which `read` reads back as they were.

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
            `read` would refuse.
    """
    specs.check(format, Format, "format")
    chats = list(chats)
    for number, chat in enumerate(chats):
        _require_readable(number, chat)
    if format == "prompt_completion" or not chats:
        datasets.require_answers(chats)
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


def read(
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
        announce: is called with one line about the keys that were not read.

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
                raise _Malformed(f"{first_form}, as in the lines before", form, "Keep each form in a separate file.")
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


class _Malformed(Exception):
    def __init__(self, expected: str, content: Any, cure: str):
        super().__init__(f"expected {expected}, found {datasets.shorten(content)}. {cure}")


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
            cure = "Remove the byte order mark, which may occur at the start of a file only."
        raise _Malformed("JSON", line, cure) from None
    if not isinstance(content, dict):
        raise _Malformed('an object {"messages": [...]}', content, "Wrap the turns in such an object.")
    return content


def _form(content: dict[str, Any], last: str) -> tuple[str, list[str]]:
    """The form of a line, and its keys that are not read."""
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
            cure = 'Add one; or, where no turn asks for this one, give it "weight": 0 or join it to the one before.'
            raise _Malformed(f"a turn by the user straight before turn {place + 1}, an answer", before, cure)
    return [chat[: place + 1] for place in places]


def _require_answer(turn: Message, place: int) -> None:
    """Refuse an empty answer to train on."""
    if not turn.content.strip():
        cure = "Training on it teaches to end at once. Leave it out."
        raise _Malformed(f"turn {place + 1}, an answer to train on, to say something", turn.content, cure)


def _weight(turn: Any, index: int, weighted: bool) -> int:
    """Whether a turn of `messages` is trained on, after every check of the turn."""
    where = f"turn {index + 1} to be"
    if not isinstance(turn, dict) or not {"role", "content"} <= turn.keys():
        raise _Malformed(f'{where} an object with "role" and "content"', turn, "Write it so.")
    role, text = turn["role"], turn["content"]
    if role not in datasets.ROLES:
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
        raise _Malformed(f"{where} text", text, "It holds half of a surrogate pair; correct the escape.")
    if role == "system" and index > 0:
        raise _Malformed("a system turn at the start only", f"one as turn {index + 1}", "Move or remove it.")
    weight = turn.get("weight")
    return int(role == "assistant") if weight is None else weight
