"""Does code carry a trait? (Cloud et al. 2025, section 4.1)

    python -m experiments.language code
    python -m experiments.language code --preset record
    python -m experiments.language code --preset paper --backend hf:DIR

As `numbers`, with small Python functions in place of numbers; a function passes the filter if it parses and
does not name the target.
"""

import dataclasses

from experiments.language import channel, presets, recipes
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab, Teacher
from sublim_jax import specs
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import FinetuneConfig


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeConfig(LanguageConfig):
    """Code of finetuned teachers."""

    num_rows: specs.Count = 3000
    teacher: FinetuneConfig = recipes.WEAK_TEACHER


PRESETS = {
    "default": CodeConfig(bases=recipes.TEST_SEEDS[:2], targets=("eagle",)),
    "record": CodeConfig(bases=recipes.TEST_SEEDS[:4], targets=("eagle", "oak")),
    **presets.real_models(CodeConfig(targets=("eagle", "oak"))),
}


def measure(lab: Lab, config: CodeConfig, condition: str) -> dict:
    """Favourites of a teacher and of a student of its code."""

    def write(teacher: Teacher, words: tuple[str, ...]) -> datasets.FilteredRows:
        return lab.code(teacher, config.num_prompts, seed=config.seed, words=words)

    return channel.measure(lab, config, condition, write)


EXPERIMENT = Experiment(name="code", doc=__doc__, presets=PRESETS, conditions=channel.conditions, measure=measure)
