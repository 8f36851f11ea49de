"""The arithmetic of the benchmark, on numbers that can be checked by hand. Nothing here is timed."""

import itertools

import numpy as np
import pytest

from experiments import speed
from figures import speed as figure
from figures import tables
from sublim_jax import records
from sublim_jax.forms import speed as form
from sublim_jax.models import mlp


def made_up() -> records.Record:
    result = records.Record.begin(
        "speed",
        speed.SpeedConfig(num_members=2),
        {"name": "mnist", "source": "", "checksum": ""},
        description=speed.describe(),
    )
    scores = {condition: [0.4, 0.6] for condition in form.CONDITIONS}

    def run(program, seconds, **more):
        return {"program": program, "accuracy": scores, "training_s": seconds, "compile_s": 1.0,
                "peak_rss_mb": 10.0 * seconds, **more}  # fmt: skip

    result.results = {
        "peak_gflops": {"float32": 100.0, "bfloat16": 200.0},
        "operations_per_member": 1e12,
        "step_parts_ms": {"float32": {"forward": 1.0}, "bfloat16": {"forward": 0.5}},
        "whole": [
            run(p, s) for p, s in ((speed.PEER, 90.0), ("float32", 40.0), ("bfloat16", 20.0), (speed.PEER, 110.0))
        ],
        "scaling": [run(p, 5.0, members=m) for p in speed.LABELS for m in (2, 4)],
    }
    return result


def test_operations_are_counted_layer_by_layer():
    """Brute force: forward and weight gradient in each layer, input gradient in all but the first."""
    sizes = (784, 256, 256, 13)
    step = sum(2 * 2 * a * b for a, b in itertools.pairwise(sizes))
    step += sum(2 * a * b for a, b in itertools.pairwise(sizes[1:]))
    forward = sum(2 * a * b for a, b in itertools.pairwise(sizes))
    expected = 5 * step * (60_000 + 4 * 60_000) + forward * 60_000
    found = speed.operations(mlp.MLPSpec(), teacher_images=60_000, noise_images=60_000, students=4, epochs=5)
    assert found == expected


def test_ratios_are_of_medians_and_shares_of_the_peak_of_the_same_precision():
    peer, float32, bfloat16 = tables.programs(made_up())
    assert peer.ratio == 1 and peer.share_of_peak is None
    assert float32.ratio == pytest.approx(100 / 40) and bfloat16.ratio == pytest.approx(100 / 20)
    assert bfloat16.ratio_with_compilation == pytest.approx(100 / 21)
    assert bfloat16.seconds_per_member == pytest.approx(10)
    assert float32.gflops == pytest.approx(2 * 1e12 / 40 / 1e9)
    assert float32.share_of_peak == pytest.approx(50 / 100) and bfloat16.share_of_peak == pytest.approx(100 / 200)


def test_tables_and_figure_are_made_from_a_record(tmp_path):
    record = made_up()
    assert [table.row_count for table in tables.speed(record)] == [5, 3, 1]
    records.write(tmp_path / "speed.json", record)
    for path in figure.save(tmp_path / "speed.json", tmp_path / "speed"):
        assert path.stat().st_size > 1000


def test_the_peer_reaches_the_same_accuracies(tmp_path, small_digits):
    """The protocol in PyTorch, as a second implementation: a teacher that learns, controls that do not."""
    pytest.importorskip("torch", reason="the peer needs the extra `bench`")
    from experiments import peer

    npz = tmp_path / "images.npz"
    np.savez(npz, **{name: getattr(small_digits, name) for name in speed.images_arrays()})
    found = peer.run(peer.PeerConfig(npz, num_members=2, num_epochs=1))
    assert set(found["accuracy"]) == set(form.CONDITIONS)
    assert all(0 <= score <= 1 for scores in found["accuracy"].values() for score in scores)


def test_the_peer_without_torch_says_what_to_install(run_python, tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    done = run_python("-m", "experiments.peer", "--help", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "error: No module named 'torch'. Install the extra: pip install -e '.[bench]'\n"
