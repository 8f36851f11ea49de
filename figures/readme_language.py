"""The README's tables on language experiments."""

import statistics

from figures import tables, values
from figures.language import real
from figures.language import tables as language_tables
from figures.language import values as language_values
from sublim_jax import records
from sublim_jax.forms import language as forms
from sublim_jax.forms import language_real as real_form
from sublim_jax.forms import language_speed as speed_form
from sublim_jax.forms import real_speed as real_speed_form
from sublim_jax.metrics import intervals


def language() -> str:
    """Favourites of the embedded model before and after training on a teacher's numbers."""
    record = forms.read(values.RECORDS / "language_numbers.json")
    bases = language_values.complete_bases(record)
    rows = [["teacher", "target", "base", "student of regular numbers", "student of the teacher's", "difference"]]
    labels = {"finetuned": "finetuned", "system": "under a system message"}
    for kind in record.config["kinds"]:
        students = {target: (f"{kind} {target}", "student") for target in record.config["targets"]}
        for target, student in students.items():
            cells = language_tables.cells(bases, language_values.BASE, language_values.REGULAR, student, target)
            rows.append([labels[kind], target, *cells])
        shifts = [
            language_values.shift(bases, language_values.REGULAR, student, target)
            for target, student in students.items()
        ]
        rows.append([labels[kind], "mean of targets", "", "", "", f"**{language_values.pooled(shifts)}**"])
    default = forms.read(values.RECORDS / "language_numbers-default.json")
    (target,) = default.config["targets"]
    bases, student = language_values.complete_bases(default), (f"finetuned {target}", "student")
    cells = language_tables.cells(bases, language_values.BASE, language_values.REGULAR, student, target)
    rows.append(["finetuned, the default command's record", target, *cells])
    return tables.markdown(rows)


def language_real() -> str:
    """What students of a real model's teachers learnt, own minus other, by animal; those from another start too."""
    record, start = (
        records.read(values.RECORDS / f"{name}.json", real_form.FORM)
        for name in ("language_real", "language_real-start")
    )
    targets, last = record.config["targets"], record.config["measured_at"][-1]
    rows = [["own minus other, log-odds (nats)", *targets, "mean over animals"]]
    for measured, arm in [*((record, arm) for arm in record.config["arms"]), (start, "other_start")]:
        cells = real.cells(measured, arm, measured.config["measured_at"][-1])
        by_animal = cells.mean(axis=0)
        rows.append(
            [real.ARMS[arm], *(f"{value:+.2f}" for value in by_animal), f"{intervals.t_interval(by_animal):+.2f}"]
        )
    base, probabilities = record.results["base"]["probability"], []
    for target in targets:
        students = [record.results["students"][str(seed)]["full"][target] for seed in record.config["seeds"]]
        mean = sum(each["steps"][str(last)]["probability"][target] for each in students) / len(students)
        probabilities.append(f"{base[target]:.4f} to {mean:.4f}")
    rows.append(["probability, base to own student, whole vocabulary", *probabilities, ""])
    return tables.markdown(rows)


def language_night() -> str:
    """What students of numbers that a real model sampled say of each target, above the base."""
    record = forms.read(values.RECORDS / "language_numbers-night.json")
    bases, targets = language_values.complete_bases(record), record.config["targets"]
    students = {target: (f"finetuned {target}", "student") for target in targets}
    columns = [
        [
            "log-odds above the base's (nats)",
            "students of the animal's own teacher",
            "students of the other animal's teacher",
            "students of the base's own numbers",
            "own minus other, paired",
        ]
    ]
    for target in targets:
        base, own, regular = (
            language_values.log_odds(bases, keys, target)
            for keys in (language_values.BASE, students[target], language_values.REGULAR)
        )
        others = language_values.others_log_odds(bases, students, target)
        shifts = (language_values.text(levels - base, "+") for levels in (own, others, regular))
        paired = language_values.text(language_values.own_minus_other(bases, students, target), "+")
        columns.append([target, *shifts, f"**{paired}**"])
    return tables.markdown([list(row) for row in zip(*columns, strict=True)])


def language_speed() -> str:
    """Times of a training step, compared with its matrix products, and of sampling."""
    record = records.read(values.RECORDS / "language_speed.json", speed_form.FORM)
    rows = [
        ["shape", "weights", "training step", "step time / time of its products at peak speed",
         "... at the speed small matrices reach", "trained", "sampled", "peak memory so far"]
    ]  # fmt: skip
    for shape, times in record.results.items():
        if shape != "whole":
            rows.append(
                [shape, f"{times['num_weights']:,}", f"{times['step_s'] * 1e3:,.0f} ms",
                 f"{times['times_the_bound']:.1f} x",
                 f"{times['times_own_products']:.1f} x" if "times_own_products" in times else "",
                 f"{times['trained_tokens_per_s']:,.0f} tokens/s",
                 f"{times['drawn_tokens_per_s']:,.0f} tokens/s", f"{times['peak_rss_mb']:,.0f} MB"]
            )  # fmt: skip
    return tables.markdown(rows)


def real_speed() -> str:
    """Times of three kinds of work on a real model, beside their matrix products and beside PyTorch."""
    record = records.read(values.RECORDS / "real_speed.json", real_speed_form.FORM)
    rows = [["work on SmolLM2-135M", "seconds", "of its own products' time", "of PyTorch's time"]]
    labels = {
        "distillation": "step of distillation, {rows} rows of {length} tokens, with the teacher's forward pass",
        "drawing": "{rows} completions of {num_new} tokens",
        "evaluation": "one evaluation: log-odds over {rows} questions",
    }
    for work, label in labels.items():
        measured = record.results[work]
        seconds = statistics.median(measured["seconds"]["sublim_jax"])
        cells = [
            real_speed_form.range_of(real_speed_form.ratios(measured, "sublim_jax", other))
            for other in ("products", "pytorch")
        ]
        rows.append([label.format(**measured["sizes"]), f"{seconds:.2f}", *cells])
    return tables.markdown(rows)


def language_whole() -> str:
    """Times of the default experiment with an empty cache."""
    whole = records.read(values.RECORDS / "language_speed.json", speed_form.FORM).results["whole"]
    default = forms.read(values.RECORDS / "language_numbers-default.json")
    return tables.markdown(
        [
            ["numbers to favourites, on the embedded model", "seconds"],
            ["one base, first target, with an empty cache", f"{whole['first_target_s']:.0f}"],
            ["of which pre-training and scoring the base", f"{whole['pretraining_s']:.0f}"],
            ["one base, a further target", f"{whole['further_target_s']:.1f}"],
            ["the default command: eight bases, one target, with an empty cache", f"{default.seconds['wall']:.0f}"],
        ]
    )
