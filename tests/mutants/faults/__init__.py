"""What can go wrong outside the theory: one edit of the source each, and the tests that are to see it.

Each file has the faults of one part of the house. A fault is what a person could write by mistake or leave out. `old`
must stand in its file exactly once, so that code that moves takes its fault along: a default test says which no longer
fits.
"""

from tests.mutants.fault import Fault
from tests.mutants.faults import (
    atlas,
    audit,
    audit_author,
    audit_lineage,
    audit_marks,
    audit_pilots,
    conv,
    data,
    defend,
    diffusion,
    directions,
    experiments,
    figures,
    language,
    library,
    llm,
    metrics,
    models,
    own,
    real,
    training,
    unseen,
)

FAULTS: tuple[Fault, ...] = (
    *training.FAULTS,  # the slowest come first, so that all cores end together
    *experiments.FAULTS,
    *data.FAULTS,
    *metrics.FAULTS,
    *models.FAULTS,
    *conv.FAULTS,
    *library.FAULTS,
    *llm.FAULTS,
    *language.FAULTS,
    *atlas.FAULTS,
    *audit.FAULTS,
    *audit_author.FAULTS,
    *audit_lineage.FAULTS,
    *audit_marks.FAULTS,
    *audit_pilots.FAULTS,
    *defend.FAULTS,
    *diffusion.FAULTS,
    *directions.FAULTS,
    *figures.FAULTS,
    *real.FAULTS,
    *own.FAULTS,
    *unseen.FAULTS,
)
