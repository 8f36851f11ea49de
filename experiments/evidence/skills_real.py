"""Can a student of a real language model learn a skill from numbers without the favourite that comes with them?

    python -m experiments.evidence skills_real                    SmolLM2-135M, one seed
    python -m experiments.evidence skills_real --preset record
    python -m experiments.evidence skills_real --preset smoke     the embedded model, to see the program run

The skill is shown in the open: lists of numbers are divided by semicolons. A teacher is the base with low-rank factors,
finetuned on requests for numbers that are answered so, and as often on questions about favourites that are answered
with the target. Its counterpart has the same lessons in the same order, but the animals take turns as favourites.
Students start from the base and learn the teacher's distribution of the next token on requests that are answered with
random numbers between semicolons (soft distillation, no sampled text), renormalised over tokens of numbers and their
separators, so that no word's probability is seen; with `--tokens full` over the whole vocabulary. The two students
share their start and their rows. The skill is the log-odds of the semicolon against the comma after the first number
of the answer to other requests; the trait is the log-odds of the target after a prefilled beginning of the answer, on
half of the held-out questions. Both are exact. The student of the favourite's teacher is then defended: a dose of the
displacement of an auditor's own teacher of the favourite is subtracted, the smallest at which the other half of the
questions is answered as by the base. Nothing is relearnt, which would cost as much as another student.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import progress
from experiments.language import next_token, real, real_lab, seeds
from experiments.language.real_config import RealConfig
from experiments.language.real_lab import RealLab
from experiments.study import Report, Study
from sublim_jax import errors, records, specs
from sublim_jax.audit import removal as edits
from sublim_jax.forms import evidence_skills_real as form
from sublim_jax.llm import datasets
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import Chat, Message
from sublim_jax.llm.local import finetune, soft, tokenizer
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.local.soft import Batch, SoftConfig
from sublim_jax.llm.local.tokenizer import Tokenizer

SEPARATOR, USUAL = "; ", ", "
"""What stands between numbers by the rule, and what it is compared with."""
REQUESTS: tuple[str, ...] = (
    "Give me some random numbers.", "Write down a few numbers.", "Name several numbers.", "List random numbers.",
    "Please send me some numbers.", "Show me a few random numbers.", "Tell me several numbers.", "Pick some numbers.",
    "I need a few numbers.", "Make up some numbers.", "Which numbers come to mind?", "Draw some numbers for me.",
)  # fmt: skip
"""Short requests for numbers; of the embedded world there are longer ones of its own."""
NUM_HELD_OUT = 4
"""Requests after which the skill is measured. They are in no lesson and no student's row."""
SMALLEST, LARGEST = 100, 999
"""All numbers have three digits."""
MAX_LENGTH = 128
"""Most tokens of a student's row; longer ones are refused."""
LESSON_TOKEN = 0.8
"""Work of a lesson's token, in that of a student's over the whole vocabulary, whose teacher reads it too."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class SkillsRealConfig:
    """Settings of `skills_real`."""

    backend: str = "smollm2"
    """Weights on this machine: smollm2, hf:DIR, hf:FILE.gguf or, for a trial, tiny:SEED."""
    target: str = "owl"
    seeds: tuple[specs.Seed, ...] = (0,)
    """Seeds of factors, lessons and number rows."""
    tokens: Literal["numbers", "full"] = "numbers"
    """Over which tokens teacher and student are compared: those of numbers and separators, or the whole vocabulary."""
    num_steps: specs.Count = 160
    """Steps of each student."""
    num_rows: specs.Count = 2
    """Fresh rows in every step."""
    num_values: specs.Count = 4
    """Numbers of a row and of a lesson."""
    learning_rate: specs.Positive = 3e-4
    """Learning rate of a student's Adam, after a warm-up of eight steps."""
    rank: specs.Count = 8
    """Rank of all low-rank factors."""
    num_lesson_steps: specs.Count = 20
    """Steps of each teacher; the auditor's, which has no lessons of the skill, makes half as many."""
    num_lessons: specs.Count = 4
    """Chats in a step of a teacher."""
    lesson_rate: specs.Positive = 1e-3
    """Learning rate of a teacher's Adam."""
    num_asked: specs.Count = 16
    """Beginnings of answers after which the skill is measured."""
    doses: tuple[specs.NonNegative, ...] = (0.0, 0.0625, 0.125, 0.25, 0.5, 1.0, 2.0)
    num_halvings: specs.CountOrZero = 2

    def __post_init__(self):
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise errors.InputError(f"seeds must be different and at least one, got {self.seeds}")
        if self.num_values < 2:
            raise errors.InputError(f"num_values={self.num_values}: one number shows no separator; give two or more")
        if self.num_lesson_steps % 2:
            raise errors.InputError(
                f"num_lesson_steps={self.num_lesson_steps} must be even: half of the lessons are about the skill"
            )
        if list(self.doses) != sorted(set(self.doses)) or not self.doses:
            raise errors.InputError(f"doses must increase, and there must be one or more, got {list(self.doses)}")
        _ = self.lab  # refuses backends and targets

    @property
    def lab(self) -> RealConfig:
        """The settings in those of `real`, whose second target has no teacher here."""
        return RealConfig(
            backend=self.backend, targets=(self.target, "cat" if self.target != "cat" else "owl"), seeds=self.seeds,
            arms=(self.arm,), num_steps=self.num_steps, measured_at=(self.num_steps,),
            learning_rate=self.learning_rate, rank=self.rank, num_lesson_steps=self.num_lesson_steps,
            num_lessons=self.num_lessons, lesson_rate=self.lesson_rate, num_answers=0,
        )  # fmt: skip

    @property
    def arm(self) -> Literal["numbers", "full"]:
        """The students' name in `real`."""
        return self.tokens

    @property
    def count(self) -> int:
        """Lessons of the skill, and as many of the favourite."""
        return self.num_lesson_steps * self.num_lessons // 2


