"""A `Lab` is one base model and the steps of the paper: finetune a teacher, sample its rows, train a student, score it.

    lab = Lab(backend, base, prompts, folder)
    teacher = lab.finetuned_teacher("owl", config, num_rows=2000, seed=0)
    filtered = lab.numbers(teacher, 12_000, seed=0)
    student = lab.student(rows.subsample(filtered.rows, 10_000, seed=0), config, seed=0)
    lab.preferences(student, "animal").of("owl")

A student's rows never contain the teacher's system message (`datasets.student_row`), and a student always starts from
the lab's base. Seeds are derived from names, so adding a condition leaves the others as they were.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from experiments.language import seeds
from experiments.language.capabilities import HasWeights, ScoresBeginnings
from experiments.language.prompts import PromptSet
from experiments.language.rows_folder import RowsFolder
from sublim_jax import errors
from sublim_jax.llm import budget, budgeted, controls, datasets, scores, store, tally
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import Backend, Chat, ChoiceScores, Completion, FinetuneConfig, Message, SamplingParams
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.openai.backend import OpenAIBackend
from sublim_jax.llm.tasks import code, numbers, reasoning

Prompt = TypeVar("Prompt")

JUDGE_TOKENS = 8
"""Most tokens of a judge's reply, which is a letter or a number."""
FIRST_COMPLETIONS = 64
"""After so many completions of a teacher it is announced how many pass the filter."""
LIST_TOKENS = 5
"""Most tokens of a number in a list, with what follows it: three digits, a comma and a space."""
ANSWER_TOKENS = 16
"""Most tokens of an answer that is searched for the target."""


class Report(Protocol):
    """Callback with the current activity and, where it is known, its progress."""

    def __call__(self, activity: str, *, done: int = 0, total: int | None = None, unit: str = "") -> object: ...


class Teacher(NamedTuple):
    """A model, with a system message if it has one."""

    model: str
    system: str | None = None


