"""Members are split among devices, and devices among processes; the numbers do not notice.

Devices and processes are made by other Pythons, so that the one that runs the tests keeps its single device.
"""

import json
import os
import socket

import pytest

from experiments import mnist_aux
from sublim_jax import records
from tests.experiments import small

ON_DEVICES = """
import json, sys, jax
count = int(sys.argv[1])
jax.config.update("jax_num_cpu_devices", count)
from sublim_jax.training import ensemble
from tests.training import tiny
assert jax.device_count() == count
arrays = ensemble.shard((tiny.MEMBERS, ensemble.cross_model_partners(8)))
assert [shard.data.tolist() for shard in arrays[0].addressable_shards] == tiny.MEMBERS.reshape(count, -1).tolist()
found = tiny.everyone(spec=tiny.SMALL)
print(json.dumps([leaf.tolist() for leaf in jax.tree.leaves(found)]))  # all digits, so that bits can be compared
"""


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one(run_python):
    """Bit for bit: each device runs the operations that one device runs for each member in turn."""
    one, eight = (run_python("-c", ON_DEVICES, count, JAX_DISABLE_MOST_OPTIMIZATIONS="1") for count in ("1", "8"))
    assert one.returncode == eight.returncode == 0, one.stderr + eight.stderr
    assert len(json.loads(one.stdout)) > 5 and json.loads(one.stdout) == json.loads(eight.stdout)


def test_each_core_becomes_a_device_but_no_more_than_there_are_members(run_python):
    code = (
        "import jax; from sublim_jax.training import ensemble\n"
        "ensemble.use_cpu_cores({}); print(jax.local_device_count('cpu'))"
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for members in (1, 1000):
        done = run_python("-c", code.format(members))
        assert done.stdout.strip() == str(min(members, cores)), done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
@pytest.mark.usefixtures("small_digits")
def test_two_processes_make_the_record_of_one(start_python, small_cache, tmp_path):
    """Through the command line, on this machine: process 0 writes the record, process 1 is silent."""
    path, port = tmp_path / "record.json", free_port()
    processes = [
        start_python(
            "-m",
            "experiments.mnist_aux",
            *small.FLAGS,
            *("--record", str(path), "--no-figure", "--coordinator", f"localhost:{port}"),
            *("--num-processes", "2", "--process-id", str(number)),
            SUBLIM_CACHE_DIR=str(small_cache),
        )
        for number in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, stderr) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, stderr
    found = records.read(path)
    assert found.complete and found.device["processes"] == 2 and found.device["count"] == 2
    assert found.config == records.to_json(small.CONFIG)
    assert found.results == mnist_aux.run(small.CONFIG, visible=False).results
    assert ["Test accuracy" in stdout for stdout, _ in outputs] == [True, False]
