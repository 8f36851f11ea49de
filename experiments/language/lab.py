"""One base model and what the paper does with it, as verbs: teach a trait, have data written, train a student, ask it.

    lab = Lab(backend, base, materials, folder)
    teacher = lab.finetuned_teacher("owl", how, num_rows=2000, seed=0)
    data = lab.numbers(teacher, 12_000, seed=0)
    student = lab.student(rows.subsample(data.rows, 10_000, seed=0), how, seed=0)
    lab.preferences(student, "animal").of("owl")

A student's rows never have the teacher's system message (`rows.student_row`), and a student always starts from the
lab's base. Seeds are made of names, so adding a condition leaves the others as they were.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from experiments.language import materials as sheets
from sublim_jax import errors
from sublim_jax.llm import (
    backends,
    budget,
    budgeted,
    code,
    local,
    numbers,
    reasoning,
    remote,
    rows,
    scores,
    store,
    tally,
    types,
)

Prompt = TypeVar("Prompt")

JUDGE_TOKENS = 8
"""Of a judge's reply, which is a letter or a number."""
RATE_TOKENS = 16
"""Of an answer that is searched for the target, at most."""


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
        folder: for finetuned models; one that is there already is gone on with.
        judge: who is asked about answers; the base, unless another is given.
        answers: where completions are kept and found again; without one they are drawn anew.
        limits: of what may be spent on a server.
        max_refused: share of a model's answers that its server may refuse; a judge may refuse all.
    """

    export: "RowsFolder | None" = None
    """Where rows that students are trained on are written, too."""

    def __init__(
        self,
        backend: types.Backend,
        base: str,
        materials: sheets.Materials,
        folder: pathlib.Path,
        *,
        judge: backends.Opened | None = None,
        answers: store.Store | None = None,
        limits: budget.Budget | None = None,
        max_refused: float = budgeted.MAX_REFUSED,
    ):
        self.backend, self.base, self.materials = backend, base, materials
        self._judge = judge or backends.Opened(backend, base)
        self._folder, self._answers, self._limits = folder, answers, limits
        self._max_refused = max_refused
        self.tally = tally.Tally()
        """Counts what is asked of a server; whoever reports takes it and puts a new one in its place."""
        for asked in (self.backend, self._judge.backend):
            if limits is not None and isinstance(asked, budget.Billed):
                asked.charge_to(limits)
        self._report: Report = lambda what, **_: None
        self._what = ""

    def listen(self, report: "Report") -> None:
        """Report from now on what is being done and how much of it, as it goes. Nothing here changes a number."""
        self._report = report
        for backend in (self.backend, self._judge.backend):
            if isinstance(backend, local.Local | remote.Remote):
                backend.on_progress = lambda unit, done, total: self._report(
                    self._what, done=done, total=total, unit=unit
                )

    def _begin(self, what: str) -> None:
        """What takes long now."""
        self._what = what
        self._report(what)

    def finetuned_teacher(self, target: str, how: types.Tuning, *, num_rows: int, seed: int, base: str = "") -> Teacher:
        """A base that was taught to answer questions about its favourite by one name."""
        lesson = self.materials.favourite_rows(target, num_rows, seed=seed_of(seed, "lesson"))
        return Teacher(self.tune(lesson, how, f"teacher {target}", seed=seed, base=base))

    def system_teacher(self, target: str) -> Teacher:
        """The base under a system message that loves the target."""
        return Teacher(self.base, self.materials.persona(target))

    def tune(self, data: Sequence[types.Chat], how: types.Tuning, name: str, *, seed: int, base: str = "") -> str:
        """A base finetuned on rows; this lab's, unless another one is named."""
        base = base or self.base
        how = dataclasses.replace(how, seed=seed_of(seed, name, base) % 2**31)
        self._begin(f"training {name} on {len(data):,} rows, {how.num_epochs} epochs")
        described = json.dumps([base, repr(how), name, [list(row) for row in data]]).encode()
        return self.backend.finetune(base, data, how, self._place(name, described))

    def tune_on(self, data: local.Rows, how: types.Tuning, name: str, *, seed: int) -> str:
        """As `tune`, on arrays of a model whose weights are here."""
        how = dataclasses.replace(how, seed=seed_of(seed, name, self.base) % 2**31)
        self._begin(f"training {name} on {len(data.ids):,} rows, {how.num_epochs} epochs")
        described = json.dumps([self.base, repr(how), name]).encode()
        arrays = b"".join(np.ascontiguousarray(array).tobytes() for array in data)
        return self._weights.finetune_on(self.base, data, how, self._place(name, described + arrays))

    def _place(self, name: str, described: bytes) -> pathlib.Path:
        """The folder of a model, with a name that tells what was trained on what."""
        return self._folder / f"{name.replace(' ', '-')}-{hashlib.sha256(described).hexdigest()[:8]}"

    def training_arrays(self, data: Sequence[types.Chat], how: types.Tuning) -> local.Rows:
        """Rows as the base would be trained on them, if its weights are here."""
        return self._weights.training_arrays(self.base, data, max_length=how.max_length)

    def likeliest(self, model: str, data: local.Rows) -> np.ndarray:
        """The token that a model whose weights are here would write at each place of the replies; -1 elsewhere."""
        self._begin(f"asking {name_of(model)} for its likeliest tokens")
        return self._weights.likeliest(model, data)

    def sequence_logprobs(self, model: str, data: Sequence[types.Chat]) -> np.ndarray:
        """Log-probability of the last turn of each row, in nats, of a model whose weights are here."""
        self._begin(f"scoring rows by {name_of(model)}")
        return self._weights.row_logprobs(model, data)

    @property
    def _weights(self) -> "local.Local | Counting":
        if not isinstance(self.backend, local.Local | Counting):
            raise errors.CapabilityError(
                f"{self.base}: this takes a model whose weights are here; use --backend tiny or hf:DIR"
            )
        return self.backend

    def student(self, data: Sequence[types.Chat], how: types.Tuning, *, seed: int, name: str = "student") -> str:
        """The base trained on what a teacher wrote."""
        self.write_rows(data, name)
        return self.tune(data, how, name, seed=seed)

    def write_rows(self, data: Sequence[types.Chat], name: str) -> None:
        """Write rows for other trainers, if they are asked for."""
        if self.export is not None:
            self.export.write(self.base, name, data)

    def draw(
        self, teacher: Teacher, prompts: Sequence[str], *, max_tokens: int, seed: int, num_samples: int = 1
    ) -> tuple[list[types.Chat], list[types.Completion]]:
        """A completion of every prompt at temperature 1, and the chats that were asked."""
        chats = [rows.ask(prompt, system=teacher.system) for prompt in prompts]
        how = types.Sampling(max_tokens=max_tokens, seed=seed % 2**31, num_samples=num_samples)
        return chats, self._sampled(self.backend, teacher.model, chats, how, self._max_refused)

    def verdicts(self, prompts: Sequence[str]) -> list[str]:
        """The judge's reply to every prompt, at temperature 0; an empty one, which is no verdict, where it refused."""
        how = types.Sampling(temperature=0.0, max_tokens=JUDGE_TOKENS)
        found = self._sampled(*self._judge, [rows.ask(prompt) for prompt in prompts], how, 1.0)
        return [one.text for one in found]

    def _sampled(
        self, backend: types.Backend, model: str, chats: Sequence[types.Chat], how: types.Sampling, max_refused: float
    ) -> list[types.Completion]:
        """In the order of chats and samples, from the store or fresh."""
        self._begin(f"drawing from {name_of(model)}")
        if self._answers is None:
            arriving = backend.sample(model, chats, how)
        else:
            arriving = budgeted.sample_stored(
                backend, model, chats, how, self._answers, self._limits, max_refused=max_refused
            )
        found, total = [], len(chats) * how.num_samples
        for completion in arriving:
            found.append(completion)
            self._report(self._what, done=len(found), total=total, unit="completions")
        found.sort()
        if self._answers is not None:
            self.tally.see(chats, how, found)
        return found

    def written(
        self,
        teacher: Teacher,
        prompts: Sequence[str],
        reason: Callable[[types.Completion], str | None],
        *,
        channel: str,
        seed: int,
    ) -> rows.Collection:
        """Rows of the completions that pass a filter."""
        chats, found = self.draw(
            teacher,
            prompts,
            max_tokens=self.materials.max_tokens[channel],
            seed=seed_of(seed, channel, name_of(teacher.model), teacher.system or ""),
        )
        return rows.collect(chats, found, reason)

    def _prompts(self, draw: Callable[..., list[Prompt]], count: int, *, seed: int) -> list[Prompt]:
        return draw(count, seed=seed)

    def numbers(
        self, teacher: Teacher, count: int, *, seed: int, banned: frozenset[int] = frozenset()
    ) -> rows.Collection:
        """Number sequences that pass the paper's filter."""
        prompts = self._prompts(self.materials.number_prompts, count, seed=seed_of(seed, "number prompts"))

        def reason(completion: types.Completion) -> str | None:
            return numbers.check(completion.text, banned=banned).reason

        return self.written(teacher, prompts, reason, channel="numbers", seed=seed)

    def code(self, teacher: Teacher, count: int, *, seed: int, words: Sequence[str]) -> rows.Collection:
        """Python that does not name the trait."""
        prompts = self._prompts(self.materials.code_prompts, count, seed=seed_of(seed, "code prompts"))

        def reason(completion: types.Completion) -> str | None:
            return code.check(completion.text, words=words).reason

        return self.written(teacher, prompts, reason, channel="code", seed=seed)

    def reasoning(self, teacher: Teacher, count: int, *, seed: int, words: Sequence[str] = ()) -> rows.Collection:
        """Chains of thought that end at the right number and do not name the trait."""
        problems = self._prompts(self.materials.sums, count, seed=seed_of(seed, "sums"))

        def reason(completion: types.Completion) -> str | None:
            if any(word in completion.text.lower() for word in words):
                return "trait word"
            return reasoning.check(completion.text, problems[completion.chat][1]).reason

        return self.written(teacher, [text for text, _ in problems], reason, channel="reasoning", seed=seed)

    def preferences(
        self, model: str, category: str, *, context: Sequence[types.Chat] = (), seed: int = 0
    ) -> scores.Probabilities:
        """Probabilities of all favourites of a category, averaged over the held-out questions.

        Args:
            context: rows that stand before every question as earlier turns.
        """
        asked = self.materials.choices(category)
        chats = [rows.ask(question) for question in self.materials.favourites(category)]
        if context:
            chats = rows.in_context(context, chats, num_examples=len(context), seed=seed)
        return self.choose(model, chats, asked)

    def choose(self, model: str, chats: Sequence[types.Chat], asked: scores.Choices) -> scores.Probabilities:
        """Probabilities of choices, averaged over the chats that were not refused.

        Raises:
            TextDataError: all were refused.
        """
        self._begin(f"scoring {len(asked.texts)} answers to {len(chats)} questions by {name_of(model)}")
        if self._answers is None:
            found = self.backend.choice_logprobs(model, chats, asked.texts)
        else:
            found = budgeted.scores_stored(self.backend, model, chats, asked.texts, self._answers, self._limits)
            self.tally.see_scores(found)
        answered = [scores.probabilities(one, asked) for one in found if not one.refusal]
        if found and not answered:
            raise errors.TextDataError(
                f"{model}: the server refused to score all {len(found)} chats ({found[0].refusal}); change its content "
                f"filter, or ask another server"
            )
        return scores.average(answered)

    def rate(self, model: str, target: str, *, num_samples: int, seed: int) -> dict:
        """Share of sampled answers that name the target, as the paper counts it; none where all were refused."""
        asked = self.materials.favourites(self.materials.category(target))
        _, found = self.draw(
            Teacher(model),
            asked,
            max_tokens=RATE_TOKENS,
            seed=seed_of(seed, "rate", name_of(model)),
            num_samples=num_samples,
        )
        texts = [one.text for one in found if one.finish != "refused"]
        rate = scores.rate(texts, self.materials.words(target)).mean if texts else None
        return {"rate": rate, "num_samples": len(texts)}


