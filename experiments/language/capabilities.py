"""Methods that only some backends have; `Lab` asks for them by type before it uses them."""

import pathlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from sublim_jax.llm.backend import Chat, FinetuneConfig
from sublim_jax.llm.local.finetune import TokenizedRows


@runtime_checkable
class HasWeights(Protocol):
    """Methods that a backend has only if the weights are on this machine."""

    def training_arrays(
        self, model: str, rows: Sequence[Chat], /, *, max_length: int, end_token: bool = True
    ) -> TokenizedRows: ...

    def finetune_on(self, model: str, data: TokenizedRows, config: FinetuneConfig, out: pathlib.Path, /) -> str: ...

    def most_likely_tokens(self, model: str, data: TokenizedRows, /) -> np.ndarray: ...

    def row_logprobs(self, model: str, rows: Sequence[Chat], /) -> np.ndarray: ...

    def finetune_on_pairs(
        self, model: str, chosen: Sequence[Chat], rejected: Sequence[Chat], config: FinetuneConfig, out: pathlib.Path,
        /, *, beta: float,
    ) -> str: ...  # fmt: skip

    def perturb(self, model: str, scale: float, /, *, seed: int) -> str: ...


@runtime_checkable
class ScoresBeginnings(Protocol):
    """A backend that scores how replies begin; `LocalBackend` does."""

    def beginning_logprobs(self, model: str, chats: Sequence[Chat], texts: Sequence[str], /) -> np.ndarray: ...
