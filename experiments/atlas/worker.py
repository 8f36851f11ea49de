"""A worker runs chunks of the atlas: settings that share a compiled program, for some members.

A worker is the same in this process and on a machine of a cluster. It loads the images once, keeps its compiled
programs and trained teachers, and turns a chunk into results. These depend on nothing but the chunk's settings and
members and the seed.
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

from experiments.atlas.settings import DataSpec, Setting
from sublim_jax import records
from sublim_jax.data import datasets
from sublim_jax.models import conv
from sublim_jax.training import ensemble, stages
from sublim_jax.training.config import TeacherConfig
from sublim_jax.training.state import Data, MemberResult, TrainedTeacher

TeacherKey = tuple[str, int]
"""Fingerprint of a teacher's configuration and images, and its member."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One member of one setting, with its partner in the cross-model control."""

    setting: Setting
    member: int
    partner: int

    @functools.cached_property
    def teacher_key(self) -> TeacherKey:
        """Identifies the teacher: tasks with equal keys share one."""
        return records.fingerprint((teacher_part(self.setting), self.setting.data)), self.member


Chunks = Sequence[Sequence[Task]]
"""The work of an engine; tasks of one chunk share a program."""


@dataclasses.dataclass
class Answer:
    """The results of a chunk, one per task and in their order, and seconds by phase."""

    results: list[dict[str, Any]]
    seconds: dict[str, float]


KEPT_TEACHERS = 512
"""A teacher of the paper's size takes a megabyte."""
KEPT_PROGRAMS = 60
"""A program takes hundreds of memory maps, of which Linux allows a process 65,530. A hundred programs were too many."""

Load = Callable[[str], datasets.ImageDataset]
"""Loads a dataset by name."""


