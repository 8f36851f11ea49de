"""The store: nothing is lost but what was in flight, and nothing of the user's is taken for it."""

import collections
import json
import os
import pathlib
import random
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors
from sublim_jax.llm import store
from sublim_jax.llm.backend import ChoiceScores, Completion, Message, SamplingParams
from tests.llm.fake_backend import Fake, fill, rows, say
from tests.llm.test_store_rows import GOOD, answers

VALUE = Completion(0, 0, "t", "stop", 1, 1)
OTHER = Completion(0, 0, "another", "stop", 1, 1)


def names(path: pathlib.Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


@given(values=st.lists(answers, max_size=8))
def test_any_text_comes_back_in_this_process_and_in_the_next(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("s") / "s"
    with store.Store(path) as writer, store.Store(path, readonly=True) as reader:
        for number, value in enumerate(values):
            writer.put(f"{number:064x}", Completion(0, 0, *value))
            for opened in (writer, reader):  # a reader sees what is committed
                assert len(opened) == number + 1 and opened.completion(f"{number:064x}") == value
    with store.Store(path, readonly=True) as reader:
        assert [reader.completion(f"{number:064x}") for number in range(len(values))] == values
        assert reader.completion("f" * 64) is None is reader.scores("0" * 64)


def test_find_tells_here_from_missing(tmp_path):
    how = SamplingParams(num_samples=2)
    fill(tmp_path / "s", [say("a")], how)
    with store.Store(tmp_path / "s", readonly=True) as reader:
        places = reader.find("weights", "m", [say("b"), say("a"), say("a")], how)
        assert [(c.chat, c.sample) for c in places.here] == [(1, 0), (1, 1)]
        assert [slot[:3] for slot in places.missing] == [(0, 0, 0), (0, 1, 1), (2, 0, 2), (2, 1, 3)]
        assert all(slot.key not in reader for slot in places.missing) and len(reader) == 2


def test_secrets_stay_out_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    fake = Fake("gpt@https://user:sk-password@host/v1?api_key=sk-query")
    monkeypatch.setattr(fake, "text", lambda *request: "t")
    chat = (Message("system", "sk-system"), Message("user", "sk-prompt"))
    fill(tmp_path / "s", [chat], fake=fake)
    assert b"sk-" not in (tmp_path / "s").read_bytes()
    assert rows(tmp_path / "s")[0]["served"] == "gpt@https://host/v1"
    assert [file.name for file in sorted(tmp_path.iterdir())] == [".s.lock", "s"]


def test_a_closed_store_is_one_file_and_a_reader_leaves_none_behind(tmp_path):
    fill(tmp_path / "s", [say("a")])
    content = (tmp_path / "s").read_bytes()
    with store.Store(tmp_path / "s", readonly=True) as reader:
        assert len(reader) == 1
    assert names(tmp_path) == [".s.lock", "s"] and (tmp_path / "s").read_bytes() == content


def test_a_writer_neither_waits_for_a_reader_nor_disturbs_it(tmp_path):
    with store.Store(tmp_path / "s") as writer, store.Store(tmp_path / "s", readonly=True) as reader:
        for number in range(3):
            writer.put(f"{number:064x}", VALUE)
        lines = reader.export()
        next(lines)
        began = time.monotonic()
        writer.put("a" * 64, VALUE)
        writer.close()  # while the reader is in the middle
        assert time.monotonic() - began < 2
        assert len(list(lines)) == 2 and len(reader) == 4
    fill(tmp_path / "s", [say("a")])
    assert len(rows(tmp_path / "s")) == 5 and names(tmp_path) == [".s.lock", "s"]


def test_a_loss_of_power_loses_few_answers(tmp_path):
    """What is not yet where the disk was waited for is in the log, and the log stays short."""
    with store.Store(tmp_path / "s") as writer:
        for number in range(1000):
            writer.put(f"{number:064x}", VALUE)
            assert (tmp_path / "s-wal").stat().st_size < (store.PAGES + 10) * 4200
    assert names(tmp_path) == [".s.lock", "s"]
    writer.close()
    with pytest.raises(errors.StoreError, match="closed"):
        writer.put("a" * 64, VALUE)


def test_a_key_has_one_answer(tmp_path):
    with store.Store(tmp_path / "s") as writer:
        writer.put("a" * 64, VALUE)
        with pytest.raises(errors.InputError, match=f"{'a' * 64} is in the store already"):
            writer.put("a" * 64, OTHER)
        assert len(writer) == 1 and writer.completion("a" * 64) == VALUE[2:]


def test_a_full_disk_is_an_error_and_leaves_whole_rows(tmp_path):
    writer = store.Store(tmp_path / "s")
    writer.put("a" * 64, VALUE)
    assert writer._database is not None
    writer._database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(errors.StoreError, match=r"cannot be written \(database or disk is full\).* is kept"):
        writer.put("b" * 64, VALUE._replace(text="long " * 10_000))
    with store.Store(tmp_path / "s") as again:
        assert len(again) == 1 and "b" * 64 not in again


def test_a_store_that_was_damaged_is_an_error(tmp_path):
    with store.Store(tmp_path / "s") as writer:
        for number in range(300):
            writer.put(f"{number:064x}", VALUE)
    head, size = (tmp_path / "s").read_bytes()[:4096], (tmp_path / "s").stat().st_size
    damaged = random.Random(0).randbytes(size - len(head))
    (tmp_path / "s").write_bytes(head + damaged)
    for readonly in (True, False):
        with (
            store.Store(tmp_path / "s", readonly=readonly) as opened,
            pytest.raises(errors.StoreError, match=r"/s: the store cannot be read \(.*malformed"),
        ):
            opened.completion("0" * 64)
    assert (tmp_path / "s").read_bytes()[len(head) :] == damaged


@pytest.mark.parametrize("content", ["", "[]", '{"text": 7}', '{"logprobs": ["a"], "method": "exact"}', '{"text": "t"'])
def test_a_row_that_was_damaged_is_named(tmp_path, content):
    fill(tmp_path / "s", [say("a")])
    (key,) = [row["key"] for row in rows(tmp_path / "s")]
    connection = sqlite3.connect(tmp_path / "s")
    connection.execute("UPDATE answers SET content = ?", (content,))
    connection.commit()
    connection.close()
    with (
        store.Store(tmp_path / "s", readonly=True) as reader,
        pytest.raises(errors.StoreError, match=f"/s: the answer with the key {key} was damaged"),
    ):
        reader.completion(key)


# ---------------------------------------------------------------------------------------------------------------------
# Other files


@pytest.mark.parametrize(
    "content",
    [
        b"my thesis, in one line",
        b'{"messages": []}\n',
        b'{"key":"value"}',
        b'{"key":"value", "b": 1}',
        b'{"key":"abc"',
        b"\0" * 30,
        b"SQLite format 3\0",
    ],
)
@pytest.mark.parametrize("readonly", [True, False])
def test_another_file_is_not_taken_for_a_store_and_not_changed(tmp_path, content, readonly):
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(errors.StoreError, match=r"/s: this is another file, not a store of completions"):
        store.Store(tmp_path / "s", readonly=readonly)
    assert (tmp_path / "s").read_bytes() == content
    (tmp_path / "s").write_bytes(b"")
    store.Store(tmp_path / "s").close()  # the refusal left no lock behind, and an empty file holds nothing


@pytest.mark.parametrize("readonly", [True, False])
def test_a_database_of_somebody_else_is_not_changed(tmp_path, readonly):
    connection = sqlite3.connect(tmp_path / "s")
    connection.execute("CREATE TABLE answers (id INTEGER PRIMARY KEY, key TEXT, content TEXT)")
    connection.close()
    content = (tmp_path / "s").read_bytes()
    with pytest.raises(errors.StoreError, match="this is another file"):
        store.Store(tmp_path / "s", readonly=readonly)
    assert (tmp_path / "s").read_bytes() == content


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_a_file_where_the_log_of_a_new_store_would_be_is_not_replaced(tmp_path, ending):
    (tmp_path / f"s{ending}").write_text("mine")
    with pytest.raises(errors.StoreError, match=f"s{ending}: a file is there that is not a log"):
        store.Store(tmp_path / "s")
    assert (tmp_path / f"s{ending}").read_text() == "mine" and not (tmp_path / "s").exists()


def test_a_reader_of_no_file_makes_none(tmp_path):
    with store.Store(tmp_path / "none" / "s", readonly=True) as reader:
        assert len(reader) == 0 and "a" * 64 not in reader
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_hold_a_store_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "s"):
        with pytest.raises(errors.StoreError, match=r"this is a folder|cannot be written"):
            store.Store(path)


def test_a_name_with_signs_of_an_address_is_a_name(tmp_path):
    path = tmp_path / "a?mode=memory#100%41.sqlite"
    with store.Store(path) as writer:
        writer.put("a" * 64, VALUE)
    assert path.exists() and len(rows(path)) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Processes


def test_the_second_writer_hears_who_the_first_is(tmp_path):
    path = tmp_path / "s"
    program = f"from sublim_jax.llm import store; s = store.Store({str(path)!r}); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "open\n"
            with pytest.raises(
                errors.StoreError,
                match=rf"process {other.pid} on \S+ is writing to it. .* Reading the store needs no lock",
            ):
                store.Store(path)
            with store.Store(path, readonly=True) as reader:
                assert len(reader) == 0
        finally:
            other.kill()
    with store.Store(path):  # a killed process holds nothing
        with pytest.raises(errors.StoreError, match=f"process {os.getpid()} on"):
            store.Store(path)
        assert (tmp_path / ".s.writer").exists()
    store.Store(path).close()


NUM = 30_000
PROGRAM = """
import sys
from sublim_jax.llm import budget as budgets
from sublim_jax.llm import budgeted, store
from sublim_jax.llm.backend import Capabilities, Completion, Message, SamplingParams

class Backend:
    caps = Capabilities(finetune=False, choices="none", seeds=True, system=True, fingerprint="w")
    def sample(self, model, chats, params):
        with open(sys.argv[2], "ab", buffering=0) as journal:
            for index, chat in enumerate(chats):
                text = chat[-1].content + " \\u00f6"
                journal.write(text.encode() + b"\\n")  # paid for
                yield Completion(index, 0, text, "stop", 9, 5)

chats = [(Message("user", f"go on: {number}"),) for number in range(int(sys.argv[3]))]
with store.Store(sys.argv[1]) as answers:
    planned = budgeted.plan(Backend.caps, "m", chats, SamplingParams(), answers)
    done = list(budgeted.sample_stored(Backend(), "m", chats, SamplingParams(), answers))
    print(planned.new, planned.reused, len(done))
"""


@pytest.mark.slow
def test_a_killed_process_loses_at_most_what_was_in_flight_and_doubles_nothing(tmp_path, start_python, run_python):
    path, journal = tmp_path / "s", tmp_path / "journal"
    arguments = ("-c", PROGRAM, str(path), str(journal), str(NUM))
    with start_python(*arguments) as process:
        deadline = time.monotonic() + 60
        while (not journal.exists() or journal.stat().st_size < 200_000) and process.poll() is None:
            assert time.monotonic() < deadline, "it does not write"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    paid = journal.read_text(encoding="utf-8").splitlines()
    stored = len(rows(path))
    assert 1_000 < stored < NUM - 1_000  # in the middle
    assert 0 <= len(paid) - stored <= 1  # in flight: the one completion of a backend that gives one after the other
    done = run_python(*arguments)
    assert done.returncode == 0 and done.stdout.split() == [str(NUM - stored), str(stored), str(NUM)], done.stderr
    paid = collections.Counter(journal.read_text(encoding="utf-8").splitlines())
    assert len(paid) == NUM and paid.total() - NUM <= 1  # the one in flight
    entries = rows(path)
    assert len(entries) == len({entry["key"] for entry in entries}) == NUM  # none lost, none doubled
    assert {entry["text"] for entry in entries} == set(paid)


# ---------------------------------------------------------------------------------------------------------------------
# Export, import, and stores of earlier versions


def command(run_python, *arguments: object) -> subprocess.CompletedProcess:
    return run_python("-m", "sublim_jax.llm.store", *map(str, arguments))


@pytest.mark.slow
def test_what_is_exported_and_imported_again_is_the_same(tmp_path, run_python):
    done = fill(tmp_path / "s", [say("a"), say("ö\ud83d")], SamplingParams(num_samples=3))
    with store.Store(tmp_path / "s") as writer:
        writer.put("a" * 64, ChoiceScores((-float("inf"), -1.5), "exact"), model="m")
    before = rows(tmp_path / "s")
    exported = command(run_python, "export", tmp_path / "s", tmp_path / "out.jsonl")
    assert exported.returncode == 0, exported.stderr
    lines = (tmp_path / "out.jsonl").read_text(encoding="ascii").splitlines()
    assert [json.loads(line) for line in lines] == before and len(before) == 7
    for new in (7, 0):
        imported = command(run_python, "import", tmp_path / "out.jsonl", tmp_path / "t.sqlite")
        assert imported.returncode == 0 and imported.stdout.startswith(f"{new} of 7 answers are new"), imported.stderr
        assert rows(tmp_path / "t.sqlite") == before
    fake = Fake()
    assert sorted(
        fill(tmp_path / "t.sqlite", [say("a"), say("ö\ud83d")], SamplingParams(num_samples=3), fake)
    ) == sorted(done)
    assert fake.calls == []


def test_export_replaces_no_file(tmp_path):
    fill(tmp_path / "s", [say("a")])
    (tmp_path / "out").write_text("mine")
    with pytest.raises(errors.OutputError, match="a file is there"):
        store.export_lines(tmp_path / "s", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
    with pytest.raises(errors.StoreError, match="there is no store"):
        store.export_lines(tmp_path / "none", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("readonly", [True, False])
def test_a_store_of_an_earlier_version_names_the_command_that_imports_it(tmp_path, readonly, run_python):
    path, new = tmp_path / "my answers.jsonl", tmp_path / "my answers.sqlite"
    content = b"\n".join(GOOD) + b"\n" + GOOD[0][:30]  # torn, as a killed writer left it
    path.write_bytes(content)
    with pytest.raises(errors.StoreError, match=r"found JSON lines.*bring its answers over with: python -m ") as caught:
        store.Store(path, readonly=readonly)
    python, *arguments = shlex.split(str(caught.value).partition("with: ")[2])
    assert python == "python" and path.read_bytes() == content
    done = run_python(*arguments)
    assert done.returncode == 0 and done.stdout == f"3 of 3 answers are new in {new}\n", done.stderr
    assert len(rows(new)) == 3 and path.read_bytes() == content


def test_no_store_is_begun_beside_one_of_an_earlier_version(tmp_path):
    """It would pay for the same answers again."""
    (tmp_path / "answers.jsonl").write_bytes(b"\n".join(GOOD) + b"\n")
    with pytest.raises(errors.StoreError, match=r"answers\.jsonl, a store of an earlier version.*llm\.store import"):
        store.Store(tmp_path / "answers.sqlite")
    assert not (tmp_path / "answers.sqlite").exists()
    store.import_lines(tmp_path / "answers.jsonl", tmp_path / "answers.sqlite")
    with store.Store(tmp_path / "answers.sqlite") as writer:
        assert len(writer) == 3
    (tmp_path / "other.jsonl").write_text('{"messages": []}')
    store.Store(tmp_path / "other.sqlite").close()


def test_an_import_keeps_what_is_there_and_is_whole_or_not_at_all(tmp_path):
    """Of two answers with one key the first counts, as it did in two files joined."""
    source, path = tmp_path / "lines", tmp_path / "s"
    source.write_bytes(b"\n".join([GOOD[0], GOOD[1], GOOD[1].replace(b'"t"', b'"u"')]) + b"\n")
    with store.Store(path) as writer:
        writer.put("0" * 64, OTHER)
    store.import_lines(source, path)
    assert [row["text"] for row in rows(path)] == ["another", "t"]
    source.write_bytes(GOOD[2] + b"\n{}\n")
    for place in (path, tmp_path / "new"):
        with pytest.raises(errors.StoreError, match="lines, line 2: "):
            store.import_lines(source, place)
    assert len(rows(path)) == 2 and not (tmp_path / "new").exists()
    with pytest.raises(errors.StoreError, match="cannot be read"):
        store.import_lines(tmp_path / "none", path)
    source.write_bytes(b"my thesis, in one line")
    with pytest.raises(errors.StoreError, match="found no whole line"):
        store.import_lines(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_secrets_in_lines_are_not_imported(tmp_path):
    line = GOOD[0][:-1] + b',"served":"gpt@https://user:sk-password@host/v1?api_key=sk-query"}\n'
    (tmp_path / "lines").write_bytes(line)
    store.import_lines(tmp_path / "lines", tmp_path / "s")
    assert b"sk-" not in (tmp_path / "s").read_bytes() and rows(tmp_path / "s")[0]["served"] == "gpt@https://host/v1"


def test_a_refusal_of_the_command_is_one_line(tmp_path, run_python):
    done = command(run_python, "export", tmp_path / "none", tmp_path / "out")
    assert done.returncode == 2 and re.fullmatch(r"error: .*there is no store\. Check the path\.\n", done.stderr)
