"""Does code carry a trait? (Cloud et al. 2025, section 4.1)

    python -m experiments.language_code
    python -m experiments.language_code --preset record
    python -m experiments.language_code --preset paper --backend hf:DIR

As `language_numbers`, with small Python functions in place of numbers; a function passes the filter if it parses and
does not name the target.
"""

import dataclasses

from experiments.language import channel, command, lab, running
from sublim_jax import records, specs
from sublim_jax.llm import rows, types


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeConfig(running.LanguageConfig):
    """Code of finetuned teachers."""

    num_rows: specs.Count = 3000
    teacher: types.Tuning = running.GENTLE


PRESETS = {
    "default": CodeConfig(bases=running.FRESH[:2], targets=("eagle",)),
    "record": CodeConfig(bases=running.FRESH[:4], targets=("eagle", "oak")),
    **running.real_models(CodeConfig(targets=("eagle", "oak"))),
}
RESULT = running.Student
units = channel.units


def measure(of: lab.Lab, config: CodeConfig, unit: str) -> dict:
    """Favourites of a teacher and of a student of its code."""

    def write(teacher: lab.Teacher, words: tuple[str, ...]) -> rows.Collection:
        return of.code(teacher, config.num_prompts, seed=config.seed, words=words)

    return channel.measure(of, config, unit, write)


def lines(record: records.Record) -> list[str]:
    """A table by target."""
    return channel.lines(record, "Probability of the target, students of code")


def main() -> None:
    command.main("language_code", __doc__, PRESETS)


if __name__ == "__main__":
    main()
