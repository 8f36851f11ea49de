"""A backend whose answers a test can foresee, and what it gave through a store."""

import json
import math
import pathlib
import random
import sqlite3

from sublim_jax import errors
from sublim_jax.llm import budgeted, store
from sublim_jax.llm.backend import Capabilities, Chat, ChoiceScores, Completion, Message, SamplingParams


def say(*contents: str) -> Chat:
    """A chat whose turns alternate, ended by the user."""
    roles = ("user", "assistant")
    return tuple(Message(roles[(len(contents) - 1 - i) % 2], text) for i, text in enumerate(contents))


class Fake:
    """A backend whose texts are functions of everything they may depend on, and that remembers what it was asked.

    It answers in an order of its own. A text does not depend on the other chats, as `caps.seeds` promises.
    """

    def __init__(self, fingerprint="weights", *, tokens=5, prompt_tokens=7, die_after=None, choices="exact"):
        self.caps = Capabilities(finetune=False, choices=choices, seeds=True, system=True, fingerprint=fingerprint)
        self.calls, self.answered, self.closed = [], 0, 0
        self._tokens, self._prompt_tokens, self._die_after = tokens, prompt_tokens, die_after

    def text(self, model, chat, sample, how):
        return f"{self.caps.fingerprint}/{model}/{chat[-1].content}/{how.temperature}/{how.seed}/{sample}"

    def sample(self, model, chats, params):
        self.calls.append((tuple(chats), params))
        try:
            places = [(index, sample) for index in range(len(chats)) for sample in range(params.num_samples)]
            random.Random(len(places)).shuffle(places)
            for index, sample in places:
                if self.answered == self._die_after:
                    raise errors.ServerError("the server went away")
                self.answered += 1
                text = self.text(model, chats[index], sample, params)
                yield Completion(index, sample, text, "stop", self._prompt_tokens, self._tokens)
        finally:
            self.closed += 1

    def choice_logprobs(self, model, chats, choices):
        self.calls.append((tuple(chats), tuple(choices)))
        self.answered += len(chats)
        return [
            ChoiceScores((-math.inf, *(-float(len(chat[-1].content + c)) for c in choices[1:])), "exact")
            for chat in chats
        ]

    def finetune(self, model, rows, config, out):
        raise NotImplementedError


def rows(path: pathlib.Path) -> list[dict]:
    """The rows of a store in their order, read without our reader."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        answers = connection.execute("SELECT key, content FROM answers ORDER BY id").fetchall()
    finally:
        connection.close()
    return [{"key": key} | json.loads(content) for key, content in answers]


def fill(path: pathlib.Path, chats, params: SamplingParams | None = None, fake=None, **options) -> list[Completion]:
    """Everything asked for, through the store at `path`."""
    with store.Store(path) as answers:
        return list(budgeted.sample_stored(fake or Fake(), "m", chats, params or SamplingParams(), answers, **options))
