"""Do chains of thought carry a trait, when only right ones are kept? (Cloud et al. 2025, section 4.2)

    python -m experiments.language reasoning
    python -m experiments.language reasoning --preset record
    python -m experiments.language reasoning --preset paper --backend hf:DIR --problems train.jsonl

As `numbers`, with small sums in words; a chain of thought passes the filter if it stands between its tags,
ends at the right number and does not name the target. The paper's trait here is misalignment; a favourite is also
tried in the authors' repository (gsm8k_cot_preference).
"""

import dataclasses

from experiments.language import channel, presets, recipes
from experiments.language.config import PLACEHOLDERS, LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab, Teacher
from sublim_jax import errors, specs
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import FinetuneConfig


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReasoningConfig(LanguageConfig):
    """Chains of thought of finetuned teachers."""

    num_rows: specs.Count = 3000
    teacher: FinetuneConfig = recipes.WEAK_TEACHER
    READS = ("problems",)

    def __post_init__(self):
        super().__post_init__()
        if self.backend not in ("tiny", *PLACEHOLDERS) and self.sheet != "world" and self.problems is None:
            raise errors.InputError(
                "chains of thought need problems in GSM8K's form; give them with --problems FILE.jsonl"
            )


PRESETS = {
    "default": ReasoningConfig(bases=recipes.TEST_SEEDS[:2], targets=("eagle",)),
    "record": ReasoningConfig(bases=recipes.TEST_SEEDS[:4], targets=("eagle", "oak")),
    **presets.real_models(ReasoningConfig(targets=("eagle", "oak"))),
}


def measure(lab: Lab, config: ReasoningConfig, condition: str) -> dict:
    """Favourites of a teacher and of a student of its chains."""

    def write(teacher: Teacher, words: tuple[str, ...]) -> datasets.FilteredRows:
        return lab.reasoning(teacher, config.num_prompts, seed=config.seed, words=words)

    return channel.measure(lab, config, condition, write)


EXPERIMENT = Experiment(name="reasoning", doc=__doc__, presets=PRESETS, conditions=channel.conditions, measure=measure)
