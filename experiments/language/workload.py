"""How much a run will ask for and about how long that takes, counted before anything is opened."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import jax

from experiments import cost, progress
from experiments.language import dry_run
from experiments.language.config import LanguageConfig
from experiments.language.dry_run import DryRunBackend
from experiments.language.experiment import Experiment
from experiments.language.planned import PlannedLab
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.local import decoder, model_config
from sublim_jax.models import precision


@dataclasses.dataclass(frozen=True)
class Workload:
    """How long things take, in operations for each of the model's weights."""

    conditions: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Operations of each condition, on one base."""
    opening: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Those of pre-training each embedded base that is not in the cache."""
    lines: Sequence[str] = ()
    """What one base is asked for."""

    def total(self, left: Mapping[str, Sequence[str]]) -> float:
        """Operations of the conditions left on each base."""
        opening = sum(self.opening.get(base, 0.0) for base, conditions in left.items() if conditions)
        return opening + sum(self.conditions[condition] for conditions in left.values() for condition in conditions)

    def seconds(self, config: LanguageConfig, left: Mapping[str, Sequence[str]], num_devices: int) -> float | None:
        """About how long the conditions left on each base take; None where that cannot be known before."""
        num_weights = _num_weights(config)
        if num_weights is None or not self.conditions:
            return None
        num_bases = sum(bool(conditions) for conditions in left.values())
        if num_bases == 0:
            return 0.0
        rounds = -(-num_bases // num_devices)  # bases that one device opens
        rate = cost.rate("float32") if config.backend == "tiny" else cost.rate(precision.fast()) * jax.device_count()
        return rounds * self.total(left) / num_bases * num_weights / rate

    def estimate(self, config: LanguageConfig, left: Mapping[str, Sequence[str]], num_devices: int) -> list[str]:
        """The same for a reader."""
        seconds = self.seconds(config, left, num_devices)
        if seconds is None:
            return ["how long this takes is known when the first unit is done: the model is not here"]
        num_pretrained = sum(base in self.opening for base, conditions in left.items() if conditions)
        also = f", pre-training of {num_pretrained} base(s) included" if num_pretrained else ""
        where = f"{num_devices} x {jax.devices()[0].device_kind}"
        return [f"this takes about {progress.duration(seconds)} on {where}, by matrix products timed just now{also}"]


def _num_weights(config: LanguageConfig) -> int | None:
    """Number of the model's weights, if it is here."""
    if config.backend == "tiny":
        return embedded.number_of_parameters()
    scheme, _, folder = config.backend.partition(":")
    place = folder if pathlib.Path(folder).exists() else folder.partition("+")[0]
    if scheme != "hf" or not (pathlib.Path(place) / "config.json").exists():
        return None
    described = model_config.read_config(place)
    shapes = jax.eval_shape(lambda: decoder.init(jax.random.key(0), described))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def count(experiment: Experiment, config: LanguageConfig, conditions: Iterable[str]) -> Workload:
    """What the conditions take on one base, counted by asking a backend that only counts."""
    judge, operations = DryRunBackend(), {}
    lab = PlannedLab(config.materials, pathlib.Path(), judge=judge)
    model = lab.counting
    for condition in conditions:
        before = model.operations + judge.operations
        experiment.measure(lab, config, condition)
        operations[condition] = model.operations + judge.operations - before
    num_trained = sum(num_rows * epochs for _, num_rows, epochs in model.jobs)
    replies = f"  {judge.completions:,} replies of the judge, at most {judge.tokens:,} tokens"
    lines = [
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
    return Workload(operations, opening, lines)


def plan(experiment: Experiment, config: LanguageConfig) -> list[str]:
    """What one base would be asked for, and about how long all of them take. Nothing is opened."""
    conditions = experiment.conditions(config)
    workload, left = count(experiment, config, conditions), dict.fromkeys(config.names, conditions)
    num_devices = min(len(config.names), jax.device_count())
    return [
        f"{len(config.names)} base(s), {len(conditions)} unit(s) on each;",
        *workload.estimate(config, left, num_devices),
        "on one base:",
        *workload.lines,
        *(f"note: {remark}" for remark in config.remarks),
    ]
