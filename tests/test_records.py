"""Records: what goes in comes out, whole or not at all, and nothing is taken for a record that is none."""

import dataclasses
import json
import os
import pathlib
import stat
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors, records


@dataclasses.dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = (3, 4)


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    rate: float = 1e-3
    inner: Inner = dataclasses.field(default_factory=Inner)
    name: str = "größer"


class Point(NamedTuple):
    x: float
    y: np.ndarray


DATA = {"name": "mnist", "source": "IDX files", "checksum": "abc"}


def make(**changes) -> records.Record:
    """A record with something in every field."""
    record = records.Record.begin("example", Config(), dict(DATA))
    record.results = {"members": {"0": {"accuracy": {"teacher": 0.25}}}}
    record.seconds, record.notes = {"compile": 1.5}, ["a note"]
    return dataclasses.replace(record, **changes)


def test_a_record_comes_back_as_it_was(tmp_path):
    path = tmp_path / "new" / "folder" / "record.json"
    record = make()
    records.write(path, record)
    assert records.read(path) == record
    assert record.config == {"seed": 0, "rate": 1e-3, "inner": {"sizes": [3, 4]}, "name": "größer"}
    assert set(record.versions) == {"python", "sublim-jax", "jax", "jaxlib", "optax", "numpy"}
    assert record.device["platform"] and record.device["count"] >= 1 and record.device["processes"] == 1
    assert record.created.endswith("+00:00")
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(results=st.dictionaries(st.text(), json_values, max_size=4))
def test_any_results_survive_the_round_trip_through_plain_json(results, tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "record.json"
    records.write(path, make(results=results))
    assert records.read(path).results == results
    assert json.loads(path.read_text(encoding="utf-8"))["results"] == results


def test_arrays_tuples_paths_and_named_tuples_become_what_json_has():
    assert records.to_jsonable(
        {
            1: np.arange(3, dtype=np.uint8),
            "jax": jnp.array([[0.5]]),
            "scalar": np.float32(0.25),
            "path": pathlib.Path("a") / "b",
            "point": Point(1.0, np.array([True])),
            "config": Inner(),
        }
    ) == {
        "1": [0, 1, 2],
        "jax": [[0.5]],
        "scalar": 0.25,
        "path": os.path.join("a", "b"),
        "point": {"x": 1.0, "y": [True]},
        "config": {"sizes": [3, 4]},
    }


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_written_as_null(tmp_path, bad):
    path = tmp_path / "record.json"
    records.write(path, make(results={"plain": bad, "numpy": np.float32(bad), "array": jnp.array([1.0, bad])}))
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["results"] == {
        "plain": None,
        "numpy": None,
        "array": [1.0, None],
    }


def test_a_list_of_numbers_stays_on_one_line(tmp_path):
    path = tmp_path / "record.json"
    records.write(path, make(results={"losses": list(range(100)), "nested": [{"a": 1}, {"a": 2}]}))
    assert f'"losses": {list(range(100))}' in path.read_text()


class Crash(BaseException):
    """The process dies here: nothing below may run, not even what catches an Exception."""


@pytest.mark.parametrize("victim", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("accident", [Crash(), OSError(28, "No space left on device")])
def test_a_crash_while_writing_leaves_the_old_record(tmp_path, monkeypatch, victim, accident):
    path = tmp_path / "record.json"
    old = make()
    records.write(path, old)

    def fail(*_):
        raise accident

    with monkeypatch.context() as patch:
        patch.setattr(os, victim, fail)
        with pytest.raises((Crash, errors.RecordError)) as caught:
            records.write(path, make(complete=True))
    assert records.read(path) == old
    if isinstance(accident, OSError):
        assert str(caught.value) == (
            f"{path}: the record cannot be written (No space left on device); give another place with --record"
        )
        assert list(tmp_path.iterdir()) == [path], "an attempt that failed is not left lying about"
    records.write(path, make(complete=True))
    assert records.read(path).complete


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.RecordError, match=r"file/record.json: the record cannot be written \(.*--record"):
        records.write(tmp_path / "file" / "record.json", make())


def content(**changes):
    return json.dumps(records.to_jsonable(make()) | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is not a readable JSON file"),
        (content()[:100], "this is not a readable JSON file"),
        ("[1, 2]", "this JSON file is not a record; expected an object with"),
        ("{}", "this JSON file is not a record"),
        ('{"experiment": "example", "schema": 1}', "this JSON file is not a record"),
        (content(surprise=1), "this JSON file is not a record"),
        (content(schema=99), "the record has schema 99, this version reads 1; make it again, or read it with the ver"),
        (content(schema=99, surprise=1), "the record has schema 99, this version reads 1"),
        (content(schema=99, versions=None), "the record has schema 99, this version reads 1"),
    ],
)
def test_what_is_no_record_of_this_version_is_refused(tmp_path, text, message):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(errors.RecordError) as caught:
        records.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_bytes_that_are_no_text_and_a_folder_are_refused(tmp_path):
    (tmp_path / "record.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "record.json", tmp_path):
        with pytest.raises(errors.RecordError, match="this is not a readable JSON file"):
            records.read(path)


def test_a_missing_record_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(errors.RecordError, match="there is no such record; run the experiment that makes it first"):
        records.read(tmp_path / "none.json")


def test_resuming_without_a_record_begins_afresh(tmp_path):
    fresh = make()
    assert records.resumable(tmp_path / "none.json", fresh) is fresh


def test_resuming_goes_on_with_the_old_record_even_if_the_same_data_came_from_elsewhere(tmp_path):
    path = tmp_path / "record.json"
    records.write(path, make())
    fresh = make(results={}, notes=[], data=DATA | {"source": "TensorFlow Datasets"})
    resumed = records.resumable(path, fresh)
    assert resumed.results == make().results
    assert resumed.notes == ["a note"]
    assert resumed.data["source"] == "IDX files"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiment": "other"}, "its experiment differs: 'example' before, 'other' now"),
        ({"config": records.to_jsonable(Config(seed=1))}, "its config differs: seed: 0 before, 1 now"),
        (
            {"config": records.to_jsonable(Config(inner=Inner((3, 5))))},
            r"its config differs: inner.sizes: \[3, 4\] before, \[3, 5\] now",
        ),
        ({"config": {"seed": 0}}, "its config differs: inner: {.*} before, None now"),
        ({"data": DATA | {"checksum": "def"}}, "its data differs: checksum: 'abc' before, 'def' now"),
    ],
)
def test_resuming_another_run_is_refused_with_the_first_difference(tmp_path, changes, message):
    path = tmp_path / "record.json"
    records.write(path, make())
    with pytest.raises(errors.RecordError, match=f"cannot resume, {message}. Use the same flags as before, or another"):
        records.resumable(path, make(**changes))


