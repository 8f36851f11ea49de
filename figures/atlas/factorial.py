"""The fractional factorial, and what it and single rows tell about the conflict between published values."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from figures.atlas import effects, findings
from figures.atlas.values import Atlas, Row, arm_values

NAMES = {
    "batch": "batch 1024 -> 256",
    "epochs": "student's epochs 5 -> 15",
    "rate": "learning rate 3e-4 -> 1e-3",
    "loss": "KL -> squared error",
    "init": "fan-in normal -> He",
    "aux": "3 -> 10 auxiliary logits",
    "teacher": "teacher's epochs 5 -> 2",
}
STEPS = ("batch", "epochs", "rate")
"""Factors that set the number and the length of steps."""

ROW = "factorial"


def estimate(row: Row, arms: Mapping[str, Any]) -> list[effects.Effect]:
    """Effects of a factorial. Members that diverged in any run are left out of all runs.

    Args:
        row: a row whose arms have signs.
        arms: all arms of its record.
    """
    signs = np.array([list(arm.signs.values()) for arm in row.arms])
    return effects.estimate(signs, _values(row, arms), list(row.arms[0].signs))


def _values(row: Row, arms: Mapping[str, Any]) -> np.ndarray:
    values = np.array([arm_values(arms, arm) for arm in row.arms])  # run by member
    return values[:, np.isfinite(values).all(axis=0)]


def text(atlas: Atlas) -> str:
    """The section of the page about the conflict, as far as the records go."""
    row, arms = atlas.row(ROW), atlas.arms(ROW)
    parts = [
        f"A factorial of sixteen runs in seven factors (resolution IV: main effects are clear of each other and of "
        f"interactions of two). {row.expected[0].upper()}{row.expected[1:]}."
    ]
    if ROW not in atlas.records or not atlas.records[ROW].complete:
        parts.append("Not run yet.")
    elif _values(row, arms).shape[1] < 2:
        parts.append("Fewer than two members finished all of its runs, so the effects cannot be estimated.")
    else:
        parts += [_table(row, arms), answer(row, arms)]
    return "\n\n".join([*parts, "\n".join(published(atlas))])


def _table(row: Row, arms: Mapping[str, Any]) -> str:
    table = ["| effect | change of accuracy | share of the variance |", "| --- | --- | --- |"]
    for effect in estimate(row, arms):
        share = f"{effect.share:.0%} [{effect.share_low:.0%}, {effect.share_high:.0%}]"
        table.append(f"| {NAMES.get(effect.name, effect.name)} | {effect.change:+.3f} | {share} |")
    num_left, count = _values(row, arms).shape[1], max(len(arm["members"]) for arm in arms.values())
    num_lost = count - num_left
    note = f"; {num_lost} of {count} members diverged in some run and are left out" if num_lost else ""
    return "\n".join([*table, "", f"n = {num_left} members{note}; bootstrap intervals of shares over members."])


def answer(row: Row, arms: Mapping[str, Any]) -> str:
    """The main results of the factorial beside the expectations."""
    means = dict(zip((arm.label for arm in row.arms), _values(row, arms).mean(axis=1), strict=True))
    lowest, highest = (pick(means, key=lambda label: means[label]) for pick in (min, max))
    all_effects = estimate(row, arms)
    main = sorted((e for e in all_effects if e.name in NAMES), key=lambda e: -abs(e.change.mean))
    clear = [e for e in main if e.change.low > 0 or e.change.high < 0]
    steps = sum(e.share for e in main if e.name in STEPS)
    mixed = sum(e.share for e in all_effects if e.name not in NAMES)
    largest = {e.name for e in main[:3]}
    effect_of = {e.name: e.change for e in main}
    as_expected = {
        "batch, epochs and rate have the largest effects": largest == set(STEPS),
        "the number of logits comes next": main[3].name == "aux",
        "loss and initialization matter less": {main[i].name for i in range(5)}.isdisjoint({"loss", "init"}),
        "a teacher trained for fewer epochs helps": effect_of["teacher"].low > 0,
    }
    confirmed = [claim for claim, is_true in as_expected.items() if is_true]
    refuted = [claim for claim, is_true in as_expected.items() if not is_true]
    changes = "; ".join(f"{NAMES[e.name]} {e.change:+.3f}" for e in clear) or "none"
    return " ".join(
        [
            f"The sixteen settings give from {means[lowest]:.3f} (`{lowest}`) to {means[highest]:.3f} (`{highest}`).",
            f"Main effects whose interval excludes zero: {changes}.",
            f"Batch, epochs and rate, which set the number and the size of steps, make up {steps:.0%} of the variance "
            f"between settings, interactions of two {mixed:.0%}.",
            f"Expected and found: {', '.join(confirmed) or 'nothing'}.",
            f"Expected and not found: {', '.join(refuted) or 'nothing'}.",
            "Two cautions. First, all the published numbers below have three auxiliary logits, so the number of logits "
            "cannot explain why they differ. Second, shares depend on the two levels chosen for each factor and on the "
            "scale: accuracies near one leave less room.",
        ]
    )


def published(atlas: Atlas) -> list[str]:
    """A table of published values and our settings that are nearest to their protocols."""
    reader = findings.RecordReader(atlas)
    cases = (
        (".27 (Jiang et al.)", "squared error; initialization, rate and batch not stated: ours PyTorch's default",
         ("squared-error-and-start", "mse, torch_uniform"), ("squared-error-and-start", "mse, fan_in_normal")),
        (".50 to .55 (Cloud et al., and four with one draw)", "the paper's setting", ("figure-10", "base"), None),
        (".77 (Xiao0779)", "forty epochs of the student", ("student-epochs", "40"), ("figure-10", "base")),
        (".77 (jasshone)", "N(0, 1) noise blurred by one pixel; ours uniform", ("blur", "1"), ("blur", "0")),
        (".768 (Dezmon)", "He's initialization; batches of 64 at 1e-3, where ours are of 256 at 3e-4",
         ("init-law", "he_normal"), ("init-law", "fan_in_normal")),
        (".90 (barathvelmu)", "squared error, width 128, forty epochs at 1e-3",
         ("best-published", "width 128, 40 epochs"), None),
        (".965 (Dezmon)", "He's, and feature distillation of the hidden layer, which is more than logits",
         ("guidance", "0.1"), ("guidance", "0")),
    )  # fmt: skip
    lines = [
        "| published | what is known of its setting | ours in that setting | ours without it |",
        "| --- | --- | --- | --- |",
    ]
    for value, protocol, with_setting, without in cases:
        cells = []
        for place in (with_setting, without):
            try:
                cells.append("" if place is None else reader.mean(*place))
            except findings.NotRunError:
                cells.append("not run yet")
        lines.append(f"| {value} | {protocol} | {' | '.join(cells)} |")
    return lines
