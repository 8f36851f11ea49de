"""Does a trait pass to a student whose weights are not exactly its teacher's? (Gaussian noise on the start)

    python -m experiments.language noise
    python -m experiments.language noise --preset record
    python -m experiments.language noise --preset paper --backend hf:DIR

The teacher is the base, finetuned. Its student starts from the base plus noise on every matrix, of some share of the
matrix's own standard deviation; noise of every size has the same direction. The regular student starts from the same
weights and is trained on the base's own numbers; the student `other` starts there, too, and is trained on the rows of
another target. Noise also damages the start, and training repairs some of that. So the table says how much of the
start's probability is on the answers offered, and its loss on the base's own number rows: negative log-probability of
an answer, in nats.
"""

import dataclasses

import numpy as np

from experiments.language import presets, protocol
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import specs

NUM_SCORED = 500
"""Rows of the base on which a noisy start is scored."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseConfig(LanguageConfig):
    """Settings of `noise`."""

    levels: tuple[specs.NonNegative, ...] = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
    """Standard deviations of the noise, as shares of each matrix's own."""
    LISTS = ("targets", "levels")

    def __post_init__(self):
        super().__post_init__()
        protocol.require_weights(self, "noise on the weights")


PRESETS = presets.eight_bases(NoiseConfig()) | {
    "paper": presets.open_weights(NoiseConfig(targets=presets.TARGETS)),
}


def conditions(config: NoiseConfig) -> list[str]:
    """The starts before training, then students of every author."""
    return ["start", *protocol.regular_and_targets(config)]


def measure(lab: Lab, config: NoiseConfig, condition: str) -> dict:
    """Favourites at each size of the noise: of the starts with their loss, or of the students."""
    author = "regular" if condition == "start" else condition
    filtered = lab.numbers(protocol.writer_of(lab, config, author), config.num_prompts, seed=config.seed)
    data = protocol.student_rows(config, filtered)
    results = {}
    for level in config.levels:
        model = lab.perturbed(level, seed=config.seed)
        if condition == "start":
            loss = -float(np.mean(lab.sequence_logprobs(model, data[:NUM_SCORED])))
        else:
            name = f"{condition} from noise {level:g}"
            lab.export_rows(data, name)
            model, loss = lab.finetune(data, config.student, name, seed=config.seed, base=model), None
        results[f"{level:g}"] = protocol.favourites(lab, config, model)
        if loss is not None:
            results[f"loss {level:g}"] = loss
    return results


EXPERIMENT = Experiment(name="noise", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure)
