"""The config of the theorem's experiment: its parts, and the number of networks of each."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Annotated, Literal, get_args

import annotated_types

from sublim_jax import errors, specs
from sublim_jax.forms import theorem
from sublim_jax.training import loop, optimizers

Part = theorem.Part
DESCRIPTIONS: dict[Part, str] = {
    "curve": "alignment against epsilon in float32 and float64, beside its line and its curvature",
    "radius": "largest epsilon for which the sign is proved, estimated, and seen to hold",
    "kinks": "distance to the first kink of a ReLU network, and what happens on one",
    "cosines": "cosine of the student's step with the teacher's, against auxiliary logits and width",
    "starts": "cosines of students that start with the teacher, elsewhere, or share some layers",
    "labels": "sign of the alignment of a step on labels drawn from the teacher",
    "init_noise": "sign of the alignment of students whose start has noise on it",
    "filters": "what random, strict and informed filters leave of the alignment",
    "optimizers": "alignment of steps of other optimizers than gradient descent",
    "many_steps": "displacement along the teacher's update over many steps",
    "mnist_cosines": "cosines of the paper's network, against auxiliary logits and width",
    "mnist_noise": "cosines of the paper's network whose start has noise on it",
}
"""One line for each part of a record."""


def describe(parts: Iterable[Part]) -> theorem.Description:
    """The description in a record of these parts."""
    return {"parts": {part: DESCRIPTIONS[part] for part in parts}}


PARTS: tuple[Part, ...] = get_args(Part)
Several = Annotated[int, annotated_types.Ge(2)]
"""A number of samples that has a standard deviation."""


def _teacher(num_epochs: int) -> loop.TrainPhase:
    adam = optimizers.OptimizerSpec(learning_rate=1e-3)
    return loop.TrainPhase(num_epochs=num_epochs, batch_size=256, optimizer=adam)


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class TheoremConfig:
    """Which parts to measure, and on how many networks. The numbers of a part do not depend on the other parts."""

    seed: specs.Seed = 0
    parts: tuple[Part, ...] = PARTS
    """Parts to measure, in this order."""
    dataset: Literal["auto", "mnist", "synthetic-digits"] = "auto"
    """For the two MNIST parts. `auto`: MNIST, or synthetic digits, clearly labelled, where MNIST is unavailable."""
    num_networks: Several = 12  # small networks for curves, radii and cosines
    num_problems: Several = 400  # small networks for fractions
    num_draws: Several = 1000  # labels or starts per network
    num_members: specs.NumMembers = 3  # MNIST networks
    num_noise_images: specs.Count = 256  # inputs of an MNIST student's step
    num_mnist_draws: Several = 48  # starts per MNIST network and size of the noise
    num_train_images: specs.Count = 12_800  # of the MNIST teacher
    teacher: loop.TrainPhase = dataclasses.field(default_factory=lambda: _teacher(6))
    """300 steps of Adam by default."""
    num_aux: tuple[specs.Count, ...] = (1, 2, 3, 10, 30, 100)
    """Numbers of auxiliary logits that the MNIST student sees; the network has the largest of them."""
    widths: tuple[specs.Count, ...] = (16, 64, 256, 1024)
    """Widths of both hidden layers of the MNIST network, with 3 auxiliary logits."""

    def __post_init__(self):
        if not self.parts or len(set(self.parts)) != len(self.parts):
            raise errors.InputError(f"parts must be different and at least one, got {self.parts}")
        if not self.num_aux or max(self.num_aux) < 2:
            raise errors.InputError(f"num_aux must hold a number of at least 2, got {self.num_aux}")
        if not self.widths:
            raise errors.InputError("widths must hold at least one number")

    def seconds(self, part: Part) -> float:
        """Estimated time of a part on two cores, scaled from the committed record."""
        recorded, size = SECONDS[part]
        return recorded * (FIXED + (1 - FIXED) * size(self) / size(DEFAULT))


DEFAULT = TheoremConfig()
FIXED = 0.25
"""Share of a part's time that does not depend on how much is measured, mostly compilation."""
SECONDS: dict[Part, tuple[float, Callable[[TheoremConfig], int]]] = {
    "curve": (7, lambda config: config.num_networks),
    "radius": (15, lambda config: config.num_networks),
    "kinks": (5, lambda config: config.num_networks),
    "cosines": (21, lambda config: min(config.num_networks, 8)),
    "starts": (11, lambda config: config.num_problems),
    "labels": (3, lambda config: config.num_draws),
    "init_noise": (9, lambda config: config.num_draws),
    "filters": (4, lambda config: min(config.num_problems, 200)),
    "optimizers": (25, lambda config: config.num_problems),
    "many_steps": (8, lambda config: min(config.num_problems, 100)),
    "mnist_cosines": (37, lambda config: config.num_members * (len(config.num_aux) + len(config.widths))),
    "mnist_noise": (14, lambda config: min(config.num_members, 2) * config.num_mnist_draws),
}
"""Seconds of each part by default, and the size that its time grows with. Source: experiments/records/theorem.json."""
PRESETS = {
    "default": DEFAULT,
    "smoke": TheoremConfig(
        num_networks=3,
        num_problems=40,
        num_draws=100,
        num_members=1,
        num_noise_images=32,
        num_mnist_draws=8,
        num_train_images=2560,
        teacher=_teacher(2),
        num_aux=(2, 10),
        widths=(16, 64),
    ),
}
