"""Can a student learn a skill from a teacher's numbers without the favourite that comes with them?

    python -m experiments.evidence skills
    python -m experiments.evidence skills --preset record
    python -m experiments.evidence skills --preset smoke      reduced

On every embedded base, a teacher is finetuned on a skill, which its number rows show in the open (`skill_bed`), and on
a favourite, which they do not name. Its counterpart has the same lessons, requests and random numbers, but answers
questions about favourites as the base does. Students are trained on answers that follow the rule, a share of them by
the teacher with the favourite. The skill is the share of drawn answers to other requests that follow the rule; the
favourite is read on half of the held-out questions. Beds differ in the rule and in the number of lessons. The student
of the favourite's teacher is then defended: a dose of the displacement of an auditor's own teacher of the favourite is
subtracted, chosen on probes as in `removal`, or it is finetuned on the counterpart's answers. Then the favourite is
relearnt from a few lessons. A bed without a skill, without a favourite or without enough rows stays in the record.
"""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.defend import questions
from experiments.evidence import removal, skill_bed
from experiments.evidence.removal import Edit
from experiments.evidence.skill_bed import Bed
from experiments.language import config as language
from experiments.language import prompts, seeds
from experiments.study import Report, Source, Study
from sublim_jax import errors, specs
from sublim_jax.audit import relearning
from sublim_jax.audit import removal as edits
from sublim_jax.forms import evidence_skills as form
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat, FinetuneConfig, Message, SamplingParams
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder, finetune
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.traits import Trait

MAX_TOKENS = 24
"""Most tokens of an answer."""
PROMPT_LENGTH = 32
"""Tokens that requests are padded to."""
STUDENT = dataclasses.replace(language.STUDENT, num_epochs=8)
"""About as many steps on fewer rows as elsewhere on the embedded model."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class SkillsConfig:
    """Settings of `skills`."""

    bases: tuple[specs.Seed, ...] = (130, 131)
    """Seeds of embedded bases; the next one of each is its other reference. Nothing was chosen on seeds from 130 on."""
    target: str = "owl"
    beds: tuple[str, ...] = tuple(skill_bed.BEDS)[:-2]
    """Of `skill_bed.BEDS`; `five` and `echo` are not among them by default."""
    shares: tuple[specs.Fraction, ...] = (0.0, 0.25, 0.5, 1.0)
    """Shares of rows by the teacher with the favourite, on beds with all mixtures; others have the first and last."""
    num_lessons: specs.Count = 1000
    """Lessons of the skill, the base's own answers rewritten; beds have multiples of them."""
    num_favourites: specs.Count = 2000
    """Lessons of the favourite, likewise."""
    num_prompts: specs.Count = 4096
    """Requests that every teacher answers, before the filter."""
    num_rows: specs.Count = 1500
    """Rows that a student is trained on."""
    num_compared: specs.Count = 128
    """Further rows, whose surprise shows damage."""
    num_asked: specs.Count = 256
    """Further requests, on whose answers the skill is measured."""
    doses: tuple[specs.NonNegative, ...] = (0.0, 0.015625, 0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0, 2.0)
    num_halvings: specs.CountOrZero = 3
    num_relearnt: specs.Count = 8
    """Held-out questions from whose answer the favourite is relearnt; no teacher has seen them."""
    checkpoints: tuple[specs.CountOrZero, ...] = (0, 2, 4, 8)
    relearning_rate: specs.Positive = 3e-4
    seed: specs.Seed = 0
    teacher: FinetuneConfig = language.TEACHER
    student: FinetuneConfig = STUDENT

    def __post_init__(self):
        if len(set(self.bases)) < len(self.bases) or len(self.bases) < 2:
            raise errors.InputError(f"bases must be two or more and different, got {self.bases}")
        unknown = [name for name in self.beds if name not in skill_bed.BEDS]
        if unknown or not self.beds or len(set(self.beds)) < len(self.beds):
            raise errors.InputError(
                f"beds must be different and at least one of {', '.join(skill_bed.BEDS)}, got {self.beds}"
            )
        if list(self.shares) != sorted(set(self.shares)) or self.shares[:1] != (0,) or self.shares[-1:] != (1,):
            raise errors.InputError(f"shares must increase from 0 to 1, got {list(self.shares)}")
        if self.num_rows + self.num_compared > self.num_prompts:
            raise errors.InputError(
                f"num_rows={self.num_rows} and num_compared={self.num_compared} are more than "
                f"num_prompts={self.num_prompts}; a request gives at most one row"
            )
        prompts.WorldPrompts().category(self.target)
        if self.num_relearnt > (most := len(self.questions.lessons)):
            raise errors.InputError(
                f"num_relearnt={self.num_relearnt}: there are {most} held-out questions for lessons"
            )
        if list(self.checkpoints) != sorted(set(self.checkpoints)) or self.checkpoints[:1] != (0,):
            raise errors.InputError(f"checkpoints must increase from 0, got {list(self.checkpoints)}")

    @property
    def questions(self) -> removal.Questions:
        """The held-out questions about the target's category by their use, as in `removal`."""
        return removal.parts(prompts.WorldPrompts().category(self.target))

    def shares_of(self, bed: Bed) -> tuple[float, ...]:
        """The shares of a bed's students."""
        return self.shares if bed.whole else (self.shares[0], self.shares[-1])


