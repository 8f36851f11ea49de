"""Dry runs: a backend and a lab that count what an experiment asks for, and compute nothing."""

import pathlib
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.language.lab import ANSWER_TOKENS, Lab, Prompt, Teacher
from experiments.language.prompts import PromptSet
from sublim_jax.llm import budget, datasets
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import Capabilities, Chat, ChoiceScores, Completion, FinetuneConfig, SamplingParams
from sublim_jax.llm.local.finetune import TokenizedRows

FORWARD, TRAINED = 2, 8
"""Operations per weight and token of a forward pass, and of a training step."""
SAMPLED = 16
"""Operations per weight that a sampled token costs in time: sampling runs at an eighth of the forward pass's rate.
Source: experiments/records/language_speed.json, as for training."""
BYTES_PER_TOKEN = 3
"""A rough mean, between digits and English."""


def _about_tokens(chats: Sequence[Chat]) -> float:
    return sum(len(message.content) for chat in chats for message in chat) / BYTES_PER_TOKEN


def _most_tokens(texts: Sequence[str]) -> int:
    """About how many tokens the longest of some short texts has."""
    return max(-(-len(text) // BYTES_PER_TOKEN) for text in texts)


class DryRunBackend:
    """A backend that counts requests and computes nothing; `--plan` prints its counts before anything is spent.

    A repeated request is not counted, since a store would have its answer. Models give different texts, so that a judge
    gets a separate request for each. `operations` are those of a model's matrix products, per weight.

    Args:
        shares_prompts: whether a prompt is read once for all choices, as models of a folder do; the embedded ones read
            it again with every choice.
    """

    def __init__(self, *, shares_prompts: bool = False):
        self.completions = self.scored = self.tokens = 0
        self.operations = self.scored_tokens = 0.0
        self._shares_prompts = shares_prompts
        self.jobs: list[tuple[str, int, int]] = []  # name, rows, epochs
        self._requests = set()
        self._row_tokens = 0.0

    @property
    def caps(self) -> Capabilities:
        """All capabilities."""
        return Capabilities(finetune=True, choices="exact", seeds=True, system=True, fingerprint="dry run")

    def sample(self, model: str, chats: Sequence[Chat], params: SamplingParams):
        """Count the request and yield the same text for every chat; see `text`."""
        self.count(model, chats, params)
        text = self.text(model, params)
        for chat in range(len(chats)):
            for sample in range(params.num_samples):
                yield Completion(chat, sample, text, "stop", 1, 1)

    def count(self, model: str, chats: Sequence[Chat], params: SamplingParams, *, num_chats: int | None = None) -> None:
        """Count completions and the most tokens they can have.

        Args:
            num_chats: number of chats, of which `chats` are the first; the others count as long as the longest of them.
        """
        num_chats = len(chats) if num_chats is None else num_chats
        if self._is_new(model, params, num_chats, *chats):
            sizes = [budget.prompt_bound(chat) + params.max_tokens for chat in chats]
            self.completions += num_chats * params.num_samples
            self.tokens += params.num_samples * (sum(sizes) + (num_chats - len(chats)) * max(sizes))
            about = FORWARD * _about_tokens(chats) * num_chats / len(chats) + SAMPLED * num_chats * params.max_tokens
            self.operations += params.num_samples * about

    def text(self, model: str, params: SamplingParams) -> str:
        """Two numbers that depend on the model, then ones up to as many bytes as the completion may have tokens."""
        text = "1, {}, {}".format(*divmod(zlib.crc32(model.encode()) % 10**6, 1000))
        count, rest = divmod(max(params.max_tokens - len(text), 0), len(", 1"))
        return text + ", 1" * count + "1" * rest

    def choice_logprobs(self, model: str, chats: Sequence[Chat], choices: Sequence[str]):
        """Equal scores for all choices."""
        # An end token is scored after the last token of a choice, which is read for it.
        self._count_choices(model, chats, choices, num_read=_most_tokens(choices))
        even = ChoiceScores((-float(len(choices)),) * len(choices), "exact")
        return [even] * len(chats)

    def beginning_logprobs(self, model: str, chats: Sequence[Chat], texts: Sequence[str]) -> np.ndarray:
        """Equal scores for all beginnings; the first token of each costs nothing but the prompt."""
        self._count_choices(model, chats, texts, num_read=_most_tokens(texts) - 1)
        return np.full((len(chats), len(texts)), -float(len(texts)))

    def _count_choices(self, model: str, chats: Sequence[Chat], choices: Sequence[str], *, num_read: int) -> None:
        """Count scores of all choices after each chat.

        Args:
            num_read: tokens of each choice that are read, if the prompt is read once; choices are padded to one length.
        """
        if self._is_new(model, *choices, *chats):
            self.scored += len(chats) * len(choices)
            prompts = _about_tokens(chats)
            once = prompts + len(chats) * len(choices) * num_read
            tokens = once if self._shares_prompts else len(choices) * prompts
            self.scored_tokens += tokens
            self.operations += FORWARD * tokens

    def finetune(self, model: str, rows: Sequence[Chat], config: FinetuneConfig, out: pathlib.Path) -> str:
        """Count a finetuning job and return the name that the model would have."""
        self.operations += TRAINED * config.num_epochs * _about_tokens(rows)
        self.jobs.append((out.name, len(rows), config.num_epochs))
        return str(out)

    def training_arrays(
        self, model: str, rows: Sequence[Chat], *, max_length: int, end_token: bool = True
    ) -> TokenizedRows:
        """Arrays with a single token per row."""
        self._row_tokens = _about_tokens(rows) / max(len(rows), 1)
        ids = np.arange(len(rows), dtype=np.int32)[:, None]
        return TokenizedRows(ids, np.ones_like(ids, bool), np.ones_like(ids, bool))

    def most_likely_tokens(self, model: str, data: TokenizedRows) -> np.ndarray:
        """Tokens that differ between models."""
        self.operations += FORWARD * self._row_tokens * len(data.ids)
        return data.ids + zlib.crc32(model.encode()) % 1000

    def row_logprobs(self, model: str, data: Sequence[Chat]) -> np.ndarray:
        """Zero for every row."""
        self.scored += len(data)
        self.operations += FORWARD * _about_tokens(data)
        return np.zeros(len(data))

    def finetune_on(self, model: str, data: TokenizedRows, config: FinetuneConfig, out: pathlib.Path) -> str:
        """Count a finetuning job and return the name that the model would have."""
        self.operations += TRAINED * config.num_epochs * self._row_tokens * len(data.ids)
        self.jobs.append((out.name, len(data.ids), config.num_epochs))
        return str(out)

    def finetune_on_pairs(
        self, model: str, chosen: Sequence[Chat], rejected: Sequence[Chat], config: FinetuneConfig, out: pathlib.Path,
        *, beta: float,
    ) -> str:  # fmt: skip
        """Count the reference's scores and a finetuning job on the rows of all pairs."""
        rows = [*chosen, *rejected]
        self.row_logprobs(model, rows)
        return self.finetune(model, rows, config, out)

    def perturb(self, model: str, scale: float, *, seed: int) -> str:
        """Return the name that the model would have."""
        return f"{model}+noise {scale:g} {seed}"

    def _is_new(self, *request: object) -> bool:
        num_before = len(self._requests)
        self._requests.add(request)
        return len(self._requests) > num_before


class DryRunLab(Lab):
    """A lab on a `DryRunBackend` that makes only a few of an experiment's prompts and counts them all.

    Every completion passes the filter. Where an experiment has more prompts than `NUM_PROMPTS`, the tokens of the
    others are counted as those of the longest prompt that was made.
    """

    NUM_PROMPTS = 500

    def __init__(
        self,
        prompts: PromptSet,
        folder: pathlib.Path,
        *,
        judge: DryRunBackend,
        shares_prompts: bool = False,
        **drawing: Any,
    ):
        self.dry_run = DryRunBackend(shares_prompts=shares_prompts)
        judge_backend = open_llm.OpenedBackend(judge, "judge")
        super().__init__(self.dry_run, "base", prompts, folder, judge=judge_backend, **drawing)

    def write_rows(
        self,
        teacher: Teacher,
        prompts: Sequence[str],
        rejection: Callable[[Completion], str | None],
        *,
        channel: str,
        seed: int,
        temperature: float | None = None,
        numbers_only: bool | None = None,
    ) -> datasets.FilteredRows:
        """Count what `Lab.write_rows` would ask for; no row is rejected."""
        chats = [datasets.ask(prompt, system=teacher.system) for prompt in prompts[: self.NUM_PROMPTS]]
        params = self._row_params(channel, seed, temperature=temperature, numbers_only=numbers_only)
        self.dry_run.count(teacher.model, chats, params, num_chats=len(prompts))
        text = self.dry_run.text(teacher.model, params)
        student_rows = [datasets.student_row(chat, text) for chat in chats]
        return datasets.FilteredRows(_repeat(student_rows, len(prompts)), {}, len(prompts))

    def _make_prompts(self, make: Callable[..., list[Prompt]], count: int, *, seed: int) -> list[Prompt]:
        return _repeat(make(min(count, self.NUM_PROMPTS), seed=seed), count)

    def answer_rate(self, model: str, target: str, *, num_samples: int, seed: int) -> dict:
        """Count what `Lab.answer_rate` would ask for."""
        questions = self.prompts.favourite_questions(self.prompts.category(target))
        chats = [datasets.ask(question) for question in questions]
        self.dry_run.count(model, chats, SamplingParams(max_tokens=ANSWER_TOKENS, num_samples=num_samples))
        return {}


def _repeat(items: Sequence[Prompt], count: int) -> list[Prompt]:
    return [items[index % len(items)] for index in range(count)]
