"""Draws the figures of the language experiments from their records.

python -m figures.language                            committed records, to figures/images/language-NAME.png and .pdf
python -m figures.language runs/language_numbers-default.json --output runs/numbers
"""

import pathlib

import tyro

from figures import values
from figures.language import gallery
from sublim_jax import commands
from sublim_jax.forms import language as forms


def main(record: tyro.conf.Positional[pathlib.Path | None] = None, output: pathlib.Path | None = None) -> None:
    """Draw one record, or all committed ones.

    Args:
        record: what a language experiment wrote; by default all in experiments/records.
        output: path without suffix; by default figures/images/ and the record's name.
    """
    for path in [record] if record else [values.RECORDS / f"{name}.json" for name in gallery.DRAW]:
        if record or (path.exists() and forms.read(path).complete):
            for drawing in gallery.save(path, output or values.IMAGES / path.stem.replace("_", "-")):
                print(commands.shown(drawing))


if __name__ == "__main__":
    commands.main(lambda: tyro.cli(main, prog="python -m figures.language"))
