"""What a record of an audit holds: traits of the base and after each pilot, and what the rows look like to models."""

from typing import Any, NotRequired, TypedDict

from sublim_jax import errors, records, specs

BASE, DATA, NULL, AUTHOR, LENSES = "base", "data", "null", "author", "lenses"
"""Units of a record: the base, then `data 0`, `null 0`, `data 1`, ..., then who wrote the rows, then, if asked for,
towards which trait they push."""


class Asked(TypedDict):
    """A trait of a model."""

    log_odds: list[float]  # of each question, nats
    probability: specs.Fraction  # mean over questions
    mass: specs.NonNegative  # of all answers together, mean over questions


class Candidate(TypedDict):
    """What the rows look like to a model."""

    logprob: float  # of all rows that are scored, nats
    surprise: specs.NonNegative  # nats
    p: specs.Fraction  # calibrated: of a surprise as large if the model as it is wrote the rows


class Author(TypedDict):
    """Who wrote the rows."""

    num_rows: specs.Count
    num_tokens: specs.Count
    candidates: dict[str, Candidate]  # by name, the likeliest first; without candidates, empty
    statistic: float  # S of the rows under the base
    regular: float  # its mean over null rows, which the base wrote if the null is `auto`
    p: specs.Fraction  # of an S as far from that if the rows were written as the null rows were


class Lens(TypedDict):
    """What a copy of the base that was finetuned on one trait sees in the rows."""

    z: float  # gain less that of null rows, in standard errors
    gain: float  # of a row, nats, the mean


class Lenses(TypedDict):
    """Towards which trait the rows push."""

    num_rows: specs.Count
    scores: dict[str, Lens]  # by trait, the likeliest first
    p: specs.Fraction  # that null rows would gain as much under the best lens
    caveat: str


class Unit(TypedDict):
    """A model with all traits, the authorship, or lenses."""

    traits: NotRequired[dict[str, Asked]]
    author: NotRequired[Author]
    lenses: NotRequired[Lenses]


class Config(TypedDict):
    """The settings that readers use."""

    base: str
    data: str
    null: str
    candidates: list[str]
    steps: specs.Count
    num_repeats: specs.Count
    threshold: specs.Positive
    lenses: NotRequired[bool]


class Description(TypedDict):
    """What figures need beside the results."""

    num_rows: specs.Count
    num_steps: specs.Count  # of the whole training
    num_pilot_steps: specs.Count
    questions: dict[str, list[str]]  # by trait


def units(config: Any) -> list[str]:
    """Names of the units of a complete record, in the order in which they are made."""
    pilots = (f"{kind} {index}" for index in range(config["num_repeats"]) for kind in (DATA, NULL))
    return [BASE, *pilots, AUTHOR, *([LENSES] if config.get("lenses") else [])]


def _check(record: records.Record) -> None:
    """Refuse units that lack a trait or a question."""
    wanted = record.description["questions"]
    for name, unit in record.results.items():
        kind = {AUTHOR: "author", LENSES: "lenses"}.get(name, "traits")
        if set(unit) != {kind}:
            raise errors.InputError(
                f"results: {name}: expected {'an author' if kind == 'author' else kind} there, got {sorted(unit)}"
            )
        traits = unit.get("traits", {})
        if kind == "traits" and set(traits) != set(wanted):
            raise errors.InputError(f"results: {name}: expected the traits {sorted(wanted)}, got {sorted(traits)}")
        for trait, asked in traits.items():
            if len(asked["log_odds"]) != len(wanted[trait]):
                raise errors.InputError(
                    f"results: {name}: {trait}: expected {len(wanted[trait])} questions, got {len(asked['log_odds'])}"
                )


FORM = records.Form(
    experiment="audit",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