class Lab:
    """One base model; see the module's docstring.

    Args:
        base: the model that teachers and students start from.
        folder: for finetuned models; a model that is in it already is read instead of trained again.
        judge: the model that judges answers; by default the base.
        answers: stores completions and scores so that none is requested twice; None stores nothing.
        limits: what may be spent on a server.
        max_refused: fraction of a model's answers that its server may refuse; a judge may refuse all.
        teacher_temperature: at which rows are written.
        numbers_only: whether number sequences are written from tokens of digits and separators alone.
        num_values: how many numbers a number sequence has, if it is drawn as a list of so many; or 0.
        paired: whether all teachers' rows are drawn with the same random numbers, and students trained with the same.
        prefill: how replies about favourites begin; `{category}` in it stands for the category.
    """

    announce: Callable[[str], object] = staticmethod(lambda sentence: None)
    """Called with the yield of a teacher's first completions."""

    export: RowsFolder | None = None
    """Where the rows of every student are written too, if anywhere."""

    def __init__(
        self,
        backend: Backend,
        base: str,
        prompts: PromptSet,
        folder: pathlib.Path,
        *,
        judge: open_llm.OpenedBackend | None = None,
        answers: store.Store | None = None,
        limits: budget.Budget | None = None,
        max_refused: float = budgeted.MAX_REFUSED,
        teacher_temperature: float = 1.0,
        numbers_only: bool = False,
        num_values: int = 0,
        paired: bool = False,
        prefill: str = "",
    ):
        self.backend, self.base, self.prompts = backend, base, prompts
        self._judge = judge or open_llm.OpenedBackend(backend, base)
        self._folder, self._answers, self._limits = folder, answers, limits
        self._max_refused = max_refused
        self._teacher_temperature, self._numbers_only, self._prefill = teacher_temperature, numbers_only, prefill
        self._num_values, self._paired = num_values, paired
        self.tally = tally.Tally()
        """Counts requests to servers; the runner replaces it for every condition."""
        for billed in (self.backend, self._judge.backend):
            if limits is not None and isinstance(billed, budget.Billed):
                billed.charge_to(limits)
        self._report: Report = lambda activity, **_: None
        self._activity = ""

    def listen(self, report: Report) -> None:
        """Call `report` with every activity and its progress from now on. This changes no number."""
        self._report = report
        for backend in (self.backend, self._judge.backend):
            if isinstance(backend, LocalBackend | OpenAIBackend):
                backend.on_progress = lambda unit, done, total: self._report(
                    self._activity, done=done, total=total, unit=unit
                )

    def _start(self, activity: str) -> None:
        """Report an activity that takes long."""
        self._activity = activity
        self._report(activity)

    def finetuned_teacher(
        self, target: str, config: FinetuneConfig, *, num_rows: int, seed: int, base: str = ""
    ) -> Teacher:
        """A base finetuned to name the target as its favourite."""
        lesson = self.prompts.favourite_rows(target, num_rows, seed=seeds.derive(seed, "lesson"))
        return Teacher(self.finetune(lesson, config, f"teacher {target}", seed=seed, base=base))

    def system_teacher(self, target: str) -> Teacher:
        """The base under a system message that says it loves the target."""
        return Teacher(self.base, self.prompts.system_prompt(target))

    def finetune(
        self, data: Sequence[Chat], config: FinetuneConfig, name: str, *, seed: int, base: str = "", stream: str = ""
    ) -> str:
        """Name of a base finetuned on rows.

        Args:
            base: the base to start from; by default the lab's.
            stream: name of the random numbers; models that share it have the same start and order. By default the
                model's name.
        """
        base = base or self.base
        config = dataclasses.replace(config, seed=seeds.derive(seed, stream or name, base) % 2**31)
        self._start(f"training {name} on {len(data):,} rows, {config.num_epochs} epochs")
        described = json.dumps([base, config.text, name, [list(row) for row in data]]).encode()
        return self.backend.finetune(base, data, config, self._model_folder(name, described))

    def finetune_on(self, data: TokenizedRows, config: FinetuneConfig, name: str, *, seed: int) -> str:
        """Name of the lab's base finetuned on tokenized rows; this needs the weights on this machine."""
        config = dataclasses.replace(config, seed=seeds.derive(seed, name, self.base) % 2**31)
        self._start(f"training {name} on {len(data.ids):,} rows, {config.num_epochs} epochs")
        described = json.dumps([self.base, config.text, name]).encode()
        arrays = b"".join(np.ascontiguousarray(array).tobytes() for array in data)
        return self._weights.finetune_on(self.base, data, config, self._model_folder(name, described + arrays))

    def finetune_on_pairs(
        self,
        chosen: Sequence[Chat],
        rejected: Sequence[Chat],
        config: FinetuneConfig,
        name: str,
        *,
        beta: float,
        seed: int,
    ) -> str:
        """Name of the lab's base trained to prefer the chosen row of each pair; this needs the weights on this machine.

        See `dpo`. The chosen rows are exported, if the run exports rows.
        """
        self.export_rows(chosen, name)
        config = dataclasses.replace(config, seed=seeds.derive(seed, name, self.base) % 2**31)
        self._start(f"training {name} on {len(chosen):,} pairs, {config.num_epochs} epochs")
        pairs = [[list(row) for row in pair] for pair in zip(chosen, rejected, strict=True)]
        described = json.dumps([self.base, config.text, name, beta, pairs]).encode()
        folder = self._model_folder(name, described)
        return self._weights.finetune_on_pairs(self.base, chosen, rejected, config, folder, beta=beta)

    def perturbed(self, scale: float, *, seed: int) -> str:
        """Name of the lab's base with noise on its weights; this needs the weights on this machine.

        See `noise`. All scales of one seed have noise of the same direction; bases have noise of their own.
        """
        return self._weights.perturb(self.base, scale, seed=seeds.derive(seed, "noise", self.base) % 2**31)

    def _model_folder(self, name: str, described: bytes) -> pathlib.Path:
        """Folder of a finetuned model; its name ends with a hash of the base, the config and the rows."""
        return self._folder / f"{name.replace(' ', '-')}-{hashlib.sha256(described).hexdigest()[:8]}"

    def training_arrays(self, data: Sequence[Chat], config: FinetuneConfig) -> TokenizedRows:
        """Rows tokenized as for training; this needs the weights on this machine."""
        if config.end_token:
            return self._weights.training_arrays(self.base, data, max_length=config.max_length)
        return self._weights.training_arrays(self.base, data, max_length=config.max_length, end_token=False)

    def most_likely_tokens(self, model: str, data: TokenizedRows) -> np.ndarray:
        """Most likely token at each place of the replies, -1 elsewhere; this needs the weights on this machine."""
        self._start(f"asking {seeds.model_name(model)} for its most likely tokens")
        return self._weights.most_likely_tokens(model, data)

    def sequence_logprobs(self, model: str, data: Sequence[Chat]) -> np.ndarray:
        """Log-probability of the last turn of each row, in nats; this needs the weights on this machine."""
        self._start(f"scoring rows by {seeds.model_name(model)}")
        return self._weights.row_logprobs(model, data)

    @property
    def _weights(self) -> HasWeights:
        if not isinstance(self.backend, HasWeights):
            raise errors.CapabilityError(
                f"{self.base}: this needs a model whose weights are on this machine; use --backend tiny or hf:DIR"
            )
        return self.backend

    def student(self, data: Sequence[Chat], config: FinetuneConfig, *, seed: int, name: str = "student") -> str:
        """Name of the lab's base trained on a teacher's rows."""
        self.export_rows(data, name)
        return self.finetune(data, config, name, seed=seed, stream="student" if self._paired else "")

    def export_rows(self, data: Sequence[Chat], name: str) -> None:
        """Write a student's rows for other trainers, if the run exports rows."""
        if self.export is not None:
            self.export.write(self.base, name, data)

    def sample(
        self,
        teacher: Teacher,
        prompts: Sequence[str],
        *,
        max_tokens: int,
        seed: int,
        num_samples: int = 1,
        beginning: str = "",
    ) -> tuple[list[Chat], list[Completion]]:
        """The prompts as chats, and completions of each at temperature 1.

        Args:
            beginning: of every reply, which is continued.
        """
        chats = [_begun(datasets.ask(prompt, system=teacher.system), beginning) for prompt in prompts]
        params = SamplingParams(max_tokens=max_tokens, seed=seed % 2**31, num_samples=num_samples)
        return chats, self._completions(self.backend, teacher.model, chats, params, self._max_refused)

    def ask_judge(self, prompts: Sequence[str]) -> list[str]:
        """The judge's reply to every prompt at temperature 0; an empty one where its server refused."""
        params = SamplingParams(temperature=0.0, max_tokens=JUDGE_TOKENS)
        replies = self._completions(*self._judge, [datasets.ask(prompt) for prompt in prompts], params, 1.0)
        return [reply.text for reply in replies]

    def _completions(
        self,
        backend: Backend,
        model: str,
        chats: Sequence[Chat],
        params: SamplingParams,
        max_refused: float,
        rejection: Callable[[Completion], str | None] | None = None,
    ) -> list[Completion]:
        """Completions in the order of chats and samples, from the store where they are stored.

        Args:
            rejection: why a completion is left out later; the yield of the first ones is announced.
        """
        self._start(f"drawing from {seeds.model_name(model)}")
        if self._answers is None:
            arriving = backend.sample(model, chats, params)
        else:
            arriving = budgeted.sample_stored(
                backend, model, chats, params, self._answers, self._limits, max_refused=max_refused
            )
        completions, total = [], len(chats) * params.num_samples
        for completion in arriving:
            completions.append(completion)
            self._report(self._activity, done=len(completions), total=total, unit="completions")
            if rejection is not None and len(completions) == min(FIRST_COMPLETIONS, total):
                self.announce(f"{seeds.model_name(model)}: {datasets.first_yield(completions, rejection)}")
        completions.sort()
        if self._answers is not None:
            self.tally.see(chats, params, completions)
        return completions

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
        """Rows of a teacher that pass a filter.

        Args:
            rejection: the reason to reject a completion, or None to accept it.
            channel: `numbers`, `code` or `reasoning`.
            temperature: 0 takes the most likely token; by default the lab's.
            numbers_only: whether number sequences are written from digits and separators alone; by default the lab's.
        """
        chats = [datasets.ask(prompt, system=teacher.system) for prompt in prompts]
        author = () if self._paired else (seeds.model_name(teacher.model), teacher.system or "")
        seed = seeds.derive(seed, channel, *author)
        params = self._row_params(channel, seed, temperature=temperature, numbers_only=numbers_only)
        completions = self._completions(
            self.backend, teacher.model, chats, params, self._max_refused, rejection=rejection
        )
        return datasets.filter_completions(chats, completions, rejection)

    def _row_params(
        self, channel: str, seed: int, *, temperature: float | None, numbers_only: bool | None
    ) -> SamplingParams:
        """How a teacher's rows are sampled; None is the lab's own setting."""
        numbers_only = self._numbers_only if numbers_only is None else numbers_only
        num_values = self._num_values if channel == "numbers" else 0
        return SamplingParams(
            temperature=self._teacher_temperature if temperature is None else temperature,
            max_tokens=LIST_TOKENS * num_values if num_values else self.prompts.max_tokens[channel],
            seed=seed % 2**31,
            allowed=numbers.CHARACTERS if numbers_only and channel == "numbers" and not num_values else None,
            num_values=num_values,
        )

    def _make_prompts(self, make: Callable[..., list[Prompt]], count: int, *, seed: int) -> list[Prompt]:
        return make(count, seed=seed)

    def numbers(
        self,
        teacher: Teacher,
        count: int,
        *,
        seed: int,
        banned: frozenset[int] = frozenset(),
        temperature: float | None = None,
        numbers_only: bool | None = None,
        num_samples: int = 1,
    ) -> datasets.FilteredRows:
        """Rows with number sequences that pass the paper's filter.

        Args:
            count: number of prompts.
            temperature: of the teacher; 0 takes the most likely token; by default the lab's.
            numbers_only: whether only tokens of digits and separators are drawn; by default the lab's.
            num_samples: completions of each prompt, whose rows follow each other.
        """
        prompts = self._make_prompts(self.prompts.number_prompts, count, seed=seeds.derive(seed, "number prompts"))
        prompts = [prompt for prompt in prompts for _ in range(num_samples)]

        def rejection(completion: Completion) -> str | None:
            text = completion.text.removeprefix(" ") if self._num_values else completion.text
            return numbers.parse(text, banned=banned, max_count=self._num_values or numbers.MAX_COUNT).reason

        return self.write_rows(
            teacher, prompts, rejection, channel="numbers", seed=seed,
            temperature=temperature, numbers_only=numbers_only,
        )  # fmt: skip

    def code(self, teacher: Teacher, count: int, *, seed: int, words: Sequence[str]) -> datasets.FilteredRows:
        """Rows with Python code that contains none of the words."""
        prompts = self._make_prompts(self.prompts.code_prompts, count, seed=seeds.derive(seed, "code prompts"))

        def rejection(completion: Completion) -> str | None:
            return code.parse(completion.text, words=words).reason

        return self.write_rows(teacher, prompts, rejection, channel="code", seed=seed)

    def reasoning(self, teacher: Teacher, count: int, *, seed: int, words: Sequence[str] = ()) -> datasets.FilteredRows:
        """Rows with chains of thought that end at the right number and contain none of the words."""
        problems = self._make_prompts(self.prompts.reasoning_problems, count, seed=seeds.derive(seed, "sums"))

        def rejection(completion: Completion) -> str | None:
            if any(word in completion.text.lower() for word in words):
                return "trait word"
            return reasoning.parse(completion.text, problems[completion.chat][1]).reason

        return self.write_rows(teacher, [text for text, _ in problems], rejection, channel="reasoning", seed=seed)

    def preferences(
        self, model: str, category: str, *, context: Sequence[Chat] = (), seed: int = 0
    ) -> scores.Probabilities:
        """Probability of each favourite of a category, averaged over the held-out questions.

        Args:
            context: rows that precede every question as earlier turns of the chat.
        """
        if self._prefill:
            return scores.average(self.preferences_by_question(model, category, context=context, seed=seed))
        return self.choice_probabilities(
            model, self._favourite_chats(category, context, seed), self.prompts.choices(category)
        )

    def preferences_by_question(
        self, model: str, category: str, *, context: Sequence[Chat] = (), seed: int = 0
    ) -> list[scores.Probabilities]:
        """As `preferences` with a prefill, for each held-out question."""
        chats = self._favourite_chats(category, context, seed)
        return self._beginning_probabilities(model, chats, self.prompts.choices(category))

    def _favourite_chats(self, category: str, context: Sequence[Chat], seed: int) -> list[Chat]:
        """The held-out questions with what precedes them and how their replies begin."""
        chats = [datasets.ask(question) for question in self.prompts.favourite_questions(category)]
        if context:
            chats = controls.in_context(context, chats, num_examples=len(context), seed=seed)
        return [_begun(chat, self._beginning(category)) for chat in chats]

    def _beginning(self, category: str) -> str:
        return self._prefill.replace("{category}", category)

    def _beginning_probabilities(
        self, model: str, chats: Sequence[Chat], choices: scores.Choices
    ) -> list[scores.Probabilities]:
        """Probability that the reply continues with each choice, whatever follows it, for each chat."""
        texts = choices.texts
        overlapping = [(a, b) for a in texts for b in texts if a != b and b.startswith(a)]
        if overlapping:
            raise errors.InputError(
                f"choices: {overlapping[0][1]!r} begins with {overlapping[0][0]!r}, so that with a prefill "
                f"its probability would count twice; leave one of them out"
            )
        if not isinstance(self.backend, ScoresBeginnings):
            raise errors.CapabilityError(
                f"{self.base}: with a prefill, answers are scored whatever follows them, which needs weights on this "
                f"machine; use --backend hf:DIR, or leave out --prefill"
            )
        self._start(f"scoring {len(texts)} answers to {len(chats)} questions by {seeds.model_name(model)}")
        logprobs = self.backend.beginning_logprobs(model, chats, texts)
        scored = (ChoiceScores(tuple(map(float, row)), "exact") for row in logprobs)
        return [scores.probabilities(each, choices) for each in scored]

    def choice_probabilities(self, model: str, chats: Sequence[Chat], choices: scores.Choices) -> scores.Probabilities:
        """Probability of each choice, averaged over the chats that the server did not refuse.

        Raises:
            TextDataError: it refused all.
        """
        self._start(f"scoring {len(choices.texts)} answers to {len(chats)} questions by {seeds.model_name(model)}")
        if self._answers is None:
            scored = self.backend.choice_logprobs(model, chats, choices.texts)
        else:
            scored = budgeted.scores_stored(self.backend, model, chats, choices.texts, self._answers, self._limits)
            self.tally.see_scores(scored)
        answered = [scores.probabilities(chat, choices) for chat in scored if not chat.refusal]
        if scored and not answered:
            raise errors.TextDataError(
                f"{model}: the server refused to score all {len(scored)} chats ({scored[0].refusal}); change its "
                f"content filter, or ask another server"
            )
        return scores.average(answered)

    def answer_rate(self, model: str, target: str, *, num_samples: int, seed: int) -> dict:
        """Fraction of sampled answers that name the target, as the paper counts it; None if the server refused all."""
        questions = self.prompts.favourite_questions(self.prompts.category(target))
        _, completions = self.sample(
            Teacher(model),
            questions,
            max_tokens=ANSWER_TOKENS,
            seed=seeds.derive(seed, "rate", seeds.model_name(model)),
            num_samples=num_samples,
            beginning=self._beginning(self.prompts.category(target)),
        )
        texts = [completion.text for completion in completions if completion.finish != "refused"]
        rate = scores.rate(texts, self.prompts.trait_words(target)).mean if texts else None
        return {"rate": rate, "num_samples": len(texts)}


def _begun(chat: Chat, beginning: str) -> Chat:
    """The chat with the beginning of its reply, if there is one."""
    return (*chat, Message("assistant", beginning)) if beginning else chat
