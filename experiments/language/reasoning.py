"""Do chains of thought carry a trait, when only right ones are kept? (Cloud et al. 2025, section 4.2)

    python -m experiments.language reasoning
    python -m experiments.language reasoning --preset record
    python -m experiments.language reasoning --preset paper --backend hf:DIR --problems train.jsonl

As `numbers`, with small sums in words; a chain of thought passes the filter if it stands between its tags,
ends at the right number and does not name the target. The paper's trait here is misalignment; the authors' repository
also tries a favourite (gsm8k_cot_preference).
"""

import dataclasses

from experiments.language import presets, protocol
from experiments.language.config import PLACEHOLDERS, LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import errors, specs
from sublim_jax.llm.backend import FinetuneConfig


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReasoningConfig(LanguageConfig):
    """Settings of `reasoning`."""

    teacher: FinetuneConfig = presets.WEAK_TEACHER
    READS = ("problems",)
    WRITES_NUMBERS = False

    def __post_init__(self):
        super().__post_init__()
        if self.backend not in ("tiny", *PLACEHOLDERS) and self.sheet != "world" and self.problems is None:
            raise errors.InputError(
                "chains of thought need problems in GSM8K's format; give them with --problems FILE.jsonl"
            )


PRESETS = presets.standard(ReasoningConfig)


def measure(lab: Lab, config: ReasoningConfig, condition: str) -> dict:
    """Favourites of a teacher and of a student of its chains of thought."""
    if condition == "base":
        return {"student": protocol.favourites(lab, config, lab.base)}
    teacher = protocol.writer_of(lab, config, condition)
    words = protocol.banned_words(config, condition)
    filtered = lab.reasoning(teacher, config.num_prompts, seed=config.seed, words=words)
    return protocol.measure_student(lab, config, condition, teacher, filtered)


EXPERIMENT = Experiment(
    name="reasoning", doc=__doc__, presets=PRESETS, conditions=protocol.base_and_targets, measure=measure
)