def test_resuming_on_another_machine_or_version_is_noted(tmp_path):
    path = tmp_path / "record.json"
    old = make()
    records.write(path, dataclasses.replace(old, versions=old.versions | {"jax": "0.1"}, device={"platform": "abacus"}))
    notes = records.resumable(path, make()).notes
    assert notes[0] == "a note"
    assert notes[1] == f"resumed with other versions: jax: '0.1' before, {old.versions['jax']!r} now"
    assert notes[2].startswith("resumed with other device: count: None before, ")


def test_a_record_in_the_way_is_renamed_and_never_lost(tmp_path):
    path = tmp_path / "run.json"
    assert records.set_aside(path) is None
    for number in (1, 2, 3):
        path.write_text(str(number))
        assert records.set_aside(path) == tmp_path / f"run.old{number}.json"
    assert [(tmp_path / f"run.old{number}.json").read_text() for number in (1, 2, 3)] == ["1", "2", "3"]
    assert not path.exists()


@given(entries=st.dictionaries(st.text(), st.integers() | st.text(), min_size=1), data=st.data())
def test_a_fingerprint_ignores_the_order_of_keys_and_nothing_else(entries, data):
    shuffled = dict(data.draw(st.permutations(list(entries.items()))))
    name = records.fingerprint(entries)
    assert len(name) == 10 and int(name, 16) >= 0
    assert records.fingerprint(shuffled) == name
    key = data.draw(st.sampled_from(sorted(entries)))
    assert records.fingerprint(entries | {key: [entries[key]]}) != name
    assert records.fingerprint({"inner": entries}) == records.fingerprint({"inner": shuffled})


def test_a_fingerprint_sees_values_not_types_of_container():
    assert records.fingerprint(Config()) == records.fingerprint(records.to_jsonable(Config()))
    assert records.fingerprint(Config()) != records.fingerprint(Config(seed=1))
