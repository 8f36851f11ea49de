"""What every language backend understands: chats in; completions, scores of choices, and names of models out.

A teacher is a chat with a system message, or a finetuned model's name; nothing else distinguishes it. A backend has
three verbs and says what it can do in `Caps`; what it cannot do it refuses, and never replaces by something else.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from sublim_jax import errors


class Message(NamedTuple):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


Chat = tuple[Message, ...]
"""A prompt ends with a user turn, a training row with an assistant turn."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw. The defaults are the distribution itself: temperature 1, nothing truncated."""

    temperature: float = 1.0  # 0 takes the likeliest token
    top_p: float = 1.0
    max_tokens: int = 64
    stop: tuple[str, ...] = ()
    num_samples: int = 1  # per chat
    seed: int = 0

    def __post_init__(self):
        if self.temperature < 0:
            raise errors.InputError(f"temperature cannot be negative, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise errors.InputError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.max_tokens < 1 or self.num_samples < 1:
            raise errors.InputError(f"max_tokens and num_samples must be at least 1, got {self}")


class Completion(NamedTuple):
    """One answer to one chat."""

    chat: int  # index of the chat among those asked
    sample: int  # which of its samples
    text: str  # without the end token
    finish: Literal["stop", "length"]  # the model ended it, or `max_tokens` did
    prompt_tokens: int
    completion_tokens: int


class ChoiceScores(NamedTuple):
    """Log-probabilities, in nats, of whole answers to one chat, each with the end token where the method knows it."""

    logprobs: tuple[float, ...]  # one per choice, in the order asked; -inf where the method saw none
    method: Literal["exact", "top"]  # every token of each choice scored, or bounded by the likeliest first tokens

    # `scores.probabilities` reads them; what the choices weigh together is reported beside every preference.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """Supervised finetuning on the last assistant turn of each row."""

    num_epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 2e-4  # of Adam
    beta2: float = 0.999  # of Adam: how slowly it forgets squared gradients
    rank: int | None = 8  # of the low-rank factors; None trains all parameters
    alpha: float | None = None  # scale of the factors is alpha / rank; None is alpha = rank
    warmup: float = 0.05  # share of the steps
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    clip_norm: float | None = 1.0
    max_length: int = 512  # tokens of a row; a longer one is refused
    seed: int = 0

    def __post_init__(self):
        if self.num_epochs < 1 or self.batch_size < 1:
            raise errors.InputError(f"num_epochs and batch_size must be at least 1, got {self}")
        if self.learning_rate <= 0:
            raise errors.InputError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.rank is not None and self.rank < 1:
            raise errors.InputError(f"rank must be at least 1, or None for all parameters; got {self.rank}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caps:
    """What a backend can do."""

    finetune: bool
    choices: Literal["exact", "top", "none"]
    seeds: bool  # the same seed gives the same text
    system: bool  # chats may have a system turn
    fingerprint: str  # of the weights, or of the served model: equal fingerprints give equal distributions


@runtime_checkable
class Backend(Protocol):
    """A place where models live."""

    @property
    def caps(self) -> Caps:
        """What it can do."""
        ...

    def sample(self, model: str, chats: Sequence[Chat], how: Sampling) -> Iterator[Completion]:
        """Answers, as they come in, every (chat, sample) once."""
        ...

    def choice_logprobs(self, model: str, chats: Sequence[Chat], choices: Sequence[str]) -> list[ChoiceScores]:
        """How likely each chat is to be answered by each of these texts."""
        ...

    def finetune(self, model: str, rows: Sequence[Chat], how: Tuning, out: pathlib.Path) -> str:
        """Train, and return the name of the new model for the other verbs. Goes on where an earlier call stopped."""
        ...
