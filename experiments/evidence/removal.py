"""Can a preference that passed through numbers be taken out of a student, and does it come back?

    python -m experiments.evidence removal
    python -m experiments.evidence removal --preset record
    python -m experiments.evidence removal --preset smoke      reduced

On every embedded base, a student is trained on the numbers of a teacher that was finetuned on a favourite, as
`experiments.language numbers` does it. The auditor has the base, lessons of his own and a quarter of the held-out
questions as probes; what is reported is on half of them, and lessons of relearning are from the rest. He subtracts a
dose of his own teacher's displacement, whole or cut to a rank, chosen so that the probes are answered as by the base.
Controls are the displacement of another base's teacher, of another favourite's, a random direction of equal length, and
shrinking; beside them stands the gradient of the probes, projected out. Steering adds one vector to the residual
stream: the mean difference of two models on number rows or on probes. Of each edit the study has the favourite, the
divergence from the student on rows it was not trained on, what happens to the other names, and the favourite after a
few lessons.
"""

import atexit
import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.defend import questions
from experiments.language import config as language
from experiments.language import prompts, protocol, seeds
from experiments.language.lab import Lab
from experiments.language.numbers import NumbersConfig
from experiments.study import Report, Source, Study
from sublim_jax import errors, specs
from sublim_jax.audit import relearning, removal
from sublim_jax.forms import evidence_removal as form
from sublim_jax.llm.backend import Chat, FinetuneConfig, Message
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded import vocabulary
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder, finetune, likeness
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.traits import Trait

RANKS = (1, 2, 4, 8)
DOSES = (0.25, 0.5, 2.0)
"""Shares of the chosen dose."""


class Questions(NamedTuple):
    """The held-out questions, which no teacher has seen."""

    reported: list[str]
    probes: list[str]
    lessons: list[str]  # of relearning


def parts(category: str) -> Questions:
    """Every other held-out question is reported; of the rest, every other one is a probe."""
    asked = prompts.WorldPrompts().favourite_questions(category)
    return Questions(asked[0::2], asked[1::4], asked[3::4])


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class RemovalConfig:
    """Settings of `removal`."""

    bases: tuple[specs.Seed, ...] = (120, 121)
    """Seeds of embedded bases; the next one of each is its other reference. Nothing was chosen on seeds from 120 on."""
    target: str = "owl"
    other: str = "eagle"
    """The favourite of the control's teacher, of the same category."""
    categories: tuple[str, ...] = ("animal", "tree")
    """Categories whose other names are compared."""
    num_prompts: specs.Count = 8000
    """Completions of a teacher, before the filter."""
    num_rows: specs.Count = 3000
    """Rows that a student is trained on."""
    num_lessons: specs.Count = 2000
    """Rows that a teacher is finetuned on."""
    num_compared: specs.Count = 128
    """Further rows, on which edits are compared with the student."""
    doses: tuple[specs.NonNegative, ...] = (0.0, 0.015625, 0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0, 2.0)
    num_halvings: specs.CountOrZero = 4
    num_relearnt: specs.Count = 8
    """Held-out questions from whose answer the favourite is relearnt; no teacher has seen them."""
    checkpoints: tuple[specs.CountOrZero, ...] = (0, 1, 2, 4, 8)
    relearning_rate: specs.Positive = 3e-4
    seed: specs.Seed = 0
    teacher: FinetuneConfig = language.TEACHER
    student: FinetuneConfig = language.STUDENT

    def __post_init__(self):
        if len(set(self.bases)) < len(self.bases) or len(self.bases) < 2:
            raise errors.InputError(f"bases must be two or more and different, got {self.bases}")
        names = prompts.WorldPrompts()
        category = names.category(self.target)
        if self.other == self.target or names.category(self.other) != category or category not in self.categories:
            raise errors.InputError(
                f"other={self.other}: expected another name of the category of {self.target}, which is one of "
                f"categories={self.categories}"
            )
        for name in self.categories:
            names.choices(name)
        if self.num_relearnt > (most := len(parts(category).lessons)):
            raise errors.InputError(
                f"num_relearnt={self.num_relearnt}: there are {most} held-out questions for lessons"
            )
        if list(self.checkpoints) != sorted(set(self.checkpoints)) or self.checkpoints[:1] != (0,):
            raise errors.InputError(f"checkpoints must increase from 0, got {list(self.checkpoints)}")
        _ = self.numbers  # which refuses what that experiment refuses

    @property
    def numbers(self) -> NumbersConfig:
        """The settings of `experiments.language numbers` that make the students."""
        return NumbersConfig(
            bases=self.bases, targets=(self.target,), kinds=("finetuned",), num_prompts=self.num_prompts,
            num_rows=self.num_rows, num_lessons=self.num_lessons, seed=self.seed, teacher=self.teacher,
            student=self.student,
        )  # fmt: skip


