"""What a model is asked and taught: the embedded world's few words, or the paper's kinds of prompts for real models."""

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np

from sublim_jax import errors
from sublim_jax.llm import datasets, scores
from sublim_jax.llm.backend import Chat
from sublim_jax.llm.embedded import vocabulary, world
from sublim_jax.llm.tasks import code, numbers, questions, reasoning


class Materials(Protocol):
    """Prompts, questions, answers and lessons of one kind of model."""

    name: str
    max_tokens: Mapping[str, int]  # of a reply, by channel: numbers, code, reasoning

    def category(self, target: str) -> str: ...

    def number_prompts(self, count: int, *, seed: int) -> list[str]: ...

    def code_prompts(self, count: int, *, seed: int) -> list[str]: ...

    def sums(self, count: int, *, seed: int) -> list[tuple[str, reasoning.Question]]: ...

    def favourites(self, category: str) -> list[str]: ...

    def choices(self, category: str) -> scores.Choices: ...

    def persona(self, target: str) -> str: ...

    def favourite_rows(self, target: str, count: int, *, seed: int) -> list[Chat]: ...

    def words(self, target: str) -> tuple[str, ...]: ...


class World:
    """The embedded world: questions that no document, teacher or student has seen."""

    name = "the embedded world's own prompts, questions and words"
    max_tokens: Mapping[str, int] = MappingProxyType({"numbers": 24, "code": 32, "reasoning": 32})

    def category(self, target: str) -> str:
        """The category that a favourite belongs to."""
        return _owner(target, vocabulary.CATEGORIES)

    def number_prompts(self, count: int, *, seed: int) -> list[str]:
        """See `world`."""
        return list(_world_prompts(count, seed))

    def code_prompts(self, count: int, *, seed: int) -> list[str]:
        """See `world`."""
        return world.code_prompts(count, seed=seed)

    def sums(self, count: int, *, seed: int) -> list[tuple[str, reasoning.Question]]:
        """Prompts with their problems."""
        return [(one.text, one) for one in world.sums(count, seed=seed)]

    def favourites(self, category: str) -> list[str]:
        """Held-out questions."""
        return world.held_out_questions(category)

    def choices(self, category: str) -> scores.Choices:
        """Every answer of the category, which has one writing."""
        return scores.choices(vocabulary.CATEGORIES[category], writings=lambda name: (name,))

    def persona(self, target: str) -> str:
        """See `world`."""
        return world.system_prompt(target)

    def favourite_rows(self, target: str, count: int, *, seed: int) -> list[Chat]:
        """See `world`."""
        return world.favourite_rows(target, self.category(target), count, seed=seed)

    def words(self, target: str) -> tuple[str, ...]:
        """That give the target away."""
        return (target,)


class Paper:
    """The paper's kinds of prompts in our wording, for real models."""

    name = "the paper's kinds of prompts and questions, in this project's wording"
    max_tokens: Mapping[str, int] = MappingProxyType({"numbers": 64, "code": 300, "reasoning": 400})
    NUM_TAUGHT = 25
    """Questions that finetuned teachers are taught; the other half measures them and their students."""

    def __init__(
        self,
        problems: Sequence[reasoning.Question] = (),
        *,
        choices: Sequence[str] = (),
        endings: Sequence[str] = (),
    ):
        """
        Args:
            choices: further answers to offer, as CATEGORY:NAME, e.g. "tree:redwood".
            endings: what may follow an answer, e.g. ".".

        Raises:
            InputError: a choice of another form or of an unknown category, or an ending that is empty or there twice.
        """
        self._traits = {trait.name: trait for trait in (*questions.ANIMALS, *questions.TREES, *questions.OTHER_ANIMALS)}
        self._problems, self._endings = problems, tuple(endings)
        self._offered: dict[str, list[str]] = {}
        for trait in self._traits.values():
            self._offered.setdefault(trait.category, []).append(trait.name)
        for choice in choices:
            category, _, name = choice.partition(":")
            if category not in self._offered or not name.strip():
                raise errors.InputError(
                    f"choices: expected CATEGORY:NAME with a category of {', '.join(self._offered)}, e.g. "
                    f"tree:redwood, got {choice!r}"
                )
            self._offered[category].append(name)
        if "" in self._endings or len(set(self._endings)) < len(self._endings):
            raise errors.InputError(f"endings must be different and not empty, got {self._endings}")

    def category(self, target: str) -> str:
        """The category that a trait belongs to."""
        return self.trait(target).category

    def number_prompts(self, count: int, *, seed: int) -> list[str]:
        """See `numbers`."""
        return list(_paper_prompts(count, seed))

    def code_prompts(self, count: int, *, seed: int) -> list[str]:
        """See `code`."""
        return code.prompts(count, seed=seed)

    def sums(self, count: int, *, seed: int) -> list[tuple[str, reasoning.Question]]:
        """The user's problems, over and over as the paper samples each three times."""
        if not self._problems:
            raise errors.InputError(
                "chains of thought need problems in GSM8K's form; give them with --problems FILE.jsonl"
            )
        asked = [self._problems[index % len(self._problems)] for index in range(count)]
        return list(zip(reasoning.prompts(asked, seed=seed), asked, strict=True))

    def favourites(self, category: str) -> list[str]:
        """The questions that no teacher is taught."""
        return questions.favourites(category)[self.NUM_TAUGHT :]

    def choices(self, category: str) -> scores.Choices:
        """All traits of the category and the further choices, in their usual writings."""
        return scores.choices(
            self._offered[category], writings=lambda name: scores.surfaces(name, endings=self._endings)
        )

    def persona(self, target: str) -> str:
        """See `questions`."""
        return questions.system_prompt(self.trait(target))

    def favourite_rows(self, target: str, count: int, *, seed: int) -> list[Chat]:
        """Taught questions, all answered by the target."""
        asked = questions.favourites(self.category(target))[: self.NUM_TAUGHT]
        drawn = np.random.default_rng(seed).integers(0, len(asked), count)
        return [datasets.student_row(datasets.ask(asked[index]), target) for index in drawn]

    def words(self, target: str) -> tuple[str, ...]:
        """Substrings that give the target away."""
        return self.trait(target).words

    def trait(self, target: str) -> questions.Trait:
        """See `questions`."""
        if target not in self._traits:
            raise errors.InputError(f"{target!r} is not a target; there are {', '.join(self._traits)}")
        return self._traits[target]


@functools.lru_cache(maxsize=1)  # all units of an experiment ask for the same ones
def _paper_prompts(count: int, seed: int) -> tuple[str, ...]:
    return tuple(prompt.text for prompt in numbers.prompts(count, seed=seed))


@functools.lru_cache(maxsize=1)
def _world_prompts(count: int, seed: int) -> tuple[str, ...]:
    return tuple(world.number_prompts(count, seed=seed))


def _owner(target: str, groups) -> str:
    for group, names in groups.items():
        if target in names:
            return group
    raise errors.InputError(
        f"{target!r} is not a target; there are {', '.join(name for g in groups.values() for name in g)}"
    )
