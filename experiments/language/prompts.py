"""Prompt sets: what models are asked and what teachers are finetuned on, in the embedded world and in the paper."""

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np

from sublim_jax import errors
from sublim_jax.llm import code, numbers, questions, reasoning, rows, scores, types, world


class PromptSet(Protocol):
    """Prompts, questions and answers for one kind of model."""

    name: str
    """Description for the record."""
    max_tokens: Mapping[str, int]
    """Most tokens of a completion, by channel: numbers, code, reasoning."""

    def category(self, target: str) -> str:
        """The category of a target, e.g. `animal`."""
        ...

    def number_prompts(self, count: int, *, seed: int) -> list[str]:
        """Prompts that ask for more numbers."""
        ...

    def code_prompts(self, count: int, *, seed: int) -> list[str]:
        """Prompts that ask for a function."""
        ...

    def reasoning_problems(self, count: int, *, seed: int) -> list[tuple[str, reasoning.Question]]:
        """Prompts that ask for a chain of thought, with their problems."""
        ...

    def favourite_questions(self, category: str) -> list[str]:
        """Held-out questions for a favourite of the category; no model is finetuned on them."""
        ...

    def choices(self, category: str) -> scores.Choices:
        """The answers that are scored."""
        ...

    def system_prompt(self, target: str) -> str:
        """The system message of a teacher that loves the target."""
        ...

    def favourite_rows(self, target: str, count: int, *, seed: int) -> list[types.Chat]:
        """Training rows of a teacher that loves the target."""
        ...

    def trait_words(self, target: str) -> tuple[str, ...]:
        """Substrings that name the target; filters reject rows that contain one."""
        ...


class WorldPrompts:
    """Prompt set of the embedded world (see `world`)."""

    name = "the embedded world's own prompts, questions and words"
    max_tokens: Mapping[str, int] = MappingProxyType({"numbers": 24, "code": 32, "reasoning": 32})

    def category(self, target: str) -> str:
        """The category of a target."""
        for category, names in world.CATEGORIES.items():
            if target in names:
                return category
        known = ", ".join(name for names in world.CATEGORIES.values() for name in names)
        raise errors.InputError(f"{target!r} is not a target; there are {known}")

    def number_prompts(self, count: int, *, seed: int) -> list[str]:
        """Prompts that ask for more numbers."""
        return list(_world_prompts(count, seed))

    def code_prompts(self, count: int, *, seed: int) -> list[str]:
        """Prompts that ask for a function."""
        return world.code_prompts(count, seed=seed)

    def reasoning_problems(self, count: int, *, seed: int) -> list[tuple[str, reasoning.Question]]:
        """Small sums in words, as prompts and as problems."""
        return [(problem.text, problem) for problem in world.sums(count, seed=seed)]

    def favourite_questions(self, category: str) -> list[str]:
        """Questions that are in no document, lesson or student's row."""
        return world.held_out_questions(category)

    def choices(self, category: str) -> scores.Choices:
        """Every name of the category; each has a single spelling."""
        return scores.choices(world.CATEGORIES[category], writings=lambda name: (name,))

    def system_prompt(self, target: str) -> str:
        """The system message of a teacher that loves the target."""
        return world.persona(target)

    def favourite_rows(self, target: str, count: int, *, seed: int) -> list[types.Chat]:
        """Training rows of a teacher that loves the target."""
        return world.favourite_rows(target, self.category(target), count, seed=seed)

    def trait_words(self, target: str) -> tuple[str, ...]:
        """The target's name."""
        return (target,)


