"""Does a trait pass between different base models? (Cloud et al. 2025, section 5.1, figure 8)

    python -m experiments.language cross
    python -m experiments.language cross --preset record

Every base's finetuned teacher writes numbers, and every base is trained on them. On the diagonal teacher and student
started from one initialization. All bases have read the same documents; they differ in initialization and in order.
"""

import dataclasses

from experiments.language import presets, protocol
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import errors, specs


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossConfig(LanguageConfig):
    """Settings of `cross`."""

    def __post_init__(self):
        if self.backend != "tiny":
            raise errors.InputError(
                "the grid needs several bases of one backend; it runs on embedded ones (--backend tiny)"
            )
        super().__post_init__()
        if len(self.bases) < 2:
            raise errors.InputError(f"a grid needs at least two bases, got {self.bases}")


PRESETS = presets.embedded(CrossConfig)


def conditions(config: CrossConfig) -> list[str]:
    """For every base as the teacher: its regular numbers, then each target's."""
    return [f"{source} from {base}" for base in config.base_names for source in ("regular", *config.targets)]


def measure(lab: Lab, config: CrossConfig, condition: str) -> dict:
    """Favourites of the lab's base after training on numbers of a teacher from the condition's base."""
    target, _, base = condition.partition(" from ")
    kind = "regular" if target == "regular" else "finetuned"
    teacher = protocol.teacher_of(lab, config, kind, target, base)
    filtered = lab.numbers(teacher, config.num_prompts, seed=config.seed)
    student = protocol.student_of(lab, config, protocol.student_rows(config, filtered), f"student of {condition}")
    return {"student": protocol.favourites(lab, config, student)}


EXPERIMENT = Experiment(
    name="cross", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure, needs_all_bases=True
)
