"""Which test sees which planted fault: the kill matrix outside the theory.

    python -m tests.mutants.matrix experiments/records/mutants.json           minutes on two cores
    python -m tests.mutants.matrix experiments/records/mutants.json --rooms   each fault against all tests of its room
    python -m tests.mutants.matrix experiments/records/mutants.json NAME ...  these faults; the others' rows are kept

A row is a fault: the tests that it was shown to, and those that failed. The last rows are the source as it is, by file
of tests, none of which may fail.
"""

import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import Annotated, Literal, TypedDict

import tyro
from rich import progress

from experiments import cli
from sublim_jax import records, specs
from tests.mutants import planting
from tests.mutants.fault import Fault
from tests.mutants.faults import FAULTS


@dataclasses.dataclass(frozen=True)
class MatrixConfig:
    """Which tests a fault is shown to."""

    rooms: bool = False  # all that are named for faults in the same folder, not those named for it alone


def asked(fault: Fault, config: MatrixConfig) -> tuple[str, ...]:
    """The tests that the fault is shown to."""
    if not config.rooms:
        return fault.tests
    room = pathlib.PurePath(fault.file).parent
    return tuple(
        dict.fromkeys(t for other in FAULTS if pathlib.PurePath(other.file).parent == room for t in other.tests)
    )


def jobs(config: MatrixConfig) -> dict[str, planting.Job]:
    """Every fault with the tests that it is shown to, and the source as it is, by file of tests."""
    unharmed = planting.unharmed([test for fault in FAULTS for test in fault.tests])
    return {fault.name: (fault, asked(fault, config)) for fault in FAULTS} | unharmed


class _Row(TypedDict):
    name: str
    what: str
    file: str
    asked: list[str]
    failed: list[str]
    num_passed: specs.CountOrZero
    seconds: specs.NonNegative


class _Results(TypedDict):
    mutants: list[_Row]
    survivors: dict[str, str]


class _Config(TypedDict):
    rooms: bool


FORM = records.Form(
    experiment="tests.mutants.matrix",
    config=_Config,
    results=_Results,
    wanted=lambda record: jobs(MatrixConfig(rooms=record.config["rooms"])),
    present=lambda record: [row["name"] for row in record.results["mutants"]],
)


def run(path: pathlib.Path, config: MatrixConfig | None = None, *, only: Sequence[str] = ()) -> records.Record:
    """Every fault against its tests, and none against all of them: the record at `path`, written row by row.

    Args:
        only: names of faults, or files of tests; rows of the others are those of the record that is there.
    """
    config = config or MatrixConfig()
    for name in only:
        specs.check(name, Literal[tuple(jobs(config))], "name of a fault or of a file of tests")
    with records.opened(path, FORM, resume=bool(only)) as output:
        return _run(config, output, only)


def _run(config: MatrixConfig, output: records.Output, only: Sequence[str]) -> records.Record:
    fresh = records.Record.begin(
        "tests.mutants.matrix",
        config,
        {"name": "planted faults", "source": "tests/mutants/faults", "checksum": None},
    )
    record = output.begin(fresh)
    spent = record.seconds.get("tests", 0.0)
    all_jobs = jobs(config)
    rows = {row["name"]: row for row in record.results.get("mutants", []) if row["name"] not in only}
    chosen = {name: job for name, job in all_jobs.items() if name not in rows}
    began = time.perf_counter()
    for verdict in progress.track(planting.verdicts(chosen, all_tests=True), "faults", total=len(chosen)):
        fault, tests = all_jobs[verdict.name]
        rows[verdict.name] = {
            "name": verdict.name,
            "what": fault.what if fault else "the source as it is",
            "file": fault.file if fault else "",
            "asked": list(tests),
            "failed": list(verdict.failed),
            "num_passed": len(verdict.passed),
            "seconds": verdict.seconds,
        }
        record.results["mutants"] = [rows[name] for name in all_jobs if name in rows]
        record.results["survivors"] = {fault.name: fault.survives for fault in FAULTS if fault.survives}
        record.seconds["tests"] = round(spent + time.perf_counter() - began, 1)
        output.write(record)
    return record


def main(
    path: Annotated[pathlib.Path, tyro.conf.Positional],
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    rooms: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Which test sees which planted fault: the record at this path, which is also printed.

    Args:
        path: of the record.
        names: faults, or files of tests, whose rows are made again; all by default.
        rooms: show each fault to all tests of its room.
    """
    for row in run(path, MatrixConfig(rooms), only=names).results["mutants"]:
        print(f"{row['name']:34s} {len(row['failed']):3d} of {len(row['failed']) + row['num_passed']:3d} tests fail")


if __name__ == "__main__":
    cli.main(lambda: tyro.cli(main, prog="python -m tests.mutants.matrix"))
