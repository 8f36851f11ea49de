"""A planted fault: one edit of the source, and the tests that are to see it."""

from typing import NamedTuple


class Fault(NamedTuple):
    """Replace `old` by `new` in `file`; `what` says in words what is wrong then."""

    name: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]  # as pytest names them: the cheapest that see it
    survives: str = ""  # why no test can see it, or none yet; empty for the others


ORACLE = "tests/training/test_oracle.py::test_what_a_spec_asks_for_is_done"
"""A whole member beside a second implementation of it, which sees faults of several rooms."""