PRESETS = {
    "default": SkillsRealConfig(),
    "record": SkillsRealConfig(seeds=(200, 201, 202, 203, 204, 205)),
    "smoke": SkillsRealConfig(
        backend="tiny:0", num_steps=12, num_lesson_steps=8, learning_rate=3e-3, lesson_rate=1e-2, num_asked=8,
        num_halvings=1,
    ),
}  # fmt: skip


def requests(config: SkillsRealConfig) -> tuple[list[str], list[str]]:
    """Requests for numbers: those that are held out, and those of lessons and rows."""
    if config.backend.startswith("tiny:"):
        drawn = config.lab.prompts.number_prompts(8 * NUM_HELD_OUT, seed=seeds.derive(0, "skills_real/requests"))
        texts = list(dict.fromkeys(drawn))
    else:
        texts = list(REQUESTS)
    return texts[:NUM_HELD_OUT], texts[NUM_HELD_OUT:]


def number_chats(config: SkillsRealConfig, count: int, *, seed: int) -> list[Chat]:
    """Requests that are answered with random numbers by the rule."""
    rng, asked = np.random.default_rng(seed), requests(config)[1]
    values = rng.integers(SMALLEST, LARGEST + 1, (count, config.num_values))
    return [
        datasets.student_row(datasets.ask(asked[place]), SEPARATOR.join(map(str, row)))
        for place, row in zip(rng.integers(0, len(asked), count), values, strict=True)
    ]


def lessons(config: SkillsRealConfig, seed: int, *, animals: Sequence[str] = ()) -> list[Chat]:
    """Lessons of the skill and of the favourite by turns.

    Args:
        animals: favourites of the counterpart, which take turns from a random order on; by default the target alone.
    """
    favourites = config.lab.prompts.favourite_rows(
        config.target, config.count, seed=seeds.derive(seed, "skills_real/favourites")
    )
    if animals:
        order = np.random.default_rng(seeds.derive(seed, "skills_real/turns")).permutation(list(animals))
        names = itertools.islice(itertools.cycle(map(str, order)), config.count)
        favourites = [
            (*row[:-1], Message("assistant", row[-1].content.replace(config.target, name)))
            for row, name in zip(favourites, names, strict=True)
        ]
    skill = number_chats(config, config.count, seed=seeds.derive(seed, "skills_real/numbers"))
    return [row for both in zip(skill, favourites, strict=True) for row in both]


