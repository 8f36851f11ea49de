"""What is the user's stays where and as it is; what is ours is whole, also after a crash; one writer at a time."""

import errno
import os
import pathlib
import re
import signal
import stat
import threading

import pytest

from sublim_jax import errors, files

NOT_OURS = "a file is there that is not a table of sublim-jax, and it is not replaced"


def is_ours(path):
    return path.read_bytes().startswith(b"ours")


@pytest.fixture
def umask():
    """The usual one, whatever the machine has."""
    before = os.umask(0o022)
    yield 0o022
    os.umask(before)


def write(path, content="ours, new"):
    files.write(path, content, ours=is_ours, what="table")


def tree(folder: pathlib.Path) -> dict[str, object]:
    """Everything below a folder: content of files, targets of links, None for folders. Lock files left out."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"-> {os.readlink(path)}"
        elif not path.name.endswith(".lock"):
            found[str(path.relative_to(folder))] = None if path.is_dir() else path.read_bytes()
    return found


# Foreign things in the way


def folder(path):
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


def link_to_a_folder(path):
    folder(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def link_to_a_text(path):
    path.with_name("elsewhere").write_text("years of work")
    path.symlink_to("elsewhere")


def link_to_itself(path):
    path.symlink_to(path.name)


FOREIGN = {
    "folder": (folder, "this is a folder; expected the path of a table. Name a file in it."),
    "link to a folder": (link_to_a_folder, "this is a folder"),
    "text": (lambda path: path.write_text("years of work"), NOT_OURS),
    "bytes": (lambda path: path.write_bytes(b"\x1f\x8b\x00\xff"), NOT_OURS),
    "link to a text": (link_to_a_text, NOT_OURS),
    "link to nothing": (lambda path: path.symlink_to("nowhere"), "this is a link to a file that is not there"),
    "link to itself": (link_to_itself, "this is a link to a file that is not there"),
    "pipe": (lambda path: os.mkfifo(path), NOT_OURS),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_ours_is_refused_by_everything_and_stays_as_it_is(tmp_path, kind):
    make, message = FOREIGN[kind]
    path = tmp_path / "results.tar.gz"
    make(path)
    before = tree(tmp_path) if kind != "pipe" else None
    for attempt in (
        lambda: files.require_free(path, ours=is_ours, what="table"),
        lambda: write(path),
        lambda: files.set_aside(path, ours=is_ours, what="table"),
        lambda: files.writing(path, ours=is_ours, what="table").__enter__(),
    ):
        with pytest.raises(errors.OutputError, match=f"^{re.escape(str(path))}: {message}"):
            attempt()
    assert before is None or tree(tmp_path) == before


def test_without_a_recognizer_no_file_is_replaced(tmp_path):
    path = tmp_path / "rows.jsonl"
    files.write(path, "ours")
    with pytest.raises(errors.OutputError, match="a file is there"):
        files.write(path, "again")
    assert path.read_text() == "ours"


@pytest.mark.parametrize("path", ["/dev/null", "/dev/full"])
def test_devices_are_no_places_for_files(path):
    with pytest.raises(errors.OutputError, match="a file is there"):
        files.write(pathlib.Path(path), "content", ours=files.anything)


def test_an_empty_file_holds_nothing_of_anybodys(tmp_path):
    (tmp_path / "a").touch()
    write(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "ours, new"


def test_what_the_user_puts_there_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "a"
    with (
        pytest.raises(errors.OutputError, match=NOT_OURS),
        files.writing(path, ours=is_ours, what="table") as temporary,
    ):
        temporary.write_text("ours")
        path.write_text("theirs")
    assert tree(tmp_path) == {"a": b"theirs"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": 1, "b": 2, "c": 3}', True),
        (b'{"a": 1}', False),
        (b'[{"a": 1, "b": 2}]', False),
        (b'{"a": 1, "b": ', False),
        (b"\xff\xfe", False),
        (b"[" * 100_000, False),
    ],
)
def test_objects_are_recognised_by_their_keys(tmp_path, content, expected):
    (tmp_path / "a").write_bytes(content)
    assert files.json_with("a", "b")(tmp_path / "a") is expected


# Whole or not at all


def test_content_comes_to_its_place_with_its_folder_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    files.write(path, "größer\r\n")
    assert path.read_bytes() == "größer\r\n".encode()
    assert tree(tmp_path) == {"new": None, "new/folder": None, "new/folder/a.txt": "größer\r\n".encode()}


def test_a_link_to_a_file_of_ours_keeps_pointing_at_it(tmp_path):
    (tmp_path / "disk").mkdir()
    write(tmp_path / "disk" / "a", "ours, old")
    (tmp_path / "a").symlink_to("disk/a")
    write(tmp_path / "a")
    assert tree(tmp_path) == {"a": "-> disk/a", "disk": None, "disk/a": b"ours, new"}


def test_permissions_are_those_of_new_files_and_then_stay(tmp_path, umask):
    path = tmp_path / "a"
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        os.umask(mask)
        write(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        path.unlink()
    write(path, "ours")
    path.chmod(0o640)
    os.umask(0)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


class Crash(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("victim", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("accident", [Crash(), OSError(errno.ENOSPC, "No space left on device")], ids=repr)
def test_an_accident_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, victim, accident):
    path = tmp_path / "a"
    write(path, "ours, old")

    def fail(*arguments, **options):
        raise accident

    with monkeypatch.context() as patch:
        patch.setattr(os, victim, fail)
        with pytest.raises((Crash, errors.OutputError)) as caught:
            write(path)
    assert tree(tmp_path) == {"a": b"ours, old"}
    if isinstance(accident, OSError):
        assert str(caught.value) == (
            f"{path}: the table cannot be written (No space left on device). Give a path in a folder that you may "
            f"write to, on a disk with space left."
        )


def test_an_error_of_the_body_is_the_callers_and_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), files.writing(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert tree(tmp_path) == {}


def test_everything_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    """In this order, for a rename that outlives its content would be an empty file after a loss of power."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor):
        what = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else os.fstat(descriptor).st_size
        calls.append(what)
        fsync(descriptor)

    def watched_replace(*arguments):
        calls.append("replace")
        replace(*arguments)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    files.write(tmp_path / "a", "twelve bytes")
    assert calls == [12, "replace", "folder"]


