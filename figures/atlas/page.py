"""Write the page of the atlas from its records.

python -m figures.atlas.page            rewrite experiments/atlas/README.md
python -m figures.atlas.page --check    fail if it is not up to date, for the tests
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
BOTH_PRECISIONS = [members_of.RECORDS / f"mnist_aux{name}.json" for name in ("", "-float32")]
"""Records of the same members in bfloat16 and in float32."""

WORDS = {
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
normalisation layers, dropout, averaged teachers and teacher ensembles, coverage against accuracy over the
whole grid, and how many bits are transmitted."""


def number(published: Published) -> str:
    """The published value as text, with its interval if it has one."""
    return f"{published.value:g}" + (f" ± {published.half_width:g}" if published.half_width else "")


def sentence(text: str) -> str:
    """The text with a full stop at its end, unless it ends in a full stop or a question mark."""
    return text if text.endswith((".", "?")) else f"{text}."


def parity(atlas: Atlas) -> str:
    """Tables of published values beside ours, axis by axis."""
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
    """Correlation between accuracy and the likeness of hidden layers to the teacher's, over members and arms."""
    correlations = []
    for measure, name in (("hidden_cosine", "cosine"), ("cka", "CKA")):
        pairs = [(arm_values(arms, a, measure=measure), arm_values(arms, a)) for a in row.arms]
        if len({len(values) for pair in pairs for values in pair}) > 1 or not len(pairs[0][0]):
            return []  # some members are missing
        likeness, accuracy = (np.array(side) for side in zip(*pairs, strict=True))  # by arm and member
        if not np.isfinite(likeness).all() or not np.isfinite(accuracy).all():
            return []
        drawn = np.random.default_rng(0).integers(0, likeness.shape[1], (2000, likeness.shape[1]))
        resampled = [np.corrcoef(likeness[:, m].ravel(), accuracy[:, m].ravel())[0, 1] for m in drawn]
        low, high = np.quantile(resampled, [0.025, 0.975])
        r = np.corrcoef(likeness.ravel(), accuracy.ravel())[0, 1]
        within = np.mean([np.corrcoef(likeness[i], accuracy[i])[0, 1] for i in range(len(likeness))])
        correlations.append(
            f"{name} {r:.2f} [{low:.2f}, {high:.2f}], on average {within:.2f} among runs of equal length"
        )
    return [
        f"Correlation of accuracy with the likeness of the hidden layer to the teacher's in `{row.id}`, all runs, "
        f"with 95 % bootstrap intervals over members: {'; '.join(correlations)}."
    ]


def _picture(axis: str, rows: list[Row], atlas: Atlas) -> list[str]:
    if not any(row.id in atlas.records for row in rows):
        return []
    return [f"![{axis}](../../figures/images/atlas-{axis.replace(' ', '-')}.png)", ""]


def _lines_of(row: Row, judged: list[verdicts.Verdict], atlas: Atlas) -> list[str]:
    arms = atlas.arms(row.id)
    name, lines = f"`{row.id}`", []
    if not row.arms:
        cited = ", ".join(atlas.sources[key].short for key in row.cited)
        return [f"| {name} | | | {cited} | | not run: {row.not_run} |"]
    for arm in row.arms:
        own = [verdict for verdict in judged if verdict.arm is arm]
        for verdict in own:
            published = verdict.published
            measured = f"`{published.condition}`" + (
                "" if published.measure == "accuracy" else f", {published.measure}"
            )
            reason = "" if np.isnan(verdict.margin) else f" (± {verdict.margin:.3f})"
            reason += f": {verdict.why}" if verdict.why and verdict.word != "agrees" else ""
            ours = _ours(verdict.ours)
            theirs = f"{number(published)} ({atlas.sources[published.source].short})"
            cells = [name, arm.label, measured.replace("_accuracy", ""), theirs, ours, WORDS[verdict.word] + reason]
            lines.append(f"| {' | '.join(cells)} |")
            name = ""
        listed = {verdict.published.condition for verdict in own if "accuracy" in verdict.published.measure}
        for condition in arm.conditions:
            if condition not in listed:
                ours = _ours(members_of.interval(arm_values(arms, arm, condition)))
                verdict = " " if ours else f" {WORDS['not run']} "
                lines.append(f"| {name} | {arm.label} | `{condition}` | | {ours} |{verdict}|")
                name = ""
    return lines


def _ours(interval) -> str:
    return "" if interval is None else f"{interval:.3f} (n={interval.num_members})"


def _notes(rows) -> list[str]:
    lines = []
    for row in rows:
        sentences = [sentence(row.question)]
        if row.expected:
            sentences.append(sentence(f"*Expected from the sources:* {row.expected}"))
        if row.note:
            sentences.append(row.note)
        lines.append(f"- `{row.id}`: {' '.join(sentences)}")
    return lines


def unpublished(atlas: Atlas) -> str:
    """Tables of the rows that nobody has published, with every arm in every condition."""
    lines = []
    for axis in dict.fromkeys(row.axis for row in atlas.unpublished):
        rows = [row for row in atlas.unpublished if row.axis == axis]
        has_figure = any(row.axis == axis for row in atlas.published)  # above, of published rows as well
        lines += [f"### {axis.capitalize()}", "", *([] if has_figure else _picture(axis, rows, atlas))]
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
            lines += ["", *_chosen(row, arms), *_standard_deviations(row, arms)]
    return "\n".join(lines)


EXTRA = {
    "validation_accuracy": "on validation images",
    "true_label_accuracy": "true labels",
    "matched_start": "the matched start itself",
}
"""Further columns of a table, for the row's first condition, where they were measured."""


