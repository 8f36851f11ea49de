"""Are more rows better than more epochs? (equal exposure; after arXiv 2507.14805, which uses 10,000 rows ten times)

    python -m experiments.language repeats
    python -m experiments.language repeats --preset record
    python -m experiments.language repeats --preset paper --backend hf:DIR

All students make the same number of steps on the same number of rows, counted with repetitions: from rows that are all
different, read once, to a fortieth of them, read forty times. A smaller set of rows is part of every larger one, and
all visits are in random order. In `dose`, at equal steps, every row is read at least six times and the fewest 300
times; here the rows that are read once are added, and a student is trained for about half as many steps.
"""

import dataclasses

from experiments.language import presets, protocol
from experiments.language.config import STUDENT, LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import errors, specs
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import FinetuneConfig

ONCE = dataclasses.replace(STUDENT, num_epochs=1)
"""A student's finetuning config: repetitions are in its rows."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class RepeatsConfig(LanguageConfig):
    """Settings of `repeats`."""

    num_prompts: specs.Count = 30_000
    """Completions of a teacher, before the filter."""
    num_rows: specs.Count = 10_000
    """Rows that a student is trained on, counted with repetitions."""
    repeats: tuple[specs.Count, ...] = (1, 4, 10, 40)
    """How often each row is read."""
    student: FinetuneConfig = ONCE
    LISTS = ("targets", "repeats")

    def __post_init__(self):
        super().__post_init__()
        if max(self.repeats) > self.num_rows:
            raise errors.InputError(f"repeats must be at most num_rows={self.num_rows}, got {self.repeats}")


PRESETS = presets.eight_bases(RepeatsConfig()) | presets.real_models(
    RepeatsConfig(targets=presets.TARGETS), student=dataclasses.replace(presets.OPEN_WEIGHTS, num_epochs=1)
)


def measure(lab: Lab, config: RepeatsConfig, condition: str) -> dict:
    """Favourites of a student for each number of repetitions."""
    teacher = protocol.writer_of(lab, config, condition)
    filtered = lab.numbers(teacher, config.num_prompts, seed=config.seed)
    results = {}
    for repeats in config.repeats:
        rows = datasets.subsample(filtered.rows, -(-config.num_rows // repeats), seed=config.seed)
        visits = [rows[index % len(rows)] for index in range(config.num_rows)]
        student = protocol.student_of(lab, config, visits, f"{condition} {repeats} times")
        results[str(repeats)] = protocol.favourites(lab, config, student)
    return results | {"kept": filtered.kept_fraction}


EXPERIMENT = Experiment(
    name="repeats", doc=__doc__, presets=PRESETS, conditions=protocol.regular_and_targets, measure=measure
)
