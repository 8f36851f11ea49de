"""Rows that nobody has published, to our knowledge."""

import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal

from experiments.atlas.registry import AUX_AND_ALL, FIGURE_10, WITH_CROSS, Arm, Row, sweep
from sublim_jax.models import init_sharing

RATES = {
    "sgd": (0.01, 0.1, 1.0),
    "momentum": (0.003, 0.03, 0.3),
    "sign_sgd": (3e-5, 3e-4, 1e-3),
    "adam": (1e-4, 3e-4, 1e-3),
    "adamw": (1e-4, 3e-4, 1e-3),
}
"""Learning rates of the student, a decade or more around what works."""


def optimizer(name: str, rate: float) -> dict:
    """The student's optimizer; the teacher keeps Adam, so that all students have one teacher."""
    settings = {
        "student.optimizer.name": "sgd" if name == "momentum" else name,
        "student.optimizer.learning_rate": rate,
    }
    if name == "momentum":
        settings["student.optimizer.momentum"] = 0.9
    if name == "adamw":
        settings["student.optimizer.weight_decay"] = 1e-2
    return settings


INITIALIZATION = [
    Row(
        id="share-weights",
        axis="initialization",
        question="A random share of the individual weights",
        arms=sweep("init_sharing.shared_weight_probability", (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)),
        expected="falls long before half of the weights are gone: half shared is noise as large as the weights",
        x_label="share of the weights",
    ),
    Row(
        id="permuted-neurons",
        axis="initialization",
        question="The same function with its hidden neurons in another order",
        base=AUX_AND_ALL,
        arms=[Arm("own order"), Arm("permuted", {"init_sharing.permute_neurons": True})],
        expected="transmits, since reordering commutes with training; only the coordinates' labels differ",
        note="Both heads are permuted accordingly, so the student computes the reference's function.",
    ),
    Row(
        id="freeze-parts",
        axis="initialization",
        question="Which parts must be free to move?",
        arms=[
            Arm(name, {"trainable": parts})
            for name, parts in (
                ("all free", init_sharing.ParamGroups()),
                ("first hidden frozen", init_sharing.ParamGroups(hidden=(0.0, 1.0))),
                ("second hidden frozen", init_sharing.ParamGroups(hidden=(1.0, 0.0))),
                ("auxiliary head frozen", init_sharing.ParamGroups(aux_head=0.0)),
                ("both hidden frozen", init_sharing.ParamGroups(hidden=(0.0, 0.0))),
                ("only first hidden free", init_sharing.ParamGroups(hidden=(1.0, 0.0), class_head=0.0, aux_head=0.0)),
                ("only second hidden free", init_sharing.ParamGroups(hidden=(0.0, 1.0), class_head=0.0, aux_head=0.0)),
            )
        ],
        expected="with both hidden layers frozen exactly nothing: the class logits cannot move",
    ),
    Row(
        id="matching-dose",
        axis="initialization",
        question="A foreign start that first learns to behave like the teacher's reference, for how many epochs?",
        base={"conditions": ("matched_aux", "cross_model_aux")},
        arms=sweep("matching.phase.num_epochs", (1, 3, 10, 30)),
        expected="Nature's abstract says behaviourally matched base models suffice, for language models",
        x_label="epochs of matching",
        log_x=True,
        cited=("nature",),
    ),
    Row(
        id="same-start-other-order",
        axis="initialization",
        question="Do members differ because of their starts, or because of their data order and noise?",
        base={"conditions": ("student_aux",)},
        arms=[
            Arm("all differ"),
            Arm("one reference", {"shared_streams": ("reference",)}),
            Arm("one noise and order", {"shared_streams": ("student/noise", "student/batches", "teacher/batches")}),
        ],
        about="spreads",
        expected="to be seen in the spreads, not the means",
        note="Compare the standard deviations below: a difference of means is here that of one initialization, or of "
        "one draw of noise and order.",
    ),
]

