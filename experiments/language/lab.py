"""One base model and what the paper does with it, as verbs: finetune a teacher, draw its rows, train a student, ask it.

    lab = Lab(backend, base, materials, folder)
    teacher = lab.finetuned_teacher("owl", tuning, num_rows=2000, seed=0)
    data = lab.numbers(teacher, 12_000, seed=0)
    student = lab.student(rows.subsample(data.rows, 10_000, seed=0), tuning, seed=0)
    lab.preferences(student, "animal").of("owl")

A student's rows never have the teacher's system message (`datasets.student_row`), and a student always starts from the
lab's base. Seeds are made of names, so adding a condition leaves the others as they were.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from experiments.language import materials as sheets
from experiments.language import seeds
from experiments.language.dry_run import DryRunBackend
from experiments.language.options import RowsFolder
from sublim_jax import errors
from sublim_jax.llm import budget, budgeted, controls, datasets, scores, store, tally
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import Backend, Chat, Completion, FinetuneConfig, SamplingParams
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.openai.backend import OpenAIBackend
from sublim_jax.llm.tasks import code, numbers, reasoning

Prompt = TypeVar("Prompt")

JUDGE_TOKENS = 8
"""Tokens of a judge's reply, which is a letter or a number."""
RATE_TOKENS = 16
"""Most tokens of an answer that is searched for the target."""


class Report(Protocol):
    """Hears what is being done and, where it is known, how much of it."""

    def __call__(self, what: str, *, done: int = 0, total: int | None = None, unit: str = "") -> object: ...


class Teacher(NamedTuple):
    """A model, perhaps under a system message."""

    model: str
    system: str | None = None