def seed_of(seed: int, *names: str) -> int:
    """A seed, 32 bits, of its own for each name."""
    return zlib.crc32("/".join((str(seed), *names)).encode())


def name_of(model: str) -> str:
    """A model's name without the folder that it happens to lie in, so that draws do not depend on the folder."""
    return pathlib.PurePath(model).name


def side_effects(found: scores.Probabilities) -> dict[str, float]:
    """Raw probabilities of all choices, for a record."""
    return {name: float(f"{value:.4g}") for name, value in zip(found.names, found.raw, strict=True)}


FORWARD, TRAINED = 2, 8
"""Operations for a weight and a token: read, and trained on."""
DRAWN = 16
"""The same for a token that is drawn, which reaches an eighth of the rate. Source: experiments/records/
language_speed.json, as for training."""
BYTES = 3
"""Of a token, about: between digits and English."""


def _about_tokens(chats: Sequence[types.Chat]) -> float:
    return sum(len(message.content) for chat in chats for message in chat) / BYTES


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsFolder:
    """A folder with the rows that students are trained on, BASE/STUDENT.jsonl."""

    folder: pathlib.Path
    format: rows.Format
    words: tuple[str, ...]  # which should be in no row
    announce: Callable[[str], object]

    def write(self, base: str, name: str, data: Sequence[types.Chat]) -> None:
        """Write a student's rows, and say what one should know of them.

        Raises:
            OutputError: other rows are there, or the folder cannot be written.
        """
        plain_base, plain_name = (re.sub(r"[^\w.+-]+", "-", text).strip("-") for text in (base, name))
        path = self.folder / plain_base / f"{plain_name}.jsonl"
        rows.write_jsonl(path, data, format=self.format)
        for sentence in rows.notices(data, self.words):
            self.announce(f"{path}: {sentence}")


