"""What a test may cost: examples per property, and how hard the compiler works on functions that run a few times."""

import hypothesis

QUICK_COMPILATION = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
"""Compiler options for `jax.jit` on a CPU: a fifth of the time to compile, twice the time to run."""


def examples(count: int) -> hypothesis.settings:
    """Settings of the loaded profile with `count` examples, or `10 * count` where the profile is the thorough one.

    HYPOTHESIS_PROFILE=thorough pytest tests/theory
    """
    profile = hypothesis.settings()
    return hypothesis.settings(profile, max_examples=count * max(1, profile.max_examples // 50))
