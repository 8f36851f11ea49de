"""Where chunks run: in this process, or on a Ray cluster. The results are the same bits on equal processors."""

from collections.abc import Iterator
from typing import Literal, Protocol

import jax

from experiments.atlas import worker
from sublim_jax import specs


class Engine(Protocol):
    """Runs chunks in some order and says which one each answer belongs to."""

    chunk_size: int
    num_cores: int

    def run(self, chunks: worker.Chunks) -> Iterator[tuple[int, worker.Answer]]: ...


class Local:
    """One worker, one chunk after the other."""

    def __init__(self, seed: int, load: worker.Load):
        self._worker = worker.Worker(seed, load)
        self.chunk_size = self._worker.chunk_size
        self.num_cores = jax.device_count()

    def run(self, chunks: worker.Chunks) -> Iterator[tuple[int, worker.Answer]]:
        """In the order of the plan."""
        for index, chunk in enumerate(chunks):
            yield index, self._worker.run(chunk)


def make(name: Literal["local", "ray"], seed: int, load: worker.Load) -> Engine:
    """The engine of that name.

    Raises:
        EngineError: no Ray, or no cluster.
    """
    specs.check(name, Literal["local", "ray"], "engine")
    if name == "local":
        return Local(seed, load)
    from experiments.atlas import on_ray

    return on_ray.OnRay(seed, load)
