"""In how many directions of a model does a trait lie? See `study`."""

import sys
from collections.abc import Sequence

from experiments import cli, session, units
from experiments.directions import config as settings
from experiments.directions.study import STUDY


def main(flags: Sequence[str]) -> None:
    """Run the study, print its table and draw its figure.

    Raises:
        InputError: the settings make no sense together, or the judge errs too often.
    """
    config, options = cli.parse(
        STUDY.name, STUDY.doc, STUDY.presets, list(flags), kind=cli.ImageOptions, without_effect=settings.without_effect
    )
    cli.require_figures(options)
    units.run(STUDY, config, record=options.record, resume=options.resume, data_dir=options.data_dir)
    session.present(options.record, figure=options.figure)


if __name__ == "__main__":
    cli.main(lambda: main(sys.argv[1:]))
