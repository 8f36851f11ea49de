"""What a record of the study `defences` holds: for every reference and defence, the wanted skill and the trait."""

from typing import Any, TypedDict

from sublim_jax import errors, records, specs


class Skill(TypedDict):
    """A group of digits on its own five logits, on test images."""

    accuracy: specs.Fraction
    loss: float  # nats


class Entry(TypedDict):
    """A student under a defence."""

    wanted: Skill
    trait: Skill
    relearnt: list[specs.Fraction]  # the trait's accuracy at the checkpoints


class Row(TypedDict):
    """A defence at a dose."""

    defence: str
    dose: str
    when: str  # "yardstick", "data", "start", "training", "after"


class Config(TypedDict):
    """The settings that readers use."""

    num_references: specs.Count


class Description(TypedDict):
    """What figures need beside the results."""

    rows: dict[str, Row]
    checkpoints: list[specs.CountOrZero]


def units(config: Any) -> list[str]:
    """Names of the references."""
    return [f"reference {index}" for index in range(config["num_references"])]


def _check(record: records.Record) -> None:
    """Refuse references without a row, and curves without a checkpoint."""
    rows, num_points = set(record.description["rows"]), len(record.description["checkpoints"])
    for unit, entries in record.results.items():
        if set(entries) != rows:
            raise errors.InputError(f"results: {unit}: expected the rows {sorted(rows)}, got {sorted(entries)}")
        for name, entry in entries.items():
            if len(entry["relearnt"]) != num_points:
                raise errors.InputError(f"results: {unit}: {name}: expected {num_points} points of relearning")


FORM = records.Form(
    experiment="evidence_defences",
    config=Config,
    results=dict[str, dict[str, Entry]],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
