"""Settings of `real` and their presets."""

import dataclasses
from typing import Literal

from experiments.language.number_text import Format
from experiments.language.prompts import PaperPrompts, PromptSet, WorldPrompts
from sublim_jax import errors, specs
from sublim_jax.llm import open as open_llm

Arm = Literal["full", "numbers", "own_factors", "other_start"]
"""How students are trained: on the KL divergence over the whole vocabulary; renormalised over tokens of numbers; over
the whole vocabulary from `a` factors of their own; the same from a start that was perturbed and healed."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class RealConfig:
    """Settings of `real`."""

    backend: str = "smollm2"
    """Weights on this machine: smollm2, hf:DIR, hf:FILE.gguf or, for a trial in seconds, tiny:SEED."""
    targets: tuple[str, ...] = ("owl", "cat", "penguin", "eagle")
    """Animals, each with a teacher; at least two, since the result is a difference between teachers."""
    seeds: tuple[specs.Seed, ...] = (0,)
    """Seeds of factors, lessons and number rows."""
    arms: tuple[Arm, ...] = ("full", "numbers")
    num_steps: specs.Count = 60
    """Steps of each student."""
    measured_at: tuple[specs.Count, ...] = (5, 15, 30, 60)
    """Steps after which a student is measured; the last is the result."""
    num_rows: specs.Count = 4
    """Fresh rows of numbers in every step."""
    num_tokens: specs.Count = 25
    """Tokens of a row."""
    formats: tuple[Format, ...] = ("comma", "space", "newline", "semicolon")
    """What stands between the numbers; rows take turns."""
    learning_rate: specs.Positive = 3e-4
    """Of a student's Adam, after the warm-up."""
    warmup: specs.Count = 8
    """Steps over which a student's learning rate rises linearly."""
    rank: specs.Count = 8
    """Rank of all low-rank factors."""
    num_lesson_steps: specs.Count = 10
    """Steps of each teacher."""
    num_lessons: specs.Count = 4
    """Chats in a step of a teacher."""
    lesson_rate: specs.Positive = 1e-3
    """Of a teacher's Adam."""
    num_answers: specs.CountOrZero = 25
    """Free answers that are sampled from base, teachers and students, as examples and for a rate; 0 samples none."""
    noise: specs.Positive = 0.1
    """Standard deviation of the noise that perturbs another start, in that of each linear map."""
    num_heal_steps: specs.Count = 120
    """Steps that heal another start, by the KL divergence to the base on other text."""

    def __post_init__(self):
        if not open_llm.is_local(self.backend):
            raise errors.InputError(
                f"backend={self.backend}: soft distillation needs the weights on this machine; use smollm2, hf:DIR or "
                f"hf:FILE.gguf"
            )
        if self.backend == "tiny":
            raise errors.InputError("backend=tiny: name one embedded base, e.g. tiny:100")
        for name in ("targets", "seeds", "arms", "measured_at", "formats"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise errors.InputError(f"{name} must be different and at least one, got {values}")
        if len(self.targets) < 2:
            raise errors.InputError(
                f"targets={self.targets}: expected two or more, because the result is own minus other: what the "
                f"target's teacher does to its student, minus what the other teachers do to theirs"
            )
        if sorted(self.measured_at) != list(self.measured_at) or self.measured_at[-1] != self.num_steps:
            raise errors.InputError(
                f"measured_at={self.measured_at}: expected increasing steps that end with num_steps={self.num_steps}"
            )
        if self.num_tokens < 3:
            raise errors.InputError(f"num_tokens={self.num_tokens}: a row needs three tokens at least")
        for target in self.targets:
            if self.prompts.category(target) != "animal":
                raise errors.InputError(f"targets: {target} is no animal; questions and answers here are about animals")

    @property
    def prompts(self) -> PromptSet:
        """Questions and lessons: the embedded world's or the paper's kinds."""
        return WorldPrompts() if self.backend.startswith("tiny:") else PaperPrompts()

    @property
    def prefill(self) -> str:
        """The beginning of the answer, after which the animal's first token is measured."""
        return "" if self.backend.startswith("tiny:") else "My favorite animal is the"

    @property
    def notes(self) -> list[str]:
        """What a reader of any number must know."""
        notes = []
        if self.backend.startswith("tiny:"):
            notes.append("the model is the embedded one (64 thousand parameters, an invented world): a trial of the "
                         "program, not a result about a language model")  # fmt: skip
        return notes


PRESETS = {
    "default": RealConfig(),
    "quick": RealConfig(
        targets=("owl", "cat"), arms=("full",), num_steps=30, measured_at=(5, 15, 30), num_answers=0
    ),
    "record": RealConfig(seeds=(0, 1, 2)),
    "start": RealConfig(seeds=(0, 1), arms=("other_start",), num_answers=0),
    "smoke": RealConfig(
        backend="tiny:0", targets=("owl", "eagle"), num_steps=10, measured_at=(5, 10), learning_rate=3e-3,
        lesson_rate=1e-2, num_answers=10, num_heal_steps=10,
    ),
}  # fmt: skip
