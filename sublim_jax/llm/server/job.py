"""One finetuning job: its description for clients, its events, and the file in which both outlive the server."""

import dataclasses
import json
import pathlib
from typing import Any, ClassVar, Literal

from sublim_jax import errors, files, specs
from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.llm.server import responses
from sublim_jax.llm.server.schema import JobRequest

Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]


@dataclasses.dataclass
class Job:
    """A finetuning job."""

    FILE: ClassVar = "job.json"  # in the job's folder

    info: dict[str, Any]  # the object that clients receive
    folder: pathlib.Path
    base: str  # the backend's name of the model
    tuning: FinetuneConfig
    number: int  # in the order of creation, among the jobs of the folder
    base_fingerprint: str | None = None
    num_starts: int = 0  # since a server last ended in order
    events: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    steps: tuple[int, int] = (0, 0)  # done, and in all; zero until the first is done

    @classmethod
    def create(
        cls, request: JobRequest, folder: pathlib.Path, base: str, config: FinetuneConfig, number: int,
        hyperparameters: dict[str, Any],
    ) -> "Job":  # fmt: skip
        """A new job, which has the name of its folder.

        Args:
            hyperparameters: those of the config that clients see.
        """
        info = {
            "id": folder.name,
            "object": "fine_tuning.job",
            "created_at": responses.now(),
            "finished_at": None,
            "model": request.model,
            "fine_tuned_model": None,
            "organization_id": "local",
            "result_files": [],
            "status": "validating_files",
            "seed": config.seed,
            "trained_tokens": None,
            "training_file": request.training_file,
            "validation_file": None,
            "error": None,
            "suffix": request.suffix,
            "metadata": request.metadata,
            "hyperparameters": hyperparameters,
            "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        }
        return cls(info, folder, base, config, number)

    @property
    def name(self) -> str:
        return self.info["id"]

    @property
    def status(self) -> Status:
        return self.info["status"]

    @property
    def has_ended(self) -> bool:
        return self.status in ("succeeded", "failed", "cancelled")

    @property
    def rows(self) -> pathlib.Path:
        """The rows to train on, in a file."""
        return self.folder / "rows.jsonl"

    @property
    def progress(self) -> str:
        """How many steps were done, as the end of a sentence; empty before the first."""
        done, total = self.steps
        return f" after {done:,} of {total:,} steps" if total else ""

    @property
    def finetuned_name(self) -> str:
        """The name under which the finetuned model is served. A model that was finetuned twice has one prefix."""
        model, suffix = self.info["model"], self.info["suffix"] or ""
        root = model.removeprefix("ft:").rsplit(":", 2)[0] if model.startswith("ft:") else model
        return f"ft:{root}:{suffix}:{self.name.removeprefix('ftjob-')}"

    def add_event(self, message: str) -> None:
        """Add an event for clients."""
        event = {
            "id": responses.identifier("ftevent"),
            "object": "fine_tuning.job.event",
            "created_at": responses.now(),
        }
        level = "error" if self.status == "failed" else "info"
        self.events.append(event | {"level": level, "message": message, "type": "message", "data": {}})

    def write(self) -> None:
        """Write the job for the next server.

        Raises:
            OutputError: the folder cannot be written.
        """
        content = {
            "job": self.info,
            "tuning": dataclasses.asdict(self.tuning),
            "number": self.number,
            "base_fingerprint": self.base_fingerprint,
            "num_starts": self.num_starts,
            "events": self.events,
        }
        files.write(self.folder / self.FILE, json.dumps(content, indent=1) + "\n", ours=files.anything)

    @classmethod
    def from_json(cls, path: pathlib.Path, content: Any) -> "Job":
        """The job that an earlier server wrote at this path. Its base is not known yet.

        Raises:
            InputError: an entry is malformed, or the job is another folder's.
        """
        info = content["job"]
        for name in ("model", "training_file", "status", "organization_id"):
            specs.check(info[name], str, name)
        specs.check(info["status"], Status, "status")
        specs.check(info["suffix"], str | None, "suffix")
        specs.check(info["fine_tuned_model"], str if info["status"] == "succeeded" else str | None, "fine_tuned_model")
        specs.check(content["base_fingerprint"], str | None, "base_fingerprint")
        for number in (info["created_at"], content["number"], content["num_starts"]):
            specs.check(number, specs.CountOrZero, "a number")
        if info["id"] != path.parent.name:
            raise errors.InputError(f"it is of the job {info['id']!r}")
        for text in (*(event["id"] for event in content["events"]), *(info["metadata"] or {}).values()):
            specs.check(text, str, "events or metadata")
        return cls(
            info,
            path.parent,
            "",
            FinetuneConfig(**content["tuning"]),
            content["number"],
            content["base_fingerprint"],
            content["num_starts"],
            content["events"],
        )
