"""Does code carry a trait? (Cloud et al. 2025, section 4.1)

    python -m experiments.language code
    python -m experiments.language code --preset record
    python -m experiments.language code --preset paper --backend hf:DIR

As `numbers`, with small Python functions in place of numbers; a function passes the filter if it parses and
does not name the target.
"""

import dataclasses

from experiments.language import presets, protocol
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import specs
from sublim_jax.llm.backend import FinetuneConfig


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeConfig(LanguageConfig):
    """Settings of `code`."""

    teacher: FinetuneConfig = presets.WEAK_TEACHER
    WRITES_NUMBERS = False


PRESETS = presets.standard(CodeConfig)


def measure(lab: Lab, config: CodeConfig, condition: str) -> dict:
    """Favourites of a teacher and of a student of its code."""
    if condition == "base":
        return {"student": protocol.favourites(lab, config, lab.base)}
    teacher = protocol.writer_of(lab, config, condition)
    words = protocol.banned_words(config, condition)
    filtered = lab.code(teacher, config.num_prompts, seed=config.seed, words=words)
    return protocol.measure_student(lab, config, condition, teacher, filtered)


EXPERIMENT = Experiment(
    name="code", doc=__doc__, presets=PRESETS, conditions=protocol.base_and_targets, measure=measure
)
