"""Draws the figures of the language experiments from their records.

python -m figures.language                            committed records, to figures/images/language-NAME.png and .pdf
python -m figures.language runs/language_numbers-default.json --output runs/numbers
"""

import pathlib

import tyro

from figures import values
from figures.language import gallery, real
from sublim_jax import commands, records
from sublim_jax.forms import language as forms
from sublim_jax.forms import language_real

REAL = language_real.FORM.experiment
START, NIGHT = "language_real-start", "language_numbers-night"
"""Records of a real model's students from another start, and of sampled numbers."""


def main(record: tyro.conf.Positional[pathlib.Path | None] = None, output: pathlib.Path | None = None) -> None:
    """Draw one record, or all committed ones.

    Args:
        record: what a language experiment wrote; by default all in experiments/records.
        output: path without suffix; by default figures/images/ and the record's name.
    """
    committed = [values.RECORDS / f"{name}.json" for name in (*gallery.DRAW, REAL, START, NIGHT)]
    for path in [record] if record else [path for path in committed if path.exists()]:
        is_real = records.read(path).experiment == REAL
        whole = records.read(path, language_real.FORM) if is_real else forms.read(path)
        if record or whole.complete:
            save = real.save if is_real else gallery.save
            for drawing in save(path, output or values.IMAGES / path.stem.replace("_", "-")):
                print(commands.shown(drawing))


if __name__ == "__main__":
    commands.main(lambda: tyro.cli(main, prog="python -m figures.language"))
