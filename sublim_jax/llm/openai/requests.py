"""Chat requests, as each kind of server takes them."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from sublim_jax import errors
from sublim_jax.llm.backend import Chat, SamplingParams
from sublim_jax.llm.local import tokenizer

Dialect = Literal["openai", "vllm", "llama.cpp"]

PLAIN: Mapping[str, Mapping[str, Any]] = {
    "openai": {},
    "vllm": {"top_k": -1, "min_p": 0, "repetition_penalty": 1},
    "llama.cpp": {"top_k": 0, "min_p": 0, "repeat_penalty": 1},
}
"""Fields that make a server sample from the distribution itself. By default vLLM follows the model's generation config,
and llama.cpp samples from 40 tokens."""


class ChatRequests(NamedTuple):
    """Makes requests in the dialect of a server."""

    dialect: Dialect
    extra: Mapping[str, Any]  # fields that OpenAI's API does not have; sent with every request

    @classmethod
    def make(cls, dialect: Dialect, extra_body: Mapping[str, Any]) -> "ChatRequests":
        """Requests for samples from the distribution itself, by a template whose variables are pinned.

        Args:
            extra_body: further fields. One that the dialect has too replaces the dialect's.

        Raises:
            InputError: there is no such dialect.
        """
        if dialect not in PLAIN:
            raise errors.InputError(f"dialect must be one of {', '.join(PLAIN)}, got {dialect!r}")
        extra = {**PLAIN[dialect], **extra_body}
        if dialect == "vllm":
            pinned = {name: tokenizer.PINNED[name] for name in ("enable_thinking", "date_string")}
            extra = {"chat_template_kwargs": pinned} | extra
        return cls(dialect, extra)

    def body(
        self, model: str, chat: Chat, params: SamplingParams, *, num_samples: int, seed: int, **more: Any
    ) -> dict[str, Any]:
        """The arguments of a chat request.

        Args:
            more: further fields of this request alone.
        """
        limit = "max_completion_tokens" if self.dialect == "openai" else "max_tokens"
        body: dict[str, Any] = {
            "model": model,
            "messages": [message._asdict() for message in chat],
            "temperature": params.temperature,
            "top_p": params.top_p,
            "seed": seed,
            limit: params.max_tokens,
        }
        if num_samples > 1:
            body["n"] = num_samples
        if params.stop:
            body["stop"] = list(params.stop)
        body["extra_body"] = {**self.extra, **more}
        return body
