"""The records of the atlas: one file per row, and every result under the name of its setting.

A result belongs to a setting and a member, not to a row: arms of several rows that come to the same setting share it,
and a row that is run again finds what it has.
"""

import collections
import dataclasses
import pathlib
from typing import Any

from experiments.atlas import catalogue, registry
from sublim_jax import errors, files, records, specs
from sublim_jax.forms import atlas as form
from sublim_jax.models import mlp

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "records/atlas"
"""The committed records."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class RowConfig:
    """What a row's record says of itself."""

    row: str
    seed: specs.Seed
    num_members: specs.NumMembers


def paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """Where the records of a folder are. What a killed process left half written is hidden."""
    return [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]


def found(folder: pathlib.Path) -> dict[pathlib.Path, records.Record]:
    """All records in a folder.

    Raises:
        RecordError: a JSON file there is not a row's record.
    """
    return {path: records.read(path, form.FORM) for path in paths(folder)}


def describe(folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the catalogue beside a folder of records, and what rows say now into those records; no result changes.

    Returns the paths of what was written. A folder that another process writes in is left alone.

    Raises:
        OutputError: the folder is locked, or cannot be written.
        RecordError: something there is not a row's record.
    """
    files.require_folder(folder, ours=lambda _: True, what="folder of records")
    place = folder.with_name(f"{folder.name}-rows.json")
    with files.Lock(folder):
        there = {path: records.read_old(path) for path in paths(folder)}
        if place.exists():
            there[place] = records.read_old(place)
        else:
            data = {"name": "published values", "source": "experiments/atlas", "checksum": None}
            there[place] = records.Record.begin(form.CATALOGUE.experiment, {}, data)
            there[place].complete = True
        for path, record in there.items():
            record.description = catalogue.refreshed(record)
            records.write(path, record)
    return list(there)


class Store:
    """All results of one seed in a folder of records, by setting and member.

    With a `precision`, results of other operands count as not there: they stay until others take their place.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        seed: int,
        checksums: dict[str, str],
        num_members: int,
        precision: mlp.Precision | None = None,
    ):
        self._folder, self._seed, self._checksums, self._precision = folder, seed, checksums, precision
        self._found: dict[tuple[str, int], dict[str, Any]] = {}
        self._old: dict[pathlib.Path, records.Record] = {}
        self._foreign: set[pathlib.Path] = set()  # records of images that this run does not have
        self.seconds: dict[str, float] = {}
        self._before: dict[tuple[str, int], float] = {}  # seconds of members that earlier runs left
        there = sorted(found(folder).items(), key=lambda item: item[1].created)
        for path, record in there:  # the one begun later counts
            checksum = checksums.get(record.data["name"], record.data["checksum"])
            if record.config["seed"] != seed or record.data["checksum"] != checksum:
                raise errors.RecordError(
                    f"{path}: this record is of seed {record.config['seed']} and of {record.data['name']} with "
                    f"checksum {record.data['checksum']}; results of different seeds or data are not mixed. Give "
                    f"another folder with --records."
                )
            if record.data["name"] not in checksums:
                self._foreign.add(path)
                continue
            if record.config["num_members"] > num_members:
                raise errors.RecordError(
                    f"{path}: this record has {record.config['num_members']} members and {num_members} are asked for; "
                    f"fewer would overwrite it. Use --num-members {record.config['num_members']} or more, or another "
                    f"folder with --records."
                )
            self._old[path] = record
            for arm in record.results["arms"].values():
                self.seconds[arm["setting"]] = arm["seconds"]
                for member, result in arm["members"].items():
                    self.add(arm["setting"], int(member), result)
        counts = collections.Counter(setting for setting, _ in self._found)
        self._before = {key: self.seconds[key[0]] / counts[key[0]] for key in self._found}

    def add(self, setting: str, member: int, result: dict[str, Any]) -> None:
        """Keep a result beside what is known of the same setting and member, or instead of it."""
        key = (setting, member)
        old = self._found.get(key)
        if old is not None and old["partner"] == result["partner"]:
            if self._counts(old) and self._counts(result):
                result = _union(old, result)
            elif self._counts(old):
                return
            else:
                self.seconds[setting] -= self._before.pop(key, 0.0)
        self._found[key] = result

    def _counts(self, result: dict[str, Any]) -> bool:
        return self._precision is None or result["precision"] == self._precision

    def done(self, setting: registry.Setting, member: int, partner: int) -> bool:
        """Whether the result has all that the setting asks for."""
        result = self._found.get((registry.fingerprint(setting), member))
        if result is None or result["partner"] != partner or not self._counts(result):
            return False
        spec, metrics = setting.member, result["metrics"]
        return set(spec.conditions) <= set(result["accuracy"]) and all(
            set(spec.conditions) <= set(metrics.get(_NEEDED[measure], {})) for measure in spec.metrics
        )

    def arm(self, setting: registry.Setting, num_members: int) -> dict[str, Any]:
        """What a record says of an arm, as far as it is there."""
        name = registry.fingerprint(setting)
        members = {str(m): self._found[name, m] for m in range(num_members) if (name, m) in self._found}
        return {"setting": name, "seconds": self.seconds.get(name, 0.0), "members": members}

    def written(self, row: registry.Row) -> bool:
        """Whether the row has a record of the members that are there, with their results."""
        path = self._folder / f"{row.id}.json"
        if not path.exists():
            return False
        arms = records.read(path, form.FORM).results["arms"]
        stored = {
            (arm["setting"], int(member)): result for arm in arms.values() for member, result in arm["members"].items()
        }
        names = {registry.fingerprint(row.setting(arm)) for arm in row.arms}
        return {key: result for key, result in self._found.items() if key[0] in names} == stored

    def write(self, row: registry.Row, num_members: int, *, data: dict[str, Any], compile_seconds: float = 0.0) -> None:
        """The row's record, whole or not at all."""
        path = self._folder / f"{row.id}.json"
        if path in self._foreign:
            raise errors.RecordError(
                f"{path}: this record is of other images than {data['name']} and is not overwritten; give another "
                f"folder with --records"
            )
        config = RowConfig(row=row.id, seed=self._seed, num_members=num_members)
        record = records.Record.begin("atlas", config, data, description=catalogue.described(row))
        arms = {arm.label: self.arm(row.setting(arm), num_members) for arm in row.arms}
        there = {(arm["setting"], int(member)) for arm in arms.values() for member in arm["members"]}
        old = self._old.get(path)
        if old is not None and there & self._before.keys():  # what it was made with first stays on it
            for what in ("versions", "device", "provenance"):
                if (before := getattr(old, what)) != getattr(record, what):
                    note = f"some members were run with {what} {getattr(record, what)}"
                    old.notes += [] if note in old.notes else [note]
                    setattr(record, what, before)
            record.created, record.notes = old.created, list(old.notes)
            compile_seconds += old.seconds.get("compile", 0.0)
        if data["name"] != row.setting(row.arms[0]).data.dataset:
            note = f"the images are {data['name']}: published values do not apply"
            record.notes += [] if note in record.notes else [note]
        for arm in row.arms:
            arms[arm.label]["changes"] = registry.departures(row.setting(arm))
        record.results["arms"] = arms
        different = {arm["setting"]: arm["seconds"] for arm in arms.values()}  # several epochs of one run are one
        record.seconds = {"run": round(sum(different.values()), 1),
                          "compile": round(compile_seconds, 1)}  # fmt: skip
        record.memory = records.peak_memory()
        record.complete = form.FORM.is_complete(record)
        records.write(path, record)


_NEEDED = {"epochs": "epoch_accuracy", "representation": "cka", "update_cosine": "update_cosine"}


def _union(old, new):
    both = dict(new)
    for part in ("accuracy", "loss"):
        both[part] = old[part] | new[part]
    both["metrics"] = {
        name: old["metrics"].get(name, {}) | new["metrics"].get(name, {})
        for name in dict.fromkeys([*old["metrics"], *new["metrics"]])
    }
    both["diverged"] = sorted({*old["diverged"], *new["diverged"]})
    return both
