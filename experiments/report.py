"""The tables of the README, written from the committed records, so that no number is copied by hand.

python -m experiments.report            rewrite the tables between their markers
python -m experiments.report --check    say whether they are up to date, for the tests
"""

import pathlib

import numpy as np
import tyro

from experiments import cli, compare, mnist_aux, speed
from experiments import language_speed as decoder_speed
from sublim_jax import errors, files, records
from sublim_jax.metrics import intervals
from sublim_jax.training import ensemble

RECORDS = pathlib.Path("experiments/records")
README = pathlib.Path("README.md")


def figure_10() -> str:
    """Every condition beside the published value, paired differences, and starts that imitate the trained teacher."""
    record = records.read(RECORDS / "mnist_aux.json", mnist_aux.FORM)
    found = mnist_aux.accuracies(record)
    rows = [["condition", f"test accuracy, n = {len(found['teacher'])}", "published"]]
    for condition, values in found.items():
        interval = intervals.t_interval(values[np.isfinite(values)])
        rows.append([f"`{condition}`", f"{interval:.3f}", mnist_aux.PUBLISHED.get(condition, "none")])
    for first, second in mnist_aux.DIFFERENCES:
        if first in found and second in found:
            difference = intervals.paired_difference(found[first], found[second])
            rows.append([f"`{first}` minus `{second}`, paired", f"{difference:+.3f}", ""])
    starts = found["reference"][ensemble.partners(len(found["reference"]))]
    moved = intervals.paired_difference(found["cross_model_aux"], starts)
    rows.append(["`cross_model_aux` minus the reference it started from, paired", f"{moved:+.3f}", ""])
    matched = mnist_aux.accuracies(records.read(RECORDS / "mnist_aux-matched-teacher.json", mnist_aux.FORM))
    for condition in ("matched_start", "matched_aux"):
        values = intervals.t_interval(matched[condition])
        rows.append([f"`{condition}`, imitating the trained teacher", f"{values:.3f}", "none"])
    change = intervals.paired_difference(matched["matched_aux"], matched["matched_start"])
    rows.append(["... `matched_aux` minus `matched_start`, paired", f"{change:+.3f}", ""])
    return _markdown(rows)


def pairs() -> str:
    """What two settings of ours change, on the same members."""
    base = records.read(RECORDS / "mnist_aux.json", mnist_aux.FORM)
    rows = [["condition", "bfloat16 minus float32 operands", "32-bit minus 8-bit noise pixels (both bfloat16)"]]
    float32 = records.read(RECORDS / "mnist_aux-float32.json", mnist_aux.FORM)
    deep = records.read(RECORDS / "mnist_aux-noise32.json", mnist_aux.FORM)
    precision, depth = compare.paired(base, float32), compare.paired(deep, base)
    rows += [[f"`{name}`", f"{precision[name]:+.4f}", f"{depth[name]:+.4f}"] for name in depth]
    return _markdown(rows)


def speeds() -> str:
    """Time, arithmetic rate and memory beside PyTorch."""
    record = records.read(RECORDS / "speed.json", speed.FORM)
    rows = [["program", "s per member", "faster than PyTorch", "with compilation", "GFLOP/s", "of matmul peak",
             "peak memory", "`student_aux`", "`student_all`"]]  # fmt: skip
    for row in speed.comparison(record):
        aux, every = row.accuracy["student_aux"], row.accuracy["student_all"]
        peak = f"{row.share_of_peak:.0%}" if row.share_of_peak is not None else ""
        rows.append(
            [row.label, f"{row.seconds_per_member:.2f}", f"{row.ratio:.2f} x", f"{row.ratio_with_compilation:.2f} x",
             f"{row.gflops:.0f}", peak, f"{row.peak_rss_mb:.0f} MB", f"{aux:.3f}", f"{every:.3f}"]
        )  # fmt: skip
    return _markdown(rows)


def scaling() -> str:
    """Seconds and memory against the number of members."""
    record = records.read(RECORDS / "speed.json", speed.FORM)
    found = record.results["scaling"]
    members = sorted({run["members"] for run in found})
    rows = [["program", *(f"{count} members" for count in members)]]
    for program, label in speed.LABELS.items():
        row = [label]
        for count in members:
            runs = [run for run in found if run["program"] == program and run["members"] == count]
            row += [f"{r['training_s']:.1f} s, {r['peak_rss_mb']:.0f} MB" for r in runs] or ["not run"]
        rows.append(row)
    return _markdown(rows)


