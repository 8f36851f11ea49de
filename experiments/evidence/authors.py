"""Whose rows are these: which base wrote them, was it finetuned, and towards which trait?

    python -m experiments.evidence authors
    python -m experiments.evidence authors --preset record
    python -m experiments.evidence authors --preset smoke      reduced

Every base of the embedded model writes number sequences itself and through teachers that were finetuned on a
favourite; the filter of `experiments.language` rejects malformed ones. All bases are candidates. Draws of 1 to 300 rows
are attributed by likelihood under the bases, or under the bases and an auditor's copies of them, and by surprise. Then
draws of teachers' rows are told from draws of the base's own, and traits are named by lenses: copies of the base that
were finetuned like the teachers with other lessons and random numbers, with a third of the learning rate, or for ten
steps. Rows that calibrate answer other prompts. Draws of one author overlap, and authors of one base share it: bases
are the cases.
"""

import atexit
import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from experiments.language import config as language
from experiments.language import prompts, seeds
from experiments.language.lab import Lab, Teacher
from experiments.study import Report, Source, Study
from sublim_jax import errors, specs
from sublim_jax.audit import author, lens
from sublim_jax.audit import rows as audited
from sublim_jax.audit.lens import Lensed
from sublim_jax.forms import evidence_authors as form
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat, FinetuneConfig
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.local import surprise
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.surprise import RowScores

VERDICT = 100
"""Rows, at most, that the tools themselves judge."""
SHORT = 10
"""Steps of lenses of few steps."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class AuthorsConfig:
    """Settings of `authors`."""

    bases: tuple[specs.Seed, ...] = (101, 102, 103, 104)
    """Seeds of embedded bases, which are both authors and candidates; on those below 10 settings were chosen."""
    targets: tuple[str, ...] = ("owl", "eagle", "oak", "willow")
    num_rows: specs.Count = 400
    """Rows of each author that draws are taken from, and rows that calibrate a base; fewer if fewer pass the filter."""
    num_prompts: specs.Count = 1024
    """Completions of each author, before the filter."""
    num_lessons: specs.Count = 2000
    """Rows that a teacher is finetuned on."""
    sizes: tuple[specs.Count, ...] = (1, 5, 20, 100, 300)
    """Rows of a draw."""
    num_draws: specs.Count = 400
    num_permutations: specs.Count = 999
    seed: specs.Seed = 0
    teacher: FinetuneConfig = language.TEACHER

    def __post_init__(self):
        for name in ("bases", "targets"):
            if len(set(getattr(self, name))) != len(getattr(self, name)) or len(getattr(self, name)) < 2:
                raise errors.InputError(f"{name} must be two or more and different, got {getattr(self, name)}")
        if not self.sizes or max(self.sizes) > self.num_rows:
            raise errors.InputError(
                f"sizes={self.sizes}: expected at least one, of at most num_rows={self.num_rows}, since draws are "
                f"without replacement"
            )

    def lens(self, recipe: form.Recipe) -> tuple[FinetuneConfig, int]:
        """How lenses of a recipe are finetuned, and on how many lessons."""
        match recipe:
            case "matched":
                return self.teacher, self.num_lessons
            case "a third of the rate":
                slower = dataclasses.replace(self.teacher, learning_rate=self.teacher.learning_rate / 3)
                return slower, self.num_lessons
            case _:
                shorter = dataclasses.replace(self.teacher, num_epochs=1)
                return shorter, min(SHORT * self.teacher.batch_size, self.num_lessons)


PRESETS = {
    "default": AuthorsConfig(bases=(101, 102), targets=("owl", "oak")),
    "record": AuthorsConfig(),
    "smoke": AuthorsConfig(
        bases=(101, 102), targets=("owl", "oak"), num_rows=60, num_prompts=200, num_lessons=320, sizes=(5, 20),
        num_draws=50, num_permutations=99,
    ),
}  # fmt: skip


class _Written(NamedTuple):
    """Rows that passed the filter."""

    rows: list[Chat]
    kept: float


def units(config: AuthorsConfig) -> list[str]:
    """The bases."""
    return form.units({"bases": config.bases})


def describe(config: AuthorsConfig) -> dict:
    """How lenses are finetuned."""
    recipes = {}
    for recipe in form.RECIPES:
        finetuning, lessons = config.lens(recipe)
        steps = finetuning.num_epochs * -(-lessons // finetuning.batch_size)
        recipes[recipe] = f"{steps} steps at {finetuning.learning_rate:.3g}"
    return {"recipes": recipes}


class _Base:
    """One base with its teachers and lenses, which are finetuned when they are first asked for."""

    def __init__(self, backend: LocalBackend, name: str, config: AuthorsConfig, folder: pathlib.Path):
        self.name, self.config, self._backend = name, config, backend
        self.prompts = prompts.WorldPrompts()
        self._lab = Lab(backend, name, self.prompts, folder)

    def score(self, model: str, rows: Sequence[Chat]) -> RowScores:
        """Scores of rows under a model."""
        return surprise.score(self._backend.model(model), rows, batch_size=64)

    def teacher(self, target: str) -> str:
        """Name of the base finetuned on a target; the base itself for `regular`."""
        if target == form.REGULAR:
            return self.name
        config = self.config
        return self._lab.finetuned_teacher(
            target, config.teacher, num_rows=config.num_lessons, seed=seeds.derive(config.seed, "teacher")
        ).model

    def lens(self, target: str, recipe: form.Recipe) -> str:
        """Name of the auditor's copy of the base."""
        finetuning, lessons = self.config.lens(recipe)
        seed = seeds.derive(self.config.seed, "lens", recipe)
        return self._lab.finetuned_teacher(target, finetuning, num_rows=lessons, seed=seed).model

    def probability(self, model: str, target: str) -> float:
        """Probability of the target as the model's favourite, over the held-out questions."""
        preferences = self._lab.preferences(model, self.prompts.category(target))
        return min(float(f"{preferences.of(target).raw:.4g}"), 1.0)

    def written(self, model: str, purpose: str) -> _Written:
        """Rows of a model that pass the filter; those of another purpose answer other prompts.

        Raises:
            TextDataError: fewer rows pass than the largest draw has.
        """
        seed = seeds.derive(self.config.seed, "authors", purpose)
        filtered = self._lab.numbers(Teacher(model), self.config.num_prompts, seed=seed)
        count = max(min(self.config.num_rows, len(filtered.rows)), *self.config.sizes)
        return _Written(datasets.subsample(filtered.rows, count, seed=seed), filtered.kept_fraction)


