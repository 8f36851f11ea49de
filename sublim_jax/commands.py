"""How a command of this repository prints and ends, whether it writes records or reads them."""

import io
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sublim_jax import errors

if TYPE_CHECKING:
    from rich.console import Console

UNBROKEN = 10_000
"""Columns of a console that is no terminal, so that no line is broken and a table is as wide as it needs."""


def open_console(**options: Any) -> "Console":
    """A console as wide as the terminal; elsewhere, e.g. in a log, it breaks no line. It prints text as it is."""
    from rich import console as rich_console

    console = rich_console.Console(**options, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = UNBROKEN
    return console


def shown(path: pathlib.Path) -> pathlib.Path:
    """The path as a command prints it: from the working directory, if it lies in there."""
    here = pathlib.Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def main(
    run: Callable[[], None], *, interrupted: str = "what was finished is in the record: go on with --resume"
) -> None:
    """Call `run` and turn what a user can mend (`errors.SublimError`) into one line and exit code 2, an interruption
    into 130. Any other exception is a fault of ours and keeps its traceback.

    A character that the terminal or the log file cannot show becomes a question mark and ends no run.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        run()
    except errors.SublimError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt as error:
        print(f"interrupted; {interrupted}", file=sys.stderr)
        raise SystemExit(130) from error
