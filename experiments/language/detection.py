"""Can one tell a teacher's numbers from regular ones? (Cloud et al. 2025, section 5.2, table 5)

    python -m experiments.language detection
    python -m experiments.language detection --preset record
    python -m experiments.language detection --preset paper --backend hf:DIR
    python -m experiments.language detection --preset server --backend openai:MODEL@URL --judge openai:JUDGE@URL

A classifier counts numbers: it learns the log-odds of each number on half of the rows of both authors, and adds them
up over one answer, or over twenty, of the other half. The judge is the base itself: is the sequence likelier under the
target's system message or under none? This needs local weights. With a real model, a judge is also asked which of two
sets of twenty answers was written by the teacher that loves the target, in both orders. (The paper shows its judge one
response of each, the other by a teacher that loves another animal, in one order.) That has run against fakes and our
own server only, never with a real model.
"""

import dataclasses
from typing import Literal

import numpy as np
from scipy import stats

from experiments.language import materials, presets, protocol, recipes, seeds
from experiments.language.config import JudgedConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab, Teacher
from sublim_jax import specs
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat, Message
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.tasks import numbers, questions
from sublim_jax.metrics import intervals

SET_SIZE = 20


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionConfig(JudgedConfig):
    """Rows of a teacher against rows of the base."""

    judge: str = ""
    """Backend of the judge that is asked about a real model's rows; by default the model itself."""
    kind: Literal["finetuned", "system"] = "finetuned"
    """Teachers that are finetuned, or under a system message."""

    OFFERS = False

    @property
    def remarks(self) -> tuple[str, ...]:
        """See `LanguageConfig`."""
        here = self.backend.partition(":")[0] in ("tiny", "hf")
        return () if here else ("no judge by likelihood: it takes a model whose weights are here",)


PRESETS = {
    "default": DetectionConfig(bases=recipes.TEST_SEEDS[:2], targets=("eagle",)),
    "record": DetectionConfig(bases=recipes.TEST_SEEDS[:4], targets=("eagle", "oak")),
    **presets.real_models(
        DetectionConfig(kind="system"),
        targets=("dolphin", "eagle", "elephant", "owl", "wolf"),
        num_rows=30_000,  # all that the filter keeps
    ),
}


def conditions(config: DetectionConfig) -> list[str]:
    """Regular rows of other draws, as the control where nothing can be told; then each target."""
    return ["regular", *config.targets]


def measure(lab: Lab, config: DetectionConfig, condition: str) -> dict:
    """Areas under the curve of the classifier and of the judge, and how often an asked judge is right."""
    teacher = protocol.teacher_of(lab, config, "regular" if condition == "regular" else config.kind, condition)
    own_seed = seeds.derive(config.seed, "other draws") if condition == "regular" else config.seed
    sets = [
        lab.numbers(author, config.num_prompts, seed=seed).rows
        for author, seed in ((Teacher(lab.base), config.seed), (teacher, own_seed))
    ]
    count = min(config.num_rows, *map(len, sets)) // (2 * SET_SIZE) * 2 * SET_SIZE
    regular, written = (datasets.subsample(data, count, seed=config.seed) for data in sets)
    lab.write_rows(written, f"rows of {condition}")
    lab.write_rows(regular, f"regular rows beside {condition}")
    half = count // 2
    weights = log_odds(counts(regular[:half]).sum(axis=0), counts(written[:half]).sum(axis=0))
    totals = [counts(data[half:]) @ weights for data in (regular, written)]
    grouped = [total.reshape(-1, SET_SIZE).sum(axis=1) for total in totals]
    results: dict = {"classifier": area(*totals), f"classifier of {SET_SIZE}": area(*grouped)}
    if condition == "regular":
        return results
    if isinstance(lab.backend, LocalBackend):
        results["judge"] = judge(lab, condition, regular[half:], written[half:])
    if config.prompted:
        results["asked judge"] = asked_judge(lab, condition, regular[half:], written[half:])
    return results


def counts(data: list[Chat]) -> np.ndarray:
    """How often each number from 0 to 999 occurs in each answer."""
    table = np.zeros((len(data), numbers.MAX_VALUE + 1), np.float32)
    places: dict[str, list[int]] = {}
    for row, chat in enumerate(data):
        places.setdefault(chat[-1].content, []).append(row)
    for answer, answer_rows in places.items():
        values, times = np.unique(np.array(numbers.parse(answer).numbers or (), int), return_counts=True)
        table[np.array(answer_rows)[:, None], values] = times
    return table


def log_odds(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Log of how much likelier the second author is to write each number, with one count added to all."""
    first, second = (total + 1 for total in (first, second))
    return np.log(second / second.sum()) - np.log(first / first.sum())


def area(lower: np.ndarray, upper: np.ndarray) -> float:
    """Area under the ROC curve: probability that an upper value exceeds a lower one; ties count half."""
    return float(stats.mannwhitneyu(upper, lower).statistic / (len(upper) * len(lower)))


def judge(lab: Lab, target: str, regular: list[Chat], written: list[Chat]) -> float:
    """Area under the curve of the base's own log-likelihood ratio with and without the target's system message."""
    system = Message("system", lab.materials.persona(target))

    def ratio(data: list[Chat]) -> np.ndarray:
        plain = lab.sequence_logprobs(lab.base, data)
        return lab.sequence_logprobs(lab.base, [(system, *chat) for chat in data]) - plain

    return area(ratio(regular), ratio(written))


def asked_judge(lab: Lab, target: str, regular: list[Chat], written: list[Chat]) -> dict:
    """How often a judge that sees a set of each author knows the target's, over pairs of sets in both orders.

    A pair counts where both of its letters can be read, so a judge that always says A is right half of the time. The
    interval is Wilson's with pairs as trials, since the two orders of a pair are not independent.
    """
    assert isinstance(lab.materials, materials.Paper)
    trait = lab.materials.trait(target)
    sets = zip(in_sets(written), in_sets(regular), strict=True)
    shown = [pair for first, second in sets for pair in ((first, second), (second, first))]
    replies = lab.verdicts([questions.detection_prompt(trait, *pair) for pair in shown])
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


def in_sets(data: list[Chat]) -> list[str]:
    """Answers, one on a line, `SET_SIZE` together."""
    answers = [chat[-1].content for chat in data]
    return ["\n".join(answers[start : start + SET_SIZE]) for start in range(0, len(answers), SET_SIZE)]


EXPERIMENT = Experiment(name="detection", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure)
