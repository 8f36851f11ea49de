"""How much work an experiment is, and about how long it takes, counted before anything is opened."""

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax

from experiments import cost, progress
from experiments.language import dry_run
from experiments.language.config import LanguageConfig
from experiments.language.dry_run import DryRunBackend, DryRunLab
from experiments.language.experiment import Experiment
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.local import adapters, decoder, gguf, model_config
from sublim_jax.models import matmul


class Signal(NamedTuple):
    """How much of a teacher's trait one of its sampled rows carries, as it was found on one model."""

    model: str
    per_row: float  # mean change of the trait by training on a row, in standard deviations of the change by one row

    def rows_for(self, standard_errors: float) -> float:
        """Rows of each of two students, one of the teacher's rows, whose difference is so many standard errors: the
        noise of both counts, and only the teacher's rows have a signal."""
        return 2 * (standard_errors / self.per_row) ** 2


SIGNALS = (
    Signal("an estimate to first order on SmolLM2-135M-Instruct, for a weak teacher", 8.7 / 398),
    Signal(
        "a published run of Pythia-160M, ahead in 79 of 80 pairs of 256 rows each",
        2.2414 / math.sqrt(256 / 2),
    ),
)
"""Source of the first: a study for this project in November 2026, not recorded: 32 rows of 20 tokens that the base
sampled, whose log-probabilities change along the gradient of the log-odds of owl with standard deviation 398, where a
teacher of eight steps of full finetuning makes the mean 8.7. Source of the second: davidcrispell, `Polypythia-SL`, v3,
July 2026; 2.2414 is the normal quantile of 79/80."""

SERVED = "the model is on another machine"


@dataclasses.dataclass(frozen=True)
class Workload:
    """Operations of an experiment, per weight of the model."""

    conditions: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Operations of each condition on one base."""
    opening: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Operations of pre-training each embedded base that is not in the cache."""
    summary: Sequence[str] = ()
    """Lines that say what one base is asked for."""

    def total(self, missing: Mapping[str, Sequence[str]]) -> float:
        """Operations of the conditions that are missing on each base."""
        opening = sum(self.opening.get(base, 0.0) for base, conditions in missing.items() if conditions)
        return opening + sum(self.conditions[condition] for conditions in missing.values() for condition in conditions)

    def seconds(self, config: LanguageConfig, missing: Mapping[str, Sequence[str]], num_devices: int) -> float | None:
        """About how long the missing conditions take; None if the model is on another machine or not there."""
        num_weights = _num_weights(config)
        if num_weights is None or not self.conditions:
            return None
        num_bases = sum(bool(conditions) for conditions in missing.values())
        if num_bases == 0:
            return 0.0
        rounds = -(-num_bases // num_devices)  # bases that one device opens
        rate = (
            cost.rate("float32")
            if config.backend == "tiny"
            else cost.rate(matmul.fastest_precision()) * jax.device_count()
        )
        return rounds * self.total(missing) / num_bases * num_weights / rate

    def estimate(self, config: LanguageConfig, missing: Mapping[str, Sequence[str]], num_devices: int) -> list[str]:
        """A line that says how long the missing conditions take."""
        seconds = self.seconds(config, missing, num_devices)
        if seconds is None:
            absent = f"there is no model at {config.backend}" if open_llm.is_local(config.backend) else SERVED
            return [f"how long this takes is known after the first condition: {absent}"]
        num_pretrained = sum(base in self.opening for base, conditions in missing.items() if conditions)
        also = f", pre-training of {num_pretrained} base(s) included" if num_pretrained else ""
        where = f"{num_devices} x {jax.devices()[0].device_kind}"
        return [f"this takes about {progress.duration(seconds)} on {where}, by matrix products timed just now{also}"]


def _num_weights(config: LanguageConfig) -> int | None:
    """Number of the model's weights; None if they are on another machine or not there."""
    if config.backend == "tiny":
        return embedded.number_of_parameters()
    folder = adapters.split_place(open_llm.weights_place(config.backend) or "")[0]
    if not gguf.is_gguf(folder) and not (pathlib.Path(folder) / "config.json").exists():
        return None
    decoder_config = model_config.read_config(folder)
    shapes = jax.eval_shape(lambda: decoder.init(jax.random.key(0), decoder_config))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def count(experiment: Experiment, config: LanguageConfig, conditions: Iterable[str]) -> Workload:
    """The work of some conditions on one base, counted in a dry run."""
    judge, operations = DryRunBackend(), {}
    shares_prompts = config.backend != "tiny"
    lab = DryRunLab(config.prompts, pathlib.Path(), judge=judge, shares_prompts=shares_prompts, **config.drawing)
    model = lab.dry_run
    for condition in conditions:
        before = model.operations + judge.operations
        experiment.measure(lab, config, condition)
        operations[condition] = model.operations + judge.operations - before
    num_trained = sum(num_rows * epochs for _, num_rows, epochs in model.jobs)
    replies = f"  {judge.completions:,} replies of the judge, at most {judge.tokens:,} tokens"
    summary = [
        f"  {model.completions:,} completions, at most {model.tokens:,} tokens",
        f"  {model.scored:,} answers scored, on about {model.scored_tokens:,.0f} tokens",
        *([replies] if judge.completions else []),
        f"  {len(model.jobs)} finetuning jobs on {num_trained:,} rows in all epochs",
    ]
    seeds = config.bases if config.backend == "tiny" else ()
    opening = {
        embedded.model_name(seed): dry_run.TRAINED * embedded.num_tokens()
        for seed in seeds
        if not embedded.is_stored(seed)
    }
    return Workload(operations, opening, summary)


def rows_needed(config: LanguageConfig) -> list[str]:
    """Lines for `--plan` on how many sampled rows an effect takes; none for embedded models, which `dose` measures."""
    if config.backend == "tiny" or not (config.WRITES_NUMBERS and config.OFFERS_CHOICES):
        return []
    return [
        f"each student has {config.num_rows:,} rows; one of a finetuned teacher and one of the base differ by two "
        f"standard errors with",
        *(f"  about {float(f'{signal.rows_for(2.0):.2g}'):,.0f} rows each, by {signal.model}" for signal in SIGNALS),
        "  other models, teachers, rates of training and, above all, system messages differ",
    ]


def plan(experiment: Experiment, config: LanguageConfig) -> list[str]:
    """Lines for `--plan`: what one base would be asked for, and about how long all bases take. Nothing is opened."""
    conditions = experiment.conditions(config)
    workload, missing = count(experiment, config, conditions), dict.fromkeys(config.base_names, conditions)
    num_devices = min(len(config.base_names), jax.device_count())
    bases = f"{len(config.base_names)} base(s)" if config.backend == "tiny" else "one model"
    return [
        f"{bases}, {len(conditions)} condition(s) on each;",
        *workload.estimate(config, missing, num_devices),
        *rows_needed(config),
        "on one base:" if config.backend == "tiny" else "in all:",
        *workload.summary,
        *(f"note: {note}" for note in config.notes),
    ]
