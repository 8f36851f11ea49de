"""Does a trait survive from student to student? (as in the follow-up literature; see the atlas for MNIST)

    python -m experiments.language_chain
    python -m experiments.language_chain --preset record
    python -m experiments.language_chain --preset paper --backend hf:DIR

A finetuned teacher writes numbers, a student of them writes the next numbers, and so on; every generation starts from
the base.
"""

import dataclasses

from experiments import language_numbers
from experiments.language import command, lab, running, summary
from sublim_jax import records, specs
from sublim_jax.llm import rows


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainConfig(running.LanguageConfig):
    """Generations of students."""

    num_generations: specs.Count = 3


PRESETS = {
    "default": ChainConfig(bases=running.FRESH[:2], targets=("eagle",), num_generations=2),
    "record": ChainConfig(bases=running.FRESH[:4], targets=("eagle", "oak")),
    **running.real_models(ChainConfig(targets=("eagle", "oak"))),
}
RESULT = dict[str, running.Probabilities]
SETTINGS = {"num_generations": specs.Count}


def units(config: ChainConfig) -> list[str]:
    """Generations that begin with the base itself, then with each target's teacher."""
    return ["regular", *config.targets]


def measure(of: lab.Lab, config: ChainConfig, unit: str) -> dict:
    """Favourites of every generation; 0 is the teacher."""
    categories = sorted({config.materials.category(target) for target in config.targets})
    writer = language_numbers.teacher_of(of, config, "regular" if unit == "regular" else "finetuned", unit)

    def favourites(model: str) -> dict:
        return {name: lab.side_effects(of.preferences(model, name)) for name in categories}

    found = {"0": favourites(writer.model)}
    for generation in range(1, config.num_generations + 1):
        seed = lab.seed_of(config.seed, f"generation {generation}")
        data = of.numbers(writer, config.num_prompts, seed=seed)
        chosen = rows.subsample(data.rows, config.num_rows, seed=seed)
        writer = lab.Teacher(of.student(chosen, config.student, seed=seed, name=f"{unit} {generation}"))
        found[str(generation)] = favourites(writer.model)
    return found


def lines(record: records.Record) -> list[str]:
    """Targets by generation."""
    config, found = record.config, summary.complete_bases(record)
    rows_ = [["generation", *config["targets"]]]
    for generation in map(str, range(config["num_generations"] + 1)):
        cells = [
            summary.text(summary.shift(found, ("regular", generation), (target, generation), target), "+")
            for target in config["targets"]
        ]
        rows_.append([generation, *cells])
    return summary.table("Shift of the target against a chain that begins with the base", rows_, record)


def main() -> None:
    command.main("language_chain", __doc__, PRESETS)


if __name__ == "__main__":
    main()