def test_half_written_files_look_like_no_data(tmp_path):
    with files.writing(tmp_path / "row.json") as temporary:
        temporary.write_text("half")
        assert temporary.parent == tmp_path and temporary.name.startswith(".")
        assert not list(tmp_path.glob("*.json"))


# Before the work


def test_a_place_is_tried_and_left_as_it_was(tmp_path):
    files.require_writable(tmp_path / "a")
    files.require_writable(tmp_path / "new" / "deeper" / "a")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("place", ["below a file", "/proc/sublim/a", "/dev/null/a"])
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, place):
    (tmp_path / "file").write_text("theirs")
    path = tmp_path / "file" / "deeper" / "a" if place == "below a file" else pathlib.Path(place)
    for attempt in (
        lambda: files.require_writable(path, what="table"),
        lambda: write(path),
        lambda: files.require_folder(path, what="table"),
        lambda: files.Lock(path).acquire(),
    ):
        with pytest.raises(errors.OutputError, match=f"^{re.escape(str(path))}.* cannot be written \\("):
            attempt()
    assert tree(tmp_path) == {"file": b"theirs"}


def test_folders_are_made_where_nothing_of_the_users_is(tmp_path):
    files.require_folder(tmp_path / "new" / "folder")
    files.require_folder(tmp_path / "new" / "folder")  # empty
    (tmp_path / "new" / "folder" / "thesis.tex").write_text("years of work")
    with pytest.raises(errors.OutputError, match="this folder has files in it that do not belong to a model"):
        files.require_folder(tmp_path / "new" / "folder", what="model")
    with pytest.raises(errors.OutputError, match="this is a file; expected the path of a model"):
        files.require_folder(tmp_path / "new" / "folder" / "thesis.tex", what="model")
    files.require_folder(tmp_path / "new" / "folder", ours=lambda path: (path / "thesis.tex").exists())
    assert tree(tmp_path) == {"new": None, "new/folder": None, "new/folder/thesis.tex": b"years of work"}


# Set aside


