"""The records of the atlas: one file per row, in which every result is filed under the fingerprint of its setting.

A result belongs to a setting and a member, not to a row. Arms of several rows with equal settings share their results,
and a row that is run again reuses the results of its earlier record.
"""

import collections
import dataclasses
import pathlib
from typing import Any

from experiments.atlas import catalogue, settings
from experiments.atlas.rows.types import ResolvedArm, Row
from experiments.atlas.settings import Setting
from sublim_jax import errors, files, records, specs
from sublim_jax.forms import atlas as form
from sublim_jax.models import mlp

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "records/atlas"
"""The committed records."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class RowConfig:
    """The config in a row's record."""

    row: str
    seed: specs.Seed
    num_members: specs.NumMembers


def paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """Paths of the records in a folder, without the hidden temporary files of a process that was killed."""
    return [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]


def read_all(folder: pathlib.Path) -> dict[pathlib.Path, records.Record]:
    """All records in a folder.

    Raises:
        RecordError: a JSON file there is not a row's record.
    """
    return {path: records.read(path, form.FORM) for path in paths(folder)}


def describe(folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the present descriptions of rows into their records, and the catalogue next to the folder.

    No result changes. Returns the paths that were written.

    Raises:
        OutputError: the folder cannot be written, or another process is writing in it.
        RecordError: a file there is not a row's record.
    """
    files.require_folder(folder, ours=lambda _: True, what="folder of records")
    catalogue_path = folder.with_name(f"{folder.name}-rows.json")
    with files.Lock(folder):
        by_path = {path: records.read_old(path) for path in paths(folder)}
        if catalogue_path.exists():
            by_path[catalogue_path] = records.read_old(catalogue_path)
        else:
            data = {"name": "published values", "source": "experiments/atlas", "checksum": None}
            by_path[catalogue_path] = records.Record.begin(form.CATALOGUE.experiment, {}, data)
            by_path[catalogue_path].complete = True
        for path, record in by_path.items():
            record.description = catalogue.refreshed_description(record)
            records.write(path, record)
    return list(by_path)


class RecordStore:
    """All results of one seed in a folder of records, by setting and member.

    With a `precision`, results of another precision count as missing; they stay in the records until they are replaced.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        seed: int,
        checksums: dict[str, str],
        num_members: int,
        precision: mlp.Precision | None = None,
    ):
        self._folder, self._seed, self._precision = folder, seed, precision
        self._results: dict[tuple[str, int], dict[str, Any]] = {}
        self._earlier_records: dict[pathlib.Path, records.Record] = {}
        self._other_data: set[pathlib.Path] = set()  # records of images that this run does not use
        self.seconds: dict[str, float] = {}
        self._earlier_seconds: dict[tuple[str, int], float] = {}  # of each member that an earlier run recorded
        by_age = sorted(read_all(folder).items(), key=lambda item: item[1].created)
        for path, record in by_age:  # later records override earlier ones
            checksum = checksums.get(record.data["name"], record.data["checksum"])
            if record.config["seed"] != seed or record.data["checksum"] != checksum:
                raise errors.RecordError(
                    f"{path}: this record is of seed {record.config['seed']} and of {record.data['name']} with "
                    f"checksum {record.data['checksum']}; results of different seeds or data are not mixed. Give "
                    f"another folder with --records."
                )
            if record.data["name"] not in checksums:
                self._other_data.add(path)
                continue
            if record.config["num_members"] > num_members:
                raise errors.RecordError(
                    f"{path}: this record has {record.config['num_members']} members and {num_members} are asked for; "
                    f"fewer would overwrite it. Use --num-members {record.config['num_members']} or more, or another "
                    f"folder with --records."
                )
            self._earlier_records[path] = record
            for arm in record.results["arms"].values():
                self.seconds[arm["setting"]] = arm["seconds"]
                for member, result in arm["members"].items():
                    self.add(arm["setting"], int(member), result)
        counts = collections.Counter(setting for setting, _ in self._results)
        self._earlier_seconds = {key: self.seconds[key[0]] / counts[key[0]] for key in self._results}

    def add(self, fingerprint: str, member: int, result: dict[str, Any]) -> None:
        """Add a result. It joins the present result of the same setting and member, or replaces it."""
        key = (fingerprint, member)
        old = self._results.get(key)
        if old is not None and old["partner"] == result["partner"]:
            if self._is_current(old) and self._is_current(result):
                result = _union(old, result)
            elif self._is_current(old):
                return
            else:
                self.seconds[fingerprint] -= self._earlier_seconds.pop(key, 0.0)
        self._results[key] = result

    def _is_current(self, result: dict[str, Any]) -> bool:
        return self._precision is None or result["precision"] == self._precision

    def done(self, setting: Setting, member: int, partner: int) -> bool:
        """Whether there is a result with all conditions and measures of the setting."""
        result = self._results.get((settings.fingerprint(setting), member))
        if result is None or result["partner"] != partner or not self._is_current(result):
            return False
        spec, metrics = setting.member, result["metrics"]
        return set(spec.conditions) <= set(result["accuracy"]) and all(
            set(spec.conditions) <= set(metrics.get(_RECORDED_AS[measure], {})) for measure in spec.metrics
        )

    def arm(self, arm: ResolvedArm, num_members: int) -> dict[str, Any]:
        """An arm of a record, with the results so far."""
        name = arm.fingerprint
        members = {str(m): self._results[name, m] for m in range(num_members) if (name, m) in self._results}
        return {"setting": name, "seconds": self.seconds.get(name, 0.0), "members": members}

    def is_written(self, row: Row) -> bool:
        """Whether the row's record holds all results of its arms."""
        path = self._folder / f"{row.id}.json"
        if not path.exists():
            return False
        arms = records.read(path, form.FORM).results["arms"]
        stored = {
            (arm["setting"], int(member)): result for arm in arms.values() for member, result in arm["members"].items()
        }
        names = {arm.fingerprint for arm in row.resolved}
        return {key: result for key, result in self._results.items() if key[0] in names} == stored

    def write(self, row: Row, num_members: int, *, data: dict[str, Any], compile_seconds: float = 0.0) -> None:
        """Write the row's record atomically."""
        path = self._folder / f"{row.id}.json"
        if path in self._other_data:
            raise errors.RecordError(
                f"{path}: this record is of other images than {data['name']} and is not overwritten; give another "
                f"folder with --records"
            )
        config = RowConfig(row=row.id, seed=self._seed, num_members=num_members)
        record = records.Record.begin("atlas", config, data, description=catalogue.describe(row))
        arms = {arm.label: self.arm(arm, num_members) for arm in row.resolved}
        earlier = self._earlier_records.get(path)
        keys = {(arm["setting"], int(member)) for arm in arms.values() for member in arm["members"]}
        if earlier is not None and keys & self._earlier_seconds.keys():
            _keep_origin(record, earlier)
            compile_seconds += earlier.seconds.get("compile", 0.0)
        if data["name"] != row.dataset:
            note = f"the images are {data['name']}: published values do not apply"
            record.notes += [] if note in record.notes else [note]
        for arm in row.resolved:
            arms[arm.label]["changes"] = settings.diff_from_base(arm.setting)
        record.results["arms"] = arms
        seconds = {arm["setting"]: arm["seconds"] for arm in arms.values()}  # arms of one setting count once
        record.seconds = {"run": round(sum(seconds.values()), 1), "compile": round(compile_seconds, 1)}
        record.memory = records.peak_memory()
        record.complete = form.FORM.is_complete(record)
        records.write(path, record)


_RECORDED_AS = {"epochs": "epoch_accuracy", "representation": "cka", "update_cosine": "update_cosine"}
"""A name in the results of each measure, which is there if the measure was taken."""


def _keep_origin(record: records.Record, earlier: records.Record) -> None:
    """Keep the versions, device and provenance of the earlier run, with a note about those of this one."""
    for name in ("versions", "device", "provenance"):
        if (before := getattr(earlier, name)) != getattr(record, name):
            note = f"some members were run with {name} {getattr(record, name)}"
            earlier.notes += [] if note in earlier.notes else [note]
            setattr(record, name, before)
    record.created, record.notes = earlier.created, list(earlier.notes)


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