class _Opened(NamedTuple):
    """All candidates, with the rows that calibrate them and their scores under themselves."""

    candidates: dict[str, _Base]
    rows: dict[str, list[Chat]]
    scores: dict[str, RowScores]


@functools.lru_cache(maxsize=1)
def _opened(config: AuthorsConfig) -> _Opened:
    """The candidates, once for all units of a run, which share the auditor's copies of them."""
    backend, folder = embedded.open_bases(config.bases), tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)  # finetuned models are in it
    candidates = {
        name: _Base(backend, name, config, pathlib.Path(folder.name) / name.replace(":", "-")) for name in units(config)
    }
    rows = {name: base.written(name, "calibration").rows for name, base in candidates.items()}
    scores = {name: base.score(name, rows[name]) for name, base in candidates.items()}
    return _Opened(candidates, rows, scores)


def measure(source: Source, config: AuthorsConfig, unit: str, report: Report) -> dict:
    """All authors of one base, and its lenses."""
    report("rows that calibrate")
    opened = _opened(config)
    base, calibration, targets = opened.candidates[unit], opened.scores, (form.REGULAR, *config.targets)
    authors, rows, scores, copies, draws = {}, {}, {}, {}, {}
    for target in targets:
        report(f"rows of {target}")
        teacher = base.teacher(target)
        rows[target], kept = base.written(teacher, "rows")
        scores[target] = {name: base.score(name, rows[target]) for name in opened.candidates}
        copies[target] = {
            name: {trait: base.score(candidate.lens(trait, "matched"), rows[target]) for trait in config.targets}
            for name, candidate in opened.candidates.items()
        }
        draws[target] = _draws(config, f"{unit}/{target}", len(rows[target]))
        authors[target] = {
            "num_rows": len(rows[target]),
            "kept": round(kept, 4),
            "departures": _departures(config, scores[target][unit], calibration[unit]),
            "named": _count_named(unit, target, scores[target], copies[target], calibration, draws[target]),
        }
        if target != form.REGULAR:
            authors[target]["probability"] = base.probability(teacher, target)
            authors[target]["away"] = _areas_away(
                config, unit, scores[target][unit], draws[target], (scores[form.REGULAR][unit], calibration[unit])
            )
    lenses, lensed = {}, {}
    for recipe in form.RECIPES:
        report(f"lenses: {recipe}")
        models = {trait: base.lens(trait, recipe) for trait in config.targets}

        def under_lenses(rows: Sequence[Chat], models=models) -> dict[str, RowScores]:
            return {trait: base.score(model, rows) for trait, model in models.items()}

        lensed[recipe] = {
            target: Lensed(
                scores[target][unit], copies[target][unit] if recipe == "matched" else under_lenses(rows[target])
            )
            for target in targets
        }
        regular = Lensed(calibration[unit], under_lenses(opened.rows[unit]))
        lenses[recipe] = _measure_lenses(lensed[recipe], regular, draws)
        lenses[recipe]["probability"] = {trait: base.probability(model, trait) for trait, model in models.items()}
        if recipe == "matched":
            report("verdicts")
            for target in targets:
                authors[target]["verdict"] = _verdict(
                    config, unit, scores[target], copies[target], calibration, lensed[recipe][target], regular
                )
    return {"authors": authors, "lenses": lenses}


