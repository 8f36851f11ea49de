"""Configs become flags: typed, with help, presets, and errors on one line."""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import tyro

from sublim_jax import commands, compilation, errors, files, specs
from sublim_jax.training import effects


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a run reads and writes. Nothing here changes a number."""

    preset: str = "default"
    """Start from these settings; any other flag changes one of them."""
    record: pathlib.Path = pathlib.Path("runs/EXPERIMENT-PRESET.json")
    """Where the record goes. Figures are put beside it."""
    resume: bool = False
    """Go on with the record of a run that was stopped. Without it a record in the way is renamed, never overwritten."""
    figure: bool = True
    """Draw the figure at the end."""
    compilation_cache: bool = True
    """Keep compiled programs for the next run; a second run of the same shape starts in seconds."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageOptions(RunOptions):
    """Where a run reads and writes. Nothing here changes a number."""

    data_dir: pathlib.Path | None = None
    """Folder with the four IDX files of the dataset; by default SUBLIM_DATA_DIR, if set."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DistributedOptions(ImageOptions):
    """Where a run reads and writes, and which process of several it is. Nothing here changes a number."""

    coordinator: str | None = None
    """HOST:PORT of process 0, to run as several processes (jax.distributed); the next two flags go with it."""
    num_processes: specs.Count = 1  # of the whole run
    process_id: specs.CountOrZero = 0  # of this process: 0 writes the record

    def __post_init__(self):
        if self.coordinator is None and self.num_processes > 1:
            raise errors.InputError(
                f"num_processes={self.num_processes} has no effect without a coordinator: give --coordinator HOST:PORT"
            )
        if self.process_id >= self.num_processes:
            raise errors.InputError(
                f"process_id={self.process_id} of num_processes={self.num_processes}: expected 0 to "
                f"{self.num_processes - 1}"
            )


def parse(
    experiment: str,
    description: str | None,
    presets: Mapping[str, Any],
    args: list[str] | None = None,
    *,
    kind: type[RunOptions] = RunOptions,
    more: tuple[Any, ...] = (),
    compilation_cache: bool = True,
    without_effect: Callable[[Any], Mapping[str, str]] = lambda config: {},
) -> tuple[Any, ...]:
    """The config and the options that a command line asks for, then further options.

    Programs that are compiled from here on are kept for the next run, or not, as the options say.

    Args:
        experiment: what follows `python -m experiments.`, e.g. "mnist_aux" or "language numbers".
        presets: configs by name; "default" must be among them. Their class, a dataclass, decides the flags.
        kind: the options' class.
        more: defaults of further dataclasses of options.
        compilation_cache: the default of that flag. What times compilation is to leave it out.
        without_effect: settings of a config that have no effect under the others, and why; see `effects`. A flag that
            changes one of them is refused.
    """
    args = sys.argv[1:] if args is None else args
    chooser = argparse.ArgumentParser(prog=f"python -m experiments.{experiment}", add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", default="default", choices=tuple(presets))
    preset = chooser.parse_known_args(args)[0].preset

    defaults = kind(
        preset=preset,
        record=pathlib.Path("runs") / f"{experiment.replace(' ', '_')}-{preset}.json",
        compilation_cache=compilation_cache,
    )
    command = dataclasses.make_dataclass(
        "Command",
        [
            ("options", Annotated[kind, tyro.conf.arg(name="run"), tyro.conf.OmitArgPrefixes]),
            ("config", Annotated[type(presets[preset]), tyro.conf.arg(name="")]),
            *((f"more{index}", Annotated[type(extra), tyro.conf.arg(name="")]) for index, extra in enumerate(more)),
        ],
    )
    chosen = tyro.cli(
        command,
        prog=f"python -m experiments.{experiment}",
        description=f"{description}\n\nPresets: {', '.join(presets)}.",
        args=args,
        default=command(defaults, presets[preset], *more),
        config=(tyro.conf.AvoidSubcommands, tyro.conf.SuppressFixed),  # no flag for functions and for other models
    )
    changed = effects.changed_settings(chosen.config, presets[preset])
    effects.require_effect(changed, without_effect(chosen.config), prefix="--")
    use_compilation_cache(chosen.options.compilation_cache)
    return chosen.config, chosen.options, *(getattr(chosen, f"more{index}") for index in range(len(more)))


def choose(program: str, what: str, purposes: Mapping[str, str], args: Sequence[str]) -> tuple[str, list[str]] | None:
    """The command that a line names first, and its flags; or None after listing all commands, where it names none.

    Args:
        program: what follows `python -m experiments.`, e.g. "own".
        what: a command is, e.g. "question".
        purposes: a line for each command, by name.

    Raises:
        InputError: there is no such command.
    """
    if not args or args[0] in ("-h", "--help"):
        width = max(map(len, purposes))
        print(f"usage: python -m experiments.{program} {what.upper()} [--help] [flags]\n")
        print("\n".join(f"  {name.ljust(width)}  {purpose}" for name, purpose in purposes.items()))
        return None
    name, *flags = args
    if name not in purposes:
        raise errors.InputError(
            f"expected a {what} first, one of {', '.join(purposes)}, got {name!r}; python -m experiments.{program} "
            f"lists them"
        )
    return name, flags


def use_compilation_cache(use: bool) -> None:
    """Keep compiled programs for the next run, or compile everything."""
    if use:
        compilation.use_cache()
    else:
        compilation.without_cache()


def require_figures(options: RunOptions, names: Iterable[str] = ("",)) -> None:
    """Refuse places of figures now that could not be written after the run; see `figures.style.save`.

    Args:
        names: what follows the record's name in those of the figures.

    Raises:
        OutputError: something else than a figure of ours is there.
    """
    stem = options.record.with_suffix("")
    for name in names if options.figure else ():
        for suffix in (".png", ".pdf"):
            path = stem.with_name(f"{stem.name}{name}{suffix}")
            if path == options.record:
                raise errors.OutputError(f"{path}: the figure goes there, not the record. Use --record {stem}.json.")
            files.require_free(path, ours=files.is_figure, what="figure")


main = commands.main