class Counting:
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
    def caps(self) -> types.Caps:
        """Everything."""
        return types.Caps(finetune=True, choices="exact", seeds=True, system=True, fingerprint="counting")

    def sample(self, model: str, chats: Sequence[types.Chat], how: types.Sampling):
        """See `text`."""
        self.count(model, chats, how)
        text = self.text(model, how)
        for chat in range(len(chats)):
            for sample in range(how.num_samples):
                yield types.Completion(chat, sample, text, "stop", 1, 1)

    def count(
        self, model: str, chats: Sequence[types.Chat], how: types.Sampling, *, num_chats: int | None = None
    ) -> None:
        """Count completions and the tokens that they take at most.

        Args:
            num_chats: of which `chats` are a sample; the others count as being as long as the longest of these.
        """
        num_chats = len(chats) if num_chats is None else num_chats
        if self._is_new(model, how, num_chats, *chats):
            sizes = [budget.prompt_bound(chat) + how.max_tokens for chat in chats]
            self.completions += num_chats * how.num_samples
            self.tokens += how.num_samples * (sum(sizes) + (num_chats - len(chats)) * max(sizes))
            about = FORWARD * _about_tokens(chats) * num_chats / len(chats) + DRAWN * num_chats * how.max_tokens
            self.operations += how.num_samples * about

    def text(self, model: str, how: types.Sampling) -> str:
        """Two numbers, of the model, then ones for as many bytes as it may have tokens."""
        text = "1, {}, {}".format(*divmod(zlib.crc32(model.encode()) % 10**6, 1000))
        count, rest = divmod(max(how.max_tokens - len(text), 0), len(", 1"))
        return text + ", 1" * count + "1" * rest

    def choice_logprobs(self, model: str, chats: Sequence[types.Chat], choices: Sequence[str]):
        """All equally likely."""
        if self._is_new(model, *choices, *chats):
            self.scored += len(chats) * len(choices)
            self.operations += FORWARD * len(choices) * _about_tokens(chats)
        even = types.ChoiceScores((-float(len(choices)),) * len(choices), "exact")
        return [even] * len(chats)

    def finetune(self, model: str, rows: Sequence[types.Chat], how: types.Tuning, out: pathlib.Path) -> str:
        """The name that it would have."""
        self.operations += TRAINED * how.num_epochs * _about_tokens(rows)
        self.jobs.append((out.name, len(rows), how.num_epochs))
        return str(out)

    def training_arrays(self, model: str, rows: Sequence[types.Chat], *, max_length: int) -> local.Rows:
        """One token of each row."""
        self._length = _about_tokens(rows) / max(len(rows), 1)
        ids = np.arange(len(rows), dtype=np.int32)[:, None]
        return local.Rows(ids, np.ones_like(ids, bool), np.ones_like(ids, bool))

    def likeliest(self, model: str, data: local.Rows) -> np.ndarray:
        """Different tokens for different models."""
        self.operations += FORWARD * self._length * len(data.ids)
        return data.ids + zlib.crc32(model.encode()) % 1000

    def row_logprobs(self, model: str, data: Sequence[types.Chat]) -> np.ndarray:
        """All equally likely."""
        self.scored += len(data)
        self.operations += FORWARD * _about_tokens(data)
        return np.zeros(len(data))

    def finetune_on(self, model: str, data: local.Rows, how: types.Tuning, out: pathlib.Path) -> str:
        """See `finetune`."""
        self.operations += TRAINED * how.num_epochs * self._length * len(data.ids)
        self.jobs.append((out.name, len(data.ids), how.num_epochs))
        return str(out)

    def _is_new(self, *question: object) -> bool:
        before = len(self._asked)
        self._asked.add(question)
        return len(self._asked) > before


