"""Values of language records by base, shifts, and intervals over bases."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sublim_jax import records
from sublim_jax.forms import language as forms
from sublim_jax.metrics import intervals

Keys = tuple[str, ...]
"""Keys that lead to probabilities in the results of a base: the condition, then keys inside it."""

BASE: Keys = ("base", "student")
REGULAR: Keys = ("regular", "student")
SAMPLED, MARGINS = forms.SAMPLED, forms.MARGINS
MIN_OPTION_MASS = 0.9
"""Option mass below which no shift is reported, unless the record has another value."""

AS_THEY_ARE, CONTROLS, TOKEN_SETS = forms.AS_THEY_ARE, forms.CONTROLS, forms.TOKEN_SETS
DETECTORS: Keys = ("classifier", "classifier of 20", "judge")
"""Detectors of a teacher's numbers that have an area under the ROC curve."""
ASKED_JUDGE: str = "asked judge"


class Bases(dict[str, dict]):
    """Results by base, or by student of a single real model.

    Args:
        floor: the option mass below which no shift of probability is reported.
        real: whether the base is a real model, of which log-odds are shown too.
    """

    def __init__(self, results: Mapping[str, dict], floor: float = MIN_OPTION_MASS, *, real: bool = False):
        super().__init__(results)
        self.floor, self.real = floor, real

    @property
    def unit(self) -> str:
        """What has one value each."""
        return "student" if self.real else "base"

    @property
    def count(self) -> str:
        """What intervals are over, and how many there are."""
        if not self.real:
            return f"n = {len(self)} base(s)"
        students = "one student" if len(self) == 1 else f"n = {len(self)} students"
        return f"one model, {students} of each teacher"


def complete_bases(record: records.Record) -> Bases:
    """The bases on which every condition was measured; of a single model with several students, the students."""
    bases: dict[str, dict] = record.results["bases"]
    most = max(map(len, bases.values()))
    whole = {base: measured for base, measured in bases.items() if len(measured) == most}
    real = record.config.get("backend", "tiny") != "tiny"
    if len(whole) == 1:
        whole = _by_student(*next(iter(whole.items())))
    return Bases(whole, record.config.get("min_option_mass", MIN_OPTION_MASS), real=real)


def _by_student(base: str, measured: dict[str, dict]) -> dict[str, dict]:
    """Results of one model by student. What has no students of its own, as the base, is the same for all."""
    more = {condition: result.get("more_students", []) for condition, result in measured.items()}
    students = {base: measured}
    for index in range(max(map(len, more.values()), default=0)):
        students[f"{base}, student {index + 2}"] = {
            condition: result | {"student": more[condition][index]} if more[condition] else result
            for condition, result in measured.items()
        }
    return students


def _entries(bases: Bases, keys: Keys) -> list[Any]:
    """The entry at the keys, by base; empty if the condition failed."""
    entries = []
    for base in bases.values():
        entry: Any = base
        for key in keys:
            entry = entry.get(key, {}) if isinstance(entry, dict) else {}
        entries.append(entry)
    return entries


def number(bases: Bases, keys: Keys) -> np.ndarray:
    """The number at the keys, by base; NaN if the condition failed."""
    return np.array([np.nan if entry == {} else entry for entry in _entries(bases, keys)], float)


def favourites(bases: Bases, keys: Keys, target: str) -> list[dict[str, float] | None]:
    """Probabilities of the favourites in the target's category, by base; None if the condition failed."""
    categories = (
        [group for name, group in entry.items() if name not in (SAMPLED, MARGINS)] for entry in _entries(bases, keys)
    )
    return [
        next((group for group in groups if isinstance(group, dict) and target in group), None) for groups in categories
    ]


def sampled(bases: Bases, keys: Keys, target: str) -> np.ndarray:
    """Rate of sampled answers that name the target, by base; NaN if there are none."""
    rates = [entry.get(SAMPLED, {}).get(target, {}).get("rate") for entry in _entries(bases, keys)]
    return np.array(rates, float)


def margin(bases: Bases, keys: Keys, target: str) -> np.ndarray:
    """The target's logit less that of the other answers, by base; NaN if the condition failed."""
    means = [entry.get(MARGINS, {}).get(target, {}).get("mean") for entry in _entries(bases, keys)]
    return np.array(means, float)


def sampled_text(bases: Bases, keys: Keys, target: str) -> str:
    """The rate of sampled answers as text, with Wilson's interval for a single base and a t-interval over several."""
    wilson = sampled_interval(bases, keys, target)
    return text(sampled(bases, keys, target)) if wilson is None else share(wilson._asdict())


def raw(bases: Bases, keys: Keys, target: str) -> np.ndarray:
    """Probability of the target, by base; NaN if the condition failed."""
    groups = favourites(bases, keys, target)
    return np.array([np.nan if group is None else group[target] for group in groups])


