"""The choice of operands: what the processor says of itself, and that asking does not start JAX."""

import subprocess
import sys

import pytest

from sublim_jax.models import matmul


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512_bf16 fma\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("model name : avx512_bf16\nflags : fpu\n", False),
        ("", False),
    ],
)
def test_a_processor_says_whether_it_has_bfloat16(tmp_path, text, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert matmul._processor_has_bfloat16(path) is expected


def test_where_there_is_no_such_file_it_is_float32(tmp_path):
    assert matmul._processor_has_bfloat16(tmp_path / "none") is False


def test_an_accelerator_is_not_looked_for_where_jax_is_told_to_use_the_cpu(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert matmul._has_accelerator() is False


def test_asking_does_not_start_jax():
    """Or the number of CPU devices could not be set any more."""
    code = (
        "import jax; from sublim_jax.models import matmul; matmul.fastest_precision(); "
        "jax.config.update('jax_num_cpu_devices', 3); assert jax.device_count() == 3"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": "", "JAX_PLATFORMS": "cpu"}, timeout=120)
