"""Calls of the Ray engine to a fake Ray. `test_cluster` runs the atlas on a real cluster."""

import importlib
import sys
import types

import pytest

from sublim_jax import compilation
from tests.experiments.atlas import tiny


@pytest.fixture
def ray_engine(monkeypatch):
    """The module on a fake Ray, which runs every task at once in this process and records its options."""
    fake = types.ModuleType("ray")

    class Reference:
        def __init__(self, value):
            self.value = value

    class Remote:
        def __init__(self, function, options=None):
            self.function, self.asked = function, options

        def options(self, **options):
            return Remote(self.function, options)

        def remote(self, *values):
            fake.asked.append((self.function.__name__, self.asked))
            return Reference(self.function(*values))

    fake.asked, fake.resources = [], {"CPU": 3.0}
    fake.is_initialized = lambda: True
    fake.cluster_resources = lambda: fake.resources
    fake.remote, fake.put = Remote, lambda value: value
    fake.get = lambda reference: reference.value
    fake.wait = lambda waiting, num_returns: (waiting[:num_returns], waiting[num_returns:])
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.delitem(sys.modules, "experiments.atlas.ray_engine", raising=False)
    module = importlib.import_module("experiments.atlas.ray_engine")
    yield module, fake
    sys.modules.pop("experiments.atlas.ray_engine")


def run(module, monkeypatch) -> None:
    """Run two chunks without any computation."""
    setting = types.SimpleNamespace(data=types.SimpleNamespace(dataset="mnist"))
    task = types.SimpleNamespace(setting=setting, teacher_key="the same")

    def _teach(seed, width, dataset, *tasks):
        return "teacher"

    def _distill(seed, width, dataset, tasks, *taught):
        return [(seed, width, len(tasks), *(reference.value for reference in taught))]

    monkeypatch.setattr(module, "_teach", _teach)
    monkeypatch.setattr(module, "_distill", _distill)
    engine = module.RayEngine(5, tiny.load)
    expected = [(5, engine.chunk_size, 1, "teacher")]
    assert sorted(engine.run([[task], [task]])) == [(0, expected), (1, expected)]


def test_workers_compile_as_their_driver_does(ray_engine, monkeypatch):
    module, ray = ray_engine
    monkeypatch.setenv("XLA_FLAGS", "--xla_of_the_driver=1")
    run(module, monkeypatch)
    assert [name for name, _ in ray.asked] == ["_teach", "_distill", "_distill"]  # each teacher once
    for _, options in ray.asked:
        assert options["num_cpus"] == 1 and options["max_retries"] == -1
        assert options["runtime_env"]["env_vars"] == {
            "JAX_ENABLE_COMPILATION_CACHE": str(compilation.is_allowed()),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_of_the_driver=1 --xla_cpu_multi_thread_eigen=false",
        }


def test_a_cluster_with_gpus_has_one_for_each_chunk(ray_engine, monkeypatch):
    module, ray = ray_engine
    ray.resources |= {"GPU": 2.0}
    run(module, monkeypatch)
    assert module.RayEngine(5, tiny.load).num_cores == 2
    variables = {"JAX_ENABLE_COMPILATION_CACHE": str(compilation.is_allowed())}
    for _, options in ray.asked:
        assert options["num_gpus"] == 1 and options["runtime_env"] == {"env_vars": variables}
