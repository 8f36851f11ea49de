"""Draws the figures of all committed records of studies, to figures/images/evidence-STUDY.png and .pdf.

python -m figures.evidence
"""

import importlib

from figures import values
from sublim_jax import commands


def main() -> None:
    """Draw what is there.

    Raises:
        OutputError: something else than a figure of ours is in the way.
        RecordError: a record is damaged.
    """
    for path in sorted(values.RECORDS.glob("evidence_*.json")):
        name = path.stem.removeprefix("evidence_")
        for drawn in importlib.import_module(f"figures.evidence.{name}").save(path, values.IMAGES / f"evidence-{name}"):
            print(drawn)


if __name__ == "__main__":
    commands.main(main)
