"""Bring records of earlier versions to the present schema, and every description to what the code says now.

    python -m experiments.migrate experiments/records       all records in a folder and those below it
    python -m experiments.migrate runs/mnist_aux-paper.json

Files are rewritten in place, whole or not at all; no result, config or other value changes. What an earlier version did
not record, such as the commit, is null. A second call changes nothing.
"""

import pathlib

import tyro

from experiments import mnist_aux, speed
from experiments.atlas import catalogue
from experiments.theorem import config as theorem
from sublim_jax import commands, errors, files, records
from sublim_jax.forms import atlas

DESCRIBED = {
    "mnist_aux": lambda record: mnist_aux.describe(
        record.config["member"]["conditions"], images_name=record.data["name"]
    ),
    "speed": lambda record: speed.describe(),
    "theorem": lambda record: theorem.describe(record.config["parts"]),
    "atlas": catalogue.refreshed_description,
    atlas.CATALOGUE.experiment: catalogue.refreshed_description,
}
"""What records say of themselves, by experiment; other records keep their description."""


def migrate(path: pathlib.Path) -> bool:
    """Rewrite the record at `path`, if anything about it changes; whether it did.

    Raises:
        OutputError: it cannot be written, or another process is writing to it.
        RecordError: there is no record of this or an earlier version, or its config lacks what describes it.
    """
    record = records.read_old(path)
    try:
        described = DESCRIBED.get(record.experiment, lambda record: record.description)(record)
    except (KeyError, TypeError) as error:
        raise errors.RecordError(
            f"{path}: the config of this record of {record.experiment} is damaged ({error!r}); restore the record, or "
            f"make it again"
        ) from error
    record.description = records.to_json(described)
    with files.Lock(path):
        before = path.read_bytes()
        records.write(path, record)
    return path.read_bytes() != before


def records_at(place: pathlib.Path) -> list[pathlib.Path]:
    """The records at a place: the file itself, or those in and below a folder. Other files there are left alone."""
    if not place.is_dir():
        return [place]
    visible = (path for path in sorted(place.rglob("*.json")) if not path.name.startswith("."))
    return [path for path in visible if path.is_file() and records.IS_RECORD(path)]


def main(paths: tyro.conf.Positional[tuple[pathlib.Path, ...]]) -> None:
    """Rewrite records in the present schema.

    Args:
        paths: records, or folders of records.
    """
    by_place = {place: records_at(place) for place in paths}
    if not by_place:
        raise errors.InputError("expected records, or folders of records, e.g. experiments/records")
    for place, inside in by_place.items():
        if not inside:
            raise errors.RecordError(f"{place}: there is no record in this folder or below it. Check the path.")
    changed = {path: migrate(path) for inside in by_place.values() for path in inside}
    for path, has_changed in changed.items():
        if has_changed:
            print(path)
    print(f"{sum(changed.values())} of {len(changed)} records rewritten")


if __name__ == "__main__":
    commands.main(
        lambda: tyro.cli(main, prog="python -m experiments.migrate"), interrupted="each record is whole: call it again"
    )