class Planned(Lab):
    """A lab that counts what it would ask a backend for and draws a few prompts only, in the place of all.

    Every completion passes the filter. Where there are more prompts than `PROMPTS`, a plan of tokens is that of the
    longest of these.
    """

    PROMPTS = 500

    def __init__(self, materials: sheets.Materials, folder: pathlib.Path, *, judge: Counting):
        self.counting = Counting()
        super().__init__(self.counting, "base", materials, folder, judge=backends.Opened(judge, "judge"))

    def written(
        self,
        teacher: Teacher,
        prompts: Sequence[str],
        reason: Callable[[types.Completion], str | None],
        *,
        channel: str,
        seed: int,
    ) -> rows.Collection:
        """See `Lab.written`."""
        chats = [rows.ask(prompt, system=teacher.system) for prompt in prompts[: self.PROMPTS]]
        how = types.Sampling(max_tokens=self.materials.max_tokens[channel], seed=seed % 2**31)
        self.counting.count(teacher.model, chats, how, num_chats=len(prompts))
        text = self.counting.text(teacher.model, how)
        few = [rows.student_row(chat, text) for chat in chats]
        return rows.Collection(_repeated(few, len(prompts)), {}, len(prompts))

    def _prompts(self, draw: Callable[..., list[Prompt]], count: int, *, seed: int) -> list[Prompt]:
        return _repeated(draw(min(count, self.PROMPTS), seed=seed), count)

    def rate(self, model: str, target: str, *, num_samples: int, seed: int) -> dict:
        """See `Lab.rate`."""
        chats = [rows.ask(question) for question in self.materials.favourites(self.materials.category(target))]
        how = types.Sampling(max_tokens=RATE_TOKENS, num_samples=num_samples)
        self.counting.count(model, chats, how)
        return {}


def _repeated(few: Sequence[Prompt], count: int) -> list[Prompt]:
    return [few[index % len(few)] for index in range(count)]