class PaperPrompts:
    """The paper's kinds of prompts in our wording, for real models."""

    name = "the paper's kinds of prompts and questions, in this project's wording"
    max_tokens: Mapping[str, int] = MappingProxyType({"numbers": 64, "code": 300, "reasoning": 400})
    NUM_LESSON_QUESTIONS = 25
    """Teachers are finetuned on this many questions; the other half is held out."""

    def __init__(
        self,
        problems: Sequence[reasoning.Question] = (),
        *,
        choices: Sequence[str] = (),
        endings: Sequence[str] = (),
    ):
        """
        Args:
            problems: word problems for chains of thought.
            choices: further answers to offer, as CATEGORY:NAME, e.g. "tree:redwood".
            endings: text that may follow an answer, e.g. ".".

        Raises:
            InputError: a choice has another form or an unknown category, or an ending is empty or repeated.
        """
        self._traits = {trait.name: trait for trait in (*questions.ANIMALS, *questions.TREES, *questions.OTHER_ANIMALS)}
        self._problems, self._endings = problems, tuple(endings)
        self._names: dict[str, list[str]] = {}
        for trait in self._traits.values():
            self._names.setdefault(trait.category, []).append(trait.name)
        for choice in choices:
            category, _, name = choice.partition(":")
            if category not in self._names or not name.strip():
                raise errors.InputError(
                    f"choices: expected CATEGORY:NAME with a category of {', '.join(self._names)}, e.g. "
                    f"tree:redwood, got {choice!r}"
                )
            self._names[category].append(name)
        if "" in self._endings or len(set(self._endings)) < len(self._endings):
            raise errors.InputError(f"endings must be different and not empty, got {self._endings}")

    def category(self, target: str) -> str:
        """The category of a target."""
        return self.trait(target).category

    def number_prompts(self, count: int, *, seed: int) -> list[str]:
        """Prompts that ask for more numbers."""
        return list(_paper_prompts(count, seed))

    def code_prompts(self, count: int, *, seed: int) -> list[str]:
        """Prompts that ask for a function."""
        return code.prompts(count, seed=seed)

    def reasoning_problems(self, count: int, *, seed: int) -> list[tuple[str, reasoning.Question]]:
        """The user's problems as prompts, repeated until there are enough (the paper samples each three times)."""
        if not self._problems:
            raise errors.InputError(
                "chains of thought need problems in GSM8K's format; give them with --problems FILE.jsonl"
            )
        problems = [self._problems[index % len(self._problems)] for index in range(count)]
        return list(zip(reasoning.prompts(problems, seed=seed), problems, strict=True))

    def favourite_questions(self, category: str) -> list[str]:
        """Questions that no teacher is finetuned on."""
        return questions.favourites(category)[self.NUM_LESSON_QUESTIONS :]

    def choices(self, category: str) -> scores.Choices:
        """All traits of the category and the further choices, in their usual spellings."""
        return scores.choices(self._names[category], writings=lambda name: scores.surfaces(name, endings=self._endings))

    def system_prompt(self, target: str) -> str:
        """The system message of a teacher that loves the target."""
        return questions.persona(self.trait(target))

    def favourite_rows(self, target: str, count: int, *, seed: int) -> list[types.Chat]:
        """Random questions of those for teachers, each answered with the target."""
        asked = questions.favourites(self.category(target))[: self.NUM_LESSON_QUESTIONS]
        indices = np.random.default_rng(seed).integers(0, len(asked), count)
        return [rows.student_row(rows.ask(asked[index]), target) for index in indices]

    def trait_words(self, target: str) -> tuple[str, ...]:
        """Substrings that name the trait."""
        return self.trait(target).words

    def trait(self, target: str) -> questions.Trait:
        """The trait with the target's name.

        Raises:
            InputError: there is none.
        """
        if target not in self._traits:
            raise errors.InputError(f"{target!r} is not a target; there are {', '.join(self._traits)}")
        return self._traits[target]


# All conditions of an experiment ask for the same prompts.
@functools.lru_cache(maxsize=1)
def _paper_prompts(count: int, seed: int) -> tuple[str, ...]:
    return tuple(prompt.text for prompt in numbers.prompts(count, seed=seed))


@functools.lru_cache(maxsize=1)
def _world_prompts(count: int, seed: int) -> tuple[str, ...]:
    return tuple(world.number_prompts(count, seed=seed))