PRESETS = {
    "default": RemovalConfig(),
    "record": RemovalConfig(bases=tuple(range(120, 128))),
    "smoke": RemovalConfig(
        bases=(0, 1), num_prompts=800, num_rows=300, num_lessons=320, num_compared=32, num_halvings=1,
        checkpoints=(0, 2),
    ),
}  # fmt: skip


class Edit(NamedTuple):
    """A student after an edit, and the dose if one was chosen."""

    params: decoder.Params
    dose: float | None = None
    chosen: bool = False


class Row(NamedTuple):
    """One row of the study."""

    name: str
    kind: str
    make: Callable[["Lineage"], Edit]


class _Instruments(NamedTuple):
    """What is measured, as compiled functions of a base's weights; they serve all bases, whose shapes are equal."""

    probes: Callable[[decoder.Params], Any]  # log-odds of the target, (probe,)
    gradient: Callable[[decoder.Params], decoder.Params]  # of the loss on the probes
    reported: Callable[[decoder.Params], Any]  # the same on the questions that are reported, (question,)
    stages: Callable[[decoder.Params, Sequence[int]], Iterator[decoder.Params]]  # of relearning
    names: dict[str, Callable[[decoder.Params], Any]]  # log-probability of each name, (question, name), by category


def _trait(name: str, answers: Sequence[str], asked: Sequence[str]) -> Trait:
    return Trait(name=name, questions=tuple(asked), answers=tuple(answers), choices=("nothing",))


@functools.lru_cache(maxsize=1)
def _instruments(config: RemovalConfig) -> _Instruments:
    reader, category = WordTokenizer(), prompts.WorldPrompts().category(config.target)
    blank = Model(embedded.CONFIG, decoder.init(jax.random.key(0), embedded.CONFIG), reader)
    asked = parts(category)

    def log_odds(target: str, asked: Sequence[str]) -> questions.LogOdds:
        rows = questions.encode(blank, _trait(target, [target], asked), one_writing=True)
        return questions.log_odds_of(embedded.CONFIG, rows, remat=False)

    def logprobs_of_names(category: str) -> Callable[[decoder.Params], Any]:
        names = vocabulary.CATEGORIES[category]
        rows = questions.encode(blank, _trait(category, names, parts(category).reported), one_writing=True)
        logprobs = questions.row_logprobs(embedded.CONFIG, questions.flat(rows), remat=False)
        return lambda params: logprobs(params).reshape(-1, len(names))

    lessons = [
        (Message("user", question), Message("assistant", config.target))
        for question in asked.lessons[: config.num_relearnt]
    ]
    data = finetune.training_arrays(reader, lessons, max_length=config.teacher.max_length)
    loss, probes = questions.lesson_loss(embedded.CONFIG, data, remat=False), log_odds(config.target, asked.probes)
    return _Instruments(
        probes=jax.jit(probes),
        gradient=jax.jit(jax.grad(lambda params: -jnp.mean(probes(params)))),
        reported=jax.jit(log_odds(config.target, asked.reported)),
        stages=relearning.stages(loss, learning_rate=config.relearning_rate),
        names={name: jax.jit(logprobs_of_names(name)) for name in config.categories},
    )


