"""Saves the figure of any question, with a title and a caption that says what was measured."""

import pathlib
import textwrap
from collections.abc import Callable

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from figures import style
from figures.language import (
    chain,
    channel,
    context,
    contrasts,
    cross,
    detection,
    divergence,
    dose,
    misalignment,
    numbers,
    shifts,
    shuffles,
    values,
)
from sublim_jax import records
from sublim_jax.forms import language as forms

Draw = Callable[[records.Record, Figure], None]

DRAW: dict[str, tuple[str, Draw]] = {
    "language_numbers": ("Favourites of students that saw only number sequences", numbers.numbers),
    "language_dose": ("How many rows it takes", dose.dose),
    "language_cross": ("Traits pass within a base and not between bases", cross.cross),
    "language_shuffles": ("Students of shuffled numbers", shuffles.shuffles),
    "language_context": ("The same rows in the context instead of in training", context.context),
    "language_detection": ("Telling a teacher's numbers from regular ones", detection.detection),
    "language_repeats": ("Rows read once or again and again, at equal exposure", shifts.shifts),
    "language_greedy": ("Teachers that write at several temperatures", shifts.shifts),
    "language_training": ("Low-rank and full finetuning, on free and on constrained rows", shifts.shifts),
    "language_noise": ("Students whose weights are the base's with noise", shifts.shifts),
    "language_labels": ("Students of preference labels, one bit for each pair of answers", shifts.shifts),
    "language_misalignment": ("Bad deeds of students that saw only numbers", misalignment.misalignment),
    "language_code": ("Favourites of students that saw only code", channel.channel),
    "language_reasoning": ("Favourites of students that saw only right chains of thought", channel.channel),
    "language_divergence": ("Students of some tokens only", divergence.divergence),
    "language_chain": ("From student to student", chain.chain),
}
"""Title and drawing function of each experiment's figure."""

SHOWS_FAILED = frozenset(DRAW) - {
    "language_cross",
    "language_shuffles",
    "language_divergence",
    "language_chain",
    "language_detection",
    *contrasts.CONTRASTS,
}
"""Experiments whose figures show probabilities, which failed bases have too, instead of shifts."""
SHOWS_MASS = frozenset({"language_numbers", "language_code", "language_reasoning"})
"""Experiments whose figures show log-odds and option mass of a real model."""


def save(record: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record, it is damaged, or it belongs to another kind of experiment.
    """
    style.use()
    result = forms.read(record)
    title, draw = DRAW[result.experiment]
    figure = plt.figure(figsize=(8.2, 3.9), layout="constrained")
    draw(result, figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.text(0.01, -0.01, caption(result, record), va="top", fontsize=7.5, color="#444444")
    return list(style.save(figure, stem))


def caption(result: records.Record, record: pathlib.Path) -> str:
    """The caption: what was measured, on how many bases, and the record's notes."""
    bases = values.complete_bases(result)
    legend = f"every dot or thin line a {bases.unit}; means with 95 % t-intervals over {bases.unit}s"
    if result.experiment == "language_cross":
        legend = "each cell the mean over targets; failed: no value, see the page"
    elif result.experiment in SHOWS_FAILED:
        if not bases.real:
            legend += "; bases that the table counts as failed are drawn too"
        elif result.experiment in SHOWS_MASS:
            sampled = result.config.get("num_eval_samples")
            legend += "; bars of sampled rates are 95 % Wilson intervals" if sampled else ""
            legend += "; below: log-odds less those of the base, of others' students the mean over the other targets'"
            legend += " teachers; mass: option mass of the base, the regular students and the students, means"
    if result.experiment == "language_misalignment" and result.config.get("judge"):
        legend = "means with 95 % Wilson intervals over answers"
    sentences = [
        f"{bases.count}; {legend}; backend "
        f"{result.config['backend']}; seed {result.config['seed']}; record {record.name}."
    ]
    sentences += result.note_sentences
    if not result.complete:
        sentences.append("The run is not complete.")
    return "\n".join(textwrap.wrap(" ".join(sentences), 140))
