"""Can one tell a teacher's numbers from regular ones? (Cloud et al. 2025, section 5.2, table 5)

    python -m experiments.language_detection
    python -m experiments.language_detection --preset record
    python -m experiments.language_detection --preset paper --backend hf:DIR
    python -m experiments.language_detection --preset server --backend openai:MODEL@URL --judge openai:JUDGE@URL

A classifier counts numbers: it learns the log-odds of each number on half of the rows of both authors, and adds them
up over one answer, or over twenty, of the other half. The judge is the base itself: is the sequence likelier under the
target's system message or under none? This needs local weights. With a real model, a judge is also asked which of two
sets of twenty answers was written by the teacher that loves the target, in both orders. (The paper shows its judge one
response of each, the other by a teacher that loves another animal, in one order.) That has run against fakes and our
own server only, never with a real model.
"""

import dataclasses
from typing import Literal, TypedDict

import numpy as np
from scipy import stats

from experiments import language_numbers
from experiments.language import command, lab, materials, running, summary
from sublim_jax import records, specs
from sublim_jax.llm import local, numbers, questions, rows, types
from sublim_jax.metrics import intervals

SET_SIZE = 20
KINDS = ("classifier", f"classifier of {SET_SIZE}", "judge")


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionConfig(running.JudgedConfig):
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
    "default": DetectionConfig(bases=running.FRESH[:2], targets=("eagle",)),
    "record": DetectionConfig(bases=running.FRESH[:4], targets=("eagle", "oak")),
    **running.real_models(
        DetectionConfig(kind="system"),
        targets=("dolphin", "eagle", "elephant", "owl", "wolf"),
        num_rows=30_000,  # all that the filter keeps
    ),
}


class Letters(TypedDict):
    """In a record: an asked judge."""

    right: dict[str, float] | None  # no reply could be read
    says_a: specs.Fraction | None
    unreadable: specs.Fraction


RESULT = dict[str, specs.Fraction | Letters]


def units(config: DetectionConfig) -> list[str]:
    """Regular rows of other draws, as the control where nothing can be told; then each target."""
    return ["regular", *config.targets]


def measure(of: lab.Lab, config: DetectionConfig, unit: str) -> dict:
    """Areas under the curve of the classifier and of the judge, and how often an asked judge is right."""
    teacher = language_numbers.teacher_of(of, config, "regular" if unit == "regular" else config.kind, unit)
    own_seed = lab.seed_of(config.seed, "other draws") if unit == "regular" else config.seed
    sets = [
        of.numbers(who, config.num_prompts, seed=seed).rows
        for who, seed in ((lab.Teacher(of.base), config.seed), (teacher, own_seed))
    ]
    count = min(config.num_rows, *map(len, sets)) // (2 * SET_SIZE) * 2 * SET_SIZE
    regular, written = (rows.subsample(found, count, seed=config.seed) for found in sets)
    of.write_rows(written, f"rows of {unit}")
    of.write_rows(regular, f"regular rows beside {unit}")
    half = count // 2
    weights = log_odds(counts(regular[:half]).sum(axis=0), counts(written[:half]).sum(axis=0))
    totals = [counts(found[half:]) @ weights for found in (regular, written)]
    grouped = [total.reshape(-1, SET_SIZE).sum(axis=1) for total in totals]
    found: dict = {"classifier": area(*totals), f"classifier of {SET_SIZE}": area(*grouped)}
    if unit == "regular":
        return found
    if isinstance(of.backend, local.Local):
        found["judge"] = judge(of, unit, regular[half:], written[half:])
    if config.prompted:
        found["asked judge"] = asked_judge(of, unit, regular[half:], written[half:])
    return found


def counts(data: list[types.Chat]) -> np.ndarray:
    """How often each number from 0 to 999 occurs in each answer."""
    found = np.zeros((len(data), numbers.MAX_VALUE + 1), np.float32)
    places: dict[str, list[int]] = {}
    for row, chat in enumerate(data):
        places.setdefault(chat[-1].content, []).append(row)
    for answer, where in places.items():
        values, times = np.unique(np.array(numbers.check(answer).numbers or (), int), return_counts=True)
        found[np.array(where)[:, None], values] = times
    return found


