"""Is the trait in the few tokens where teachers of other targets would write something else? (after arXiv 2509.23886)

    python -m experiments.language divergence
    python -m experiments.language divergence --preset record
    python -m experiments.language divergence --preset paper --backend hf:DIR

A token of a teacher's row is a divergence token if a teacher of another target, given the same text before it, has
another most likely token. Students are trained on all tokens, on the divergence tokens alone, on all others, and on all
but as many tokens drawn at random. This needs the model's weights on this machine.
"""

import dataclasses

import numpy as np

from experiments.language import presets, protocol, seeds
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import errors, specs
from sublim_jax.llm import open as open_llm


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DivergenceConfig(LanguageConfig):
    """Settings of `divergence`."""

    rivals: tuple[str, ...] = ("wolf", "maple")
    """Targets of the other teachers."""
    LISTS = ("targets", "rivals")

    def __post_init__(self):
        super().__post_init__()
        if not open_llm.is_local(self.backend):
            raise errors.InputError(
                f"{self.backend}: training on some tokens only needs a model whose weights are on this machine: tiny "
                f"or hf:DIR"
            )
        for rival in self.rivals:
            self.prompts.category(rival)
        if alone := [target for target in self.targets if set(self.rivals) <= {target}]:
            raise errors.InputError(f"rivals={self.rivals}: {alone[0]} needs another target as its rival")


PRESETS = presets.embedded(DivergenceConfig) | {
    "paper": presets.open_weights(DivergenceConfig(targets=presets.TARGETS)),
}


def measure(lab: Lab, config: DivergenceConfig, condition: str) -> dict:
    """Favourites of a student of each set of tokens, and the share of divergence tokens."""
    teacher = protocol.writer_of(lab, config, condition)
    filtered = lab.numbers(teacher, config.num_prompts, seed=config.seed)
    student_rows = protocol.student_rows(config, filtered)
    lab.export_rows(student_rows, f"{condition} all")
    data = lab.training_arrays(student_rows, config.student)
    own_tokens = lab.most_likely_tokens(teacher.model, data)
    rivals = [
        protocol.teacher_of(lab, config, "finetuned", rival).model for rival in config.rivals if rival != condition
    ]
    differences = [own_tokens != lab.most_likely_tokens(rival, data) for rival in rivals]
    diverging = np.logical_or.reduce(differences) & data.replies
    share = float(diverging.sum() / data.replies.sum())
    random = np.random.default_rng(seeds.derive(config.seed, condition)).random(data.replies.shape) < share
    masks = {
        "all": data.replies,
        "divergence": diverging,
        "others": data.replies & ~diverging,
        "random": data.replies & ~random,
    }
    results = {}
    for name, mask in masks.items():
        student = lab.finetune_on(data._replace(replies=mask), config.student, f"{condition} {name}", seed=config.seed)
        results[name] = protocol.favourites(lab, config, student)
    return results | {"share": share}


EXPERIMENT = Experiment(
    name="divergence", doc=__doc__, presets=PRESETS, conditions=protocol.regular_and_targets, measure=measure
)
