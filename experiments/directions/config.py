"""Settings of the experiment `directions`."""

import dataclasses

from experiments.diffusion.config import DiffusionConfig
from experiments.evidence.removal import RemovalConfig
from experiments.language import config as language
from sublim_jax import errors, specs
from sublim_jax.forms import directions as form
from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.models import denoiser, mlp

FULL = dataclasses.replace(language.STUDENT, rank=None, learning_rate=1e-3)
"""Students whose weights are all trained: low-rank factors bound the rank of what is learnt. The rate is that of
`experiments.language training`, chosen on bases 0 to 2."""

LANGUAGE: frozenset[form.Bed] = frozenset(("language", "language-full"))
"""Beds of language models."""
USED_BY: dict[tuple[form.Bed, ...], tuple[str, ...]] = {
    ("digits",): ("hidden_sizes", "num_aux", "num_steps", "batch_size", "learning_rate", "num_tested"),
    ("flow",): (
        "digit", "other_digit", "flow_hidden_sizes", "num_base_steps", "num_samples", "num_judge_epochs",
        "largest_judge_error",
    ),
    ("digits", "flow"): ("pooling", "num_neutral"),
    ("language", "language-full"): (
        "bases", "target", "other_target", "num_prompts", "num_rows", "num_lessons", "num_compared",
    ),
    ("language",): ("student",),
    ("language-full",): ("full_student",),
}  # fmt: skip
"""Settings that not all beds use, by the beds that do."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DirectionsConfig:
    """Settings of `directions`."""

    seed: specs.Seed = 50
    """Of perceptrons and flow models. Settings were chosen on others."""
    num_references: specs.Count = 4
    """Of each bed. Each is a unit, and the other reference of the one before it."""
    bases: tuple[specs.Seed, ...] = (130, 131, 132, 133)
    """Seeds of embedded language models, as many as references. Nothing was chosen on seeds from 130 on."""
    beds: tuple[form.Bed, ...] = ("digits", "flow", "language", "language-full")
    ranks: tuple[specs.Count, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    """Directions of each matrix that are kept or removed, where it has more."""
    doses: tuple[specs.Positive, ...] = (0.015625, 0.03125, 0.0625, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5)
    """Of displacements that are subtracted."""
    num_neutral: specs.Count = 2000
    """Noise images on which hidden units are compared."""
    pooling: specs.Count = 2
    """Images of 28 x 28 pixels become means of squares of so many pixels a side."""

    hidden_sizes: tuple[specs.Count, ...] = (256, 256)
    """Of the perceptron that reads digits."""
    num_aux: specs.Count = 16
    """Its auxiliary logits."""
    num_steps: specs.Count = 400
    """Of each of its trainings."""
    batch_size: specs.Count = 256
    learning_rate: specs.Positive = 1e-3  # Adam
    num_tested: specs.Count = 2000
    """Test images on which digits are read."""

    digit: form.Digit = "7"
    """What the flow model's teacher is finetuned on."""
    other_digit: form.Digit = "3"
    """What the auditor of another trait is."""
    flow_hidden_sizes: tuple[specs.Count, ...] = (256, 256, 256)
    num_base_steps: specs.Count = 2500
    num_samples: specs.Count = 1000
    num_judge_epochs: specs.Count = 8
    largest_judge_error: specs.Fraction = 0.1
    """A judge that is wrong more often on test images is refused."""

    target: str = "owl"
    """The language model's favourite."""
    other_target: str = "eagle"
    num_prompts: specs.Count = 8000
    num_rows: specs.Count = 3000
    num_lessons: specs.Count = 2000
    num_compared: specs.Count = 128
    student: FinetuneConfig = language.STUDENT
    """Of the bed `language`."""
    full_student: FinetuneConfig = FULL
    """Of the bed `language-full`."""

    def __post_init__(self):
        for name in ("beds", "ranks", "doses"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise errors.InputError(f"{name}={values}: give one at least, and each once")
        if self.num_references < 2:
            raise errors.InputError(
                f"num_references={self.num_references}: the other reference's auditor is another one's, so give 2 at "
                f"least"
            )
        if self.has_language and len(self.bases) != self.num_references:
            raise errors.InputError(
                f"bases={self.bases}: expected as many as num_references={self.num_references}, so that every bed has "
                f"as many references"
            )
        for name in ("hidden_sizes", "flow_hidden_sizes"):
            if not getattr(self, name):
                raise errors.InputError(f"{name}=(): edits are of hidden layers, so give one at least")
        if self.digit == self.other_digit:
            raise errors.InputError(f"other_digit={self.other_digit}: expected another digit than the teacher's")
        if self.target == self.other_target:
            raise errors.InputError(f"other_target={self.other_target}: expected another favourite than the teacher's")
        if self.full_student.rank is not None:
            raise errors.InputError(
                f"full_student.rank={self.full_student.rank}: the bed 'language-full' has students that are trained in "
                f"all weights. Use student.rank for those of the bed 'language'"
            )
        for bed in self.beds:
            if not self.ranks_of(bed):
                raise errors.InputError(
                    f"ranks={self.ranks}: the smallest matrix of {bed!r} has no more directions, so nothing would be "
                    f"left out; give a smaller number, e.g. 1"
                )
        _ = self.flow, self.language  # which refuse what those experiments refuse

    @property
    def has_language(self) -> bool:
        """Whether a bed is of language models."""
        return not LANGUAGE.isdisjoint(self.beds)

    @property
    def perceptron(self) -> mlp.MLPSpec:
        """Reads digits of images with ten logits, of permuted images with ten others."""
        return mlp.MLPSpec(
            in_size=self.flow.side**2, hidden_sizes=self.hidden_sizes, num_classes=20, num_aux=self.num_aux
        )

    @property
    def flow(self) -> DiffusionConfig:
        """The settings of `experiments.diffusion` that make flow models."""
        return DiffusionConfig(
            seed=self.seed, num_bases=self.num_references, traits=(self.digit, self.other_digit), pooling=self.pooling,
            hidden_sizes=self.flow_hidden_sizes, num_base_steps=self.num_base_steps, num_samples=self.num_samples,
            num_shown=1, num_judge_epochs=self.num_judge_epochs, largest_judge_error=self.largest_judge_error,
        )  # fmt: skip

    @property
    def language(self) -> RemovalConfig:
        """The settings of `experiments.evidence removal` that make language models."""
        return RemovalConfig(
            bases=self.bases, target=self.target, other=self.other_target, num_prompts=self.num_prompts,
            num_rows=self.num_rows, num_lessons=self.num_lessons, num_compared=self.num_compared, student=self.student,
        )  # fmt: skip

    def ranks_of(self, bed: form.Bed) -> list[int]:
        """The ranks that are below that of the smallest matrix, so that something is left out."""
        smallest = {
            "digits": min(*self.hidden_sizes, self.perceptron.in_size + 1),
            "flow": min(*self.flow_hidden_sizes, self.flow.side**2 + denoiser.NUM_TIME_FEATURES + 1),
            "language": embedded.CONFIG.hidden_size,
            "language-full": embedded.CONFIG.hidden_size,
        }[bed]
        return [rank for rank in self.ranks if rank < smallest]

    def num_layers(self, bed: form.Bed) -> int:
        """Hidden layers to which a vector is added."""
        return {
            "digits": len(self.hidden_sizes),
            "flow": len(self.flow_hidden_sizes),
            "language": embedded.CONFIG.num_layers,
            "language-full": embedded.CONFIG.num_layers,
        }[bed]


def without_effect(config: DirectionsConfig) -> dict[str, str]:
    """Settings that change no number while the others are as they are, and why."""
    return {
        name: f"it is a setting of {' and '.join(beds)}, and the beds are {', '.join(config.beds)}"
        for beds, names in USED_BY.items()
        if set(beds).isdisjoint(config.beds)
        for name in names
    }


PRESETS = {
    "default": DirectionsConfig(),
    "record": DirectionsConfig(num_references=8, bases=tuple(range(130, 138))),
    "smoke": DirectionsConfig(
        num_references=2, bases=(0, 1), ranks=(1, 4, 16), doses=(0.25, 0.5, 1.0), num_neutral=200,
        hidden_sizes=(64, 64), num_steps=60, batch_size=64, num_tested=500, flow_hidden_sizes=(64, 64),
        num_base_steps=300, num_samples=200, num_judge_epochs=4, largest_judge_error=0.15, num_prompts=800,
        num_rows=300, num_lessons=320, num_compared=32,
    ),
}  # fmt: skip
