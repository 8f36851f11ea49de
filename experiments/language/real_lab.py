"""The steps of `real` on one opened model: measure it, finetune a teacher, distil a student, heal another start."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.language import next_token, number_text, seeds
from experiments.language.next_token import Factors
from experiments.language.real_config import Arm, RealConfig
from sublim_jax import errors, keys, records
from sublim_jax.llm import datasets, scores
from sublim_jax.llm.backend import Chat, FinetuneConfig, SamplingParams
from sublim_jax.llm.local import decoder, noise, soft, tokenizer
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.decoder import Params
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.local.soft import Batch, SoftConfig

OnStep = Callable[[str, int, int], object]
"""A function that is called during long work with the activity, the steps done and their total."""
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
        base: name of the model in the backend.
        folder: for teachers, so that a resumed run reads them instead of training them again.
    """

    def __init__(self, backend: LocalBackend, base: str, config: RealConfig, folder: pathlib.Path):
        self.on_step: OnStep = lambda activity, done, total: None
        self._backend, self._name, self._config, self._folder = backend, base, config, folder
        opened = backend.model(base)
        self.base = dataclasses.replace(opened, params=opened.merged, low_rank=None)
        reader = self.base.tokens
        self._writings = _single_tokens(reader, config.prompts.choices("animal"))
        if missing := [target for target in config.targets if target not in self._writings]:
            raise errors.InputError(
                f"targets: {missing[0]!r} has no writing that is a single token of {config.backend}, so its exact "
                f"probability is not measured here; there are {', '.join(self._writings)}"
            )
        self.animals = list(self._writings)
        self._masks = np.zeros((len(self.animals), self.base.config.vocab_size), bool)
        for row, name in enumerate(self.animals):
            self._masks[row, self._writings[name]] = True
        self._free_questions = [datasets.ask(text) for text in config.prompts.favourite_questions("animal")]
        prompts = [[*reader.chat(chat).ids, *reader.encode(config.prefill)] for chat in self._free_questions[::EVERY]]
        self.num_questions = len(prompts)
        length = tokenizer.padded_length(max(map(len, prompts)))
        self._questions = tuple(map(jnp.asarray, tokenizer.pad_left(prompts, length)))
        self.number_tokens = number_text.tokens(reader, config.formats).tolist()
        self._gradients: dict[tuple[int, Arm, str], Factors] = {}
        self.teacher = functools.cache(self._teacher)
        self._displacement = functools.cache(self._mean_displacement)
        self._healed = functools.lru_cache(maxsize=1)(self._heal)  # one more copy of the weights

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the base's weights."""
        return self.base.origin.weights if self.base.origin else self.base.fingerprint

    @property
    def questions(self) -> tuple[Int[jax.Array, "question time"], Bool[jax.Array, "question time"]]:
        """Left-padded questions with the prefilled beginning of their answer: tokens, and which of them count."""
        ids, valid = self._questions
        return ids, valid

    @property
    def writings(self) -> Bool[np.ndarray, "animal vocab"]:
        """Which tokens write each animal."""
        return self._masks

    # Measuring

    def measure(self, model: Model) -> dict[str, Any]:
        """Log-odds, probability and mass of the animals as the answer's next token, over held-out questions."""
        measured = next_token.words(
            model.params, model.low_rank, *self._questions, self._masks, config=self.base.config
        )  # fmt: skip
        return {
            "log_odds": _by_name(self.animals, measured.log_odds),
            "probability": _by_name(self.animals, measured.probability),
            "mass": _rounded(measured.mass),
        }

    def free_answers(self, model: Model) -> dict[str, Any]:
        """How many sampled answers name each target, at temperature 1 and without a prefilled beginning."""
        count, chats = self._config.num_answers, self._free_questions
        if not count:
            return {}
        self.on_step("sampling answers", 0, 1)
        prompts = [self.base.tokens.chat(chats[index % len(chats)]).ids for index in range(count)]
        sampling = SamplingParams(max_tokens=ANSWER_TOKENS, seed=seeds.derive(0, "real/answers") % 2**31)
        draws = [index // len(chats) for index in range(count)]
        length = tokenizer.padded_length(max(map(len, prompts)))
        texts = [reply.text for reply in local_model.draw(model, prompts, draws, sampling, length=length)]
        words = {target: self._config.prompts.trait_words(target) for target in self._config.targets}
        named = {target: sum(any(word in text.lower() for word in words[target]) for text in texts) for target in words}
        return {"named": named, "num_answers": count, "examples": texts[:NUM_EXAMPLES]}

    def measure_base(self) -> dict[str, Any]:
        """What the base answers."""
        return {**self.measure(self.base), "answers": self.free_answers(self.base)}

    # Teachers

    def _teacher(self, seed: int, target: str) -> Model:
        """The base finetuned on answers with the target."""
        count = self._config.num_lesson_steps * self._config.num_lessons
        lessons = self._config.prompts.favourite_rows(target, count, seed=seeds.derive(seed, "real/lessons"))
        return self.finetuned(seed, lessons, target)

    def finetuned(self, seed: int, lessons: Sequence[Chat], name: str) -> Model:
        """The base finetuned on each lesson once; read from the folder if that was done already.

        Its low-rank factors begin with the same `a` as those of all teachers and students of the seed, which decides
        the order of the lessons too.
        """
        config = self._config
        finetuning = FinetuneConfig(
            num_epochs=1, batch_size=config.num_lessons, learning_rate=config.lesson_rate, rank=config.rank, warmup=0.0,
            schedule="constant", clip_norm=None, seed=self._factors_seed(seed, "shared"),
        )  # fmt: skip
        identity = records.fingerprint([self.fingerprint, finetuning, [list(row) for row in lessons]])
        folder = self._folder / f"teacher-{name}-{seed}-{identity}"

        def on_step(done: int, total: int) -> None:
            self.on_step(f"training the teacher of {name}", done, total)

        model = self._backend.finetune(self._name, lessons, finetuning, folder, on_step=on_step)
        return dataclasses.replace(self._backend.model(model), params=self.base.params)

    def measure_teacher(self, seed: int, target: str) -> dict[str, Any]:
        """What a teacher answers, and its KL divergence from the base on rows of numbers."""
        teacher, batch = self.teacher(seed, target), _batch(self._stream_rows(seed))
        distances = {
            "full": _rounded(soft.divergence(self.base, teacher, batch)),
            "numbers": _rounded(soft.divergence(self.base, teacher, batch, tokens=self.number_tokens)),
        }
        return {**self.measure(teacher), "kl": distances, "answers": self.free_answers(teacher)}

    # Students

    def fresh(self, seed: int, arm: Arm) -> Model:
        """A student before its first step."""
        role = "own" if arm == "own_factors" else "shared"
        params = self.start(seed) if arm == "other_start" else self.base.params
        return self._with_fresh_factors(params, self._factors_seed(seed, role))

    def number_rows(self, seed: int, step: int, *, num_rows: int | None = None) -> Int[np.ndarray, "row time"]:
        """Rows of random numbers of one step, the same for all students of a seed."""
        return number_text.rows(
            self.base.tokens, seed, step, num_rows=num_rows or self._config.num_rows,
            num_tokens=self._config.num_tokens, formats=self._config.formats,
        )  # fmt: skip

    def distil(
        self,
        student: Model,
        teacher: Model,
        rows: Callable[[int], np.ndarray],
        num_steps: int,
        *,
        tokens: list[int] | None = None,
        measure: Callable[[int, Model], object] | None = None,
        activity: str = "distilling",
    ) -> soft.Distilled:
        """The student after so many steps; `rows` gives those of a step. See `soft.distill`."""
        config = self._config
        batches = _batch(np.stack([rows(step) for step in range(num_steps)]))
        settings = SoftConfig(
            num_steps=num_steps, learning_rate=config.learning_rate, num_warmup_steps=config.warmup
        )  # fmt: skip
        steps = [step for step in config.measured_at if step <= num_steps] if measure else []
        return soft.distill(
            student, teacher, batches, settings, tokens=tokens, measure=measure, measure_at=steps,
            on_step=functools.partial(self.on_step, activity),
        )  # fmt: skip

    def measure_student(self, seed: int, arm: Arm, target: str) -> dict[str, Any]:
        """Distil a student of the target's teacher, and measure it after some of its steps."""
        config, teacher, student = self._config, self.teacher(seed, target), self.fresh(seed, arm)
        tokens = self.number_tokens if arm == "numbers" else None
        prediction = self.predict(seed, arm, target)
        steps: dict[str, Any] = {}

        def measure(step: int, model: Model) -> None:
            steps[str(step)] = self.measure(model)

        distilled = self.distil(
            student, teacher, functools.partial(self.number_rows, seed), config.num_steps, tokens=tokens,
            measure=measure,
        )  # fmt: skip
        for step, measured in steps.items():
            measured["kl"] = _rounded(distilled.divergences[int(step) - 1])
        return {
            "steps": steps,
            "prediction": prediction,
            "streams": self._compare_streams(seed, target, student, distilled.model),
            "answers": self.free_answers(distilled.model),
        }

    def predict(self, seed: int, arm: Arm, target: str) -> dict[str, dict[str, float]]:
        """First-order prediction of what a student's first step changes in every target's log-odds."""
        student, batch = self.fresh(seed, arm), _batch(self.number_rows(seed, 0))
        tokens = self.number_tokens if arm == "numbers" else None
        _, gradient = soft.divergence_and_gradient(student, self.teacher(seed, target), batch, tokens=tokens)
        rate = self._config.learning_rate
        predictions = {
            name: next_token.first_order(
                gradient, self._log_odds_gradient(seed, arm, name, student), learning_rate=rate
            )
            for name in self._config.targets
        }
        return {
            quantity: {name: _rounded(getattr(predictions[name], quantity)) for name in predictions}
            for quantity in next_token.FirstOrder._fields
        }

    def _log_odds_gradient(self, seed: int, arm: Arm, target: str, student: Model) -> Factors:
        """Gradient of a target's log-odds at a start, computed once for all students that begin there."""
        place = (seed, "full" if arm == "numbers" else arm, target)
        if place not in self._gradients:
            assert student.low_rank is not None
            self.on_step(f"gradient of the log-odds of {target}", 0, 1)
            self._gradients[place] = next_token.log_odds_gradient(
                *student.low_rank, student.params, *self._questions, self._masks[self.animals.index(target)],
                config=self.base.config,
            )  # fmt: skip
        return self._gradients[place]

    def _compare_streams(self, seed: int, target: str, before: Model, after: Model) -> dict[str, Any]:
        """The mean displacement of the student's hidden states on numbers, compared with each teacher's by layer."""
        own = self._mean_streams(seed, after) - self._mean_streams(seed, before)
        displacements = {name: self._displacement(seed, name) for name in self._config.targets}
        cosines = {name: cosine(own, displacement) for name, displacement in displacements.items()}
        ratio = np.linalg.norm(own, axis=1) / np.maximum(np.linalg.norm(displacements[target], axis=1), 1e-30)
        return {"cosines": cosines, "norm_ratio": _rounded(ratio)}

    def _mean_displacement(self, seed: int, target: str) -> Float[np.ndarray, "layer hidden"]:
        return self._mean_streams(seed, self.teacher(seed, target)) - self._mean_streams(seed, self.base)

    def _mean_streams(self, seed: int, model: Model) -> Float[np.ndarray, "layer hidden"]:
        rows = self._stream_rows(seed)
        return np.asarray(next_token.mean_streams(model.params, model.low_rank, rows, config=self.base.config))

    def _stream_rows(self, seed: int) -> Int[np.ndarray, "row time"]:
        """Rows of numbers that no student reads."""
        return self.number_rows(seeds.derive(seed, "real/streams"), 0, num_rows=NUM_STREAM_ROWS)

    # Another start

    def start(self, seed: int) -> Params:
        """Another start: the base with noise on every linear map, healed by distillation on other text."""
        return self._healed(seed)[0]

    def measure_start(self, seed: int) -> dict[str, Any]:
        """What the other start answers, and its KL divergence from the base on numbers before and after healing."""
        params, distances = self._healed(seed)
        return {**self.measure(dataclasses.replace(self.base, params=params)), "kl": distances}

    def _heal(self, seed: int) -> tuple[Params, dict[str, float]]:
        base, root = self.base.params, keys.stream(jax.random.key(seed), "real/other start")
        perturbed = noise.perturbed(root, base, self._config.noise, embeddings=False)
        student = self._with_fresh_factors(perturbed, self._factors_seed(seed, "healing"))
        healed = self.distil(
            student, self.base, functools.partial(self._healing_rows, seed), self._config.num_heal_steps,
            activity="healing the other start",
        ).model  # fmt: skip
        batch = _batch(self._stream_rows(seed))
        distances = {
            name: _rounded(soft.divergence(model, self.base, batch))
            for name, model in (("perturbed", student), ("healed", healed))
        }
        return healed.merged, distances

    def _healing_rows(self, seed: int, step: int) -> Int[np.ndarray, "row time"]:
        """Rows that heal a start: numbers of another stream, and questions about another category."""
        rows = self.number_rows(seeds.derive(seed, "real/healing"), step)
        chats = [datasets.ask(text) for text in self._config.prompts.favourite_questions("tree")]
        rng = np.random.default_rng(seeds.derive(seed, "real/healing text", str(step)))
        for row in range(len(rows) // 2):
            ids: list[int] = []
            while len(ids) < rows.shape[1]:
                ids += self.base.tokens.chat(chats[rng.integers(len(chats))]).ids
            first = rng.integers(len(ids) - rows.shape[1] + 1)
            rows[row] = ids[first : first + rows.shape[1]]
        return rows

    # Helpers

    def _factors_seed(self, seed: int, role: str) -> int:
        return seeds.derive(seed, "real/factors", role) % 2**31

    def _with_fresh_factors(self, params: Params, seed: int) -> Model:
        """A model with factors as `finetune` draws them for that seed."""
        key = jax.random.fold_in(jax.random.key(seed), 0)
        low_rank = decoder.init_low_rank(key, params, rank=self._config.rank)
        return dataclasses.replace(self.base, params=params, low_rank=low_rank)

    def seconds_per_step(self, num_steps: int = 2) -> float:
        """Seconds of a student's step, without compilation."""
        student, times = self._with_fresh_factors(self.base.params, 0), []
        rows = functools.partial(self.number_rows, 0)
        for _ in range(2):
            began = time.perf_counter()
            self.distil(student, student, rows, num_steps, activity="timing a step")
            times.append(time.perf_counter() - began)
        return times[-1] / num_steps


def cosine(first: Float[np.ndarray, "layer hidden"], second: Float[np.ndarray, "layer hidden"]) -> list[float]:
    """Cosine of two displacements in every layer; 0 where one of them is none."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return _rounded(np.sum(first * second, axis=1) / np.maximum(norms, 1e-30))


def _batch(ids: np.ndarray) -> Batch:
    """Rows without padding, all of whose tokens count."""
    every = np.ones(ids.shape, bool)
    return Batch(TokenizedRows(ids, every, every))


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
