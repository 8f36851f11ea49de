"""The command line of a language experiment."""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import cli, progress
from experiments.language import running
from sublim_jax import errors


def main(name: str, description: str | None, presets: Mapping[str, running.LanguageConfig]) -> None:
    """Run the experiment of that name as the flags say, print its table, draw its figure."""
    cli.main(lambda: _main(name, description, presets))


def _main(name: str, description: str | None, presets: Mapping[str, running.LanguageConfig]) -> None:
    experiment: Any = importlib.import_module(f"experiments.{name}")
    config, options, limits, export = parse(name, description, presets)
    running.use_cores(config)
    if limits.plan:
        print("\n".join(running.plan(experiment, config)))
        return
    cli.require_figures(options)
    result = running.run(
        name, experiment, config, record=options.record, resume=options.resume, limits=limits, export=export
    )
    spent = ", ".join(f"{unit} {seconds:.0f} s" for unit, seconds in result.seconds.items())
    progress.console.print(f"time: {spent}")
    for line in experiment.lines(result):
        print(line)
    print(f"record: {options.record}")
    if export.rows is not None:
        print(f"rows: {export.rows}")
    if options.figure:
        from figures import language as figure

        for path in figure.save(options.record, options.record.with_suffix("")):
            print(f"figure: {path}")


def parse(
    name: str,
    description: str | None,
    presets: Mapping[str, running.LanguageConfig],
    args: Sequence[str] | None = None,
) -> tuple[running.LanguageConfig, cli.RunOptions, running.Limits, running.Export]:
    """Config, options, limits and what is exported, as a command line asks for them."""
    given = None if args is None else list(args)
    config, options, limits, export = cli.parse(
        name, description, presets, given, more=(running.Limits(), running.Export())
    )
    if config.backend in running.PLACEHOLDERS and not limits.plan:
        raise errors.InputError("give a model with --backend, e.g. hf:models/Qwen2.5-7B-Instruct or vllm:MODEL@URL")
    limits.budget()  # says what is wrong with it before anything is opened
    if config.backend == "tiny" and dataclasses.replace(limits, plan=False) != running.Limits():
        raise errors.InputError(
            "limits on requests, money and refusals have no effect on the embedded model; leave them out"
        )
    return config, options, limits, export
