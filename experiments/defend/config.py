"""Settings of a removal."""

import dataclasses
import pathlib

from experiments.language.config import TEACHER
from experiments.own import teaching
from sublim_jax import errors, specs
from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.metrics import intervals

RATES = (
    "on 8 embedded bases that nothing was tuned on, such a removal left -0.13 ± 0.14 of +3.86 ± 1.70 nats, more than "
    "0.1 in 0 of 8; after 8 steps on 8 lessons there was +0.54 ± 0.58 more than in the base, more than 0.1 in 6 of 8"
)
"""What is left of a favourite, and what comes back; `experiments/records/evidence_removal.json`."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DefendConfig:
    """Settings of a removal."""

    student: str = ""
    """The model that a trait is taken out of: the base with +DIR for a student's folder, or hf:DIR."""
    base: str = ""
    """The model that the student was trained from: smollm2, hf:DIR, hf:FILE.gguf or tiny:SEED."""
    traits: pathlib.Path | None = None
    """File of traits, see `sublim_jax.llm.traits`; those that are removed have lessons or a system message."""
    remove: tuple[str, ...] = ()
    """Names of the traits that are removed; may be left out if the file has only one."""
    out: pathlib.Path = pathlib.Path("runs/cleaned")
    """Folder for the cleaned model, which must not be there yet."""
    rows: pathlib.Path | None = None
    """Rows on which the cleaned model is compared with the student; by default numbers that the student writes."""
    num_rows: specs.Count = 32
    """Rows that are compared."""
    doses: tuple[specs.NonNegative, ...] = (0.0, 0.015625, 0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0, 2.0)
    """Doses that are tried, from 0 on."""
    num_halvings: specs.CountOrZero = 4
    """How often the gap below the dose is halved."""
    teacher: FinetuneConfig = teaching.LESSONS
    """How the auditor's own teacher of a trait is finetuned."""
    num_lessons: specs.Count = 8
    """Lessons from which a trait is relearnt, at most half of the trait's; the auditor's teacher does not see them."""
    checkpoints: tuple[specs.CountOrZero, ...] = (0, 1, 2, 4, 8)
    """Steps of relearning after which the trait is measured."""
    relearning_rate: specs.Positive = 2e-5
    """Learning rate of Adam in relearning, of all weights."""
    threshold: specs.Positive = 0.1
    """Log-odds, in nats, from which a difference matters."""
    seed: specs.Seed = 0

    def __post_init__(self):
        if len(set(self.remove)) < len(self.remove):
            raise errors.InputError(f"remove: expected different traits, got {list(self.remove)}")
        if list(self.doses) != sorted(set(self.doses)) or self.doses[:1] != (0.0,) or len(self.doses) < 2:
            raise errors.InputError(f"doses must increase from 0, with one more at least, got {list(self.doses)}")
        if list(self.checkpoints) != sorted(set(self.checkpoints)) or self.checkpoints[:1] != (0,):
            raise errors.InputError(f"checkpoints must increase from 0, got {list(self.checkpoints)}")
        if len(self.checkpoints) < 2:
            raise errors.InputError("checkpoints=(0,): without a step nothing is relearnt; give one more")
        if self.num_rows < intervals.FEWEST:
            raise errors.InputError(f"num_rows={self.num_rows}: an interval over rows needs {intervals.FEWEST} of them")


PRESETS = {
    "default": DefendConfig(),
    "embedded": DefendConfig(teacher=TEACHER, relearning_rate=3e-4, num_rows=64),
}
