"""The bar that compiled programs report to."""

import time

import pytest

from experiments import progress
from sublim_jax.training import lineage


def test_time_is_booked_on_the_phase_that_a_report_ends():
    reporter = progress.Reporter()
    with reporter.listening(total=3, visible=False) as clock:
        time.sleep(0.05)
        reporter(lineage.Progress(0, "teacher", 0))
        reporter(lineage.Progress(0, "student", 0))
        time.sleep(0.1)
        reporter(lineage.Progress(0, "student", 1))
        clock.book("evaluation")
    assert clock.seconds.keys() == {"teacher", "student", "evaluation"}
    assert clock.seconds["teacher"] >= 0.05 and clock.seconds["student"] >= 0.1


def test_nobody_listens_afterwards_even_if_the_run_fails():
    reporter = progress.Reporter()
    with pytest.raises(RuntimeError), reporter.listening(total=1, visible=False) as clock:
        raise RuntimeError
    reporter(lineage.Progress(0, "teacher", 0))
    assert not clock.seconds