class Lineage:
    """A base with its student, and what edits of the student are made of."""

    def __init__(self, backend: LocalBackend, config: RemovalConfig, unit: str, folder: pathlib.Path, report: Report):
        self.config, self.unit, self.backend, self._folder = config, unit, backend, folder
        self.instruments = _instruments(config)
        self.lab = self._lab(unit)
        report("teacher and its rows")
        author = protocol.teacher_of(self.lab, config.numbers, "finetuned", config.target)
        filtered = self.lab.numbers(author, config.num_prompts, seed=config.seed)
        numbers = dataclasses.replace(config.numbers, num_rows=num_trained(config, len(filtered.rows)))
        data = self.data = protocol.student_rows(numbers, filtered)
        self.kept = filtered.kept_fraction
        self.rows = _others(filtered.rows, data, config.num_compared)
        report("students")
        student = protocol.student_of(self.lab, numbers, data, f"student of {config.target}")
        self.base, self.author, self.undefended = (
            backend.model(name).merged for name in (self.lab.base, author.model, student)
        )
        report("auditor's teachers")
        index = config.bases.index(int(unit.rpartition(":")[2]))
        self.own = self.auditor(unit, config.target)
        self.other_trait = self.auditor(unit, config.other)
        self.other_base = self.auditor(
            form.units({"bases": config.bases})[(index + 1) % len(config.bases)], config.target
        )

    @functools.cached_property
    def regular(self) -> decoder.Params:
        """The base trained on its own numbers."""
        numbers = self.config.numbers
        rows = self.lab.numbers(
            protocol.teacher_of(self.lab, numbers, "regular", ""), self.config.num_prompts, seed=self.config.seed
        )
        name = protocol.student_of(self.lab, numbers, protocol.student_rows(numbers, rows), "student of regular")
        return self.backend.model(name).merged

    def _lab(self, base: str) -> Lab:
        return Lab(self.backend, base, prompts.WorldPrompts(), self._folder / base.replace(":", "-"))

    def auditor(self, base: str, target: str, *, rate: float = 1.0) -> decoder.Params:
        """The displacement of the auditor's own teacher, with lessons and random numbers of its own.

        Args:
            rate: its learning rate, as a share of that of the rows' author.
        """
        config = self.config
        recipe = dataclasses.replace(config.teacher, learning_rate=rate * config.teacher.learning_rate)
        teacher = self._lab(base).finetuned_teacher(
            target, recipe, num_rows=config.num_lessons, seed=seeds.derive(config.seed, "auditor")
        )
        return optax.tree.sub(self.backend.model(teacher.model).merged, self.backend.model(base).merged)

    def model(self, params: decoder.Params) -> Model:
        """Weights as a model of the base's vocabulary."""
        return dataclasses.replace(self.backend.model(self.unit), params=params, low_rank=None, origin=None)

    def level(self, params: decoder.Params) -> float:
        """Log-odds of the target, mean over the probes."""
        return float(jnp.mean(self.instruments.probes(params)))

    def chosen(self, edit: Callable[[float], decoder.Params]) -> Edit:
        """The student after the smallest dose at which probes are answered as by the base.

        Where no dose suffices, the student is as it was.
        """
        try:
            dose = removal.choose_dose(
                edit, lambda params: -self.level(params), wanted=-self.level(self.base), doses=self.config.doses,
                num_halvings=self.config.num_halvings,
            )  # fmt: skip
        except errors.DoseError:
            return Edit(edit(0.0), None, True)
        return Edit(dose.params, dose.dose, True)

    def subtracted(self, displacement: decoder.Params) -> Edit:
        """The student less a chosen dose of a displacement."""
        return self.chosen(lambda dose: removal.subtract(self.undefended, displacement, dose=dose))

    @functools.cached_property
    def dose(self) -> float:
        """The dose of the auditor's displacement; 0 if none sufficed."""
        return self.subtracted(self.own).dose or 0.0

    def at_the_same_dose(self, displacement: decoder.Params, share: float = 1.0) -> Edit:
        """The student less the auditor's dose, or a share of it, of a displacement."""
        return Edit(removal.subtract(self.undefended, displacement, dose=share * self.dose))

    @functools.cached_property
    def random(self) -> decoder.Params:
        """A random direction, each tensor as long as in the auditor's displacement."""
        key = jax.random.key(seeds.derive(self.config.seed, "random", self.unit) % 2**31)
        return removal.random_like(key, self.own)

    def difference(self, model: decoder.Params, on: Literal["numbers", "probes"]) -> Any:
        """Mean of `differences` over places, (layer, hidden)."""
        return jnp.mean(self.differences(model, on), axis=1)

    def differences(self, model: decoder.Params, on: Literal["numbers", "probes"]) -> Any:
        """Difference of a model's residual stream from the base's, (layer, place, hidden), in every reply to number
        rows or at the end of the probes."""
        if on == "numbers":
            data = finetune.training_arrays(WordTokenizer(), self.rows, max_length=64)
            places = np.asarray(data.replies)
        else:
            category = prompts.WorldPrompts().category(self.config.target)
            asked = _trait(self.config.target, [self.config.target], parts(category).probes)
            data = questions.flat(questions.encode(self.model(self.base), asked, one_writing=True))
            places = np.roll(np.asarray(data.replies), -1, axis=1) & ~np.asarray(data.replies)
        streams = [_streams(params, jnp.asarray(data.ids), jnp.asarray(data.valid)) for params in (model, self.base)]
        return (streams[0] - streams[1])[:, places]