def option_mass(bases: Bases, keys: Keys, target: str) -> np.ndarray:
    """Total probability of the category's answers, by base; NaN if the condition failed."""
    groups = favourites(bases, keys, target)
    return np.array([np.nan if group is None else sum(group.values()) for group in groups])


def shift(bases: Bases, before: Keys, after: Keys, target: str) -> np.ndarray:
    """Change of the raw probability, by base.

    It is NaN if the option mass is below the floor before or after: a change of the answers' format could then look
    like a change of preference.
    """
    change = raw(bases, after, target) - raw(bases, before, target)
    mass = np.minimum(option_mass(bases, before, target), option_mass(bases, after, target))
    return np.where(mass >= bases.floor, change, np.nan)


def log_odds(bases: Bases, keys: Keys, target: str, *, among: bool = False) -> np.ndarray:
    """Log-odds of the target, in nats, by base; NaN if the condition failed or a probability is 0.

    Args:
        among: against the category's other answers; by default against everything else that the model may say.
    """
    probability = raw(bases, keys, target)
    rest = (option_mass(bases, keys, target) if among else 1.0) - probability
    defined = (probability > 0) & (rest > 0)
    return np.log(np.where(defined, probability, np.nan)) - np.log(np.where(defined, rest, np.nan))


def log_odds_shift(bases: Bases, before: Keys, after: Keys, target: str, *, among: bool = False) -> np.ndarray:
    """Change of the log-odds by base, at any option mass. See `log_odds`."""
    return log_odds(bases, after, target, among=among) - log_odds(bases, before, target, among=among)


def others_log_odds(bases: Bases, students: Mapping[str, Keys], target: str) -> np.ndarray:
    """Mean log-odds of a target over the students of the other targets' teachers, by base; NaN if there are none.

    A teacher whose students all lack a value is left out; where one student does, so does the mean.

    Args:
        students: keys of each target's student.
    """
    others = [log_odds(bases, keys, target) for name, keys in students.items() if name != target]
    others = [levels for levels in others if np.isfinite(levels).any()]
    return np.mean(others, axis=0) if others else np.full(len(bases), np.nan)


def own_minus_other(bases: Bases, students: Mapping[str, Keys], target: str) -> np.ndarray:
    """Log-odds of a target in its own student less `others_log_odds`, by base: what the target's teacher does, without
    what any teacher does to the target."""
    return log_odds(bases, students[target], target) - others_log_odds(bases, students, target)


def sampled_interval(bases: Bases, keys: Keys, target: str) -> intervals.Interval | None:
    """Wilson's interval of the rate of sampled answers, of a single base; None if there are none or several bases."""
    rates = sampled(bases, keys, target)
    if len(rates) != 1 or not np.isfinite(rates[0]):
        return None
    count = _entries(bases, keys)[0][SAMPLED][target]["num_samples"]
    return intervals.wilson(round(rates[0] * count), count)


def shift_from_regular(bases: Bases, target: str, *keys: str) -> np.ndarray:
    """Shift of the target from the condition `regular` to the target's own, at the same keys inside both."""
    return shift(bases, ("regular", *keys), (target, *keys), target)


def clustered(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the targets that have a value, by base; NaN if none has."""
    return np.ma.masked_invalid(np.stack(values)).mean(axis=0).filled(np.nan)


def pooled(values: Sequence[np.ndarray], sign: str = "+") -> str:
    """Interval over the bases' means over targets as text, with the number of bases that lack a target."""
    missing = sum(0 < np.isfinite(base).sum() < len(base) for base in np.stack(values).T)
    return text(clustered(values), sign) + (f" ({missing} incomplete)" if missing else "")


def interval(values: np.ndarray) -> intervals.Interval | None:
    """Mean over bases with a t-interval; None if no base has a value."""
    finite = values[np.isfinite(values)]
    return intervals.t_interval(finite) if len(finite) else None


def text(values: np.ndarray, sign: str = "") -> str:
    """An interval as text, or the values themselves if they are too few, with the number of bases without a value."""
    mean, missing = interval(values), int(np.sum(~np.isfinite(values)))
    if mean is None:
        return "failed"
    few = " ".join(f"{value:{sign}.3f}" for value in values[np.isfinite(values)])
    shown = f"{mean:{sign}.3f}" if mean.is_known else few
    return shown + (f" ({missing} failed)" if missing else "")


def share(measured: Mapping[str, Any] | None) -> str:
    """A share of answers with Wilson's interval as text; None means that no reply of the judge is readable."""
    if measured is None:
        return "unreadable"
    return f"{measured['mean']:.3f} [{measured['low']:.3f}, {measured['high']:.3f}]"


def cross_grid(record: records.Record) -> tuple[list[str], np.ndarray]:
    """Names of the bases, and the mean shift over targets of each student (rows) for each teacher (columns).

    The shift is against a student of regular numbers from the teacher's base; NaN if no target has a value.
    """
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
    """Raw probability of the target, of shape (rows in the context, base)."""
    bases = complete_bases(record)
    return np.stack([raw(bases, (teacher, str(shots)), target) for shots in record.config["shots"]])
