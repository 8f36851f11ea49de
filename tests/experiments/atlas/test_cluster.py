"""The atlas on a Ray cluster has the same results as in one process, also after the loss of a worker."""

import json
import os
import signal
import time

import pytest

from experiments.atlas import engines
from tests.experiments.atlas import tiny
from tests.experiments.atlas.test_run import members, run


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_gives_the_same_bits_and_survives_the_loss_of_a_worker(tmp_path):
    """Two nodes run on this machine, and a worker process is killed while it works."""
    import ray  # pyright: ignore[reportMissingImports]
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    from experiments.atlas import ray_engine

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        engine = ray_engine.RayEngine(0, tiny.load)
        killed, asked, answered = [], [], []

        class Killing:
            chunk_size, num_cores = engine.chunk_size, engine.num_cores

            def run(self, chunks):
                asked.extend(range(len(chunks)))
                for count, found in enumerate(engine.run(chunks)):
                    answered.append(found[0])
                    if count == 1:
                        killed.append(_kill_a_worker())
                    yield found

        record, _ = run(tmp_path / "cluster", engine=Killing())
        assert engine.num_cores == 2 and engine.chunk_size == 1 and killed
        assert sorted(answered) == asked  # nothing lost and nothing twice
    finally:
        ray.shutdown()
        cluster.shutdown()
    here, _ = run(tmp_path / "here", engine=engines.LocalEngine(0, tiny.load))
    assert json.dumps(members(record)) == json.dumps(members(here))


def _kill_a_worker() -> int:
    """Kill one of Ray's worker processes that is running a task."""
    import psutil

    for _ in range(1000):  # between two tasks a worker is idle for a moment
        for process in psutil.process_iter(["cmdline"]):
            if any("ray::_distill" in part or "ray::_teach" in part for part in process.info["cmdline"] or ()):
                os.kill(process.pid, signal.SIGKILL)
                return process.pid
        time.sleep(0.01)
    raise AssertionError("no worker is running a task")
