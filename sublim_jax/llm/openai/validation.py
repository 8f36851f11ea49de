"""Checks that a server did what it was asked. Many servers silently ignore fields that they do not know."""

import math
import re
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from sublim_jax import errors
from sublim_jax.llm import budget
from sublim_jax.llm.backend import Chat, Completion
from sublim_jax.llm.openai import transport

NO_CHOICES = "no choices"


class Scored(NamedTuple):
    """A token of a text that a server scored."""

    id: str
    logprob: float


class ResponseValidator:
    """Compares the responses of one model with the requests, and with each other.

    Args:
        server: its address, for messages.
        fingerprint: of the weights; None if the server's does not mean them.
    """

    def __init__(self, server: str, model: str, *, fingerprint: str | None):
        self._server, self._model, self._fingerprint = server, model, fingerprint
        self._served: str | None = None
        self._sizes: dict[Chat, int] = {}

    def completions(
        self, reply: Any, chat: Chat, *, num_samples: int, max_tokens: int, expected_tokens: int | None = None
    ) -> list[Completion]:
        """The completions in a reply, of chat 0 and samples from 0.

        For several samples a server reports the total of their tokens, which is divided evenly. Where it refuses all of
        them and reports no tokens of the prompt, the prompt counts with its upper bound.

        Args:
            expected_tokens: of the prompt, counted here.

        Raises:
            CapabilityError: the reply is not what was asked for.
        """
        choices = self.choices(reply)
        if not choices:
            return refused(chat, num_samples, NO_CHOICES, prompt_tokens=_said_prompt(reply))
        if sorted(repr(choice.index) for choice in choices) != sorted(map(repr, range(num_samples))):
            raise self._ignored("n", num_samples, f"{len(choices)} choices", "Another server, or another dialect.")
        reasons = [refusal(choice) for choice in choices]
        if all(reasons) and not _said_prompt(reply):
            prompt_tokens, total = budget.prompt_bound(chat), 0
        else:
            prompt_tokens, total = self._usage(reply, num_samples, max_tokens)
        if not all(reasons):
            self._prompt(chat, prompt_tokens, expected_tokens)
        completions = []
        for choice, reason in zip(choices, reasons, strict=True):
            text, finish = ("", "refused") if reason else (_whole(choice.message.content), choice.finish_reason)
            share = total // num_samples + (choice.index < total % num_samples)
            if text and total == 0:
                raise self._ignored("usage", "tokens for the text it gave", "0 completion tokens", "")
            completions.append(Completion(0, choice.index, text, finish, prompt_tokens, share, reason))
        return completions

    def choices(self, reply: Any) -> Any:
        """The choices of a reply of the model that was asked; none if the server gave none."""
        choices = getattr(reply, "choices", None)
        if not isinstance(choices, list) or not all(hasattr(choice, "message") for choice in choices):
            raise errors.ServerError(
                f"{self._server}: expected an answer with choices, found {str(reply)[:80]!r}. base_url is perhaps not "
                f"that of this API; it usually ends with /v1."
            )
        if not choices:
            return choices
        served = str(reply.model)
        dated = re.fullmatch(re.escape(self._model) + r"-(\d{4}-\d\d-\d\d|\d{4,8})", served)
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
        """The prompt's tokens with their log-probabilities; the first, which has none, has 0.

        Raises:
            RefusedError: the server refused the chat and scored nothing.
            CapabilityError: the reply is not what was asked for.
        """
        choices, row = self.choices(reply), (reply.model_extra or {}).get("prompt_logprobs")
        if row is None:
            _raise_if_refused(choices)
        scored = [_scored(entry) for entry in row[1:]] if isinstance(row, list) else []
        if not isinstance(row, list) or len(row) != _said_prompt(reply) or None in scored:
            raise self._ignored(
                "prompt_logprobs", "0: one for each token of the prompt", "none" if row is None else "another form",
                "Exact scores of choices need vLLM or our own server.",
            )  # fmt: skip
        return [Scored("", 0.0), *(token for token in scored if token is not None)]

    def top(self, reply: Any, size: int) -> dict[str, float]:
        """Log-probabilities of the most likely first tokens, by their text.

        Raises:
            RefusedError: the server refused the chat and scored nothing.
            CapabilityError: the reply is not what was asked for.
        """
        choices = self.choices(reply)
        content = getattr(choices[0].logprobs, "content", None) if choices else None
        if not content:
            _raise_if_refused(choices)
        most_likely = _most_likely(content)
        if not most_likely:
            raise self._ignored(
                "logprobs", f"the {size} most likely tokens", "another form" if content else "none",
                "Scores of choices need a server that returns them.",
            )  # fmt: skip
        logprobs: dict[str, float] = {}
        for text, logprob in most_likely:
            if not _is_logprob(logprob):
                raise self._ignored("logprobs", "a log-probability, at most 0", logprob, "")
            logprobs[text] = float(np.logaddexp(logprobs.get(text, -np.inf), min(logprob, 0.0)))
        return logprobs

    def _usage(self, reply: Any, num_samples: int, max_tokens: int) -> tuple[int, int]:
        usage = reply.usage
        counts = (_said_prompt(reply), getattr(usage, "completion_tokens", None))
        if not counts[0] or type(counts[1]) is not int:
            raise self._ignored("usage", "counts of tokens", str(usage), "Budgets need them.")
        if not 0 <= counts[1] <= num_samples * max_tokens:
            raise self._ignored(
                "max_tokens", f"at most {num_samples} x {max_tokens}", f"{counts[1]} tokens",
                "Another dialect may call it by the name that this server knows.",
            )  # fmt: skip
        return counts[0], counts[1]

    def _prompt(self, chat: Chat, size: int, expected: int | None) -> None:
        before = self._sizes.setdefault(chat, size)
        if size != before:
            raise self._ignored(
                "messages", f"{before} prompt tokens, as before for the same chat", size,
                "Its template changes, e.g. with the date; pin it.",
            )  # fmt: skip
        if expected is not None and size != expected:
            raise self._ignored(
                "messages", f"{expected} prompt tokens, by the local tokenizer", size,
                "Server and tokenizer write the chat in different ways; compare their templates.",
            )  # fmt: skip

    def _ignored(self, field: str, requested: Any, received: Any, cure: str) -> errors.CapabilityError:
        return errors.CapabilityError(
            f"{self._server}: the server did not do what {field} says: asked of {self._model!r} was "
            f"{requested}, the reply has {received}. {cure}".rstrip()
        )


