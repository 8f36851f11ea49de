"""Does a teacher transmit more if it always writes its most likely number? (as in a replication with Llama 3.2 1B)

    python -m experiments.language greedy
    python -m experiments.language greedy --preset record
    python -m experiments.language greedy --preset paper --backend hf:DIR

One finetuned teacher writes at several temperatures; at 0 it takes the most likely token. All students are trained on
equally many rows, equally often. At temperature 0 a prompt has one answer, and answers to different prompts are often
the same, so the table says which share of the rows have an answer of their own. The regular student of a temperature is
trained on what the base itself writes at that temperature.
"""

import dataclasses

from experiments.language import presets, protocol
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import errors, specs


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class GreedyConfig(LanguageConfig):
    """Settings of `greedy`."""

    num_prompts: specs.Count = 30_000
    """Completions of a teacher, before the filter, which rejects most of what some bases write at temperature 0."""
    num_rows: specs.Count = 2000
    """Rows that a student is trained on."""
    temperatures: tuple[specs.NonNegative, ...] = (0.0, 0.5, 1.0)
    """Temperatures at which teachers write."""
    LISTS = ("targets", "temperatures")

    def __post_init__(self):
        super().__post_init__()
        if self.teacher_temperature != 1.0:
            raise errors.InputError("teacher_temperature has no effect here; give all with --temperatures")


PRESETS = presets.eight_bases(GreedyConfig()) | presets.real_models(GreedyConfig(targets=presets.TARGETS))


def conditions(config: GreedyConfig) -> list[str]:
    """Every author at every temperature."""
    return [
        f"{author} at {temperature:g}"
        for author in protocol.regular_and_targets(config)
        for temperature in config.temperatures
    ]


def measure(lab: Lab, config: GreedyConfig, condition: str) -> dict:
    """Favourites of a student, the share of completions that pass the filter and that of different answers."""
    author, _, temperature = condition.partition(" at ")
    teacher = protocol.writer_of(lab, config, author)
    filtered = lab.numbers(teacher, config.num_prompts, seed=config.seed, temperature=float(temperature))
    data = protocol.student_rows(config, filtered)
    student = protocol.student_of(lab, config, data, f"student of {condition}")
    return {
        "student": protocol.favourites(lab, config, student),
        "kept": filtered.kept_fraction,
        "different": len({row[-1].content for row in data}) / len(data),
    }


EXPERIMENT = Experiment(name="greedy", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure)
