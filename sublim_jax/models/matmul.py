"""Which type of matrix operands this machine multiplies fastest."""

import functools
import importlib.metadata
import os
import pathlib

from sublim_jax.models import mlp

CPUINFO = pathlib.Path("/proc/cpuinfo")


@functools.cache
def fastest_precision() -> mlp.Precision:
    """bfloat16 where the processor or an accelerator has arithmetic for it, else float32.

    A CPU without such instructions (AVX512-BF16, AMX) converts bfloat16 operands, which is slower than float32; one
    that has them is faster (`experiments.speed` measures both). JAX is not asked, since that would start it.
    """
    return "bfloat16" if _has_accelerator() or _processor_has_bfloat16() else "float32"


def _has_accelerator() -> bool:
    if os.environ.get("JAX_PLATFORMS", "").lower() == "cpu":
        return False
    return bool(importlib.metadata.entry_points(group="jax_plugins"))


def _processor_has_bfloat16(cpuinfo: pathlib.Path = CPUINFO) -> bool:
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux
        return False
    for line in text.splitlines():
        if line.startswith(("flags", "Features")):
            return not {"avx512_bf16", "amx_bf16"}.isdisjoint(line.split())
    return False