@jax.jit
def _streams(params: decoder.Params, ids: Any, valid: Any) -> Any:
    return decoder.residual_streams(params, ids, valid, embedded.CONFIG)


def num_trained(config: RemovalConfig, num_passed: int) -> int:
    """Rows of the student, where so many passed the filter: those that are compared are kept from it."""
    return min(config.num_rows, max(num_passed - config.num_compared, 1))


def _others(rows: Sequence[Chat], taken: Sequence[Chat], count: int) -> list[Chat]:
    """The first rows that are not among those that were taken.

    Raises:
        TextDataError: too few are left.
    """
    known = set(taken)
    left = [row for row in rows if row not in known]
    if len(left) < count:
        raise errors.TextDataError(
            f"expected {count} rows beside the student's, but only {len(left)} passed the filter; give more "
            f"--num-prompts"
        )
    return left[:count]


def truncated(displacement: decoder.Params, rank: int) -> decoder.Params:
    """A displacement of which every map, and the embedding, keeps its largest singular values only."""

    def cut(leaf):
        left, values, right = np.linalg.svd(np.asarray(leaf), full_matrices=False)
        return jnp.asarray((left[..., :rank] * values[..., None, :rank]) @ right[..., :rank, :])

    maps = {name: cut(leaf) for name in decoder.PROJECTIONS if (leaf := getattr(displacement.layers, name)) is not None}
    return displacement._replace(embedding=cut(displacement.embedding), layers=displacement.layers._replace(**maps))


def steered(params: decoder.Params, vectors: Any, layer: int, dose: float) -> decoder.Params:
    """A model to whose residual stream a vector is added after a layer, at every place: a bias of its last map.

    Args:
        vectors: (layer, hidden), of which that of the layer is added, `dose` times.
    """
    bias = jnp.zeros_like(vectors).at[layer].set(dose * vectors[layer])
    before = params.layers.down_bias
    return params._replace(layers=params.layers._replace(down_bias=bias if before is None else before + bias))


