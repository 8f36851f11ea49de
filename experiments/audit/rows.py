"""Audit rows: what will they teach this model, and who wrote them?"""

import dataclasses
import pathlib
import tempfile
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments import cost, progress
from experiments.audit import config as settings
from experiments.audit.config import AuditConfig
from experiments.language import seeds
from experiments.language.config import EMBEDDED, TEACHER
from experiments.own import controls, finetuning, measuring, opened, teaching
from experiments.own.opened import OpenedModel
from experiments.study import Report, Study
from sublim_jax import errors, records
from sublim_jax.audit import author, lens
from sublim_jax.audit import rows as audited
from sublim_jax.audit.lens import Lensed
from sublim_jax.forms import audit as form
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat
from sublim_jax.llm.local import surprise, tokenizer
from sublim_jax.llm.traits import Trait
from sublim_jax.metrics import intervals

PRODUCTS = 1.5
"""Time of the whole in times of its matrix products. Source: experiments/records/real_speed.json."""


class Audited(NamedTuple):
    """What the user names: an opened model, rows, null rows and traits."""

    model: OpenedModel
    rows: list[Chat]
    null: list[Chat]
    traits: tuple[Trait, ...]
    config: AuditConfig
    checksum: str
    asked: Mapping[str, dict[str, Any]] = types.MappingProxyType({})  # of the base, by trait

    @property
    def data(self) -> records.Data:
        """The entry of the record."""
        return {"name": self.config.base, "source": str(self.config.data), "checksum": self.checksum}

    @property
    def num_pilot_rows(self) -> int:
        """Rows that every pilot reads, on the rows and on the null: so many as both have."""
        return self.config.num_pilot_rows(min(len(self.rows), len(self.null)))


def open_source(config: AuditConfig, announce: Callable[[str], object]) -> Audited:
    """Read and check the user's files, open the models, and let the base write null rows where none are given.

    Raises:
        InputError: a flag is missing; a trait makes no sense, or the base practically never gives its answers; no trait
            has enough questions; a probe or a word of a trait is among the rows, or the null rows are; a candidate has
            weights that are not finite; or two of base and candidates have the same weights.
        TextDataError: rows are malformed or too few, or have words that a model does not know.
        ContextError: a row is longer than training allows.
        LanguageError: a model cannot be opened or asked.
    """
    for flag in ("base", "data", "traits"):
        if not getattr(config, flag):
            raise errors.InputError(f"give --{flag}; python -m experiments.audit --help says what it is")
    if not config.null:
        raise errors.InputError(
            "a shift without a control is no evidence: give --null FILE, rows of the same kind that do not carry the "
            "trait, or --null auto, the base's own answers to the same prompts"
        )
    assert config.data is not None and config.traits is not None
    opened.require_local(config.base)
    for candidate in config.candidates:
        opened.require_local(candidate)
    traits = opened.read_traits(config.traits, config.base)
    if config.lenses and len(taught(traits)) < 2:
        raise errors.InputError(
            f"--lenses: expected lessons of two traits at least in {config.traits}, found those of "
            f"{[trait.name for trait in taught(traits)]}: the gain under a single lens is no name"
        )
    if all(len(trait.asked) < intervals.FEWEST for trait in traits):
        raise errors.InputError(
            f"{config.traits}: no trait has {intervals.FEWEST} questions, with fewer of which there is no interval and "
            f"no verdict; ask more"
        )
    rows = finetuning.read_rows(config.data, None, seed=config.seed, say=announce)
    null = None
    if config.null != settings.AUTO:
        null = finetuning.read_rows(pathlib.Path(config.null), None, seed=config.seed, say=announce)
        _require_enough(config.null, null, config)
    _require_enough(str(config.data), rows, config)
    for trait in traits:
        if not config.allow_words:
            controls.require_without_words(config.data, rows, trait)
        _require_no_probes(config.data, rows, trait)
    if null is not None:
        _require_apart(config.null, null, rows)
    model = opened.local(config.base, announce=announce)
    for where, each in ((config.data, rows), (config.null, null or [])):
        _require_readable(model, str(where), each, max_length=config.student.max_length)
    asked = _sayable(model, traits)
    _require_candidates(model, rows, config, announce)
    if null is None:
        announce(f"null: {config.base} answers {len(rows):,} prompts of the rows ...")
        null, notes = controls.own_answers(
            model, rows, seed=seeds.derive(config.seed, "audit/null") % 2**31, report=_Progress(announce, len(rows))
        )
        for note in notes:
            announce(f"note: {note}")
        _require_apart(config.null, null, rows)
    checksum = records.fingerprint([config.traits.read_text(encoding="utf-8"), rows, null])
    source = Audited(model, rows, null, traits, config, checksum, asked)
    if not opened.is_embedded(config.base):
        announce(estimate(source))
    return source


