"""Findings: sentences whose numbers and verbs are computed from the records.

A finding appears when all of its arms have been run. The 95 % interval of a paired difference decides whether something
"raises" accuracy or "makes no detectable difference". The last line counts the comparisons that remain significant
after Holm's correction.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats

from figures import values as members_of
from figures.atlas import effects
from figures.atlas.values import Atlas, arm_values
from sublim_jax.metrics import intervals

SMALL = 0.01
"""The sentence says so if a change is smaller than this, whatever its sign."""


class NotRunError(Exception):
    """An arm that a finding needs has not been run with all members."""


class RecordReader:
    """Means and paired differences of arms. Members that diverged are left out and counted."""

    def __init__(self, atlas: Atlas):
        self._atlas = atlas
        self.p_values: dict[tuple[str, ...], float] = {}  # of every comparison so far, by its arguments

    def values(self, row: str, label: str, condition: str = "student_aux", measure: str = "accuracy") -> np.ndarray:
        """One number per member; not a number where the member diverged.

        Raises:
            NotRunError: members are missing, or too few of them are finite for an interval.
            KeyError: no such row, or no such arm.
        """
        arm = {arm.label: arm for arm in self._atlas.row(row).arms}[label]
        record = self._atlas.records.get(row)
        values = arm_values(self._atlas.arms(row), arm, condition, measure)
        if record is None or len(values) < record.config["num_members"] or np.isfinite(values).sum() < intervals.FEWEST:
            raise NotRunError(f"{row}, {label}")
        return values

    def labels(self, row: str) -> list[str]:
        """The arms of a row, in their order."""
        return [arm.label for arm in self._atlas.row(row).arms]

    def signs(self, row: str) -> dict[str, Mapping[str, int]]:
        """Level of each factor by arm, in a factorial."""
        return {arm.label: arm.signs for arm in self._atlas.row(row).arms}

    def mean(self, row: str, label: str, condition: str = "student_aux", measure: str = "accuracy") -> str:
        """Mean and interval as text, e.g. `0.496 ± 0.077`."""
        values = self.values(row, label, condition, measure)
        num_diverged = int(np.sum(~np.isfinite(values)))
        return f"{members_of.interval(values):.3f}" + (f" ({num_diverged} diverged)" if num_diverged else "")

    def difference(
        self, row: str, first: str, second: str, *, condition: str = "student_aux", second_condition: str = ""
    ) -> intervals.Interval:
        """Accuracy of the second arm minus that of the first, on the same members.

        Args:
            second_condition: of the second arm, if it is not `condition`.
        """
        before, after = self.values(row, first, condition), self.values(row, second, second_condition or condition)
        difference = members_of.paired(after, before)
        if difference is None or not difference.is_known:
            raise NotRunError(f"{row}, {first} and {second}")
        changes = (after - before)[np.isfinite(after - before)]
        self.p_values[row, first, second, condition, second_condition] = p_value(changes)
        return difference

    def change(self, row: str, first: str, second: str) -> str:
        """The difference between two arms in words, e.g. `raises accuracy (+0.120 ± 0.030)`."""
        return describe(self.difference(row, first, second))


def p_value(changes: np.ndarray) -> float:
    """P-value of a two-sided t test that paired changes have mean zero."""
    if np.ptp(changes) == 0:
        return float(changes[0] == 0)
    standard_error = float(np.std(changes, ddof=1)) / len(changes) ** 0.5
    return float(2 * stats.t.sf(abs(np.mean(changes)) / standard_error, len(changes) - 1))


def describe(difference: intervals.Interval) -> str:
    """Describe a paired difference by a verb and its interval."""
    if difference.low <= 0 <= difference.high:
        return f"makes no detectable difference ({difference:+.3f})"
    verb = "raises accuracy" if difference.mean > 0 else "lowers accuracy"
    return f"{verb} {f'by less than {SMALL} ' if abs(difference.mean) < SMALL else ''}({difference:+.3f})"


def _figure_10(reader: RecordReader) -> str:
    gap = reader.difference("figure-10", "base", "base", condition="cross_model_aux", second_condition="student_aux")
    verdict = "holds" if gap.low > 0 else "is not seen here"
    return (
        f"**Figure 10 {verdict}.** Three auxiliary logits on noise take a student with its teacher's initialization to "
        f"{reader.mean('figure-10', 'base')}, one with another initialization to "
        f"{reader.mean('figure-10', 'base', 'cross_model_aux')}; paired difference {gap:+.3f}."
    )


def _starts(reader: RecordReader) -> str:
    permuted = reader.difference("permuted-neurons", "own order", "permuted")
    moved = permuted.low > 0 or permuted.high < 0
    meaning = "so the numbering matters" if moved else "as it must, since function and gradients are the same"
    return (
        "**How similar must the starts be?** Noise of a tenth of each tensor's standard deviation "
        f"{reader.change('start-noise-relative', '0', '0.1')}, of four tenths "
        f"{reader.change('start-noise-relative', '0', '0.4')}. Noise of one absolute size falls on the zero biases as "
        f"well: .01 {reader.change('start-noise-absolute', '0', '0.01')}, and .05 leaves "
        f"{reader.mean('start-noise-absolute', '0.05')}. Permuting hidden neurons {describe(permuted)}, {meaning}."
    )


def _parts(reader: RecordReader) -> str:
    return f"**Heads or hidden layers?** {_shared(reader, 'share-parts')} {_shared(reader, 'share-parts-brockers')}"


def _shared(reader: RecordReader, row: str) -> str:
    """Effects of sharing each part in one protocol, from the 2^4 factorial."""
    protocol = {"share-parts": "In the paper's protocol", "share-parts-brockers": "In the protocol of Brockers et al."}[
        row
    ]
    heads, hidden = reader.difference(row, "none", "CA"), reader.difference(row, "none", "12")
    between = reader.difference(row, "12", "CA")
    p = reader.p_values[row, "12", "CA", "student_aux", ""]
    if 0.01 < p < 0.05:
        word = f"whether heads or hidden layers carry more is not settled, p = {p:.3f}"
    elif between.low > 0:
        word = "the heads carry more than the hidden layers"
    elif between.high < 0:
        word = "the hidden layers carry more than the heads"
    else:
        word = "neither is shown to carry more than the other"
    signs = reader.signs(row)
    parts = list(next(iter(signs.values())))
    values = np.array([reader.values(row, label) for label in signs])
    levels = np.array([list(levels.values()) for levels in signs.values()])
    main = {e.name: e for e in effects.estimate(levels, values[:, np.isfinite(values).all(axis=0)], parts)}
    ranked = "; ".join(f"{name} {main[name].change:+.3f}" for name in parts)
    mixed = sum(effect.share for name, effect in main.items() if name not in parts)
    higher = 1 - sum(effect.share for effect in main.values())
    return (
        f"{protocol} sharing everything gives {reader.mean(row, '12CA')}, nothing {reader.mean(row, 'none')}. Sharing "
        f"only both heads {describe(heads)}, only both hidden layers {describe(hidden)}: {word} ({between:+.3f}). Main "
        f"effects of sharing, over all sixteen choices: {ranked}; interactions of two make up {mixed:.0%} of the "
        f"variance, those of three and four parts {higher:.0%}."
    )


def _frozen(reader: RecordReader) -> str:
    return (
        f"**What must move?** With both hidden layers frozen {reader.mean('freeze-parts', 'both hidden frozen')}; with "
        f"only the first free {reader.mean('freeze-parts', 'only first hidden free')}, only the second "
        f"{reader.mean('freeze-parts', 'only second hidden free')}, all {reader.mean('freeze-parts', 'all free')}."
    )


def _inputs(reader: RecordReader) -> str:
    return (
        "**Inputs.** Gaussian instead of uniform noise "
        f"{reader.change('noise-law', 'uniform', 'gaussian')}. A blur of one pixel {reader.change('blur', '0', '1')}, "
        f"to {reader.mean('blur', '1')}; random phases under the same spectrum reach "
        f"{reader.mean('blurred-spectrum', '1')}. Real images alone give {reader.mean('real-images', 'upright')}, "
        f"shuffled pixels {reader.mean('noise-law', 'shuffled real pixels')}."
    )


def _steps(reader: RecordReader) -> str:
    return (
        "**Steps.** Batches of 64 instead of 1024, epochs kept, "
        f"{reader.change('batch-size', '1024', '64')}, to {reader.mean('batch-size', '64')}; a learning rate of 1e-3 "
        f"{reader.change('learning-rate', '0.0003', '0.001')}; 1e-2 leaves {reader.mean('learning-rate', '0.01')}. "
        f"Forty epochs reach {reader.mean('student-epochs', '40')}."
    )


def _teacher(reader: RecordReader) -> str:
    return (
        "**The teacher.** Two epochs instead of five "
        f"{reader.change('teacher-epochs', '5', '2')}, twenty {reader.change('teacher-epochs', '5', '20')}. L2 of 1e-4 "
        f"in both phases {reader.change('weight-decay', '0', '0.0001')}, to {reader.mean('weight-decay', '0.0001')}."
    )


def _loss(reader: RecordReader) -> str:
    same = np.array_equal(reader.values("one-logit", "kl"), reader.values("one-logit", "kl", "reference"))
    return (
        "**Loss.** Squared error instead of KL divergence "
        f"{reader.change('loss', 'kl', 'mse')}. Temperature 2 instead of 1 "
        f"{reader.change('temperature-published', '1', '2')}, and on barathvelmu's 50,000 images "
        f"{reader.change('loss', 'kl', 'kl, T = 2')}. With a single auxiliary logit a student under a softmax "
        f"{'stays exactly the reference' if same else 'moves'}, and one under squared error reaches "
        f"{reader.mean('one-logit', 'mse')}."
    )


def _sizes(reader: RecordReader) -> str:
    logits = ", ".join(f"{m}: {reader.mean('num-aux', m)}" for m in ("2", "3", "10", "100", "300"))
    units = ", ".join(f"{w}: {reader.mean('width', w)}" for w in ("64", "128", "256", "512", "1024"))
    every = ", ".join(f"{w}: {reader.mean('width', w, 'student_all')}" for w in ("64", "1024"))
    return f"**Logits and width.** Auxiliary logits, {logits}. Width, {units}; with all logits {every}."


def _best(reader: RecordReader) -> str:
    return (
        f"**The best published student with three logits that we transcribed** (squared error, width 128, 40 epochs at "
        f"1e-3, chosen on validation images) reaches {reader.mean('best-published', 'width 128, 40 epochs')} here, "
        f"with another initialization {reader.mean('best-published', 'width 128, 40 epochs', 'cross_model_aux')}."
    )


def _convolutions(reader: RecordReader) -> str:
    labelled = {
        f"{prefix}{label}": (row, label)
        for row, prefix in (("convolution-pooling", ""), ("convolution-residual", "residual network, "))
        for label in reader.labels(row)
    }
    gaps = {
        name: reader.difference(row, label, label, condition="cross_model_aux", second_condition="student_aux")
        for name, (row, label) in labelled.items()
    }
    shown = "; ".join(f"{name} {reader.mean(*labelled[name])}, gap {gap:+.3f}" for name, gap in gaps.items())
    seen = [name for name, gap in gaps.items() if gap.low > 0]
    unseen = [f"{name} (a gap above {gap.high:.3f} is excluded)" for name, gap in gaps.items() if gap.low <= 0]
    parts, first = "convolution-parts", reader.labels("convolution-parts")[0]
    shared = "; ".join(
        f"{label} {reader.mean(parts, label)}" + (f", {change:+.3f}" if label != first else "")
        for label in reader.labels(parts)
        for change in [reader.difference(parts, first, label)]
    )
    return (
        f"**Weight sharing and pooling.** `student_aux`, and its gap to `cross_model_aux`, in one short protocol with "
        f"ten auxiliary logits: {shown}. The gap excludes zero for {'; '.join(seen) or 'none'}"
        + (f", and does not for {'; '.join(unseen)}. " if unseen else ". ")
        + f"Parts of LeNet with strides that are shared with the teacher, and their gain over nothing: {shared}."
    )


ALL: tuple[Callable[[RecordReader], str], ...] = (
    _figure_10, _starts, _parts, _frozen, _inputs, _steps, _teacher, _loss, _sizes, _best,
    _convolutions,
)  # fmt: skip
"""All findings, in their order."""


def holm(p_values: list[float], *, level: float = 0.05) -> int:
    """Number of hypotheses that Holm's step-down procedure rejects at this family-wise level."""
    for index, p in enumerate(sorted(p_values)):
        if p > level / (len(p_values) - index):
            return index
    return len(p_values)