def test_a_folder_comes_to_a_free_place_whole_or_not_at_all(tmp_path):
    place = tmp_path / "made" / "here"
    with files.writing_folder(place) as folder:
        folder.mkdir()
        (folder / "file").write_text("content")
        assert not place.exists() and folder.parent == place.parent
    assert tree(tmp_path) == {"made": None, "made/here": None, "made/here/file": b"content"}
    with pytest.raises(KeyboardInterrupt), files.writing_folder(tmp_path / "other") as folder:
        folder.mkdir()
        raise KeyboardInterrupt
    assert not (tmp_path / "other").exists() and len(list(tmp_path.iterdir())) == 1
    refused = "something is there already, and a table replaces nothing"
    for taken in (place, place / "file"):
        with pytest.raises(errors.OutputError, match=refused), files.writing_folder(taken, what="table"):
            raise AssertionError
    late = tmp_path / "late"
    with pytest.raises(errors.OutputError, match="late: something is there"), files.writing_folder(late) as folder:
        folder.mkdir()
        late.mkdir()  # by somebody else, meanwhile
    assert list(late.iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(errors.OutputError, match="link: something is there already"):
        files.require_absent(tmp_path / "link")
    with pytest.raises(errors.OutputError, match="cannot be written"), files.writing_folder(place / "file" / "below"):
        raise AssertionError


def test_what_is_ours_is_set_aside_under_a_free_name(tmp_path):
    path = tmp_path / "a.json"
    assert files.set_aside(path, ours=is_ours) is None
    (tmp_path / "a.old1.json").write_text("theirs")
    (tmp_path / "a.old2.json").symlink_to("nowhere")
    for number in (3, 4):
        write(path, f"ours {number}")
        assert files.set_aside(path, ours=is_ours) == tmp_path / f"a.old{number}.json"
    assert tree(tmp_path) == {
        "a.old1.json": b"theirs", "a.old2.json": "-> nowhere", "a.old3.json": b"ours 3", "a.old4.json": b"ours 4",
    }  # fmt: skip


def test_setting_a_link_aside_renames_the_file_that_it_points_at(tmp_path):
    """So that the next file goes to the same disk, under the same lock."""
    (tmp_path / "disk").mkdir()
    write(tmp_path / "disk" / "a.json", "ours")
    (tmp_path / "a.json").symlink_to("disk/a.json")
    files.set_aside(tmp_path / "a.json", ours=is_ours)
    assert tree(tmp_path) == {"a.json": "-> disk/a.json", "disk": None, "disk/a.old1.json": b"ours"}


def test_in_the_cache_a_finished_folder_takes_the_place_of_another(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    files.replace_folder(tmp_path / "new", tmp_path / "old")
    assert tree(tmp_path) == {"old": None, "old/new": b""}
    files.remove_folder(tmp_path / "old")
    files.remove_folder(tmp_path / "old")  # gone already
    assert tree(tmp_path) == {}


# Locks

HOLD = (
    "import pathlib, sys, time; from sublim_jax import files; "
    "lock = files.Lock(pathlib.Path(sys.argv[1])); lock.acquire(); "
    "print(1, flush=True); time.sleep(60)"
)


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path, start_python):
    """Also with a process that is killed, which leaves its lock file, its name and a half-written file."""
    path = tmp_path / "a.json"
    with start_python("-c", HOLD, str(path)) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "1\n"
            with pytest.raises(
                errors.LockedError, match=rf"^{re.escape(str(path))}: process {other.pid} on \S+ is wri"
            ):
                files.Lock(path).acquire()
        finally:
            other.send_signal(signal.SIGKILL)
    assert (tmp_path / ".a.json.writer").exists()
    (tmp_path / ".a.json.0123abcd.tmp").write_text("half")
    (tmp_path / ".a.json.mine.tmp").write_text("theirs")
    (tmp_path / ".b.json.0123abcd.tmp").write_text("of another path")
    with files.Lock(path):
        assert f"process {os.getpid()} " in (tmp_path / ".a.json.writer").read_text()
    assert tree(tmp_path) == {".a.json.mine.tmp": b"theirs", ".b.json.0123abcd.tmp": b"of another path"}


def test_a_second_writer_in_one_process_is_refused_too(tmp_path):
    lock = files.Lock(tmp_path / "a")
    with lock, pytest.raises(errors.LockedError, match=f"process {os.getpid()} on"):
        files.Lock(tmp_path / "a").acquire()
    lock.release()  # given back already
    with files.Lock(tmp_path / "a"):
        pass


def test_other_paths_have_other_locks(tmp_path):
    with files.Lock(tmp_path / "a"), files.Lock(tmp_path / "b"), files.Lock(tmp_path / "a.json"):
        pass


def test_links_to_one_file_share_its_lock(tmp_path):
    (tmp_path / "disk").mkdir()
    write(tmp_path / "disk" / "a")
    (tmp_path / "link").symlink_to("disk/a")
    (tmp_path / "folder").symlink_to("disk")
    with files.Lock(tmp_path / "disk" / "a"):
        for path in (tmp_path / "link", tmp_path / "folder" / "a"):
            with pytest.raises(errors.LockedError):
                files.Lock(path).acquire()


def test_the_lock_of_a_folder_lies_in_it_and_clears_all_that_was_half_written(tmp_path):
    (tmp_path / ".row.json.0123abcd.tmp").write_text("half")
    (tmp_path / "row.json.0123abcd.tmp").write_text("theirs")
    with files.Lock(tmp_path), pytest.raises(errors.LockedError):
        files.Lock(tmp_path).acquire()
    assert tree(tmp_path) == {"row.json.0123abcd.tmp": b"theirs"}
    assert [path.name for path in tmp_path.glob(".*.lock")] == [f".{tmp_path.name}.lock"]


def test_whoever_waits_gets_the_lock_when_it_is_given_back(tmp_path):
    held, order = files.Lock(tmp_path / "a"), []

    def wait():
        lock = files.Lock(tmp_path / "a")
        lock.acquire(wait=True)
        order.append("second")
        lock.release()

    with held:
        thread = threading.Thread(target=wait)
        thread.start()
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_lock_that_cannot_say_whose_it_is_is_given_back(tmp_path, monkeypatch):
    """On a full disk the lock file can be made, for it is empty, and the name of its holder not."""

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "write_text", full)
        with pytest.raises(errors.OutputError, match="No space left on device"):
            files.Lock(tmp_path / "a").acquire()
    with files.Lock(tmp_path / "a"):
        pass


def test_what_locking_leaves_is_not_committed_by_accident():
    ignored = pathlib.Path(__file__).parents[1].joinpath(".gitignore").read_text().split()
    assert {".*.lock", ".*.writer", ".*.tmp"} <= set(ignored)
