"""All rows of the atlas in their order, and what records say about them."""

from collections.abc import Sequence
from typing import Any

from experiments.atlas.rows import (
    architecture,
    aux_logits,
    baseline,
    best,
    data,
    factorial,
    generations,
    initialization,
    inputs,
    loss,
    optimization,
    representation,
    sources,
    targets,
)
from experiments.atlas.rows.types import Published, ResolvedArm, Row
from sublim_jax import records
from sublim_jax.forms import atlas as form

PUBLISHED = (
    *baseline.PUBLISHED,
    *initialization.PUBLISHED,
    *architecture.PUBLISHED,
    *aux_logits.PUBLISHED,
    *optimization.PUBLISHED,
    *loss.PUBLISHED,
    *inputs.PUBLISHED,
    *representation.PUBLISHED,
    *best.PUBLISHED,
    *generations.PUBLISHED,
    *data.PUBLISHED,
)
"""Rows that somebody published, with the values as their authors give them.

`Published.why_not_comparable` says why a value cannot be compared with ours; `sources` names the sources that cannot be
compared at all. Where a source leaves a setting open, the row's note has our reading.
"""

UNPUBLISHED = (
    *initialization.UNPUBLISHED,
    *architecture.UNPUBLISHED,
    *optimization.UNPUBLISHED,
    *loss.UNPUBLISHED,
    *aux_logits.UNPUBLISHED,
    *targets.UNPUBLISHED,
    *inputs.UNPUBLISHED,
    *factorial.UNPUBLISHED,
    *data.UNPUBLISHED,
)
"""Rows that nobody has published, to our knowledge."""

ROWS = {"published": PUBLISHED, "unpublished": UNPUBLISHED, "all": (*PUBLISHED, *UNPUBLISHED)}
_PLACES = {row.id: place for place, row in enumerate(ROWS["all"])}
_PUBLISHED_IDS = {row.id for row in PUBLISHED}


def describe(row: Row) -> form.Description:
    """The description of a row in its record: what figures and the page need beside the results."""
    return {**_row(row), "sources": {key: _source(sources.SOURCES[key]) for key in row.sources}}


def describe_all() -> form.Catalogue:
    """The descriptions of all rows in their order, and of all sources."""
    return {
        "rows": [_row(row) for row in ROWS["all"]],
        "sources": {key: _source(source) for key, source in sources.SOURCES.items()},
    }


def refreshed_description(record: records.Record) -> dict[str, Any]:
    """The present description of a record of the atlas. It is the old one if the row is no longer in the atlas."""
    if record.experiment == form.CATALOGUE.experiment:
        return records.to_json(describe_all())
    rows = {row.id: row for row in ROWS["all"]}
    row = rows.get(record.config["row"])
    return record.description if row is None else records.to_json(describe(row))


def _row(row: Row) -> form.Row:
    return {
        "id": row.id,
        "place": _PLACES.get(row.id, len(_PLACES)),
        "axis": row.axis,
        "question": row.question,
        "expected": row.expected,
        "note": row.note,
        "x_label": row.x_label,
        "log_x": row.log_x,
        "not_run": row.not_run,
        "about": row.about,
        "cited": list(row.cited),
        "is_published": row.id in _PUBLISHED_IDS if row.id in _PLACES else bool(row.sources),
        "arms": [_arm(arm) for arm in row.resolved],
    }


def _arm(resolved: ResolvedArm) -> form.Arm:
    arm, spec = resolved.arm, resolved.setting.member
    return {
        "label": arm.label,
        "x": None if arm.x is None else float(arm.x),
        "epoch": arm.epoch,
        "generation": arm.generation,
        "group": arm.group,
        "signs": dict(arm.signs),
        "chance": resolved.chance,
        "conditions": list(spec.conditions),
        "metrics": list(spec.metrics),
        "published": _published(arm.published),
    }


def _published(values: Sequence[Published]) -> list[form.Published]:
    return [
        {
            "source": value.source,
            "value": value.value,
            "condition": value.condition,
            "measure": value.measure,
            "half_width": value.half_width,
            "why_not_comparable": value.why_not_comparable,
        }
        for value in values
    ]


def _source(source: sources.Source) -> form.Source:
    return {
        "short": source.short,
        "name": source.name,
        "protocol": source.protocol,
        "num_members": source.num_members,
        "base": source.base,
        "base_measure": source.base_measure,
        "comparable": source.comparable,
    }