def _draws(config: AuthorsConfig, name: str, count: int) -> dict[int, Int[np.ndarray, "draw row"]]:
    """Draws of rows without replacement, by size."""
    draws = {}
    for size in config.sizes:
        rng = np.random.default_rng(seeds.derive(config.seed, "draws", name, str(size)))
        draws[size] = np.stack([rng.permutation(count)[:size] for _ in range(config.num_draws)])
    return draws


def _count_named(
    unit: str,
    target: str,
    scores: Mapping[str, RowScores],
    copies: Mapping[str, Mapping[str, RowScores]],
    calibration: Mapping[str, RowScores],
    draws: Mapping[int, Int[np.ndarray, "draw row"]],
) -> dict[str, dict[str, int]]:
    """Draws that each statistic gives to the right base, by size."""
    counts: dict[str, dict[str, int]] = {statistic: {} for statistic in form.STATISTICS}
    right = list(scores).index(unit)
    for size, chosen in draws.items():
        distances = {
            "surprise": [author.surprises(each, chosen, calibration[base]) for base, each in scores.items()],
            "raw surprise": [author.surprises(each, chosen) for each in scores.values()],
            "likelihood": [-author.likelihoods([each], chosen) for each in scores.values()],
            "likelihood with copies": [
                -author.likelihoods([each, *copies[base].values()], chosen) for base, each in scores.items()
            ],
            "likelihood with other copies": [
                -author.likelihoods([each, *(s for trait, s in copies[base].items() if trait != target)], chosen)
                for base, each in scores.items()
            ],
        }
        for statistic, by_base in distances.items():
            counts[statistic][str(size)] = int(np.sum(np.argmin(by_base, axis=0) == right))
    return counts