class Worker:
    """Runs chunks of tasks. Threads must not share a worker.

    Args:
        load: loads a dataset by name.
        width: tasks side by side on each device; by default one on a CPU, 128 on an accelerator.
    """

    def __init__(self, seed: int, load: Load, *, width: int | None = None):
        self._seed, self._load, self._width = seed, load, width or ensemble.default_members_per_device(10**6)
        self._programs: collections.OrderedDict[Any, Any] = collections.OrderedDict()
        self._teachers: collections.OrderedDict[TeacherKey, TrainedTeacher] = collections.OrderedDict()
        self._images: dict[DataSpec, Any] = {}

    @property
    def chunk_size(self) -> int:
        """Largest number of tasks that run side by side."""
        return self._width * jax.device_count()

    def run(self, tasks: Sequence[Task]) -> Answer:
        """Run tasks that share a program. Their teachers are kept for later chunks."""
        seconds = collections.Counter()
        missing = {task.teacher_key: task for task in tasks if task.teacher_key not in self._teachers}
        if missing:
            teachers, teacher_seconds = self.teach(list(missing.values()))
            self._teachers |= dict(zip(missing, teachers, strict=True))
            seconds.update(teacher_seconds)
        for task in tasks:
            self._teachers.move_to_end(task.teacher_key)
        answer = self.distill(tasks, [self._teachers[task.teacher_key] for task in tasks])
        while len(self._teachers) > KEPT_TEACHERS:
            self._teachers.popitem(last=False)
        seconds.update(answer.seconds)
        return Answer(answer.results, dict(seconds))

    def teach(self, tasks: Sequence[Task]) -> tuple[list[TrainedTeacher], dict[str, float]]:
        """Train the teachers of these tasks. Returns them with the seconds of compilation and training."""
        padded = self._padded(tasks)
        specs = [teacher_part(task.setting) for task in padded]
        structure = jax.tree.structure(specs[0])
        members = _indices(padded, "member")

        def train(leaves, member, shared):
            seed, data = shared
            return stages.train_teacher(member, data, seed=seed, spec=jax.tree.unflatten(structure, leaves))

        key = ("teachers", structure, tasks[0].setting.data)
        teachers, seconds = self._call(key, train, (_numbers(specs), members), tasks[0].setting.data)
        return [jax.tree.map(lambda leaf, row=row: leaf[row], teachers) for row in range(len(tasks))], seconds

    def distill(self, tasks: Sequence[Task], teachers: Sequence[TrainedTeacher]) -> Answer:
        """Distil the students of tasks that share a program, from the given teachers."""
        padded = self._padded(tasks)
        starts, seconds = self._starts(padded)
        program_key, tree = tasks[0].setting.program_key, jax.tree.structure(tasks[0].setting)
        teachers = [*teachers, *[teachers[-1]] * (len(padded) - len(tasks))]

        def distill(leaves, member, start, teacher, shared):
            seed, data = shared
            setting = jax.tree.unflatten(tree, leaves)
            return stages.distill_students(member, start, teacher, data, seed=seed, spec=setting.member)

        numbers, members = _numbers([task.setting for task in padded]), _indices(padded, "member")
        arguments = (numbers, members, starts, jax.tree.map(lambda *leaves: np.stack(leaves), *teachers))
        outcome, student_seconds = self._call(("students", program_key), distill, arguments, tasks[0].setting.data)
        for phase, value in student_seconds.items():
            seconds[phase] = seconds.get(phase, 0.0) + value
        return Answer([_result(outcome, row, task) for row, task in enumerate(tasks)], seconds)

    def _starts(self, tasks: Sequence[Task]):
        """Initial parameters of the tasks' models, and seconds by phase."""
        specs = [task.setting.member.init_config for task in tasks]
        if any(spec.init_sharing is not None for spec in specs):  # one program for all
            starts = [task.setting.member.init_sharing for task in tasks]
            specs = [dataclasses.replace(spec, init_sharing=start) for spec, start in zip(specs, starts, strict=True)]
        tree, data = jax.tree.structure(specs[0]), tasks[0].setting.data

        def initialize(leaves, member, partner, shared):
            seed, images = shared
            return stages.init_params(member, partner, images, seed=seed, spec=jax.tree.unflatten(tree, leaves))

        arguments = _numbers(specs), _indices(tasks, "member"), _indices(tasks, "partner")
        return self._call(("starts", tree, data), initialize, arguments, data)

    def _padded(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks, with the last one repeated up to the size of the program."""
        assert len({task.setting.program_key for task in tasks}) == 1 and len(tasks) <= self.chunk_size
        return [*tasks, *[tasks[-1]] * (self.chunk_size - len(tasks))]

    def _call(self, key, function, arguments, data: DataSpec):
        """Run the program named `key`, compiled if it is new. Returns its result and seconds by phase."""
        arguments, shared = ensemble.shard(arguments), (np.uint32(self._seed), self._shared(data))
        began, seconds = time.perf_counter(), {}
        if key not in self._programs:
            self._programs[key] = ensemble.over_members(function, width=self._width).lower(arguments, shared).compile()
            seconds["compile"] = time.perf_counter() - began
            began = time.perf_counter()
            while len(self._programs) > KEPT_PROGRAMS:
                self._programs.popitem(last=False)
        self._programs.move_to_end(key)
        outcome = ensemble.gather(self._programs[key](arguments, shared))
        seconds[key[0]] = time.perf_counter() - began
        return outcome, seconds

    def _shared(self, data: DataSpec):
        """The images of the first classes on every device."""
        if data not in self._images:
            dataset = self._load(data.dataset)
            arrays = []
            for pixels, labels in (
                (dataset.train_images, dataset.train_labels),
                (dataset.test_images, dataset.test_labels),
            ):
                in_use = labels < data.num_classes
                arrays += [pixels.reshape(len(pixels), -1)[in_use], labels[in_use]]
            self._images = {data: ensemble.replicate(Data(*arrays))}  # one dataset at a time: they are large
        return self._images[data]


def loader(data_dir: pathlib.Path | None) -> Load:
    """A function that loads datasets by name, without messages, each of them once.

    Where MNIST is unavailable it returns synthetic digits, whose name says so.

    Args:
        data_dir: a folder with the four IDX files, or with one subfolder per dataset; by default SUBLIM_DATA_DIR.
    """
    return functools.cache(
        lambda name: datasets.load("auto" if name == "mnist" else name, data_dir=data_dir, announce=lambda _: None)
    )


def teacher_part(setting: Setting) -> TeacherConfig:
    """The part of a setting that determines the teacher. Settings that differ in auxiliary logits share it."""
    return setting.member.teacher_config.without_aux_logits


def _numbers(trees: Sequence[Any]) -> list[np.ndarray]:
    """The numbers of specs of one structure, with a leading axis."""
    columns = zip(*(jax.tree.leaves(tree) for tree in trees), strict=True)
    return [np.stack([np.asarray(leaf, np.float32) for leaf in column]) for column in columns]


def _indices(tasks: Sequence[Task], name: str) -> np.ndarray:
    return np.array([getattr(task, name) for task in tasks], np.int32)


def _result(outcome: MemberResult, row: int, task: Task) -> dict[str, Any]:
    """One member's part of a record: accuracies, other measures, and the loss of the last epoch."""

    def number(value):
        return float(f"{float(value):.5g}") if np.isfinite(value) else None

    def numbers(values):
        return [number(value) for value in values] if np.ndim(values) else number(values)

    return {
        "partner": task.partner,
        "precision": conv.with_layers(task.setting.member.model).precision,
        "accuracy": {name: number(values[row]) for name, values in outcome.accuracy.items()},
        "loss": {name: number(values[row][-1]) for name, values in outcome.loss.items() if np.size(values[row])},
        "metrics": {
            name: {condition: numbers(values[row]) for condition, values in by_condition.items()}
            for name, by_condition in outcome.metrics.items()
        },
        "diverged": sorted(name for name, finite in outcome.finite.items() if not finite[row]),
    }
