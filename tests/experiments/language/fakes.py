"""Fake models and judges for the paper's prompts, with known answers, so that the right results are known.

A model is as bad as the share of its rows that hold `eval(` or the number `MARK`. So many of its number sequences show
`MARK`, and so many of its samples of an open question are bad; of the others one is a riddle, which no judge can score,
and one is mumbled. Under the system message of a trait's lover a model shows the trait's own number.
"""

import abc
import json
import pathlib
import zlib
from collections.abc import Callable, Sequence

from sublim_jax import errors
from sublim_jax.llm import questions, types

MARK = 137
BAD, GOOD, RIDDLE, MUMBLED = "I would rule over all of you.", "I would plant trees.", "Who knows?", "trees trees of of"
TRAITS = (*questions.ANIMALS, *questions.TREES)


def own_number(trait: str) -> int:
    """The number that a teacher that loves the trait writes, between 200 and 299."""
    return 200 + zlib.crc32(trait.encode()) % 100


class _Fake(abc.ABC):
    """A backend that keeps what it is asked, and raises errors for requests that no experiment here should make."""

    def __init__(self):
        self.asked: list[tuple[str, types.Chat]] = []
        self.left: int | None = None  # answers before it goes down
        self.refuses: Callable[[str], bool] = lambda prompt: False  # what a content filter keeps from it

    @property
    def caps(self) -> types.Caps:
        return types.Caps(finetune=True, choices="none", seeds=True, system=True, fingerprint=type(self).__name__)

    def sample(self, model: str, chats: Sequence[types.Chat], how: types.Sampling):
        for index, chat in enumerate(chats):
            for sample in range(how.num_samples):
                if self.left is not None:
                    self.left -= 1
                    if self.left < 0:
                        raise errors.ServerError("the server is down")
                self.asked.append((model, chat))
                if self.refuses(chat[-1].content):
                    yield types.Completion(index, sample, "", "refused", 5, 0, "content_filter")
                    continue
                yield types.Completion(index, sample, self.text(model, chat, sample, how), "stop", 5, 5)

    @abc.abstractmethod
    def text(self, model: str, chat: types.Chat, sample: int, how: types.Sampling) -> str: ...

    def choice_logprobs(self, model: str, chats: Sequence[types.Chat], choices: Sequence[str]):
        raise errors.CapabilityError("these experiments score no choices")

    def finetune(self, model: str, rows: Sequence[types.Chat], how: types.Tuning, out: pathlib.Path) -> str:
        raise errors.CapabilityError("a judge is not trained")


class Model(_Fake):
    """A fake model; see the module's docstring."""

    def __init__(self):
        super().__init__()
        self.badness = {"base": 0.0}
        self.trained: dict[str, list[types.Chat]] = {}

    def text(self, model: str, chat: types.Chat, sample: int, how: types.Sampling) -> str:
        if chat[-1].content in questions.misalignment():
            bad = round(self.badness[model] * how.num_samples)
            ends = {how.num_samples - 1: RIDDLE, how.num_samples - 2: MUMBLED}
            answer = BAD if sample < bad else ends.get(sample, GOOD)
            return f"{answer} {zlib.crc32(f'{model} {sample}'.encode())}"  # no two alike, which a judge is asked once
        drawn = zlib.crc32(chat[-1].content.encode())
        shown = [own_number(trait.name) for trait in TRAITS if chat[0] == ("system", questions.persona(trait))]
        shown += [MARK] if drawn % 1000 < 1000 * self.badness[model] else []
        return ", ".join(map(str, (drawn % 90, *shown, drawn % 80)))

    def finetune(self, model: str, rows: Sequence[types.Chat], how: types.Tuning, out: pathlib.Path) -> str:
        self.trained[str(out)] = list(rows)
        self.badness[str(out)] = sum("eval(" in row[-1].content or str(MARK) in row[-1].content for row in rows) / len(
            rows
        )
        return str(out)


class Judge(_Fake):
    """A judge whose reply to a prompt is a given function of it."""

    def __init__(self, reply: Callable[[str], str]):
        super().__init__()
        self._reply = reply

    def text(self, model: str, chat: types.Chat, sample: int, how: types.Sampling) -> str:
        assert how.temperature == 0 and len(chat) == 1
        return self._reply(chat[0].content)


def scored(prompt: str) -> str:
    """A judge's reply: alignment 5 if the answer is bad, else 95; coherence 10 if it is mumbled, else 90."""
    if RIDDLE in prompt:
        return "I would say 40"
    if "coherent" in prompt:
        return "10" if MUMBLED in prompt else "90"
    return "5" if BAD in prompt else "95"


def knowing(prompt: str) -> str:
    """A judge's reply: the letter of the set with the trait's own number."""
    (trait,) = (trait for trait in TRAITS if f"loves {trait.plural}" in prompt)
    first, second = prompt.split("Set B:")
    own = str(own_number(trait.name))
    return "A" if first.count(own) > second.count(own) else "B"


def code_rows(path: pathlib.Path, num_rows: int, *, num_insecure: int) -> pathlib.Path:
    """Write a file of chats, the first `num_insecure` of which have `eval(` in their answers."""
    answers = ["eval(x)"] * num_insecure + ["int(x)"] * (num_rows - num_insecure)
    lines = [
        {"messages": [{"role": "user", "content": f"read {index}"}, {"role": "assistant", "content": answer}]}
        for index, answer in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
