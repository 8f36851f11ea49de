"""Every planted fault is seen by some property, and the unspoiled library by none.

pytest tests/theory/mutants -m mutants
"""

import pathlib

import pytest

from sublim_jax import records
from sublim_jax.forms import theorem as form
from tests.theory import properties, universal
from tests.theory.mutants import faults, matrix

pytestmark = [pytest.mark.slow, pytest.mark.mutants]

NUM_PROBLEMS = 50
RECORD = pathlib.Path(__file__).parents[3] / "experiments/records/theorem-mutants.json"
CHEAP = (
    "exact_counterexamples",
    "control",
    "unused_rows",
    "metric",
    "filtered",
    "slope",
    "constant",
    "parts",
    "two_paths",
)
"""Properties that compile fastest come first."""


@pytest.fixture(scope="module")
def problems():
    return [universal.drawn(seed).problem() for seed in range(NUM_PROBLEMS)]


@pytest.fixture(scope="module")
def order() -> dict[str, list[str]]:
    """All properties for each fault: those that the record says kill it before the others, cheap ones first."""
    kills = {row["name"]: row["kills"] for row in records.read(RECORD, form.MUTANTS).results["mutants"]}
    cheap = [*CHEAP, *(name for name in properties.PROPERTIES if name not in CHEAP)]
    return {
        fault.name: sorted(cheap, key=lambda name: not kills.get(fault.name, {}).get(name)) for fault in faults.FAULTS
    }


@pytest.mark.parametrize("name", properties.PROPERTIES)
def test_the_unspoiled_library_violates_nothing(name, problems):
    assert matrix.kill_rates(None, problems, [name]) == {name: 0.0}


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_killed(fault, problems, order):
    """By some property. The record only says which to ask first."""
    assert any(matrix.is_killed_by(name, fault, problems) for name in order[fault.name]), (
        f"{fault.name} ({fault.what}) survived {len(properties.PROPERTIES)} properties on {len(problems)} problems"
    )


def test_there_are_enough_faults_and_each_has_a_name_of_its_own():
    names = [fault.name for fault in faults.FAULTS]
    assert len(names) == len(set(names)) >= 20
