"""Draw the atlas in small multiples, one figure per axis, from the committed records.

python -m figures.atlas                 figures/images/atlas-AXIS.png and .pdf
"""

import pathlib

import tyro

from figures import values as places
from figures.atlas import draw, values
from sublim_jax import commands


def main(records: pathlib.Path = values.FOLDER, output: pathlib.Path = places.IMAGES / "atlas") -> None:
    """Draw the atlas.

    Args:
        records: folder of the rows' records.
        output: path without the axis and the suffix.
    """
    for path in draw.save_all(records, output):
        print(commands.shown(path))


if __name__ == "__main__":
    commands.main(lambda: tyro.cli(main, prog="python -m figures.atlas"))
