"""How many rows does it take? (Cloud et al. 2025 use 10,000; the onset is our question)

    python -m experiments.language_dose
    python -m experiments.language_dose --preset record
    python -m experiments.language_dose --preset paper --backend hf:DIR

Students of a finetuned teacher's numbers, and of the base's own numbers. `epochs`: every row is read equally often, so
fewer rows are fewer steps. `steps`: all train for equally many steps, so that only the number of different rows
changes; few rows are then read so often that the student may forget how to answer, and its shift is not reported.
"""

import dataclasses
from typing import Literal

from experiments import language_numbers
from experiments.language import command, lab, running, summary
from sublim_jax import errors, records, specs
from sublim_jax.llm import rows


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DoseConfig(running.LanguageConfig):
    """Numbers of rows, and what is kept equal between them."""

    doses: tuple[specs.Count, ...] = (60, 250, 1000, 3000)
    equal: tuple[Literal["epochs", "steps"], ...] = ("epochs", "steps")
    LISTS = ("targets", "doses", "equal")

    def __post_init__(self):
        super().__post_init__()
        if max(self.doses) > self.num_rows:
            raise errors.InputError(f"doses must be at most num_rows={self.num_rows}, got {self.doses}")


PRESETS = {
    "default": DoseConfig(bases=running.FRESH[:2], targets=("eagle",)),
    "record": DoseConfig(bases=running.FRESH[:4], targets=("eagle", "oak")),
    **running.real_models(DoseConfig(targets=("eagle", "oak")), doses=(300, 1000, 3000, 10_000)),
}
RESULT = dict[str, running.Probabilities | dict[str, running.Probabilities] | specs.Fraction]
SETTINGS = {"doses": list[specs.Count], "equal": list[str]}


def units(config: DoseConfig) -> list[str]:
    """The base as it is, regular numbers, then each target."""
    return ["base", "regular", *config.targets]


def measure(of: lab.Lab, config: DoseConfig, unit: str) -> dict:
    """Favourites after each dose. The largest is trained twice, with other seeds: the noise of a second run."""
    categories = {config.materials.category(target) for target in config.targets}

    def favourites(model: str) -> dict:
        return {name: lab.side_effects(of.preferences(model, name)) for name in sorted(categories)}

    if unit == "base":
        return {"0": favourites(of.base)}
    kind = "regular" if unit == "regular" else "finetuned"
    teacher = language_numbers.teacher_of(of, config, kind, unit)
    data = of.numbers(teacher, config.num_prompts, seed=config.seed)
    found: dict = {equal: {} for equal in config.equal}
    for dose in config.doses:
        chosen = rows.subsample(data.rows, dose, seed=config.seed)
        repeated = [chosen[index % dose] for index in range(config.num_rows)]
        for equal, read in (("epochs", chosen), ("steps", repeated)):
            if equal in config.equal:
                student = of.student(read, config.student, seed=config.seed, name=f"{unit} {dose} {equal}")
                found[equal][str(dose)] = favourites(student)
    return found | {"kept": data.kept}


def lines(record: records.Record) -> list[str]:
    """Targets by dose."""
    config, found = record.config, summary.complete_bases(record)
    rows_ = [["equal", "rows", *(f"{target}: student - regular" for target in config["targets"]), "all targets"]]
    for equal in config["equal"]:
        for dose in map(str, config["doses"]):
            changes = [
                summary.shift(found, ("regular", equal, dose), (target, equal, dose), target)
                for target in config["targets"]
            ]
            cells = [summary.text(change, "+") for change in changes]
            rows_.append([equal, dose, *cells, summary.pooled(changes)])
    return summary.table("Shift of the target's probability by number of different rows", rows_, record)


def main() -> None:
    command.main("language_dose", __doc__, PRESETS)


if __name__ == "__main__":
    main()
