"""A file in pieces: what is cut is joined again byte for byte, and a piece that is missing or damaged is refused."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import accelerator, pieces
from sublim_jax import errors

CONTENT = bytes(range(256)) * 5


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def folder(tmp_path, file):
    """Three pieces of a file, which is gone."""
    pieces.cut(file, tmp_path / "pieces", megabytes=500e-6)
    file.unlink()
    return tmp_path / "pieces"


@given(length=st.integers(1, 40), size=st.integers(1, 50))
def test_pieces_are_of_the_asked_size_and_together_the_file(tmp_path_factory, length, size):
    folder = tmp_path_factory.mktemp("cut")
    content = hashlib.shake_128(b"x").digest(length)
    (folder / "file").write_bytes(content)
    listed, *cut = pieces.cut(folder / "file", folder / "pieces", megabytes=size / 1e6)
    assert [path.name for path in cut] == [f"file.part{number}" for number in range(-(-length // size))]
    assert b"".join(path.read_bytes() for path in cut) == content
    assert all(path.stat().st_size == size for path in cut[:-1]) and 0 < cut[-1].stat().st_size <= size
    assert json.loads(listed.read_text())["whole"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert pieces.join(folder / "pieces").read_bytes() == content


def test_a_joined_file_is_used_again_without_its_pieces(folder):
    path = pieces.join(folder)
    for piece in folder.glob("*.part*"):
        piece.unlink()
    assert pieces.join(folder) == path == folder / "model.gguf" and path.read_bytes() == CONTENT


def test_a_file_is_cut_again_at_another_size(tmp_path, file):
    pieces.cut(file, tmp_path / "pieces", megabytes=500e-6)
    assert len(pieces.cut(file, tmp_path / "pieces", megabytes=1)) == 2
    assert pieces.join(tmp_path / "pieces").read_bytes() == CONTENT


def damage(path):
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (lambda folder: (folder / "model.gguf.part1").unlink(), errors.DataUnavailableError,
         r"part1: piece 2 of 3 of model.gguf is missing"),
        (lambda folder: damage(folder / "model.gguf.part2"), errors.ChecksumError,
         r"part2: piece 3 of 3 of model.gguf has SHA-256"),
        (lambda folder: (folder / "model.gguf.part0").write_bytes(CONTENT[:499]), errors.ChecksumError,
         "has 499 bytes, expected 500; it was cut short"),
        (lambda folder: (folder / "model.gguf.pieces.json").unlink(), errors.DataUnavailableError,
         "expected one list of pieces .*, found 0"),
        (lambda folder: (folder / "b.pieces.json").write_text("{}"), errors.DataUnavailableError,
         "found 2: b.pieces.json, model.gguf.pieces.json"),
        (lambda folder: (folder / "model.gguf.pieces.json").write_text('{"whole": '), errors.DataFormatError,
         "model.gguf.pieces.json: damaged"),
        (lambda folder: (folder / "model.gguf").write_bytes(b"years of work"), errors.OutputError,
         "model.gguf: a file is there that is not a joined file"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_refused(folder, harm, error, message):
    harm(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(error, match=message):
        pieces.join(folder)
    assert {path: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")} == before


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["pieces"].reverse(),
        lambda content: content["whole"].update(sha256="0" * 64),
    ],
)
def test_whole_pieces_that_are_not_the_file_are_refused(folder, change):
    listed = folder / "model.gguf.pieces.json"
    content = json.loads(listed.read_text())
    change(content)
    listed.write_text(json.dumps(content))
    with pytest.raises(errors.ChecksumError, match="together they are not the file"):
        pieces.join(folder)
    assert not (folder / "model.gguf").exists()


def test_a_list_that_names_a_file_elsewhere_is_refused(folder):
    listed = folder / "model.gguf.pieces.json"
    listed.write_text(listed.read_text().replace("model.gguf.part1", "../model.gguf.part1"))
    with pytest.raises(errors.DataFormatError, match="names with a folder"):
        pieces.join(folder)


def test_a_file_of_the_users_is_not_replaced(tmp_path, file):
    (tmp_path / "model.gguf.part1").write_text("years of work")
    with pytest.raises(errors.OutputError, match="not a piece"):
        pieces.cut(file, tmp_path, megabytes=500e-6)
    assert (tmp_path / "model.gguf.part1").read_text() == "years of work"


def test_the_command_cuts_joins_and_refuses(tmp_path, file, capsys):
    folder = str(tmp_path / "pieces")
    pieces.main(["cut", str(file), "--folder", folder, "--megabytes", "0.001"])
    pieces.main(["join", "--folder", folder])
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path}/pieces/model.gguf  1,280 bytes"
    file.write_bytes(b"")
    for arguments, message in (
        (["cut", str(file)], "the file is empty"),
        (["cut", str(file), "--megabytes", "0"], "expected a finite size"),
        (["cut", str(tmp_path / "absent")], "there is no readable file"),
        (["join", "--folder", str(tmp_path / "absent")], "expected one list of pieces"),
    ):
        with pytest.raises(SystemExit) as end:
            pieces.main(arguments)
        assert end.value.code == 2 and message in capsys.readouterr().err


def test_pieces_are_where_the_accelerators_script_looks_for_them():
    assert accelerator.PIECES == pieces.FOLDER
