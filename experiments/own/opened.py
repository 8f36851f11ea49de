"""Opening what the user names: models, and how they are trained by default."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tyro

from experiments import cli, progress
from experiments.language import config as language
from sublim_jax import errors, specs
from sublim_jax.llm import open as open_llm
from sublim_jax.llm import traits
from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.traits import Trait

REAL = FinetuneConfig(num_epochs=3, batch_size=16, max_length=256)
"""How students of real models are trained by default."""
EMBEDDED = language.STUDENT
"""How students of the embedded model are trained, which needs a larger learning rate."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of every command."""

    compilation_cache: bool = True
    """Keep compiled programs for the next run, which then starts sooner."""


class OpenedModel(NamedTuple):
    """A model whose weights are on this machine."""

    backend: LocalBackend
    name: str


def is_embedded(name: str) -> bool:
    """Whether a model is the embedded one or a student of it."""
    return name.startswith("tiny:")


def finetuning(name: str) -> FinetuneConfig:
    """How students of the model are trained by default."""
    return EMBEDDED if is_embedded(name) else REAL


def read_traits(path: pathlib.Path, model: str) -> tuple[Trait, ...]:
    """The traits of a file, with questions that the model understands.

    Raises:
        InputError: see `traits.read`.
    """
    chosen = traits.read(path)
    return tuple(trait.in_world() for trait in chosen) if is_embedded(model) else chosen


def local(name: str, *, announce: Callable[[str], object]) -> OpenedModel:
    """Open a model whose weights are on this machine.

    Raises:
        InputError: it is on a server.
        LanguageError: it cannot be opened.
    """
    require_local(name)
    opened = open_llm.open_backend(name, announce=announce)
    assert isinstance(opened.backend, LocalBackend)
    return OpenedModel(opened.backend, opened.model)


def require_local(name: str) -> None:
    """Refuse names of models whose weights are not here.

    Raises:
        InputError: no name of a model, or one that is on a server.
    """
    if not open_llm.is_local(open_llm.parse(name).scheme):
        raise errors.InputError(f"model {name!r}: this command needs weights on this machine; give smollm2, "
                                f"hf:DIR, hf:FILE.gguf or tiny:SEED")  # fmt: skip


def parse(kind: type[Any], command: str, description: str | None, flags: Sequence[str]) -> Any:
    """Options of a command, `kind`, from a command line."""
    options = tyro.cli(
        kind, prog=f"python -m experiments.own {command}", description=description, args=list(flags),
        config=(tyro.conf.AvoidSubcommands,),
    )  # fmt: skip
    cli.use_compilation_cache(options.compilation_cache)
    return options


def show_progress(backend: Any, display: progress.Display, activity: str) -> None:
    """Let a backend in this process tell the display of its steps."""
    if isinstance(backend, LocalBackend):
        backend.on_progress = lambda unit, done, total: display.doing(activity, done=done, total=total, unit=unit)
