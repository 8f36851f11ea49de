"""The studies by name, in the order in which they are listed."""

from experiments.evidence import (
    authors,
    defences,
    forecast,
    lineage,
    marks,
    pilots,
    policies,
    removal,
    skills,
    skills_real,
)
from experiments.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        forecast.STUDY,
        pilots.STUDY,
        defences.STUDY,
        removal.STUDY,
        policies.STUDY,
        authors.STUDY,
        lineage.STUDY,
        marks.STUDY,
        skills.STUDY,
        skills_real.STUDY,
    )
}