ARCHITECTURE = [
    Row(
        id="activation",
        axis="architecture",
        question="Activation",
        base=FIGURE_10,
        arms=[Arm(name, {"model.activation": name}) for name in ("relu", "tanh", "gelu", "silu", "identity")],
        expected="works for all, the deep linear network included",
    ),
    Row(
        id="width-ntk",
        axis="architecture",
        question="Width under the NTK parametrization",
        base={"model.parametrization": "ntk", "both.optimizer.learning_rate": 1e-2},
        arms=[Arm(str(w), {"model.hidden_sizes": (w, w)}, x=w) for w in (64, 128, 256, 512)],
        expected="the theory's cosine falls with width; here Adam's step is scaled to the layer",
        note="Adam moves a stored weight by its rate: 1e-2 moves layers of 256 inputs as 6e-4 would, biases by 1e-2.",
        x_label="width",
        log_x=True,
    ),
]

OPTIMIZATION = [
    Row(
        id="optimizer",
        axis="optimization",
        question="The student's optimizer, apart from its learning rate",
        base={"num_validation_images": 10_000},
        arms=[
            Arm(f"{name} {rate:g}", optimizer(name, rate), x=rate, group=name)
            for name, rates in RATES.items()
            for rate in rates
        ],
        expected="the theorem covers gradient descent; sign-like steps are not covered and yet are what works fast",
        note="Compare optimizers at the rate that is best on validation images: the rates are a coarse grid.",
    ),
]

LOSS = [
    Row(
        id="loss-others",
        axis="loss",
        question="Reverse KL, Jeffreys, squared error raw and centred",
        base=WITH_CROSS,
        arms=[Arm(name, {"loss": name}) for name in ("kl", "reverse_kl", "jeffreys", "mse", "centred_mse")],
        expected="the three divergences agree: they have one curvature where student and teacher agree",
    ),
    Row(
        id="temperature",
        axis="loss",
        question="Temperature of both softmaxes, .25 to 8",
        arms=sweep("temperature", (0.25, 0.5, 1, 2, 4, 8)),
        expected="flat near 1; at high temperature KL becomes a centred squared error",
        x_label="temperature",
        log_x=True,
    ),
    Row(
        id="one-logit",
        axis="auxiliary logits",
        question="A single auxiliary logit",
        base={"model.num_aux": 1},
        arms=[Arm("kl"), Arm("mse", {"loss": "mse"})],
        expected="softmax: exactly nothing, the student stays the reference; squared error: something",
        note="jlov7 published one case: a gap of .001 between same and other initialization, at 20,000 noise images.",
    ),
    Row(
        id="num-classes-ten-outputs",
        axis="auxiliary logits",
        question="Fewer classes, but ten class outputs",
        arms=[Arm(str(k), {"data.num_classes": k}, x=k) for k in (2, 3, 5, 8, 10)],
        expected="below `num-classes`, since a student may answer with a class that is not there",
        note="jasshone's values with few classes are far below ours in `num-classes`, but those networks have K class "
        "outputs as ours there, and fewer noise images.",
        x_label="classes",
    ),
]

TARGETS = [
    Row(
        id="label-permuted-teacher",
        axis="teacher and targets",
        question="A teacher whose classes are renamed",
        base=FIGURE_10,
        arms=[Arm("true names"), Arm("renamed", {"teacher_labels": "permuted"})],
        expected="the student learns the teacher's names: as good, and at or below chance on the true ones",
    ),
    Row(
        id="target-noise",
        axis="teacher and targets",
        question="Noise on the teacher's logits, as a defence",
        base=AUX_AND_ALL,
        arms=sweep("target_corruption.noise", (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)),
        expected="falls when the noise reaches the logits' own spread",
        x_label="standard deviation, logits",
        log_x=True,
    ),
    Row(
        id="target-bits",
        axis="teacher and targets",
        question="Rounded logits",
        base=AUX_AND_ALL,
        arms=[Arm(f"{bits} bits", {"target_corruption.bits": bits}, x=bits) for bits in (1, 2, 3, 4, 8)],
        expected="four bits should do",
        x_label="bits",
    ),
    Row(
        id="target-top-k",
        axis="teacher and targets",
        question="Only the largest auxiliary logits shown, of ten",
        base={"model.num_aux": 10},
        arms=[
            *[Arm(f"top {k}", {"target_corruption.top_k": k}, x=k) for k in (1, 2, 3, 5)],
            Arm("all", x=10),
        ],
        expected="violates the theorem's assumptions; a hard label still carries the sign",
        x_label="logits shown",
    ),
]

