"""Published value against ours: agree, differs, or not comparable, and why.

A published mean of N members is given an interval from the spread of our own members in the same arm, or that of its
source in the few cases where it was transcribed. Two means agree if their difference lies within the 95 % interval of a
difference of independent means. Where a source's own baseline is another draw than ours, agreement is also asked
relative to the two baselines.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from figures import values
from figures.atlas.values import Arm, Atlas, Published, Row, Source, arm_values
from sublim_jax.metrics import intervals

Word = Literal["agrees", "agrees relative to its base", "differs", "not comparable", "not run"]

ROUNDING = 0.005
"""Half a unit of the last digit of values given as two digits."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One published number beside ours."""

    row: Row
    arm: Arm
    published: Published
    ours: intervals.Interval | None
    word: Word
    why: str = ""
    margin: float = np.nan  # a difference below this agrees

    @property
    def difference(self) -> float:
        """Ours minus published; not a number where ours is missing."""
        return np.nan if self.ours is None else self.ours.mean - self.published.value


def judge(
    row: Row, arm: Arm, published: Published, source: Source, arms: Mapping[str, Any], base: np.ndarray
) -> Verdict:
    """The verdict on one published number.

    Args:
        source: who published it.
        arms: those of the row's record.
        base: student_aux of our members at the source's default settings, scored as this number is, for sources that
            state their own; empty where there is none.
    """
    members = arm_values(arms, arm, published.condition, published.measure)
    ours = values.interval(members)
    if ours is None:
        return Verdict(row, arm, published, None, "not run")
    if published.why_not_comparable or not source.comparable:
        return Verdict(row, arm, published, ours, "not comparable", published.why_not_comparable or source.protocol)
    if not ours.is_known:
        return Verdict(row, arm, published, ours, "not comparable", f"{ours.num_members} members have no interval")
    theirs = half_width(published, source, float(np.std(members[np.isfinite(members)], ddof=1)))
    if theirs is None:
        return Verdict(row, arm, published, ours, "not comparable", "neither interval nor number of members is known")
    margin = float(np.hypot(ours.half_width, theirs))
    if abs(ours.mean - published.value) <= margin:
        return Verdict(row, arm, published, ours, "agrees", margin=margin)
    if source.base is not None and published.condition == "student_aux" and len(base) == len(members):
        both = np.isfinite(members) & np.isfinite(base)
        change = intervals.paired_difference(members[both], base[both])
        if abs(change.mean - (published.value - source.base)) <= np.hypot(change.half_width, 2**0.5 * theirs):
            why = f"{published.value - source.base:+.3f} from its base, ours {change:+.3f}"
            return Verdict(row, arm, published, ours, "agrees relative to its base", why, margin)
    return Verdict(row, arm, published, ours, "differs", row.note, margin)


def half_width(published: Published, source: Source, spread: float) -> float | None:
    """Half a 95 % interval of a published mean; None where neither it nor its number of members is known."""
    if published.half_width is not None:
        return max(published.half_width, ROUNDING)
    count = source.num_members
    return None if count is None else max(1.96 * spread / count**0.5, ROUNDING)


def members_needed(spread: float, difference: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """Members for which a paired difference is found with this probability, given the spread of the differences.

    Normal approximation. For unpaired arms give the root of two times the spread of an arm: the number is per arm.
    """
    from scipy import stats

    quantiles = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)
    return int(np.ceil((quantiles * spread / difference) ** 2))


def judge_all(atlas: Atlas) -> list[Verdict]:
    """The verdict on every published number."""
    bases = {"accuracy": _base(atlas, "figure-10", "accuracy")}
    bases["validation_accuracy"] = _base(atlas, "figure-10-validation", "validation_accuracy")
    verdicts = []
    for row in atlas.rows:
        for arm in row.arms:
            for published in arm.published:
                source, unknown = atlas.sources[published.source], np.array([])
                # A source's own base is one measure: what it publishes of another has nothing to be compared with.
                base = bases.get(published.measure, unknown) if published.measure == source.base_measure else unknown
                verdicts.append(judge(row, arm, published, source, atlas.arms(row.id), base))
    return verdicts


def _base(atlas: Atlas, name: str, measure: str) -> np.ndarray:
    """Our members at the default settings that sources state; none where they have not been run."""
    rows = [row for row in atlas.rows if row.id == name]
    return arm_values(atlas.arms(name), rows[0].arms[0], measure=measure) if rows else np.array([])
