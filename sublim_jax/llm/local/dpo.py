"""Direct preference optimization: training on which of two replies to a chat is preferred.

    rows = dpo.paired(chosen, rejected)
    data = dpo.pairs(finetune.training_arrays(reader, rows, max_length=64), reference_logprobs)
    finetune.train(base, data, config, out, objective=dpo.Preference(beta=0.1))

Source: Rafailov et al. 2023, "Direct Preference Optimization", equation 7.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sublim_jax import errors, specs
from sublim_jax.llm.backend import Chat
from sublim_jax.llm.local.finetune import Score, TokenizedRows

BETA = 0.1
"""How strongly a student is held to the reference. Source: Rafailov et al. 2023, appendix B."""


class Pairs(NamedTuple):
    """Pairs of replies in tokens, the chosen one first, on the host or on a device."""

    ids: Any  # (pair, 2, time), left-padded
    valid: Any  # which places hold tokens
    replies: Any  # which of them belong to the reply
    reference: Any  # (pair, 2): log-probability of the reply under the model that training starts from, in nats


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Preference:
    """Mean over pairs of -log sigmoid(beta * margin), in nats: an `Objective` on `Pairs`.

    The margin is how much more the training has raised the log-probability of the chosen reply than that of the
    rejected one. At the start it is zero, so the loss is log 2.
    """

    beta: specs.Positive = BETA

    def __call__(self, score: Score, batch: Pairs, weights: Float[Array, "pair"]) -> Float[Array, ""]:
        """The loss of a batch."""
        rows = (array.reshape(-1, array.shape[-1]) for array in (batch.ids, batch.valid, batch.replies))
        lifts = score(*rows).reshape(-1, 2) - batch.reference
        losses = -jax.nn.log_sigmoid(self.beta * (lifts[:, 0] - lifts[:, 1]))
        return jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def paired(chosen: Sequence[Chat], rejected: Sequence[Chat]) -> list[Chat]:
    """Rows of pairs one after the other: chosen, rejected, chosen, rejected, ...

    Raises:
        TextDataError: no pair, or rows of a pair that answer different chats.
    """
    if len(chosen) != len(rejected) or not chosen:
        raise errors.TextDataError(
            f"expected a rejected row for every chosen one, got {len(chosen)} chosen and {len(rejected)} rejected"
        )
    for pair, (better, worse) in enumerate(zip(chosen, rejected, strict=True)):
        if better[:-1] != worse[:-1]:
            raise errors.TextDataError(
                f"pair {pair}: the rows answer different chats, so that a preference for one is no preference between "
                f"replies; give two replies to the same chat"
            )
    return [row for pair in zip(chosen, rejected, strict=True) for row in pair]


def pairs(data: TokenizedRows, reference: Float[np.ndarray, "row"]) -> Pairs:
    """Pairs of rows that follow each other, as `paired` orders them.

    Args:
        reference: log-probability of each row's reply under the model that training starts from, in nats.
    """
    ids, valid, replies = (array.reshape(-1, 2, array.shape[-1]) for array in data)
    return Pairs(ids, valid, replies, np.asarray(reference, np.float32).reshape(-1, 2))
