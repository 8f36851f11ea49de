"""Settings of an audit."""

import dataclasses
import math
import pathlib

from experiments.own import opened
from sublim_jax import errors, records, specs
from sublim_jax.llm.backend import FinetuneConfig

AUTO = "auto"
"""As the null: rows that the base itself writes in answer to the same prompts."""


THRESHOLD = 0.07
"""Nats. Fitted on pilots of 40 steps and finished students of the calibration bases of the study `pilots`."""

RATES = (
    "of 240 pairs of rows and trait, 87 were judged rightly, 6 were false alarms, 1 was missed, 146 stayed undecided"
)
"""What `THRESHOLD` did on that study's held-out bases; `experiments/records/evidence_pilots.json`."""


AUTHOR_RATES = (
    "of groups of 100 rows, 2 of 16 by the base as it is had p <= .05, and 12 of 64 by a finetuned copy had not; of "
    "four candidates, the most likely one was the author's base in 93.5 % of draws of 100 rows"
)
"""Whose rows they are, on embedded bases that nothing was tuned on; `experiments/records/evidence_authors.json`."""

LENS_RATES = (
    "lenses named the right one of four traits in 94.0 % of draws of 100 rows if they were finetuned like the author, "
    "but of one author of sixteen in 4.2 %"
)
"""Towards which trait rows push; the same record."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Settings of an audit of rows."""

    base: str = ""
    """The model that is to be trained on the rows: smollm2, hf:DIR, hf:FILE.gguf or tiny:SEED."""
    data: pathlib.Path | None = None
    """Rows as JSON lines: chats under messages, or prompts and completions."""
    traits: pathlib.Path | None = None
    """File of traits that are asked about; see `sublim_jax.llm.traits`."""
    null: str = ""
    """What the rows are compared with: `auto`, the base's own answers to the same prompts, or a file of rows."""
    candidates: tuple[str, ...] = ()
    """Further models that may have written the rows, named as the base is; they may be relatives of it."""
    steps: specs.Count = 40
    """Steps of a pilot."""
    num_repeats: specs.Count = 4
    """Pilots on the rows and on the null, each with random numbers of its own; intervals over repeats need four."""
    threshold: specs.Positive = THRESHOLD
    """Gain of a pilot in log-odds, in nats, from which transfer is expected."""
    student: FinetuneConfig = opened.REAL
    """How the student will be trained; a pilot is the beginning of that."""
    num_scored: specs.Count = 384
    """Most rows that are scored for authorship, drawn from the data."""
    lenses: bool = dataclasses.field(default=False, metadata=records.UNLESS_DEFAULT)
    """Also ask towards which trait the rows push, by copies of the base that are finetuned on the traits' lessons."""
    allow_words: bool = False
    """Audit rows that contain words of the traits, too."""
    seed: specs.Seed = 0

    def __post_init__(self):
        if len(set(self.candidates)) < len(self.candidates) or self.base in self.candidates:
            raise errors.InputError(
                f"candidates must differ from each other and from the base {self.base}, got {list(self.candidates)}"
            )

    def num_pilot_rows(self, num_rows: int) -> int:
        """Rows that a pilot reads, out of so many."""
        return min(self.steps * self.student.batch_size, num_rows)

    def num_steps(self, num_rows: int) -> int:
        """Steps of the whole training on so many rows."""
        return math.ceil(num_rows / self.student.batch_size) * self.student.num_epochs

    def pilot(self, num_rows: int, *, seed: int) -> FinetuneConfig:
        """How a pilot trains: the first steps of the whole training, at the same rates."""
        total = self.num_steps(num_rows)
        warmup = self.student.warmup_steps
        return dataclasses.replace(
            self.student,
            num_epochs=1,
            seed=seed,
            warmup_steps=max(1, round(self.student.warmup * total)) if warmup is None else warmup,
            schedule_steps=None if self.student.schedule == "constant" else self.student.schedule_steps or total,
        )


PRESETS = {"default": AuditConfig(), "embedded": AuditConfig(student=opened.EMBEDDED)}
