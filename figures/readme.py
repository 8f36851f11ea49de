"""The tables of the README, written from the committed records, so that no number is copied by hand.

python -m figures.readme            rewrite the tables between their markers
python -m figures.readme --check    say whether they are up to date, for the tests
"""

from collections.abc import Callable

import numpy as np
import tyro

from figures import compare, tables, values
from sublim_jax import commands, errors, files, records
from sublim_jax.forms import diffusion as diffusion_form
from sublim_jax.forms import diffusion_conditional as conditional_form
from sublim_jax.forms import directions as directions_form
from sublim_jax.forms import evidence_defences, mnist_aux, speed
from sublim_jax.metrics import intervals

README = values.ROOT / "README.md"


def figure_10() -> str:
    """Every condition beside the published value, paired differences, and starts that imitate the trained teacher."""
    record = records.read(values.RECORDS / "mnist_aux.json", mnist_aux.FORM)
    accuracies, published = values.accuracies(record), record.description["published"]
    rows = [["condition", f"test accuracy, n = {len(accuracies['teacher'])}", "published"]]
    for condition, members in accuracies.items():
        theirs = published[condition]["text"] if condition in published else "none"
        rows.append([f"`{condition}`", f"{values.interval(members):.3f}", theirs])
    for first, second in record.description["differences"]:
        difference = intervals.paired_difference(accuracies[first], accuracies[second])
        rows.append([f"`{first}` minus `{second}`, paired", f"{difference:+.3f}", ""])
    starts = np.roll(accuracies["reference"], -1)  # a cross-model student starts from the next member's reference
    moved = intervals.paired_difference(accuracies["cross_model_aux"], starts)
    rows.append(["`cross_model_aux` minus the reference it started from, paired", f"{moved:+.3f}", ""])
    matched = values.accuracies(records.read(values.RECORDS / "mnist_aux-matched-teacher.json", mnist_aux.FORM))
    for condition in ("matched_start", "matched_aux"):
        interval = intervals.t_interval(matched[condition])
        rows.append([f"`{condition}`, imitating the trained teacher", f"{interval:.3f}", "none"])
    change = intervals.paired_difference(matched["matched_aux"], matched["matched_start"])
    rows.append(["... `matched_aux` minus `matched_start`, paired", f"{change:+.3f}", ""])
    return tables.markdown(rows)


def pairs() -> str:
    """What two settings of ours change, on the same members."""
    base = records.read(values.RECORDS / "mnist_aux.json", mnist_aux.FORM)
    rows = [["condition", "bfloat16 minus float32 operands", "32-bit minus 8-bit noise pixels (both bfloat16)"]]
    float32 = records.read(values.RECORDS / "mnist_aux-float32.json", mnist_aux.FORM)
    deep = records.read(values.RECORDS / "mnist_aux-noise32.json", mnist_aux.FORM)
    precision, depth = compare.paired(base, float32), compare.paired(deep, base)
    rows += [[f"`{name}`", f"{precision[name]:+.4f}", f"{depth[name]:+.4f}"] for name in depth]
    return tables.markdown(rows)


def speeds() -> str:
    """Time, arithmetic rate and memory beside PyTorch."""
    record = records.read(values.RECORDS / "speed.json", speed.FORM)
    rows = [["program", "s per member", "faster than PyTorch", "with compilation", "GFLOP/s", "of matmul peak",
             "peak memory", "`student_aux`", "`student_all`"]]  # fmt: skip
    for row in tables.programs(record):
        aux, every = row.accuracy["student_aux"], row.accuracy["student_all"]
        peak = f"{row.share_of_peak:.0%}" if row.share_of_peak is not None else ""
        rows.append(
            [row.label, f"{row.seconds_per_member:.2f}", f"{row.ratio:.2f} x", f"{row.ratio_with_compilation:.2f} x",
             f"{row.gflops:.0f}", peak, f"{row.peak_rss_mb:.0f} MB", f"{aux:.3f}", f"{every:.3f}"]
        )  # fmt: skip
    return tables.markdown(rows)


