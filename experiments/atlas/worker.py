"""What runs a piece of the atlas: settings of one structure for some members, in one compiled program.

A worker is the same in-process and on a machine of a cluster. It loads the images once, keeps the programs it has
compiled and the teachers it has trained, and turns a chunk into results, which depend on the chunk's settings, members
and seed alone.
"""

import collections
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments.atlas import registry
from sublim_jax import records
from sublim_jax.data import datasets
from sublim_jax.training import ensemble, stages
from sublim_jax.training.config import TeacherConfig
from sublim_jax.training.state import Data, MemberResult, TrainedTeacher

Upbringing = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Task:
    """One member of one setting."""

    setting: registry.Setting
    member: int
    partner: int

    @functools.cached_property
    def teacher_config(self) -> Upbringing:
        """Names the teacher: tasks of equal teacher_config share one."""
        return records.fingerprint((teacher_config(self.setting), self.setting.data)), self.member


Chunks = Sequence[Sequence[Task]]
"""What an engine runs: tasks of one structure, several times."""


@dataclasses.dataclass
class Answer:
    """What came of a chunk: one result per task, in order, and where the time went."""

    results: list[dict[str, Any]]
    seconds: dict[str, float]


KEPT_TEACHERS = 512
"""Each of the paper's size takes a megabyte."""
KEPT_PROGRAMS = 60
"""Each takes hundreds of memory maps, of which Linux gives a process 65,530: a hundred were too many."""

Load = Callable[[str], datasets.ImageDataset]


class Worker:
    """Runs chunks of tasks. Not to be shared between threads.

    Args:
        load: the dataset of a name.
        width: tasks side by side on each device; by default one on a CPU, 128 on an accelerator.
    """

    def __init__(self, seed: int, load: Load, *, width: int | None = None):
        self._seed, self._load, self._width = seed, load, width or ensemble.default_members_per_device(10**6)
        self._programs: collections.OrderedDict[Any, Any] = collections.OrderedDict()
        self._teachers: collections.OrderedDict[Upbringing, TrainedTeacher] = collections.OrderedDict()
        self._images: dict[registry.DataSpec, Any] = {}

    @property
    def chunk_size(self) -> int:
        """Tasks that go side by side, at most."""
        return self._width * jax.device_count()

    def run(self, tasks: Sequence[Task]) -> Answer:
        """The results of tasks of one structure, with teachers that are kept for later chunks."""
        seconds = collections.Counter()
        missing = {task.teacher_config: task for task in tasks if task.teacher_config not in self._teachers}
        if missing:
            taught, spent = self.teach(list(missing.values()))
            self._teachers |= dict(zip(missing, taught, strict=True))
            seconds.update(spent)
        for task in tasks:
            self._teachers.move_to_end(task.teacher_config)
        answer = self.distill(tasks, [self._teachers[task.teacher_config] for task in tasks])
        while len(self._teachers) > KEPT_TEACHERS:
            self._teachers.popitem(last=False)
        seconds.update(answer.seconds)
        return Answer(answer.results, dict(seconds))

    def teach(self, tasks: Sequence[Task]) -> tuple[list[TrainedTeacher], dict[str, float]]:
        """The tasks' teachers, and the seconds spent on compilation and teaching."""
        padded = self._padded(tasks)
        upbringings = [teacher_config(task.setting) for task in padded]
        structure = jax.tree.structure(upbringings[0])
        members = _indices(padded, "member")

        def teachers(leaves, member, shared):
            seed, data = shared
            return stages.train_teacher(member, data, seed=seed, spec=jax.tree.unflatten(structure, leaves))

        key = ("teachers", structure, tasks[0].setting.data)
        taught, seconds = self._call(key, teachers, (_numbers(upbringings), members), tasks[0].setting.data)
        return [jax.tree.map(lambda leaf, row=row: leaf[row], taught) for row in range(len(tasks))], seconds

    def distill(self, tasks: Sequence[Task], taught: Sequence[TrainedTeacher]) -> Answer:
        """The results of tasks of one structure, whose teachers are given."""
        padded = self._padded(tasks)
        origins, seconds = self._originate(padded)
        structure, tree = tasks[0].setting.structure, jax.tree.structure(tasks[0].setting)
        taught = [*taught, *[taught[-1]] * (len(padded) - len(tasks))]

        def students(leaves, member, origin, taught, shared):
            seed, data = shared
            setting = jax.tree.unflatten(tree, leaves)
            return stages.distill_students(member, origin, taught, data, seed=seed, spec=setting.member)

        numbers, members = _numbers([task.setting for task in padded]), _indices(padded, "member")
        arguments = (numbers, members, origins, jax.tree.map(lambda *leaves: np.stack(leaves), *taught))
        outcome, spent = self._call(("students", structure), students, arguments, tasks[0].setting.data)
        for what, value in spent.items():
            seconds[what] = seconds.get(what, 0.0) + value
        return Answer([_result(outcome, row, task) for row, task in enumerate(tasks)], seconds)

    def _originate(self, tasks: Sequence[Task]):
        """Where the tasks' models start, and the seconds spent on that."""
        origins = [task.setting.member.init_config for task in tasks]
        if any(origin.init_sharing is not None for origin in origins):  # one program for all
            starts = [task.setting.member.init_sharing for task in tasks]
            origins = [dataclasses.replace(o, start=start) for o, start in zip(origins, starts, strict=True)]
        tree, data = jax.tree.structure(origins[0]), tasks[0].setting.data

        def originate(leaves, member, partner, shared):
            seed, images = shared
            return stages.init_params(member, partner, images, seed=seed, spec=jax.tree.unflatten(tree, leaves))

        arguments = _numbers(origins), _indices(tasks, "member"), _indices(tasks, "partner")
        return self._call(("origins", tree, data), originate, arguments, data)

    def _padded(self, tasks: Sequence[Task]) -> list[Task]:
        """As many tasks as the program takes; the last one is repeated."""
        assert len({task.setting.structure for task in tasks}) == 1 and len(tasks) <= self.chunk_size
        return [*tasks, *[tasks[-1]] * (self.chunk_size - len(tasks))]

    def _call(self, key, run, arguments, data: registry.DataSpec):
        """Run the program named `key`, compiling it when it is new: its outcome, and seconds by what they were."""
        arguments, shared = ensemble.shard(arguments), (np.uint32(self._seed), self._shared(data))
        began, seconds = time.perf_counter(), {}
        if key not in self._programs:
            self._programs[key] = ensemble.over_members(run, width=self._width).lower(arguments, shared).compile()
            seconds["compile"] = time.perf_counter() - began
            began = time.perf_counter()
            while len(self._programs) > KEPT_PROGRAMS:
                self._programs.popitem(last=False)
        self._programs.move_to_end(key)
        outcome = ensemble.gather(self._programs[key](arguments, shared))
        seconds[key[0]] = time.perf_counter() - began
        return outcome, seconds

    def _shared(self, data: registry.DataSpec):
        if data not in self._images:
            dataset = self._load(data.dataset)
            arrays = []
            for pixels, labels in (
                (dataset.train_images, dataset.train_labels),
                (dataset.test_images, dataset.test_labels),
            ):
                kept = labels < data.num_classes
                arrays += [pixels.reshape(len(pixels), -1)[kept], labels[kept]]
            self._images = {data: ensemble.replicate(Data(*arrays))}  # one at a time: they are large
        return self._images[data]


