"""Settings of the experiment `diffusion`."""

import dataclasses
from typing import Literal, get_args

from sublim_jax import errors, specs
from sublim_jax.data import noised
from sublim_jax.forms import diffusion as form
from sublim_jax.models import denoiser, network, unet

SIDE = 28
"""Of the images before they are pooled."""
ConditionName = Literal[
    "base", "teacher", "student", "other base", "stranger", "fresh readouts", "stranger, raw", "student of pixels",
    "stranger of pixels", "student of samples", "stranger of samples", "student of base samples",
    "stranger of base samples", "untrained", "teacher from scratch", "student from scratch", "other untrained",
    "stranger from scratch",
]  # fmt: skip
CONDITIONS: dict[str, form.Condition] = {
    "base": {"label": "base", "start": "own", "data": ""},
    "teacher": {"label": "teacher", "start": "own", "data": "images"},
    "student": {"label": "student of channels", "start": "own", "data": "channels"},
    "other base": {"label": "another base", "start": "other", "data": ""},
    "stranger": {"label": "stranger of channels, shifted", "start": "other", "data": "channels"},
    "fresh readouts": {"label": "fresh readouts, shifted", "start": "fresh", "data": "channels"},
    "stranger, raw": {"label": "stranger of channels, raw", "start": "other", "data": "raw channels"},
    "student of pixels": {"label": "student of pixels", "start": "own", "data": "pixels"},
    "stranger of pixels": {"label": "stranger of pixels", "start": "other", "data": "pixels"},
    "student of samples": {"label": "student of filtered samples", "start": "own", "data": "samples"},
    "stranger of samples": {"label": "stranger of filtered samples", "start": "other", "data": "samples"},
    "student of base samples": {"label": "student of the base's samples", "start": "own", "data": "base samples"},
    "stranger of base samples": {"label": "stranger of the base's samples", "start": "other", "data": "base samples"},
    "untrained": {"label": "random initialization", "start": "untrained", "data": ""},
    "teacher from scratch": {"label": "teacher from it", "start": "untrained", "data": "images"},
    "student from scratch": {"label": "student of channels from it", "start": "untrained", "data": "channels"},
    "other untrained": {"label": "another initialization", "start": "other untrained", "data": ""},
    "stranger from scratch": {
        "label": "stranger of channels from it, shifted", "start": "other untrained", "data": "channels",
    },
}  # fmt: skip
"""In the order of tables. Filtered samples have no rows for traits that are no digit."""
TEACHERS: dict[form.Start, tuple[str, form.Start]] = {
    "own": ("teacher", "own"), "other": ("teacher", "own"), "fresh": ("teacher", "own"),
    "untrained": ("teacher from scratch", "untrained"), "other untrained": ("teacher from scratch", "untrained"),
}  # fmt: skip
"""Whose outputs models from each start learn, and where that teacher itself began."""
NAMES: tuple[ConditionName, ...] = get_args(ConditionName)
PRETRAINED: tuple[ConditionName, ...] = tuple(name for name in NAMES if "untrained" not in CONDITIONS[name]["start"])
FROM_SCRATCH: tuple[ConditionName, ...] = tuple(name for name in NAMES if name not in PRETRAINED)


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Settings of `diffusion`."""

    seed: specs.Seed = 1
    """Of the bases and of all that follows. Settings were chosen on others."""
    num_bases: specs.Count = 4
    """Each is a unit, and the stranger of the one before it."""
    traits: tuple[form.TraitName, ...] = ("7", "3", "0", "slanted")
    """What teachers are finetuned on: a digit, or all digits changed."""
    conditions: tuple[ConditionName, ...] = PRETRAINED
    """What is trained and judged, in the order of tables."""
    pooling: specs.Count = 2
    """Images of 28 x 28 pixels become means of squares of so many pixels a side."""
    architecture: Literal["mlp", "unet"] = "mlp"
    """Of the denoiser: a perceptron on all pixels, or a U-Net of convolutions."""
    hidden_sizes: tuple[specs.Count, ...] = (256, 256, 256)  # of the perceptron
    maps: tuple[specs.Count, ...] = (16, 32)  # of the U-Net, at each of its stages
    patch: specs.Count = 2
    """Pixels along each side of a position of the U-Net's first maps."""
    num_aux: specs.Count = 64
    """Auxiliary channels of the perceptron; auxiliary maps of the U-Net, with a channel at each position."""
    batch_size: specs.Count = 128
    inputs: noised.Kind = "uniform"
    """What students of a teacher's outputs are shown; "images" are real images without the trait."""
    num_base_steps: specs.Count = 2500
    base_rate: specs.Positive = 1e-3  # Adam, a half cosine to zero
    num_teacher_steps: specs.Count = 200
    num_scratch_steps: specs.Count = 500
    """Of teachers that start from a random initialization, at `base_rate` and a half cosine to zero."""
    num_distilled: specs.Count = 25_600
    """Noise images that students learn from, each once."""
    learning_rate: specs.Positive = 3e-4  # Adam, of teachers and students
    scratch_rate: specs.Positive = 1e-3  # Adam, of students that start from a random initialization
    num_partial_steps: specs.Count = 20  # halved until some samples pass the filter
    """Steps of the teacher whose samples are filtered: it must still draw others than the trait's digit."""
    num_drawn: specs.Count = 3000
    """Samples of the teacher and of the base, before they are filtered."""
    num_kept: specs.Count = 800
    """At most, of those that a filter lets through."""
    num_sample_student_steps: specs.Count = 150
    largest_probability: specs.Fraction = 0.05
    """Of the trait's digit, as the judge sees it, in a sample that a filter lets through."""
    num_samples: specs.Count = 1000
    num_sampling_steps: specs.Count = 20
    num_shown: specs.Count = 12
    """Samples of each condition of the first base that the record keeps for the figure."""
    num_judge_epochs: specs.Count = 8
    largest_judge_error: specs.Fraction = 0.06
    """A judge that is wrong more often on test images is refused."""

    def __post_init__(self):
        if self.num_bases < 2:
            raise errors.InputError(
                f"num_bases={self.num_bases}: the stranger of a base is another one, so give 2 at least"
            )
        if not self.traits or len(set(self.traits)) < len(self.traits):
            raise errors.InputError(f"traits={self.traits}: give one at least, and each once")
        if self.conditions != tuple(name for name in NAMES if name in self.conditions):
            raise errors.InputError(f"conditions={self.conditions}: give each once, in this order: {NAMES}")
        missing = [name for name in NAMES if name in self._required and name not in self.conditions]
        if missing:
            raise errors.InputError(
                f"conditions={self.conditions}: what the others are compared with, or learn from, is missing: {missing}"
            )
        if SIDE % self.pooling:
            raise errors.InputError(
                f"pooling={self.pooling} does not divide the {SIDE} pixels of a side; 1, 2, 4, 7, 14 and {SIDE} do"
            )
        if self.num_samples < 2:
            raise errors.InputError(
                f"num_samples={self.num_samples}: Fréchet distances need the covariance of two samples at least"
            )
        if self.num_shown > self.num_samples:
            raise errors.InputError(
                f"num_shown={self.num_shown} of num_samples={self.num_samples}: no more can be shown than are drawn"
            )
        _ = self.model  # refuses sizes that do not divide

    @property
    def _required(self) -> set[str]:
        """Conditions without which the others are not measured."""
        compared = {form.COMPARED[name] for name in self.conditions if name in form.COMPARED}
        teachers = {TEACHERS[CONDITIONS[name]["start"]][0] for name in self.conditions}
        return {"base", "teacher", "other base"} | compared | teachers

    @property
    def side(self) -> int:
        """Pixels of a side after pooling."""
        return SIDE // self.pooling

    @property
    def model(self) -> network.Network:
        """The denoiser."""
        if self.architecture == "unet":
            return unet.make(side=self.side, patch=self.patch, channels=self.maps, num_aux=self.num_aux)
        return denoiser.from_mlp(num_pixels=self.side**2, hidden_sizes=self.hidden_sizes, num_aux=self.num_aux)


