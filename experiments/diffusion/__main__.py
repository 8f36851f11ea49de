"""Do image generators transmit traits through channels that have nothing to do with images?

See `study`, and `conditional` for generators that are asked for a class.
"""

import sys
from collections.abc import Sequence

from experiments import cli, session, units
from experiments.diffusion import conditional
from experiments.diffusion import config as settings
from experiments.diffusion.conditional import ConditionalConfig
from experiments.diffusion.config import DiffusionConfig
from experiments.diffusion.study import STUDY


def without_effect(config: DiffusionConfig | ConditionalConfig) -> dict[str, str]:
    """Settings that change no number while the others are as they are, and why."""
    return settings.without_effect(config) if isinstance(config, DiffusionConfig) else {}


def main(flags: Sequence[str]) -> None:
    """Run the study, print its table and draw its figure.

    Raises:
        InputError: the settings make no sense together, or the judge errs too often.
    """
    presets = {**STUDY.presets, **conditional.STUDY.presets}
    config, options = cli.parse(
        STUDY.name, STUDY.doc, presets, list(flags), kind=cli.ImageOptions, without_effect=without_effect
    )
    study = conditional.STUDY if isinstance(config, ConditionalConfig) else STUDY
    cli.require_figures(options)
    units.run(study, config, record=options.record, resume=options.resume, data_dir=options.data_dir)
    session.present(options.record, figure=options.figure)


if __name__ == "__main__":
    cli.main(lambda: main(sys.argv[1:]))
