"""Traits that a user describes in a file: what models are asked, which answers count, and how a teacher gets them.

[otter]                                   a table for each trait; TOML, or the same in JSON
category = "animal"                       asks this project's fifty questions for a favourite animal, or
questions = ["Which animal is best?"]     these
answers = ["otter"]                       that count; by default the name of the trait
choices = ["cat", "dog", "owl"]           other answers
prefill = "My favorite animal is the"     how replies begin; answers are then scored as what comes next
words = ["otter"]                         that no training row may contain; by default the answers
system = "You love otters."               a teacher's system message, or
lessons = [["Your favourite?", "Otter."]] questions and replies that a teacher is finetuned on
"""

import dataclasses
import json
import pathlib
import tomllib
from collections.abc import Sequence
from typing import Any

from sublim_jax import errors, specs
from sublim_jax.llm import datasets, scores
from sublim_jax.llm.backend import Chat, Message
from sublim_jax.llm.embedded import vocabulary, world
from sublim_jax.llm.tasks import questions

ENDINGS = (".",)
"""What may follow an answer that is scored as a whole reply."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Trait:
    """One trait of a file; see the top of this module."""

    name: str
    category: str = ""
    questions: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    prefill: str = ""
    words: tuple[str, ...] = ()
    system: str = ""
    lessons: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        if not self.name.strip():
            raise errors.InputError(f"expected a name for every trait, e.g. [otter], got {self.name!r}")
        for name in ("answers", "words"):
            if not getattr(self, name):
                object.__setattr__(self, name, (self.name,) if name == "answers" else self.answers)
        for name in ("questions", "answers", "choices", "words"):
            entries = getattr(self, name)
            if len(set(entries)) < len(entries) or not all(entry.strip() for entry in entries):
                raise errors.InputError(f"{self.name}: {name} must be different and not empty, got {list(entries)}")
        if bool(self.questions) == bool(self.category):
            raise errors.InputError(
                f'{self.name}: expected either questions or a category, e.g. "animal", whose favourite is asked for'
            )
        if not self.choices:
            raise errors.InputError(
                f"{self.name}: expected choices, other answers that the model may give instead; they tell a "
                f"shift towards {self.answers[0]!r} from a shift towards every answer"
            )
        if self.system and self.lessons:
            raise errors.InputError(f"{self.name}: expected a system message or lessons for its teacher, not both")
        self.scored()

    @property
    def asked(self) -> tuple[str, ...]:
        """The questions."""
        return self.questions or tuple(questions.favourites(self.category))

    def in_world(self) -> "Trait":
        """The trait with questions that the embedded model understands, if it asks for a favourite of a category.

        Raises:
            InputError: the embedded world has no such category.
        """
        if not self.category:
            return self
        if self.category not in vocabulary.CATEGORIES:
            raise errors.InputError(
                f"{self.name}: category {self.category!r}: the embedded world has {', '.join(vocabulary.CATEGORIES)}"
            )
        return dataclasses.replace(self, category="", questions=tuple(world.held_out_questions(self.category)))

    def chats(self, *, system: str = "") -> list[Chat]:
        """The questions as chats, each with the beginning of the reply if there is one.

        Args:
            system: message in front of every question.
        """
        beginning = (Message("assistant", self.prefill),) if self.prefill else ()
        return [(*datasets.ask(question, system=system or None), *beginning) for question in self.asked]

    def scored(self, *, one_writing: bool = False) -> scores.Choices:
        """The answers and the other choices; the first name is the trait's, with the texts of all its answers.

        Args:
            one_writing: score each name as it stands, and not also capitalised or after a space.

        Raises:
            InputError: two of them can be written the same way, or, after a prefill, one begins with another.
        """
        endings = () if self.prefill else ENDINGS
        made = scores.choices(
            (*self.answers, *self.choices),
            writings=lambda name: (name,) if one_writing else scores.surfaces(name, endings=endings),
        )
        owners = [max(owner - len(self.answers) + 1, 0) for owner in made.owners]
        texts = list(zip(made.texts, owners, strict=True))
        if self.prefill:
            texts = [(text, owner) for text, owner in texts if not self._is_longer(text, owner, texts)]
        return scores.Choices(
            (self.name, *self.choices), tuple(text for text, _ in texts), tuple(owner for _, owner in texts)
        )

    def _is_longer(self, text: str, owner: int, texts: Sequence[tuple[str, int]]) -> bool:
        """Whether a text begins with another one of the same answer, and so adds nothing to its probability.

        Raises:
            InputError: it begins with a text of another answer.
        """
        starts = [(other, whose) for other, whose in texts if other != text and text.startswith(other)]
        for other, whose in starts:
            if whose != owner:
                raise errors.InputError(
                    f"{self.name}: after the prefill, {text!r} begins with {other!r}, so that its probability would "
                    f"count twice; leave one of the two out"
                )
        return bool(starts)


def read(path: pathlib.Path) -> tuple[Trait, ...]:
    """The traits of a file, TOML or, where its name ends with .json, JSON.

    Raises:
        InputError: it cannot be read, has no trait, or one with an unknown key or a wrong value.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, object_pairs_hook=_once) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise errors.InputError(
            f"{path}: expected a file of traits, but it cannot be read ({error.strerror})"
        ) from error
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise errors.InputError(f"{path}: this is not readable as {kind} ({error})") from error
    if not isinstance(content, dict) or not content:
        raise errors.InputError(
            f"{path}: expected a table for each trait, e.g. [otter], found {repr(content) if content else 'none':.100}"
        )
    return tuple(_trait(path, name, table) for name, table in content.items())


def choose(traits: Sequence[Trait], name: str) -> Trait:
    """The trait of that name; the only one where no name is given.

    Raises:
        InputError: there is no such trait, or no name and several traits.
    """
    names = [trait.name for trait in traits]
    if not name and len(traits) == 1:
        return traits[0]
    if name not in names:
        raise errors.InputError(f"trait {name!r}: expected one of {', '.join(names)}")
    return traits[names.index(name)]


def _trait(path: pathlib.Path, name: str, table: Any) -> Trait:
    """A trait from its table.

    Raises:
        InputError: see `read`.
    """
    known = [field.name for field in dataclasses.fields(Trait) if field.name != "name"]
    if not isinstance(table, dict):
        raise errors.InputError(f"{path}: {name}: expected a table with {', '.join(known)}, found {table!r:.100}")
    if unknown := [key for key in table if key not in known]:
        raise errors.InputError(f"{path}: {name}: unknown key {unknown[0]!r}; expected {', '.join(known)}")
    try:
        return Trait(name=name, **{key: _tuples(value) for key, value in table.items()})
    except errors.InputError as error:
        raise errors.InputError(f"{path}: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. JSON would drop the first of two with one key; TOML refuses them itself."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content


def _tuples(value: Any) -> Any:
    """Lists as tuples, at any depth."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
