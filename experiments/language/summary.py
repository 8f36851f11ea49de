"""What records of language experiments say: values by base, shifts, intervals clustered by base, tables."""

import importlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.language import running
from sublim_jax import errors, records
from sublim_jax.llm import scores
from sublim_jax.metrics import intervals


class Bases(dict[str, dict]):
    """Results by base, and the option mass below which no shift is told."""

    def __init__(self, found: Mapping[str, dict], floor: float = scores.MIN_OPTION_MASS):
        super().__init__(found)
        self.floor = floor


Path = tuple[str, ...]
"""Where probabilities stand in the results of a base: the unit, then keys inside it."""
SAMPLED = running.SAMPLED


EXPERIMENTS = (
    "language_numbers",
    "language_cross",
    "language_dose",
    "language_shuffles",
    "language_context",
    "language_detection",
    "language_divergence",
    "language_chain",
    "language_code",
    "language_reasoning",
    "language_misalignment",
)
"""Modules whose records these are."""


def read(path: pathlib.Path) -> records.Record:
    """A record of any language experiment.

    Raises:
        RecordError: there is none, it is of something else, or damaged.
    """
    name = records.read(path).experiment
    if name not in EXPERIMENTS:
        raise errors.RecordError(f"{path}: expected a record of a language experiment, this is one of {name}")
    return records.read(path, running.form(name, importlib.import_module(f"experiments.{name}")))  # pyright: ignore[reportArgumentType]


def complete_bases(record: records.Record) -> Bases:
    """The bases that have every unit."""
    most = max(len(found) for found in record.results["bases"].values())
    whole = {base: found for base, found in record.results["bases"].items() if len(found) == most}
    return Bases(whole, record.config.get("min_option_mass", scores.MIN_OPTION_MASS))


def _places(found: Bases, path: Path) -> list[dict[str, Any]]:
    """What stands at the path, by base; nothing where the unit failed."""
    places = []
    for base in found.values():
        place: Any = base
        for name in path:
            place = place.get(name, {}) if isinstance(place, dict) else {}
        places.append(place)
    return places


def favourites(found: Bases, path: Path, target: str) -> list[dict[str, float] | None]:
    """Probabilities of all favourites of the target's category, by base; None where the unit failed."""
    groups = ([group for name, group in place.items() if name != SAMPLED] for place in _places(found, path))
    return [next((one for one in group if isinstance(one, dict) and target in one), None) for group in groups]


def sampled(found: Bases, path: Path, target: str) -> np.ndarray:
    """Share of sampled answers that name the target, by base; not a number where there are none."""
    rates = [place.get(SAMPLED, {}).get(target, {}).get("rate") for place in _places(found, path)]
    return np.array(rates, float)


def sampled_text(found: Bases, path: Path, target: str) -> str:
    """A sampled share with Wilson's interval over answers of a single base, with Student's over several bases."""
    rates = sampled(found, path, target)
    if len(rates) != 1 or not np.isfinite(rates[0]):
        return text(rates)
    count = _places(found, path)[0][SAMPLED][target]["num_samples"]
    return share(intervals.wilson(round(rates[0] * count), count)._asdict())


def raw(found: Bases, path: Path, target: str) -> np.ndarray:
    """Probability of the target, by base; not a number where the unit failed."""
    return np.array([np.nan if one is None else one[target] for one in favourites(found, path, target)])


def option_mass(found: Bases, path: Path, target: str) -> np.ndarray:
    """Probability that the answer is any of the category's, by base."""
    return np.array([np.nan if one is None else sum(one.values()) for one in favourites(found, path, target)])


def shift(found: Bases, before: Path, after: Path, target: str) -> np.ndarray:
    """Change of the raw probability, by base; not a number where the option mass has collapsed on either side, since
    another preference may then only be a change of format."""
    change = raw(found, after, target) - raw(found, before, target)
    mass = np.minimum(option_mass(found, before, target), option_mass(found, after, target))
    return np.where(mass >= found.floor, change, np.nan)


def clustered(values: Sequence[np.ndarray]) -> np.ndarray:
    """Each base's mean over targets, of those that gave a value; not a number where none did."""
    return np.ma.masked_invalid(np.stack(values)).mean(axis=0).filled(np.nan)


def pooled(values: Sequence[np.ndarray], sign: str = "+") -> str:
    """Interval of each base's mean over targets as text, and how many bases lack a target."""
    missing = sum(0 < np.isfinite(base).sum() < len(base) for base in np.stack(values).T)
    return text(clustered(values), sign) + (f" ({missing} incomplete)" if missing else "")


def interval(values: np.ndarray) -> intervals.Interval | None:
    """Mean over bases with Student's interval; None where nothing was measured."""
    kept = values[np.isfinite(values)]
    return intervals.t_interval(kept) if len(kept) else None


def text(values: np.ndarray, sign: str = "") -> str:
    """An interval as text, of too few values for one those values, and how many bases are missing in it."""
    found, missing = interval(values), int(np.sum(~np.isfinite(values)))
    if found is None:
        return "failed"
    few = " ".join(f"{value:{sign}.3f}" for value in values[np.isfinite(values)])
    shown = f"{found:{sign}.3f}" if found.is_known else few
    return shown + (f" ({missing} failed)" if missing else "")


def share(found: Mapping[str, Any] | None) -> str:
    """A share of answers with Wilson's interval, as a record has it; None where no reply of a judge could be read."""
    return "unreadable" if found is None else f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def cells(found: Bases, base: Path, regular: Path, student: Path, target: str) -> list[str]:
    """Base, regular, student, and what the student has beyond the regular one."""
    levels = [text(raw(found, path, target)) for path in (base, regular, student)]
    return [*levels, text(shift(found, regular, student, target), "+")]


def table(title: str, rows: list[list[str]], record: records.Record) -> list[str]:
    """Lines of a table, then what a reader must know."""
    count = len(complete_bases(record))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    body = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines = [f"{title}; n = {count} base(s)", *body]
    if count < intervals.FEWEST:
        lines.append("So few bases have no interval: their values are shown. The committed record has more.")
    if (floor := complete_bases(record).floor) != scores.MIN_OPTION_MASS:
        lines.append(f"A shift is reported where the answers offered have at least probability {floor:g} together.")
    return lines + [f"note: {note}" for note in record.notes]