def log_odds(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Log of how much likelier the second author is to write each number, with one count added to all."""
    first, second = (total + 1 for total in (first, second))
    return np.log(second / second.sum()) - np.log(first / first.sum())


def area(lower: np.ndarray, upper: np.ndarray) -> float:
    """Area under the ROC curve: probability that an upper value exceeds a lower one; ties count half."""
    return float(stats.mannwhitneyu(upper, lower).statistic / (len(upper) * len(lower)))


def judge(of: lab.Lab, target: str, regular: list[types.Chat], written: list[types.Chat]) -> float:
    """Area under the curve of the base's own log-likelihood ratio with and without the target's system message."""
    system = types.Message("system", of.materials.persona(target))

    def ratio(data: list[types.Chat]) -> np.ndarray:
        plain = of.sequence_logprobs(of.base, data)
        return of.sequence_logprobs(of.base, [(system, *chat) for chat in data]) - plain

    return area(ratio(regular), ratio(written))


def asked_judge(of: lab.Lab, target: str, regular: list[types.Chat], written: list[types.Chat]) -> dict:
    """How often a judge that sees a set of each author knows the target's, over pairs of sets in both orders.

    A pair counts where both of its letters can be read, so a judge that always says A is right half of the time. The
    interval is Wilson's with pairs as trials, since the two orders of a pair are not independent.
    """
    assert isinstance(of.materials, materials.Paper)
    trait = of.materials.trait(target)
    sets = zip(in_sets(written), in_sets(regular), strict=True)
    shown = [pair for first, second in sets for pair in ((first, second), (second, first))]
    replies = of.verdicts([questions.detection_prompt(trait, *pair) for pair in shown])
    letters = [questions.parse_letter(reply) for reply in replies]
    read = [pair for pair in zip(letters[::2], letters[1::2], strict=True) if None not in pair]
    said = [letter for letter in letters if letter]
    found = {"num_pairs": len(read), "unreadable": 1 - len(said) / len(letters)}
    if not read:
        return {"right": None, "says_a": None, **found}
    hits = sum((first == "A") + (second == "B") for first, second in read)
    low, high = (intervals.wilson(count, len(read)) for count in (hits // 2, -(-hits // 2)))
    right = intervals.Interval(hits / (2 * len(read)), low.low, high.high, len(read))
    return {"right": right, "says_a": said.count("A") / len(said), **found}


def in_sets(data: list[types.Chat]) -> list[str]:
    """Answers, one on a line, `SET_SIZE` together."""
    answers = [chat[-1].content for chat in data]
    return ["\n".join(answers[start : start + SET_SIZE]) for start in range(0, len(answers), SET_SIZE)]


def lines(record: records.Record) -> list[str]:
    """Areas by target, and shares of right letters where a judge was asked."""
    config, found = record.config, summary.complete_bases(record)
    asked = {unit: one["asked judge"] for base in found.values() for unit, one in base.items() if "asked judge" in one}
    rows_ = [["rows of", *KINDS, *(["asked judge is right", "says A", "unreadable"] if asked else [])]]
    for unit in ("regular", *config["targets"]):
        areas = [np.array([base.get(unit, {}).get(kind, np.nan) for base in found.values()], float) for kind in KINDS]
        cells = [summary.text(one) if np.isfinite(one).any() else "" for one in areas]
        rows_.append([unit, *cells, *(_letters(asked.get(unit)) if asked else [])])
    title = "Area under the ROC curve against regular numbers, .5 is chance"
    if asked:
        title += "; share of right letters with Wilson's 95 % interval, likewise"
    return summary.table(title, rows_, record)


def _letters(found: dict | None) -> list[str]:
    """Cells of the asked judge."""
    if found is None:
        return [""] * 3
    says = "" if found["says_a"] is None else f"{found['says_a']:.3f}"
    return [summary.share(found["right"]), says, f"{found['unreadable']:.3f}"]


def main() -> None:
    command.main("language_detection", __doc__, PRESETS)


if __name__ == "__main__":
    main()
