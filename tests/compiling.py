"""The compiler's flags for tests, which are inherited by the processes that they start."""

import os
import subprocess
import sys

COMPILER = ("--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1")
"""Compiles in two thirds of the time, and small programs whole, for that is quicker than in parts. Releases of XLA do
not know every flag."""


def set_flags() -> None:
    """Set XLA_FLAGS for this process, before JAX starts its backend, unless it is set."""
    if "XLA_FLAGS" not in os.environ:
        everything = " ".join(COMPILER)
        os.environ["XLA_FLAGS"] = everything if _is_known(everything) else " ".join(filter(_is_known, COMPILER))


def _is_known(flags: str) -> bool:
    """Whether XLA has these flags. One that it does not know ends the process."""
    code = "import jax; jax.jit(lambda: 0.0)()"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 0
