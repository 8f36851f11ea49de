"""The compiler's flags for tests, which are inherited by the processes that they start."""

import os
import subprocess
import sys

COMPILER = "--xla_cpu_use_fusion_emitters=false"
"""Compiles in two thirds of the time. Later releases of XLA do not know it."""


def set_flags() -> None:
    """Set XLA_FLAGS for this process, before JAX starts its backend, unless it is set."""
    if "XLA_FLAGS" not in os.environ and _is_known(COMPILER):
        os.environ["XLA_FLAGS"] = COMPILER


def _is_known(flag: str) -> bool:
    """Whether XLA has this flag. One that it does not know ends the process."""
    code = "import jax; jax.jit(lambda: 0.0)()"
    environment = os.environ | {"XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 0
