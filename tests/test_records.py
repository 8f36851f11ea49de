"""Records: what goes in comes out, whole or not at all, and nothing is taken for a record that is none."""

import dataclasses
import json
import os
import pathlib
import stat
from typing import NamedTuple, TypedDict

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors, migration, records


@dataclasses.dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = (3, 4)


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    rate: float = 1e-3
    inner: Inner = dataclasses.field(default_factory=Inner)
    name: str = "größer"
    num_members: int = 3


class Point(NamedTuple):
    x: float
    y: np.ndarray


DATA = {"name": "mnist", "source": "IDX files", "checksum": "abc"}


def make(**changes) -> records.Record:
    """A record with something in every field."""
    record = records.Record.begin("example", Config(), dict(DATA), description={"arms": ["aux", "all"]})
    record.results = {"members": {"0": {"accuracy": {"teacher": 0.25}}}}
    record.seconds, record.notes = {"compile": 1.5}, ["a note"]
    return dataclasses.replace(record, **changes)


def test_a_record_comes_back_as_it_was(tmp_path):
    path = tmp_path / "new" / "folder" / "record.json"
    record = make()
    records.write(path, record)
    assert records.read(path) == record
    assert record.config == {
        "seed": 0, "rate": 1e-3, "inner": {"sizes": [3, 4]}, "name": "größer", "num_members": 3,
    }  # fmt: skip
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
    assert records.to_json(
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


def test_a_crash_while_writing_leaves_the_old_record(tmp_path, monkeypatch):
    path, old = tmp_path / "record.json", make()
    records.write(path, old)

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(errors.OutputError) as caught:
            records.write(path, make(complete=True))
    assert str(caught.value).startswith(f"{path}: the record cannot be written (No space left on device). Give a path")
    assert records.read(path) == old
    assert list(tmp_path.iterdir()) == [path]
    records.write(path, make(complete=True))
    assert records.read(path).complete


@pytest.mark.parametrize(
    "content", ["{}", '{"name": "paper"}', "years of work", "[1, 2]", '{"experiment": 1, "schema": 1}']
)
def test_nothing_else_is_replaced_by_a_record(tmp_path, content):
    (tmp_path / "paper.json").write_text(content)
    with pytest.raises(errors.OutputError, match="a file is there that is not a record of sublim-jax"):
        records.write(tmp_path / "paper.json", make())
    assert (tmp_path / "paper.json").read_text() == content


def test_names_that_are_no_text_survive(tmp_path):
    """The name of a folder may hold any bytes, and Python reads what is no UTF-8 as lone surrogates."""
    path, name = tmp_path / "record.json", os.fsdecode(b"/data/gr\xf6\xdfer")
    records.write(path, make(notes=[name]))
    assert records.read(path).notes == [name]
    assert os.fsencode(json.loads(path.read_bytes())["notes"][0]) == b"/data/gr\xf6\xdfer"


def content(**changes):
    return json.dumps(records.to_json(make()) | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is not a readable JSON file"),
        (content()[:100], "this is not a readable JSON file"),
        ("[1, 2]", "this JSON file is not a record; expected an object with"),
        ("{}", "this JSON file is not a record"),
        ('{"experiment": "example", "schema": 1}', "this JSON file is not a record"),
        (content(surprise=1), "this JSON file is not a record"),
        (
            content(schema=1),
            "the record has schema 1, this version reads 3; rewrite it in place, with every value as it is, by: "
            "python -m experiments.migrate ",
        ),
        (content(schema=99), "the record has schema 99, this version reads 3; make it again, or read it with the ver"),
        (content(schema=99, surprise=1), "the record has schema 99, this version reads 3"),
        (content(schema=99, versions=None), "the record has schema 99, this version reads 3"),
        (content(schema="1"), "the record has schema '1', this version reads 3; make it again"),
        ("[" * 100_000, "this is not a readable JSON file"),
        (content()[:-1] + ', "notes": ["b"]}', "the key 'notes' is there twice"),
        (content(results={"members": 0}).replace("0}", '0, "members": 1}'), "the key 'members' is there twice"),
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


# Forms: a record is believed only as far as it is whole


class Member(TypedDict):
    accuracy: dict[str, float | None]


class Results(TypedDict):
    members: dict[str, Member]


def check(record) -> None:
    if any("teacher" not in member["accuracy"] for member in record.results["members"].values()):
        raise errors.InputError("results: a member has no teacher")


FORM = records.Form(
    experiment="example",
    config=TypedDict("Settings", {"seed": int, "num_members": int}),
    description=TypedDict("Arms", {"arms": list[str]}),
    results=Results,
    wanted=lambda record: map(str, range(record.config["num_members"])),
    present=lambda record: record.results["members"],
    check=check,
)


def members(*numbers) -> dict:
    return {"members": {str(number): {"accuracy": {"teacher": 0.25}} for number in numbers}}


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize(
    ("numbers", "complete"), [((0, 1, 2), True), ((0, 2), False), ((2, 0, 1), True), ((1,), False)]
)
def test_a_record_is_complete_if_all_is_there_whatever_it_says(tmp_path, flag, numbers, complete):
    path = tmp_path / "record.json"
    records.write(path, make(results=members(*numbers), complete=flag))
    assert records.read(path, FORM).complete is complete
    assert records.read(path).complete is flag  # without a form nobody knows


DAMAGE = {  # changes of the file's content, and what the message says after the file's name
    "results null": ({"results": None}, "results: expected an object of names and values, got None"),
    "results a list": ({"results": []}, "results: expected an object of names and values, got []"),
    "results empty": ({"results": {}}, "results: expected the key 'members', found nothing"),
    "members a list": (
        {"results": {"members": [1]}},
        "results['members']: expected an object of names and values, got",
    ),
    "no member": ({"results": {"members": {}}}, "results: nothing is there"),
    "member empty": (
        {"results": {"members": {"0": {}}}},
        "results['members']['0']: expected the key 'accuracy', found nothing",
    ),
    "member null": (
        {"results": {"members": {"0": None}}},
        "results['members']['0']: expected an object of names and values, got",
    ),
    "accuracy text": (
        {"results": {"members": {"0": {"accuracy": {"teacher": "x"}}}}},
        "results['members']['0']['accuracy']['teacher']: expected a number, got 'x'",
    ),
    "accuracy huge": (
        {"results": {"members": {"0": {"accuracy": {"teacher": 10**400}}}}},
        "results['members']['0']['accuracy']['teacher']: expected a finite number, got 1000000",
    ),
    "accuracy true": (
        {"results": {"members": {"0": {"accuracy": {"teacher": True}}}}},
        "results['members']['0']['accuracy']['teacher']: expected a number, got True",
    ),
    "accuracy missing": ({"results": {"members": {"0": {"accuracy": {}}}}}, "results: a member has no teacher"),
    "member x": ({"results": members(0, "x")}, "results: there is 'x', which the config does not ask for"),
    "member 99": ({"results": members(0, 1, 2, 99)}, "results: there is '99', which the config does not ask for"),
    "member 00": ({"results": members("00", 1, 2)}, "results: there is '00', which the config does not ask for"),
    "complete a word": ({"complete": "no"}, "complete: expected True or False, got 'no'"),
    "notes null": ({"notes": None}, "notes: expected a list, got None"),
    "note a number": ({"notes": ["a", 1]}, "notes[1]: expected a string, got 1"),
    "seconds null": ({"seconds": None}, "seconds: expected an object of names and values, got None"),
    "seconds text": ({"seconds": {"data": "1"}}, "seconds['data']: expected a number, got '1'"),
    "data a list": ({"data": []}, "data: expected an object of names and values, got []"),
    "data without a name": (
        {"data": {"source": "", "checksum": ""}},
        "data: expected the key 'name', found 'source', 'checksum'",
    ),
    "config a list": ({"config": []}, "config: expected an object of names and values, got []"),
    "config without members": ({"config": {"seed": 0}}, "config: expected the key 'num_members', found 'seed'"),
    "members a half": ({"config": {"seed": 0, "num_members": 2.5}}, "config['num_members']: expected a whole number"),
    "versions null": ({"versions": None}, "versions: expected an object of names and values, got None"),
    "description a list": ({"description": []}, "description: expected an object of names and values, got []"),
    "description without arms": ({"description": {}}, "description: expected the key 'arms', found nothing"),
    "provenance a word": ({"provenance": "here"}, "provenance: expected an object of names and values, got 'here'"),
    "provenance without a commit": (
        {"provenance": {"tree_clean": True}},
        "provenance: expected the key 'commit', found 'tree_clean'",
    ),
    "created a number": ({"created": 5}, "created: expected a string, got 5"),
    "experiment": ({"experiment": "other"}, "experiment: expected 'example', got 'other'"),
    "experiment null": ({"experiment": None}, "experiment: expected a string, got None"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_line_with_the_files_name(tmp_path, kind):
    changes, message = DAMAGE[kind]
    path = tmp_path / "record.json"
    path.write_text(json.dumps(records.to_json(make(results=members(0, 1))) | changes))
    for attempt in (lambda: records.read(path, FORM), lambda: records.opened(path, FORM, resume=True).__enter__()):
        with pytest.raises(errors.RecordError) as caught:
            attempt()
        assert str(caught.value).startswith(f"{path}: {message}"), caught.value
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith("restore it, or make it again.")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(tmp_path, number):
    path = tmp_path / "record.json"
    text = json.dumps(records.to_json(make(results=members(0))))
    path.write_text(text.replace("0.25", number))
    with pytest.raises(errors.RecordError, match=r"is not JSON|expected a finite number, got inf"):
        records.read(path, FORM)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float32("nan")])
def test_configs_and_their_names_have_finite_numbers(bad):
    """As null they would be equal to each other and to what is not set."""
    for make_it in (lambda config: records.Record.begin("example", config, DATA), records.fingerprint):
        with pytest.raises(errors.InputError, match="expected finite numbers in a config, got"):
            make_it({"rate": [1.0, bad]})


# Opening, resuming, setting aside


def run(path, *numbers, resume=False, **changes) -> records.Record:
    """A run of these members in two steps."""
    with records.opened(path, FORM, resume=resume, announce=lambda line: None) as output:
        result = output.begin(make(**{"results": {"members": {}}} | changes))
        for number in numbers:
            result.results["members"] |= members(number)["members"]
            output.write(result)
    return result


def test_a_run_writes_what_it_has_and_knows_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "record.json"
    assert not run(path, 0, 2).complete
    assert records.read(path).complete is False
    resumed = run(path, 1, resume=True)
    assert resumed.complete and records.read(path) == resumed
    assert list(resumed.results["members"]) == ["0", "2", "1"]
    assert records.read(path).memory["peak_rss_mb"] > 0


def test_a_run_without_a_record_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(None, 0, 1, 2).complete
    assert not list(tmp_path.iterdir())


def test_a_further_process_of_a_run_reads_and_does_not_write(tmp_path):
    path = tmp_path / "record.json"
    before = run(path, 0)
    content = path.read_bytes()
    with records.opened(path, FORM, resume=True) as first:
        with records.opened(path, FORM, resume=True, writes=False) as second:
            assert second.begin(make()).results == before.results
            second.write(make(results=members(0, 1)))
        with records.opened(path, FORM, writes=False) as second:
            assert second.begin(make(results={})).results == {}
        assert path.read_bytes() == content
        first.write(make(results=members(0, 1)))
    assert len(records.read(path).results["members"]) == 2


def test_resuming_without_a_record_begins_afresh(tmp_path):
    fresh = make()
    with records.opened(tmp_path / "none.json", FORM, resume=True) as output:
        assert output.begin(fresh) is fresh


def test_resuming_goes_on_with_the_old_record_even_if_the_same_data_came_from_elsewhere(tmp_path):
    path = tmp_path / "record.json"
    run(path, 0)
    resumed = run(path, resume=True, notes=[], data=DATA | {"source": "TensorFlow Datasets"})
    assert resumed.results == members(0)
    assert resumed.notes == ["a note"]
    assert resumed.data["source"] == "IDX files"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiment": "other"}, "its experiment differs: 'example' before, 'other' now"),
        ({"config": records.to_json(Config(seed=1))}, "its config differs: seed: 0 before, 1 now"),
        (
            {"config": records.to_json(Config(inner=Inner((3, 5))))},
            r"its config differs: inner.sizes: \[3, 4\] before, \[3, 5\] now",
        ),
        ({"config": {"seed": 0}}, "its config differs: inner: {.*} before, None now"),
        ({"data": DATA | {"checksum": "def"}}, "its data differs: checksum: 'abc' before, 'def' now"),
    ],
)
def test_resuming_another_run_is_refused_with_the_first_difference(tmp_path, changes, message):
    path = tmp_path / "record.json"
    run(path, 0)
    before = path.read_bytes()
    with pytest.raises(errors.RecordError, match=f"cannot resume, {message}. Use the same flags as before, or another"):
        run(path, 1, resume=True, **changes)
    assert path.read_bytes() == before


