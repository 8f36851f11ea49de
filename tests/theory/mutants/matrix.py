"""Which property kills which fault, and how often: the kill matrix.

    python -m tests.theory.mutants.matrix kill_matrix.json      a few minutes on two cores

Each entry is the share of random problems on which the property is violated once the fault is planted. The lesson is in
the first column: a test of the sign alone lets through whatever satisfies the theorem, right or wrong.
"""

import contextlib
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator

import jax
import numpy as np
import pytest

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


_REACH: dict[tuple[str, str, str], bool] = {}


def _reaches(module, attribute, name) -> bool:
    key = (module.__name__, attribute, name)
    if key not in _REACH:
        fault = faults.Fault("", "", module, attribute, getattr(module, attribute))
        _REACH[key] = reaches(fault, name, universal.drawn(0).problem())
    return _REACH[key]


def kill_matrix(num_problems: int = 100, names: Iterable[str] = tuple(properties.PROPERTIES)) -> dict:
    """Every fault against every property, and none against all of them. Runs in float64 whatever JAX is set to."""
    with jax.enable_x64(True):
        problems = [universal.drawn(seed).problem() for seed in range(num_problems)]
        rows = [{"name": "none", "what": "the library as it is", "kills": kill_rates(None, problems, names)}]
        for fault in faults.FAULTS:
            rows.append({"name": fault.name, "what": fault.what, "kills": kill_rates(fault, problems, names)})
    return {
        "num_problems": num_problems,
        "properties": list(names),
        "mutants": rows,
        "missed_by_the_sign_alone": [row["name"] for row in rows[1:] if row["kills"].get("sign", 0.0) == 0.0],
        "survivors": [row["name"] for row in rows[1:] if max(row["kills"].values()) == 0.0],
    }


def write(path: pathlib.Path, num_problems: int = 100) -> dict:
    """The kill matrix as JSON at `path`."""
    matrix = kill_matrix(num_problems)
    path.write_text(json.dumps(matrix, indent=1) + "\n")
    return matrix


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    found = write(pathlib.Path(sys.argv[1]))
    for row in found["mutants"]:
        print(f"{row['name']:28s}", *(f"{name} {rate:.2f}" for name, rate in row["kills"].items() if rate))
