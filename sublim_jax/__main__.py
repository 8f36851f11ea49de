"""The console command: what needs no clone of the repository.

    sublim-jax serve --model tiny:100           local models behind OpenAI's HTTP interface (extra serve)
    sublim-jax store export STORE OUT           a store of answers as JSON lines, and back with import

`python -m sublim_jax` is the same command. The experiments and their figures are run in a clone.
"""

import argparse
import sys
from collections.abc import Callable
from importlib import metadata


def _serve() -> None:
    from sublim_jax.llm import serve

    serve.main()


def _store() -> None:
    from sublim_jax.llm import store

    store.main()


COMMANDS: dict[str, Callable[[], None]] = {"serve": _serve, "store": _store}


def main() -> None:
    """Run the command that the command line names, with what follows its name."""
    parser = argparse.ArgumentParser(
        prog="sublim-jax", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"sublim-jax {metadata.version('sublim-jax')}")
    parser.add_argument("command", choices=COMMANDS, help="`sublim-jax COMMAND --help` says more")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of that command")
    chosen = parser.parse_args()
    sys.argv = [f"sublim-jax {chosen.command}", *chosen.arguments]
    COMMANDS[chosen.command]()


if __name__ == "__main__":
    main()
