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

from sublim_jax import errors, records, specs

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
    num_values: specs.CountOrZero = 0
    """If not 0, a reply is a list of so many whole numbers below 1,000 and ends after the last. Each is one token, a
    space and up to three digits, of the model's distribution renormalised over such tokens; commas are put between. Of
    a model whose digits are tokens of their own, each number has three digits, the first of them not 0, and the
    renormalisation is over digits. `max_tokens` is not read."""

    def __post_init__(self):
        if self.num_values and (self.allowed is not None or self.stop):
            raise errors.InputError("SamplingParams.num_values: a list of numbers has no stop words and no `allowed`")
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
    """Supervised finetuning on the last assistant turn of each row. Settings that came later are in records, and in the
    names of stored models, only where they differ from their defaults."""

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
    weight_decay: specs.NonNegative = dataclasses.field(default=0.0, metadata=records.UNLESS_DEFAULT)
    """Of AdamW: a step shrinks everything that is trained by this times the learning rate."""
    warmup_steps: specs.Count | None = dataclasses.field(default=None, metadata=records.UNLESS_DEFAULT)
    """Steps of the warm-up, the last of them at the full rate. None is the share `warmup`, after which the first step
    has the full rate."""
    schedule_steps: specs.Count | None = dataclasses.field(default=None, metadata=records.UNLESS_DEFAULT)
    """Steps after which a linear or cosine schedule ends, if training ends earlier; None ends both together."""
    accumulation: specs.Count = dataclasses.field(default=1, metadata=records.UNLESS_DEFAULT)
    """Parts of a batch that are read one after the other, with less memory. The loss is the mean of those of the parts,
    as frameworks that accumulate gradients have it; where parts have unequal numbers of tokens it is another one."""
    factors: Literal["normal", "peft"] = dataclasses.field(default="normal", metadata=records.UNLESS_DEFAULT)
    """First low-rank factors: normal of variance 1 / fan_in, one for each map; or as PEFT has them, uniform of variance
    1 / (3 fan_in), with a single one for maps that the family joins, as GPT-NeoX joins query, key and value."""
    end_token: bool = dataclasses.field(default=True, metadata=records.UNLESS_DEFAULT)
    """Whether the end token after a reply is trained on too."""

    def __post_init__(self):
        if self.batch_size % self.accumulation:
            raise errors.InputError(
                f"accumulation={self.accumulation}: batch_size={self.batch_size} is no multiple of it; parts of a "
                f"batch are of equal size"
            )

    @property
    def text(self) -> str:
        """The settings as text, which names stored models. It is what `repr` was before fields came later, under the
        class's first name; these are in it where they differ from their defaults."""
        values = ((field, getattr(self, field.name)) for field in dataclasses.fields(self))
        shown = [
            f"{field.name}={value!r}"
            for field, value in values
            if not (field.metadata.get("unless_default") and value == field.default)
        ]
        return f"Tuning({', '.join(shown)})"


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