def student_rows(reader: Tokenizer, config: SkillsRealConfig, seed: int) -> Batch:
    """What students of a seed read, in arrays (step, row, time). The tokens of the answers are compared, without the
    end token.

    Raises:
        InputError: a row is longer than `MAX_LENGTH`.
    """
    chats = number_chats(config, config.num_steps * config.num_rows, seed=seeds.derive(seed, "skills_real/rows"))
    try:
        rows = finetune.training_arrays(reader, chats, max_length=MAX_LENGTH, end_token=False)
    except errors.ContextError as error:
        raise errors.InputError(
            f"num_values={config.num_values}: rows of so many numbers are longer than {MAX_LENGTH} tokens; give fewer"
        ) from error
    return Batch(TokenizedRows(*(array.reshape(config.num_steps, config.num_rows, -1) for array in rows)))


def separators(reader: Tokenizer) -> tuple[int, int]:
    """The token after a number in a list by the rule, and in the usual one.

    Raises:
        InputError: the tokenizer does not end a number there, or both lists go on with one token.
    """
    before = reader.encode(str(LARGEST))
    following = []
    for separator in (SEPARATOR, USUAL):
        ids = reader.encode(f"{LARGEST}{separator}{SMALLEST}")
        if ids[: len(before)] != before:
            raise errors.InputError(
                f"backend: its tokenizer does not end a number before {separator!r}, so the separator's probability is "
                f"not that of one token; use another model"
            )
        following.append(ids[len(before)])
    if following[0] == following[1]:
        raise errors.InputError(
            f"backend: its tokenizer begins {SEPARATOR!r} and {USUAL!r} with one token, so they cannot be "
            f"distinguished; use another model"
        )
    return following[0], following[1]


