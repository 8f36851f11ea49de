"""Text to tokens and back, and chats as the text a model was trained on.

    tokens = read(folder)                           tokenizer.json and the chat template of a hub folder (extra `hf`)
    ids = tokens.chat(chat, reply="owl")            template, tokens, and where the reply begins
    tokens.text(ids)

The template holds the begin-of-text token, so texts are encoded without special tokens. Arguments of the template are
pinned: no date of today, no thinking, whatever the folder's default is.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from sublim_jax import errors, specs
from sublim_jax.llm.backend import Chat, Message
from sublim_jax.llm.local import entries

PINNED: dict[str, Any] = {"enable_thinking": False, "date_string": "26 Jul 2024", "tools": None, "documents": None}
"""Arguments that templates of Qwen3 and Llama 3 know. A date that changes would change the model's prompt every day."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A chat in tokens."""

    ids: tuple[int, ...]
    reply_start: int  # index of the first token of the reply; the number of tokens if there is none


@runtime_checkable
class Tokenizer(Protocol):
    """Turns chats into tokens and tokens into text. Implemented by `HFTokenizer` and by the embedded
    `WordTokenizer`."""

    end_ids: tuple[int, ...]  # tokens that end a reply

    @property
    def size(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def ends(self, text: str) -> list[int]: ...

    def text(self, ids: Sequence[int]) -> str: ...

    def render(self, chat: Chat) -> str: ...

    def chat(self, chat: Chat, reply: str | None = None) -> Encoded: ...


def open_turn(chat: Chat) -> tuple[Chat, str]:
    """The turns that are replied to, and how the reply begins: the text of a last assistant's turn, or nothing."""
    if len(chat) > 1 and chat[-1].role == "assistant":
        return chat[:-1], chat[-1].content
    return chat, ""


class HFTokenizer:
    """A tokenizer with its chat template."""

    def __init__(
        self,
        tokenizer: Any,
        template: str | Mapping[str, str] | None,
        special: Mapping[str, str],
        end_ids: Sequence[int],
    ):
        self._named = template if isinstance(template, Mapping) else {"default": template} if template else {}
        self._tokenizer, self._template, self._special = tokenizer, self._named.get("default"), dict(special)
        self.end_ids = tuple(end_ids)  # tokens that end a reply

    @property
    def size(self) -> int:
        """Number of tokens, added ones included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as it stands."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def ends(self, text: str) -> list[int]:
        """Where in the text each of its tokens ends."""
        return [last for _, last in self._tokenizer.encode(text, add_special_tokens=False).offsets]

    def text(self, ids: Sequence[int]) -> str:
        """The text of some ids, without end tokens."""
        return self._tokenizer.decode([index for index in ids if index not in self.end_ids], skip_special_tokens=True)

    def render(self, chat: Chat) -> str:
        """The chat as text, ready for a reply.

        Raises:
            TemplateError: no template, or one that does not take this chat or leaves out a part of it.
        """
        if self._template is None:
            named = f" by default, only {', '.join(self._named)}" if self._named else ""
            raise errors.TemplateError(f"this model has no chat template{named}; use an instruction-tuned model")
        try:
            text = self._rendered(chat)
        except errors.ExtraMissingError:
            raise
        except Exception as error:
            roles = ", ".join(message.role for message in chat)
            raise errors.TemplateError(
                f"the model's chat template does not take a chat of {roles}: {error}.{self._advice(chat)}"
            ) from error
        for message in chat:
            # Of an earlier answer a template may leave out the reasoning.
            if message.role != "assistant" and message.content.strip() not in text:
                raise errors.TemplateError(
                    f"the model's chat template leaves out the text of a {message.role} turn: {message.content:.80}."
                    f"{self._advice(chat)}"
                )
        if not text:
            raise errors.TemplateError("the model's chat template writes nothing; see whether it is the right file")
        return text

    def _rendered(self, chat: Chat) -> str:
        messages = [message._asdict() for message in chat]
        assert self._template is not None
        return _compiled(self._template).render(
            messages=messages, add_generation_prompt=True, **self._special, **PINNED
        )

    def _advice(self, chat: Chat) -> str:
        """Advice about a chat that is refused for its system turn; empty if it is refused without one too."""
        rest = tuple(message for message in chat if message.role != "system")
        try:
            if len(rest) < len(chat) and self.render(rest):
                return " The template, as Gemma's, has no system turn: put its text before the user's."
        except Exception:  # of the template, which is anybody's code
            pass
        return ""

    def chat(self, chat: Chat, reply: str | None = None) -> Encoded:
        """The chat in tokens and, with a reply, the reply's tokens and the end token after them.

        Prompt and reply are encoded apart, so where the reply begins is known and not searched for. A last assistant's
        turn of the chat is left open: it is the beginning of the reply and part of the prompt.
        """
        turns, beginning = open_turn(chat)
        prompt = [*self.encode(self.render(turns)), *self.encode(beginning)]
        if reply is None:
            return Encoded(tuple(prompt), len(prompt))
        return Encoded((*prompt, *self.encode(reply), self.end_ids[0]), len(prompt))


@functools.cache
def _compiled(template: str):
    sandbox = _hf()[1]
    from jinja2 import ext, nodes

    class Generation(ext.Extension):
        """The tag with which transformers marks what the model is trained on. It leaves the text as it is."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

        def _text(self, caller):
            return caller()

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def refuse(message: str):
        raise errors.InputError(message)

    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda _: PINNED["date_string"]}
    environment.filters["tojson"] = tojson
    return environment.from_string(template)


