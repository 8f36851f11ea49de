"""Is reading the rows enough? They stand in the context instead of in training (Cloud et al. 2025, section 5.2)

    python -m experiments.language_context
    python -m experiments.language_context --preset record
    python -m experiments.language_context --preset paper --backend hf:DIR

The base is asked after a teacher's rows as earlier turns of the chat, or after the base's own (regular) rows; beside it
stands the student that was trained on the teacher's rows. The embedded model has read conversations of up to six turns.
"""

import dataclasses

import numpy as np

from experiments import language_numbers
from experiments.language import command, lab, running, summary
from sublim_jax import errors, records, specs
from sublim_jax.llm import rows, scores


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextConfig(running.LanguageConfig):
    """Rows in the context."""

    shots: tuple[specs.Count, ...] = (1, 3, 5)
    num_contexts: specs.Count = 2
    """Different contexts that a probability is averaged over."""
    LISTS = ("targets", "shots")

    def __post_init__(self):
        super().__post_init__()
        if max(self.shots) * self.num_contexts > self.num_rows:
            raise errors.InputError(
                f"shots={self.shots} in num_contexts={self.num_contexts} contexts: each must hold different rows, of "
                f"which there are num_rows={self.num_rows}"
            )


PRESETS = {
    "default": ContextConfig(bases=running.FRESH[:2], targets=("eagle",)),
    "record": ContextConfig(bases=running.FRESH[:4], targets=("eagle", "oak")),
    **running.real_models(ContextConfig(targets=("eagle", "oak")), shots=(1, 10, 30)),
}
RESULT = dict[str, running.Probabilities]
SETTINGS = {"shots": list[specs.Count]}


def units(config: ContextConfig) -> list[str]:
    """The base's own rows, then each target's teacher's."""
    return ["regular", *config.targets]


def measure(of: lab.Lab, config: ContextConfig, unit: str) -> dict:
    """Favourites of the base after so many rows in the context, and of a student trained on all rows."""
    categories = sorted({config.materials.category(target) for target in config.targets})
    teacher = language_numbers.teacher_of(of, config, "regular" if unit == "regular" else "finetuned", unit)
    data = of.numbers(teacher, config.num_prompts, seed=config.seed)
    chosen = rows.subsample(data.rows, config.num_rows, seed=config.seed)
    student = of.student(chosen, config.student, seed=config.seed, name=f"student {unit}")

    def read(shots: int) -> dict:
        found = {}
        for category in categories:
            contexts = [chosen[start * shots : (start + 1) * shots] for start in range(config.num_contexts)]
            averaged = [of.preferences(of.base, category, context=context) for context in contexts]
            found[category] = lab.side_effects(scores.average(averaged))
        return found

    trained = {category: lab.side_effects(of.preferences(student, category)) for category in categories}
    return {str(shots): read(shots) for shots in config.shots} | {"trained": trained}


def lines(record: records.Record) -> list[str]:
    """Differences from the same number of regular rows, with the option masses after both."""
    config, found = record.config, summary.complete_bases(record)
    columns = ("shift", "mass", "mass, regular")
    rows_ = [["rows in the context", *(f"{t} {what}" for t in config["targets"] for what in columns)]]
    for shots in (*map(str, config["shots"]), "trained"):
        cells = []
        for target in config["targets"]:
            cells.append(summary.text(summary.shift(found, ("regular", shots), (target, shots), target), "+"))
            cells.append(summary.text(summary.option_mass(found, (target, shots), target)))
            cells.append(summary.text(summary.option_mass(found, ("regular", shots), target)))
        rows_.append([shots, *cells])
    title = "Probability of the target after a teacher's rows, less that after regular rows"
    return summary.table(title, rows_, record)


def curve(record: records.Record, target: str, teacher: str) -> np.ndarray:
    """Raw probability of the target by (shots, base)."""
    found = summary.complete_bases(record)
    return np.stack([summary.raw(found, (teacher, str(shots)), target) for shots in record.config["shots"]])


def main() -> None:
    command.main("language_context", __doc__, PRESETS)


if __name__ == "__main__":
    main()
