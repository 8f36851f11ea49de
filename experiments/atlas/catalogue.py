"""All rows of the atlas, and what their records say of them."""

from collections.abc import Sequence
from typing import Any

from experiments.atlas import published, registry, sources, unpublished
from sublim_jax import records
from sublim_jax.forms import atlas as form

ROWS = {"published": published.ROWS, "unpublished": unpublished.ROWS, "all": (*published.ROWS, *unpublished.ROWS)}
PLACES = {row.id: place for place, row in enumerate(ROWS["all"])}


def described(row: registry.Row) -> form.Description:
    """What the row's record says of it: what figures and the page need beside the results."""
    named = {key: sources.SOURCES[key] for key in row.sources}
    return {**_row(row), "sources": {key: _source(source) for key, source in named.items()}}


def all_described() -> form.Catalogue:
    """The same of all rows, in their order, and all sources."""
    return {
        "rows": [_row(row) for row in ROWS["all"]],
        "sources": {key: _source(source) for key, source in sources.SOURCES.items()},
    }


def refreshed(record: records.Record) -> dict[str, Any]:
    """The description that a record of the atlas would be given now; its own, if its row is no longer in the atlas."""
    if record.experiment == form.CATALOGUE.experiment:
        return records.to_json(all_described())
    rows = {row.id: row for row in ROWS["all"]}
    row = rows.get(record.config["row"])
    return record.description if row is None else records.to_json(described(row))


def _row(row: registry.Row) -> form.Row:
    return {
        "id": row.id,
        "place": PLACES.get(row.id, len(PLACES)),
        "axis": row.axis,
        "question": row.question,
        "expected": row.expected,
        "note": row.note,
        "x_label": row.x_label,
        "log_x": row.log_x,
        "not_run": row.not_run,
        "about": row.about,
        "cited": list(row.cited),
        "is_published": row.id in {row.id for row in ROWS["published"]} if row.id in PLACES else bool(row.sources),
        "arms": [_arm(row, arm) for arm in row.arms],
    }


def _arm(row: registry.Row, arm: registry.Arm) -> form.Arm:
    spec = row.setting(arm).member
    return {
        "label": arm.label,
        "x": None if arm.x is None else float(arm.x),
        "epoch": arm.epoch,
        "generation": arm.generation,
        "group": arm.group,
        "signs": dict(arm.signs),
        "chance": row.chance_at(arm),
        "conditions": list(spec.conditions),
        "metrics": list(spec.metrics),
        "published": _published(arm.published),
    }


def _published(values: Sequence[registry.Published]) -> list[form.Published]:
    return [
        {
            "source": value.source,
            "value": value.value,
            "condition": value.condition,
            "measure": value.measure,
            "half_width": value.half_width,
            "why_not_comparable": value.how,
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
