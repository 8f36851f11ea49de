"""Language experiments: eleven questions about favourites and conduct that pass through a teacher's text.

python -m experiments.language                               the questions
python -m experiments.language numbers                       one of them, on embedded models
python -m experiments.language numbers --preset record       as the committed record was made
python -m experiments.language numbers --help                every setting
"""

import sys
from collections.abc import Sequence

from experiments import cli, progress, session
from experiments.language import command, questions, runner, workload
from sublim_jax import errors


def listing() -> list[str]:
    """Every question with its name."""
    width = max(map(len, questions.EXPERIMENTS))
    lines = [f"  {name.ljust(width)}  {experiment.question}" for name, experiment in questions.EXPERIMENTS.items()]
    return ["usage: python -m experiments.language QUESTION [--help] [flags]", "", *lines]


def main(args: Sequence[str]) -> None:
    """List the questions, or run one as the flags say, print its table and draw its figure.

    Raises:
        InputError: there is no such question.
    """
    if not args or args[0] in ("-h", "--help"):
        print("\n".join(listing()))
        return
    name, *flags = args
    if name not in questions.EXPERIMENTS:
        raise errors.InputError(
            f"expected a question first, one of {', '.join(questions.EXPERIMENTS)}, got {name!r}; python -m "
            f"experiments.language lists them"
        )
    experiment = questions.EXPERIMENTS[name]
    config, options, limits, export = command.parse(experiment, flags)
    runner.use_cores(config)
    if limits.plan:
        print("\n".join(workload.plan(experiment, config)))
        return
    cli.require_figures(options)
    result = runner.run(experiment, config, record=options.record, resume=options.resume, limits=limits, export=export)
    spent = ", ".join(f"{condition} {seconds:.0f} s" for condition, seconds in result.seconds.items())
    progress.console.print(f"time: {spent}")
    session.present(options.record, figure=options.figure)
    if export.rows is not None:
        print(f"rows: {export.rows}")


if __name__ == "__main__":
    cli.main(lambda: main(sys.argv[1:]))