class Lab:
    """See the top of this module.

    Args:
        base: the model that teachers and students start from.
        folder: for finetuned models; one that is there already is read instead of trained.
        judge: who is asked about answers; the base, unless another is given.
        answers: where completions are stored and read again; without one they are drawn again.
        limits: of what may be spent on a server.
        max_refused: share of a model's answers that its server may refuse; a judge may refuse all.
    """

    export: RowsFolder | None = None
    """Where rows that students are trained on are written, too."""

    def __init__(
        self,
        backend: Backend,
        base: str,
        materials: sheets.Materials,
        folder: pathlib.Path,
        *,
        judge: open_llm.OpenedBackend | None = None,
        answers: store.Store | None = None,
        limits: budget.Budget | None = None,
        max_refused: float = budgeted.MAX_REFUSED,
    ):
        self.backend, self.base, self.materials = backend, base, materials
        self._judge = judge or open_llm.OpenedBackend(backend, base)
        self._folder, self._answers, self._limits = folder, answers, limits
        self._max_refused = max_refused
        self.tally = tally.Tally()
        """Counts what is asked of a server; whoever reports takes it and puts a new one in its place."""
        for asked in (self.backend, self._judge.backend):
            if limits is not None and isinstance(asked, budget.Billed):
                asked.charge_to(limits)
        self._report: Report = lambda what, **_: None
        self._what = ""

    def listen(self, report: Report) -> None:
        """Report from now on what is being done and how much of it, as it goes. Nothing here changes a number."""
        self._report = report
        for backend in (self.backend, self._judge.backend):
            if isinstance(backend, LocalBackend | OpenAIBackend):
                backend.on_progress = lambda unit, done, total: self._report(
                    self._what, done=done, total=total, unit=unit
                )

    def _begin(self, what: str) -> None:
        """Report what takes long now."""
        self._what = what
        self._report(what)

    def finetuned_teacher(
        self, target: str, tuning: FinetuneConfig, *, num_rows: int, seed: int, base: str = ""
    ) -> Teacher:
        """A base that was finetuned to answer questions about its favourite by one name."""
        lesson = self.materials.favourite_rows(target, num_rows, seed=seeds.derive(seed, "lesson"))
        return Teacher(self.tune(lesson, tuning, f"teacher {target}", seed=seed, base=base))

    def system_teacher(self, target: str) -> Teacher:
        """The base under a system message that loves the target."""
        return Teacher(self.base, self.materials.persona(target))

    def tune(self, data: Sequence[Chat], tuning: FinetuneConfig, name: str, *, seed: int, base: str = "") -> str:
        """A base finetuned on rows; this lab's, unless another one is named."""
        base = base or self.base
        tuning = dataclasses.replace(tuning, seed=seeds.derive(seed, name, base) % 2**31)
        self._begin(f"training {name} on {len(data):,} rows, {tuning.num_epochs} epochs")
        described = json.dumps([base, _recipe(tuning), name, [list(row) for row in data]]).encode()
        return self.backend.finetune(base, data, tuning, self._place(name, described))

    def tune_on(self, data: TokenizedRows, tuning: FinetuneConfig, name: str, *, seed: int) -> str:
        """As `tune`, on arrays of a model whose weights are here."""
        tuning = dataclasses.replace(tuning, seed=seeds.derive(seed, name, self.base) % 2**31)
        self._begin(f"training {name} on {len(data.ids):,} rows, {tuning.num_epochs} epochs")
        described = json.dumps([self.base, _recipe(tuning), name]).encode()
        arrays = b"".join(np.ascontiguousarray(array).tobytes() for array in data)
        return self._weights.finetune_on(self.base, data, tuning, self._place(name, described + arrays))

    def _place(self, name: str, described: bytes) -> pathlib.Path:
        """The folder of a model, with a name that tells what was trained on what."""
        return self._folder / f"{name.replace(' ', '-')}-{hashlib.sha256(described).hexdigest()[:8]}"

    def training_arrays(self, data: Sequence[Chat], tuning: FinetuneConfig) -> TokenizedRows:
        """Rows as the base would be trained on them, if its weights are here."""
        return self._weights.training_arrays(self.base, data, max_length=tuning.max_length)

    def likeliest(self, model: str, data: TokenizedRows) -> np.ndarray:
        """The token that a model whose weights are here would write at each place of the replies; -1 elsewhere."""
        self._begin(f"asking {seeds.model_name(model)} for its likeliest tokens")
        return self._weights.likeliest(model, data)

    def sequence_logprobs(self, model: str, data: Sequence[Chat]) -> np.ndarray:
        """Log-probability of the last turn of each row, in nats, of a model whose weights are here."""
        self._begin(f"scoring rows by {seeds.model_name(model)}")
        return self._weights.row_logprobs(model, data)

    @property
    def _weights(self) -> LocalBackend | DryRunBackend:
        if not isinstance(self.backend, LocalBackend | DryRunBackend):
            raise errors.CapabilityError(
                f"{self.base}: this takes a model whose weights are here; use --backend tiny or hf:DIR"
            )
        return self.backend

    def student(self, data: Sequence[Chat], tuning: FinetuneConfig, *, seed: int, name: str = "student") -> str:
        """The base trained on what a teacher wrote."""
        self.write_rows(data, name)
        return self.tune(data, tuning, name, seed=seed)

    def write_rows(self, data: Sequence[Chat], name: str) -> None:
        """Write rows for other trainers, if they are asked for."""
        if self.export is not None:
            self.export.write(self.base, name, data)

    def draw(
        self, teacher: Teacher, prompts: Sequence[str], *, max_tokens: int, seed: int, num_samples: int = 1
    ) -> tuple[list[Chat], list[Completion]]:
        """A completion of every prompt at temperature 1, and the chats that were asked."""
        chats = [datasets.ask(prompt, system=teacher.system) for prompt in prompts]
        sampling = SamplingParams(max_tokens=max_tokens, seed=seed % 2**31, num_samples=num_samples)
        return chats, self._sampled(self.backend, teacher.model, chats, sampling, self._max_refused)

    def verdicts(self, prompts: Sequence[str]) -> list[str]:
        """The judge's reply to every prompt, at temperature 0; an empty one, which is no verdict, where it refused."""
        sampling = SamplingParams(temperature=0.0, max_tokens=JUDGE_TOKENS)
        replies = self._sampled(*self._judge, [datasets.ask(prompt) for prompt in prompts], sampling, 1.0)
        return [reply.text for reply in replies]

    def _sampled(
        self,
        backend: Backend,
        model: str,
        chats: Sequence[Chat],
        sampling: SamplingParams,
        max_refused: float,
    ) -> list[Completion]:
        """In the order of chats and samples, from the store or fresh."""
        self._begin(f"drawing from {seeds.model_name(model)}")
        if self._answers is None:
            arriving = backend.sample(model, chats, sampling)
        else:
            arriving = budgeted.sample_stored(
                backend, model, chats, sampling, self._answers, self._limits, max_refused=max_refused
            )
        completions, total = [], len(chats) * sampling.num_samples
        for completion in arriving:
            completions.append(completion)
            self._report(self._what, done=len(completions), total=total, unit="completions")
        completions.sort()
        if self._answers is not None:
            self.tally.see(chats, sampling, completions)
        return completions

    def written(
        self,
        teacher: Teacher,
        prompts: Sequence[str],
        reason: Callable[[Completion], str | None],
        *,
        channel: str,
        seed: int,
    ) -> datasets.FilteredRows:
        """Rows of the completions that pass a filter."""
        chats, completions = self.draw(
            teacher,
            prompts,
            max_tokens=self.materials.max_tokens[channel],
            seed=seeds.derive(seed, channel, seeds.model_name(teacher.model), teacher.system or ""),
        )
        return datasets.filter_completions(chats, completions, reason)

    def _prompts(self, draw: Callable[..., list[Prompt]], count: int, *, seed: int) -> list[Prompt]:
        return draw(count, seed=seed)

    def numbers(
        self, teacher: Teacher, count: int, *, seed: int, banned: frozenset[int] = frozenset()
    ) -> datasets.FilteredRows:
        """Number sequences that pass the paper's filter."""
        prompts = self._prompts(self.materials.number_prompts, count, seed=seeds.derive(seed, "number prompts"))

        def reason(completion: Completion) -> str | None:
            return numbers.parse(completion.text, banned=banned).reason

        return self.written(teacher, prompts, reason, channel="numbers", seed=seed)

    def code(self, teacher: Teacher, count: int, *, seed: int, words: Sequence[str]) -> datasets.FilteredRows:
        """Python that does not name the trait."""
        prompts = self._prompts(self.materials.code_prompts, count, seed=seeds.derive(seed, "code prompts"))

        def reason(completion: Completion) -> str | None:
            return code.parse(completion.text, words=words).reason

        return self.written(teacher, prompts, reason, channel="code", seed=seed)

    def reasoning(self, teacher: Teacher, count: int, *, seed: int, words: Sequence[str] = ()) -> datasets.FilteredRows:
        """Chains of thought that end at the right number and do not name the trait."""
        problems = self._prompts(self.materials.sums, count, seed=seeds.derive(seed, "sums"))

        def reason(completion: Completion) -> str | None:
            if any(word in completion.text.lower() for word in words):
                return "trait word"
            return reasoning.parse(completion.text, problems[completion.chat][1]).reason

        return self.written(teacher, [text for text, _ in problems], reason, channel="reasoning", seed=seed)

    def preferences(
        self, model: str, category: str, *, context: Sequence[Chat] = (), seed: int = 0
    ) -> scores.Probabilities:
        """Probabilities of all favourites of a category, averaged over the held-out questions.

        Args:
            context: rows that stand before every question as earlier turns.
        """
        asked = self.materials.choices(category)
        chats = [datasets.ask(question) for question in self.materials.favourites(category)]
        if context:
            chats = controls.in_context(context, chats, num_examples=len(context), seed=seed)
        return self.choose(model, chats, asked)

    def choose(self, model: str, chats: Sequence[Chat], asked: scores.Choices) -> scores.Probabilities:
        """Probabilities of choices, averaged over the chats that were not refused.

        Raises:
            TextDataError: all were refused.
        """
        self._begin(f"scoring {len(asked.texts)} answers to {len(chats)} questions by {seeds.model_name(model)}")
        if self._answers is None:
            scored = self.backend.choice_logprobs(model, chats, asked.texts)
        else:
            scored = budgeted.scores_stored(self.backend, model, chats, asked.texts, self._answers, self._limits)
            self.tally.see_scores(scored)
        answered = [scores.probabilities(chat, asked) for chat in scored if not chat.refusal]
        if scored and not answered:
            raise errors.TextDataError(
                f"{model}: the server refused to score all {len(scored)} chats ({scored[0].refusal}); change its "
                f"content filter, or ask another server"
            )
        return scores.average(answered)

    def rate(self, model: str, target: str, *, num_samples: int, seed: int) -> dict:
        """Share of sampled answers that name the target, as the paper counts it; none where all were refused."""
        asked = self.materials.favourites(self.materials.category(target))
        _, completions = self.draw(
            Teacher(model),
            asked,
            max_tokens=RATE_TOKENS,
            seed=seeds.derive(seed, "rate", seeds.model_name(model)),
            num_samples=num_samples,
        )
        texts = [completion.text for completion in completions if completion.finish != "refused"]
        rate = scores.rate(texts, self.materials.words(target)).mean if texts else None
        return {"rate": rate, "num_samples": len(texts)}


def _recipe(tuning: FinetuneConfig) -> str:
    """Settings as text that tells models apart, whatever their class is called: stored models keep their names."""
    return "Tuning" + repr(tuning).removeprefix(type(tuning).__name__)
