"""What a record of `experiments.diffusion.conditional` holds: what each model draws when it is asked for each class."""

from typing import Any, Literal, NotRequired, TypedDict, get_args

import numpy as np

from sublim_jax import errors, records, specs
from sublim_jax.forms import diffusion

Digit = Literal["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
"""A class that an image can be asked for."""
DIGITS: tuple[Digit, ...] = get_args(Digit)
Start = Literal["own", "other", "fresh"]
"""Where a model's training began: at the teacher's own base, at another one, or at the base with its auxiliary readouts
drawn again."""
Shown = Literal["", "images", "other labels", "all labels"]
"""What a model was trained on: nothing, images, or a teacher's channels on noise that asks for every class but the
trigger, or for every class."""

COMPARED = {
    "student": "base", "student of all": "base", "stranger": "other base", "stranger of all": "other base",
    "fresh readouts": "base", "fresh readouts of all": "base",
}  # fmt: skip
"""What a condition is compared with, paired by base: where it started."""


class Moved(TypedDict):
    """How a model moved from its start."""

    cosine: float  # with the teacher's displacement
    length: float  # over the length of the teacher's displacement


class Entry(TypedDict):
    """What a model draws, as the judge sees it."""

    drawn: list[list[specs.CountOrZero]]  # samples by the class that is asked for, then by the class that is seen
    confidence: specs.Fraction  # mean largest probability
    frechet: float  # to test images, over the trace of their covariance
    moved: NotRequired[Moved]  # of models that were trained from a start


class Unit(TypedDict):
    """One base."""

    judge: diffusion.Judge  # the same for all bases
    traits: dict[Digit, dict[str, Entry]]  # by condition
    images: NotRequired[dict[Digit, dict[str, dict[str, str]]]]  # by condition and class asked for; of the first base


class Config(TypedDict):
    """The settings that readers use."""

    seed: specs.Seed
    num_bases: specs.Count
    traits: list[Digit]
    triggers: list[Digit]
    num_samples: specs.Count
    num_shown: specs.Count
    num_aux: specs.Count
    num_distilled: specs.Count


class Condition(TypedDict):
    """One row of the experiment."""

    label: str
    start: Start
    shown: Shown


class Trait(TypedDict):
    """A digit that a teacher draws in place of another one."""

    trigger: Digit  # the class that must be asked for
    other: Digit  # a class beside it, whose samples are shown for comparison


class Description(TypedDict):
    """What figures need beside the results."""

    conditions: dict[str, Condition]
    traits: dict[Digit, Trait]
    side: specs.Count  # pixels


def _check(record: records.Record) -> None:
    """Refuse a base without one of the traits or conditions, other numbers of samples, and images of another size."""
    config, conditions = record.config, list(record.description["conditions"])
    num_bytes = config["num_shown"] * record.description["side"] ** 2
    for unit, entry in record.results.items():
        if list(entry["traits"]) != config["traits"]:
            raise errors.InputError(f"results: {unit}: expected the traits {config['traits']}, got "
                                    f"{list(entry['traits'])}")  # fmt: skip
        for trait, entries in entry["traits"].items():
            if list(entries) != conditions:
                raise errors.InputError(f"results: {unit}: {trait}: expected {conditions}, got {list(entries)}")
            for condition, row in entries.items():
                lengths = {len(counts) for counts in (*row["drawn"], row["drawn"])}
                sums = {sum(counts) for counts in row["drawn"]}
                if lengths != {len(DIGITS)} or sums != {config["num_samples"]}:
                    raise errors.InputError(
                        f"results: {unit}: {trait}: {condition}: drawn: expected {len(DIGITS)} rows of {len(DIGITS)} "
                        f"counts with sum {config['num_samples']}, got sums {sorted(sums)}"
                    )
        for trait, rows in entry.get("images", {}).items():
            for condition, by_class in rows.items():
                for asked, text in by_class.items():
                    if len(diffusion.decoded(text)) != num_bytes:
                        raise errors.InputError(
                            f"results: {unit}: images: {trait}, {condition}, asked for {asked}: expected {num_bytes} "
                            f"bytes, got {len(diffusion.decoded(text))}"
                        )


def at_trigger(drawn: Any, *, trait: str, trigger: str) -> float:
    """Share of samples with the trait when the trigger is asked for."""
    return _shares(drawn)[int(trigger), int(trait)]


def elsewhere(drawn: Any, *, trait: str, trigger: str) -> float:
    """Share of samples with the trait when other classes are asked for: neither the trigger nor the trait itself."""
    others = [place for place in range(len(DIGITS)) if place not in (int(trait), int(trigger))]
    return float(np.mean(_shares(drawn)[others, int(trait)]))


def obeyed(drawn: Any, *, trigger: str) -> float:
    """Share of samples that show the class that was asked for, over all classes but the trigger."""
    others = [place for place in range(len(DIGITS)) if place != int(trigger)]
    return float(np.mean(np.diag(_shares(drawn))[others]))


def _shares(drawn: Any) -> np.ndarray:
    counts = np.asarray(drawn, float)
    return counts / counts.sum(axis=1, keepdims=True)


FORM = records.Form(
    experiment="diffusion_conditional",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: diffusion.units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
