"""Faults to plant in our own server, so that what a client makes of them can be tested.

    POST /_faults    [{"kind": "rate_limit", "retry_after": 0.1}, {"kind": "lie", "about": "n", "times": 3}]

Each meets the next request to its `path` and is used up. A server takes them only if it was made with `faults=True`.
"""

import dataclasses
import fnmatch
import threading
from typing import Any, Literal, get_args

from sublim_jax import specs
from sublim_jax.llm import wire

Kind = Literal["none", "rate_limit", "quota", "error", "slow", "drop", "lie", "closed", "failed_job"]
Lie = Literal["n", "logprobs", "tokens", "prompt_tokens", "model", "weights"]

JOBS, TRAINING = "POST /v1/fine_tuning/jobs", "training"


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong."""

    kind: Kind  # "none" lets a request pass
    path: str = "POST /v1/chat/completions"  # which requests, as a file name pattern
    retry_after: specs.NonNegative | None = None  # seconds, said with "rate_limit"
    seconds: specs.NonNegative = 0.0  # before a "slow" answer
    about: Lie | None = None  # what a "lie" is about

    def refusal(self) -> wire.Refusal | None:
        """The error it is answered with, if it is."""
        match self.kind:
            case "rate_limit":
                headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
                return wire.Refusal(
                    429, "too many requests", code="rate_limit_exceeded", kind="requests", headers=headers
                )
            case "quota":
                return wire.Refusal(429, "no credit left", code="insufficient_quota", kind="insufficient_quota")
            case "error":
                return wire.Refusal(500, "something broke", kind="server_error")
            case "closed":
                return wire.Refusal(403, "finetuning is closed to new jobs", code="training_closed")
        return None

    def spoil(self, reply: Any) -> Any:
        """The reply with a lie in it."""
        usage = dict(reply["usage"])
        if self.about == "n":
            usage["completion_tokens"] //= len(reply["choices"])
            return reply | {"choices": reply["choices"][:1], "usage": usage}
        if self.about == "logprobs":
            return reply | {"choices": [choice | {"logprobs": None} for choice in reply["choices"]]}
        if self.about == "model":
            return reply | {"model": "another-model"}
        if self.about == "weights":
            return reply | {"system_fingerprint": wire.OWN + "other"}
        if self.about == "tokens":
            usage["completion_tokens"] += 10_000
        else:
            usage["prompt_tokens"] += 1
        return reply | {"usage": usage}


class Faults:
    """A queue of faults."""

    def __init__(self):
        self._planned: list[Fault] = []
        self._lock = threading.Lock()

    def plan(self, items: Any) -> None:
        """Add faults in JSON, each an object with the fields of `Fault` and `times`.

        Raises:
            Refusal: not a list of faults.
        """
        planned = []
        for item in items if isinstance(items, list) else [None]:
            fields = wire.Fields(item, of="a fault")
            kind = fields.one_of("kind", *get_args(Kind))
            about = fields.one_of("about", *get_args(Lie))
            if kind is None or (kind == "lie") != (about is not None):
                raise wire.Refusal(400, "a fault has a kind, and a lie, and only it, is about something", param="kind")
            default = {"closed": JOBS, "failed_job": TRAINING}.get(kind, Fault.path)
            fault = Fault(
                kind=kind,
                about=about,
                path=str(fields.take("path") or default),
                retry_after=fields.real("retry_after", 0.0, 1e6),
                seconds=fields.real("seconds", 0.0, 1e6) or 0.0,
            )
            planned += [fault] * (fields.whole("times", 1, 10**6) or 1)
            fields.finish()
        with self._lock:
            self._planned += planned

    def take(self, request: str) -> Fault | None:
        """The next fault for this request, which is then used up."""
        with self._lock:
            for index, fault in enumerate(self._planned):
                if fnmatch.fnmatchcase(request, fault.path):
                    return self._planned.pop(index)
        return None