def test_resuming_on_another_machine_or_version_is_noted(tmp_path):
    path, old = tmp_path / "record.json", make()
    run(path, 0, versions=old.versions | {"jax": "0.1"}, device={"platform": "abacus"})
    notes = run(path, resume=True).notes
    assert notes[0] == "a note"
    assert notes[1] == f"resumed with other versions: jax: '0.1' before, {old.versions['jax']!r} now"
    assert notes[2].startswith("resumed with other device: count: None before, ")


def test_resuming_at_another_commit_is_noted_and_the_description_is_that_of_now(tmp_path):
    path, old = tmp_path / "record.json", make()
    assert old.provenance is not None
    for before, note in ((old.provenance | {"commit": "abc"}, "commit: 'abc' before, "), (None, "commit: None before")):
        run(path, 0, provenance=before, description={"arms": ["earlier"]})
        resumed = run(path, resume=True)
        notes = [line for line in resumed.notes if "provenance" in line]
        if before is not None or old.provenance["commit"] is not None:
            assert len(notes) == 1 and notes[0].startswith(f"resumed with other provenance: {note}")
        assert resumed.description == {"arms": ["aux", "all"]}


@pytest.mark.parametrize("old", ["whole", "newer", "damaged"])
def test_a_record_in_the_way_is_renamed_and_never_lost(tmp_path, old):
    """Whatever version wrote it, and whatever happened to it since, as long as it is one."""
    path = tmp_path / "run.json"
    changes = {"whole": {}, "newer": {"schema": 99, "surprise": 1}, "damaged": {"results": None}}[old]
    content = json.dumps(records.to_json(make()) | changes)
    said = []
    for number in (1, 2):
        path.write_text(content)
        with records.opened(path, FORM, announce=said.append) as output:
            output.begin(make())
        assert (tmp_path / f"run.old{number}.json").read_text() == content
        assert not path.exists()
        assert said.pop() == f"an earlier record was in the way and is now {tmp_path / f'run.old{number}.json'}"


