"""Old records come to the present schema with every value as it was, and say what the code says of them now."""

import dataclasses
import json
import pathlib
import shutil

import pytest

from experiments import migrate
from experiments.atlas import catalogue, store
from sublim_jax import errors, files, migration, records
from sublim_jax.forms import atlas, mnist_aux, speed

OLD = sorted((pathlib.Path(__file__).parents[1] / "old_records").glob("*.json"))
COMMITTED = pathlib.Path(migrate.__file__).parent / "records"
ENVELOPE = ("description", "provenance", "schema")


def values_of(path: pathlib.Path) -> list[str]:
    """All values of a record that are not its envelope, digit by digit; hashes of settings follow their names."""
    content = json.loads(path.read_text())

    def leaves(value, key=""):
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from leaves(inner, name)
        elif isinstance(value, list):
            for inner in value:
                yield from leaves(inner, key)
        elif key != "setting":
            yield json.dumps(value)

    member = content["config"].get("member", {})
    for name in migration.IMPLIED_IN_2:  # what no earlier config could say
        member.pop(name, None)
    return sorted(leaves({name: value for name, value in content.items() if name not in ENVELOPE}))


def test_there_are_records_of_schema_1_of_several_experiments():
    contents = [json.loads(path.read_text()) for path in OLD]
    assert {content["schema"] for content in contents} == {1}
    assert {content["experiment"] for content in contents} >= {"atlas", "mnist_aux", "speed"}


@pytest.mark.parametrize("old", OLD, ids=lambda path: path.stem)
def test_an_old_record_keeps_every_value_and_is_what_is_committed(tmp_path, old):
    path = tmp_path / old.name
    shutil.copy(old, path)
    with pytest.raises(errors.RecordError, match=f"^{path}: the record has schema 1, .*experiments.migrate {path}$"):
        records.read(path)
    assert migrate.migrate(path)
    (committed,) = COMMITTED.rglob(old.name)
    assert values_of(path) == values_of(old) == values_of(committed)
    assert records.read(path).provenance is None
    once = path.read_bytes()
    assert not migrate.migrate(path) and path.read_bytes() == once


@pytest.mark.parametrize(
    ("name", "form"), [("one-logit", atlas.FORM), ("speed", speed.FORM), ("mnist_aux-matched-teacher", mnist_aux.FORM)]
)
def test_a_migrated_record_describes_itself(tmp_path, name, form):
    (old,) = (path for path in OLD if path.stem == name)
    shutil.copy(old, tmp_path / old.name)
    migrate.main((tmp_path,))
    assert records.read(tmp_path / old.name, form).complete


@pytest.mark.parametrize("path", sorted(COMMITTED.rglob("*.json")), ids=lambda path: path.stem)
def test_a_committed_description_is_that_of_the_code(path):
    """Where a row was corrected, python -m experiments.atlas --describe writes it into the records."""
    record = records.read(path)
    described = migrate.DESCRIBED.get(record.experiment, lambda record: record.description)(record)
    assert records.to_json(described) == record.description


def test_a_corrected_row_reaches_its_record_and_the_catalogue_and_no_result(tmp_path, monkeypatch):
    folder = tmp_path / "rows"
    folder.mkdir()
    for name in ("one-logit", "loss"):
        shutil.copy(COMMITTED / "atlas" / f"{name}.json", folder)
    before = {path: values_of(path) for path in folder.iterdir()}
    store.describe(folder)
    catalogued = tmp_path / "rows-rows.json"
    assert records.read(catalogued, atlas.CATALOGUE).complete
    rows = tuple(
        dataclasses.replace(row, note="corrected") if row.id == "loss" else row for row in catalogue.ROWS["all"]
    )
    monkeypatch.setitem(catalogue.ROWS, "all", rows)
    assert len(store.describe(folder)) == 3
    corrected, other = (records.read(folder / f"{name}.json", atlas.FORM) for name in ("loss", "one-logit"))
    assert corrected.description["note"] == "corrected" != other.description["note"]
    listed = {row["id"]: row["note"] for row in records.read(catalogued, atlas.CATALOGUE).description["rows"]}
    assert listed["loss"] == "corrected"
    assert {path: values_of(path) for path in before} == before


def test_other_files_are_left_alone_and_a_file_that_is_named_must_be_a_record(tmp_path):
    shutil.copy(OLD[0], tmp_path / "old.json")
    (tmp_path / "thesis.json").write_text('{"title": "thesis"}')
    assert migrate.records_at(tmp_path) == [tmp_path / "old.json"]
    with pytest.raises(errors.RecordError, match=r"thesis\.json: this JSON file is not a record"):
        migrate.main((tmp_path / "thesis.json",))
    with pytest.raises(errors.RecordError, match="there is no such record"):
        migrate.main((tmp_path / "none.json",))


def test_a_record_that_is_being_written_or_damaged_is_refused_and_stays(tmp_path):
    (old,) = (path for path in OLD if path.stem == "mnist_aux-matched-teacher")
    path = tmp_path / "r.json"
    shutil.copy(old, path)
    with files.Lock(path), pytest.raises(errors.LockedError):
        migrate.migrate(path)
    content = json.loads(path.read_text())
    del content["config"]["conditions"]
    path.write_text(json.dumps(content))
    before = path.read_bytes()
    with pytest.raises(
        errors.RecordError, match=f"^{path}: (the config of this record of mnist_aux|this record) is damaged"
    ):
        migrate.migrate(path)
    assert path.read_bytes() == before
