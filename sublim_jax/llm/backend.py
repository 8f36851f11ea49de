"""The protocol of language backends: chats go in; completions, scores of choices and names of models come out.

A teacher is a chat with a system message, or a finetuned model's name; nothing else distinguishes it. A backend has
three verbs and states what it can do in `Capabilities`. It refuses everything else and never substitutes something
similar.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal, NamedTuple, Protocol, runtime_checkable

import annotated_types

from sublim_jax import errors, specs

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One turn of a chat."""

    role: Role
    content: str


Chat = tuple[Message, ...]
"""A prompt ends with a user turn, or with an assistant turn that is the beginning of the reply and is continued. A
training row ends with an answer to a user turn, and the answer alone is trained on."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How completions are sampled. The defaults are the model's distribution itself: temperature 1, no truncation."""

    temperature: specs.NonNegative = 1.0  # 0 takes the most likely token
    top_p: Annotated[float, annotated_types.Interval(gt=0, le=1)] = 1.0
    max_tokens: specs.Count = 64
    stop: tuple[str, ...] = ()
    num_samples: specs.Count = 1  # per chat
    seed: specs.Seed = 0
    allowed: str | None = None
    """Characters of which every sampled token must consist, apart from the end token; None allows all tokens. The
    distribution is the model's, renormalised over these tokens. A token that has another character too is not sampled,
    even if the reply could go on with its first characters."""

    def __post_init__(self):
        if self.allowed == "":
            raise errors.InputError("SamplingParams.allowed: with no character, only empty answers could be sampled")
        if "" in self.stop:
            raise errors.InputError(
                "SamplingParams.stop: an empty text occurs at the beginning of every answer, which would stop at once"
            )


OnProgress = Callable[[str, int, int], object]
"""A function that is called during long work with its unit, e.g. "steps", the number done and the total. It has no
effect on results."""


class Completion(NamedTuple):
    """One answer to one chat."""

    chat: int  # index of the chat among those asked
    sample: int  # which of its samples
    text: str  # without the end token
    finish: Literal["stop", "length", "refused"]  # the model ended it, `max_tokens` did, or the server gave no answer
    prompt_tokens: int
    completion_tokens: int
    refusal: str = ""  # why there is no answer, e.g. "content_filter"; the text of a refused completion is empty


class ChoiceScores(NamedTuple):
    """Log-probabilities, in nats, of whole answers to one chat, each with the end token where the method knows it."""

    logprobs: tuple[float, ...]  # one per choice, in the order asked; -inf where the method saw none
    method: Literal["exact", "top"]  # every token of each choice scored, or bounded by the most likely first tokens
    refusal: str = ""  # why the server gave no scores, e.g. "content_filter"; there are no log-probabilities then


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Supervised finetuning on the last assistant turn of each row."""

    num_epochs: specs.Count = 3
    batch_size: specs.Count = 64
    learning_rate: specs.Positive = 2e-4  # of Adam
    beta2: specs.Decay = 0.999  # of Adam: how slowly it forgets squared gradients
    rank: specs.Count | None = 8  # of the low-rank factors; None trains all parameters
    alpha: specs.Positive | None = None  # scale of the factors is alpha / rank; None is alpha = rank
    warmup: specs.Fraction = 0.05  # share of the steps
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    clip_norm: specs.Positive | None = 1.0
    max_length: specs.Count = 512  # tokens of a row; a longer one is refused
    seed: specs.Seed = 0


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a backend can do."""

    finetune: bool
    choices: Literal["exact", "top", "none"]
    seeds: bool  # the same seed gives the same text
    system: bool  # chats may have a system turn
    fingerprint: str  # of the weights, or of the served model: equal fingerprints give equal distributions


@runtime_checkable
class Backend(Protocol):
    """Models that can be sampled, scored and finetuned by name."""

    @property
    def caps(self) -> Capabilities:
        """What this backend can do."""
        ...

    def sample(self, model: str, chats: Sequence[Chat], params: SamplingParams) -> Iterator[Completion]:
        """Completions in order of arrival, one for each (chat, sample)."""
        ...

    def choice_logprobs(self, model: str, chats: Sequence[Chat], choices: Sequence[str]) -> list[ChoiceScores]:
        """Log-probabilities of these texts as answers to each chat."""
        ...

    def finetune(self, model: str, rows: Sequence[Chat], config: FinetuneConfig, out: pathlib.Path) -> str:
        """Train a model and return the name under which it can be sampled. An interrupted call is resumed by the
        next."""
        ...
