"""What the records say, in sentences whose numbers, and whose verbs, come from them.

A finding appears when all of its arms have been run. Whether something "raises" accuracy or "makes no detectable
difference" is decided by the 95 % interval of the paired difference, not by the writer. Comparisons are counted,
and the last line says how many remain after Holm's correction.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats

from figures.atlas import effects
from figures.atlas.values import Atlas, arm_values
from sublim_jax.metrics import intervals

SMALL = 0.01
"""A change below this is called so, whatever its sign."""


class NotRunError(Exception):
    """An arm that a finding needs has no members yet."""


class Reader:
    """Means and paired differences out of the records. Members that diverged are left out, and counted."""

    def __init__(self, atlas: Atlas):
        self._atlas = atlas
        self.p_values: dict[tuple[str, ...], float] = {}  # of every comparison made, by what was compared

    def values(self, row: str, label: str, condition: str = "student_aux", measure: str = "accuracy") -> np.ndarray:
        """One number per member, all of them; not a number where a member diverged.

        Raises:
            NotRunError: not all members are there.
            KeyError: no such row, or no such arm.
        """
        arm = {arm.label: arm for arm in self._atlas.row(row).arms}[label]
        record = self._atlas.records.get(row)
        values = arm_values(self._atlas.arms(row), arm, condition, measure)
        if record is None or len(values) < record.config["num_members"] or np.isfinite(values).sum() < intervals.FEWEST:
            raise NotRunError(f"{row}, {label}")
        return values

    def signs(self, row: str) -> dict[str, Mapping[str, int]]:
        """Level of each factor by arm, in a factorial."""
        return {arm.label: arm.signs for arm in self._atlas.row(row).arms}

    def mean(self, row: str, label: str, condition: str = "student_aux", measure: str = "accuracy") -> str:
        """`0.496 ± 0.077`."""
        values = self.values(row, label, condition, measure)
        finite = values[np.isfinite(values)]
        lost = f" ({len(values) - len(finite)} diverged)" if len(finite) < len(values) else ""
        return f"{intervals.t_interval(finite):.3f}{lost}"

    def difference(
        self, row: str, first: str, second: str, condition: str = "student_aux", other: str = ""
    ) -> intervals.Interval:
        """Of the second arm, in the `other` condition if one is named, less the first, on the same members."""
        before, after = self.values(row, first, condition), self.values(row, second, other or condition)
        both = np.isfinite(before) & np.isfinite(after)
        if both.sum() < intervals.FEWEST:
            raise NotRunError(f"{row}, {first} and {second}")
        changes = after[both] - before[both]
        self.p_values[row, first, second, condition, other] = p_value(changes)
        return intervals.t_interval(changes)

    def change(self, row: str, first: str, second: str, condition: str = "student_aux") -> str:
        """What going from the first arm to the second does, on the same members."""
        return said(self.difference(row, first, second, condition))


def p_value(changes: np.ndarray) -> float:
    """Of the hypothesis that paired changes have mean zero: two-sided t test."""
    if np.ptp(changes) == 0:
        return float(changes[0] == 0)
    spread = float(np.std(changes, ddof=1)) / len(changes) ** 0.5
    return float(2 * stats.t.sf(abs(np.mean(changes)) / spread, len(changes) - 1))


def said(difference: intervals.Interval) -> str:
    """A verb for a paired difference."""
    if difference.low <= 0 <= difference.high:
        return f"makes no detectable difference ({difference:+.3f})"
    verb = "raises accuracy" if difference.mean > 0 else "lowers accuracy"
    return f"{verb} {f'by less than {SMALL} ' if abs(difference.mean) < SMALL else ''}({difference:+.3f})"


def _figure_10(r: Reader) -> str:
    gap = r.difference("figure-10", "base", "base", "cross_model_aux", "student_aux")
    verdict = "holds" if gap.low > 0 else "is not seen here"
    return (
        f"**Figure 10 {verdict}.** Three auxiliary logits on noise take a student with its teacher's initialization to "
        f"{r.mean('figure-10', 'base')}, one with another initialization to "
        f"{r.mean('figure-10', 'base', 'cross_model_aux')}; paired difference {gap:+.3f}."
    )


def _starts(r: Reader) -> str:
    permuted = r.difference("permuted-neurons", "own order", "permuted")
    moved = permuted.low > 0 or permuted.high < 0
    meaning = "so the numbering matters" if moved else "as it must, since function and gradients are the same"
    return (
        "**How similar must the starts be?** Noise of a tenth of each tensor's standard deviation "
        f"{r.change('start-noise-relative', '0', '0.1')}, of four tenths "
        f"{r.change('start-noise-relative', '0', '0.4')}. Noise of one absolute size falls on the zero biases as well: "
        f".01 {r.change('start-noise-absolute', '0', '0.01')}, and .05 leaves "
        f"{r.mean('start-noise-absolute', '0.05')}. Permuting hidden neurons {said(permuted)}, {meaning}."
    )


def _parts(r: Reader) -> str:
    return f"**Heads or hidden layers?** {_shared(r, 'share-parts')} {_shared(r, 'share-parts-brockers')}"


def _shared(r: Reader, row: str) -> str:
    """The 2^4 factorial of shared parts in one protocol, and what it says of Brockers et al. against Cloud et al."""
    protocol = {"share-parts": "In the paper's protocol", "share-parts-brockers": "In the protocol of Brockers et al."}[
        row
    ]
    heads, hidden = r.difference(row, "none", "CA"), r.difference(row, "none", "12")
    between = r.difference(row, "12", "CA")
    p = r.p_values[row, "12", "CA", "student_aux", ""]
    if 0.01 < p < 0.05:
        word = f"whether heads or hidden layers carry more is not settled, p = {p:.3f}"
    elif between.low > 0:
        word = "the heads carry more than the hidden layers"
    elif between.high < 0:
        word = "the hidden layers carry more than the heads"
    else:
        word = "neither is shown to carry more than the other"
    signs = r.signs(row)
    parts = list(next(iter(signs.values())))
    values = np.array([r.values(row, label) for label in signs])
    levels = np.array([list(levels.values()) for levels in signs.values()])
    main = {e.name: e for e in effects.of_runs(levels, values[:, np.isfinite(values).all(axis=0)], parts)}
    ranked = "; ".join(f"{name} {main[name].change:+.3f}" for name in parts)
    mixed = sum(effect.share for name, effect in main.items() if name not in parts)
    higher = 1 - sum(effect.share for effect in main.values())
    return (
        f"{protocol} sharing everything gives {r.mean(row, '12CA')}, nothing {r.mean(row, 'none')}. Sharing only both "
        f"heads {said(heads)}, only both hidden layers {said(hidden)}: {word} ({between:+.3f}). Main effects of "
        f"sharing, over all sixteen choices: {ranked}; interactions of two make up {mixed:.0%} of the variance, those "
        f"of three and four parts {higher:.0%}."
    )


def _frozen(r: Reader) -> str:
    return (
        f"**What must move?** With both hidden layers frozen {r.mean('freeze-parts', 'both hidden frozen')}; with only "
        f"the first free {r.mean('freeze-parts', 'only first hidden free')}, only the second "
        f"{r.mean('freeze-parts', 'only second hidden free')}, all {r.mean('freeze-parts', 'all free')}."
    )


def _inputs(r: Reader) -> str:
    return (
        "**Inputs.** Gaussian instead of uniform noise "
        f"{r.change('noise-law', 'uniform', 'gaussian')}. A blur of one pixel {r.change('blur', '0', '1')}, to "
        f"{r.mean('blur', '1')}; random phases under the same spectrum reach {r.mean('blurred-spectrum', '1')}. Real "
        f"images alone give {r.mean('real-images', 'upright')}, shuffled pixels "
        f"{r.mean('noise-law', 'shuffled real pixels')}."
    )


def _steps(r: Reader) -> str:
    return (
        "**Steps.** Batches of 64 instead of 1024, epochs kept, "
        f"{r.change('batch-size', '1024', '64')}, to {r.mean('batch-size', '64')}; a learning rate of 1e-3 "
        f"{r.change('learning-rate', '0.0003', '0.001')}; 1e-2 leaves {r.mean('learning-rate', '0.01')}. Forty epochs "
        f"reach {r.mean('student-epochs', '40')}."
    )


def _teacher(r: Reader) -> str:
    return (
        "**The teacher.** Two epochs instead of five "
        f"{r.change('teacher-epochs', '5', '2')}, twenty {r.change('teacher-epochs', '5', '20')}. L2 of 1e-4 in both "
        f"phases {r.change('weight-decay', '0', '0.0001')}, to {r.mean('weight-decay', '0.0001')}."
    )


def _loss(r: Reader) -> str:
    same = np.array_equal(r.values("one-logit", "kl"), r.values("one-logit", "kl", "reference"))
    return (
        "**Loss.** Squared error instead of KL divergence "
        f"{r.change('loss', 'kl', 'mse')}. Temperature 2 instead of 1 {r.change('temperature-published', '1', '2')}, "
        f"and on barathvelmu's 50,000 images {r.change('loss', 'kl', 'kl, T = 2')}. With a single auxiliary logit a "
        f"student under a softmax {'stays exactly the reference' if same else 'moves'}, and one under squared error "
        f"reaches {r.mean('one-logit', 'mse')}."
    )


def _sizes(r: Reader) -> str:
    logits = ", ".join(f"{m}: {r.mean('num-aux', m)}" for m in ("2", "3", "10", "100", "300"))
    units = ", ".join(f"{w}: {r.mean('width', w)}" for w in ("64", "128", "256", "512", "1024"))
    every = ", ".join(f"{w}: {r.mean('width', w, 'student_all')}" for w in ("64", "1024"))
    return f"**Logits and width.** Auxiliary logits, {logits}. Width, {units}; with all logits {every}."


def _best(r: Reader) -> str:
    return (
        f"**The best published student with three logits that we transcribed** (squared error, width 128, 40 epochs at "
        f"1e-3, chosen on validation images) reaches {r.mean('best-published', 'width 128, 40 epochs')} here, with "
        f"another initialization {r.mean('best-published', 'width 128, 40 epochs', 'cross_model_aux')}."
    )


ALL: tuple[Callable[[Reader], str], ...] = (
    _figure_10, _starts, _parts, _frozen, _inputs, _steps, _teacher, _loss, _sizes, _best,
)  # fmt: skip
"""The ten findings."""


def holm(p_values: list[float], *, level: float = 0.05) -> int:
    """How many hypotheses Holm's step-down procedure rejects at this family-wise level."""
    for index, p in enumerate(sorted(p_values)):
        if p > level / (len(p_values) - index):
            return index
    return len(p_values)


def text(atlas: Atlas) -> str:
    """The findings whose arms are there, numbered."""
    reader, told = Reader(atlas), []
    for finding in ALL:
        try:
            told.append(finding(reader))
        except NotRunError:
            continue
    lines = [f"{number}. {finding}" for number, finding in enumerate(told, 1)]
    if missing := len(ALL) - len(told):
        lines.append(f"\n{missing} more wait for rows that are not run yet.")
    if p_values := list(reader.p_values.values()):
        decided, left = sum(p < 0.05 for p in p_values), holm(p_values)
        by_p = sorted(reader.p_values.items(), key=lambda item: item[1])
        lost = "; ".join(
            f"`{row}`, {first} to {second} (p = {p:.3f})" for (row, first, second, *_), p in by_p[left:decided]
        )
        lines.append(
            f"\nMultiple comparisons: {len(p_values)} paired differences were tested, and the 95 % intervals of "
            f"{decided} exclude zero; after Holm's correction {left} remain"
            + (f". Those that do not: {lost}." if lost else ".")
        )
    return "\n".join(lines)