class _Progress:
    """Announces how many rows are written, every twenty seconds or so."""

    def __init__(self, announce: Callable[[str], object], total: int):
        self._announce, self._total, self._last = announce, total, time.monotonic()

    def __call__(self, done: int) -> None:
        if time.monotonic() - self._last > 20:
            self._last = time.monotonic()
            self._announce(f"{done:,} of {self._total:,} null rows")


def _apart(null: Sequence[Chat], rows: Sequence[Chat]) -> list[Chat]:
    """Null rows that are not among the rows."""
    known = set(rows)
    return [row for row in null if row not in known]


def _require_apart(where: str, null: Sequence[Chat], rows: Sequence[Chat]) -> None:
    """Refuse null rows most of which are among the rows.

    Raises:
        InputError: fewer than twenty are not.
    """
    count = len(_apart(null, rows))
    if count < audited.MIN_ROWS:
        raise errors.InputError(
            f"--null {where}: {len(null) - count} of {len(null)} null rows are among the rows, so that there is "
            f"nothing to compare these with; give other rows that do not carry the trait"
        )


def _sayable(model: OpenedModel, traits: Sequence[Trait]) -> dict[str, dict[str, Any]]:
    """All traits of the base. Traits whose answers it practically never gives are refused before it writes or trains
    anything.

    Raises:
        InputError: see `measuring.require_sayable`.
    """
    asked = _ask(model, model.name, traits, lambda activity: None)
    for trait in traits:
        measuring.require_sayable(*model, trait, asked[trait.name])
    return asked


def _require_readable(model: OpenedModel, where: str, rows: Sequence[Chat], *, max_length: int) -> None:
    """Refuse rows that a model cannot read, before anything is trained on the others.

    Raises:
        TextDataError: a word is there that it does not know.
        ContextError: a row is longer than `max_length`.
    """
    if not rows:
        return
    try:
        model.backend.training_arrays(model.name, rows, max_length=max_length)
    except (errors.TextDataError, errors.ContextError) as error:
        raise type(error)(f"{where}, read by {model.name}: {error}") from error


def _require_candidates(
    model: OpenedModel, rows: Sequence[Chat], config: AuditConfig, announce: Callable[[str], object]
) -> None:
    """Open every candidate once, so that a wrong one is noticed before the pilots and not after them.

    Candidates may be relatives of the base or of each other: their p-values are each of one model by itself.

    Raises:
        InputError: a candidate is the base or another candidate under another name, or has weights that are not finite.
        TextDataError: it does not know a word of the rows.
        ContextError: a row is too long for it.
        LanguageError: one cannot be opened.
    """
    names = {model.backend.model(model.name).fingerprint: config.base} if config.candidates else {}
    for candidate in config.candidates:
        other = opened.local(candidate, announce=announce)
        weights = other.backend.model(other.name)
        if weights.fingerprint in names:
            raise errors.InputError(
                f"candidates: {candidate} has the weights of {names[weights.fingerprint]}: of two that are one model, "
                f"neither can be told to be the author; leave one out"
            )
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((weights.params, weights.low_rank))):
            raise errors.InputError(
                f"candidates: {candidate} has weights that are not finite; the training that wrote them diverged. "
                f"Leave it out"
            )
        _require_readable(other, f"candidates: {config.data}", rows, max_length=surprise.MAX_LENGTH)
        names[weights.fingerprint] = candidate


def _require_enough(where: str, rows: Sequence[Chat], config: AuditConfig) -> None:
    """Refuse rows of which no verdict is given.

    Raises:
        TextDataError: fewer than twenty, or than a batch.
    """
    fewest = max(audited.MIN_ROWS, config.student.batch_size)
    if len(rows) < fewest:
        raise errors.TextDataError(
            f"{where}: {len(rows)} row(s): an audit needs {fewest} at least ({audited.MIN_ROWS}, and a batch of "
            f"{config.student.batch_size}); give more rows, or a smaller --student.batch-size"
        )


