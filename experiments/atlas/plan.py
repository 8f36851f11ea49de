"""What there is to run, in which order, and about how long it takes.

Every arm of every chosen row becomes tasks, one per member. Arms of different rows that come to one setting are one
task; what an earlier run left in the records is none. Tasks keep the order of the rows, so that rows are finished one
after the other, and are cut into chunks of one structure.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import jax

from experiments import cost
from experiments.atlas import registry, worker
from sublim_jax import errors
from sublim_jax.training import ensemble

TRAIN_IMAGES = 60_000
COMPILE = 3.5
"""Seconds for a program, of starts, teachers or students, on two cores."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Chunks of tasks of one structure."""

    chunks: tuple[tuple[worker.Task, ...], ...]
    num_programs: int

    @property
    def num_tasks(self) -> int:
        """Members of settings that are still to be run."""
        return sum(len(chunk) for chunk in self.chunks)

    def seconds(self, cores: int) -> float:
        """Estimated time on so many cores, compilation included."""
        teachers = {
            (worker.teacher_config(task.setting), task.setting.data, task.member): task
            for c in self.chunks
            for task in c
        }
        work = sum(cost.students_seconds(task.setting.member) for chunk in self.chunks for task in chunk)
        work += sum(teacher_seconds(task.setting) for task in teachers.values())
        return work / cores + COMPILE * self.num_programs


def make(settings: Iterable[registry.Setting], num_members: int, *, chunk_size: int, done) -> Plan:
    """The plan for these settings.

    Args:
        done: `(setting, member, partner) -> bool`, whether a result exists.
    """
    different: dict[str, registry.Setting] = {}
    for setting in settings:
        name = registry.fingerprint(setting)
        different[name] = merged(different[name], setting) if name in different else setting
    partners = ensemble.cross_model_partners(num_members)
    chunks = []
    for _, group in itertools.groupby(different.values(), key=lambda setting: setting.structure):
        tasks = [
            worker.Task(setting, member, int(partners[member]))
            for setting in group
            for member in range(num_members)
            if not done(setting, member, int(partners[member]))
        ]
        chunks += [tuple(tasks[i : i + chunk_size]) for i in range(0, len(tasks), chunk_size)]
    structures = {chunk[0].setting.structure for chunk in chunks}
    upbringings = {
        (jax.tree.structure(worker.teacher_config(chunk[0].setting)), chunk[0].setting.data) for chunk in chunks
    }
    origins = {(jax.tree.structure(chunk[0].setting.member.init_config), chunk[0].setting.data) for chunk in chunks}
    return Plan(tuple(chunks), len(structures) + len(upbringings) + len(origins))


def merged(first: registry.Setting, second: registry.Setting) -> registry.Setting:
    """A setting with the conditions and measures of both, which must be equal otherwise."""
    conditions = tuple(dict.fromkeys((*first.member.conditions, *second.member.conditions)))
    metrics = tuple(dict.fromkeys((*first.member.metrics, *second.member.metrics)))
    spec = dataclasses.replace(first.member, conditions=conditions, metrics=metrics)
    return dataclasses.replace(first, member=spec)


def teacher_seconds(setting: registry.Setting) -> float:
    """Estimated time of one core for one teacher."""
    spec = setting.member
    num_images = (TRAIN_IMAGES - spec.num_validation_images) * setting.data.num_classes // 10
    return cost.teacher_seconds(spec, num_images)


def chosen(
    rows: Sequence[registry.Row],
    *,
    ids: Sequence[str] = (),
    axes: Sequence[str] = (),
    sources: Sequence[str] = (),
) -> list[registry.Row]:
    """The rows with one of these ids, axes or sources; all of them where nothing is asked for.

    Raises:
        InputError: a name that no row has.
    """
    have = {
        "ids": {r.id for r in rows},
        "axes": {r.axis for r in rows},
        "sources": {s for r in rows for s in r.sources},
    }
    for kind, asked in (("ids", ids), ("axes", axes), ("sources", sources)):
        if unknown := sorted(set(asked) - have[kind]):
            raise errors.InputError(
                f"no row has {unknown[0]!r} among its {kind}; there are {', '.join(sorted(have[kind]))}"
            )
    return [
        row
        for row in rows
        if not (ids or axes or sources) or row.id in ids or row.axis in axes or set(sources) & set(row.sources)
    ]