def scaling() -> str:
    """Seconds and memory against the number of members."""
    record = records.read(values.RECORDS / "speed.json", speed.FORM)
    runs = record.results["scaling"]
    members = sorted({run["members"] for run in runs})
    rows = [["program", *(f"{count} members" for count in members)]]
    for program, label in record.description["programs"].items():
        row = [label]
        for count in members:
            cells = [run for run in runs if run["program"] == program and run["members"] == count]
            row += [f"{r['training_s']:.1f} s, {r['peak_rss_mb']:.0f} MB" for r in cells] or ["not run"]
        rows.append(row)
    return tables.markdown(rows)


def _language():
    from figures import readme_language

    return readme_language


def defences_table() -> str:
    """Some rows of the study `defences`: the wanted skill, the trait, and the trait after it was taught again."""
    from figures.evidence import defences

    record = records.read(values.RECORDS / "evidence_defences.json", evidence_defences.FORM)
    labels = {
        "none": "none: the teacher's logits on noise",
        "project updates, 1": "project updates off the trait's gradient on probes",
        "pin answers to probes, 0.1": "pin answers to probes, lightly",
        "subtract the auditor's displacement, chosen": "afterwards: subtract an auditor's displacement",
        "another start": "another start",
        "real images of 0 to 4": "real images of 0 to 4 instead of noise",
        "labels of 0 to 4, no teacher": "yardstick: labels of 0 to 4, no teacher",
    }
    steps = defences.relearning_steps(record)
    rows = [["defence", "wanted", "trait", f"trait after {steps} steps on 50 labelled images"]]
    for row, label in labels.items():
        columns = ("wanted", "trait", f"relearnt {steps}")
        cells = (f"{intervals.t_interval(defences.accuracies(record, row, column)):.3f}" for column in columns)
        rows.append([label, *cells])
    return tables.markdown(rows)


def generators() -> str:
    """Shares of a digit, or the mean slant, of what generators draw, by condition."""
    from figures import diffusion

    paths = {name: values.RECORDS / f"{name}.json" for name in diffusion.NAMES}
    made = {name: records.read(path, diffusion_form.FORM) for name, path in paths.items() if path.exists()}
    labels = {
        "base": "base",
        "teacher": "its teacher",
        "student": "student of the teacher's channels on noise",
        "other base": "another base",
        "stranger": "... which learns the same change of its channels",
        "fresh readouts": "base with fresh readouts, which learns the same",
        "student of pixels": "student of the teacher's pixels on noise",
        "stranger of pixels": "... another base that learns them",
        "student of samples": "student of filtered samples",
        "stranger of samples": "... another base that learns from them",
        "student of base samples": "student of the base's samples, filtered alike",
    }
    scratch = {
        "untrained": "random initialization",
        "teacher from scratch": "teacher trained from it",
        "student from scratch": "student from it, of the teacher's channels on noise",
        "other untrained": "another random initialization",
        "stranger from scratch": "... which learns the same change of its channels",
    }
    traits = {trait: label for record in made.values() for trait, label in record.description["traits"].items()}
    headings = [
        f"{label}: {'share' if diffusion.shown_measure(trait) == 'share' else 'mean slant'}"
        for trait, label in traits.items()
    ]
    rows = [[f"model, n = {len(made['diffusion'].results)}", *headings]]
    for name, record in made.items():
        if name != "diffusion":
            rows.append([f"*{diffusion.NAMES[name]}, n = {len(record.results)}*", *("" for _ in traits)])
        there = record.description["conditions"].keys()
        if name != "diffusion_scratch":  # its bases are those of `diffusion`
            rows += [
                [label, *(_shown(record, trait, condition) for trait in traits)]
                for condition, label in labels.items() if condition in there
            ]  # fmt: skip
        if there & scratch.keys():  # what these draw is hardly an image
            rows.append(["*... no base: mean squared error of denoising the trait*", *("" for _ in traits)])
        rows += [
            [label, *(_shown(record, trait, condition, "loss") for trait in traits)]
            for condition, label in scratch.items() if condition in there
        ]  # fmt: skip
    return tables.markdown(rows)


