"""Language experiments: questions about favourites and conduct that pass from a teacher to a student through text.

python -m experiments.language                               the questions
python -m experiments.language numbers                       one of them, on embedded models
python -m experiments.language numbers --preset record       with the settings of the committed record
python -m experiments.language numbers --help                every setting
python -m experiments.language real                          a small real language model, on two CPU cores
"""

import sys
from collections.abc import Sequence

from experiments import cli, progress, session
from experiments.language import options, questions, real, runner, workload


def main(args: Sequence[str]) -> None:
    """List the questions, or run one with the given flags, print its table and draw its figure.

    Raises:
        InputError: the question is unknown, or its settings make no sense.
    """
    asked = {name: experiment.question for name, experiment in questions.EXPERIMENTS.items()}
    chosen = cli.choose("language", "question", asked | {real.NAME: real.QUESTION}, args)
    if chosen is None:
        return
    name, flags = chosen
    if name == real.NAME:
        real.main(flags)
        return
    experiment = questions.EXPERIMENTS[name]
    config, run_options, limits, export = options.parse(experiment, flags)
    runner.use_cores(config)
    if limits.plan:
        print("\n".join(workload.plan(experiment, config)))
        return
    cli.require_figures(run_options)
    result = runner.run(
        experiment, config, record=run_options.record, resume=run_options.resume, limits=limits, export=export
    )
    times = ", ".join(f"{condition} {seconds:.0f} s" for condition, seconds in result.seconds.items())
    progress.console.print(f"time: {times}")
    session.present(run_options.record, figure=run_options.figure)
    if export.rows is not None:
        print(f"rows: {export.rows}")


if __name__ == "__main__":
    cli.main(lambda: main(sys.argv[1:]))
