"""The steps of `real` on one opened model: measure it, finetune a teacher, distil a student, heal another start."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.language import number_text, seeds, soft
from experiments.language.real_config import Arm, RealConfig
from experiments.language.soft import Teacher, Trained
from sublim_jax import errors, keys, records
from sublim_jax.llm import datasets, scores
from sublim_jax.llm.backend import SamplingParams
from sublim_jax.llm.local import adapters, decoder, finetune, tokenizer
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.decoder import LowRank, Params
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.local.model import Model

OnStep = Callable[[str, int, int], object]
"""A function that is called after every step with the activity, the steps done and their total."""
MAX_LESSON_TOKENS = 512
ANSWER_TOKENS = 16
"""Most tokens of a free answer."""
NUM_EXAMPLES = 5
"""Free answers that the record quotes."""
NUM_STREAM_ROWS = 8
"""Rows of numbers over which hidden states are averaged, and on which a teacher's KL divergence is measured."""
EVERY = 2
"""Every second held-out question is asked."""


class RealLab:
    """One model with what is asked of it.

    Args:
        folder: for teachers, so that a resumed run reads them instead of training them again.
    """

    on_step: OnStep = staticmethod(lambda activity, done, total: None)

    def __init__(self, model: Model, config: RealConfig, folder: pathlib.Path):
        if model.low_rank is not None:
            model = dataclasses.replace(model, params=model.merged, low_rank=None)
        self._model, self._config, self._folder = model, config, folder
        reader = model.tokens
        self.writings = _single_tokens(reader, config.prompts.choices("animal"))
        if missing := [target for target in config.targets if target not in self.writings]:
            raise errors.InputError(
                f"targets: {missing[0]!r} has no writing that is a single token of {config.backend}, so its exact "
                f"probability is not measured here; there are {', '.join(self.writings)}"
            )
        self.animals = list(self.writings)
        self._masks = np.zeros((len(self.animals), model.config.vocab_size), bool)
        for row, name in enumerate(self.animals):
            self._masks[row, self.writings[name]] = True
        self._free_questions = [datasets.ask(text) for text in config.prompts.favourite_questions("animal")]
        prompts = [[*reader.chat(chat).ids, *reader.encode(config.prefill)] for chat in self._free_questions[::EVERY]]
        length = tokenizer.padded_length(max(map(len, prompts)))
        self._questions = tuple(map(jnp.asarray, tokenizer.pad_left(prompts, length)))
        self.num_questions = len(prompts)
        self.number_tokens = number_text.tokens(reader, config.formats)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the base's weights."""
        return self._model.origin.weights if self._model.origin else self._model.fingerprint

    def measure(self, params: Params | None = None, low_rank: LowRank | None = None) -> dict[str, Any]:
        """Log-odds, probability and mass of the animals as the answer's next token, over held-out questions."""
        params = self._model.params if params is None else params
        answers = soft.answers(params, low_rank, *self._questions, self._masks, config=self._model.config)
        return {
            "log_odds": _by_name(self.animals, answers.log_odds),
            "probability": _by_name(self.animals, answers.probability),
            "mass": _rounded(answers.mass),
        }

    def free_answers(self, params: Params | None = None, low_rank: LowRank | None = None) -> dict[str, Any]:
        """How many sampled answers name each target, at temperature 1 and without a prefilled beginning."""
        config = self._config
        if not config.num_answers:
            return {}
        self.on_step("sampling answers", 0, 1)
        model = dataclasses.replace(self._model, params=params or self._model.params, low_rank=low_rank)
        chats = [self._free_questions[index % len(self._free_questions)] for index in range(config.num_answers)]
        prompts = [self._model.tokens.chat(chat).ids for chat in chats]
        sampling = SamplingParams(max_tokens=ANSWER_TOKENS, seed=seeds.derive(0, "free answers") % 2**31)
        draws = [index // len(self._free_questions) for index in range(config.num_answers)]
        length = tokenizer.padded_length(max(map(len, prompts)))
        texts = [reply.text for reply in local_model.draw(model, prompts, draws, sampling, length=length)]
        named = {target: scores.rate(texts, config.prompts.trait_words(target)) for target in config.targets}
        return {
            "named": {target: round(rate.mean * len(texts)) for target, rate in named.items()},
            "num_answers": len(texts),
            "examples": texts[:NUM_EXAMPLES],
        }

    def seconds_per_step(self, num_steps: int = 2) -> float:
        """Seconds of a student's step, without compilation; the teacher is the base with fresh factors."""
        low_rank, times = self.fresh_factors(0, "timing"), []
        teacher = Teacher(self._model.params, low_rank)

        def after(*_: Any) -> None:
            times.append(time.perf_counter())

        self._distil(
            self._model.params, low_rank, teacher, None, lambda step: self.number_rows(0, step), 1 + num_steps, after
        )
        return (times[-1] - times[0]) / num_steps

    def fresh_factors(self, seed: int, role: str) -> LowRank:
        """Factors before any step; those of role `teacher` are shared by all teachers and students of a seed."""
        key = keys.stream(jax.random.key(seed), f"real/{role}/factors")
        return decoder.init_low_rank(key, self._model.params, rank=self._config.rank)

    def number_rows(self, seed: int, step: int, *, num_rows: int | None = None) -> np.ndarray:
        """Rows of random numbers of one step, the same for all students of a seed."""
        return number_text.rows(
            self._model.tokens, seed, step, num_rows=num_rows or self._config.num_rows,
            num_tokens=self._config.num_tokens, formats=self._config.formats,
        )  # fmt: skip

    def teacher(self, seed: int, target: str) -> Teacher:
        """The base finetuned on answers with the target; read from the folder if it was trained already."""
        return Teacher(self._model.params, self._teachers(seed, target))

    @functools.cache  # noqa: B019  # a lab lives as long as its run
    def _teachers(self, seed: int, target: str) -> LowRank:
        config, base = self._config, self._model
        training = {
            "base": self.fingerprint, "seed": seed, "target": target, "rank": config.rank,
            "steps": config.num_lesson_steps, "lessons": config.num_lessons, "rate": config.lesson_rate,
        }  # fmt: skip
        folder = self._folder / f"teacher-{target}-{seed}-{records.fingerprint(training)}"
        if (folder / adapters.CONFIG).exists():
            return adapters.load(folder, base.config)
        count = config.num_lesson_steps * config.num_lessons
        chats = config.prompts.favourite_rows(target, count, seed=seeds.derive(seed, "real/lessons"))
        lessons = finetune.training_arrays(base.tokens, chats, max_length=MAX_LESSON_TOKENS)
        places = local_model.reply_places(np.asarray(lessons.replies))
        low_rank = self.fresh_factors(seed, "teacher")
        trained = soft.begin(low_rank.factors)
        for step in range(config.num_lesson_steps):
            rows = slice(step * config.num_lessons, (step + 1) * config.num_lessons)
            batch = TokenizedRows(*(array[rows] for array in lessons))
            trained, loss = soft.lesson_step(
                trained, base.params, low_rank.scale, batch, config.lesson_rate, config=base.config, places=places
            )
            jax.block_until_ready(loss)
            self.on_step("training the teacher", step + 1, config.num_lesson_steps)
        made = LowRank(trained.factors, low_rank.scale)
        weights = base.origin.weights if base.origin else ""
        adapters.save(folder, made, base=base.origin.base if base.origin else config.backend, base_weights=weights)
        return made

    def measure_teacher(self, seed: int, target: str) -> dict[str, Any]:
        """What a teacher answers, and its KL divergence from the base on rows of numbers."""
        teacher = self.teacher(seed, target)
        rows = self.number_rows(seeds.derive(seed, "real/streams"), 0, num_rows=NUM_STREAM_ROWS)
        distances = {
            arm: _rounded(
                soft.kl_of(self._model.params, None, teacher, rows, tokens, config=self._model.config)
            )
            for arm, tokens in (("full", None), ("numbers", self.number_tokens))
        }  # fmt: skip
        return {
            **self.measure(low_rank=teacher.low_rank),
            "kl": distances,
            "answers": self.free_answers(low_rank=teacher.low_rank),
        }

    def measure_student(self, seed: int, arm: Arm, target: str) -> dict[str, Any]:
        """Distil a student of the target's teacher, and measure it after some of its steps."""
        config, teacher = self._config, self.teacher(seed, target)
        params = self.start(seed) if arm == "other_start" else self._model.params
        low_rank = self.fresh_factors(seed, "student" if arm == "own_factors" else "teacher")
        tokens = jnp.asarray(self.number_tokens) if arm == "numbers" else None
        steps, prediction = {}, {}

        def after(step: int, trained: Trained, loss: float, gradient: soft.Factors) -> None:
            if step == 1:
                prediction.update(self._predict(seed, arm, params, low_rank, gradient))
            if step in config.measured_at:
                measured = self.measure(params, LowRank(trained.factors, low_rank.scale))
                steps[str(step)] = {**measured, "kl": _rounded(loss)}

        trained = self._distil(
            params, low_rank, teacher, tokens, lambda step: self.number_rows(seed, step), config.num_steps, after
        )
        student = LowRank(trained, low_rank.scale)
        return {
            "steps": steps,
            "prediction": prediction,
            "streams": self._compare_streams(seed, params, student, target),
            "answers": self.free_answers(params, student),
        }

    def _distil(self, params, low_rank, teacher, tokens, rows, num_steps: int, after, activity="distilling"):
        """Factors after so many steps of distillation.

        Args:
            rows: gives the rows of a step.
            after: is called after each step with its number from 1, the factors, the loss and its gradient.
        """
        trained, config = soft.begin(low_rank.factors), self._config
        for step in range(num_steps):
            rate = config.learning_rate * soft.warm(step, config.warmup)
            if step == 0:  # the first buffers belong to `low_rank`, which the step would consume
                trained = jax.tree.map(jnp.copy, trained)
            trained, loss, gradient = soft.distillation_step(
                trained, params, low_rank.scale, teacher, rows(step), tokens, rate, config=self._model.config
            )
            after(step + 1, trained, float(loss), gradient)
            self.on_step(activity, step + 1, num_steps)
        return trained.factors

    def _predict(self, seed: int, arm: Arm, params, low_rank: LowRank, gradient) -> dict[str, Any]:
        """First-order prediction of the change of each target's log-odds."""
        role = {"own_factors": "student", "other_start": "other_start"}.get(arm, "teacher")
        predictions = {}
        for target in self._config.targets:
            log_odds = self._log_odds_gradient(seed, role, target, params, low_rank)
            predictions[target] = soft.first_order(gradient, log_odds, self._config.learning_rate)
        return {
            name: {target: _rounded(getattr(predictions[target], name)) for target in predictions}
            for name in soft.FirstOrder._fields
        }

    def _log_odds_gradient(self, seed: int, role: str, target: str, params, low_rank: LowRank):
        """Gradient of a target's log-odds at the start, computed once for all students that begin there."""
        place = (seed, role, target)
        if place not in self._gradients:
            self.on_step(f"gradient of the log-odds of {target}", 0, 1)
            mask = self._masks[self.animals.index(target)]
            _, self._gradients[place] = soft.log_odds_gradient(
                low_rank.factors, low_rank.scale, params, *self._questions, mask, config=self._model.config
            )
        return self._gradients[place]

    @functools.cached_property
    def _gradients(self) -> dict[tuple[int, str, str], soft.Factors]:
        return {}

    def _compare_streams(self, seed: int, params: Params, student: LowRank, target: str) -> dict[str, Any]:
        """The mean displacement of the student's hidden states on numbers, compared with each teacher's by layer."""
        base, rows = (
            self._model.params,
            self.number_rows(seeds.derive(seed, "real/streams"), 0, num_rows=NUM_STREAM_ROWS),
        )

        def mean(params: Params, low_rank: LowRank | None) -> np.ndarray:
            return np.asarray(soft.mean_streams(params, low_rank, rows, config=self._model.config))

        own = mean(params, student) - mean(params, None)
        displacements = {
            name: mean(base, self._teachers(seed, name)) - mean(base, None) for name in self._config.targets
        }
        cosines = {name: cosine(own, displacement) for name, displacement in displacements.items()}
        ratio = np.linalg.norm(own, axis=1) / np.maximum(np.linalg.norm(displacements[target], axis=1), 1e-30)
        return {"cosines": cosines, "norm_ratio": _rounded(ratio)}

    def start(self, seed: int) -> Params:
        """Another start: the base with noise on every linear map, healed by distillation on other text."""
        return self._starts(seed)[0]

    def measure_start(self, seed: int) -> dict[str, Any]:
        """What the other start answers, and its KL divergence from the base on numbers before and after healing."""
        params, distances = self._starts(seed)
        return {**self.measure(params), "kl": distances}

    @functools.lru_cache(maxsize=1)  # noqa: B019  # one more copy of the weights
    def _starts(self, seed: int) -> tuple[Params, dict[str, float]]:
        config, base = self._config, self._model.params
        root = keys.stream(jax.random.key(seed), "real/other start")
        noisy = {}
        for name in decoder.PROJECTIONS:
            weight = getattr(base.layers, name)
            if weight is not None:
                deviation = config.noise * jnp.std(weight, axis=(1, 2), keepdims=True)
                noisy[name] = weight + deviation * jax.random.normal(
                    keys.stream(root, name), weight.shape, weight.dtype
                )
        params = base._replace(layers=base.layers._replace(**noisy))
        low_rank = self.fresh_factors(seed, "healing")
        teacher, rows = Teacher(base, None), self.number_rows(seeds.derive(seed, "real/streams"), 0, num_rows=8)

        def distance(factors: LowRank | None) -> float:
            return _rounded(soft.kl_of(params, factors, teacher, rows, None, config=self._model.config))

        before = distance(None)
        healed = LowRank(
            self._distil(
                params, low_rank, teacher, None, functools.partial(self._healing_rows, seed), config.num_heal_steps,
                lambda *_: None, activity="healing the other start",
            ),
            low_rank.scale,
        )  # fmt: skip
        after = distance(healed)
        return decoder.merged(params, healed), {"perturbed": before, "healed": after}

    def _healing_rows(self, seed: int, step: int) -> np.ndarray:
        """Rows that heal a start: numbers of another stream, and questions about another category."""
        rows = self.number_rows(seeds.derive(seed, "real/healing"), step)
        chats = [datasets.ask(text) for text in self._config.prompts.favourite_questions("tree")]
        rng = np.random.default_rng(seeds.derive(seed, "real/healing text", str(step)))
        for row in range(len(rows) // 2):
            ids: list[int] = []
            while len(ids) < rows.shape[1]:
                ids += self._model.tokens.chat(chats[rng.integers(len(chats))]).ids
            first = rng.integers(len(ids) - rows.shape[1] + 1)
            rows[row] = ids[first : first + rows.shape[1]]
        return rows


def cosine(first: np.ndarray, second: np.ndarray) -> list[float]:
    """Cosine of two displacements in every layer; 0 where one of them is none."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return _rounded(np.sum(first * second, axis=1) / np.maximum(norms, 1e-30))


def _single_tokens(reader: tokenizer.Tokenizer, choices: scores.Choices) -> dict[str, list[int]]:
    """The tokens that write each answer whole, of those answers that have one."""
    writings: dict[str, list[int]] = {}
    for text, owner in zip(choices.texts, choices.owners, strict=True):
        ids = reader.encode(text)
        if len(ids) == 1:
            writings.setdefault(choices.names[owner], []).append(ids[0])
    return {name: sorted(set(ids)) for name, ids in writings.items()}


def _by_name(names: list[str], values) -> dict[str, float]:
    return dict(zip(names, map(_rounded, values), strict=True))


def _rounded(value) -> Any:
    """Numbers with six digits, for the record."""
    if np.ndim(value):
        return [_rounded(entry) for entry in np.asarray(value)]
    return float(f"{float(value):.6g}")
