"""The atlas as its records tell it: rows, arms, published values, and each member's number."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from figures import values
from sublim_jax import records
from sublim_jax.forms import atlas as form

FOLDER = values.RECORDS / "atlas"
NOT_STUDENTS = ("reference", "teacher", "matched_start")
"""What is not trained epoch by epoch beside the students, so that it has one value however long they are trained."""


class Source(NamedTuple):
    """Who published something; see `forms.atlas.Source`."""

    short: str
    name: str
    protocol: str
    num_members: int | None
    base: float | None
    base_measure: str
    comparable: bool


class Published(NamedTuple):
    """One published number."""

    source: str
    value: float
    condition: str = "student_aux"
    measure: str = "accuracy"
    half_width: float | None = None
    why_not_comparable: str = ""


class Arm(NamedTuple):
    """One setting of a row."""

    label: str
    x: float | None = None
    epoch: int | None = None
    generation: int | None = None
    group: str = ""
    signs: Mapping[str, int] = {}
    chance: float = 0.1
    conditions: tuple[str, ...] = ("student_aux",)
    metrics: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()


class Row(NamedTuple):
    """One question."""

    id: str
    axis: str
    question: str
    arms: tuple[Arm, ...] = ()
    place: int = 0
    expected: str = ""
    note: str = ""
    x_label: str = ""
    log_x: bool = False
    not_run: str = ""
    about: str = "means"
    cited: tuple[str, ...] = ()
    is_published: bool = True  # whether somebody has published something of it, to our knowledge


class Atlas(NamedTuple):
    """Rows in their order, their sources, and the records of those that have one."""

    rows: tuple[Row, ...]
    sources: Mapping[str, Source]
    records: Mapping[str, records.Record]  # by row

    @property
    def published(self) -> list[Row]:
        """Rows that somebody has published."""
        return [row for row in self.rows if row.is_published]

    @property
    def unpublished(self) -> list[Row]:
        """Rows that nobody has published."""
        return [row for row in self.rows if not row.is_published]

    def row(self, name: str) -> Row:
        """The row of this id.

        Raises:
            KeyError: there is none.
        """
        return {row.id: row for row in self.rows}[name]

    def arms(self, name: str) -> dict[str, Any]:
        """Results by arm in the record of the row of this id; none if it has no record."""
        return self.records[name].results["arms"] if name in self.records else {}


def row_of(description: Mapping[str, Any]) -> Row:
    """The row that a record or the catalogue describes. What later versions may add to a description is not read."""
    arms = [
        Arm(**_fields(arm, Arm))._replace(
            conditions=tuple(arm["conditions"]),
            metrics=tuple(arm["metrics"]),
            published=tuple(Published(**_fields(value, Published)) for value in arm["published"]),
        )
        for arm in description["arms"]
    ]
    return Row(**_fields(description, Row))._replace(arms=tuple(arms), cited=tuple(description["cited"]))


def _fields(content: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    return {name: content[name] for name in kind._fields}


def read(folder: pathlib.Path) -> Atlas:
    """The atlas of a folder of records, with the rows that have none where a catalogue lies beside the folder.

    Raises:
        RecordError: a JSON file there is not a row's record, or the catalogue is damaged.
    """
    visible = (path for path in sorted(folder.glob("*.json")) if not path.name.startswith("."))
    there = {record.config["row"]: record for record in (records.read(path, form.FORM) for path in visible)}
    rows = {name: row_of(record.description) for name, record in there.items()}
    sources = {key: source for record in there.values() for key, source in record.description["sources"].items()}
    catalogue = folder.with_name(f"{folder.name}-rows.json")
    if catalogue.exists():
        listed = records.read(catalogue, form.CATALOGUE).description
        rows = {row["id"]: row_of(row) for row in listed["rows"]} | rows
        sources = listed["sources"] | sources
    ordered = sorted(rows.values(), key=lambda row: (row.place, row.id))
    by_place = {row.id: there[row.id] for row in ordered if row.id in there}
    return Atlas(tuple(ordered), {key: Source(**_fields(source, Source)) for key, source in sources.items()}, by_place)


def arm_values(arms: Mapping[str, Any], arm: Arm, condition: str = "student_aux", measure: str = "accuracy"):
    """One number per member of an arm of a row's record; see `of_members`."""
    members = arms.get(arm.label, {}).get("members", {})
    ordered = [members[name] for name in sorted(members, key=int)]
    return of_members(ordered, condition, measure, arm.epoch, arm.generation)


def of_members(
    members: Iterable[dict[str, Any]],
    condition: str,
    measure: str = "accuracy",
    epoch: int | None = None,
    generation: int | None = None,
) -> np.ndarray:
    """One number per member; not a number where it diverged or was not measured.

    Args:
        measure: "accuracy", "gap" (the condition minus cross_model_aux), or a measure's name.
        epoch: after so many epochs of the students, instead of at the end.
        generation: of the students of students, 1 being the teacher's, instead of the last.
    """
    if generation is not None:
        chains = [member["metrics"].get("generation_accuracy", {}).get(condition) for member in members]
        return np.array([np.nan if chain is None else chain[generation - 1] for chain in chains], float)
    return np.array([_value(member, condition, measure, epoch) for member in members], float)


def _value(member: dict[str, Any], condition: str, measure: str, epoch: int | None) -> float:
    if measure == "gap":
        return _value(member, condition, "accuracy", epoch) - _value(member, "cross_model_aux", "accuracy", epoch)
    if epoch is not None and condition not in NOT_STUDENTS:
        name = {"accuracy": "epoch_accuracy"}.get(measure, f"epoch_{measure}")
        along = member["metrics"].get(name, {}).get(condition)
        number = None if along is None else along[epoch - 1]
    elif measure == "accuracy":
        number = member["accuracy"].get(condition)
    else:
        number = member["metrics"].get(measure, {}).get(condition)
    return np.nan if number is None else number
