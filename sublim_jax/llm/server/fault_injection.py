"""Faults to plant in our own server, so that tests see how a client handles them.

    POST /_faults    [{"kind": "rate_limit", "retry_after": 0.1}, {"kind": "lie", "about": "n", "times": 3}]

Each meets the next request to its `path` and is used up. A server takes them only if it was made with `faults=True`.
"""

import fnmatch
import threading
from typing import Annotated, Any, Literal

import pydantic

from sublim_jax.llm import server
from sublim_jax.llm.server import fields
from sublim_jax.llm.server.api_error import APIError
from sublim_jax.llm.server.fields import Fields, Text

JOBS, TRAINING = "POST /v1/fine_tuning/jobs", "training"


class Fault(Fields):
    """A fault, to be planted `times` times."""

    kind: Literal["none", "rate_limit", "quota", "error", "slow", "drop", "lie", "closed", "failed_job"]
    path: Text | None = None  # a file name pattern for requests; by default where the kind is at home
    retry_after: Annotated[float, fields.between(0.0, 1e6)] | None = None  # seconds, sent with "rate_limit"
    seconds: Annotated[float, fields.between(0.0, 1e6)] = 0.0  # before a "slow" response
    about: Literal["n", "logprobs", "tokens", "prompt_tokens", "model", "weights"] | None = None  # of a "lie"
    times: Annotated[int, fields.between(1, 10**6)] = 1

    @pydantic.model_validator(mode="after")
    def require_a_subject_of_lies(self) -> "Fault":
        """Refuse a lie about nothing, and a subject of anything else."""
        if (self.kind == "lie") != (self.about is not None):
            raise APIError(400, "a fault has a kind, and a lie, and only it, is about something", param="kind")
        return self

    @property
    def pattern(self) -> str:
        """The requests that it meets."""
        home = {"closed": JOBS, "failed_job": TRAINING}
        return self.path or home.get(self.kind, "POST /v1/chat/completions")

    def error(self) -> APIError | None:
        """The HTTP error that it causes, or None."""
        match self.kind:
            case "rate_limit":
                headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
                return APIError(429, "too many requests", code="rate_limit_exceeded", kind="requests", headers=headers)
            case "quota":
                return APIError(429, "no credit left", code="insufficient_quota", kind="insufficient_quota")
            case "error":
                return APIError(500, "something broke", kind="server_error")
            case "closed":
                return APIError(403, "finetuning is closed to new jobs", code="training_closed")
        return None

    def falsify(self, response: dict[str, Any]) -> dict[str, Any]:
        """The response, with a lie in it if the fault is one."""
        if self.kind != "lie":
            return response
        usage = dict(response["usage"])
        match self.about:
            case "n":
                usage["completion_tokens"] //= len(response["choices"])
                return response | {"choices": response["choices"][:1], "usage": usage}
            case "logprobs":
                return response | {"choices": [choice | {"logprobs": None} for choice in response["choices"]]}
            case "model":
                return response | {"model": "another-model"}
            case "weights":
                return response | {"system_fingerprint": f"{server.FINGERPRINT_PREFIX}other"}
            case "tokens":
                usage["completion_tokens"] += 10_000
            case _:
                usage["prompt_tokens"] += 1
        return response | {"usage": usage}


class Faults:
    """A queue of faults."""

    def __init__(self):
        self._planned: list[Fault] = []
        self._lock = threading.Lock()

    def plan(self, items: Any) -> None:
        """Add the faults of a list in JSON.

        Raises:
            APIError: it is not a list of faults.
        """
        if not isinstance(items, list):
            raise APIError(400, "expected the body to be a list of faults")
        faults = [fields.checked(Fault, item, name="a fault") for item in items]
        with self._lock:
            self._planned += [fault for fault in faults for _ in range(fault.times)]

    def take(self, request: str) -> Fault | None:
        """The next fault for this request, which is then used up."""
        with self._lock:
            for index, fault in enumerate(self._planned):
                if fnmatch.fnmatchcase(request, fault.pattern):
                    return self._planned.pop(index)
        return None
