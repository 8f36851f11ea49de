"""Do pilots on rows foretell which traits the finished student of a language model will have?

    python -m experiments.evidence pilots
    python -m experiments.evidence pilots --preset record
    python -m experiments.evidence pilots --preset smoke      reduced

Bases of the embedded model and of its teachers write number sequences: each base itself, teachers finetuned on one of
four favourites, and, for the first favourite, a teacher finetuned for a tenth as long, one under a system message, a
teacher's rows mixed with as many regular ones, those of another base's teacher, and a teacher's completions under each
other's prompts. On every data set students are trained to the end, and pilots for the first steps, with other random
numbers, as `experiments.audit` trains them. Null rows are the base's own; students and pilots on them share the random
numbers. All traits are asked about after all data sets, in log-odds: pilots answer one half of the held-out questions,
finished students the other half. Thresholds are fitted on the calibration bases and read on the held-out ones.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.audit.config import AuditConfig
from experiments.language import config as language
from experiments.language import prompts, seeds
from experiments.language.lab import Lab, Teacher
from experiments.own import measuring
from experiments.study import Report, Source, Study
from sublim_jax import errors, specs
from sublim_jax.forms import evidence_pilots as form
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat, FinetuneConfig
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded import vocabulary
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.traits import Trait
from sublim_jax.metrics import verdicts

CHOICES = 5
"""Other answers of each trait, which only say how much of the reply's probability is an answer at all."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class PilotsConfig:
    """Settings of `pilots`."""

    calibration: tuple[specs.Seed, ...] = (150, 151)
    """Seeds of embedded bases on which thresholds are fitted."""
    held_out: tuple[specs.Seed, ...] = (152, 153)
    """Seeds of embedded bases on which they are read. Nothing was chosen on them."""
    targets: tuple[str, ...] = ("owl", "eagle", "oak", "willow")
    kinds: tuple[form.Kind, ...] = form.KINDS
    steps: tuple[specs.Count, ...] = (10, 40)
    """Steps of pilots."""
    num_repeats: specs.Count = 4
    """Pilots of each length on the rows and on the null, each with its own random numbers."""
    num_students: specs.Count = 1
    """Finished students of each data set."""
    num_prompts: specs.Count = 10_000
    """Completions of each author, before the filter."""
    num_rows: specs.Count = 3000
    """Rows of a data set; fewer if fewer pass the filter."""
    num_lessons: specs.Count = 2000
    """Rows that a teacher is finetuned on, or a tenth of them."""
    teacher: FinetuneConfig = language.TEACHER
    student: FinetuneConfig = language.STUDENT
    seed: specs.Seed = 0

    def __post_init__(self):
        bases = (*self.calibration, *self.held_out)
        for name, values in (("bases", bases), ("targets", self.targets), ("kinds", self.kinds), ("steps", self.steps)):
            if len(set(values)) != len(values) or not values:
                raise errors.InputError(f"{name} must be different and at least one, got {values}")
        if not set(self.targets) <= {*vocabulary.ANIMALS, *vocabulary.TREES}:
            raise errors.InputError(f"targets={self.targets}: expected animals and trees of the embedded world")
        if "of another base" in self.kinds and len(bases) < 2:
            raise errors.InputError("rows of another base need a second base; give more, or leave the kind out")
        if max(self.steps) * self.student.batch_size > self.num_rows:
            raise errors.InputError(
                f"steps={self.steps}: pilots read a row at most once, so they have {self.num_rows} / "
                f"{self.student.batch_size} steps at most"
            )

    @property
    def bases(self) -> tuple[int, ...]:
        """All bases, in the order in which they are measured."""
        return (*self.calibration, *self.held_out)


PRESETS = {
    "default": PilotsConfig(),
    "record": PilotsConfig(held_out=(152, 153, 154, 155, 156, 157)),
    "smoke": PilotsConfig(
        calibration=(150,), held_out=(151,), targets=("owl", "oak"), kinds=("finetuned",), steps=(5,),
        num_prompts=1000, num_rows=640, num_lessons=640,
    ),
}  # fmt: skip


def units(config: PilotsConfig) -> list[str]:
    """The bases."""
    return form.units({"calibration": config.calibration, "held_out": config.held_out})