def test_nothing_is_moved_if_the_run_does_not_begin(tmp_path):
    path = tmp_path / "run.json"
    run(path, 0)
    before = path.read_bytes()
    with pytest.raises(KeyError), records.opened(path, FORM):
        raise KeyError("no images")
    assert path.read_bytes() == before


FOREIGN = {
    "folder": lambda path: path.mkdir(),
    "text": lambda path: path.write_text("years of work"),
    "archive": lambda path: path.write_bytes(b"\x1f\x8b\x08"),
    "other JSON": lambda path: path.write_text('{"title": "thesis"}'),
    "link to a folder": lambda path: path.symlink_to("/"),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_place_with_something_of_the_users_is_refused_at_once(tmp_path, kind, resume):
    path = tmp_path / "paper.tar.gz"
    FOREIGN[kind](path)
    before = path.lstat().st_ino, path.lstat().st_mtime_ns
    with pytest.raises((errors.OutputError, errors.RecordError), match=f"^{path}: "):
        records.opened(path, FORM, resume=resume).__enter__()
    assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == before
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.endswith(".lock")] == ["paper.tar.gz"]


def test_two_runs_do_not_share_a_record(tmp_path):
    """The second hears of the first, and the first loses nothing."""
    path = tmp_path / "run.json"
    with records.opened(path, FORM) as output:
        result = output.begin(make(results=members(0)))
        output.write(result)
        for resume in (False, True):
            with pytest.raises(errors.LockedError, match=f"^{path}: process {os.getpid()} on .* is writing to it"):
                run(path, 1, resume=resume)
        output.write(result)
    assert records.read(path).results == members(0)
    assert not list(tmp_path.glob("*.old*"))


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
    assert records.fingerprint(Config()) == records.fingerprint(records.to_json(Config()))
    assert records.fingerprint(Config()) != records.fingerprint(Config(seed=1))


# Earlier schemas


def test_a_record_of_schema_1_gets_an_empty_description_and_no_provenance_and_keeps_every_value(tmp_path):
    path, record = tmp_path / "record.json", make()
    old = {name: value for name, value in records.to_json(record).items() if name not in migration.ADDED_IN_2}
    path.write_text(json.dumps(old | {"schema": 1}))
    migrated = records.read_old(path)
    assert migrated == dataclasses.replace(record, description={}, provenance=None)
    records.write(path, migrated)
    assert records.read(path) == records.read_old(path) == migrated


def test_what_is_no_record_is_no_old_record(tmp_path):
    path = tmp_path / "record.json"
    for text in ("[]", "{}", '{"schema": 1}', content(schema=99), content(results=None)):
        path.write_text(text)
        with pytest.raises(errors.RecordError, match=f"^{path}: "):
            records.read_old(path)
