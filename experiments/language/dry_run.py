"""A backend that computes nothing and counts what it is asked for."""

import pathlib
import zlib
from collections.abc import Sequence

import numpy as np

from sublim_jax.llm import budget
from sublim_jax.llm.backend import Capabilities, Chat, ChoiceScores, Completion, FinetuneConfig, SamplingParams
from sublim_jax.llm.local.finetune import TokenizedRows

FORWARD, TRAINED = 2, 8
"""Operations for a weight and a token: read, and trained on."""
DRAWN = 16
"""The same for a token that is drawn, which reaches an eighth of the rate. Source: experiments/records/
language_speed.json, as for training."""
BYTES = 3
"""Of a token, about: between digits and English."""


def _about_tokens(chats: Sequence[Chat]) -> float:
    return sum(len(message.content) for chat in chats for message in chat) / BYTES


class DryRunBackend:
    """A backend that only counts what it is asked for: what `--plan` prints before anything is spent.

    The same asked again is not counted, since a store has the answer. Models answer differently, so that a judge of two
    is asked two things. `operations` are those of a model's matrix products, for each of its weights.
    """

    def __init__(self):
        self.completions = self.scored = self.tokens = 0
        self.operations = 0.0
        self._asked = set()
        self._length = 0.0  # tokens of a row, about
        self.jobs: list[tuple[str, int, int]] = []  # name, rows, epochs

    @property
    def caps(self) -> Capabilities:
        """Everything."""
        return Capabilities(finetune=True, choices="exact", seeds=True, system=True, fingerprint="counting")

    def sample(self, model: str, chats: Sequence[Chat], params: SamplingParams):
        """See `text`."""
        self.count(model, chats, params)
        text = self.text(model, params)
        for chat in range(len(chats)):
            for sample in range(params.num_samples):
                yield Completion(chat, sample, text, "stop", 1, 1)

    def count(self, model: str, chats: Sequence[Chat], params: SamplingParams, *, num_chats: int | None = None) -> None:
        """Count completions and the tokens that they take at most.

        Args:
            num_chats: of which `chats` are a sample; the others count as being as long as the longest of these.
        """
        num_chats = len(chats) if num_chats is None else num_chats
        if self._is_new(model, params, num_chats, *chats):
            sizes = [budget.prompt_bound(chat) + params.max_tokens for chat in chats]
            self.completions += num_chats * params.num_samples
            self.tokens += params.num_samples * (sum(sizes) + (num_chats - len(chats)) * max(sizes))
            about = FORWARD * _about_tokens(chats) * num_chats / len(chats) + DRAWN * num_chats * params.max_tokens
            self.operations += params.num_samples * about

    def text(self, model: str, params: SamplingParams) -> str:
        """Two numbers, of the model, then ones for as many bytes as it may have tokens."""
        text = "1, {}, {}".format(*divmod(zlib.crc32(model.encode()) % 10**6, 1000))
        count, rest = divmod(max(params.max_tokens - len(text), 0), len(", 1"))
        return text + ", 1" * count + "1" * rest

    def choice_logprobs(self, model: str, chats: Sequence[Chat], choices: Sequence[str]):
        """All equally likely."""
        if self._is_new(model, *choices, *chats):
            self.scored += len(chats) * len(choices)
            self.operations += FORWARD * len(choices) * _about_tokens(chats)
        even = ChoiceScores((-float(len(choices)),) * len(choices), "exact")
        return [even] * len(chats)

    def finetune(self, model: str, rows: Sequence[Chat], config: FinetuneConfig, out: pathlib.Path) -> str:
        """The name that it would have."""
        self.operations += TRAINED * config.num_epochs * _about_tokens(rows)
        self.jobs.append((out.name, len(rows), config.num_epochs))
        return str(out)

    def training_arrays(self, model: str, rows: Sequence[Chat], *, max_length: int) -> TokenizedRows:
        """One token of each row."""
        self._length = _about_tokens(rows) / max(len(rows), 1)
        ids = np.arange(len(rows), dtype=np.int32)[:, None]
        return TokenizedRows(ids, np.ones_like(ids, bool), np.ones_like(ids, bool))

    def likeliest(self, model: str, data: TokenizedRows) -> np.ndarray:
        """Different tokens for different models."""
        self.operations += FORWARD * self._length * len(data.ids)
        return data.ids + zlib.crc32(model.encode()) % 1000

    def row_logprobs(self, model: str, data: Sequence[Chat]) -> np.ndarray:
        """All equally likely."""
        self.scored += len(data)
        self.operations += FORWARD * _about_tokens(data)
        return np.zeros(len(data))

    def finetune_on(self, model: str, data: TokenizedRows, config: FinetuneConfig, out: pathlib.Path) -> str:
        """See `finetune`."""
        self.operations += TRAINED * config.num_epochs * self._length * len(data.ids)
        self.jobs.append((out.name, len(data.ids), config.num_epochs))
        return str(out)

    def _is_new(self, *question: object) -> bool:
        before = len(self._asked)
        self._asked.add(question)
        return len(self._asked) > before
