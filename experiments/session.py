"""The end of a run: the only place where programs that write records meet those that read them."""

import pathlib

from experiments import cli
from sublim_jax import errors, records


def require_theorem_figures(options: cli.RunOptions) -> None:
    """Refuse places of the theorem's figures now that could not be written after the run.

    Raises:
        OutputError: something else than a figure of ours is there.
    """
    from figures.theorem import draw

    cli.require_figures(options, [f"-{name}" for name in draw.FIGURES])


def require_report(options: cli.RunOptions, kind: str) -> None:
    """Refuse places of a report's figures and of its page now that could not be written after the run.

    Args:
        kind: of the report; see `onepage.write`.

    Raises:
        OutputError: something else than a figure or a page of ours is there.
    """
    from figures import onepage

    cli.require_figures(options)
    stem = options.record.with_suffix("")
    page = stem.with_name(f"{stem.name}.html")
    if options.figure and page == options.record:
        raise errors.OutputError(f"{page}: the page goes there, not the record. Use --record {stem}.json.")
    if options.figure:
        onepage.require_free(page, kind)


def language_table(record: records.Record) -> list[str]:
    """The table of a language experiment's record as lines of text, then its notes."""
    from figures.language import real, tables

    return real.lines(record) if record.experiment == "language_real" else tables.table(record)


def language_summary(record: records.Record, base: str) -> list[str]:
    """Lines about a finished base of a language experiment, printed before the other bases are finished."""
    from figures.language import tables

    return tables.summary_lines(record, base)


def start_lines(record: records.Record, beside: records.Record) -> list[str]:
    """Table of students from another start, then how they differ from those that start from the model itself.

    Args:
        beside: the record of the latter.
    """
    from figures.language import real

    less = real.interval_text(real.beside(record, "other_start", beside, "full"))
    return [
        *real.lines(record),
        f"own - other, less own - other of the same seeds' students that start from the model itself: {less}",
    ]


def real_summary(record: records.Record, unit: str) -> list[str]:
    """Lines about a finished unit of `language real`, printed before the others are finished."""
    from figures.language import real

    return real.unit_lines(record, unit)


def present(record: pathlib.Path, *, figure: bool) -> None:
    """Print what a finished record says, name the record, and draw its figures beside it.

    Args:
        figure: whether to draw.
    """
    from figures import presentation

    presentation.show(record)
    print(f"record: {record}")
    for path in presentation.draw(record) if figure else ():
        print(f"figure: {path}")
