"""Take a trait out of a student, and see whether it is gone or only hidden.

    python -m experiments.defend --student tiny:100+runs/student --base tiny:100 --traits traits.toml
    python -m experiments.defend --student smollm2+runs/student --base smollm2 --traits traits.toml --remove owl
    python -m experiments.defend ... --out runs/cleaned      folder for the cleaned model
    python -m experiments.defend ... --resume                resumes a run that was stopped

An auditor's own teacher of the trait is finetuned from the base on the trait's lessons, and a dose of its displacement
is subtracted from the student. The dose is the smallest with which the auditor's own questions are answered as the base
answers them; every other question of the trait chooses the dose, and the rest are reported. Beside it stand the
student, the base, the student without its component along the gradient of the trait, and the same dose of a random
direction and of another trait's displacement. Of each the report has all traits of the file, how like the student the
model is on rows, and how fast the trait comes back from a few lessons: a removal that only hides is found out there.
The report goes into the record, a picture and a page of HTML beside it, and the cleaned model into --out.
"""

import argparse
import sys
from collections.abc import Sequence

from experiments import cli, session, units
from experiments.defend import config, models, study
from experiments.own import opened
from sublim_jax import files


def main(flags: Sequence[str]) -> None:
    """Clean the student, print the report, and write it beside the record.

    Raises:
        InputError: the settings make no sense together; see also `study.open_source`.
        OutputError: something is at the place of the cleaned model, of a figure or of the page.
    """
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--base", default="")
    embedded = opened.is_embedded(chooser.parse_known_args(flags)[0].base)
    implied = ["--preset", "embedded"] if embedded and "--preset" not in flags else []
    chosen, options = cli.parse("defend", __doc__, config.PRESETS, [*implied, *flags])
    session.require_report(options, "defend")
    if not (options.resume and study.is_cleaned(options.record)):
        files.require_absent(chosen.out, what=models.WHAT)
    record = units.run(study.STUDY, chosen, record=options.record, resume=options.resume)
    session.present(options.record, figure=options.figure)
    print(f"cleaned model: {chosen.out}; open it as {record.results[study.form.CLEANED]['opened_as']}")


if __name__ == "__main__":
    cli.main(lambda: main(sys.argv[1:]))