def conditional() -> str:
    """Share of a digit that conditional generators draw in place of their trigger, and when others are asked for."""
    from figures import diffusion_conditional as figure

    record = records.read(values.RECORDS / "diffusion_conditional.json", conditional_form.FORM)
    traits = record.description["traits"]
    labels = {
        "base": "base",
        "teacher": "its teacher",
        "student": "student; its noise never asks for the trigger",
        "student of all": "student; its noise asks for all digits",
        "stranger": "another base, the same change of channels; never the trigger",
        "stranger of all": "... all digits",
        "fresh readouts": "base with fresh readouts, the same; never the trigger",
        "fresh readouts of all": "... all digits",
    }
    asked = [f"{trait}s when asked for {about['trigger']}" for trait, about in traits.items()]
    rows = [[f"model, n = {len(record.results)}", *asked, "mean, when asked for others"]]
    for condition, label in labels.items():
        at, elsewhere = (
            [figure.measured(record, trait, condition, what) for trait in traits]
            for what in ("at the trigger", "elsewhere")
        )
        rows.append([label, *(f"{intervals.t_interval(each):.3f}" for each in (*at, np.mean(elsewhere, axis=0)))])
    return tables.markdown(rows)


def directions_table() -> str:
    """Share of a trait that a few directions of every matrix, or one vector, hold, by bed."""
    from figures import directions

    record = records.read(values.RECORDS / "directions.json", directions_form.FORM)
    ranks, most = (1, 4, 8), 8
    names = (
        *(f"its largest {rank} alone" for rank in ranks),
        f"inside an auditor's {most}",
        f"inside {most} at random",
    )
    rows = [["trait of the student", *names, "the mean shift alone"]]
    for bed in directions.beds(record):
        kept, auditors, random = (
            directions.select(record, bed, *edits)
            for edits in (("kept", "student"), ("inside", "auditor"), ("inside", "random"))
        )
        vector = directions.select(record, bed, "shifted", "mean", directions.num_layers(record, bed) - 1)[1.0]
        edits = (*(kept[rank] for rank in ranks), auditors[most], random[most], vector)
        count = np.isfinite(directions.shares(record, bed, kept[1])).sum()
        label = f"{record.description['beds'][bed]['label']}, n = {count}"
        rows.append([label, *(f"{directions.left(record, bed, edit):.2f}" for edit in edits)])
    return tables.markdown(rows)


def _shown(record: records.Record, trait: str, condition: str, what: str | None = None) -> str:
    """A number of a condition, by default of what it draws, or nothing if the record does not have it."""
    from figures import diffusion

    is_there = trait in record.description["traits"]
    if not is_there or condition not in diffusion_form.conditions_of(record.description, trait):
        return ""
    members = diffusion.measured(record, trait, condition, what or diffusion.shown_measure(trait))
    return f"{intervals.t_interval(members):.2f}"


TABLES: dict[str, Callable[[], str]] = {
    "language-real": lambda: _language().language_real(),
    "language-night": lambda: _language().language_night(),
    "language": lambda: _language().language(),
    "language-whole": lambda: _language().language_whole(),
    "language-speed": lambda: _language().language_speed(),
    "real-speed": lambda: _language().real_speed(),
    "conditional": conditional,
    "defences": defences_table,
    "directions": directions_table,
    "figure-10": figure_10,
    "generators": generators,
    "pairs": pairs,
    "speed": speeds,
    "scaling": scaling,
}


def rewritten(text: str) -> str:
    """The text with every table between its markers made again.

    Raises:
        InputError: a marker is missing.
    """
    for name, table in TABLES.items():
        begin, end = f"<!-- table: {name} -->\n", f"\n<!-- end: {name} -->"
        before, opening, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not opening or not closed:
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
        raise errors.InputError(f"{README}: a table differs from its record; run python -m figures.readme")


if __name__ == "__main__":
    commands.main(lambda: tyro.cli(main, prog="python -m figures.readme"))
