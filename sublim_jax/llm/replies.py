"""Whether a server did what it was asked. Many pass over fields that they do not know, without a word."""

import re
from typing import Any, NamedTuple

import numpy as np

from sublim_jax import errors
from sublim_jax.llm import types


class Scored(NamedTuple):
    """A token of a text that a server scored."""

    id: str
    logprob: float


class Checks:
    """What the replies of one model are compared with, and with each other.

    Args:
        server: its address, for messages.
        fingerprint: of the weights; None if the server's does not mean them.
    """

    def __init__(self, server: str, model: str, *, fingerprint: str | None):
        self._server, self._model, self._fingerprint = server, model, fingerprint
        self._served: str | None = None
        self._sizes: dict[types.Chat, int] = {}

    def completions(
        self, reply: Any, chat: types.Chat, *, num_samples: int, max_tokens: int, expected_tokens: int | None = None
    ) -> list[types.Completion]:
        """The completions in a reply, of chat 0 and samples from 0.

        Of several, a server tells the tokens together; they are shared out evenly, as far as that goes.

        Args:
            expected_tokens: of the prompt, counted here.

        Raises:
            CapabilityError: the reply is not what was asked for.
        """
        choices = self.choices(reply)
        if len(choices) != num_samples or sorted(choice.index for choice in choices) != list(range(num_samples)):
            raise self._ignored("n", num_samples, f"{len(choices)} choices", "Another server, or another dialect.")
        prompt_tokens, total = self._usage(reply, num_samples, max_tokens)
        self._prompt(chat, prompt_tokens, expected_tokens)
        found = []
        for choice in choices:
            if choice.finish_reason not in ("stop", "length"):
                raise self._ignored(
                    "the request", "a finish of stop or length", repr(choice.finish_reason),
                    "The server filters answers, calls tools or does not say; leave this chat out or switch that off.",
                )  # fmt: skip
            text = choice.message.content
            if not isinstance(text, str):
                raise self._ignored(
                    "the request", "a text", repr(text), "The model refused, or thinks first: switch reasoning off."
                )
            share = total // num_samples + (choice.index < total % num_samples)
            if text and total == 0:
                raise self._ignored("usage", "tokens for the text it gave", "0 completion tokens", "")
            found.append(types.Completion(0, choice.index, text, choice.finish_reason, prompt_tokens, share))
        return found

    def choices(self, reply: Any) -> Any:
        """The choices of a reply of the model that was asked."""
        choices = getattr(reply, "choices", None)
        if not choices:
            raise errors.ServerError(
                f"{self._server}: expected an answer with choices, found {str(reply)[:80]!r}. base_url is perhaps not "
                f"that of this API; it usually ends with /v1."
            )
        served = reply.model
        dated = re.fullmatch(re.escape(self._model) + r"-(\d{4}-\d\d-\d\d|\d{4,8})", served or "")
        if served != self._model and not dated:
            raise self._ignored("model", self._model, served, "If that is the one you mean, ask for it by that name.")
        if self._served not in (None, served):
            raise self._ignored("model", self._served, served, "The server changed the model in between.")
        self._served = served
        weights = getattr(reply, "system_fingerprint", None)
        if self._fingerprint is not None and weights != self._fingerprint:
            raise self._ignored(
                "model", f"weights {self._fingerprint}", weights, "The server was restarted with another model."
            )
        return choices

    def prompt_row(self, reply: Any) -> list[Scored]:
        """The prompt's tokens with their log-probabilities; the first, which has none, has 0."""
        self.choices(reply)
        row = (reply.model_extra or {}).get("prompt_logprobs")
        size = reply.usage.prompt_tokens if reply.usage else None
        if (
            not isinstance(row, list)
            or len(row) != size
            or not all(row[1:])
            or not all(len(one) == 1 for one in row[1:])
        ):
            raise self._ignored(
                "prompt_logprobs", "0: one for each token of the prompt", "none" if row is None else "another form",
                "Exact scores of choices need vLLM or our own server.",
            )  # fmt: skip
        return [Scored("", 0.0), *(Scored(*_only(one)) for one in row[1:])]

    def top(self, reply: Any, size: int) -> dict[str, float]:
        """Log-probabilities of the likeliest first tokens, by their text."""
        (choice, *_) = self.choices(reply)
        content = getattr(choice.logprobs, "content", None)
        if not content or not content[0].top_logprobs:
            raise self._ignored(
                "logprobs", f"the {size} likeliest tokens", "none", "Scores of choices need a server that tells them."
            )
        found: dict[str, float] = {}
        for token in content[0].top_logprobs:
            if not token.logprob <= 1e-3:
                raise self._ignored("logprobs", "a log-probability, at most 0", token.logprob, "")
            text = bytes(token.bytes).decode(errors="replace") if token.bytes else token.token
            found[text] = float(np.logaddexp(found.get(text, -np.inf), min(token.logprob, 0.0)))
        return found

    def _usage(self, reply: Any, num_samples: int, max_tokens: int) -> tuple[int, int]:
        usage = reply.usage
        if usage is None or not (usage.prompt_tokens or 0) > 0 or usage.completion_tokens is None:
            raise self._ignored("usage", "counts of tokens", str(usage), "Budgets need them.")
        if not 0 <= usage.completion_tokens <= num_samples * max_tokens:
            raise self._ignored(
                "max_tokens", f"at most {num_samples} x {max_tokens}", f"{usage.completion_tokens} tokens",
                "Another dialect may call it by the name that this server knows.",
            )  # fmt: skip
        return usage.prompt_tokens, usage.completion_tokens

    def _prompt(self, chat: types.Chat, found: int, expected: int | None) -> None:
        before = self._sizes.setdefault(chat, found)
        if found != before:
            raise self._ignored(
                "messages", f"{before} prompt tokens, as before for the same chat", found,
                "Its template changes, e.g. with the date; pin it.",
            )  # fmt: skip
        if expected is not None and found != expected:
            raise self._ignored(
                "messages", f"{expected} prompt tokens, by the local tokenizer", found,
                "Server and tokenizer write the chat in different ways; compare their templates.",
            )  # fmt: skip

    def _ignored(self, field: str, asked: Any, found: Any, cure: str) -> errors.CapabilityError:
        return errors.CapabilityError(
            f"{self._server}: the server did not do what {field} says: asked of {self._model!r} was {asked}, the reply "
            f"has {found}. {cure}".rstrip()
        )


def _only(entry: dict[str, Any]) -> tuple[str, float]:
    ((index, said),) = entry.items()
    return index, float(said["logprob"])
