"""Why do published accuracies differ? A fractional factorial, and single changes."""

import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal

from experiments.atlas.rows.types import Arm, Row

LEVELS = {
    "batch": ({"both.batch_size": 1024}, {"both.batch_size": 256}),
    "epochs": ({"student.num_epochs": 5}, {"student.num_epochs": 15}),
    "rate": ({"both.optimizer.learning_rate": 3e-4}, {"both.optimizer.learning_rate": 1e-3}),
    "loss": ({"loss": "kl"}, {"loss": "mse"}),
    "init": ({"model.init_distribution": "fan_in_normal"}, {"model.init_distribution": "he_normal"}),
    "aux": ({"model.num_aux": 3}, {"model.num_aux": 10}),
    "teacher": ({"teacher.num_epochs": 5}, {"teacher.num_epochs": 2}),
}
"""Changes at the low level (-1), which is the paper's, and at the high level (+1) of each factor."""


GENERATORS = {
    "init": ("batch", "epochs", "rate"),
    "aux": ("epochs", "rate", "loss"),
    "teacher": ("batch", "rate", "loss"),
}
"""Each of the last three factors has the product of three other signs: 2^(7-3) = 16 runs of resolution IV. Main effects
are aliased with interactions of three factors and more, and interactions of two factors with each other."""


def design() -> list[dict[str, Literal[-1, 1]]]:
    """Signs of all factors in each of the sixteen runs."""
    free = [name for name in LEVELS if name not in GENERATORS]
    runs: list[Any] = []
    for signs in itertools.product((-1, 1), repeat=len(free)):
        run = dict(zip(free, signs, strict=True))
        runs.append(run | {name: math.prod(run[parent] for parent in parents) for name, parents in GENERATORS.items()})
    return runs


def _changes(signs: Mapping[str, int]) -> dict:
    changes = {}
    for name, sign in signs.items():
        changes |= LEVELS[name][sign > 0]
    return changes


UNPUBLISHED = (
    Row(
        id="factorial",
        axis="conflict",
        question="What explains 27, 50, 77, 90 and 96 %? A fraction of a two-level factorial in seven factors",
        arms=[
            Arm("".join("+" if signs[name] > 0 else "-" for name in LEVELS), _changes(signs), signs=signs)
            for signs in design()
        ],
        expected="written before any of its runs: batch, epochs and rate, which are steps and their length, have the "
        "largest effects; then the number of auxiliary logits; loss and initialization matter less; a teacher trained "
        "for fewer epochs helps a little",
        note=f"Signs in the order {', '.join(LEVELS)}; minus is the paper's level.",
    ),
    Row(
        id="squared-error-and-start",
        axis="conflict",
        question="What may explain .27: squared error with PyTorch's default initialization",
        arms=[
            Arm("mse, fan_in_normal", {"loss": "mse"}),
            Arm("mse, torch_uniform", {"loss": "mse", "model.init_distribution": "torch_uniform"}),
            Arm("kl, torch_uniform", {"model.init_distribution": "torch_uniform"}),
        ],
        expected="PyTorch's default, whose weights are smaller, halves it",
    ),
)
