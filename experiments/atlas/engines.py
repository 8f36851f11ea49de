"""Engines that run chunks: in this process, or on a Ray cluster. Results are bit-equal on equal processors."""

from collections.abc import Iterator
from typing import Literal, Protocol

import jax

from experiments.atlas.worker import Answer, Chunks, Load, Worker
from sublim_jax import specs


class Engine(Protocol):
    """Runs chunks in any order and returns each result with the index of its chunk."""

    chunk_size: int
    num_cores: int

    def run(self, chunks: Chunks) -> Iterator[tuple[int, Answer]]: ...


class LocalEngine:
    """One worker in this process, which runs one chunk after the other."""

    def __init__(self, seed: int, load: Load):
        self._worker = Worker(seed, load)
        self.chunk_size = self._worker.chunk_size
        self.num_cores = jax.device_count()

    def run(self, chunks: Chunks) -> Iterator[tuple[int, Answer]]:
        """Run the chunks in the order of the plan."""
        for index, chunk in enumerate(chunks):
            yield index, self._worker.run(chunk)


def open_engine(name: Literal["local", "ray"], seed: int, load: Load) -> Engine:
    """The engine of that name.

    Raises:
        EngineError: Ray is not installed, or there is no cluster.
    """
    specs.check(name, Literal["local", "ray"], "engine")
    if name == "local":
        return LocalEngine(seed, load)
    from experiments.atlas import ray_engine

    return ray_engine.RayEngine(seed, load)
