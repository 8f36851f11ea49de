"""Tables of records: for a terminal, and as markdown for a page."""

import statistics
from typing import NamedTuple

import numpy as np
from rich.table import Table

from figures import values
from sublim_jax import records
from sublim_jax.forms import speed as form
from sublim_jax.metrics import intervals


def markdown(rows: list[list[str]]) -> str:
    """Rows of cells, the first of them the heads, as a markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def figure_10(record: records.Record) -> Table:
    """Means with 95 % t-intervals beside the published values, then paired differences."""
    accuracies = values.accuracies(record)
    published = record.description["published"]
    name, count = record.data["name"], len(accuracies["teacher"])
    table = Table(title=f"Test accuracy on {name}, {count} members, mean ± 95 % t-interval")
    for column in ("condition", "accuracy", "diverged", "published"):
        table.add_column(column, no_wrap=column != "published")
    for condition, members in accuracies.items():
        interval = values.interval(members)
        text = f"{interval:.3f}" if interval else "all diverged"
        theirs = published[condition]["text"] if condition in published else "-"
        table.add_row(condition, text, str(np.sum(~np.isfinite(members))), theirs)
    table.add_section()
    for first, second in record.description["differences"]:
        difference = values.paired(accuracies[first], accuracies[second])
        if difference is not None:
            left_out = np.sum(~(np.isfinite(accuracies[first]) & np.isfinite(accuracies[second])))
            table.add_row(f"{first} - {second}", f"{difference:.3f}", str(left_out), "paired")
    return table


class Program(NamedTuple):
    """One program of the comparison of speeds; medians over its repeats."""

    label: str
    seconds_per_member: float
    ratio: float  # PyTorch's time over this one's
    ratio_with_compilation: float
    gflops: float
    share_of_peak: float | None  # of the matrix product peak in the same precision; not known for the peer
    peak_rss_mb: float
    accuracy: dict[str, intervals.Interval]


def programs(record: records.Record) -> list[Program]:
    """The programs of a record of `experiments.speed` side by side."""
    results, members = record.results, record.config["num_members"]
    runs = {name: [r for r in results["whole"] if r["program"] == name] for name in (form.PEER, *form.OURS)}
    base = statistics.median(r["training_s"] for r in runs[form.PEER])
    rows = []
    for name, measured in runs.items():
        training = statistics.median(r["training_s"] for r in measured)
        total = statistics.median(r["training_s"] + r["compile_s"] for r in measured)
        gflops = results["operations_per_member"] * members / training / 1e9
        rows.append(
            Program(
                label=record.description["programs"][name],
                seconds_per_member=training / members,
                ratio=base / training,
                ratio_with_compilation=base / total,
                gflops=gflops,
                share_of_peak=gflops / results["peak_gflops"][name] if name in form.OURS else None,
                peak_rss_mb=max(r["peak_rss_mb"] for r in measured),
                accuracy={c: _interval(measured[0]["accuracy"][c]) for c in form.CONDITIONS},
            )
        )
    return rows


def _interval(members: list[float | None]) -> intervals.Interval:
    """Interval of the members that did not diverge, of which the form has made sure that there is one."""
    interval = values.interval(values.numbers(members))
    assert interval is not None
    return interval


def speed(record: records.Record) -> list[Table]:
    """The comparison, the accuracies that show it is one, and where a step's time goes."""
    results = record.results
    times = Table(title=f"Figure 10, {record.config['num_members']} members on {record.data['name']}, {_where(record)}")
    for column in ("program", "s / member", "vs PyTorch", "with compilation", "GFLOP/s", "of peak", "peak memory"):
        times.add_column(column, no_wrap=True)
    accuracy = Table(title="Matched accuracies, mean ± 95 % t-interval")
    for column in ("program", *form.CONDITIONS):
        accuracy.add_column(column)
    for row in programs(record):
        numbers = (f"{row.seconds_per_member:.2f}", f"{row.ratio:.2f}", f"{row.ratio_with_compilation:.2f}")
        share = f"{row.share_of_peak:.0%}" if row.share_of_peak is not None else "-"
        times.add_row(row.label, *numbers, f"{row.gflops:.0f}", share, f"{row.peak_rss_mb:.0f} MB")
        accuracy.add_row(row.label, *(f"{row.accuracy[condition]:.3f}" for condition in form.CONDITIONS))
    for precision in form.OURS:
        times.add_row(f"matmul peak, {precision}", "", "", "", f"{results['peak_gflops'][precision]:.0f}", "100%", "")
    parts = Table(title="One student's step by part, each timed alone, milliseconds")
    for column in ("part", *form.OURS):
        parts.add_column(column)
    for part in results["step_parts_ms"][form.OURS[0]]:
        parts.add_row(part, *(f"{results['step_parts_ms'][precision][part]:.2f}" for precision in form.OURS))
    return [times, accuracy, parts]


def _where(record: records.Record) -> str:
    device = record.device
    return (
        f"{device['cpu_cores']} CPU cores" if device["platform"] == "cpu" else f"{device['count']} x {device['kind']}"
    )