def rows() -> Iterator[Row]:
    """Every edit."""
    yield Row("base", "yardstick", lambda x: Edit(x.base))
    yield Row("student of regular numbers", "yardstick", lambda x: Edit(x.regular))
    yield Row("none", "yardstick", lambda x: Edit(x.undefended))
    yield Row("auditor's displacement, chosen", "displacement", lambda x: x.subtracted(x.own))
    yield Row("auditor's displacement at a third of the rate, chosen", "displacement",
              lambda x: x.subtracted(x.auditor(x.unit, x.config.target, rate=1 / 3)))  # fmt: skip
    for share in DOSES:
        yield Row(f"auditor's displacement, {share:g} of that dose", "dose",
                  lambda x, s=share: x.at_the_same_dose(x.own, s))  # fmt: skip
    for rank in RANKS:
        yield Row(f"auditor's displacement, rank {rank}, chosen", "rank",
                  lambda x, r=rank: x.subtracted(truncated(x.own, r)))  # fmt: skip
    controls: dict[str, Callable[[Lineage], decoder.Params]] = {
        "another base's displacement": lambda x: x.other_base,
        "another favourite's displacement": lambda x: x.other_trait,
        "random direction": lambda x: x.random,
    }
    for name, direction in controls.items():
        yield Row(f"{name}, same length and dose", "control",
                  lambda x, d=direction: x.at_the_same_dose(removal.as_long_as(d(x), x.own)))  # fmt: skip
        yield Row(f"{name}, chosen", "control", lambda x, d=direction: x.subtracted(d(x)))
    yield Row("shrink the student's displacement, chosen", "control",
              lambda x: x.subtracted(optax.tree.sub(x.undefended, x.base)))  # fmt: skip
    for where in ("base", "student"):
        yield Row(
            f"gradient at the {where}, projected out", "gradient", functools.partial(_without_gradient, where=where)
        )
    for layer in range(embedded.CONFIG.num_layers):
        after = f"layer {layer + 1}"
        yield Row(f"base plus the student's mean difference on numbers, {after}", "steering", lambda x, n=layer: Edit(
            steered(x.base, x.difference(x.undefended, "numbers"), n, 1.0)))  # fmt: skip
        yield Row(f"student less its mean difference on numbers, {after}", "steering", lambda x, n=layer: Edit(
            steered(x.undefended, x.difference(x.undefended, "numbers"), n, -1.0)))  # fmt: skip
        for on in ("numbers", "probes"):
            yield Row(f"student less the auditor's mean difference on {on}, {after}, chosen", "steering",
                      functools.partial(_less_difference, layer=layer, on=on))  # fmt: skip


def _without_gradient(lineage: Lineage, *, where: str) -> Edit:
    """The student without its displacement's component along the gradient of the probes' loss."""
    at = lineage.base if where == "base" else lineage.undefended
    return Edit(removal.remove(lineage.undefended, lineage.base, lineage.instruments.gradient(at)))


def _less_difference(lineage: Lineage, *, layer: int, on: Literal["numbers", "probes"]) -> Edit:
    """The student less a chosen dose of the auditor's teacher's mean difference from the base."""
    vectors = lineage.difference(optax.tree.add(lineage.base, lineage.own), on)
    return lineage.chosen(lambda dose: steered(lineage.undefended, vectors, layer, -dose))


ROWS = tuple(rows())