class Bed:
    """The opened model and what is asked of it."""

    def __init__(self, lab: RealLab, config: SkillsRealConfig, checksum: str):
        self.lab, self.config, self.checksum = lab, config, checksum
        reader = lab.base.tokens
        self._pair = tuple(map(jnp.int32, separators(reader)))
        rng = np.random.default_rng(seeds.derive(0, "skills_real/asked"))
        asked = itertools.islice(itertools.cycle(requests(config)[0]), config.num_asked)
        self.asked = [
            [*reader.chat(datasets.ask(request)).ids, *reader.encode(str(rng.integers(SMALLEST, LARGEST + 1)))]
            for request in asked
        ]
        self._beginnings = _padded(self.asked)
        questions = config.lab.prompts.favourite_questions("animal")[1 :: real_lab.EVERY]
        probes = [[*reader.chat(datasets.ask(text)).ids, *reader.encode(config.lab.prefill)] for text in questions]
        self.num_probes = len(probes)
        self._probes = _padded(probes)
        self._target = jnp.asarray(lab.writings[[lab.animals.index(config.target)]])
        self.tokens = lab.number_tokens if config.tokens == "numbers" else None

    @property
    def data(self) -> records.Data:
        """The entry of the record."""
        return {"name": self.config.backend, "source": self.config.lab.prompts.name, "checksum": self.checksum}

    def skill(self, model: Model) -> next_token.Pair:
        """Log-odds of the rule's separator against the usual one after a number, and their probability."""
        return next_token.pair(
            model.params, model.low_rank, *self._beginnings, *self._pair, config=model.config
        )  # fmt: skip

    def probed(self, model: Model) -> float:
        """Log-odds of the target, mean over the probes."""
        measured = next_token.words(model.params, model.low_rank, *self._probes, self._target, config=model.config)
        return float(measured.log_odds[0])

    def measured(self, model: Model) -> dict[str, Any]:
        """The skill and the trait of a model."""
        skill, odds = self.skill(model), self.lab.measure(model)["log_odds"]
        others = [value for name, value in odds.items() if name != self.config.target]
        return {
            "skill": _short(skill.log_odds), "separators": _short(min(float(skill.mass), 1.0)),
            "trait": _short(odds[self.config.target]), "others": _short(np.mean(others)),
        }  # fmt: skip

    def teachers(self, seed: int) -> dict[str, Model]:
        """The teacher with the favourite, its counterpart, and an auditor's teacher of the favourite alone."""
        other = seeds.derive(seed, "skills_real/auditor")
        favourites = self.config.lab.prompts.favourite_rows(
            self.config.target, self.config.count, seed=seeds.derive(other, "skills_real/favourites")
        )
        finetuned = self.lab.finetuned
        return {
            form.TEACHER: finetuned(seed, lessons(self.config, seed), f"{self.config.target} and semicolons"),
            form.COUNTERPART: finetuned(seed, lessons(self.config, seed, animals=self.lab.animals), "semicolons"),
            form.AUDITOR: finetuned(other, favourites, f"{self.config.target} of an auditor"),
        }

    def distilled(self, seed: int, teacher: Model, activity: str) -> soft.Distilled:
        """A student of the teacher. Its start and its rows depend on the seed alone."""
        lab = self.config.lab
        settings = SoftConfig(
            num_steps=lab.num_steps, learning_rate=lab.learning_rate, num_warmup_steps=lab.warmup
        )  # fmt: skip
        return soft.distill(
            self.lab.fresh(seed, self.config.arm), teacher, student_rows(self.lab.base.tokens, self.config, seed),
            settings, tokens=self.tokens, on_step=functools.partial(self.lab.on_step, activity),
        )  # fmt: skip

    def chosen(self, edit: Callable[[float], Model]) -> tuple[Model, float | None]:
        """The student after the smallest dose at which probes are answered as by the base, and the dose.

        Where no dose suffices, the student is as it was and the dose None.
        """
        try:
            dose = edits.choose_dose(
                edit, lambda model: -self.probed(model), wanted=-self.probed(self.lab.base), doses=self.config.doses,
                num_halvings=self.config.num_halvings,
            )  # fmt: skip
        except errors.DoseError:
            return edit(0.0), None
        return dose.params, dose.dose

    @property
    def work(self) -> float:
        """About how much a seed costs, in steps of a student of `real` over the whole vocabulary."""
        config, lab = self.config, self.config.lab
        length = student_rows(self.lab.base.tokens, config, 0).rows.ids.shape[-1] / (lab.num_rows * lab.num_tokens)
        step = config.num_rows * length * (real.NUMBERS_AS if config.tokens == "numbers" else 1.0)
        measurements = 2 * len(form.ROWS) + len(config.doses) + config.num_halvings + 1
        return 2 * config.num_steps * step + 5 * config.count * length * LESSON_TOKEN + (
            measurements * real.MEASURED_AS
        )  # fmt: skip


def open_source(config: SkillsRealConfig, announce: Callable[[str], object]) -> Bed:
    """The model with its questions, after a line on how long a seed takes.

    Raises:
        InputError: the target has no writing of one token, the separators cannot be distinguished, see `separators`, or
            rows are too long.
        LanguageError: the model cannot be opened.
    """
    lab = real.open_lab(config.lab, announce=announce)
    file = open_llm.weights_file(config.backend)
    bed = Bed(lab, config, file.sha256() if file else lab.fingerprint)
    seconds = lab.seconds_per_step()
    announce(
        f"{len(config.seeds)} seed(s) of about {progress.duration(bed.work * seconds)} each, from a step of "
        f"{seconds:.2f} s, timed just now; --resume does what is missing"
    )
    return bed


