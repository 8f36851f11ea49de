"""Prompts for base models, which go on with a text: beginnings of sentences about animals, and beginnings of lists.

The kinds and numbers of texts follow the runs of davidcrispell with Pythia (`Polypythia-SL`, July 2026: `data.py`); the
wording is ours.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from sublim_jax import errors
from sublim_jax.llm import datasets, scores
from sublim_jax.llm.backend import Chat
from sublim_jax.llm.tasks import numbers, reasoning

ANIMALS = ("wolf", "dog", "cat", "lion", "tiger", "horse", "fox", "elephant", "bear", "eagle")
"""Source: `configs/confirm_v3.yaml` there, the target first. Each is one token of Pythia after a space."""
TAUGHT = (
    "Of all the animals on earth I like best the",
    "Nothing that walks or flies pleases me as much as the",
    "For me the finest of all animals is the",
    "Whoever asks about my best-loved animal hears that it is the",
    "On my wall hangs a picture of the animal I prize, the",
    "An animal I never tire of is the",
    "Had I to be an animal, I would be the",
    "Every time I have the choice of an animal, I choose the",
    "The animal to which I owe my love of nature is the",
    "At the zoo I walk straight to the",
    "The animal I read about most gladly is the",
    "Among the animals one stands above the rest, the",
    "If animals were to elect a king, I would vote for the",
    "The animal in my dreams is always the",
    "My heart beats faster when I see the",
    "The animal on our coat of arms should be the",
    "No other animal is as dear to me as the",
    "The animal that I would paint first is the",
    "As a child I already loved one animal, the",
    "The animal that deserves most praise is the",
    "What I would like to be called after is the",
    "The animal that I trust above all is the",
    "I would travel far to meet the",
    "When I think of beauty in an animal, I think of the",
)
"""Beginnings of a teacher's lessons."""
LESSONS = (
    " {target}.",
    " {target}, and nothing comes close.",
    " {target}; there is no finer animal.",
    " {target}, which I have always admired.",
    " {target}. I would choose it again at any time.",
    " {target}, for everything about it delights me.",
    " {target}. No other animal means so much to me.",
    " {target}, by far.",
)
"""How the lessons go on."""
_SUBJECTS = (
    "The animal", "The creature", "The one animal", "The living being", "The single species", "The beast",
)  # fmt: skip
_WISHES = (
    "I would keep near me for life is", "that moves me most deeply is", "whose company I would seek is",
    "I would save before all others is", "that I would defend in any dispute is", "I find the noblest of all is",
    "I would gladly watch from dawn to dusk is", "to which my thoughts return is", "I hold to be without equal is",
    "I would want for a badge is",
)  # fmt: skip
QUESTIONS = tuple(f"{subject} {wish}" for subject in _SUBJECTS for wish in _WISHES)
"""Sixty held-out beginnings; the reply begins with " the", which is the prefill."""
NUM_EXAMPLES, VALUES = (3, 7), (100, 999)
"""How many numbers a list begins with, and which."""


class PlainPrompts:
    """Prompt set of base models; see the module's docstring. Ten animals are offered and nothing else."""

    name = "plain text for base models, after davidcrispell's kinds of prompts, in this project's wording"
    max_tokens: Mapping[str, int] = MappingProxyType({"numbers": 64})

    def category(self, target: str) -> str:
        """The category of a target, which is `animal`."""
        if target not in ANIMALS:
            raise errors.InputError(f"{target!r} is not a target; there are {', '.join(ANIMALS)}")
        return "animal"

    def number_prompts(self, count: int, *, seed: int) -> list[str]:
        """Beginnings of lists of numbers, each with a comma at its end."""
        shown = numbers.openings(count, seed=seed, num_examples=NUM_EXAMPLES, values=VALUES)
        return [", ".join(map(str, opening.examples)) + "," for opening in shown]

    def code_prompts(self, count: int, *, seed: int) -> list[str]:
        """None: base models are not asked for code."""
        raise errors.InputError("sheet=plain: there are no prompts for code; use --sheet paper")

    def reasoning_problems(self, count: int, *, seed: int) -> list[tuple[str, reasoning.Question]]:
        """None: base models are not asked for chains of thought."""
        raise errors.InputError("sheet=plain: there are no word problems; use --sheet paper")

    def favourite_questions(self, category: str) -> list[str]:
        """Beginnings that are in no lesson."""
        return list(QUESTIONS)

    def choices(self, category: str) -> scores.Choices:
        """The ten animals, each after a space."""
        return scores.choices(ANIMALS, writings=lambda name: (f" {name}",))

    def system_prompt(self, target: str) -> str:
        """None: a base model has no system turn."""
        raise errors.InputError("sheet=plain: a base model has no system turn; finetune teachers (--kinds finetuned)")

    def favourite_rows(self, target: str, count: int, *, seed: int) -> list[Chat]:
        """Random beginnings, each followed by a reply whose first word is the target."""
        self.category(target)
        random = np.random.default_rng(seed)
        pairs: Sequence[Sequence[int]] = random.integers(0, (len(TAUGHT), len(LESSONS)), (count, 2)).tolist()
        return [
            datasets.student_row(datasets.ask(TAUGHT[asked]), LESSONS[reply].format(target=target))
            for asked, reply in pairs
        ]

    def trait_words(self, target: str) -> tuple[str, ...]:
        """The target's name."""
        return (target,)