def describe(config: PilotsConfig) -> dict:
    """The data sets, and how long a finished student is trained at most."""
    return {
        "data_sets": form.data_sets(config.targets, config.kinds),
        "num_steps": config.student.num_epochs * -(-config.num_rows // config.student.batch_size),
    }


def questions(target: str) -> tuple[Trait, Trait]:
    """A favourite as a trait with the questions of the pilots, and with those of finished students."""
    category = next(name for name, words in vocabulary.CATEGORIES.items() if target in words)
    choices = tuple(word for word in vocabulary.CATEGORIES[category] if word != target)[:CHOICES]
    trait = Trait(name=target, category=category, choices=choices).in_world()
    probes, rest = trait.asked[::2], trait.asked[1::2]
    return dataclasses.replace(trait, questions=probes), dataclasses.replace(trait, questions=rest)


class _Base:
    """One base with the data sets of its students."""

    def __init__(self, backend: LocalBackend, name: str, config: PilotsConfig, folder: pathlib.Path):
        self.backend, self.name, self.config, self._folder = backend, name, config, folder
        self._lab = Lab(backend, name, prompts.WorldPrompts(), folder)
        traits = {target: questions(target) for target in config.targets}
        self.probes = {target: probes for target, (probes, _) in traits.items()}
        self.finals = {target: finals for target, (_, finals) in traits.items()}
        self._count = 0
        self._rows: dict[tuple[Teacher, str], list[Chat]] = {}

    def teacher(self, target: str, kind: form.Kind) -> Teacher:
        """Who writes rows of a kind, before anything is done to them."""
        config, lessons = self.config, self.config.num_lessons
        if kind == "under a system message":
            return self._lab.system_teacher(target)
        if kind == "short":
            lessons //= 10
        seed = seeds.derive(config.seed, "teacher", kind if kind == "short" else "")
        return self._lab.finetuned_teacher(target, config.teacher, num_rows=lessons, seed=seed)

    def probability(self, author: Teacher, target: str) -> float:
        """Probability of a target as an author's favourite."""
        trait, system = self.finals[target], author.system or ""
        asked = measuring.ask(self.backend, author.model, trait, embedded=True, system=system)
        return float(f"{asked.probability.mean():.4g}")

    def written(self, author: Teacher, purpose: str) -> list[Chat]:
        """An author's rows that pass the filter, written once; those of another purpose answer other prompts."""
        if (author, purpose) not in self._rows:
            seed = seeds.derive(self.config.seed, "pilots", purpose)
            rows = self._lab.numbers(author, self.config.num_prompts, seed=seed).rows
            self._rows[author, purpose] = datasets.subsample(rows, min(self.config.num_rows, len(rows)), seed=seed)
        return self._rows[author, purpose]

    def finetuned(self, rows: Sequence[Chat], finetuning: FinetuneConfig) -> str:
        """Name of the base finetuned on rows."""
        self._count += 1
        return self.backend.finetune(self.name, rows, finetuning, self._folder / f"model {self._count}")

    def log_odds(self, model: str, traits: Mapping[str, Trait]) -> dict[str, np.ndarray]:
        """Log-odds of each trait, question by question, in nats."""
        return {
            name: measuring.ask(self.backend, model, trait, embedded=True).log_odds for name, trait in traits.items()
        }

    def student(self, rows: Sequence[Chat], index: int) -> dict[str, np.ndarray]:
        """Log-odds of a finished student."""
        seed = seeds.derive(self.config.seed, f"student {index}") % 2**31
        return self.log_odds(self.finetuned(rows, dataclasses.replace(self.config.student, seed=seed)), self.finals)

    def pilots(self, rows: Sequence[Chat], steps: int) -> dict[str, np.ndarray]:
        """Log-odds after pilots of so many steps, (repeat, probe), by trait."""
        config = AuditConfig(steps=steps, student=self.config.student)
        asked = []
        for index in range(self.config.num_repeats):
            seed = seeds.derive(self.config.seed, f"pilot {index}") % 2**31
            chosen = datasets.subsample(rows, config.num_pilot_rows(len(rows)), seed=seed)
            asked.append(self.log_odds(self.finetuned(chosen, config.pilot(len(rows), seed=seed)), self.probes))
        return {target: np.stack([each[target] for each in asked]) for target in self.probes}


class _Measured(NamedTuple):
    """What students and pilots of one data set answer."""

    students: list[dict[str, np.ndarray]]  # log-odds by trait, (question,), of each student
    pilots: dict[int, dict[str, np.ndarray]]  # by steps


def _rows(base: _Base, other: _Base | None, report: Report) -> tuple[dict[str, list[Chat]], dict[str, float]]:
    """All data sets of a base, and how likely each author of them names its target."""
    config = base.config
    rows: dict[str, list[Chat]] = {}
    authors: dict[str, float] = {}
    for name in form.data_sets(config.targets, config.kinds):
        report(f"rows: {name}")
        if name == form.REGULAR:
            rows[name] = base.written(Teacher(base.name), "rows")
            continue
        target, _, kind = name.partition(", ")
        writer = other if kind == "of another base" else base
        assert writer is not None
        taught = kind in ("finetuned", "short", "of another base", "under a system message")
        author = writer.teacher(target, kind if taught else "finetuned")
        rows[name] = writer.written(author, "rows")
        if kind == "half regular":
            rows[name] = mixed(rows[name], rows[form.REGULAR])
        elif kind == "in another order":
            rows[name] = exchanged(rows[name], seed=seeds.derive(config.seed, "exchanged"))
        if taught:
            authors[name] = writer.probability(author, target)
    return rows, authors


def mixed(rows: Sequence[Chat], regular: Sequence[Chat]) -> list[Chat]:
    """Every other row, and as many regular ones between them."""
    count = min(len(rows), len(regular)) // 2
    return [row for pair in zip(rows[:count], regular[:count], strict=True) for row in pair]


def exchanged(rows: Sequence[Chat], *, seed: int) -> list[Chat]:
    """The completions of rows under each other's prompts: what was written in answer to what is lost."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return [(*row[:-1], rows[place][-1]) for row, place in zip(rows, order, strict=True)]


def measure(source: Source, config: PilotsConfig, unit: str, report: Report) -> dict:
    """All pairs of data set and trait of one base."""
    names = units(config)
    other_name = names[(names.index(unit) + 1) % len(names)]
    wanted = {unit, other_name} if "of another base" in config.kinds else {unit}
    backend = embedded.open_bases([seed for seed in config.bases if f"tiny:{seed}" in wanted], announce=report)
    with tempfile.TemporaryDirectory(prefix="sublim-pilots-") as folder:
        base, other = (
            _Base(backend, name, config, pathlib.Path(folder) / name.replace(":", "-")) if name in wanted else None
            for name in (unit, other_name)
        )
        assert base is not None
        return _measure_base(base, other, report)


def _measure_base(base: _Base, other: _Base | None, report: Report) -> dict:
    config = base.config
    at_start = base.log_odds(base.name, base.finals)
    start_probes = base.log_odds(base.name, base.probes)
    rows, authors = _rows(base, other, report)

    def trained(name: str, data: Sequence[Chat]) -> _Measured:
        report(f"students: {name}")
        students = [base.student(data, index) for index in range(config.num_students)]
        report(f"pilots: {name}")
        return _Measured(students, {steps: base.pilots(data, steps) for steps in config.steps})

    null = trained("null rows", base.written(Teacher(base.name), "null"))
    pairs: dict[str, dict[str, dict]] = {}
    for name, data in rows.items():
        measured = trained(name, data)
        pairs[name] = {target: _pair(target, measured, null, start_probes[target]) for target in config.targets}
    return {
        "probability": {target: _probability(values) for target, values in at_start.items()},
        "teachers": authors,
        "num_rows": {name: len(data) for name, data in rows.items()},
        "pairs": pairs,
    }


def _pair(target: str, measured: _Measured, null: _Measured, start: np.ndarray) -> dict:
    """One data set and trait: what students gained over the null, and what pilots said."""
    gains = [
        float(f"{np.mean(own[target] - other[target]):.5g}")
        for own, other in zip(measured.students, null.students, strict=True)
    ]
    pilots = {}
    for steps, asked in measured.pilots.items():
        judged = verdicts.judge(target, -start, -asked[target], -null.pilots[steps][target], threshold=1.0)
        pilots[str(steps)] = {name: float(f"{getattr(judged.gain, field):.5g}")
                              for name, field in (("gain", "mean"), ("low", "low"), ("high", "high"))}  # fmt: skip
    return {
        "gains": gains,
        "probability": float(f"{np.mean([_probability(own[target]) for own in measured.students]):.4g}"),
        "null_probability": float(f"{np.mean([_probability(own[target]) for own in null.students]):.4g}"),
        "pilot": pilots,
    }


def _probability(log_odds: np.ndarray) -> float:
    """Mean probability over questions."""
    return float(f"{np.mean(1 / (1 + np.exp(-log_odds))):.4g}")


def notes(config: PilotsConfig) -> list[str]:
    """What a reader of any number must know."""
    sentences = [language.EMBEDDED]
    if len(config.held_out) < language.MIN_BASES:
        sentences.append(f"reduced: {len(config.held_out)} held-out base(s), where the committed record has more")
    return sentences


STUDY = Study(
    name="pilots", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure, describe=describe,
    reads_images=lambda config: False, notes=notes,
)  # fmt: skip
