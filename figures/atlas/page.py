"""The atlas's page, written from its records and never by hand.

python -m figures.atlas.page            rewrite experiments/atlas/README.md
python -m figures.atlas.page --check    say whether it is up to date, for the tests
"""

import collections
from collections.abc import Mapping

import numpy as np
import tyro
from scipy import stats

from figures import compare
from figures import values as members_of
from figures.atlas import factorial, findings, verdicts
from figures.atlas.values import FOLDER, Arm, Atlas, Published, Row, arm_values, read
from sublim_jax import commands, errors, files, records
from sublim_jax.forms import mnist_aux
from sublim_jax.metrics import intervals

PAGE = members_of.ROOT / "experiments/atlas/README.md"
TRAINED_BOTH_WAYS = [members_of.RECORDS / f"mnist_aux{name}.json" for name in ("", "-float32")]
"""The same members with bfloat16 operands, and with float32 ones."""

SIGNS = {
    "agrees": "agrees",
    "agrees relative to its base": "agrees, relative to its base",
    "differs": "🔴 **differs**",
    "not comparable": "not comparable",
    "not run": "not run yet",
}

INTRODUCTION = """# The atlas

Published ablations of subliminal learning at the scale of MNIST, run again on one set of members, and rows that nobody
has published to our knowledge. A *row* is a question, its *arms* are the settings compared. Not every published
ablation is here: projections, coverage of the inputs and further columns of the sources named below are missing. This
page is made from the [records](../records/atlas) by `python -m figures.atlas.page`, its figures by `python -m
figures.atlas`.

    python -m experiments.atlas --plan           what would run, and about how long it takes
    python -m experiments.atlas                  everything; a run that was stopped resumes
    python -m experiments.atlas --ids width      one row
    python -m experiments.atlas --engine ray     on a Ray cluster
    python -m experiments.atlas --one-precision  also repeats what the records have in another precision

A *member* is one network before training (its reference), a teacher trained from it on the class logits, and students
that distil the teacher on noise. `student_aux` distils the three auxiliary logits, `student_all` all of them; both
start from the teacher's own reference, `cross_model_*` students from the next member's. The *gap* is the accuracy of
`student_aux` minus that of `cross_model_aux`.

Unless a row says otherwise: the paper's protocol (784-256-256-(10+3), ReLU, five epochs of Adam at 3e-4 and batches of
1024 in each phase, 60,000 uniform noise images), accuracy on the 10,000 test images, mean ± 95 % t-interval over
members. All arms share their members: reference, noise and order of batches are the same, so arms are compared in
pairs. (In rows that nobody has published, arms that also belong to a published row were run again with later code and
the others were not, so a paired difference between two such arms contains that change of arithmetic as well.) Nothing
is selected on the test set: sweeps report every point, optimizers are chosen on validation images and scored on test
images, and the rows under *Best* are settings that their source chose on validation images.
"""

VERDICTS = """The protocol of each source is at the end of the page. A published mean is given an interval from its
number of members and the standard deviation of ours, or the interval that its source states in the few cases where it
was transcribed. It **agrees** if the two means differ by less than the 95 % interval of their difference. jasshone,
divyat09, thierry123454 and Xiao0779 ran the published script (divyat09 with its distillation loss averaged over
images) on the same 25 members, whose base (the paper's setting) is about .55; ours is in finding 1. For Xiao0779, whose
repository is not archived, both are assumed. A value that misses ours, but whose change from its own base agrees with
our change from ours, **agrees relative to its base**. To agree is not to be equal: the number in brackets is the
difference above which we would have said **differs**. A number that is **not comparable** says why: where a source's
code draws other inputs or scores differently, it is not compared until our row has been run that way. One exception is
compared all the same: `width`, where jasshone's noise is N(0, 1) clamped to [-1, 1]. Values of Cloud et al. and of
jasshone are read off their figures, so to about .01.
"""


UNPUBLISHED = """Expectations were written before the runs. They are not judged here; read them against the tables.
Several failed."""


NEITHER = """Asked for in the literature and not here: a linearised (NTK) student, muP, transplanted tickets,
normalisation layers and residuals, dropout, averaged teachers and teacher ensembles, coverage against accuracy over the
whole grid, and how many bits are transmitted."""


def number(published: Published) -> str:
    """As published, with its interval if it has one."""
    return f"{published.value:g}" + (f" ± {published.half_width:g}" if published.half_width else "")


def sentence(text: str) -> str:
    """The text with a full stop, unless it ends in one or in a question mark."""
    return text if text.endswith((".", "?")) else f"{text}."