def loader(data_dir: pathlib.Path | None) -> Load:
    """Datasets by name, silently, each read once. Where MNIST is unavailable, digits are drawn, and say so by name.

    Args:
        data_dir: a folder with the four IDX files, or with one subfolder per dataset; by default SUBLIM_DATA_DIR.
    """
    return functools.cache(
        lambda name: datasets.load("auto" if name == "mnist" else name, data_dir=data_dir, announce=lambda _: None)
    )


def teacher_config(setting: registry.Setting) -> TeacherConfig:
    """What decides the teacher. Settings that differ in their auxiliary logits have the same one."""
    return setting.member.teacher_config.without_aux_logits


def _numbers(trees: Sequence[Any]) -> list[np.ndarray]:
    """The numbers of specs of one structure, with a leading axis."""
    return [np.stack([np.asarray(leaf, np.float32) for leaf in leaves])
            for leaves in zip(*(jax.tree.leaves(tree) for tree in trees), strict=True)]  # fmt: skip


def _indices(tasks: Sequence[Task], name: str) -> np.ndarray:
    return np.array([getattr(task, name) for task in tasks], np.int32)


def _result(outcome: MemberResult, row: int, task: Task) -> dict[str, Any]:
    """One member's part of a record: accuracies, what else was measured, the loss of each last epoch."""

    def number(value):
        return float(f"{float(value):.5g}") if np.isfinite(value) else None

    def kept(values):
        return [number(value) for value in values] if np.ndim(values) else number(values)

    return {
        "partner": task.partner,
        "precision": task.setting.member.mlp_spec.precision,
        "accuracy": {name: number(values[row]) for name, values in outcome.accuracy.items()},
        "loss": {name: number(values[row][-1]) for name, values in outcome.loss.items() if np.size(values[row])},
        "metrics": {
            name: {condition: kept(values[row]) for condition, values in by_condition.items()}
            for name, by_condition in outcome.metrics.items()
        },
        "diverged": sorted(name for name, finite in outcome.finite.items() if not finite[row]),
    }
