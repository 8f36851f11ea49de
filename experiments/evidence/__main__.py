"""The evidence for the audit tools, on cases that nothing was tuned on.

python -m experiments.evidence                        lists the studies
python -m experiments.evidence STUDY --help           every setting
python -m experiments.evidence STUDY --preset record  the committed record's settings
"""

import sys
from collections.abc import Sequence

from experiments import cli, session, units
from experiments.evidence import studies


def main(args: Sequence[str]) -> None:
    """List the studies, or run one, print its table and draw its figure.

    Raises:
        InputError: the study is unknown, or its settings make no sense.
    """
    questions = {name: study.question for name, study in studies.STUDIES.items()}
    chosen = cli.choose("evidence", "study", questions, args)
    if chosen is None:
        return
    name, flags = chosen
    study = studies.STUDIES[name]
    kind = cli.ImageOptions if study.reads_images else cli.RunOptions
    config, options = cli.parse(f"evidence {name}", study.doc, study.presets, flags, kind=kind)
    cli.require_figures(options)
    data_dir = options.data_dir if study.reads_images else None
    units.run(study, config, record=options.record, resume=options.resume, data_dir=data_dir)
    session.present(options.record, figure=options.figure)


if __name__ == "__main__":
    cli.main(lambda: main(sys.argv[1:]))
