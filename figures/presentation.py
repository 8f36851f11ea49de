"""A record as its experiment ends: in a terminal, and drawn beside it."""

import importlib
import pathlib
from typing import Any

from figures import tables
from sublim_jax import commands, errors, records
from sublim_jax.forms import (
    audit,
    audit_weights,
    defend,
    diffusion,
    diffusion_conditional,
    directions,
    evidence_authors,
    evidence_defences,
    evidence_forecast,
    evidence_lineage,
    evidence_marks,
    evidence_pilots,
    evidence_policies,
    evidence_removal,
    evidence_skills,
    evidence_skills_real,
    language,
    language_real,
    mnist_aux,
    own_transfer,
    speed,
    theorem,
)

FORMS = {
    form.experiment: form
    for form in (
        mnist_aux.FORM, speed.FORM, theorem.FORM, diffusion.FORM, diffusion_conditional.FORM, directions.FORM,
        language_real.FORM, own_transfer.FORM, audit.FORM, audit_weights.FORM, defend.FORM, evidence_defences.FORM,
        evidence_forecast.FORM, evidence_authors.FORM, evidence_lineage.FORM, evidence_marks.FORM,
        evidence_pilots.FORM, evidence_policies.FORM, evidence_removal.FORM, evidence_skills.FORM,
        evidence_skills_real.FORM,
    )
}  # fmt: skip


def _read(path: pathlib.Path) -> records.Record:
    """The record, in the form of its experiment.

    Raises:
        RecordError: as `records.read`, or there is no form for its experiment.
    """
    experiment = records.read(path).experiment
    if experiment.startswith("language_") and experiment not in FORMS:
        return language.read(path)
    if experiment not in FORMS:
        raise errors.RecordError(f"{path}: expected a record of {', '.join(FORMS)}, got one of {experiment}")
    return records.read(path, FORMS[experiment])


def _module(experiment: str) -> Any:
    """The module with an experiment's `lines` and `save`; None where they are elsewhere."""
    room, _, name = experiment.partition("_")
    if room == "evidence":
        return importlib.import_module(f"figures.evidence.{name}")
    if experiment == "language_real":
        return importlib.import_module("figures.language.real")
    if experiment in (
        "audit", "audit_weights", "defend", "diffusion", "diffusion_conditional", "directions", "own_transfer",
    ):  # fmt: skip
        return importlib.import_module(f"figures.{experiment}")
    return None


def show(path: pathlib.Path) -> None:
    """Print the record's tables, or a line for each of its parts.

    Raises:
        RecordError: the record cannot be read.
    """
    record, console = _read(path), commands.open_console()
    if module := _module(record.experiment):
        print("\n".join(module.lines(record)))
    elif record.experiment == "mnist_aux":
        console.print(tables.figure_10(record))
    elif record.experiment == "speed":
        for table in tables.speed(record):
            console.print(table)
    elif record.experiment.startswith("language_"):
        from figures.language import tables as language_tables

        print("\n".join(language_tables.table(record)))
    else:
        from figures.theorem import summary

        for line in summary.lines(record):
            print(line)


def draw(path: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record beside it and return the paths of its figures.

    Raises:
        OutputError: something else than a figure of ours is there.
        RecordError: the record cannot be read.
    """
    from figures import mnist_aux as figure_10
    from figures import speed as speeds
    from figures.theorem import draw as theorems

    experiment = _read(path).experiment
    if module := _module(experiment):
        return module.save(path, path.with_suffix(""))
    if experiment.startswith("language_"):
        from figures.language import gallery

        return list(gallery.save(path, path.with_suffix("")))
    save = {"mnist_aux": figure_10.save, "speed": speeds.save, "theorem": theorems.save_all}
    return save[experiment](path, path.with_suffix(""))