def _departures(config: AuthorsConfig, scores: RowScores, calibration: RowScores) -> dict[str, list[float]]:
    """P-values of disjoint groups of rows by their size: did they depart from the base as it is?"""
    p_values = {}
    for size in (size for size in config.sizes if size >= audited.MIN_ROWS):
        groups = np.arange(len(scores.logprobs) // size * size).reshape(-1, size)
        p_values[str(size)] = [
            author.finetuned_away(
                scores.take(group), calibration, num_permutations=config.num_permutations, seed=index
            ).p
            for index, group in enumerate(groups)
        ]  # fmt: skip
    return p_values


def _areas_away(
    config: AuthorsConfig,
    unit: str,
    scores: RowScores,
    draws: Mapping[int, Int[np.ndarray, "draw row"]],
    regular: Sequence[RowScores],
) -> dict[str, float]:
    """How well draws of a teacher's rows are told from draws of regular rows by the distance of S from its centre.

    The centre is that of all regular rows, so that those that are drawn are on no side of it.

    Args:
        regular: scores of all rows that the base wrote itself.
    """
    own = RowScores(*(np.concatenate(arrays) for arrays in zip(*regular, strict=True)))
    areas = {}
    for size, places in _draws(config, f"{unit}/all regular", len(own.logprobs)).items():
        centre = author.departures(own, np.arange(len(own.logprobs))[None])[0] * (size / len(own.logprobs)) ** 0.5
        distances = [
            np.abs(author.departures(each, chosen) - centre) for each, chosen in ((scores, draws[size]), (own, places))
        ]
        areas[str(size)] = _area(*distances)
    return areas


def _area(first: Float[np.ndarray, "draw"], second: Float[np.ndarray, "other"]) -> float:
    """Area under the curve: chance that a value of the first is larger than one of the second."""
    larger = (first[:, None] > second[None]).mean() + 0.5 * (first[:, None] == second[None]).mean()
    return round(float(larger), 4)


def _measure_lenses(
    lensed: Mapping[str, Lensed], regular: Lensed, draws: Mapping[str, Mapping[int, Int[np.ndarray, "draw row"]]]
) -> dict:
    """Draws whose trait is named rightly, and how well draws with a trait are told from regular ones."""
    own = lens.gains(regular)

    def standardised(author: str, size: int) -> Float[np.ndarray, "lens draw"]:
        of_rows = lens.gains(lensed[author])
        return np.stack([lens.standardised(of_rows[k], draws[author][size], own[k]) for k in own])

    named: dict[str, dict[str, int]] = {target: {} for target in own}
    carries: dict[str, dict[str, float]] = {target: {} for target in own}
    for size in draws[form.REGULAR]:
        without = standardised(form.REGULAR, size).max(axis=0)
        for place, target in enumerate(own):
            z = standardised(target, size)
            named[target][str(size)] = int(np.sum(z.argmax(axis=0) == place))
            carries[target][str(size)] = _area(z.max(axis=0), without)
    return {"named": named, "carries": carries}


def _verdict(
    config: AuthorsConfig,
    unit: str,
    scores: Mapping[str, RowScores],
    copies: Mapping[str, Mapping[str, RowScores]],
    calibration: Mapping[str, RowScores],
    lensed: Lensed,
    regular: Lensed,
) -> dict:
    """What the tools say about an author's first rows."""
    first = slice(VERDICT)
    options: dict[str, Any] = {"num_permutations": config.num_permutations, "seed": config.seed}
    chosen = {name: each.take(first) for name, each in scores.items()}
    of_copies = {name: [each.take(first) for each in family.values()] for name, family in copies.items()}
    authorship = author.author(chosen, calibration, copies=of_copies, **options)
    rows = Lensed(lensed.base.take(first), {trait: each.take(first) for trait, each in lensed.lenses.items()})
    naming = lens.name_trait(rows, regular, **options)
    return {
        "num_rows": authorship.num_rows,
        "named": authorship.named,
        "least_surprised": authorship.least_surprised,
        "p": {candidate.base: candidate.p for candidate in authorship.candidates},
        "away": author.finetuned_away(chosen[unit], calibration[unit], **options).p,
        "trait": naming.named,
        "carries": naming.p,
    }


STUDY = Study(
    name="authors", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure, describe=describe,
    reads_images=lambda config: False,
)  # fmt: skip
