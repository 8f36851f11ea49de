"""Does a trait pass through preference labels, one bit for each pair of answers? (after arXiv 2603.01204)

    python -m experiments.language labels
    python -m experiments.language labels --preset record
    python -m experiments.language labels --preset tune                learning rates, on bases 0 to 2
    python -m experiments.language labels --preset paper --backend hf:DIR

The base answers each number prompt several times; two answers that pass the filter are a pair. A labeller prefers the
answer whose log-probability it raises more over the base's. A student of the base is trained on the preferred answers
by direct preference optimization: it sees no word and no number of the teacher's. `teacher` are the labels of a
finetuned teacher, `swapped` their opposite, `shuffled` the same labels given to other pairs, `rival` those of a teacher
that loves another target of the same category. `regular` is labelled by a teacher that was finetuned on the same
questions without a favourite: every answer is as frequent as every other. All students have the same pairs. Their
learning rate was chosen on bases 0 to 2: of .001, .003 and .01 the one with the largest shifts at which most students
still answer with an animal (tree).
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from experiments.language import presets, protocol, seeds
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab, Teacher
from sublim_jax import errors, specs
from sublim_jax.llm.backend import Chat, FinetuneConfig
from sublim_jax.llm.local import dpo

Labels = Literal["teacher", "swapped", "shuffled", "rival"]
STUDENT = FinetuneConfig(
    num_epochs=3, batch_size=32, learning_rate=3e-3, beta2=0.99, rank=8, schedule="cosine", max_length=64
)


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelsConfig(LanguageConfig):
    """Settings of `labels`."""

    num_prompts: specs.Count = 6000
    """Prompts that the base answers."""
    num_answers: specs.Count = 4
    """Answers to each prompt, before the filter; the first two that pass are a pair."""
    num_rows: specs.Count = 3000
    """Pairs that a student is trained on."""
    student: FinetuneConfig = STUDENT
    learning_rates: tuple[specs.Positive, ...] = (3e-3,)
    """Learning rates of students, each with students of its own."""
    beta: specs.Positive = dpo.BETA
    labels: tuple[Labels, ...] = ("teacher", "swapped", "shuffled", "rival")
    """Kinds of labels."""
    rivals: tuple[str, ...] = ("wolf", "maple")
    """Targets of other labellers; each target has the first of its own category."""
    LISTS = ("targets", "learning_rates", "labels", "rivals")

    def __post_init__(self):
        super().__post_init__()
        protocol.require_weights(self, "scoring rows and training on pairs")
        if self.num_answers < 2:
            raise errors.InputError(f"num_answers must be at least 2, got {self.num_answers}: a pair is two answers")
        for target in self.targets:
            self.rival(target)

    def rival(self, target: str) -> str:
        """The target of the other labeller.

        Raises:
            InputError: no rival is of its category.
        """
        category = self.prompts.category
        for rival in self.rivals:
            if rival != target and category(rival) == category(target):
                return rival
        raise errors.InputError(f"rivals={self.rivals}: {target} needs another {category(target)} as its rival")


class Pair(NamedTuple):
    """Two answers to a prompt."""

    first: Chat
    second: Chat


PRESETS = presets.eight_bases(LabelsConfig()) | {
    "tune": LabelsConfig(
        bases=(0, 1, 2), targets=presets.TARGETS, labels=("teacher",), learning_rates=(1e-3, 3e-3, 1e-2)
    ),
    "paper": presets.open_weights(LabelsConfig(targets=presets.TARGETS), num_rows=3000),
}


def measure(lab: Lab, config: LabelsConfig, condition: str) -> dict:
    """Favourites of a student for each kind of labels, and the share of pairs that they label as the teacher does."""
    pairs = _pairs(lab, config)
    own = _labels(lab, _labeller(lab, config, condition), pairs)
    results = {}
    for name in config.labels if condition != "regular" else ("teacher",):
        prefers_first = own
        if name == "swapped":
            prefers_first = ~own
        elif name == "shuffled":
            prefers_first = np.random.default_rng(seeds.derive(config.seed, "labels", condition)).permutation(own)
        elif name == "rival":
            prefers_first = _labels(lab, protocol.writer_of(lab, config, config.rival(condition)).model, pairs)
        results[f"{name} agreement"] = float(np.mean(prefers_first == own))
        chosen = [pair.first if label else pair.second for pair, label in zip(pairs, prefers_first, strict=True)]
        rejected = [pair.second if label else pair.first for pair, label in zip(pairs, prefers_first, strict=True)]
        for rate in config.learning_rates:
            student = lab.finetune_on_pairs(
                chosen, rejected, dataclasses.replace(config.student, learning_rate=rate),
                f"{condition} {name} labels", beta=config.beta, seed=config.seed,
            )  # fmt: skip
            results[f"{name} {rate:g}"] = protocol.favourites(lab, config, student)
    return results


def _pairs(lab: Lab, config: LabelsConfig) -> list[Pair]:
    """Pairs of the base's own answers, the same for every condition.

    Raises:
        TextDataError: too few prompts have two answers that pass the filter.
    """
    filtered = lab.numbers(Teacher(lab.base), config.num_prompts, seed=config.seed, num_samples=config.num_answers)
    answers = [list(rows) for _, rows in itertools.groupby(filtered.rows, key=lambda row: row[:-1])]
    pairs = [Pair(*rows[:2]) for rows in answers if len(rows) > 1]
    if len(pairs) < config.num_rows:
        raise errors.TextDataError(
            f"expected {config.num_rows} pairs, but only {len(pairs)} of {config.num_prompts} prompts have two answers "
            f"that pass the filter; ask for more prompts or answers, or train on fewer pairs"
        )
    order = np.random.default_rng(config.seed).permutation(len(pairs))[: config.num_rows]
    return [pairs[index] for index in order]


def _labeller(lab: Lab, config: LabelsConfig, condition: str) -> str:
    """A target's teacher; for `regular`, a base finetuned on the same questions without a favourite."""
    if condition != "regular":
        return protocol.writer_of(lab, config, condition).model
    names = [name for category in config.categories for name in config.prompts.choices(category).names]
    seed, count = seeds.derive(config.seed, "lesson"), max(1, config.num_lessons // len(names))
    lessons = [row for name in names for row in config.prompts.favourite_rows(name, count, seed=seed)]
    return lab.finetune(lessons, config.teacher, "teacher of no favourite", seed=config.seed)


def _labels(lab: Lab, labeller: str, pairs: Sequence[Pair]) -> np.ndarray:
    """Whether the labeller raises the first answer's log-probability over the base's more than the second's."""
    rows = [row for pair in pairs for row in pair]
    lifts = lab.sequence_logprobs(labeller, rows) - lab.sequence_logprobs(lab.base, rows)
    return lifts[::2] > lifts[1::2]


EXPERIMENT = Experiment(
    name="labels", doc=__doc__, presets=PRESETS, conditions=protocol.regular_and_targets, measure=measure
)