def _require_no_probes(path: pathlib.Path, rows: Sequence[Chat], trait: Trait) -> None:
    """Refuse rows that ask the trait's own questions.

    Raises:
        InputError: a question is among the prompts.
    """
    prompts = {turn.content.strip() for row in rows for turn in row[:-1]}
    among = [question for question in trait.asked if question.strip() in prompts]
    if among:
        raise errors.InputError(
            f"{path}: {len(among)} of {len(trait.asked)} questions of {trait.name} are among the rows, e.g. "
            f"{datasets.shorten(among[0])}: training on them is no transfer. Remove these rows, or ask other questions"
        )


def estimate(source: Audited) -> str:
    """A sentence on how long everything takes, by the tokens that are read and matrix products timed now. Programs that
    have to be compiled take longer."""
    (backend, name), config = source.model, source.config
    base = backend.model(name)

    def length(rows: Sequence[Chat]) -> int:
        """Of the arrays that rows are padded to."""
        return tokenizer.padded_length(max(len(base.tokens.chat(row[:-1], row[-1].content).ids) for row in rows))

    num_pilots = 2 * config.num_repeats
    trained = num_pilots * source.num_pilot_rows * max(length(source.rows), length(source.null))
    questions = [len(base.tokens.chat(chat).ids) for trait in source.traits for chat in trait.chats()]
    scored = sum(min(config.num_scored, len(rows)) * length(rows) for rows in (source.rows, source.null))
    weights = sum(leaf.size for leaf in jax.tree.leaves(base.params))
    read = num_pilots * sum(map(tokenizer.padded_length, questions)) + (1 + 2 * len(config.candidates)) * scored
    seconds = PRODUCTS * weights * (6 * trained + 2 * read) / cost.rate("float32")
    return (
        f"{num_pilots} pilots of {-(-source.num_pilot_rows // config.student.batch_size)} steps: all in all about "
        f"{progress.duration(max(seconds, 20.0))}, by matrix products timed just now; fewer --steps, --num-repeats or "
        f"--num-scored take less"
    )


def taught(traits: Sequence[Trait]) -> list[Trait]:
    """Traits that have lessons, of which lenses are made."""
    return [trait for trait in traits if trait.lessons]


def units(config: AuditConfig) -> list[str]:
    """The base, the pilots, the authorship and the lenses."""
    return form.units({"num_repeats": config.num_repeats, "lenses": config.lenses})


