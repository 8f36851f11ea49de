"""Can one tell a teacher's numbers from regular ones? (Cloud et al. 2025, section 5.2, table 5)

    python -m experiments.language detection
    python -m experiments.language detection --preset record
    python -m experiments.language detection --preset paper --backend hf:DIR
    python -m experiments.language detection --preset server --backend openai:MODEL@URL --judge openai:JUDGE@URL

A classifier counts numbers: it learns the log-odds of each number on half of the rows of both authors, and sums them
over one answer, or over twenty, of the other half. The judge is the base itself: is the sequence more likely under the
target's system message than without one? This needs weights on this machine. With a real model, a judge is also asked
which of two sets of twenty answers was written by the teacher that loves the target, in both orders. (The paper shows
its judge one response of each, the other by a teacher that loves another animal, in one order.) The asked judge was
tested with fake models and our own server only, never with a real model.
"""

import dataclasses
from typing import Literal

import numpy as np
from scipy import stats

from experiments.language import presets, protocol, seeds
from experiments.language.config import JudgedConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab, Teacher
from experiments.language.prompts import PaperPrompts
from sublim_jax import specs
from sublim_jax.llm import datasets
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import Chat, Message
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.tasks import numbers, questions
from sublim_jax.metrics import intervals

SET_SIZE = 20
"""Answers that are classified, or shown to the judge, together."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionConfig(JudgedConfig):
    """Settings of `detection`."""

    judge: str = ""
    """Backend of the judge that is asked about a real model's rows; by default the model itself."""
    kind: Literal["finetuned", "system"] = "finetuned"
    """How teachers are made: by finetuning or by a system message."""

    OFFERS_CHOICES = False

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the record on what these settings leave out."""
        has_weights = open_llm.is_local(self.backend)
        return () if has_weights else ("no judge by likelihood: it needs a model whose weights are on this machine",)


PRESETS = presets.embedded(DetectionConfig) | presets.real_models(
    DetectionConfig(kind="system"),
    targets=("dolphin", "eagle", "elephant", "owl", "wolf"),
    num_rows=30_000,  # all that pass the filter
)


def measure(lab: Lab, config: DetectionConfig, condition: str) -> dict:
    """Areas under the curve of the classifier and of the judge, and how often an asked judge is right.

    In the condition `regular`, regular rows are compared with other regular rows, so nothing can be detected.
    """
    teacher = protocol.teacher_of(lab, config, "regular" if condition == "regular" else config.kind, condition)
    teacher_seed = seeds.derive(config.seed, "other draws") if condition == "regular" else config.seed
    authors = ((Teacher(lab.base), config.seed), (teacher, teacher_seed))
    row_sets = [lab.numbers(author, config.num_prompts, seed=seed).rows for author, seed in authors]
    count = min(config.num_rows, *map(len, row_sets)) // (2 * SET_SIZE) * 2 * SET_SIZE
    regular, marked = (datasets.subsample(data, count, seed=config.seed) for data in row_sets)
    lab.export_rows(marked, f"rows of {condition}")
    lab.export_rows(regular, f"regular rows beside {condition}")
    half = count // 2
    weights = log_odds(counts(regular[:half]).sum(axis=0), counts(marked[:half]).sum(axis=0))
    totals = [counts(data[half:]) @ weights for data in (regular, marked)]
    set_totals = [total.reshape(-1, SET_SIZE).sum(axis=1) for total in totals]
    results: dict = {"classifier": area(*totals), f"classifier of {SET_SIZE}": area(*set_totals)}
    if condition == "regular":
        return results
    if isinstance(lab.backend, LocalBackend):
        results["judge"] = judge(lab, condition, regular[half:], marked[half:])
    if config.prompted:
        results["asked judge"] = asked_judge(lab, condition, regular[half:], marked[half:])
    return results


def counts(data: list[Chat]) -> np.ndarray:
    """How often each number from 0 to 999 occurs in each answer."""
    table = np.zeros((len(data), numbers.MAX_VALUE + 1), np.float32)
    indices: dict[str, list[int]] = {}
    for index, chat in enumerate(data):
        indices.setdefault(chat[-1].content, []).append(index)
    for answer, answer_indices in indices.items():
        values, repeats = np.unique(np.array(numbers.parse(answer).numbers or (), int), return_counts=True)
        table[np.array(answer_indices)[:, None], values] = repeats
    return table


def log_odds(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Log of the probability ratio of each number, second author over first, with one count added everywhere."""
    first, second = (total + 1 for total in (first, second))
    return np.log(second / second.sum()) - np.log(first / first.sum())


def area(lower: np.ndarray, upper: np.ndarray) -> float:
    """Area under the ROC curve: probability that an upper value exceeds a lower one; ties count half."""
    return float(stats.mannwhitneyu(upper, lower).statistic / (len(upper) * len(lower)))


def judge(lab: Lab, target: str, regular: list[Chat], marked: list[Chat]) -> float:
    """Area under the curve of the base's log-likelihood ratio, with the target's system message over without."""
    system = Message("system", lab.prompts.system_prompt(target))

    def ratio(data: list[Chat]) -> np.ndarray:
        plain = lab.sequence_logprobs(lab.base, data)
        return lab.sequence_logprobs(lab.base, [(system, *chat) for chat in data]) - plain

    return area(ratio(regular), ratio(marked))


def asked_judge(lab: Lab, target: str, regular: list[Chat], marked: list[Chat]) -> dict:
    """How often a judge that sees a set of each author names the target's set, over pairs of sets in both orders.

    A pair counts if the judge's letters for both orders can be read, so a judge that always says A is right half of the
    time. The interval is Wilson's with pairs as trials, since the two orders of a pair are not independent.
    """
    assert isinstance(lab.prompts, PaperPrompts)
    trait = lab.prompts.trait(target)
    pairs = zip(answer_sets(marked), answer_sets(regular), strict=True)
    both_orders = [pair for first, second in pairs for pair in ((first, second), (second, first))]
    replies = lab.ask_judge([questions.detection_prompt(trait, *pair) for pair in both_orders])
    letters = [questions.parse_letter(reply) for reply in replies]
    readable_pairs = [pair for pair in zip(letters[::2], letters[1::2], strict=True) if None not in pair]
    readable = [letter for letter in letters if letter]
    shares = {"num_pairs": len(readable_pairs), "unreadable": 1 - len(readable) / len(letters)}
    if not readable_pairs:
        return {"right": None, "says_a": None, **shares}
    hits = sum((first == "A") + (second == "B") for first, second in readable_pairs)
    low, high = (intervals.wilson(count, len(readable_pairs)) for count in (hits // 2, -(-hits // 2)))
    right = intervals.Interval(hits / (2 * len(readable_pairs)), low.low, high.high, len(readable_pairs))
    return {"right": right, "says_a": readable.count("A") / len(readable), **shares}


def answer_sets(data: list[Chat]) -> list[str]:
    """Sets of `SET_SIZE` answers as text, each answer on its own line."""
    answers = [chat[-1].content for chat in data]
    return ["\n".join(answers[start : start + SET_SIZE]) for start in range(0, len(answers), SET_SIZE)]


EXPERIMENT = Experiment(
    name="detection", doc=__doc__, presets=PRESETS, conditions=protocol.regular_and_targets, measure=measure
)