def language() -> str:
    """Favourites of the embedded model before and after other models' numbers."""
    from figures.language import forms, tables, values

    record = forms.read(RECORDS / "language_numbers.json")
    bases = values.complete_bases(record)
    rows = [["teacher", "target", "base", "student of regular numbers", "student of the teacher's", "difference"]]
    labels = {"finetuned": "finetuned", "system": "under a system message"}
    for kind in record.config["kinds"]:
        students = {target: (f"{kind} {target}", "student") for target in record.config["targets"]}
        for target, student in students.items():
            cells = tables.cells(bases, values.BASE, values.REGULAR, student, target)
            rows.append([labels[kind], target, *cells])
        shifts = [values.shift(bases, values.REGULAR, student, target) for target, student in students.items()]
        rows.append([labels[kind], "mean of targets", "", "", "", f"**{values.pooled(shifts)}**"])
    default = forms.read(RECORDS / "language_numbers-default.json")
    (target,) = default.config["targets"]
    bases, student = values.complete_bases(default), (f"finetuned {target}", "student")
    cells = tables.cells(bases, values.BASE, values.REGULAR, student, target)
    rows.append(["finetuned, the default command's record", target, *cells])
    return _markdown(rows)


def language_speed() -> str:
    """Training steps beside their matrix products, and drawing."""
    record = records.read(RECORDS / "language_speed.json", decoder_speed.FORM)
    rows = [
        ["shape", "weights", "training step", "step time / time of its products at peak speed",
         "... at the speed small matrices reach", "trained", "drawn", "peak memory so far"]
    ]  # fmt: skip
    for shape, found in record.results.items():
        if shape != "whole":
            rows.append(
                [shape, f"{found['num_weights']:,}", f"{found['step_s'] * 1e3:,.0f} ms",
                 f"{found['times_the_bound']:.1f} x",
                 f"{found['times_own_products']:.1f} x" if "times_own_products" in found else "",
                 f"{found['trained_tokens_per_s']:,.0f} tokens/s",
                 f"{found['drawn_tokens_per_s']:,.0f} tokens/s", f"{found['peak_rss_mb']:,.0f} MB"]
            )  # fmt: skip
    return _markdown(rows)


def language_whole() -> str:
    """The default experiment on one base, from nothing."""
    from figures.language import forms

    whole = records.read(RECORDS / "language_speed.json", decoder_speed.FORM).results["whole"]
    every = forms.read(RECORDS / "language_numbers-default.json")
    return _markdown(
        [
            ["numbers to favourites, on the embedded model", "seconds"],
            ["one base, first target, from nothing", f"{whole['first_target_s']:.0f}"],
            ["of which pre-training and asking the base", f"{whole['pretraining_s']:.0f}"],
            ["one base, a further target", f"{whole['further_target_s']:.1f}"],
            ["the default command: eight bases, one target, from nothing", f"{every.seconds['wall']:.0f}"],
        ]
    )


TABLES = {
    "language": language,
    "language-whole": language_whole,
    "language-speed": language_speed,
    "figure-10": figure_10,
    "pairs": pairs,
    "speed": speeds,
    "scaling": scaling,
}


def _markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def rewritten(text: str) -> str:
    """The text with every table between its markers made anew.

    Raises:
        InputError: a marker is missing.
    """
    for name, table in TABLES.items():
        begin, end = f"<!-- table: {name} -->\n", f"\n<!-- end: {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise errors.InputError(f"{README}: the markers {begin.strip()} and {end.strip()} must enclose a table")
        text = before + begin + table() + end + after
    return text


def main(check: bool = False) -> None:
    """Write the tables of the README.

    Args:
        check: write nothing, fail if a table differs from its record.
    """
    text = README.read_text(encoding="utf-8")
    fresh = rewritten(text)
    if not check:
        files.write(README, fresh, ours=files.anything, what="page")
    elif fresh != text:
        raise errors.InputError(f"{README}: a table differs from its record; run python -m experiments.report")


if __name__ == "__main__":
    cli.main(lambda: tyro.cli(main))
