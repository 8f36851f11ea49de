"""Draw all figures of the theorem.

python -m figures.theorem                                    from the committed records, to figures/images/theorem-*
python -m figures.theorem runs/theorem-smoke.json --output runs/theorem-smoke
"""

import pathlib

import tyro

from figures import values
from figures.theorem import draw
from sublim_jax import commands


def main(
    record: tyro.conf.Positional[pathlib.Path] = draw.RECORD,
    mutants: pathlib.Path = draw.KILL_MATRIX,
    output: pathlib.Path | None = None,
) -> None:
    """Draw every figure of the theorem.

    Args:
        record: a record of `experiments.theorem`; figures whose parts it lacks are left out.
        mutants: a record of `tests.theory.mutants.matrix`; its figure is left out if the file does not exist.
        output: path without the figure's name and suffix; by default figures/images/theorem.
    """
    stem = output or values.IMAGES / "theorem"
    paths = draw.save_all(record, stem)
    if mutants.exists():
        paths += draw.save_mutants(mutants, stem)
    for path in paths:
        print(commands.shown(path))


if __name__ == "__main__":
    commands.main(lambda: tyro.cli(main, prog="python -m figures.theorem"))