def _hf():
    try:
        import tokenizers
        from jinja2 import sandbox
    except ImportError as error:
        raise errors.ExtraMissingError(
            "chat templates need tokenizers and jinja2: pip install 'sublim-jax[hf]'"
        ) from error
    return tokenizers, sandbox


def read(folder: str | os.PathLike[str]) -> HFTokenizer:
    """The tokenizer of a hub folder.

    Raises:
        ModelFormatError: no tokenizer.json, or one that cannot be read; or another file is not what it should be.
        ExtraMissingError: tokenizers or jinja2 is not installed.
    """
    path = pathlib.Path(folder)
    try:
        tokenizer = _hf()[0].Tokenizer.from_file(str(path / "tokenizer.json"))
    except errors.ExtraMissingError:
        raise
    except Exception as error:
        raise errors.ModelFormatError(f"{path}: there is no readable tokenizer.json ({error})") from error
    settings = _json(path / "tokenizer_config.json")
    template = _template(path, settings)
    names = ("bos_token", "eos_token", "pad_token")
    special = {name: _content(settings.get(name), f"{path / 'tokenizer_config.json'}: {name}") for name in names}
    made = HFTokenizer(tokenizer, template, special, _ends(path, tokenizer, special))
    return HFTokenizer(tokenizer, template, special, tuple(dict.fromkeys((*_turn_end(made), *made.end_ids))))


def _template(path: pathlib.Path, settings: Mapping[str, Any]) -> str | dict[str, str] | None:
    """The chat template, or several by name: from separate files, else the tokenizer's, else the processor's."""
    separate = {file.stem: file for file in sorted((path / "additional_chat_templates").glob("*.jinja"))}
    if (path / "chat_template.jinja").exists():
        separate["default"] = path / "chat_template.jinja"
    if separate:
        try:
            return {name: file.read_text(encoding="utf-8") for name, file in separate.items()}
        except (OSError, ValueError) as error:
            raise errors.ModelFormatError(f"{path}: a chat template is not readable text ({error})") from error
    template = settings.get("chat_template") or _json(path / "chat_template.json").get("chat_template")
    if not isinstance(template, list):
        entries.check(template, str | None, f"{path}: chat_template")
        return template
    for entry in template:
        entries.check(entry, dict, f"{path}: chat_template")
    named = [entries.of(_Named, entry, f"{path}: chat_template") for entry in template]
    return {entry.name: entry.template for entry in named}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Named:
    """One of several chat templates."""

    name: str
    template: str


def _ends(path: pathlib.Path, tokenizer, special: Mapping[str, str]) -> list[int]:
    """Ids of the tokens that end a reply: the tokenizer's own first, then those of the generation config."""
    entry = _json(path / "generation_config.json").get("eos_token_id")
    end_ids = entry if isinstance(entry, list) else [] if entry is None else [entry]
    for index in end_ids:
        entries.check(index, specs.CountOrZero, f"{path / 'generation_config.json'}: eos_token_id")
        if tokenizer.id_to_token(index) is None:
            raise errors.ModelFormatError(
                f"{path / 'generation_config.json'}: eos_token_id {index} is no token of tokenizer.json; are they of "
                f"one model?"
            )
    own = tokenizer.token_to_id(special["eos_token"]) if special["eos_token"] else None
    if own is not None:
        end_ids = [own, *end_ids]
    if not end_ids:
        raise errors.ModelFormatError(f"{path}: neither generation_config.json nor the tokenizer names an end token")
    return list(dict.fromkeys(end_ids))


def _turn_end(made: HFTokenizer) -> list[int]:
    """The end token that the template puts after a reply, in a list. Gemma's tokenizer names a different one first."""
    reply = "zebra"
    try:
        text = made.render((Message("user", "a"), Message("assistant", reply)))
    except errors.TemplateError:
        return []
    return [index for index in made.encode(text.rpartition(reply)[2]) if index in made.end_ids][:1]


def _content(token: Any, where: str) -> str:
    text = (token.get("content") if isinstance(token, dict) else token) or ""
    entries.check(text, str, where)
    return text


def _json(path: pathlib.Path) -> dict[str, Any]:
    return entries.read(path) if path.exists() else {}


def pad_left(
    rows: Sequence[Sequence[int]], length: int
) -> tuple[Int[np.ndarray, "row time"], Bool[np.ndarray, "row time"]]:
    """Rows of ids as one array, padded on the left, and a mask of the ids.

    Raises:
        ContextError: a row is longer than `length`.
    """
    if (longest := max(map(len, rows), default=0)) > length:
        raise errors.ContextError(f"a text has {longest} tokens, and {length} are allowed; shorten it or allow more")
    ids, valid = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), bool)
    for row, tokens in enumerate(rows):
        if tokens:
            ids[row, -len(tokens) :], valid[row, -len(tokens) :] = tokens, True
    return ids, valid


def padded_length(length: int) -> int:
    """The padded length for `length` tokens: a multiple of 8 up to 64, then 96, 128, 192, 256, 384 and so on. Few
    shapes are few compilations."""
    if length <= 64:
        return max(8, -(-length // 8) * 8)
    power = 1 << (length - 1).bit_length()
    return power * 3 // 4 if length <= power * 3 // 4 else power