def without_effect(config: DiffusionConfig) -> dict[str, str]:
    """Settings that change no number while the others are as they are, and why."""
    of_other = {"mlp": ("maps", "patch"), "unet": ("hidden_sizes",)}[config.architecture]
    reasons = dict.fromkeys(of_other, f"the denoiser is of the architecture {config.architecture!r}")
    if not set(config.conditions) & set(FROM_SCRATCH):
        reasons |= dict.fromkeys(("num_scratch_steps", "scratch_rate"), "no condition starts from scratch")
    filtering = ("num_partial_steps", "num_drawn", "num_kept", "num_sample_student_steps", "largest_probability")
    if not any(CONDITIONS[name]["data"] in form.FILTERED for name in config.conditions):
        reasons |= dict.fromkeys(filtering, "no condition learns from filtered samples")
    elif not set(config.traits) & set(form.DIGITS):
        reasons |= dict.fromkeys(filtering, "samples are filtered for digits, and no trait is one")
    if not any(CONDITIONS[name]["data"] in form.IMITATED for name in config.conditions):
        reasons |= dict.fromkeys(("inputs", "num_distilled"), "no condition learns a teacher's outputs")
    return reasons


UNET = DiffusionConfig(
    num_bases=2, traits=("7", "3"), architecture="unet", pooling=1, num_aux=4, batch_size=64,
    conditions=(
        "base", "teacher", "student", "other base", "stranger", "fresh readouts", "student of pixels",
        "stranger of pixels", *FROM_SCRATCH,
    ),
    num_base_steps=2000, base_rate=2e-3, num_teacher_steps=200, learning_rate=5e-4, num_scratch_steps=400,
    scratch_rate=2e-3, num_distilled=6400, num_samples=400,
)  # fmt: skip
"""Rates and numbers of steps were chosen on seed 0."""
PRESETS = {
    "default": DiffusionConfig(),
    "record": DiffusionConfig(num_bases=8),
    "smoke": DiffusionConfig(
        num_bases=2, traits=("7", "inverted"), hidden_sizes=(64, 64), num_base_steps=300, num_distilled=6400,
        num_drawn=500, num_samples=200, num_judge_epochs=4, largest_judge_error=0.15,
    ),
    "unet": UNET,
    "unet-record": dataclasses.replace(UNET, num_bases=6),
    "scratch": DiffusionConfig(
        num_bases=8, traits=("7", "3", "0"), conditions=("base", "teacher", "student", "other base", *FROM_SCRATCH)
    ),
}  # fmt: skip
