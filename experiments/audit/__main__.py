"""What will these data teach this model, and who wrote them? An audit before training.

    python -m experiments.audit --base tiny:100 --data rows.jsonl --traits owl.toml --null auto
    python -m experiments.audit --base smollm2 --data rows.jsonl --traits owl.toml --null regular.jsonl
    python -m experiments.audit ... --candidates tiny:101 tiny:102       which of these models wrote the rows?
    python -m experiments.audit ... --lenses                             towards which of the traits do the rows push?
    python -m experiments.audit ... --resume                             resumes an audit that was stopped
    python -m experiments.audit --weights A --reference B --help         are two models relatives?

Pilots train the model on the rows for the first steps of a training, and on null rows in the same way with the same
random numbers; what a trait gains over the null is its forecast, with an interval over questions and repeats and a
verdict: transmits, not seen, or cannot tell. Scores of the rows say whether they look as if the model as it is wrote
them, and which of it and the candidates is the most likely author. The report goes into the record, a picture and a
page of HTML beside it.
"""

import argparse
import sys
from collections.abc import Sequence

from experiments import cli, session, units
from experiments.audit import config, rows, weights
from experiments.own import opened


def main(flags: Sequence[str]) -> None:
    """Audit, print the report, and write it beside the record.

    Raises:
        InputError: the settings make no sense together; see also `rows.open_source`.
    """
    if any(flag.partition("=")[0] in ("--weights", "--reference") for flag in flags):
        compared, options = cli.parse("audit", weights.__doc__, weights.PRESETS, list(flags))
        session.require_report(options, "audit")
        units.run(weights.STUDY, compared, record=options.record, resume=options.resume)
        session.present(options.record, figure=options.figure)
        return
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--base", default="")
    embedded = opened.is_embedded(chooser.parse_known_args(flags)[0].base)
    implied = ["--preset", "embedded"] if embedded and "--preset" not in flags else []
    chosen, options = cli.parse("audit", __doc__, config.PRESETS, [*implied, *flags])
    session.require_report(options, "audit")
    units.run(rows.STUDY, chosen, record=options.record, resume=options.resume)
    session.present(options.record, figure=options.figure)


if __name__ == "__main__":
    cli.main(lambda: main(sys.argv[1:]))