def parity(atlas: Atlas) -> str:
    """The table of published values, axis by axis."""
    judged = collections.defaultdict(list)
    for verdict in verdicts.judge_all(atlas):
        judged[verdict.row.id].append(verdict)
    lines = []
    for axis in dict.fromkeys(row.axis for row in atlas.published):
        rows = [row for row in atlas.published if row.axis == axis]
        lines += [f"### {axis.capitalize()}", "", *_picture(axis, rows, atlas)]
        lines += ["| row | arm | measured on | published | ours | verdict |", "| --- | --- | --- | --- | --- | --- |"]
        for row in rows:
            lines += _lines_of(row, judged[row.id], atlas)
        lines += ["", *_notes(rows), ""]
        for row in rows:
            if row.about == "likeness" and row.id in atlas.records:
                lines += [*_likeness(row, atlas.arms(row.id)), ""]
    return "\n".join(lines)


def _likeness(row: Row, arms) -> list[str]:
    """How the likeness of hidden layers to the teacher's goes with accuracy, over members and arms."""
    said = []
    for measure, words in (("hidden_cosine", "cosine"), ("cka", "CKA")):
        pairs = [(arm_values(arms, a, measure=measure), arm_values(arms, a)) for a in row.arms]
        if len({len(values) for pair in pairs for values in pair}) > 1 or not len(pairs[0][0]):
            return []  # not all members are there
        likeness, accuracy = (np.array(side) for side in zip(*pairs, strict=True))  # by arm and member
        if not np.isfinite(likeness).all() or not np.isfinite(accuracy).all():
            return []
        drawn = np.random.default_rng(0).integers(0, likeness.shape[1], (2000, likeness.shape[1]))
        again = [np.corrcoef(likeness[:, of].ravel(), accuracy[:, of].ravel())[0, 1] for of in drawn]
        low, high = np.quantile(again, [0.025, 0.975])
        r = np.corrcoef(likeness.ravel(), accuracy.ravel())[0, 1]
        within = np.mean([np.corrcoef(likeness[i], accuracy[i])[0, 1] for i in range(len(likeness))])
        said.append(f"{words} {r:.2f} [{low:.2f}, {high:.2f}], on average {within:.2f} among runs of equal length")
    return [f"Correlation of accuracy with the likeness of the hidden layer to the teacher's in `{row.id}`, all runs, "
            f"with 95 % bootstrap intervals over members: {'; '.join(said)}."]  # fmt: skip


def _picture(axis: str, rows: list[Row], atlas: Atlas) -> list[str]:
    if not any(row.id in atlas.records for row in rows):
        return []
    return [f"![{axis}](../../figures/images/atlas-{axis.replace(' ', '-')}.png)", ""]


def _lines_of(row: Row, judged: list[verdicts.Verdict], atlas: Atlas) -> list[str]:
    arms = atlas.arms(row.id)
    name, lines = f"`{row.id}`", []
    if not row.arms:
        who = ", ".join(atlas.sources[key].short for key in row.cited)
        return [f"| {name} | | | {who} | | not run: {row.not_run} |"]
    for arm in row.arms:
        own = [verdict for verdict in judged if verdict.arm is arm]
        for verdict in own:
            published = verdict.published
            what = f"`{published.condition}`" + ("" if published.measure == "accuracy" else f", {published.measure}")
            why = "" if np.isnan(verdict.margin) else f" (± {verdict.margin:.3f})"
            why += f": {verdict.why}" if verdict.why and verdict.word != "agrees" else ""
            ours = _ours(verdict.ours)
            theirs = f"{number(published)} ({atlas.sources[published.source].short})"
            cells = [name, arm.label, what.replace("_accuracy", ""), theirs, ours, SIGNS[verdict.word] + why]
            lines.append(f"| {' | '.join(cells)} |")
            name = ""
        told = {verdict.published.condition for verdict in own if "accuracy" in verdict.published.measure}
        for condition in arm.conditions:
            if condition not in told:
                ours = _ours(members_of.interval(arm_values(arms, arm, condition)))
                lines.append(f"| {name} | {arm.label} | `{condition}` | | {ours} | |")
                name = ""
    return lines


def _ours(interval) -> str:
    return "" if interval is None else f"{interval:.3f} (n={interval.num_members})"


def _notes(rows) -> list[str]:
    lines = []
    for row in rows:
        said = [sentence(row.question)]
        if row.expected:
            said.append(sentence(f"*Expected from the sources:* {row.expected}"))
        if row.note:
            said.append(row.note)
        lines.append(f"- `{row.id}`: {' '.join(said)}")
    return lines


