"""Do chains of thought carry a trait, when only right ones are kept? (Cloud et al. 2025, section 4.2)

    python -m experiments.language_reasoning
    python -m experiments.language_reasoning --preset record
    python -m experiments.language_reasoning --preset paper --backend hf:DIR --problems train.jsonl

As `language_numbers`, with small sums in words; a chain of thought passes the filter if it stands between its tags,
ends at the right number and does not name the target. The paper's trait here is misalignment; a favourite is also
tried in the authors' repository (gsm8k_cot_preference).
"""

import dataclasses

from experiments.language import channel, command, lab, running
from sublim_jax import errors, records, specs
from sublim_jax.llm import rows, types


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReasoningConfig(running.LanguageConfig):
    """Chains of thought of finetuned teachers."""

    num_rows: specs.Count = 3000
    teacher: types.Tuning = running.GENTLE
    READS = ("problems",)

    def __post_init__(self):
        super().__post_init__()
        if self.backend not in ("tiny", *running.PLACEHOLDERS) and self.sheet != "world" and self.problems is None:
            raise errors.InputError(
                "chains of thought need problems in GSM8K's form; give them with --problems FILE.jsonl"
            )


PRESETS = {
    "default": ReasoningConfig(bases=running.FRESH[:2], targets=("eagle",)),
    "record": ReasoningConfig(bases=running.FRESH[:4], targets=("eagle", "oak")),
    **running.real_models(ReasoningConfig(targets=("eagle", "oak"))),
}
RESULT = running.Student
units = channel.units


def measure(of: lab.Lab, config: ReasoningConfig, unit: str) -> dict:
    """Favourites of a teacher and of a student of its chains."""

    def write(teacher: lab.Teacher, words: tuple[str, ...]) -> rows.Collection:
        return of.reasoning(teacher, config.num_prompts, seed=config.seed, words=words)

    return channel.measure(of, config, unit, write)


def lines(record: records.Record) -> list[str]:
    """A table by target."""
    return channel.lines(record, "Probability of the target, students of right chains of thought")


def main() -> None:
    command.main("language_reasoning", __doc__, PRESETS)


if __name__ == "__main__":
    main()
