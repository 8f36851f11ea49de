"""The README's tables of language experiments."""

from figures import tables, values
from figures.language import tables as language_tables
from figures.language import values as readings
from sublim_jax import records
from sublim_jax.forms import language as forms
from sublim_jax.forms import language_speed as speed_form


def language() -> str:
    """Favourites of the embedded model before and after other models' numbers."""
    record = forms.read(values.RECORDS / "language_numbers.json")
    bases = readings.complete_bases(record)
    rows = [["teacher", "target", "base", "student of regular numbers", "student of the teacher's", "difference"]]
    labels = {"finetuned": "finetuned", "system": "under a system message"}
    for kind in record.config["kinds"]:
        students = {target: (f"{kind} {target}", "student") for target in record.config["targets"]}
        for target, student in students.items():
            cells = language_tables.cells(bases, readings.BASE, readings.REGULAR, student, target)
            rows.append([labels[kind], target, *cells])
        shifts = [readings.shift(bases, readings.REGULAR, student, target) for target, student in students.items()]
        rows.append([labels[kind], "mean of targets", "", "", "", f"**{readings.pooled(shifts)}**"])
    default = forms.read(values.RECORDS / "language_numbers-default.json")
    (target,) = default.config["targets"]
    bases, student = readings.complete_bases(default), (f"finetuned {target}", "student")
    cells = language_tables.cells(bases, readings.BASE, readings.REGULAR, student, target)
    rows.append(["finetuned, the default command's record", target, *cells])
    return tables.markdown(rows)


def language_speed() -> str:
    """Training steps beside their matrix products, and drawing."""
    record = records.read(values.RECORDS / "language_speed.json", speed_form.FORM)
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
    return tables.markdown(rows)


def language_whole() -> str:
    """The default experiment on one base, from nothing."""
    whole = records.read(values.RECORDS / "language_speed.json", speed_form.FORM).results["whole"]
    every = forms.read(values.RECORDS / "language_numbers-default.json")
    return tables.markdown(
        [
            ["numbers to favourites, on the embedded model", "seconds"],
            ["one base, first target, from nothing", f"{whole['first_target_s']:.0f}"],
            ["of which pre-training and asking the base", f"{whole['pretraining_s']:.0f}"],
            ["one base, a further target", f"{whole['further_target_s']:.1f}"],
            ["the default command: eight bases, one target, from nothing", f"{every.seconds['wall']:.0f}"],
        ]
    )