def unpublished(atlas: Atlas) -> str:
    """Rows that nobody has published: every arm in every condition."""
    lines = []
    for axis in dict.fromkeys(row.axis for row in atlas.unpublished):
        rows = [row for row in atlas.unpublished if row.axis == axis]
        shown = any(row.axis == axis for row in atlas.published)  # above, in one figure for both
        lines += [f"### {axis.capitalize()}", "", *([] if shown else _picture(axis, rows, atlas))]
        for row in rows:
            conditions = list(dict.fromkeys(c for arm in row.arms for c in arm.conditions))
            arms = atlas.arms(row.id)
            lines += [
                f"**`{row.id}`**: {sentence(row.question)} *Expected before the run:* {sentence(row.expected)} "
                f"{row.note}".rstrip(),
                "",
            ]
            if not arms:
                lines += ["Not run yet.", ""]
                continue
            extra = [name for name in EXTRA if any(len(_measured(arms, arm, conditions, name)) for arm in row.arms)]
            heads = [*(f"`{c}`" for c in conditions), "minus first arm, paired", *(EXTRA[name] for name in extra)]
            lines += [f"| arm | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
            first = arm_values(arms, row.arms[0], conditions[0])
            for arm in row.arms:
                cells = [_ours(members_of.interval(arm_values(arms, arm, c))) for c in conditions]
                cells.append(_paired(arms, arm, conditions[0], first))
                cells += [_ours(members_of.interval(_measured(arms, arm, conditions, name))) for name in extra]
                lines.append(f"| {arm.label} | {' | '.join(cells)} |")
            lines += ["", *_chosen(row, arms), *_spreads(row, arms)]
    return "\n".join(lines)


EXTRA = {
    "validation_accuracy": "on validation images",
    "true_label_accuracy": "true labels",
    "matched_start": "the matched start itself",
}
"""What is shown beside the accuracies where it was measured, of a row's first condition."""


def _measured(arms, arm: Arm, conditions, name: str) -> np.ndarray:
    """Values of such a measure that are there; none where it was not measured."""
    if name == "matched_start":  # is a condition of its own, which no row asks for
        values = arm_values(arms, arm, name) if "matched_aux" in conditions else np.array([])
    else:
        values = arm_values(arms, arm, conditions[0], name)
    return values[np.isfinite(values)]


def _chosen(row: Row, arms) -> list[str]:
    """For each group of arms the one that is best on validation images, read on test images."""
    said = []
    for group in dict.fromkeys(arm.group for arm in row.arms if arm.group):
        means = {}
        for arm in row.arms:
            values = arm_values(arms, arm, measure="validation_accuracy")
            if arm.group == group and len(values):
                means[arm.label] = np.mean(np.nan_to_num(values))  # a member that diverged knows nothing
        if means:
            best = next(arm for arm in row.arms if arm.label == max(means, key=lambda label: means[label]))
            said.append(f"{best.label}: {_ours(members_of.interval(arm_values(arms, best)))}")
    return [f"Chosen on validation images, read on test images: {'; '.join(said)}.", ""] if said else []


def _spreads(row: Row, arms) -> list[str]:
    """Standard deviations over members, and Levene's test that they are one."""
    if row.about != "spreads":
        return []
    values = {arm.label: arm_values(arms, arm) for arm in row.arms}
    if any(np.isfinite(one).sum() < intervals.FEWEST for one in values.values()):
        return []
    finite = {label: one[np.isfinite(one)] for label, one in values.items()}
    said = ", ".join(f"{label} {np.std(one, ddof=1):.3f}" for label, one in finite.items())
    p = float(stats.levene(*finite.values())[1])
    return [f"Standard deviations over members: {said}. Levene's test that all are equal: p = {p:.2g}.", ""]


def _paired(arms, arm, condition, first) -> str:
    values = arm_values(arms, arm, condition)
    if len(values) != len(first) or not len(values):
        return ""
    both = np.isfinite(values) & np.isfinite(first)
    if not both.any() or np.array_equal(values[both], first[both]):
        return ""
    return f"{intervals.paired_difference(values[both], first[both]):+.3f}"


def counts(atlas: Atlas) -> str:
    """How many agree, and how many would differ by chance."""
    judged = verdicts.judge_all(atlas)
    words = collections.Counter(verdict.word for verdict in judged)
    compared = sum(words[w] for w in ("agrees", "agrees relative to its base", "differs"))
    different = {
        (_setting(atlas, v), v.arm.epoch, v.arm.generation, v.published) for v in judged if not np.isnan(v.margin)
    }
    lines = [
        f"Of {len(judged)} published numbers {compared} could be compared: {words['agrees']} agree, "
        f"{words['agrees relative to its base']} agree relative to their base, {words['differs']} "
        f"{'differs' if words['differs'] == 1 else 'differ'}; "
        f"{words['not comparable']} are not comparable and {words['not run']} not run yet. At 95 % about "
        f"{round(0.05 * compared)} of {compared} true values would differ by chance, and numbers of one source share "
        f"their members, so they miss together: no single verdict is a test of a hypothesis. Some numbers, such as "
        f"those of the base, stand in several rows: {len(different)} of the {compared} comparisons are distinct."
    ]
    if "figure-10" in atlas.records:
        values = arm_values(atlas.arms("figure-10"), Arm("base"))
        spread = float(np.std(values, ddof=1))
        noisy = arm_values(atlas.arms("start-noise-relative"), Arm("0.1"))
        text = (
            f"**Power.** `student_aux` has a standard deviation of {spread:.3f} over members: to find a difference of "
            f".03 with probability .8 takes {verdicts.members_needed(2**0.5 * spread, 0.03)} members an arm if arms "
            "have different members"
        )
        if len(noisy) == len(values) and np.isfinite(noisy).all():
            paired = float(np.std(noisy - values, ddof=1))
            text += (
                f", and {verdicts.members_needed(paired, 0.03)} if they share them (standard deviation of the "
                f"difference between `start-noise-relative` at 0.1 and 0, a closely correlated pair: {paired:.3f}; "
                f"arms less alike need many more)"
            )
        lines += ["", text + "."]
    return "\n".join(lines)


def _setting(atlas: Atlas, verdict: verdicts.Verdict) -> tuple:
    """What a number of ours was measured on; rows whose arms come to this have the same number."""
    arm = verdict.arm
    return atlas.arms(verdict.row.id)[arm.label]["setting"], arm.conditions, arm.metrics


def costs(atlas: Atlas) -> str:
    """What the records took, and what of it the published rows did."""
    found = atlas.records
    if not found:
        return ""
    published = {row.id: found[row.id] for row in atlas.published if row.id in found}
    settings, training, compiling = _minutes(found)
    _, published_training, published_compiling = _minutes(published)
    kinds = {(r.device["platform"], r.device["cpu_cores"]) for r in found.values()}
    where = " and ".join(f"{cores} cores ({platform})" for platform, cores in sorted(kinds))
    unfinished = [f"`{name}`" for name, record in found.items() if not record.complete]
    said = f" Not finished: {', '.join(unfinished)}." if unfinished else ""
    return (
        f"{len(found)} rows have records: {settings} different settings, {training:.0f} minutes of training and "
        f"{compiling:.0f} of compilation on {where}, wall-clock time that includes pauses and other work on the "
        f"machine. The {len(published)} rows with published numbers took {published_training:.0f} and "
        f"{published_compiling:.0f} of these minutes.{said}"
    )


def _minutes(found: Mapping[str, records.Record]) -> tuple[int, float, float]:
    """Different settings, minutes of training them, minutes of compilation."""
    seconds = {arm["setting"]: arm["seconds"] for record in found.values() for arm in record.results["arms"].values()}
    compiling = sum(record.seconds.get("compile", 0.0) for record in found.values())
    return len(seconds), sum(seconds.values()) / 60, compiling / 60


def operands(atlas: Atlas) -> str:
    """How many members were trained with which operands, where not all had the same, and what that changes."""
    used = {
        (arm["setting"], member): result["precision"]
        for record in atlas.records.values()
        for arm in record.results["arms"].values()
        for member, result in arm["members"].items()
    }
    many = collections.Counter(used.values())
    if len(many) < 2:
        return ""
    both = compare.paired(*(records.read(path, mnist_aux.FORM) for path in TRAINED_BOTH_WAYS))["student_aux"]
    return (
        "Matrix products had bfloat16 operands on processors that have instructions for them and float32 ones "
        f"elsewhere: {many['bfloat16']:,} and {many['float32']:,} of the members here, which their records tell apart. "
        f"Over {both.num_members} members that were trained both ways `student_aux` differs by {both:+.4f}, so "
        f"pairs across the two are a little noisier."
    )


def page(atlas: Atlas) -> str:
    """The whole page."""
    parts = [
        INTRODUCTION,
        costs(atlas),
        operands(atlas),
        "## Findings",
        findings.text(atlas),
        "## What explains 27, 50, 77, 90 and 96 %?",
        factorial.text(atlas),
        "## Published, and ours",
        VERDICTS,
        counts(atlas),
        parity(atlas),
        "## Rows nobody has published",
        UNPUBLISHED,
        unpublished(atlas),
        NEITHER,
        "## Sources",
        "\n".join(
            f"- **{source.short}** (`--sources {key}`): {source.name}; {source.protocol}."
            for key, source in atlas.sources.items()
        ),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def main(check: bool = False) -> None:
    """Write the page.

    Args:
        check: write nothing, fail if the page differs from the records.
    """
    fresh = page(read(FOLDER))
    if not check:
        files.write(PAGE, fresh, ours=files.anything, what="page")
    elif not PAGE.exists() or fresh != PAGE.read_text(encoding="utf-8"):
        raise errors.InputError(f"{PAGE}: the page differs from the records; run python -m figures.atlas.page")


if __name__ == "__main__":
    commands.main(lambda: tyro.cli(main))