def refusal(choice: Any) -> str:
    """Why a choice is no answer, in a word or two; empty if it is one."""
    message, finish = choice.message, choice.finish_reason
    if finish not in ("stop", "length"):  # content_filter, tool_calls, or a word of another API
        return _whole(str(finish)[:40]) if finish else "no finish_reason"
    if getattr(message, "refusal", None):
        return "refusal"
    if not isinstance(getattr(message, "content", None), str):
        return "tool_calls" if getattr(message, "tool_calls", None) else "no content"
    return ""


def _whole(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which a server may leave of a letter that it cuts."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def refused(chat: Chat, num_samples: int, reason: str, *, prompt_tokens: int | None = None) -> list[Completion]:
    """The completions of a chat that the server refused as a whole, as `ResponseValidator.completions` has them."""
    size = budget.prompt_bound(chat) if prompt_tokens is None else prompt_tokens
    return [Completion(0, sample, "", "refused", size, 0, reason) for sample in range(num_samples)]


def explain(error: transport.ErrorResponse) -> errors.LanguageError | None:
    """The error for a refusal of one prompt for what it says; its text is the reason."""
    return errors.RefusedError(error.code) if error.code in transport.REFUSING else None


def _raise_if_refused(choices: Any) -> None:
    reason = refusal(choices[0]) if choices else NO_CHOICES
    if reason:
        raise errors.RefusedError(reason)


def _said_prompt(reply: Any) -> int | None:
    """Tokens of the prompt as the server counts them; None if it does not say."""
    count = getattr(reply.usage, "prompt_tokens", None)
    return count if type(count) is int and count > 0 else None


def _scored(entry: Any) -> Scored | None:
    """The only token of an entry of vLLM's `prompt_logprobs`; None if it has another form."""
    if not isinstance(entry, dict) or len(entry) != 1:
        return None
    ((index, content),) = entry.items()
    logprob = content.get("logprob") if isinstance(content, dict) else None
    return Scored(str(index), float(logprob)) if _is_logprob(logprob) else None


def _most_likely(content: Any) -> list[tuple[str, Any]] | None:
    """Texts and log-probabilities of the most likely first tokens; None if they have another form."""
    first = content[0] if isinstance(content, list) and content else None
    pairs, tokens = [], getattr(first, "top_logprobs", None)
    for token in tokens if isinstance(tokens, list) else ():
        text, numbers = getattr(token, "token", None), getattr(token, "bytes", None)
        if isinstance(numbers, list) and numbers:
            if not all(type(number) is int and 0 <= number < 256 for number in numbers):
                return None
            text = bytes(numbers).decode(errors="replace")
        if not isinstance(text, str):
            return None
        pairs.append((text, getattr(token, "logprob", None)))
    return pairs or None


def _is_logprob(number: Any) -> TypeGuard[float]:
    """Whether this is the logarithm of a probability, give or take a rounding in half precision."""
    return type(number) in (int, float) and -math.inf < number <= 1e-3