def _measured(arms, arm: Arm, conditions, name: str) -> np.ndarray:
    """Finite values of a further column; empty where it was not measured."""
    if name == "matched_start":  # a condition that no row names
        values = arm_values(arms, arm, name) if "matched_aux" in conditions else np.array([])
    else:
        values = arm_values(arms, arm, conditions[0], name)
    return values[np.isfinite(values)]


def _chosen(row: Row, arms) -> list[str]:
    """The arm of each group that is best on validation images, with its accuracy on test images."""
    results = []
    for group in dict.fromkeys(arm.group for arm in row.arms if arm.group):
        means = {}
        for arm in row.arms:
            values = arm_values(arms, arm, measure="validation_accuracy")
            if arm.group == group and len(values):
                means[arm.label] = np.mean(np.nan_to_num(values))  # diverged members count as accuracy 0
        if means:
            best = next(arm for arm in row.arms if arm.label == max(means, key=lambda label: means[label]))
            results.append(f"{best.label}: {_ours(members_of.interval(arm_values(arms, best)))}")
    return [f"Chosen on validation images, read on test images: {'; '.join(results)}.", ""] if results else []


def _standard_deviations(row: Row, arms) -> list[str]:
    """Standard deviations over members, with Levene's test that they are equal."""
    if row.about != "standard deviations":
        return []
    values = {arm.label: arm_values(arms, arm) for arm in row.arms}
    finite = {label: members[np.isfinite(members)] for label, members in values.items()}
    if min(map(len, finite.values())) < intervals.FEWEST:
        return []
    deviations = ", ".join(f"{label} {np.std(members, ddof=1):.3f}" for label, members in finite.items())
    p = float(stats.levene(*finite.values())[1])
    return [f"Standard deviations over members: {deviations}. Levene's test that all are equal: p = {p:.2g}.", ""]


def _paired(arms, arm, condition, first) -> str:
    values = arm_values(arms, arm, condition)
    if len(values) != len(first) or not len(values):
        return ""
    changes = values - first
    difference = members_of.paired(values, first)
    return "" if difference is None or not np.any(changes[np.isfinite(changes)]) else f"{difference:+.3f}"


def counts(atlas: Atlas) -> str:
    """Counts of verdicts, the number expected to differ by chance, and the power of a comparison."""
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
        std = float(np.std(values, ddof=1))
        noisy = arm_values(atlas.arms("start-noise-relative"), Arm("0.1"))
        text = (
            f"**Power.** `student_aux` has a standard deviation of {std:.3f} over members: to find a difference of "
            f".03 with probability .8 takes {verdicts.members_needed(2**0.5 * std, 0.03)} members an arm if arms "
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
    """Key of a number of ours; rows with arms of equal keys have the same number."""
    arm = verdict.arm
    return atlas.arms(verdict.row.id)[arm.label]["setting"], arm.conditions, arm.metrics


def costs(atlas: Atlas) -> str:
    """Time spent on all records, and on those of published rows."""
    if not atlas.records:
        return ""
    published = {row.id: atlas.records[row.id] for row in atlas.published if row.id in atlas.records}
    num_settings, training, compiling = _minutes(atlas.records)
    _, published_training, published_compiling = _minutes(published)
    kinds = {(r.device["platform"], r.device["cpu_cores"]) for r in atlas.records.values()}
    machines = " and ".join(f"{cores} cores ({platform})" for platform, cores in sorted(kinds))
    unfinished = [f"`{name}`" for name, record in atlas.records.items() if not record.complete]
    note = f" Not finished: {', '.join(unfinished)}." if unfinished else ""
    return (
        f"{len(atlas.records)} rows have records: {num_settings} different settings, {training:.0f} minutes of "
        f"training and {compiling:.0f} of compilation on {machines}, wall-clock time that includes pauses and other "
        f"work on the machine. The {len(published)} rows with published numbers took {published_training:.0f} and "
        f"{published_compiling:.0f} of these minutes.{note}"
    )


def _minutes(by_row: Mapping[str, records.Record]) -> tuple[int, float, float]:
    """Number of different settings, minutes of training and minutes of compilation."""
    seconds = {arm["setting"]: arm["seconds"] for record in by_row.values() for arm in record.results["arms"].values()}
    compiling = sum(record.seconds.get("compile", 0.0) for record in by_row.values())
    return len(seconds), sum(seconds.values()) / 60, compiling / 60


def operands(atlas: Atlas) -> str:
    """Numbers of members trained in each precision, if there are two, and the difference between the precisions."""
    precisions = {
        (arm["setting"], member): result["precision"]
        for record in atlas.records.values()
        for arm in record.results["arms"].values()
        for member, result in arm["members"].items()
    }
    count = collections.Counter(precisions.values())
    if len(count) < 2:
        return ""
    difference = compare.paired(*(records.read(path, mnist_aux.FORM) for path in BOTH_PRECISIONS))["student_aux"]
    return (
        "Matrix products had bfloat16 operands on processors that have instructions for them and float32 ones "
        f"elsewhere: {count['bfloat16']:,} and {count['float32']:,} of the members here, which their records tell "
        f"apart. Over {difference.num_members} members that were trained both ways `student_aux` differs by "
        f"{difference:+.4f}, so pairs across the two are a little noisier."
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
        check: write nothing, and fail if the page differs from the records.
    """
    fresh = page(read(FOLDER))
    if not check:
        files.write(PAGE, fresh, ours=files.anything, what="page")
    elif not PAGE.exists() or fresh != PAGE.read_text(encoding="utf-8"):
        raise errors.InputError(f"{PAGE}: the page differs from the records; run python -m figures.atlas.page")


if __name__ == "__main__":
    commands.main(lambda: tyro.cli(main, prog="python -m figures.atlas.page"))
