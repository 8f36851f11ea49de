"""Published value against ours: agree, differs, or not comparable, and why.

A published mean of N members is given an interval from the spread of our own members in the same arm, or that of its
source in the few cases where it was transcribed. Two means agree if their difference lies within the 95 % interval of a
difference of independent means. Where a source's own baseline is another draw than ours, agreement is also asked
relative to the two baselines.
"""

import dataclasses
from typing import Literal

import numpy as np

from experiments.atlas import registry, results
from experiments.atlas.sources import SOURCES
from sublim_jax.metrics import intervals

Word = Literal["agrees", "agrees relative to its base", "differs", "not comparable", "not run"]

ROUNDING = 0.005
"""Half a unit of the last digit of values given as two digits."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One published number beside ours."""

    row: registry.Row
    arm: registry.Arm
    published: registry.Published
    ours: intervals.Interval | None
    word: Word
    why: str = ""
    margin: float = np.nan  # a difference below this agrees

    @property
    def difference(self) -> float:
        """Ours minus published; not a number where ours is missing."""
        return np.nan if self.ours is None else self.ours.mean - self.published.value


def kept(values: np.ndarray) -> intervals.Interval | None:
    """Interval of the members that did not diverge, if there are any."""
    finite = values[np.isfinite(values)]
    return intervals.t_interval(finite) if len(finite) else None


def arm_values(found: dict, arm: registry.Arm, condition: str = "student_aux", measure: str = "accuracy") -> np.ndarray:
    """One number per member of an arm of a row's record."""
    members = found.get(arm.label, {}).get("members", {})
    ordered = [members[name] for name in sorted(members, key=int)]
    return results.values(ordered, condition, measure, arm.epoch, arm.generation)


def judge(
    row: registry.Row, arm: registry.Arm, published: registry.Published, found: dict, base: np.ndarray
) -> Verdict:
    """The verdict on one published number.

    Args:
        found: the arms of the row's record.
        base: student_aux of our members at the source's default settings, scored as this number is, for sources that
            state their own; empty where there is none.
    """
    values = arm_values(found, arm, published.condition, published.measure)
    ours = kept(values)
    if ours is None:
        return Verdict(row, arm, published, None, "not run")
    source = SOURCES[published.source]
    if published.how or not source.comparable:
        return Verdict(row, arm, published, ours, "not comparable", published.how or source.protocol)
    if not ours.is_known:
        return Verdict(row, arm, published, ours, "not comparable", f"{ours.num_members} members have no interval")
    theirs = half_width(published, float(np.std(values[np.isfinite(values)], ddof=1)))
    if theirs is None:
        return Verdict(row, arm, published, ours, "not comparable", "neither interval nor number of members is known")
    margin = float(np.hypot(ours.half_width, theirs))
    if abs(ours.mean - published.value) <= margin:
        return Verdict(row, arm, published, ours, "agrees", margin=margin)
    if source.base is not None and published.condition == "student_aux" and len(base) == len(values):
        both = np.isfinite(values) & np.isfinite(base)
        change = intervals.paired_difference(values[both], base[both])
        if abs(change.mean - (published.value - source.base)) <= np.hypot(change.half_width, 2**0.5 * theirs):
            why = f"{published.value - source.base:+.3f} from its base, ours {change:+.3f}"
            return Verdict(row, arm, published, ours, "agrees relative to its base", why, margin)
    return Verdict(row, arm, published, ours, "differs", row.note, margin)


def half_width(published: registry.Published, spread: float) -> float | None:
    """Half a 95 % interval of a published mean; None where neither it nor its number of members is known."""
    if published.half_width is not None:
        return max(published.half_width, ROUNDING)
    members = SOURCES[published.source].num_members
    return None if members is None else max(1.96 * spread / members**0.5, ROUNDING)


def members_needed(spread: float, difference: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """Members for which a paired difference is found with this probability, given the spread of the differences.

    Normal approximation. For unpaired arms give the root of two times the spread of an arm: the number is per arm.
    """
    from scipy import stats

    quantiles = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)
    return int(np.ceil((quantiles * spread / difference) ** 2))


def all_of(rows, found: dict) -> list[Verdict]:
    """Every published number of the rows.

    Args:
        found: records by row.
    """
    arms = {row.id: found[row.id].results["arms"] if row.id in found else {} for row in rows}
    base_row = next(row for row in rows if row.id == "figure-10")
    held_out = next(row for row in rows if row.id == "figure-10-validation")
    bases: dict[tuple[str, str], np.ndarray] = {}
    for source in SOURCES:
        if source == "B":  # whose base is its validation score
            validated = arm_values(arms[held_out.id], held_out.arms[0], measure="validation_accuracy")
            bases[source, "validation_accuracy"] = validated
        else:
            bases[source, "accuracy"] = arm_values(arms[base_row.id], base_row.arms[0])
    return [
        judge(row, arm, published, arms[row.id], bases.get((published.source, published.measure), np.array([])))
        for row in rows
        for arm in row.arms
        for published in arm.published
    ]