def _compared(row: str, first: str, second: str, condition: str, second_condition: str) -> str:
    """What was compared: two arms, or two conditions of one."""
    if first == second:
        return f"`{row}`, {first}, `{condition}` to `{second_condition}`"
    return f"`{row}`, {first} to {second}"


def text(atlas: Atlas) -> str:
    """The numbered findings whose arms have been run, and the count of comparisons."""
    reader, sentences = RecordReader(atlas), []
    for finding in ALL:
        try:
            sentences.append(finding(reader))
        except NotRunError:
            continue
    lines = [f"{number}. {finding}" for number, finding in enumerate(sentences, 1)]
    if missing := len(ALL) - len(sentences):
        lines.append(f"\n{missing} more wait for rows that are not run yet.")
    if p_values := list(reader.p_values.values()):
        num_below, num_left = sum(p < 0.05 for p in p_values), holm(p_values)
        by_p = sorted(reader.p_values.items(), key=lambda item: item[1])
        not_left = "; ".join(f"{_compared(*names)} (p = {p:.3f})" for names, p in by_p[num_left:num_below])
        lines.append(
            f"\nMultiple comparisons: {len(p_values)} paired differences were tested, and the 95 % intervals of "
            f"{num_below} exclude zero; after Holm's correction {num_left} remain"
            + (f". Those that do not: {not_left}." if not_left else ".")
        )
    return "\n".join(lines)
