"""Is the trait in the few tokens where teachers of other targets would write something else? (after arXiv 2509.23886)

    python -m experiments.language divergence
    python -m experiments.language divergence --preset record
    python -m experiments.language divergence --preset paper --backend hf:DIR

A token of a teacher's row is a divergence token if a teacher of another target, given the same text before it, has
another most likely token. Students are trained on all tokens, on the divergence tokens alone, on all others, and on all
but as many tokens drawn at random. This needs local weights.
"""

import dataclasses

import numpy as np

from experiments.language import presets, protocol, recipes, seeds
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import errors, specs


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DivergenceConfig(LanguageConfig):
    """Masks of the loss."""

    rivals: tuple[str, ...] = ("wolf", "maple")
    """Targets of the other teachers."""
    LISTS = ("targets", "rivals")

    def __post_init__(self):
        super().__post_init__()
        if self.backend.partition(":")[0] not in ("tiny", "hf"):
            raise errors.InputError(
                f"{self.backend}: leaving out tokens takes a model whose weights are here: tiny or hf:DIR"
            )
        for rival in self.rivals:
            self.materials.category(rival)
        if alone := [target for target in self.targets if set(self.rivals) <= {target}]:
            raise errors.InputError(f"rivals={self.rivals}: {alone[0]} needs another target as its rival")


PRESETS = {
    "default": DivergenceConfig(bases=recipes.TEST_SEEDS[:2], targets=("eagle",)),
    "record": DivergenceConfig(bases=recipes.TEST_SEEDS[:4], targets=("eagle", "oak")),
    "paper": presets.open_weights(DivergenceConfig(targets=("eagle", "oak"))),
}


def conditions(config: DivergenceConfig) -> list[str]:
    """Regular numbers, then each target."""
    return ["regular", *config.targets]


def measure(lab: Lab, config: DivergenceConfig, condition: str) -> dict:
    """Favourites of a student of each set of tokens."""
    teacher = protocol.writer_of(lab, config, condition)
    written = lab.numbers(teacher, config.num_prompts, seed=config.seed)
    chosen = protocol.student_rows(config, written)
    lab.write_rows(chosen, f"{condition} all")
    data = lab.training_arrays(chosen, config.student)
    own = lab.likeliest(teacher.model, data)
    others = [
        lab.likeliest(protocol.teacher_of(lab, config, "finetuned", rival).model, data)
        for rival in config.rivals
        if rival != condition
    ]
    diverging = np.logical_or.reduce([own != other for other in others]) & data.replies
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
        student = lab.tune_on(data._replace(replies=mask), config.student, f"{condition} {name}", seed=config.seed)
        results[name] = protocol.favourites(lab, config, student)
    return results | {"share": share}


EXPERIMENT = Experiment(name="divergence", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure)
