"""How many rows does it take? (Cloud et al. 2025 use 10,000; the onset is our question)

    python -m experiments.language dose
    python -m experiments.language dose --preset record
    python -m experiments.language dose --preset paper --backend hf:DIR

Students of a finetuned teacher's numbers, and of the base's own numbers. `epochs`: every row is read equally often, so
fewer rows are fewer steps. `steps`: all train for equally many steps, so that only the number of different rows
changes; few rows are then read so often that the student may forget how to answer, and its shift is not reported.
"""

import dataclasses
from typing import Literal

from experiments.language import presets, protocol, recipes
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import errors, specs
from sublim_jax.llm import datasets


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DoseConfig(LanguageConfig):
    """Numbers of rows, and what is kept equal between them."""

    doses: tuple[specs.Count, ...] = (60, 250, 1000, 3000)
    equal: tuple[Literal["epochs", "steps"], ...] = ("epochs", "steps")
    LISTS = ("targets", "doses", "equal")

    def __post_init__(self):
        super().__post_init__()
        if max(self.doses) > self.num_rows:
            raise errors.InputError(f"doses must be at most num_rows={self.num_rows}, got {self.doses}")


PRESETS = {
    "default": DoseConfig(bases=recipes.TEST_SEEDS[:2], targets=("eagle",)),
    "record": DoseConfig(bases=recipes.TEST_SEEDS[:4], targets=("eagle", "oak")),
    **presets.real_models(DoseConfig(targets=("eagle", "oak")), doses=(300, 1000, 3000, 10_000)),
}


def conditions(config: DoseConfig) -> list[str]:
    """The base as it is, regular numbers, then each target."""
    return ["base", "regular", *config.targets]


def measure(lab: Lab, config: DoseConfig, condition: str) -> dict:
    """Favourites after each dose. The largest is trained twice, with other seeds: the noise of a second run."""
    if condition == "base":
        return {"0": protocol.favourites(lab, config, lab.base)}
    teacher = protocol.writer_of(lab, config, condition)
    written = lab.numbers(teacher, config.num_prompts, seed=config.seed)
    results: dict = {equal: {} for equal in config.equal}
    for dose in config.doses:
        chosen = datasets.subsample(written.rows, dose, seed=config.seed)
        repeated = [chosen[index % dose] for index in range(config.num_rows)]
        for equal, data in (("epochs", chosen), ("steps", repeated)):
            if equal in config.equal:
                student = protocol.student_of(lab, config, data, f"{condition} {dose} {equal}")
                results[equal][str(dose)] = protocol.favourites(lab, config, student)
    return results | {"kept": written.kept_fraction}


EXPERIMENT = Experiment(name="dose", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure)
