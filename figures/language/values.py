"""What records of language experiments say: values by base, shifts, intervals clustered by base."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sublim_jax import records
from sublim_jax.forms import language as forms
from sublim_jax.metrics import intervals

Keys = tuple[str, ...]
"""Where probabilities stand in the results of a base: the condition, then keys inside it."""

BASE: Keys = ("base", "student")
REGULAR: Keys = ("regular", "student")
SAMPLED = forms.SAMPLED
MIN_OPTION_MASS = 0.9
"""The option mass below which no shift is reported, in records that do not say another one."""

AS_THEY_ARE, CONTROLS, TOKEN_SETS = forms.AS_THEY_ARE, forms.CONTROLS, forms.TOKEN_SETS
DETECTORS: Keys = ("classifier", "classifier of 20", "judge")
"""What tells a teacher's numbers from regular ones, with an area under the ROC curve."""
ASKED_JUDGE: str = "asked judge"
LESSONS, CODE_FILES = forms.LESSONS, forms.CODE_FILES


class Bases(dict[str, dict]):
    """Results by base, and the option mass below which no shift is reported."""

    def __init__(self, results: Mapping[str, dict], floor: float = MIN_OPTION_MASS):
        super().__init__(results)
        self.floor = floor


def complete_bases(record: records.Record) -> Bases:
    """The bases that have every unit."""
    bases: dict[str, dict] = record.results["bases"]
    most = max(map(len, bases.values()))
    whole = {base: measured for base, measured in bases.items() if len(measured) == most}
    return Bases(whole, record.config.get("min_option_mass", MIN_OPTION_MASS))


def _places(bases: Bases, keys: Keys) -> list[dict[str, Any]]:
    """What stands at the keys, by base; nothing where the condition failed."""
    places = []
    for base in bases.values():
        place: Any = base
        for key in keys:
            place = place.get(key, {}) if isinstance(place, dict) else {}
        places.append(place)
    return places


def favourites(bases: Bases, keys: Keys, target: str) -> list[dict[str, float] | None]:
    """Probabilities of all favourites of the target's category, by base; None where the condition failed."""
    categories = ([group for name, group in place.items() if name != SAMPLED] for place in _places(bases, keys))
    return [
        next((group for group in groups if isinstance(group, dict) and target in group), None) for groups in categories
    ]


def sampled(bases: Bases, keys: Keys, target: str) -> np.ndarray:
    """Share of sampled answers that name the target, by base; not a number where there are none."""
    rates = [place.get(SAMPLED, {}).get(target, {}).get("rate") for place in _places(bases, keys)]
    return np.array(rates, float)


def sampled_text(bases: Bases, keys: Keys, target: str) -> str:
    """A sampled share with Wilson's interval over answers of a single base, with Student's over several bases."""
    rates = sampled(bases, keys, target)
    if len(rates) != 1 or not np.isfinite(rates[0]):
        return text(rates)
    count = _places(bases, keys)[0][SAMPLED][target]["num_samples"]
    return share(intervals.wilson(round(rates[0] * count), count)._asdict())


def raw(bases: Bases, keys: Keys, target: str) -> np.ndarray:
    """Probability of the target, by base; not a number where the condition failed."""
    groups = favourites(bases, keys, target)
    return np.array([np.nan if group is None else group[target] for group in groups])


def option_mass(bases: Bases, keys: Keys, target: str) -> np.ndarray:
    """Probability that the answer is any of the category's, by base."""
    groups = favourites(bases, keys, target)
    return np.array([np.nan if group is None else sum(group.values()) for group in groups])


def shift(bases: Bases, before: Keys, after: Keys, target: str) -> np.ndarray:
    """Change of the raw probability, by base; not a number where the option mass has collapsed on either side, since
    another preference may then only be a change of format."""
    change = raw(bases, after, target) - raw(bases, before, target)
    mass = np.minimum(option_mass(bases, before, target), option_mass(bases, after, target))
    return np.where(mass >= bases.floor, change, np.nan)


def clustered(values: Sequence[np.ndarray]) -> np.ndarray:
    """Each base's mean over targets, of those that gave a value; not a number where none did."""
    return np.ma.masked_invalid(np.stack(values)).mean(axis=0).filled(np.nan)


def pooled(values: Sequence[np.ndarray], sign: str = "+") -> str:
    """Interval of each base's mean over targets as text, and how many bases lack a target."""
    missing = sum(0 < np.isfinite(base).sum() < len(base) for base in np.stack(values).T)
    return text(clustered(values), sign) + (f" ({missing} incomplete)" if missing else "")


def interval(values: np.ndarray) -> intervals.Interval | None:
    """Mean over bases with Student's interval; None where nothing was measured."""
    finite = values[np.isfinite(values)]
    return intervals.t_interval(finite) if len(finite) else None


def text(values: np.ndarray, sign: str = "") -> str:
    """An interval as text, of too few values for one those values, and how many bases are missing in it."""
    mean, missing = interval(values), int(np.sum(~np.isfinite(values)))
    if mean is None:
        return "failed"
    few = " ".join(f"{value:{sign}.3f}" for value in values[np.isfinite(values)])
    shown = f"{mean:{sign}.3f}" if mean.is_known else few
    return shown + (f" ({missing} failed)" if missing else "")


def share(measured: Mapping[str, Any] | None) -> str:
    """A share of answers with Wilson's interval, as a record has it; None where no reply of a judge could be read."""
    if measured is None:
        return "unreadable"
    return f"{measured['mean']:.3f} [{measured['low']:.3f}, {measured['high']:.3f}]"


def cross_grid(record: records.Record) -> tuple[list[str], np.ndarray]:
    """Bases, and the mean shift over targets: rows are students, columns teachers. Against regular numbers of the
    same teacher's base; not a number where no target gave one."""
    bases = complete_bases(record)
    names = list(bases)

    def mean_shift(teacher: str) -> np.ndarray:
        regular = (f"regular from {teacher}", "student")
        return clustered(
            [
                shift(bases, regular, (f"{target} from {teacher}", "student"), target)
                for target in record.config["targets"]
            ]
        )

    return names, np.stack([mean_shift(teacher) for teacher in names], axis=1)


def by_shots(record: records.Record, target: str, teacher: str) -> np.ndarray:
    """Raw probability of the target by (rows in the context, base)."""
    bases = complete_bases(record)
    return np.stack([raw(bases, (teacher, str(shots)), target) for shots in record.config["shots"]])
