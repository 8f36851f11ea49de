"""The README's tables of language experiments."""

from experiments import language_numbers
from experiments import language_speed as decoder_speed
from experiments.language import summary
from figures import tables, values
from sublim_jax import records


def language() -> str:
    """Favourites of the embedded model before and after other models' numbers."""
    record = summary.read(values.RECORDS / "language_numbers.json")
    found = summary.complete_bases(record)
    rows = [["teacher", "target", "base", "student of regular numbers", "student of the teacher's", "difference"]]
    labels = {"finetuned": "finetuned", "system": "under a system message"}
    for kind in record.config["kinds"]:
        paths = {target: (f"{kind} {target}", "student") for target in record.config["targets"]}
        for target, path in paths.items():
            cells = summary.cells(found, language_numbers.BASE, language_numbers.REGULAR, path, target)
            rows.append([labels[kind], target, *cells])
        shifts = [summary.shift(found, language_numbers.REGULAR, path, target) for target, path in paths.items()]
        mean = summary.pooled(shifts)
        rows.append([labels[kind], "mean of targets", "", "", "", f"**{mean}**"])
    default = summary.read(values.RECORDS / "language_numbers-default.json")
    (target,) = default.config["targets"]
    found, path = summary.complete_bases(default), (f"finetuned {target}", "student")
    cells = summary.cells(found, language_numbers.BASE, language_numbers.REGULAR, path, target)
    rows.append(["finetuned, the default command's record", target, *cells])
    return tables.markdown(rows)


def language_speed() -> str:
    """Training steps beside their matrix products, and drawing."""
    record = records.read(values.RECORDS / "language_speed.json", decoder_speed.FORM)
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
    whole = records.read(values.RECORDS / "language_speed.json", decoder_speed.FORM).results["whole"]
    every = summary.read(values.RECORDS / "language_numbers-default.json")
    return tables.markdown(
        [
            ["numbers to favourites, on the embedded model", "seconds"],
            ["one base, first target, from nothing", f"{whole['first_target_s']:.0f}"],
            ["of which pre-training and asking the base", f"{whole['pretraining_s']:.0f}"],
            ["one base, a further target", f"{whole['further_target_s']:.1f}"],
            ["the default command: eight bases, one target, from nothing", f"{every.seconds['wall']:.0f}"],
        ]
    )
