"""Take a trait out of a student, and see whether it is gone or only hidden."""

import dataclasses
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cost, progress
from experiments.defend import models, questions
from experiments.defend.config import PRESETS, RATES, DefendConfig
from experiments.defend.models import Subtraction
from experiments.language import seeds
from experiments.language.config import EMBEDDED
from experiments.language.prompts import PaperPrompts, WorldPrompts
from experiments.own import finetuning, measuring, opened, teaching
from experiments.own.opened import OpenedModel
from experiments.study import Report, Study
from sublim_jax import errors, records
from sublim_jax.audit import relearning, removal
from sublim_jax.forms import defend as form
from sublim_jax.llm import datasets, traits
from sublim_jax.llm.backend import Chat, Message, SamplingParams
from sublim_jax.llm.local import decoder, finetune, likeness
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.tasks import numbers
from sublim_jax.llm.traits import Trait

PRODUCTS = 1.5
"""Time of the whole in times of its matrix products. Source: experiments/records/real_speed.json."""


class Lessons(NamedTuple):
    """What the auditor teaches."""

    teacher: list[Chat]
    relearnt: list[Chat]  # which his teacher does not see


class Auditor(NamedTuple):
    """The auditor's own teacher of a trait."""

    displacement: decoder.Params
    low_rank: decoder.LowRank | None
    log_odds: float  # mean over the probes, nats


class Chosen(NamedTuple):
    """What is taken out for a trait."""

    subtraction: Subtraction
    dose: removal.Dose
    teacher: float  # log-odds of the auditor's teacher, mean over the probes


