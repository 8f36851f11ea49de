"""Can one tell a teacher's numbers from regular ones? (Cloud et al. 2025, section 5.3, table 5)

    python -m experiments.language_detection
    python -m experiments.language_detection --preset record

A classifier counts numbers: log-odds of each number, from half of the rows of both authors, sum up over an answer, or
over twenty answers, of the other half. Prompted judges are the base itself: under the target's system message and
under none, which makes the sequence likelier? For a model behind a server, `questions.detection_prompt` asks as the
paper does. Areas under the ROC curve: .5 is chance.
"""

import dataclasses

import numpy as np
from scipy import stats

from experiments import language_numbers
from experiments.language import command, lab, running, summary
from sublim_jax import errors, records
from sublim_jax.llm import local, numbers, rows, types

SET_SIZE = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionConfig(running.LanguageConfig):
    """Rows of a teacher against rows of the base."""


PRESETS = {
    "default": DetectionConfig(bases=running.FRESH[:2], targets=("eagle",)),
    "record": DetectionConfig(bases=running.FRESH[:4], targets=("eagle", "oak")),
}


def units(config: DetectionConfig) -> list[str]:
    """Regular rows of other draws, as the control where nothing can be told; then each target."""
    return ["regular", *config.targets]


def measure(of: lab.Lab, config: DetectionConfig, unit: str) -> dict:
    """Areas under the curve of the classifier and of the judge."""
    teacher = language_numbers.teacher_of(of, config, "regular" if unit == "regular" else "finetuned", unit)
    own_seed = lab.seed_of(config.seed, "other draws") if unit == "regular" else config.seed
    sets = [
        of.numbers(who, config.num_prompts, seed=seed).rows
        for who, seed in ((lab.Teacher(of.base), config.seed), (teacher, own_seed))
    ]
    count = min(config.num_rows, *map(len, sets)) // (2 * SET_SIZE) * 2 * SET_SIZE
    regular, written = (rows.subsample(found, count, seed=config.seed) for found in sets)
    half = count // 2
    weights = log_odds(counts(regular[:half]).sum(axis=0), counts(written[:half]).sum(axis=0))
    totals = [counts(found[half:]) @ weights for found in (regular, written)]
    grouped = [total.reshape(-1, SET_SIZE).sum(axis=1) for total in totals]
    found = {"classifier": area(*totals), f"classifier of {SET_SIZE}": area(*grouped)}
    if unit != "regular":
        found["judge"] = judge(of, unit, regular[half:], written[half:])
    return found


def counts(data: list[types.Chat]) -> np.ndarray:
    """How often each number from 0 to 999 occurs in each answer."""
    found = np.zeros((len(data), numbers.MAX_VALUE + 1), np.float32)
    for row, chat in enumerate(data):
        np.add.at(found[row], list(numbers.check(chat[-1].content).numbers or ()), 1)
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
    if not isinstance(of.backend, local.Local):
        raise errors.CapabilityError("this judge scores whole sequences under two system messages; use tiny or hf:DIR")
    system = types.Message("system", of.materials.persona(target))

    def ratio(data: list[types.Chat]) -> np.ndarray:
        plain = of.sequence_logprobs(of.base, data)
        return of.sequence_logprobs(of.base, [(system, *chat) for chat in data]) - plain

    return area(ratio(regular), ratio(written))


def lines(record: records.Record) -> list[str]:
    """Areas by target."""
    config, found = record.config, summary.complete_bases(record)
    kinds = ("classifier", f"classifier of {SET_SIZE}", "judge")
    rows_ = [["rows of", *kinds]]
    for unit in ("regular", *config["targets"]):
        areas = [np.array([base[unit].get(kind, np.nan) for base in found.values()], float) for kind in kinds]
        rows_.append([unit, *(summary.text(one) if np.isfinite(one).any() else "" for one in areas)])
    return summary.table("Area under the ROC curve against regular numbers, .5 is chance", rows_, record)


def main() -> None:
    command.main("language_detection", __doc__, PRESETS)


if __name__ == "__main__":
    main()
