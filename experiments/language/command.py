"""The flags of a language experiment."""

import dataclasses
from collections.abc import Sequence

from experiments import cli
from experiments.language.config import PLACEHOLDERS, LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.options import Export, Limits
from sublim_jax import errors


def parse(experiment: Experiment, flags: Sequence[str]) -> tuple[LanguageConfig, cli.RunOptions, Limits, Export]:
    """Config, options, limits and what is exported, as a command line asks for them."""
    config, options, limits, export = cli.parse(
        f"language {experiment.name}", experiment.doc, experiment.presets, list(flags), more=(Limits(), Export())
    )
    if config.backend in PLACEHOLDERS and not limits.plan:
        raise errors.InputError("give a model with --backend, e.g. hf:models/Qwen2.5-7B-Instruct or vllm:MODEL@URL")
    limits.budget()  # says what is wrong with it before anything is opened
    if config.backend == "tiny" and dataclasses.replace(limits, plan=False) != Limits():
        raise errors.InputError(
            "limits on requests, money and refusals have no effect on the embedded model; leave them out"
        )
    return config, options, limits, export