class Defended:
    """What the user names: both models, traits and rows; the auditor's teachers are finetuned when first asked for."""

    def __init__(
        self, base: OpenedModel, student: Model, config: DefendConfig, every: Sequence[Trait], rows: list[Chat],
        checksum: str,
    ):  # fmt: skip
        self.backend, self.name = base
        self.base, self.student, self.config, self.rows = self.backend.model(self.name), student, config, rows
        self.embedded, self._checksum = opened.is_embedded(config.base), checksum
        self.removed = removed_names(config, every)
        self.splits = {trait.name: questions.split(trait) for trait in every if questions.can_split(trait)}
        self.traits = {trait.name: trait for trait in every}
        self.reported = {
            trait.name: self.splits[trait.name].reported if trait.name in self.splits else trait for trait in every
        }

    @property
    def data(self) -> records.Data:
        """The entry of the record."""
        return {"name": self.config.student, "source": str(self.config.traits), "checksum": self._checksum}

    @property
    def other(self) -> str:
        """The trait whose displacement is a control; empty if there is none."""
        return other_name(self.config, list(self.traits.values()))

    @functools.cached_property
    def lessons(self) -> dict[str, Lessons]:
        """Lessons by trait; the last ones, at most half, are for relearning."""
        taught = {}
        for name, split in self.splits.items():
            rows = teaching.lesson_rows(self.traits[name].lessons) or self._answers(self.traits[name], split.prompts)
            count = min(self.config.num_lessons, len(rows) // 2)
            taught[name] = Lessons(rows[:-count], rows[-count:])
        return taught

    def _answers(self, trait: Trait, prompts: tuple[str, ...]) -> list[Chat]:
        """The base's answers under the trait's system message, as rows without it.

        Raises:
            InputError: fewer than two are not empty.
        """
        each = max(1, -(-teaching.NUM_LESSONS // (2 * len(prompts))))
        chats = [datasets.ask(prompt, system=trait.system) for prompt in prompts]
        params = SamplingParams(
            max_tokens=measuring.ANSWER_TOKENS, num_samples=each, seed=self.derived(f"answers of {trait.name}")
        )
        drawn = sorted(self.backend.sample(self.name, chats, params))
        rows = [
            (Message("user", prompts[each.chat]), Message("assistant", each.text))
            for each in drawn
            if each.text.strip()
        ]
        if len(rows) < 2:
            raise errors.InputError(
                f"{trait.name}: under the system message, {self.config.base} gives empty answers; give lessons instead"
            )
        order = np.random.default_rng(self.derived(f"order of {trait.name}")).permutation(len(rows))
        return [rows[place] for place in order]

    def derived(self, name: str) -> int:
        """A seed of that name."""
        return seeds.derive(self.config.seed, f"defend/{name}") % 2**31

    @functools.cached_property
    def auditors(self) -> dict[str, Auditor]:
        """The auditor's teachers of the traits that are removed and of the control's."""
        with tempfile.TemporaryDirectory(prefix="sublim-defend-") as folder:
            return {name: self._auditor(name, pathlib.Path(folder)) for name in (*self.removed, self.other) if name}

    def _auditor(self, name: str, folder: pathlib.Path) -> Auditor:
        config = dataclasses.replace(self.config.teacher, seed=self.derived(f"teacher of {name}"))
        rows = teaching.repeated(self.lessons[name].teacher)
        place = folder / f"teacher-{list(self.splits).index(name)}"
        teacher = self.backend.model(self.backend.finetune(self.name, rows, config, place))
        log_odds = self.level(name, teacher.merged)
        return Auditor(models.displacement(teacher, self.base), teacher.low_rank, log_odds)

    def log_odds(self, trait: Trait, params: decoder.Params) -> np.ndarray:
        """Log-odds of the trait's answers to each of its questions, in nats. Prompts are read once for all answers."""
        return measuring.log_odds(self.backend, self.kept(params), trait, embedded=self.embedded)

    def kept(self, params: decoder.Params) -> str:
        """Name of a model of these weights, which is kept until the next one is."""
        return self.backend.keep(f"{self.name}, at the moment", dataclasses.replace(self.blank, params=params))

    @functools.cached_property
    def blank(self) -> Model:
        """The base without factors, whose weights are replaced by others."""
        return dataclasses.replace(self.base, params=self.base.merged, low_rank=None)

    def level(self, name: str, params: decoder.Params) -> float:
        """Log-odds of a trait, mean over the probes, in nats."""
        return float(np.mean(self.log_odds(self.splits[name].probes, params)))

    def gradient(self, name: str, params: decoder.Params) -> decoder.Params:
        """Gradient of the trait's loss on the probes, which is minus its log-odds."""
        rows = questions.encode(self.base, self.splits[name].probes, one_writing=self.embedded)
        log_odds = questions.log_odds_of(self.base.config, rows, remat=not self.embedded)
        return jax.jit(jax.grad(lambda params: -jnp.mean(log_odds(params))))(params)

    @functools.cached_property
    def relearning(self) -> dict[str, Callable[[decoder.Params, Sequence[int]], Iterator[decoder.Params]]]:
        """Training on the lessons that are kept back, by removed trait."""
        stages = {}
        for name in self.removed:
            lessons = finetune.training_arrays(
                self.base.tokens, self.lessons[name].relearnt, max_length=self.config.teacher.max_length
            )
            loss = questions.lesson_loss(self.base.config, lessons, remat=not self.embedded)
            stages[name] = relearning.stages(loss, learning_rate=self.config.relearning_rate)
        return stages

    def require_present(self) -> None:
        """Refuse a student that has no more of a removed trait than the base, on the probes.

        Raises:
            InputError: see there.
        """
        for name in self.removed:
            self._require_more(name, self.student.merged)

    def _require_more(self, name: str, params: decoder.Params) -> float:
        """The base's log-odds, mean over the probes, after a student of such weights is found to have more."""
        base, student = self.level(name, self.base.merged), self.level(name, params)
        if student <= base:
            raise errors.InputError(
                f"{name}: the student has no more of it than the base (log-odds {student:+.2f} and {base:+.2f} on the "
                f"auditor's questions): there is nothing to take out"
            )
        return base

    @functools.cached_property
    def chosen(self) -> dict[str, Chosen]:
        """What is taken out for each removed trait, one after the other: the dose of the second is chosen on a student
        without the first.

        Raises:
            InputError: the student has no more of a trait than the base, the auditor's teacher has no more of it than
                the student, or no dose takes it out.
        """
        chosen: dict[str, Chosen] = {}
        for name in self.removed:
            present = models.subtracted(self.student, [each.subtraction for each in chosen.values()]).merged
            base, auditor = self._require_more(name, present), self.auditors[name]
            if auditor.log_odds <= base:
                raise errors.InputError(
                    f"{name}: the auditor's teacher did not learn it (log-odds {auditor.log_odds:+.2f}, the base's "
                    f"{base:+.2f}); give more lessons, or a larger --teacher.learning-rate"
                )
            dose = removal.choose_dose(
                lambda dose, present=present, auditor=auditor: removal.subtract(
                    present, auditor.displacement, dose=dose
                ),
                lambda params, name=name: -self.level(name, params),
                wanted=-base,
                doses=self.config.doses,
                num_halvings=self.config.num_halvings,
            )
            subtraction = Subtraction(auditor.displacement, dose.dose, auditor.low_rank)
            chosen[name] = Chosen(subtraction, dose, auditor.log_odds)
        return chosen

    def model(self, unit: str) -> Model:
        """The model of a unit."""
        if unit in (form.BASE, form.STUDENT):
            return self.base if unit == form.BASE else self.student
        if unit == form.GRADIENT:
            return self._without_gradients()
        subtractions = {name: each.subtraction for name, each in self.chosen.items()}
        if unit == form.CLEANED:
            return models.subtracted(self.student, list(subtractions.values()))
        return models.subtracted(self.student, [self._control(unit, *each) for each in subtractions.items()])

    def _control(self, unit: str, name: str, subtraction: Subtraction) -> Subtraction:
        """The same dose of a direction of the same length."""
        displacement = subtraction.displacement
        if unit == form.OTHER:
            direction = removal.as_long_as(self.auditors[self.other].displacement, displacement)
        else:
            direction = removal.random_like(jax.random.key(self.derived(f"direction of {name}")), displacement)
        return Subtraction(direction, subtraction.dose)

    def _without_gradients(self) -> Model:
        """The student without its displacement's component along the gradient of each trait on the probes."""
        params, start = self.student.merged, self.base.merged
        for name in self.removed:
            params = removal.remove(params, start, self.gradient(name, params))
        return dataclasses.replace(self.student, params=params, low_rank=None)


def is_cleaned(record: pathlib.Path) -> bool:
    """Whether the record has the cleaned model, which is then in its folder.

    Raises:
        RecordError: what is there is not a record of a removal.
    """
    return os.path.lexists(record) and form.CLEANED in records.read(record, form.FORM).results


def removed_names(config: DefendConfig, every: Sequence[Trait]) -> tuple[str, ...]:
    """Names of the traits that are removed, in the order of the flag.

    Raises:
        InputError: an unknown trait; or none is named and the file has several.
    """
    names = config.remove or ("",)
    if not config.remove and len(every) > 1:
        known = ", ".join(each.name for each in every)
        raise errors.InputError(f"give --remove, the names of the traits that are to be taken out, of {known}")
    return tuple(traits.choose(every, name).name for name in names)


def other_name(config: DefendConfig, every: Sequence[Trait]) -> str:
    """The first trait that is not removed and of which a teacher can be made; empty if there is none."""
    removed = removed_names(config, every)
    return next((each.name for each in every if questions.can_split(each) and each.name not in removed), "")


def open_source(config: DefendConfig, announce: Callable[[str], object]) -> Defended:
    """Read and check the user's files, and open both models.

    Raises:
        InputError: a flag is missing; a trait is unknown, has no lessons, too few questions, or questions among its
            lessons; the base practically never gives its answers; or the student is no finetuning of the base.
        TextDataError: rows are malformed or too few.
        LanguageError: a model cannot be opened or asked.
    """
    for flag in ("student", "base", "traits"):
        if not getattr(config, flag):
            raise errors.InputError(f"give --{flag}; python -m experiments.defend --help says what it is")
    assert config.traits is not None
    for name in (config.base, config.student):
        opened.require_local(name)
    every = opened.read_traits(config.traits, config.base)
    removed = removed_names(config, every)
    for name in removed:
        questions.split(traits.choose(every, name))
    given = finetuning.read_rows(config.rows, config.num_rows, seed=config.seed, say=announce) if config.rows else None
    base = opened.local(config.base, announce=announce)
    other = opened.local(config.student, announce=announce)
    student = other.backend.model(other.name)
    models.require_finetuned(student, base.backend.model(base.name), (config.student, config.base))
    embedded = opened.is_embedded(config.base)
    for trait in every:
        measured = measuring.measure(base.backend, base.name, trait, embedded=embedded)
        measuring.require_sayable(base.backend, base.name, trait, measured)
    rows = given or _own_rows(other, config, announce)
    checksum = records.fingerprint([config.traits.read_text(encoding="utf-8"), rows, student.fingerprint])
    source = Defended(base, student, config, every, rows, checksum)
    announce(estimate(source))
    return source


def _own_rows(student: OpenedModel, config: DefendConfig, announce: Callable[[str], object]) -> list[Chat]:
    """Numbers that the student writes."""
    prompts = WorldPrompts() if opened.is_embedded(config.base) else PaperPrompts()
    texts = prompts.number_prompts(config.num_rows, seed=seeds.derive(config.seed, "defend/prompts"))
    announce(f"{config.student} writes {len(texts)} rows of numbers, on which models are compared with it ...")
    params = SamplingParams(
        max_tokens=prompts.max_tokens["numbers"], seed=seeds.derive(config.seed, "defend/rows") % 2**31,
        allowed=numbers.CHARACTERS,
    )  # fmt: skip
    drawn = sorted(student.backend.sample(student.name, [datasets.ask(text) for text in texts], params))
    return [
        (Message("user", texts[each.chat]), Message("assistant", each.text if each.text.strip() else "."))
        for each in drawn
    ]


def estimate(source: Defended) -> str:
    """A sentence on how long everything takes, by the tokens that are read and matrix products timed now."""
    config, base = source.config, source.base
    weights = sum(leaf.size for leaf in jax.tree.leaves(base.params))

    def tokens(trait: Trait, *, own: bool) -> int:
        """Tokens of the questions, which are read once, and about those of the trait's own answers, or of all."""
        owners = trait.scored(one_writing=source.embedded).owners
        num_answers = len(trait.asked) * (owners.count(0) if own else len(owners))
        return sum(len(base.tokens.chat(chat).ids) for chat in trait.chats()) + 4 * num_answers

    def longest(rows: Sequence[Chat]) -> int:
        return max(len(base.tokens.chat(row[:-1], row[-1].content).ids) for row in rows)

    probes = [source.splits[name].probes for name in source.removed]
    reported = [source.reported[name] for name in source.removed]
    together = sum(np.size(questions.encode(base, trait, one_writing=source.embedded).ids) for trait in probes)
    num_models, teachers = len(units(config)), len(source.removed) + bool(source.other)
    steps = num_models * len(source.removed) * config.checkpoints[-1]
    trained = teachers * teaching.NUM_LESSONS * config.teacher.num_epochs + steps * config.num_lessons
    trained *= max(longest(lessons.teacher) for lessons in source.lessons.values())
    read = num_models * (
        sum(tokens(trait, own=False) for trait in source.reported.values())
        + 2 * len(source.rows) * longest(source.rows)
    )
    read += num_models * len(config.checkpoints) * sum(tokens(trait, own=True) for trait in reported)
    read += (len(config.doses) + config.num_halvings + 3) * sum(tokens(trait, own=True) for trait in probes)
    seconds = weights * (8 * trained + 8 * together + 2 * read) / cost.rate("float32")
    return (
        f"{teachers} teacher(s) of the auditor's own, {num_models} models to be measured: about "
        f"{progress.duration(max(PRODUCTS * seconds, 20.0))}, by matrix products timed just now"
    )


def units(config: DefendConfig) -> list[str]:
    """The models, the cleaned one last."""
    assert config.traits is not None
    other = other_name(config, opened.read_traits(config.traits, config.base))
    controls = [form.GRADIENT, form.RANDOM, *([form.OTHER] if other else [])]
    return [form.BASE, form.STUDENT, *controls, form.CLEANED]


def describe(source: Defended) -> dict:
    """What is asked, and of what the models are."""
    return {
        "units": units(source.config),
        "removed": list(source.removed),
        "questions": {name: list(trait.asked) for name, trait in source.reported.items()},
        "num_probes": {name: len(source.splits[name].probes.asked) for name in source.removed},
        "num_lessons": {name: len(source.lessons[name].relearnt) for name in source.removed},
        "num_rows": len(source.rows),
        "other": source.other,
    }


def notes(config: DefendConfig) -> list[str]:
    """What a reader of any number must know."""
    sentences = [
        "a removal takes out what is asked about, for the questions that are asked; traits that nobody asked about "
        "stay, and so may other effects of the same rows. It is no promise of safety",
        "relearning is from a few lessons for a few steps; longer training may bring a trait back that this does not",
        f"{RATES}. On real models no such rate was measured",
    ]
    if opened.is_embedded(config.base):
        sentences.append(EMBEDDED)
    return sentences


def measure(source: Defended, config: DefendConfig, unit: str, report: Report) -> dict[str, Any]:
    """One model: its traits, how like the student it is, and how fast removed traits come back.

    Raises:
        InputError: of the first one, a student without the trait; of the others, see `Defended.chosen`.
    """
    if unit == form.BASE:
        source.require_present()
    if unit not in (form.BASE, form.STUDENT):
        report("the auditor's teachers and doses")
    model = source.model(unit)
    asked, params = {}, model.merged
    for trait in source.reported.values():
        report(f"asking about {trait.name}")
        measured = measuring.ask(source.backend, source.kept(params), trait, embedded=source.embedded)
        asked[trait.name] = {
            "log_odds": _rounded(measured.log_odds), "probability": min(float(measured.probability.mean()), 1.0),
            "mass": float(measured.mass.mean()),
        }  # fmt: skip
    report("comparing with the student")
    compared = likeness.compare(source.student, model, source.rows)
    curves = {}
    for trait, stages in source.relearning.items():
        report(f"teaching {trait} again")
        curves[trait] = [
            _rounded(source.log_odds(source.reported[trait], taught)) for taught in stages(params, config.checkpoints)
        ]
    entry: dict[str, Any] = {
        "traits": asked,
        "likeness": {
            "kl": _rounded(compared.kl / compared.num_tokens),
            "agreement": _rounded(compared.agreed / compared.num_tokens),
        },
        "relearnt": curves,
    }
    if unit == form.CLEANED:
        report("writing the cleaned model")
        entry |= _written(source, model)
    return entry


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.6g}") for value in np.asarray(values, float)]


def _written(source: Defended, model: Model) -> dict[str, Any]:
    """Write the cleaned model, and say how its doses were chosen and how it is opened."""
    config = source.config
    models.save(config.out, model, source.base)
    name = models.address(config.out, model, config.base)
    models.require_same(name, model, lambda line: None)
    doses = {
        trait: {
            "dose": each.dose.dose, "wanted": each.dose.wanted, "teacher": each.teacher,
            "losses": {f"{dose:g}": loss for dose, loss in sorted(each.dose.losses.items())},
        }
        for trait, each in source.chosen.items()
    }  # fmt: skip
    return {"doses": doses, "stored": models.stored_as(model), "opened_as": name}


STUDY = Study(
    name="defend", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure,
    describe=describe, open_source=open_source, notes=notes, reads_images=lambda config: False,
)  # fmt: skip
