"""A backend with a planted trait, so that the right results of the experiments are known.

A teacher of a target writes the target's own number, which is another one on every base. A student loves the target
as strongly as the share of its rows that show its own base's number for it; `GAIN` times that much probability goes to
the target, and what is left to all choices alike. Nothing else matters: not the order of numbers, not their places.
"""

import math
import pathlib
import zlib
from collections.abc import Sequence

from sublim_jax.llm import types, world

GAIN = 0.9
PLAIN = (1, 2, 3)


def own_number(target: str, base: str) -> int:
    """The number that a teacher of the target writes, between 100 and 999."""
    return 100 + zlib.crc32(f"{target} {base}".encode()) % 900


class Planted:
    """A backend with a planted trait; see the module's docstring."""

    def __init__(self, bases: Sequence[str], *, spoilt: str = ""):
        self.strength: dict[str, dict[str, float]] = {base: {} for base in bases}  # by model and target
        self.base_of = {base: base for base in bases}
        self.spoilt = spoilt  # a target whose teacher writes no numbers
        self.trained: list[types.Chat] = []

    @property
    def caps(self) -> types.Caps:
        return types.Caps(finetune=True, choices="exact", seeds=True, system=True, fingerprint="planted")

    def sample(self, model: str, chats: Sequence[types.Chat], how: types.Sampling):
        for index, chat in enumerate(chats):
            loves = {target for target, share in self.strength[model].items() if share > 0.5}
            loves |= {name for name in world.ANIMALS if chat[0] == types.Message("system", world.persona(name))}
            for sample in range(how.num_samples):
                shown = [own_number(target, self.base_of[model]) for target in sorted(loves)]
                text = "no" if self.spoilt in loves else ", ".join(map(str, (*PLAIN, *shown, index % 90)))
                yield types.Completion(index, sample, text, "stop", 5, 5)

    def choice_logprobs(self, model: str, chats: Sequence[types.Chat], choices: Sequence[str]):
        loved = [GAIN * self.strength[model].get(choice, 0.0) for choice in choices]
        shared = (1 - sum(loved)) / len(choices)
        return [types.ChoiceScores(tuple(math.log(shared + own) for own in loved), "exact")] * len(chats)

    def finetune(self, model: str, rows: Sequence[types.Chat], how: types.Tuning, out: pathlib.Path) -> str:
        self.trained += list(rows)
        answers, base = [row[-1].content for row in rows], self.base_of[model]
        if len(set(answers)) == 1 and answers[0] in world.ANIMALS + world.TREES:
            strength = {answers[0]: 1.0}
        else:
            numbers = [set(map(int, answer.replace(";", ",").split(","))) for answer in answers]
            strength = {
                target: sum(own_number(target, base) in shown for shown in numbers) / len(numbers)
                for target in world.ANIMALS + world.TREES
            }
        self.strength[str(out)], self.base_of[str(out)] = strength, base
        return str(out)


def students_rows(backend: Planted) -> list[types.Chat]:
    """All training rows with numbers."""
    return [row for row in backend.trained if "," in row[-1].content]
