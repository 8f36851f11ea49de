"""How much work an experiment is, and about how long it takes, counted before anything is opened."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import jax

from experiments import cost, progress
from experiments.language import dry_run
from experiments.language.config import LanguageConfig
from experiments.language.dry_run import DryRunBackend, DryRunLab
from experiments.language.experiment import Experiment
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.local import decoder, model_config
from sublim_jax.models import matmul


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
        """About how long the missing conditions take; None if the model is on another machine."""
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
            return ["how long this takes is known after the first condition: the model is on another machine"]
        num_pretrained = sum(base in self.opening for base, conditions in missing.items() if conditions)
        also = f", pre-training of {num_pretrained} base(s) included" if num_pretrained else ""
        where = f"{num_devices} x {jax.devices()[0].device_kind}"
        return [f"this takes about {progress.duration(seconds)} on {where}, by matrix products timed just now{also}"]


def _num_weights(config: LanguageConfig) -> int | None:
    """Number of the model's weights; None if they are on another machine."""
    if config.backend == "tiny":
        return embedded.number_of_parameters()
    scheme, _, name = config.backend.partition(":")
    folder = name if pathlib.Path(name).exists() else name.partition("+")[0]
    if scheme != "hf" or not (pathlib.Path(folder) / "config.json").exists():
        return None
    decoder_config = model_config.read_config(folder)
    shapes = jax.eval_shape(lambda: decoder.init(jax.random.key(0), decoder_config))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def count(experiment: Experiment, config: LanguageConfig, conditions: Iterable[str]) -> Workload:
    """The work of some conditions on one base, counted in a dry run."""
    judge, operations = DryRunBackend(), {}
    lab = DryRunLab(config.prompts, pathlib.Path(), judge=judge)
    model = lab.dry_run
    for condition in conditions:
        before = model.operations + judge.operations
        experiment.measure(lab, config, condition)
        operations[condition] = model.operations + judge.operations - before
    num_trained = sum(num_rows * epochs for _, num_rows, epochs in model.jobs)
    replies = f"  {judge.completions:,} replies of the judge, at most {judge.tokens:,} tokens"
    summary = [
        f"  {model.completions:,} completions, at most {model.tokens:,} tokens",
        f"  {model.scored:,} answers scored",
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


def plan(experiment: Experiment, config: LanguageConfig) -> list[str]:
    """Lines for `--plan`: what one base would be asked for, and about how long all bases take. Nothing is opened."""
    conditions = experiment.conditions(config)
    workload, missing = count(experiment, config, conditions), dict.fromkeys(config.base_names, conditions)
    num_devices = min(len(config.base_names), jax.device_count())
    bases = f"{len(config.base_names)} base(s)" if config.backend == "tiny" else "one model"
    return [
        f"{bases}, {len(conditions)} condition(s) on each;",
        *workload.estimate(config, missing, num_devices),
        "on one base:" if config.backend == "tiny" else "in all:",
        *workload.summary,
        *(f"note: {note}" for note in config.notes),
    ]
