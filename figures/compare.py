"""Do two runs of the same members differ? Paired differences between two records of `experiments.mnist_aux`.

    python -m figures.compare experiments/records/mnist_aux.json experiments/records/mnist_aux-float32.json

Both records must have the same seed and data, so that member i has the same streams in both; whatever else differs is
printed. The interval is that of a paired t-test without correction for the number of conditions.
"""

import dataclasses
import pathlib
from collections.abc import Collection

import numpy as np
import tyro
from rich.table import Table

from figures import values
from sublim_jax import commands, errors, records
from sublim_jax.forms import mnist_aux as form
from sublim_jax.metrics import intervals


def differing_settings(first: records.Record, second: records.Record) -> list[str]:
    """Names and both values of the settings that are not the same."""
    ours, theirs = (records.flatten(record.config) for record in (first, second))
    return [f"{name}: {ours.get(name)} | {theirs.get(name)}" for name in ours if ours[name] != theirs.get(name)]


def paired(first: records.Record, second: records.Record) -> dict[str, intervals.Interval]:
    """By condition, the interval of first - second over the members that both have and that diverged in neither.

    Raises:
        InputError: the members are not the same ones, or the records have none in common.
    """
    if first.config["seed"] != second.config["seed"] or first.data["checksum"] != second.data["checksum"]:
        raise errors.InputError("the records have different seeds or data, so their members cannot be paired")
    differences = {}
    shared = first.results["members"].keys() & second.results["members"].keys()  # a run may have been stopped
    if not shared:
        raise errors.InputError("the records have no member in common, so nothing can be paired")
    ours, theirs = (values.accuracies(_only(record, shared)) for record in (first, second))
    for condition in ours.keys() & theirs.keys():
        a, b = ours[condition], theirs[condition]
        finite = np.isfinite(a) & np.isfinite(b)
        differences[condition] = intervals.paired_difference(a[finite], b[finite])
    return {condition: differences[condition] for condition in ours if condition in differences}


def _only(record: records.Record, members: Collection[str]) -> records.Record:
    chosen = {number: record.results["members"][number] for number in members}
    return dataclasses.replace(record, results={"members": chosen})


def main(first: tyro.conf.Positional[pathlib.Path], second: tyro.conf.Positional[pathlib.Path]) -> None:
    """Print the paired differences of two records.

    Args:
        first: a record of experiments.mnist_aux.
        second: another one, with the same seed and data.
    """
    our_record, their_record = (records.read(path, form.FORM) for path in (first, second))
    for setting in differing_settings(our_record, their_record):
        print(f"differs: {setting}")
    rows = Table(title=f"{first.stem} - {second.stem}, paired, mean ± 95 % t-interval")
    for column in ("condition", "members", "difference", "interval holds 0"):
        rows.add_column(column)
    for condition, interval in paired(our_record, their_record).items():
        holds = "yes" if interval.low <= 0 <= interval.high else "NO"
        rows.add_row(
            condition, str(interval.num_members), f"{interval:+.4f}", holds if interval.is_known else "too few members"
        )
    commands.open_console().print(rows)


if __name__ == "__main__":
    commands.main(lambda: tyro.cli(main, prog="python -m figures.compare"))
