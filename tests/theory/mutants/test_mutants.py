"""Every planted fault is seen by some property, and the unspoiled library by none.

pytest tests/theory/mutants -m mutants
"""

import pytest

from tests.theory import properties, universal
from tests.theory.mutants import faults, matrix

pytestmark = [pytest.mark.slow, pytest.mark.mutants]

NUM_PROBLEMS = 50


@pytest.fixture(scope="module")
def problems():
    return [universal.drawn(seed).problem() for seed in range(NUM_PROBLEMS)]


def test_the_unspoiled_library_violates_nothing(problems):
    assert set(matrix.kill_rates(None, problems, properties.PROPERTIES).values()) == {0.0}


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_killed(fault, problems):
    """By the cheap properties if they can; the others are asked only when those do not see it."""
    cheap = [name for name in ("slope", "control", "two_paths", "unused_rows") if name in properties.PROPERTIES]
    others = [name for name in properties.PROPERTIES if name not in cheap]
    for name in (*cheap, *others):
        if matrix.kill_rates(fault, problems, [name])[name] > 0:
            return
    pytest.fail(
        f"{fault.name} ({fault.what}) survived {len(properties.PROPERTIES)} properties on {len(problems)} problems"
    )


def test_there_are_enough_faults_and_each_has_a_name_of_its_own():
    names = [fault.name for fault in faults.FAULTS]
    assert len(names) == len(set(names)) >= 20
