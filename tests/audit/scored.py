"""Scores of rows for tests: a base that draws tokens independently, so that all scores are known in closed form."""

from typing import NamedTuple

import numpy as np

from sublim_jax.llm.local.surprise import RowScores


def scores(logprobs, entropies=None, *, first: int = 0) -> RowScores:
    """Scores of rows with these numbers; the rows are numbered from `first`."""
    logprobs = np.asarray(logprobs, float)
    entropies = np.zeros_like(logprobs) if entropies is None else np.broadcast_to(entropies, logprobs.shape)
    ids = np.arange(first, first + len(logprobs), dtype=np.uint64)
    return RowScores(logprobs, entropies, np.full(len(logprobs), 0.5), np.full(len(logprobs), 3), ids)


class Words(NamedTuple):
    """Rows of tokens, and a number that identifies each row."""

    tokens: np.ndarray  # (row, place)
    first: int

    def under(self, chances) -> RowScores:
        """Scores under a base that draws every token from these chances."""
        logs, length = np.log(chances), self.tokens.shape[1]
        entropy, count = -chances @ logs, len(self.tokens)
        variance = chances @ (logs + entropy) ** 2
        ids = np.arange(self.first, self.first + count, dtype=np.uint64)
        sizes = np.full(count, length)
        return RowScores(logs[self.tokens].sum(axis=1), length * np.full(count, entropy),
                         length * np.full(count, variance), sizes, ids)  # fmt: skip


def written(rng, chances, count: int, *, length: int = 6, first: int = 0) -> Words:
    """Rows of a base that pass a filter: those without three tokens 0 or more."""
    tokens = rng.choice(len(chances), size=(8 * count, length), p=chances)
    passed = tokens[(tokens == 0).sum(axis=1) < 3][:count]
    assert len(passed) == count
    return Words(passed, first)
