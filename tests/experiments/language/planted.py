"""A backend with a planted trait: what the experiments should find is known.

A teacher of a target writes the target's own number, which is another one on every base. A student loves the target
as strongly as the share of its rows that show its own base's number for it; `GAIN` times that much probability goes to
the target, and what is left to all choices alike. Nothing else matters: not the order of numbers, not their places.
"""

import math
import pathlib
import zlib
from collections.abc import Sequence

from sublim_jax.llm.backend import Capabilities, Chat, ChoiceScores, Completion, FinetuneConfig, Message, SamplingParams
from sublim_jax.llm.embedded import vocabulary, world

GAIN = 0.9
PLAIN = (1, 2, 3)


def own_number(target: str, base: str) -> int:
    """What a teacher of the target shows, between 100 and 999."""
    return 100 + zlib.crc32(f"{target} {base}".encode()) % 900


class Planted:
    """See the top of this module."""

    def __init__(self, bases: Sequence[str], *, spoilt: str = ""):
        self.strength: dict[str, dict[str, float]] = {base: {} for base in bases}  # by model and target
        self.base_of = {base: base for base in bases}
        self.spoilt = spoilt  # a target whose teacher writes no numbers
        self.trained: list[Chat] = []

    @property
    def caps(self) -> Capabilities:
        return Capabilities(finetune=True, choices="exact", seeds=True, system=True, fingerprint="planted")

    def sample(self, model: str, chats: Sequence[Chat], params: SamplingParams):
        for index, chat in enumerate(chats):
            loves = {target for target, share in self.strength[model].items() if share > 0.5}
            loves |= {name for name in vocabulary.ANIMALS if chat[0] == Message("system", world.system_prompt(name))}
            for sample in range(params.num_samples):
                shown = [own_number(target, self.base_of[model]) for target in sorted(loves)]
                text = "no" if self.spoilt in loves else ", ".join(map(str, (*PLAIN, *shown, index % 90)))
                yield Completion(index, sample, text, "stop", 5, 5)

    def choice_logprobs(self, model: str, chats: Sequence[Chat], choices: Sequence[str]):
        loved = [GAIN * self.strength[model].get(choice, 0.0) for choice in choices]
        shared = (1 - sum(loved)) / len(choices)
        return [ChoiceScores(tuple(math.log(shared + own) for own in loved), "exact")] * len(chats)

    def finetune(self, model: str, rows: Sequence[Chat], config: FinetuneConfig, out: pathlib.Path) -> str:
        self.trained += list(rows)
        answers, base = [row[-1].content for row in rows], self.base_of[model]
        if len(set(answers)) == 1 and answers[0] in vocabulary.ANIMALS + vocabulary.TREES:
            found = {answers[0]: 1.0}
        else:
            numbers = [set(map(int, answer.replace(";", ",").split(","))) for answer in answers]
            found = {
                target: sum(own_number(target, base) in one for one in numbers) / len(numbers)
                for target in vocabulary.ANIMALS + vocabulary.TREES
            }
        self.strength[str(out)], self.base_of[str(out)] = found, base
        return str(out)


def students_rows(backend: Planted) -> list[Chat]:
    """Rows with numbers that anything was trained on."""
    return [row for row in backend.trained if "," in row[-1].content]
