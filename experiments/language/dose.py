"""How many rows does it take? (Cloud et al. 2025 use 10,000; the onset is our question)

    python -m experiments.language dose
    python -m experiments.language dose --preset record
    python -m experiments.language dose --preset paper --backend hf:DIR

Students of a finetuned teacher's numbers, and of the base's own numbers. `epochs`: all train for equally many epochs,
so fewer rows are fewer steps. `steps`: all train for equally many steps, so that only the number of different rows
changes; few rows are then read so often that the student may forget how to answer, and its shift is not reported.
"""

import dataclasses
from typing import Literal

from experiments.language import presets, protocol
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import errors, specs
from sublim_jax.llm import rows


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DoseConfig(LanguageConfig):
    """Settings of `dose`."""

    doses: tuple[specs.Count, ...] = (60, 250, 1000, 3000)
    """Numbers of different rows."""
    equal: tuple[Literal["epochs", "steps"], ...] = ("epochs", "steps")
    """What is equal for all doses."""
    LISTS = ("targets", "doses", "equal")

    def __post_init__(self):
        super().__post_init__()
        if max(self.doses) > self.num_rows:
            raise errors.InputError(f"doses must be at most num_rows={self.num_rows}, got {self.doses}")


PRESETS = presets.standard(DoseConfig, doses=(300, 1000, 3000, 10_000))


def measure(lab: Lab, config: DoseConfig, condition: str) -> dict:
    """Favourites after each dose. If the largest dose is `num_rows`, its two students differ in their seeds only."""
    if condition == "base":
        return {"0": protocol.favourites(lab, config, lab.base)}
    teacher = protocol.writer_of(lab, config, condition)
    filtered = lab.numbers(teacher, config.num_prompts, seed=config.seed)
    results: dict = {equal: {} for equal in config.equal}
    for dose in config.doses:
        once = rows.subsample(filtered.rows, dose, seed=config.seed)
        repeated = [once[index % dose] for index in range(config.num_rows)]
        for equal, data in (("epochs", once), ("steps", repeated)):
            if equal in config.equal:
                student = protocol.student_of(lab, config, data, f"{condition} {dose} {equal}")
                results[equal][str(dose)] = protocol.favourites(lab, config, student)
    return results | {"kept": filtered.kept}


EXPERIMENT = Experiment(
    name="dose", doc=__doc__, presets=PRESETS, conditions=protocol.base_and_targets, measure=measure
)