INPUTS = [
    Row(
        id="spectra",
        axis="inputs",
        question="Perlin-like noise, and random phases under MNIST's own spectrum",
        arms=[
            *[Arm(f"lattice of {n}", {"inputs.perlin_cells": n, "inputs.preserve_std": True}) for n in (4, 7, 14)],
            Arm("MNIST's spectrum", {"inputs.mnist_spectrum": True, "noise.distribution": "gaussian"}),
            Arm("blur of 1, spread kept", {"inputs.blur": 1.0, "inputs.preserve_std": True}),
        ],
        expected="as good as blurred noise where the spectrum is as broad",
    ),
]

LEVELS = {
    "batch": ({"both.batch_size": 1024}, {"both.batch_size": 256}),
    "epochs": ({"student.num_epochs": 5}, {"student.num_epochs": 15}),
    "rate": ({"both.optimizer.learning_rate": 3e-4}, {"both.optimizer.learning_rate": 1e-3}),
    "loss": ({"loss": "kl"}, {"loss": "mse"}),
    "init": ({"model.init_distribution": "fan_in_normal"}, {"model.init_distribution": "he_normal"}),
    "aux": ({"model.num_aux": 3}, {"model.num_aux": 10}),
    "teacher": ({"teacher.num_epochs": 5}, {"teacher.num_epochs": 2}),
}
"""Factors of the fractional factorial: the paper's level (-1), the other one (+1)."""

GENERATORS = {
    "init": ("batch", "epochs", "rate"),
    "aux": ("epochs", "rate", "loss"),
    "teacher": ("batch", "rate", "loss"),
}
"""Signs of the last three factors are products of the first four's: 2^(7-3) = 16 runs of resolution IV, in which main
effects are mixed with interactions of three factors and more only, and interactions of two with each other."""


def design() -> list[dict[str, Literal[-1, 1]]]:
    """The sixteen runs as signs by factor."""
    free = [name for name in LEVELS if name not in GENERATORS]
    runs: list[Any] = []
    for signs in itertools.product((-1, 1), repeat=len(free)):
        run = dict(zip(free, signs, strict=True))
        runs.append(run | {name: math.prod(run[parent] for parent in parents) for name, parents in GENERATORS.items()})
    return runs


def _run(signs: Mapping[str, int]) -> dict:
    changes = {}
    for name, sign in signs.items():
        changes |= LEVELS[name][sign > 0]
    return changes


CONFLICT = [
    Row(
        id="factorial",
        axis="conflict",
        question="What explains 27, 50, 77, 90 and 96 %? A fraction of a two-level factorial in seven factors",
        arms=[
            Arm("".join("+" if signs[name] > 0 else "-" for name in LEVELS), _run(signs), signs=signs)
            for signs in design()
        ],
        expected="written before any of its runs: batch, epochs and rate, which are steps and their length, have the "
        "largest effects; then the number of auxiliary logits; loss and initialization matter less; a less taught "
        "teacher helps a little",
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
]

ROWS = (*INITIALIZATION, *ARCHITECTURE, *OPTIMIZATION, *LOSS, *TARGETS, *INPUTS, *CONFLICT)
