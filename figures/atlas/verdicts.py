"""Verdicts on published values: each agrees with ours, differs from it or is not comparable, with the reason.

The interval of a published mean of N members uses the standard deviation of our own members in the same arm, or it is
the interval of the source where we transcribed one. Two means agree if their difference lies within the 95 % interval
of a difference of independent means. If a source's baseline was drawn with other members than ours, we also compare the
changes from both baselines.
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
        """Our mean minus the published value; not a number if we have no mean."""
        return np.nan if self.ours is None else self.ours.mean - self.published.value


def judge(
    row: Row, arm: Arm, published: Published, source: Source, arms: Mapping[str, Any], base: np.ndarray
) -> Verdict:
    """The verdict on one published number.

    Args:
        source: the source of the number.
        arms: results by arm in the row's record.
        base: student_aux of our members at the source's default settings, by the measure of this number; empty if the
            source states no base.
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
        change = values.paired(members, base)
        if change is not None and abs(change.mean - (published.value - source.base)) <= np.hypot(
            change.half_width, 2**0.5 * theirs
        ):
            why = f"{published.value - source.base:+.3f} from its base, ours {change:+.3f}"
            return Verdict(row, arm, published, ours, "agrees relative to its base", why, margin)
    return Verdict(row, arm, published, ours, "differs", row.note, margin)


def half_width(published: Published, source: Source, std: float) -> float | None:
    """Half width of the 95 % interval of a published mean, for members with this standard deviation.

    None if neither the interval nor the number of members was published.
    """
    if published.half_width is not None:
        return max(published.half_width, ROUNDING)
    count = source.num_members
    return None if count is None else max(1.96 * std / count**0.5, ROUNDING)


def members_needed(std: float, difference: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """Number of members for which a paired difference is detected with this power, by the normal approximation.

    Args:
        std: standard deviation of the paired differences. For unpaired arms give sqrt(2) times that of an arm; the
            number is then per arm.
    """
    from scipy import stats

    quantiles = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)
    return int(np.ceil((quantiles * std / difference) ** 2))


def judge_all(atlas: Atlas) -> list[Verdict]:
    """The verdict on every published number."""
    bases = {"accuracy": _base(atlas, "figure-10", "accuracy")}
    bases["validation_accuracy"] = _base(atlas, "figure-10-validation", "validation_accuracy")
    verdicts = []
    for row in atlas.rows:
        for arm in row.arms:
            for published in arm.published:
                source, unknown = atlas.sources[published.source], np.array([])
                # The base of a source is of one measure, so values of another measure have no base.
                base = bases.get(published.measure, unknown) if published.measure == source.base_measure else unknown
                verdicts.append(judge(row, arm, published, source, atlas.arms(row.id), base))
    return verdicts


def _base(atlas: Atlas, name: str, measure: str) -> np.ndarray:
    """Our members in the row whose settings are the defaults of sources; empty if it has not been run."""
    rows = [row for row in atlas.rows if row.id == name]
    return arm_values(atlas.arms(name), rows[0].arms[0], measure=measure) if rows else np.array([])
