"""Is reading the rows enough? They are in the context instead of the training data (Cloud et al. 2025, section 5.2)

    python -m experiments.language context
    python -m experiments.language context --preset record
    python -m experiments.language context --preset paper --backend hf:DIR

The base is asked after a teacher's rows as earlier turns of the chat, or after the base's own (regular) rows; the
comparison is a student trained on the teacher's rows. The embedded model was pre-trained on conversations of up to six
turns.
"""

import dataclasses

from experiments.language import presets, protocol
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import errors, specs
from sublim_jax.llm import scores


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextConfig(LanguageConfig):
    """Settings of `context`."""

    shots: tuple[specs.Count, ...] = (1, 3, 5)
    """Numbers of rows in the context."""
    num_contexts: specs.Count = 2
    """Number of contexts with different rows; probabilities are averaged over them."""
    LISTS = ("targets", "shots")

    def __post_init__(self):
        super().__post_init__()
        if max(self.shots) * self.num_contexts > self.num_rows:
            raise errors.InputError(
                f"shots={self.shots} in num_contexts={self.num_contexts} contexts: each must hold different rows, and "
                f"there are num_rows={self.num_rows}"
            )


PRESETS = presets.standard(ContextConfig, shots=(1, 10, 30))


def measure(lab: Lab, config: ContextConfig, condition: str) -> dict:
    """Favourites of the base with each number of rows in its context, and of a student trained on all rows."""
    teacher = protocol.writer_of(lab, config, condition)
    filtered = lab.numbers(teacher, config.num_prompts, seed=config.seed)
    data = protocol.student_rows(config, filtered)
    student = protocol.student_of(lab, config, data, f"student {condition}")

    def favourites(shots: int) -> protocol.Favourites:
        contexts = [data[start * shots : (start + 1) * shots] for start in range(config.num_contexts)]
        return {
            category: protocol.probabilities(
                scores.average([lab.preferences(lab.base, category, context=context) for context in contexts])
            )
            for category in config.categories
        }

    trained = protocol.favourites(lab, config, student)
    return {str(shots): favourites(shots) for shots in config.shots} | {"trained": trained}


EXPERIMENT = Experiment(
    name="context", doc=__doc__, presets=PRESETS, conditions=protocol.regular_and_targets, measure=measure
)