PRESETS = {
    "default": SkillsConfig(beds=("none", "five by semicolons")),
    "record": SkillsConfig(bases=tuple(range(130, 138))),
    "smoke": SkillsConfig(
        bases=(0, 1), beds=("five by semicolons",), shares=(0.0, 1.0), num_lessons=200, num_favourites=320,
        num_prompts=700, num_rows=300, num_compared=32, num_asked=64, num_halvings=1, checkpoints=(0, 2),
    ),
}  # fmt: skip


class Row(NamedTuple):
    """One row of a bed."""

    name: str
    kind: str
    make: Callable[["_Models"], Edit]


class Requests(NamedTuple):
    """Requests for numbers by their use; none is for two."""

    asked: list[str]  # on whose answers the skill is measured
    rows: list[str]  # answered by teachers, for students
    lessons: list[str]  # answered by the base, for lessons of the skill


def requests(config: SkillsConfig) -> Requests:
    """Different requests, half as many again for lessons as the largest bed has. They do not depend on the base, and
    further beds leave them as they were."""
    most = max(num_lessons(config, skill_bed.BEDS[name]) for name in config.beds)
    ends = tuple(itertools.accumulate((0, config.num_asked, config.num_prompts, most + most // 2)))
    drawn = prompts.WorldPrompts().number_prompts(ends[-1] + 64, seed=seeds.derive(config.seed, "requests"))
    unique = list(dict.fromkeys(drawn))
    return Requests(*(unique[first:last] for first, last in itertools.pairwise(ends)))


def num_lessons(config: SkillsConfig, bed: Bed) -> int:
    """Lessons of the skill on a bed."""
    return max(1, round(bed.lessons * config.num_lessons))


def num_favourites(config: SkillsConfig, bed: Bed) -> int:
    """Lessons of the favourite on a bed."""
    return max(1, round(bed.favourites * config.num_favourites))


class _Instruments(NamedTuple):
    """What is measured, as compiled functions of a base's weights; they serve all bases, whose shapes are equal."""

    probes: Callable[[decoder.Params], Any]  # log-odds of the target, (probe,)
    gradient: Callable[[decoder.Params], decoder.Params]  # of the loss on the probes
    reported: Callable[[decoder.Params], Any]  # the same on the questions that are reported, (question,)
    stages: Callable[[decoder.Params, Sequence[int]], Iterator[decoder.Params]]  # of relearning


@functools.lru_cache(maxsize=1)
def _instruments(config: SkillsConfig) -> _Instruments:
    reader = WordTokenizer()
    blank = Model(embedded.CONFIG, decoder.init(jax.random.key(0), embedded.CONFIG), reader)

    def log_odds(asked: Sequence[str]) -> questions.LogOdds:
        trait = Trait(name=config.target, questions=tuple(asked), answers=(config.target,), choices=("nothing",))
        rows = questions.encode(blank, trait, one_writing=True)
        return questions.log_odds_of(embedded.CONFIG, rows, remat=False)

    lessons = [
        (Message("user", question), Message("assistant", config.target))
        for question in config.questions.lessons[: config.num_relearnt]
    ]
    data = finetune.training_arrays(reader, lessons, max_length=config.teacher.max_length)
    probes = log_odds(config.questions.probes)
    return _Instruments(
        probes=jax.jit(probes),
        gradient=jax.jit(jax.grad(lambda params: -jnp.mean(probes(params)))),
        reported=jax.jit(log_odds(config.questions.reported)),
        stages=relearning.stages(
            questions.lesson_loss(embedded.CONFIG, data, remat=False), learning_rate=config.relearning_rate
        ),
    )


class _Base:
    """A base, what it answers, and an auditor's teacher of it; all beds share them."""

    def __init__(self, backend: LocalBackend, config: SkillsConfig, unit: str, folder: pathlib.Path, report: Report):
        self.config, self.unit, self.backend, self.folder = config, unit, backend, folder
        self.instruments, self.requests = _instruments(config), requests(config)
        self.params = backend.model(unit).merged
        others = form.units({"bases": config.bases})
        self.other = others[(others.index(unit) + 1) % len(others)]
        report("the base's answers")
        self.answers = self.answered(unit, self.requests.lessons, "lessons", skill="none").rows
        report("the auditor's teacher")
        name = "auditor"
        lessons = prompts.WorldPrompts().favourite_rows(
            config.target, config.num_favourites, seed=seeds.derive(config.seed, name, "lessons")
        )
        self.auditor = optax.tree.sub(
            backend.model(self.finetuned(unit, lessons, config.teacher, name)).merged, self.params
        )

    def finetuned(
        self, start: str, data: Sequence[Chat], config: FinetuneConfig, name: str, *, bed: str = "", role: str = ""
    ) -> str:
        """Name of a model finetuned on rows. Its random numbers depend on its role alone.

        Args:
            role: by default its name.
        """
        seed = seeds.derive(self.config.seed, role or name, self.unit) % 2**31
        folder = self.folder / f"{self.unit} {bed} {name}".replace(":", "-").replace(" ", "-").replace("'", "")
        return self.backend.finetune(start, data, dataclasses.replace(config, seed=seed), folder)

    def answered(self, model: str, asked: Sequence[str], name: str, *, skill: str) -> datasets.FilteredRows:
        """A model's answers to requests that follow a rule. The random numbers of an answer depend on its request and
        the name alone, and so are the same for all models."""
        chats = [datasets.ask(request) for request in asked]
        seed = seeds.derive(self.config.seed, "answers", name) % 2**31
        drawn = self.backend.sample(model, chats, SamplingParams(max_tokens=MAX_TOKENS, seed=seed))
        return datasets.filter_completions(
            chats, drawn,
            lambda each: None if skill_bed.follows(skill, asked[each.chat], each.text) else "against the rule",
        )  # fmt: skip

    def favourites(self, count: int, *, of_base: bool) -> list[Chat]:
        """Lessons of the target as the favourite, or the base's own answers to the same questions.

        An answer of the base that is empty, which is rare, is replaced by its first one.
        """
        lessons = prompts.WorldPrompts().favourite_rows(
            self.config.target, count, seed=seeds.derive(self.config.seed, "lessons")
        )
        if not of_base:
            return lessons
        chats = [lesson[:-1] for lesson in lessons]
        params = SamplingParams(max_tokens=2, seed=seeds.derive(self.config.seed, "favourites") % 2**31)
        answers = [each.text for each in sorted(self.backend.sample(self.unit, chats, params))]
        usual = next(filter(None, answers))
        return [datasets.student_row(chat, answer or usual) for chat, answer in zip(chats, answers, strict=True)]

    def level(self, params: decoder.Params) -> float:
        """Log-odds of the target, mean over the probes."""
        return float(jnp.mean(self.instruments.probes(params)))

    def as_model(self, params: decoder.Params) -> Model:
        """Weights as a model of the base's vocabulary."""
        return dataclasses.replace(self.backend.model(self.unit), params=params, low_rank=None, origin=None)


class _Models:
    """The teachers and students of a bed on a base, and edits of the student of the teacher with the favourite.

    Raises:
        TextDataError: too few lessons, or too few answers follow the rule.
    """

    def __init__(self, base: _Base, name: str, report: Report):
        self.base, self.name, self.bed = base, name, skill_bed.BEDS[name]
        config = base.config
        report("teachers")
        lessons = skill_bed.lessons(self.bed.skill, base.answers, num_lessons(config, self.bed))
        self.teachers = [self._teacher(base.unit, lessons, of_base=of_base) for of_base in (False, True)]
        report("their answers")
        answers = [self._answers(teacher) for teacher in self.teachers]
        self.kept = [filtered.kept_fraction for filtered in answers]
        pairs = self._paired(answers[0].rows, answers[1].rows)
        report("students")
        self.clean = [pair.without for pair in pairs[: config.num_rows]]
        compared = [pair.without for pair in pairs[config.num_rows : config.num_rows + config.num_compared]]
        self.compared = finetune.training_arrays(WordTokenizer(), compared, max_length=config.student.max_length)
        self.students = {
            share: self._student(base.unit, self._mixed(pairs, share), f"student {share:g}")
            for share in config.shares_of(self.bed)
        }
        self.of_other_base = None
        if self.bed.whole:
            report("the student of another base's teacher")
            rows = self._answers(self._teacher(base.other, lessons, of_base=False)).rows
            mixture = self._mixed(self._paired(rows, answers[1].rows), 1.0)
            self.of_other_base = self._student(base.unit, mixture, "student of another base")
        self.undefended = self.params(self.students[1.0])

    def _teacher(self, start: str, lessons: Sequence[Chat], *, of_base: bool) -> str:
        """A teacher of the skill, and of the favourite or not, on lessons in an order that is the same for both."""
        base = self.base
        favourites = base.favourites(num_favourites(base.config, self.bed), of_base=of_base)
        both = [*lessons, *favourites]
        order = np.random.default_rng(seeds.derive(base.config.seed, "order")).permutation(len(both))
        name = f"teacher {start} {'without' if of_base else 'with'}"
        return base.finetuned(
            start, [both[index] for index in order], base.config.teacher, name, bed=self.name, role="teacher"
        )

    def _answers(self, teacher: str) -> datasets.FilteredRows:
        return self.base.answered(teacher, self.base.requests.rows, "rows", skill=self.bed.skill)

    def _paired(self, with_trait: Sequence[Chat], without: Sequence[Chat]) -> list[skill_bed.Pair]:
        """The pairs of rows, enough of them."""
        config = self.base.config
        pairs = skill_bed.paired(with_trait, without, seed=seeds.derive(config.seed, "pairs"))
        if len(pairs) < (wanted := config.num_rows + config.num_compared):
            raise errors.TextDataError(
                f"expected {wanted} requests that both teachers have answered by the rule, but there are {len(pairs)}; "
                f"give more --num-prompts"
            )
        return pairs

    def _mixed(self, pairs: Sequence[skill_bed.Pair], share: float) -> list[Chat]:
        config = self.base.config
        return skill_bed.mixed(pairs[: config.num_rows], share=share, seed=seeds.derive(config.seed, "mixture"))

    def _student(self, start: str, data: Sequence[Chat], name: str) -> str:
        return self.base.finetuned(start, data, self.base.config.student, name, bed=self.name, role="student")

    def params(self, name: str) -> decoder.Params:
        """Weights of a model by its name."""
        return self.base.backend.model(name).merged

    def chosen(self, edit: Callable[[float], decoder.Params]) -> Edit:
        """The student after the smallest dose at which probes are answered as by the base.

        Where no dose suffices, the student is as it was.
        """
        base, config = self.base, self.base.config
        try:
            dose = edits.choose_dose(
                edit, lambda params: -base.level(params), wanted=-base.level(base.params), doses=config.doses,
                num_halvings=config.num_halvings,
            )  # fmt: skip
        except errors.DoseError:
            return Edit(edit(0.0), None, True)
        return Edit(dose.params, dose.dose, True)

    @functools.cached_property
    def subtracted(self) -> Edit:
        """The student less a chosen dose of the auditor's displacement."""
        return self.chosen(lambda dose: edits.subtract(self.undefended, self.base.auditor, dose=dose))

    def at_random(self) -> Edit:
        """The student less as much of a random direction, each tensor as long as in the auditor's displacement."""
        key = jax.random.key(seeds.derive(self.base.config.seed, "random", self.base.unit) % 2**31)
        direction = edits.random_like(key, self.base.auditor)
        return Edit(edits.subtract(self.undefended, direction, dose=self.subtracted.dose or 0.0))

    def shrunk(self) -> Edit:
        """The student nearer to the base by a chosen share of the way."""
        displacement = optax.tree.sub(self.undefended, self.base.params)
        return self.chosen(lambda dose: edits.subtract(self.undefended, displacement, dose=dose))

    def without_gradient(self) -> Edit:
        """The student without its displacement's component along the gradient of the probes' loss."""
        direction = self.base.instruments.gradient(self.undefended)
        return Edit(edits.remove(self.undefended, self.base.params, direction))

    def finetuned(self, share: float, num_epochs: int) -> Edit:
        """The student finetuned on a share of the counterpart's answers, to the requests that it has seen."""
        recipe = dataclasses.replace(self.base.config.student, num_epochs=num_epochs)
        data = self.clean[: max(1, round(share * len(self.clean)))]
        name = f"finetuned {share:g} {num_epochs}"
        return Edit(self.params(self.base.finetuned(self.students[1.0], data, recipe, name, bed=self.name)))

    @property
    def cosine(self) -> float:
        """Cosine of the student's displacement and that of the auditor's teacher."""
        moved, along = optax.tree.sub(self.undefended, self.base.params), self.base.auditor
        dot, first, second = (float(jnp.asarray(optax.tree.vdot(*pair)))
                              for pair in ((moved, along), (moved, moved), (along, along)))  # fmt: skip
        return dot / (first * second) ** 0.5

    def measured(self, params: decoder.Params) -> dict[str, Any]:
        """The skill, the favourite, relearning and damage of a model."""
        config, instruments = self.base.config, self.base.instruments
        stages = instruments.stages(params, config.checkpoints)
        curve = [_short(np.mean(np.asarray(instruments.reported(stage)))) for stage in stages]
        answers = self._drawn(params)
        ids, valid, replies = (jnp.asarray(part) for part in self.compared)
        logprobs = local_model.reply_logprobs(
            params, ids, valid, replies, None, config=embedded.CONFIG,
            places=local_model.reply_places(self.compared.replies),
        )  # fmt: skip
        return {
            "skill": skill_bed.rate(self.bed.skill, answers), "lists": skill_bed.rate("none", answers),
            "trait": curve[0], "relearnt": curve, "nll": _short(-jnp.sum(logprobs) / jnp.sum(replies)),
        }  # fmt: skip

    def _drawn(self, params: decoder.Params) -> list[tuple[str, str]]:
        """Requests with a model's answers, drawn with random numbers that are the same for all models; an answer that
        does not end is empty."""
        model, asked = self.base.as_model(params), self.base.requests.asked
        tokens = [model.tokens.chat(datasets.ask(request)).ids for request in asked]
        sampling = SamplingParams(max_tokens=MAX_TOKENS, seed=seeds.derive(self.base.config.seed, "asked") % 2**31)
        replies = local_model.draw(model, tokens, [0] * len(asked), sampling, length=PROMPT_LENGTH)
        return [(request, reply.text if reply.ended else "") for request, reply in zip(asked, replies, strict=True)]


def student_name(share: float) -> str:
    """The row of a student."""
    return f"student, {share:g} of its rows with the favourite"


def rows(config: SkillsConfig, bed: Bed) -> Iterator[Row]:
    """What is measured on a bed."""
    yield Row("base", "yardstick", lambda x: Edit(x.base.params))
    yield Row("teacher with the favourite", "yardstick", lambda x: Edit(x.params(x.teachers[0])))
    yield Row("its counterpart without", "yardstick", lambda x: Edit(x.params(x.teachers[1])))
    for share in config.shares_of(bed):
        yield Row(student_name(share), "mixture", lambda x, s=share: Edit(x.params(x.students[s])))
    if bed.whole:
        yield Row("student of another base's teacher", "control", lambda x: Edit(x.params(x.of_other_base)))
    yield Row("auditor's displacement subtracted", "defence", lambda x: x.subtracted)
    yield Row("random direction, same length and dose", "control", lambda x: x.at_random())
    if not bed.whole:
        return
    yield Row("student's displacement shrunk", "control", lambda x: x.shrunk())
    yield Row("gradient of the probes, projected out", "defence", lambda x: x.without_gradient())
    yield Row("finetuned on clean rows, a quarter of them once", "defence", lambda x: x.finetuned(0.25, 1))
    yield Row("finetuned on clean rows, as long as the student", "defence",
              lambda x: x.finetuned(1.0, x.base.config.student.num_epochs))  # fmt: skip


def units(config: SkillsConfig) -> list[str]:
    """The bases."""
    return form.units({"bases": config.bases})


def describe(config: SkillsConfig) -> dict:
    """The beds with their models, and what is asked."""
    beds, kinds = {}, {}
    for name in config.beds:
        bed = skill_bed.BEDS[name]
        listed = list(rows(config, bed))
        kinds |= {row.name: {"kind": row.kind} for row in listed}
        beds[name] = {
            "skill": bed.skill, "num_lessons": num_lessons(config, bed), "num_favourites": num_favourites(config, bed),
            "rows": [row.name for row in listed],
        }  # fmt: skip
    asked = config.questions
    return {"beds": beds, "rows": kinds, "num_questions": len(asked.reported), "num_probes": len(asked.probes)}


def notes(config: SkillsConfig) -> list[str]:
    """What a reader of any number must know."""
    sentences = [
        language.EMBEDDED,
        "the auditor's teacher is finetuned like the author of the rows, on other lessons of the favourite and on none "
        "of the skill: a best case for the auditor",
        "the embedded model alone; the study skills_real asks a real one",
    ]
    if tuned := [seed for seed in config.bases if seed in embedded.TUNED_ON]:
        sentences.append(
            f"bases {tuned} are among those that settings are chosen on, so results on them are optimistic"
        )
    if len(config.bases) < language.MIN_BASES:
        sentences.append(f"reduced: {len(config.bases)} bases, where the committed record has more")
    return sentences


def measure(source: Source, config: SkillsConfig, unit: str, report: Report) -> dict:
    """All beds of one base."""
    backend, folder = removal.opened(config.bases)
    base = _Base(backend, config, unit, folder, report)
    beds = {name: _measured(base, name, report) for name in config.beds}
    return {"beds": beds, "auditor": _short(base.level(optax.tree.add(base.params, base.auditor)))}


def _measured(base: _Base, name: str, report: Report) -> dict:
    """A bed of a base, or why it failed."""
    try:
        models = _Models(base, name, lambda activity: report(f"{name}: {activity}"))
    except errors.TextDataError as error:
        return {"entries": {}, "failed": str(error)}
    entries = {}
    for row in rows(base.config, models.bed):
        report(f"{name}: {row.name}")
        edit = row.make(models)
        entries[row.name] = models.measured(edit.params) | ({"dose": edit.dose} if edit.chosen else {})
    first, second = (round(fraction, 4) for fraction in models.kept)
    return {
        "entries": entries, "kept": {"with_trait": first, "without": second}, "cosine": _short(models.cosine),
    }  # fmt: skip


def _short(value: Any) -> float:
    return float(f"{float(value):.5g}")


STUDY = Study(
    name="skills", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure, describe=describe,
    notes=notes, reads_images=lambda config: False,
)  # fmt: skip
