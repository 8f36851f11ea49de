"""Runs `bits.py` where the compiler has the options that a user's has."""

import re

import pytest


@pytest.mark.slow
def test_programs_that_share_a_member_agree_bit_for_bit(run_python):
    done = run_python(
        "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "tests/training/bits.py", XLA_FLAGS=""
    )
    assert done.returncode == 0 and re.search(r"\b4 passed", done.stdout), done.stdout + done.stderr
