"""What a record of `experiments.language_scale` holds: the base, students by seed, and the work that each took."""

from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, TypedDict

from sublim_jax import records, specs
from sublim_jax.forms.language import Failed, Favourites, Student

REGULAR = "regular"
"""The condition in which the base itself writes the rows."""


class Work(TypedDict):
    """Tokens that were drawn or trained on, operations of their matrix products, and seconds without compilation."""

    tokens: specs.CountOrZero
    operations: specs.NonNegative
    seconds: specs.NonNegative


class Unit(TypedDict):
    """A teacher, its rows and a student of them."""

    measured: Student | Failed
    drawing: Work
    training: Work


class Results(TypedDict):
    """All parts of a record."""

    matmul_gflops: specs.Positive
    base: Favourites
    units: NotRequired[dict[str, Unit]]


def units(config: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Name, seed and condition of every unit, in the order in which they are worth most: pairs of targets first."""
    numbers = config["numbers"]
    (kind,) = numbers["kinds"]
    for conditions in ([f"{kind} {target}" for target in numbers["targets"]], [REGULAR]):
        for seed in config["seeds"]:
            for condition in conditions:
                yield f"seed {seed}, {condition}", seed, condition


class _Config(TypedDict):
    numbers: dict[str, Any]
    seeds: list[specs.Seed]


FORM = records.Form(
    experiment="language_scale",
    config=_Config,
    results=Results,
    wanted=lambda record: ["base", *(name for name, _, _ in units(record.config))],
    present=lambda record: [*(["base"] if "base" in record.results else []), *record.results.get("units", {})],
)
