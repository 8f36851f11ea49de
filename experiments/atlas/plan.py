"""The tasks of a run, their order, and an estimate of the time.

Every arm of every selected row becomes tasks, one per member. Arms with equal settings share their tasks, also across
rows, and results that are already recorded are skipped. Tasks keep the order of the rows, so that rows finish one after
the other, and are cut into chunks of one program.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence

import jax

from experiments import cost
from experiments.atlas import settings as atlas_settings
from experiments.atlas import worker
from experiments.atlas.rows.types import Row
from experiments.atlas.settings import Setting
from experiments.atlas.worker import Task
from sublim_jax import errors
from sublim_jax.training import ensemble

TRAIN_IMAGES = 60_000
COMPILE = 3.5
"""Seconds to compile a program (of starts, teachers or students) on two cores, if it is not in the cache."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Chunks of tasks; those of one chunk share a program."""

    chunks: tuple[tuple[Task, ...], ...]
    num_programs: int

    @property
    def num_tasks(self) -> int:
        """Number of members of settings that are still to be run."""
        return sum(len(chunk) for chunk in self.chunks)

    @property
    def compile_seconds(self) -> float:
        """Estimated time to compile all programs, as in a first run. A later run finds some or all in the cache."""
        return COMPILE * self.num_programs

    def seconds(self, cores: int) -> float:
        """Estimated time on this number of cores, of a first run: all programs are compiled."""
        teachers = {
            (worker.teacher_part(task.setting), task.setting.data, task.member): task for c in self.chunks for task in c
        }
        work = sum(cost.students_seconds(task.setting.member) for chunk in self.chunks for task in chunk)
        work += sum(teacher_seconds(task.setting) for task in teachers.values())
        return work / cores + self.compile_seconds


def make(
    settings: Iterable[Setting], num_members: int, *, chunk_size: int, done: Callable[[Setting, int, int], bool]
) -> Plan:
    """The plan for these settings.

    Args:
        done: `(setting, member, partner) -> bool`, whether a result is recorded.
    """
    different: dict[str, Setting] = {}
    for setting in settings:
        name = atlas_settings.fingerprint(setting)
        different[name] = merged(different[name], setting) if name in different else setting
    partners = ensemble.cross_model_partners(num_members)
    chunks = []
    for _, group in itertools.groupby(different.values(), key=lambda setting: setting.program_key):
        tasks = [
            Task(setting, member, int(partners[member]))
            for setting in group
            for member in range(num_members)
            if not done(setting, member, int(partners[member]))
        ]
        chunks += [tuple(tasks[i : i + chunk_size]) for i in range(0, len(tasks), chunk_size)]
    first_settings = [chunk[0].setting for chunk in chunks]
    students = {setting.program_key for setting in first_settings}
    teachers = {(jax.tree.structure(worker.teacher_part(setting)), setting.data) for setting in first_settings}
    starts = {(jax.tree.structure(setting.member.init_config), setting.data) for setting in first_settings}
    return Plan(tuple(chunks), len(students) + len(teachers) + len(starts))


def merged(first: Setting, second: Setting) -> Setting:
    """The first setting with the conditions and measures of both; the settings must be equal otherwise."""
    conditions = tuple(dict.fromkeys((*first.member.conditions, *second.member.conditions)))
    metrics = tuple(dict.fromkeys((*first.member.metrics, *second.member.metrics)))
    spec = dataclasses.replace(first.member, conditions=conditions, metrics=metrics)
    return dataclasses.replace(first, member=spec)


def teacher_seconds(setting: Setting) -> float:
    """Estimated time of one core for one teacher."""
    spec = setting.member
    num_images = (TRAIN_IMAGES - spec.num_validation_images) * setting.data.num_classes // 10
    return cost.teacher_seconds(spec, num_images)


def select(
    rows: Sequence[Row],
    *,
    ids: Sequence[str] = (),
    axes: Sequence[str] = (),
    sources: Sequence[str] = (),
) -> list[Row]:
    """The rows with one of these ids, axes or sources; all of them if none is given.

    Raises:
        InputError: a name that no row has.
    """
    known = {
        "ids": {row.id for row in rows},
        "axes": {row.axis for row in rows},
        "sources": {source for row in rows for source in row.sources},
    }
    for kind, names in (("ids", ids), ("axes", axes), ("sources", sources)):
        if unknown := sorted(set(names) - known[kind]):
            raise errors.InputError(
                f"no row has {unknown[0]!r} among its {kind}; there are {', '.join(sorted(known[kind]))}"
            )
    return [
        row
        for row in rows
        if not (ids or axes or sources) or row.id in ids or row.axis in axes or set(sources) & set(row.sources)
    ]
