"""Which test sees which planted fault: the kill matrix outside the theory.

    python -m tests.mutants.matrix experiments/records/mutants.json           minutes on two cores
    python -m tests.mutants.matrix experiments/records/mutants.json --rooms   each fault against all tests of its room
    python -m tests.mutants.matrix experiments/records/mutants.json NAME ...  these faults; the others' rows are kept

A row is a fault: the tests that it was shown to, and those that failed. The last rows are the source as it is, by file
of tests, none of which may fail.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence

from rich import progress

from sublim_jax import records
from tests.mutants import planting
from tests.mutants.faults import FAULTS, Fault


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


def run(path: pathlib.Path, config: MatrixConfig | None = None, *, only: Sequence[str] = ()) -> records.Record:
    """Every fault against its tests, and none against all of them: the record at `path`, written row by row.

    Args:
        only: names of faults, or files of tests; rows of the others are those of the record that is there.
    """
    config = config or MatrixConfig()
    record = records.Record.begin(
        "tests.mutants.matrix",
        config,
        {"name": "planted faults", "source": "tests/mutants/faults.py", "checksum": None},
    )
    jobs: dict[str, planting.Job] = {fault.name: (fault, asked(fault, config)) for fault in FAULTS}
    jobs |= planting.unharmed([test for fault in FAULTS for test in fault.tests])
    before = records.read(path) if only else None
    old, spent = (before.results["mutants"], before.seconds["tests"]) if before else ([], 0.0)
    rows = {row["name"]: row for row in old if row["name"] in jobs and row["name"] not in only}
    chosen = {name: job for name, job in jobs.items() if name not in rows}
    began = time.perf_counter()
    for verdict in progress.track(planting.verdicts(chosen, all_tests=True), "faults", total=len(chosen)):
        fault, tests = jobs[verdict.name]
        rows[verdict.name] = {
            "name": verdict.name,
            "what": fault.what if fault else "the source as it is",
            "file": fault.file if fault else "",
            "asked": list(tests),
            "failed": list(verdict.failed),
            "num_passed": len(verdict.passed),
            "seconds": verdict.seconds,
        }
        record.results["mutants"] = [rows[name] for name in jobs if name in rows]
        record.results["survivors"] = {fault.name: fault.survives for fault in FAULTS if fault.survives}
        record.seconds["tests"] = round(spent + time.perf_counter() - began, 1)
        record.memory = records.peak_memory()
        record.complete = len(rows) == len(jobs)
        records.write(path, record)
    return record


if __name__ == "__main__":
    path, *words = sys.argv[1:]
    config = MatrixConfig(rooms="--rooms" in words)
    rows = run(pathlib.Path(path), config, only=[word for word in words if word != "--rooms"]).results["mutants"]
    for row in rows:
        print(f"{row['name']:34s} {len(row['failed']):3d} of {len(row['failed']) + row['num_passed']:3d} tests fail")
