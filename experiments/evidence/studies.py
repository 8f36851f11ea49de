"""The studies by name, in the order in which they are listed."""

from experiments.evidence.study import Study

STUDIES: dict[str, Study] = {}
