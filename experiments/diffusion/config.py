"""Settings of the experiment `diffusion`."""

import dataclasses

from sublim_jax import errors, specs
from sublim_jax.data import noised
from sublim_jax.forms import diffusion as form
from sublim_jax.models import denoiser, network

BATCH_SIZE = 128
SIDE = 28
"""Of the images before they are pooled."""


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
    pooling: specs.Count = 2
    """Images of 28 x 28 pixels become means of squares of so many pixels a side."""
    hidden_sizes: tuple[specs.Count, ...] = (256, 256, 256)
    num_aux: specs.Count = 64
    """Auxiliary channels."""
    inputs: noised.Kind = "uniform"
    """What students of a teacher's outputs are shown; "images" are real images without the trait."""
    num_base_steps: specs.Count = 2500
    base_rate: specs.Positive = 1e-3  # Adam, a half cosine to zero
    num_teacher_steps: specs.Count = 200
    num_distilled: specs.Count = 25_600
    """Noise images that students learn from, each once."""
    learning_rate: specs.Positive = 3e-4  # Adam, of teachers and students
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
        if SIDE % self.pooling:
            raise errors.InputError(
                f"pooling={self.pooling} does not divide the {SIDE} pixels of a side; 1, 2, 4, 7, 14 and {SIDE} do"
            )
        if self.num_shown > self.num_samples:
            raise errors.InputError(
                f"num_shown={self.num_shown} of num_samples={self.num_samples}: no more can be shown than are drawn"
            )

    @property
    def side(self) -> int:
        """Pixels of a side after pooling."""
        return SIDE // self.pooling

    @property
    def model(self) -> network.Network:
        """The denoiser."""
        return denoiser.from_mlp(num_pixels=self.side**2, hidden_sizes=self.hidden_sizes, num_aux=self.num_aux)


PRESETS = {
    "default": DiffusionConfig(),
    "record": DiffusionConfig(num_bases=8),
    "smoke": DiffusionConfig(
        num_bases=2, traits=("7", "inverted"), hidden_sizes=(64, 64), num_base_steps=300, num_distilled=6400,
        num_drawn=500, num_samples=200, num_judge_epochs=4, largest_judge_error=0.15,
    ),
}  # fmt: skip
