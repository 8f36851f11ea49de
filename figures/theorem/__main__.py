"""All figures of the theorem.

python -m figures.theorem                                    from the committed records, to figures/images/theorem-*
python -m figures.theorem runs/theorem-smoke.json --output runs/theorem-smoke
"""

import pathlib

import tyro

from figures import theorem, values
from sublim_jax import commands


def main(
    record: tyro.conf.Positional[pathlib.Path] = theorem.RECORD,
    mutants: pathlib.Path = theorem.KILL_MATRIX,
    output: pathlib.Path | None = None,
) -> None:
    """Draw every figure of the theorem.

    Args:
        record: what `experiments.theorem` wrote; figures of parts it does not have are left out.
        mutants: what `tests.theory.mutants.matrix` wrote; left out if there is no such file.
        output: path without the figure's name and suffix; by default figures/images/theorem.
    """
    stem = output or values.IMAGES / "theorem"
    paths = theorem.save_all(record, stem)
    if mutants.exists():
        paths += theorem.save_mutants(mutants, stem)
    for path in paths:
        print(commands.shown(path))


if __name__ == "__main__":
    commands.main(lambda: tyro.cli(main))
