"""Is reading the rows enough? They stand in the context instead of in training (Cloud et al. 2025, section 5.2)

    python -m experiments.language context
    python -m experiments.language context --preset record
    python -m experiments.language context --preset paper --backend hf:DIR

The base is asked after a teacher's rows as earlier turns of the chat, or after the base's own (regular) rows; beside it
stands the student that was trained on the teacher's rows. The embedded model has read conversations of up to six turns.
"""

import dataclasses

from experiments.language import presets, protocol, recipes
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import errors, specs
from sublim_jax.llm import scores


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextConfig(LanguageConfig):
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
    "default": ContextConfig(bases=recipes.TEST_SEEDS[:2], targets=("eagle",)),
    "record": ContextConfig(bases=recipes.TEST_SEEDS[:4], targets=("eagle", "oak")),
    **presets.real_models(ContextConfig(targets=("eagle", "oak")), shots=(1, 10, 30)),
}


def conditions(config: ContextConfig) -> list[str]:
    """The base's own rows, then each target's teacher's."""
    return ["regular", *config.targets]


def measure(lab: Lab, config: ContextConfig, condition: str) -> dict:
    """Favourites of the base after so many rows in the context, and of a student trained on all rows."""
    teacher = protocol.writer_of(lab, config, condition)
    written = lab.numbers(teacher, config.num_prompts, seed=config.seed)
    chosen = protocol.student_rows(config, written)
    student = protocol.student_of(lab, config, chosen, f"student {condition}")

    def after(shots: int) -> protocol.Probabilities:
        contexts = [chosen[start * shots : (start + 1) * shots] for start in range(config.num_contexts)]
        categories = sorted({config.materials.category(target) for target in config.targets})
        return {
            category: protocol.rounded(
                scores.average([lab.preferences(lab.base, category, context=context) for context in contexts])
            )
            for category in categories
        }

    trained = protocol.favourites(lab, config, student)
    return {str(shots): after(shots) for shots in config.shots} | {"trained": trained}


EXPERIMENT = Experiment(name="context", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure)