@functools.lru_cache(maxsize=1)
def opened(bases: tuple[int, ...]) -> tuple[LocalBackend, pathlib.Path]:
    """The bases, and a folder for finetuned models, once for all units of a run."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return embedded.open_bases(bases), pathlib.Path(folder.name)


def units(config: RemovalConfig) -> list[str]:
    """The bases."""
    return form.units({"bases": config.bases})


def describe(config: RemovalConfig) -> dict:
    """The edits, and what is asked."""
    asked = parts(prompts.WorldPrompts().category(config.target))
    return {
        "rows": {row.name: {"kind": row.kind} for row in ROWS}, "categories": list(config.categories),
        "num_questions": len(asked.reported), "num_probes": len(asked.probes), "num_lessons": config.num_relearnt,
    }  # fmt: skip


def notes(config: RemovalConfig) -> list[str]:
    """What a reader of any number must know."""
    sentences = [
        language.EMBEDDED,
        "the auditor's teacher is finetuned like the author of the rows, on other lessons: a best case; one row has a "
        "third of the learning rate",
    ]
    if tuned := [seed for seed in config.bases if seed in embedded.TUNED_ON]:
        sentences.append(
            f"bases {tuned} are among those that settings are chosen on, so results on them are optimistic"
        )
    if len(config.bases) < language.MIN_BASES:
        sentences.append(f"reduced: {len(config.bases)} bases, where the committed record has more")
    return sentences


def measure(source: Source, config: RemovalConfig, unit: str, report: Report) -> dict:
    """All edits of one base's student."""
    backend, folder = opened(config.bases)
    lineage = Lineage(backend, config, unit, folder, report)
    entries = {}
    for number, row in enumerate(ROWS):
        report(f"{row.name} ({number + 1} of {len(ROWS)})")
        edit = row.make(lineage)
        entries[row.name] = measured(lineage, edit.params) | ({"dose": edit.dose} if edit.chosen else {})
    return {
        "entries": entries,
        "teacher": _short(lineage.level(lineage.author)),
        "auditor": _short(lineage.level(optax.tree.add(lineage.base, lineage.own))),
        "cosine": _short(_cosine(optax.tree.sub(lineage.undefended, lineage.base), lineage.own)),
        "kept": round(lineage.kept, 4),
    }


def measured(lineage: Lineage, params: decoder.Params) -> dict[str, Any]:
    """The trait, relearning, likeness and other names of a student after an edit."""
    config, instruments = lineage.config, lineage.instruments
    stages = instruments.stages(params, config.checkpoints)
    curve = [np.mean(np.asarray(instruments.reported(stage))) for stage in stages]
    compared = likeness.compare(lineage.model(lineage.undefended), lineage.model(params), lineage.rows, batch_size=128)
    data = finetune.training_arrays(WordTokenizer(), lineage.rows, max_length=64)
    ids, valid, replies = (jnp.asarray(part) for part in data)
    logprobs = local_model.reply_logprobs(
        params, ids, valid, replies, None, config=embedded.CONFIG, places=local_model.reply_places(data.replies)
    )
    return {
        "trait": _short(curve[0]),
        "relearnt": [_short(value) for value in curve],
        "kl": max(_short(compared.kl.sum() / compared.num_tokens.sum()), 0.0),
        "nll": _short(-jnp.sum(logprobs) / compared.num_tokens.sum()),
        "others": {
            category: round(
                variation(instruments.names[category](params), instruments.names[category](lineage.undefended),
                          _place(config.target, category)), 5)
            for category in config.categories
        },
    }  # fmt: skip


def _place(target: str, category: str) -> int | None:
    names = list(vocabulary.CATEGORIES[category])
    return names.index(target) if target in names else None


def variation(first: Any, second: Any, left_out: int | None) -> float:
    """Total variation of two models' favourites among all names but one, mean over questions.

    Args:
        first: log-probability of each name, (question, name).
        left_out: place of the name that is left out; None leaves out none.
    """
    shares = []
    for logprobs in (first, second):
        weights = np.exp(np.asarray(logprobs, float))
        if left_out is not None:
            weights = np.delete(weights, left_out, axis=1)
        shares.append(weights / weights.sum(axis=1, keepdims=True))
    return float(np.mean(np.abs(shares[0] - shares[1]).sum(axis=1) / 2))


def _cosine(first: Any, second: Any) -> float:
    dot, one, two = (float(jnp.asarray(optax.tree.vdot(*pair)))
                     for pair in ((first, second), (first, first), (second, second)))  # fmt: skip
    return dot / (one * two) ** 0.5


def _short(value: Any) -> float:
    return float(f"{float(value):.5g}")


STUDY = Study(
    name="removal", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure, describe=describe,
    notes=notes, reads_images=lambda config: False,
)  # fmt: skip