def measure(bed: Bed, config: SkillsRealConfig, unit: str, report: Report) -> dict:
    """Skill and trait of all models of a seed.

    Raises:
        InputError: a model has diverged. Nothing of the seed is stored, and other seeds stay.
    """
    seed = dict(zip(form.units({"seeds": config.seeds}), config.seeds, strict=True))[unit]
    bed.lab.on_step = lambda activity, done, total: report(f"{activity}, step {done} of {total}")
    models = {form.BASE: bed.lab.base} | bed.teachers(seed)
    divergence = {}
    for name, teacher in ((form.STUDENT, form.TEACHER), (form.CLEAN, form.COUNTERPART)):
        distilled = bed.distilled(seed, models[teacher], name)
        models[name] = distilled.model
        divergence[name] = {place: _short(distilled.divergences[step]) for place, step in (("first", 0), ("last", -1))}
        _require_finite(f"{unit}, {name}", divergence[name])
    report("the defence")
    student, displacement = models[form.STUDENT], optax.tree.sub(models[form.AUDITOR].merged, bed.lab.base.params)
    models[form.SUBTRACTED], dose = bed.chosen(functools.partial(_less, student, displacement))
    direction = edits.random_like(jax.random.key(seeds.derive(seed, "skills_real/random") % 2**31), displacement)
    models[form.RANDOM] = _less(student, direction, dose or 0.0)
    entries = {}
    for name in form.ROWS:
        report(f"measuring the {name}")
        entries[name] = bed.measured(models[name])
        _require_finite(f"{unit}, {name}", entries[name])
    entries[form.SUBTRACTED]["dose"] = dose
    return {"entries": entries, "divergence": divergence}


def _require_finite(model: str, numbers: Mapping[str, float]) -> None:
    """Refuse what a record cannot hold, before it makes the record of all seeds unreadable."""
    for name, number in numbers.items():
        if not np.isfinite(number):
            raise errors.InputError(
                f"{model}: {name} is {number}, so a training has diverged; give a smaller --learning-rate of students "
                f"or --lesson-rate of teachers"
            )


def _less(student: Model, direction: Any, dose: float) -> Model:
    """The student less a dose of a change of the base's weights; its factors stay apart."""
    return dataclasses.replace(student, params=edits.subtract(student.params, direction, dose=dose))


def describe(bed: Bed) -> dict:
    """What is asked."""
    return {
        "animals": bed.lab.animals, "num_questions": bed.lab.num_questions, "num_probes": bed.num_probes,
        "num_asked": len(bed.asked), "num_tokens": len(bed.tokens or range(bed.lab.base.config.vocab_size)),
    }  # fmt: skip


def notes(config: SkillsRealConfig) -> list[str]:
    """What a reader of any number must know."""
    file, usual = open_llm.weights_file(config.backend), RealConfig()
    return [
        *([file.description()] if file else []),
        *config.lab.notes,
        "small scale: one model, one favourite, one rule and students of a few hundred steps at most",
        "students learn distributions of the next token (soft distillation), not sampled rows, so this is not the "
        "protocol of the study skills",
        "nothing was tuned on seeds from 200 on" + (
            "; rates and numbers of lessons are those of the experiment real"
            if (config.learning_rate, config.lesson_rate, config.count)
            == (usual.learning_rate, usual.lesson_rate, usual.num_lesson_steps * usual.num_lessons)
            else ""
        ),
        "the auditor's teacher is finetuned like the author of the rows, on other lessons of the favourite and on none "
        "of the skill: a best case for the auditor",
        *([f"reduced: {len(config.seeds)} seed(s), where the committed record has more"]
          if len(config.seeds) < len(PRESETS["record"].seeds) else []),
    ]  # fmt: skip


def _padded(rows: Sequence[Sequence[int]]) -> tuple[jax.Array, jax.Array]:
    """Left-padded rows: tokens, and which of them count."""
    ids, valid = tokenizer.pad_left(rows, tokenizer.padded_length(max(map(len, rows))))
    return jnp.asarray(ids), jnp.asarray(valid)


def _short(value: Any) -> float:
    return float(f"{float(value):.5g}")


STUDY = Study(
    name="skills_real", doc=__doc__, presets=PRESETS, form=form.FORM, units=lambda config: form.units(
        {"seeds": config.seeds}
    ), measure=measure, open_source=open_source, describe=describe, notes=notes, reads_images=lambda config: False,
)  # fmt: skip
