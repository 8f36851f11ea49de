"""All language experiments, in the order of the page."""

from experiments.language import (
    chain,
    code,
    context,
    cross,
    detection,
    divergence,
    dose,
    greedy,
    labels,
    misalignment,
    noise,
    numbers,
    reasoning,
    repeats,
    shuffles,
    training,
)

EXPERIMENTS = {
    question.EXPERIMENT.name: question.EXPERIMENT
    for question in (
        numbers, cross, dose, shuffles, context, detection, divergence, chain, code, reasoning, repeats, greedy,
        training, noise, labels, misalignment,
    )
}  # fmt: skip
