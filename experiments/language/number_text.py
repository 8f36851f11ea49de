"""Raw text of uniform random numbers in several formats, in tokens: what students of soft distillation read."""

import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Int

from experiments.language import seeds
from sublim_jax.llm.local.tokenizer import Tokenizer

Format = Literal["comma", "space", "newline", "semicolon"]
SEPARATORS: Mapping[Format, str] = MappingProxyType({"comma": ", ", "space": " ", "newline": "\n", "semicolon": "; "})
"""What stands between two numbers."""
SMALLEST, LARGEST = 100, 999
"""All numbers have three digits."""


def rows(
    reader: Tokenizer, seed: int, step: int, *, num_rows: int, num_tokens: int, formats: Sequence[Format]
) -> Int[np.ndarray, "row time"]:
    """The rows of one step. Formats take turns, also from step to step.

    They depend on the seed and the step alone, so that all students of a seed read the same rows.
    """
    made = np.zeros((num_rows, num_tokens), np.int32)
    for row in range(num_rows):
        rng = np.random.default_rng(seeds.derive(seed, "number text", str(step), str(row)))
        numbers = rng.integers(SMALLEST, LARGEST + 1, num_tokens)  # each has a token at least
        separator = SEPARATORS[formats[(step * num_rows + row) % len(formats)]]
        made[row] = reader.encode(separator.join(map(str, numbers)))[:num_tokens]
    return made


def tokens(reader: Tokenizer, formats: Sequence[Format]) -> Int[np.ndarray, "token"]:
    """All tokens that such rows are made of, in order."""
    rng = np.random.default_rng(zlib.crc32(b"number tokens"))
    every = rng.permutation(np.arange(SMALLEST, LARGEST + 1))
    texts = [SEPARATORS[name].join(map(str, every)) for name in formats]
    return np.unique(np.concatenate([reader.encode(text) for text in texts])).astype(np.int32)
