"""Which property kills which fault, and how often: the kill matrix.

    python -m tests.theory.mutants.matrix experiments/records/theorem-mutants.json      minutes on two cores

Each entry is the share of random problems on which the property is violated once the fault is planted. The lesson is in
the first column: a test of the sign alone lets through whatever satisfies the theorem, right or wrong.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Iterable, Iterator
from typing import Annotated

import jax
import numpy as np
import pytest
import tyro

from experiments import cli, progress
from sublim_jax import records
from sublim_jax.forms import theorem as form
from tests.theory import properties, universal
from tests.theory.mutants import faults


@contextlib.contextmanager
def planted(fault: faults.Fault | None) -> Iterator[None]:
    """The library with the fault in place; nothing when there is none."""
    with pytest.MonkeyPatch.context() as patch:
        if fault is not None:
            patch.setattr(fault.module, fault.attribute, fault.replacement)
        yield


def reaches(fault: faults.Fault, name: str, problem: universal.Problem) -> bool:
    """Whether the property calls what the fault replaces. If not, there is nothing to compile and nothing to kill."""
    called = []

    def recorded(*arguments, **options):
        called.append(True)
        return original(*arguments, **options)

    original = getattr(fault.module, fault.attribute)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fault.module, fault.attribute, recorded)
        jax.eval_shape(lambda p: properties.PROPERTIES[name](p), problem)
    return bool(called)


def kill_rates(fault: faults.Fault | None, problems: list[universal.Problem], names: Iterable[str]) -> dict[str, float]:
    """Share of the problems on which each property is violated. NaN counts as violated."""
    rates = {}
    for name in names:
        if fault is not None and not _reaches(fault.module, fault.attribute, name):
            rates[name] = 0.0
            continue
        with planted(fault):
            evaluate = properties.compiled((name,))
            violations = np.array([float(evaluate(problem)[name]) for problem in problems])
        rates[name] = float(np.mean(~(violations <= 1)))
    return rates


def is_killed_by(name: str, fault: faults.Fault, problems: Iterable[universal.Problem]) -> bool:
    """Whether the property is violated on one of the problems, which are asked until one is. NaN counts as violated."""
    if not _reaches(fault.module, fault.attribute, name):
        return False
    with planted(fault):
        evaluate = properties.compiled((name,))
        return any(not float(evaluate(problem)[name]) <= 1 for problem in problems)


_REACH: dict[tuple[str, str, str], bool] = {}


def _reaches(module, attribute, name) -> bool:
    key = (module.__name__, attribute, name)
    if key not in _REACH:
        fault = faults.Fault("", "", module, attribute, getattr(module, attribute))
        _REACH[key] = reaches(fault, name, universal.drawn(0).problem())
    return _REACH[key]


@dataclasses.dataclass(frozen=True)
class MatrixConfig:
    """Problems have the seeds 0 to `num_problems - 1`, those of `test_mutants` among them."""

    num_problems: int = 100


def run(path: pathlib.Path, config: MatrixConfig | None = None) -> records.Record:
    """Every fault against every property, and none against all of them: the record at `path`, written row by row."""
    config = config or MatrixConfig()
    with records.opened(path, form.MUTANTS) as output:
        return _run(config, output)


def _run(config: MatrixConfig, output: records.Output) -> records.Record:
    record = records.Record.begin(
        "tests.theory.mutants.matrix", config, {"name": "drawn networks", "source": "the seeds", "checksum": None}
    )
    record.notes.append("float64; each entry is the share of problems on which the property is violated")
    record = output.begin(record)
    names = tuple(properties.PROPERTIES)
    rows = record.results["mutants"] = []
    record.results["properties"] = list(names)
    record.results["faults"] = ["none", *(fault.name for fault in faults.FAULTS)]
    began = time.perf_counter()
    problems = [universal.drawn(seed).problem() for seed in range(config.num_problems)]
    planted_ones = [None, *faults.FAULTS]
    with progress.Display("kill matrix", total=len(planted_ones), unit="faults") as display:
        for fault in planted_ones:
            name, what = (fault.name, fault.what) if fault else ("none", "the library as it is")
            display.doing(name)
            rows.append({"name": name, "what": what, "kills": kill_rates(fault, problems, names)})
            record.results["missed_by_the_sign_alone"] = [row["name"] for row in rows[1:] if not row["kills"]["sign"]]
            record.results["survivors"] = [row["name"] for row in rows[1:] if not max(row["kills"].values())]
            record.seconds["kill_rates"] = round(time.perf_counter() - began, 1)
            output.write(record)
            display.advance()
    return record


def main(path: Annotated[pathlib.Path, tyro.conf.Positional]) -> None:
    """Which property sees which planted fault: the record at this path, which is also printed.

    Args:
        path: of the record.
    """
    found = run(path).results
    for row in found["mutants"]:
        print(f"{row['name']:28s}", *(f"{name} {rate:.2f}" for name, rate in row["kills"].items() if rate))
    print(f"{len(found['missed_by_the_sign_alone'])} faults are missed by the sign alone")
    print(f"survivors: {found['survivors']}")


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_enable_x64", True)
    cli.main(lambda: tyro.cli(main, prog="python -m tests.theory.mutants.matrix"))
