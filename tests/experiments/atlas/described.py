"""Rows as figures read them from records, and an atlas of made-up records."""

from collections.abc import Mapping

from experiments.atlas import catalogue
from experiments.atlas.rows.types import Row
from figures.atlas import values
from sublim_jax import records


def row_of(row: Row) -> values.Row:
    """The row after a round trip through JSON."""
    return values.row_of(records.to_json(catalogue.describe(row)))


def atlas_of(made: Mapping[str, records.Record]) -> values.Atlas:
    """An atlas of all rows with these records."""
    listed = records.to_json(catalogue.describe_all())
    sources = {key: values.Source(**source) for key, source in listed["sources"].items()}
    return values.Atlas(tuple(values.row_of(row) for row in listed["rows"]), sources, made)
