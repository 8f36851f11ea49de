"""What the records say, in sentences whose numbers, and whose verbs, come from them.

A finding appears when all of its arms have been run. Whether something "raises" accuracy or "changes nothing that these
members can show" is decided by the 95 % interval of the paired difference, not by the writer.
"""

from collections.abc import Callable, Iterator

import numpy as np

from experiments.atlas import __main__ as atlas
from experiments.atlas import verdicts
from sublim_jax import records
from sublim_jax.metrics import intervals


class NotRunError(Exception):
    """An arm that a finding needs has no members yet."""


class Reader:
    """Means and paired differences out of the records."""

    def __init__(self, found: dict[str, records.Record]):
        self._found = found
        self._rows = {row.id: row for row in atlas.ROWS["all"]}

    def values(self, row: str, label: str, condition: str = "student_aux", measure: str = "accuracy") -> np.ndarray:
        """One number per member, all of them."""
        arm = next(arm for arm in self._rows[row].arms if arm.label == label)
        arms = self._found[row].results["arms"] if row in self._found else {}
        values = verdicts.arm_values(arms, arm, condition, measure)
        if len(values) < self._found["figure-10"].config["num_members"] or not np.isfinite(values).all():
            raise NotRunError
        return values

    def mean(self, row: str, label: str, condition: str = "student_aux", measure: str = "accuracy") -> str:
        """`.496 ± .077`."""
        return f"{intervals.t_interval(self.values(row, label, condition, measure)):.3f}"

    def change(self, row: str, first: str, second: str, condition: str = "student_aux") -> str:
        """What going from the first arm to the second does, on the same members."""
        difference = intervals.paired_difference(
            self.values(row, second, condition), self.values(row, first, condition)
        )
        if difference.low > 0:
            return f"raises it ({difference:+.3f})"
        if difference.high < 0:
            return f"lowers it ({difference:+.3f})"
        return f"changes nothing that these members can show ({difference:+.3f})"


def _figure_10(r: Reader) -> str:
    gap = intervals.paired_difference(r.values("figure-10", "base"), r.values("figure-10", "base", "cross_model_aux"))
    return (
        f"**Figure 10 holds.** Three auxiliary logits on noise take a student with its teacher's initialization to "
        f"{r.mean('figure-10', 'base')}, one with another initialization to "
        f"{r.mean('figure-10', 'base', 'cross_model_aux')}; paired difference {gap:+.3f}."
    )


def _noise_on_the_start(r: Reader) -> str:
    return (
        "**How equal must the starts be?** Noise of a tenth of each tensor's spread "
        f"{r.change('start-noise-relative', '0', '0.1')}, of two fifths "
        f"{r.change('start-noise-relative', '0', '0.4')}. Noise of one absolute size falls on the zero biases as well: "
        f".01 {r.change('start-noise-absolute', '0', '0.01')}, and .05 leaves {r.mean('start-noise-absolute', '0.05')}."
    )


def _parts(r: Reader) -> str:
    named = {"12CA": "all", "CA": "both heads only", "12": "both hidden layers only", "2CA": "all but the first hidden",
             "1CA": "all but the second hidden", "12A": "all but the class head", "12C": "all but the auxiliary head",
             "none": "nothing"}  # fmt: skip
    said = ", ".join(f"{words} {r.mean('share-parts', label)}" for label, words in named.items())
    return f"**What must be shared.** Shared parts and accuracy: {said}."


def _brockers(r: Reader) -> str:
    named = {"12CA": "all", "CA": "both heads only", "12": "both hidden layers only", "none": "nothing"}
    said = ", ".join(f"{words} {r.mean('share-parts-brockers', label)}" for label, words in named.items())
    return f"**Heads or hidden layers, in Brockers' protocol** (ten logits, squared error, Adam at 1e-3): {said}."


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
        f"{r.change('teacher-epochs', '5', '2')}, twenty {r.change('teacher-epochs', '5', '20')}."
    )


def _decay(r: Reader) -> str:
    return f"**Weight decay.** L2 of 1e-4 in both phases leaves {r.mean('weight-decay', '0.0001')}."


def _loss(r: Reader) -> str:
    return (
        "**Loss.** Squared error instead of KL divergence "
        f"{r.change('loss', 'kl', 'mse')}; temperature 2 {r.change('loss', 'kl', 'kl, T = 2')}."
    )


def _aux(r: Reader) -> str:
    return (
        "**Auxiliary logits.** From 2 to 300: "
        + ", ".join(f"{m}: {r.mean('num-aux', m)}" for m in ("2", "3", "10", "100", "300"))
        + "."
    )


def _width(r: Reader) -> str:
    return (
        "**Width.** "
        + ", ".join(f"{w}: {r.mean('width', w)}" for w in ("64", "128", "256", "512", "1024"))
        + "; with all logits "
        + ", ".join(f"{w}: {r.mean('width', w, 'student_all')}" for w in ("64", "1024"))
        + "."
    )


def _permuted(r: Reader) -> str:
    return (
        "**The same function at other coordinates.** A start whose hidden neurons are in another order "
        f"{r.change('permuted-neurons', 'own order', 'permuted')}: what must be shared is the function and its "
        "derivatives, not the numbering of the neurons."
    )


def _frozen(r: Reader) -> str:
    return (
        f"**What must move.** With both hidden layers frozen {r.mean('freeze-parts', 'both hidden frozen')}; with only "
        f"the first free {r.mean('freeze-parts', 'only first hidden free')}, only the second "
        f"{r.mean('freeze-parts', 'only second hidden free')}, all {r.mean('freeze-parts', 'all free')}."
    )


def _one_logit(r: Reader) -> str:
    same = np.array_equal(r.values("one-logit", "kl"), r.values("one-logit", "kl", "reference"))
    return (
        f"**One logit.** Under a softmax the student {'is exactly the reference' if same else 'moves'}; under squared "
        f"error it reaches {r.mean('one-logit', 'mse')}."
    )


def _best(r: Reader) -> str:
    return (
        f"**The best published student** (squared error, width 128, 40 epochs at 1e-3, chosen on validation images) "
        f"reaches {r.mean('best-published', 'width 128, 40 epochs')} here, with another initialization "
        f"{r.mean('best-published', 'width 128, 40 epochs', 'cross_model_aux')}."
    )


ALL: tuple[Callable[[Reader], str], ...] = (
    _figure_10, _noise_on_the_start, _parts, _brockers, _inputs, _steps, _teacher, _decay, _loss, _aux, _width,
    _permuted, _frozen, _one_logit, _best,
)  # fmt: skip


def _said(found: dict[str, records.Record]) -> Iterator[str]:
    reader = Reader(found)
    for finding in ALL:
        try:
            yield finding(reader)
        except (NotRunError, KeyError):
            continue


def text(found: dict[str, records.Record]) -> str:
    """The findings whose arms are there, numbered."""
    said = list(_said(found))
    missing = len(ALL) - len(said)
    lines = [f"{number}. {finding}" for number, finding in enumerate(said, 1)]
    return "\n".join([*lines, *([f"\n{missing} more wait for rows that are not run yet."] if missing else [])])
