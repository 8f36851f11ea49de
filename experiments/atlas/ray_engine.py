"""Run chunks on a Ray cluster. Each teacher is trained once; its students follow on any machine.

    ray start --head                                        on one machine; on others: ray start --address=HOST:6379
    python -m experiments.atlas --engine ray

Every task is a pure function of its arguments, so Ray can repeat it after the loss of a worker or a node; the driver
uses each result once. Images travel through Ray's object store, so only the driver needs the files. A CPU task uses one
core for one member; a cluster with GPUs runs larger chunks on the GPUs instead.
"""

import functools
import os
from collections.abc import Iterator
from typing import Any

from experiments.atlas.worker import Answer, Chunks, Load, TeacherKey, Worker
from sublim_jax import compilation, errors
from sublim_jax.data import datasets

try:
    import ray  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise errors.EngineError("--engine ray needs the package ray: pip install 'sublim-jax[ray]'") from error

MEMBERS_PER_GPU = 128


class RayEngine:
    """An engine on the cluster at RAY_ADDRESS, or on the cluster of this machine."""

    def __init__(self, seed: int, load: Load):
        if not ray.is_initialized():
            try:
                ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False)
            except ConnectionError as error:
                raise errors.EngineError(
                    "there is no Ray cluster; start one with `ray start --head`, or set RAY_ADDRESS"
                ) from error
        resources = ray.cluster_resources()
        self._on_gpu = resources.get("GPU", 0) >= 1
        self.num_cores = int(resources["GPU"] if self._on_gpu else resources.get("CPU", 1))
        self.chunk_size = MEMBERS_PER_GPU if self._on_gpu else 1
        self._seed, self._load = seed, load

    def run(self, chunks: Chunks) -> Iterator[tuple[int, Answer]]:
        """Run the chunks and return results in the order in which they finish."""
        options: dict[str, Any] = (
            {"max_retries": -1, "num_gpus": 1} if self._on_gpu else {"max_retries": -1, "num_cpus": 1}
        )
        variables = {"JAX_ENABLE_COMPILATION_CACHE": str(compilation.is_allowed())}  # as the driver
        if not self._on_gpu:  # one core for each task, although JAX sees all of them
            flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
            variables |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        options["runtime_env"] = {"env_vars": variables}
        teach, distill = ray.remote(_teach), ray.remote(_distill).options(**options)
        datasets = functools.cache(lambda name: ray.put(self._load(name)))
        teachers: dict[TeacherKey, Any] = {}
        waiting: dict[Any, int] = {}
        for index, chunk in enumerate(chunks):
            data = datasets(chunk[0].setting.data.dataset)
            missing = {task.teacher_key: task for task in chunk if task.teacher_key not in teachers}
            if missing:
                new: Any = teach.options(**options, num_returns=len(missing)).remote(
                    self._seed, self.chunk_size, data, *missing.values()
                )
                teachers |= dict(zip(missing, new if len(missing) > 1 else [new], strict=True))
            own = [teachers[task.teacher_key] for task in chunk]
            waiting[distill.remote(self._seed, self.chunk_size, data, list(chunk), *own)] = index
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(done), ray.get(done)


@functools.cache
def _worker(seed: int, width: int) -> Worker:
    """The worker of this process, which keeps its compiled programs."""
    compilation.use_cache()
    return Worker(seed, _DATASETS.__getitem__, width=width)


_DATASETS: dict[str, datasets.ImageDataset] = {}


def _teach(seed, width, dataset, *tasks):
    _DATASETS[tasks[0].setting.data.dataset] = dataset
    teachers, _ = _worker(seed, width).teach(tasks)
    return teachers if len(teachers) > 1 else teachers[0]


def _distill(seed, width, dataset, tasks, *teachers):
    _DATASETS[tasks[0].setting.data.dataset] = dataset
    return _worker(seed, width).distill(tasks, teachers)