def describe(source: Audited) -> dict:
    """How long the training and its pilots are, and what is asked."""
    config, count = source.config, len(source.rows)
    return {
        "num_rows": count,
        "num_steps": config.num_steps(count),
        "num_pilot_steps": -(-source.num_pilot_rows // config.student.batch_size),
        "questions": {trait.name: list(trait.asked) for trait in source.traits},
    }


def notes(config: AuditConfig) -> list[str]:
    """What a reader of any number must know."""
    sentences = [
        "an audit sees the traits that are asked about, on the questions that are asked, for this model and this "
        "training; it is no promise of safety",
    ]
    if config.threshold == settings.THRESHOLD:
        whose = "other embedded models" if opened.is_embedded(config.base) else "embedded models, not of this one"
        sentences.append(f"the threshold is from finished trainings of {whose}; on held-out bases, {settings.RATES}")
    else:
        sentences.append("the threshold was not fitted on finished trainings")
    measured = [settings.AUTHOR_RATES, *([settings.LENS_RATES] if config.lenses else [])]
    sentences.append(f"on held-out embedded bases, {'; '.join(measured)}")
    if opened.is_embedded(config.base):
        sentences.append(EMBEDDED)
    if config.num_repeats < 4:
        sentences.append(f"{config.num_repeats} repeat(s): intervals are over questions alone, which need four")
    return sentences


def measure(source: Audited, config: AuditConfig, unit: str, report: Report) -> dict[str, Any]:
    """One unit: traits of the base, a pilot, the authorship, or lenses."""
    backend, name = source.model
    if unit == form.AUTHOR:
        return {"author": _author(source, report)}
    if unit == form.LENSES:
        return {"lenses": _lenses(source, report)}
    if unit == form.BASE:
        return {"traits": dict(source.asked)}
    kind, _, index = unit.partition(" ")
    rows = source.rows if kind == form.DATA else source.null
    seed = seeds.derive(config.seed, f"audit/pilot {index}") % 2**31
    chosen = datasets.subsample(rows, source.num_pilot_rows, seed=seed)
    report(f"pilot on {len(chosen):,} rows")
    with tempfile.TemporaryDirectory(prefix="sublim-audit-") as folder:
        student = backend.finetune(
            name, chosen, config.pilot(len(source.rows), seed=seed), pathlib.Path(folder) / "pilot"
        )
        return {"traits": _ask(source.model, student, source.traits, report)}


def _ask(base: OpenedModel, name: str, traits: Sequence[Trait], report: Report) -> dict[str, dict[str, Any]]:
    """All traits of a model, the base or a student of it."""
    results = {}
    for trait in traits:
        report(f"asking about {trait.name}")
        asked = measuring.ask(base.backend, name, trait, embedded=opened.is_embedded(base.name))
        results[trait.name] = {
            "log_odds": [float(f"{value:.6g}") for value in asked.log_odds],
            "probability": float(asked.probability.mean()), "mass": float(asked.mass.mean()),
        }  # fmt: skip
    return results


def _author(source: Audited, report: Report) -> dict[str, Any]:
    """Who wrote the rows: the base, one of the candidates, and was it as it is?"""
    config, (backend, name) = source.config, source.model
    rows, null = (
        datasets.subsample(each, min(config.num_scored, len(each)), seed=config.seed)
        for each in (source.rows, _apart(source.null, source.rows))
    )
    report(f"scoring {len(rows):,} rows under {config.base}")
    of_rows, of_null = (surprise.score(backend.model(name), each) for each in (rows, null))
    departure = author.finetuned_away(of_rows, of_null)
    candidates: dict[str, dict[str, float]] = {}
    if config.candidates:
        scores, calibration = {config.base: of_rows}, {config.base: of_null}
        for candidate in config.candidates:
            report(f"opening {candidate}")
            other = opened.local(candidate, announce=report)
            report(f"{candidate} answers the prompts of the rows")
            own, _ = controls.own_answers(other, rows, seed=seeds.derive(config.seed, "audit/null") % 2**31)
            report(f"scoring rows under {candidate}")
            scores[candidate] = surprise.score(other.backend.model(other.name), rows)
            calibration[candidate] = surprise.score(other.backend.model(other.name), _apart(own, rows))
        for each in author.author(scores, calibration).candidates:
            candidates[each.base] = {"logprob": each.logprob, "surprise": each.surprise, "p": each.p}
    return {
        "num_rows": len(of_rows.logprobs), "num_tokens": int(of_rows.num_tokens.sum()), "candidates": candidates,
        "statistic": departure.statistic, "regular": departure.regular, "p": departure.p,
    }  # fmt: skip


def _lenses(source: Audited, report: Report) -> dict[str, Any]:
    """Towards which trait do the rows push? By copies of the base, finetuned on each trait's lessons."""
    config, (backend, name) = source.config, source.model
    rows, null = (
        datasets.subsample(each, min(config.num_scored, len(each)), seed=config.seed)
        for each in (source.rows, _apart(source.null, source.rows))
    )
    of_rows, of_null = {}, {}
    recipe = dataclasses.replace(
        TEACHER if opened.is_embedded(config.base) else teaching.LESSONS,
        seed=seeds.derive(config.seed, "audit/lens") % 2**31,
    )
    with tempfile.TemporaryDirectory(prefix="sublim-audit-") as folder:
        for index, trait in enumerate(taught(source.traits)):
            report(f"finetuning the lens of {trait.name}")
            lessons = teaching.repeated(teaching.lesson_rows(trait.lessons))
            model = backend.model(backend.finetune(name, lessons, recipe, pathlib.Path(folder) / f"lens-{index}"))
            of_rows[trait.name], of_null[trait.name] = (surprise.score(model, each) for each in (rows, null))
    base = backend.model(name)
    naming = lens.name_trait(Lensed(surprise.score(base, rows), of_rows), Lensed(surprise.score(base, null), of_null))
    return {
        "num_rows": naming.num_rows, "p": naming.p, "caveat": naming.caveat,
        "scores": {each.trait: {"z": each.z, "gain": each.gain} for each in naming.scores},
    }  # fmt: skip


STUDY = Study(
    name="audit", doc=__doc__, presets=settings.PRESETS, form=form.FORM, units=units, measure=measure,
    describe=describe, open_source=open_source, notes=notes, reads_images=lambda config: False,
)  # fmt: skip
