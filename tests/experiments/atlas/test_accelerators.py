"""The published rows of the atlas are traced and lowered for CUDA on a machine without a GPU.

What this shows is that the same command forms programs there which JAX can express for the device. It says nothing of
their speed, nor that XLA compiles them or that they fit into memory.
"""

import jax
import numpy as np
import pytest

from experiments.atlas import catalogue, plan, worker
from sublim_jax.data import datasets
from sublim_jax.training import ensemble


class Lowered:
    """Stands in for a compiled program: it is lowered for CUDA, and its outcome is zeros of the right shapes."""

    def __init__(self, program, names: list[str]):
        self._program, self._names = program, names

    def lower(self, *arguments):
        self._traced = self._program.trace(*arguments)
        self._traced.lower(lowering_platforms=("cuda",))
        self._names.append(self._traced.fun_name)
        return self

    def compile(self):
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), self._traced.out_info)
        return lambda *arguments: zeros


@pytest.fixture
def accelerator(monkeypatch):
    """JAX as if the default device were a GPU; caches are cleared afterwards."""
    jax.clear_caches()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    yield
    jax.clear_caches()


def blank(name: str) -> datasets.ImageDataset:
    """As many images as MNIST has, all black."""

    def black(count):
        return np.zeros((count, 28, 28), np.uint8), (np.arange(count) % 10).astype(np.uint8)

    return datasets.ImageDataset(name, "drawn for a test", "none", *black(60_000), *black(10_000))


@pytest.mark.slow
def test_every_published_program_can_be_lowered_for_cuda(accelerator, monkeypatch):
    names: list[str] = []
    compiled = ensemble.over_members
    monkeypatch.setattr(ensemble, "over_members", lambda run, *, width: Lowered(compiled(run, width=width), names))
    monkeypatch.setattr(worker, "KEPT_PROGRAMS", 10_000)
    on_gpu = worker.Worker(0, blank)
    assert on_gpu.chunk_size >= 100  # members side by side, as on an accelerator
    settings = [arm.setting for row in catalogue.ROWS["published"] for arm in row.resolved]
    work = plan.make(settings, 10, chunk_size=on_gpu.chunk_size, done=lambda *task: False)
    for chunk in work.chunks:
        on_gpu.run(chunk)
    assert len(names) >= work.num_programs
