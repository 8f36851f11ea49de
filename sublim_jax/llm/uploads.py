"""The server's files and finetuning jobs. They live in memory and end with the server, except the trained weights."""

import dataclasses
import email.parser
import email.policy
import pathlib
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

from sublim_jax import errors
from sublim_jax.llm import faults, local, rows, types, wire

ENDED = ("succeeded", "failed", "cancelled")


class Files:
    """What was uploaded to be trained on.

    Args:
        max_bytes: of one file.
    """

    def __init__(self, *, max_bytes: int):
        self._max_bytes = max_bytes
        self._content: dict[str, bytes] = {}
        self._said: dict[str, dict[str, Any]] = {}

    def add(self, content_type: str, body: bytes) -> dict[str, Any]:
        """Keep the file in a multipart body.

        Raises:
            Refusal: another purpose than fine-tune, too long, or no such body.
        """
        parts = _parts(content_type, body)
        purpose, (name, content) = parts.pop("purpose", ("", b""))[1].decode(), parts.pop("file", ("", b""))
        if parts:
            raise wire.Refusal(400, f"{sorted(parts)[0]!r} is not supported here; leave it out", param=sorted(parts)[0])
        if purpose != "fine-tune":
            raise wire.Refusal(400, f"purpose: expected 'fine-tune', found {purpose!r}", param="purpose")
        if not content:
            raise wire.Refusal(400, "file: expected a file with content", param="file")
        if len(content) > self._max_bytes:
            raise wire.Refusal(
                413, f"the file has {len(content):,} bytes, and {self._max_bytes:,} are allowed", param="file"
            )
        found = {
            "id": wire.identifier("file"),
            "object": "file",
            "bytes": len(content),
            "created_at": wire.now(),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        self._content[found["id"]], self._said[found["id"]] = content, found
        return found

    def all(self) -> list[dict[str, Any]]:
        """What is said of every file, newest first."""
        return list(self._said.values())[::-1]

    def one(self, name: str) -> dict[str, Any]:
        """What is said of this file."""
        self.content(name)
        return self._said[name]

    def content(self, name: str) -> bytes:
        """The bytes of this file.

        Raises:
            Refusal: there is none.
        """
        if name not in self._content:
            raise wire.Refusal(404, f"there is no file {name!r}", param="file_id", code="not_found")
        return self._content[name]

    def delete(self, name: str) -> dict[str, Any]:
        """Forget this file. Jobs that were created with it keep what they read."""
        self.content(name)
        del self._content[name], self._said[name]
        return {"id": name, "object": "file", "deleted": True}


def _parts(content_type: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """Name of the file, or nothing, and content of each part of a form."""
    head = b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n"
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    if message.get_content_type() != "multipart/form-data" or not message.is_multipart():
        raise wire.Refusal(400, "expected a body of multipart/form-data with purpose and file")
    found = {}
    for part in message.iter_parts():
        payload = part.get_payload(decode=True)
        name = part.get_param("name", header="content-disposition")
        found[str(name)] = (part.get_filename() or "", payload if isinstance(payload, bytes) else b"")
    return found


@dataclasses.dataclass
class _Job:
    said: dict[str, Any]  # the object on the wire
    content: bytes
    base: str  # the backend's name of the model
    tuning: types.Tuning
    events: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class Jobs:
    """Finetuning jobs, which train one after the other in the background.

    A job that is cancelled while it runs gives no model; its training goes on to its end before the next one begins.

    Args:
        names: of the models served, with the backend's names of them; a job that succeeds adds its own.
        folder: where a job's state and weights go, in a folder of its name.
        tuning: what "auto" means, and everything that a job cannot say. `learning_rate_multiplier` multiplies its rate.
        fault: a planted fault of this kind of request, if any.
    """

    def __init__(
        self,
        backend: local.Local,
        names: dict[str, str],
        folder: pathlib.Path,
        tuning: types.Tuning,
        fault: Callable[[str], faults.Fault | None],
    ):
        self._backend, self._names, self._folder, self._tuning, self._fault = backend, names, folder, tuning, fault
        self._jobs: dict[str, _Job] = {}
        self._changing, self._training = threading.Lock(), threading.Lock()
        self._threads: list[threading.Thread] = []

    def create(self, fields: wire.Fields, files: Files) -> dict[str, Any]:
        """Begin a job.

        Raises:
            Refusal: a field is missing, malformed or not supported; no such model or file.
        """
        model, file = fields.text("model"), fields.text("training_file")
        if model not in self._names:
            raise wire.Refusal(404, f"there is no model {model!r}", param="model", code="model_not_found")
        try:
            content = files.content(file)
        except wire.Refusal as error:
            raise wire.Refusal(400, str(error), param="training_file") from None
        suffix, metadata = fields.take("suffix"), fields.take("metadata")
        if suffix is not None and (not isinstance(suffix, str) or len(suffix) > 64 or ":" in suffix):
            raise wire.Refusal(400, "suffix: expected a text of at most 64 letters, no colon", param="suffix")
        if metadata is not None and not (
            isinstance(metadata, dict) and len(metadata) <= 16 and all(isinstance(v, str) for v in metadata.values())
        ):
            raise wire.Refusal(400, "metadata: expected an object of at most 16 texts", param="metadata")
        seed = fields.whole("seed", 0, 2**31 - 1)
        seed = random.randrange(2**31) if seed is None else seed
        tuning, said = self._read(fields, seed)
        fields.finish()
        job = _Job(
            {
                "id": wire.identifier("ftjob"),
                "object": "fine_tuning.job",
                "created_at": wire.now(),
                "finished_at": None,
                "model": model,
                "fine_tuned_model": None,
                "organization_id": "local",
                "result_files": [],
                "status": "validating_files",
                "seed": seed,
                "trained_tokens": None,
                "training_file": file,
                "validation_file": None,
                "error": None,
                "suffix": suffix,
                "metadata": metadata,
                "hyperparameters": said,
                "method": {"type": "supervised", "supervised": {"hyperparameters": said}},
            },
            content,
            self._names[model],
            tuning,
        )
        thread = threading.Thread(target=self._run, args=(job,), name=job.said["id"], daemon=True)
        with self._changing:
            self._jobs[job.said["id"]] = job
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            self._tell(job, "the job was created")
            found = dict(job.said)
        thread.start()
        return found

    def all(self, metadata: Mapping[str, str]) -> list[dict[str, Any]]:
        """The jobs with these metadata among theirs, newest first."""
        with self._changing:
            found = [dict(job.said) for job in self._jobs.values()]
        return [said for said in found[::-1] if metadata.items() <= (said["metadata"] or {}).items()]

    def one(self, name: str) -> dict[str, Any]:
        """This job."""
        with self._changing:
            return dict(self._job(name).said)

    def events(self, name: str) -> list[dict[str, Any]]:
        """What happened to this job, the latest first."""
        with self._changing:
            return self._job(name).events[::-1]

    def cancel(self, name: str) -> dict[str, Any]:
        """Cancel this job, unless it has ended.

        Raises:
            Refusal: it has ended, or there is none.
        """
        with self._changing:
            job = self._job(name)
            if job.said["status"] in ENDED:
                raise wire.Refusal(400, f"the job {name} has ended: {job.said['status']}")
            self._end(job, "cancelled")
            return dict(job.said)

    def close(self) -> None:
        """Cancel what has not ended and wait for what trains."""
        with self._changing:
            for job in self._jobs.values():
                if job.said["status"] not in ENDED:
                    self._end(job, "cancelled")
        for thread in self._threads:
            thread.join()

    def _read(self, fields: wire.Fields, seed: int) -> tuple[types.Tuning, dict[str, Any]]:
        """How to train, and what is said of it."""
        method = wire.Fields(fields.take("method") or {"type": "supervised"}, of="method")
        if method.take("type") != "supervised":
            raise wire.Refusal(400, "method.type: only supervised finetuning is done here", param="method")
        supervised = wire.Fields(method.take("supervised") or {}, of="method.supervised")
        inner, outer = supervised.take("hyperparameters"), fields.take("hyperparameters")
        method.finish()
        supervised.finish()
        if inner and outer:
            raise wire.Refusal(
                400, "hyperparameters are given twice; leave out the outer ones", param="hyperparameters"
            )
        given = inner or outer or {}
        chosen = wire.Fields(
            {name: value for name, value in given.items() if value != "auto"} if isinstance(given, dict) else given,
            of="hyperparameters",
        )
        num_epochs = chosen.whole("n_epochs", 1, 1000) or self._tuning.num_epochs
        batch_size = chosen.whole("batch_size", 1, 2**16) or self._tuning.batch_size
        multiplier = chosen.real("learning_rate_multiplier", 1e-9, 1e9) or 1.0
        chosen.finish()
        rate = multiplier * self._tuning.learning_rate
        tuning = dataclasses.replace(
            self._tuning, num_epochs=num_epochs, batch_size=batch_size, learning_rate=rate, seed=seed
        )
        return tuning, {"n_epochs": num_epochs, "batch_size": batch_size, "learning_rate_multiplier": multiplier}

    def _run(self, job: _Job) -> None:
        name = job.said["id"]
        path = self._folder / name / "rows.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(job.content)
            chats = rows.read_jsonl(path)
            reader = self._backend.model(job.base).tokens
            count = sum(len(reader.chat(chat[:-1], chat[-1].content).ids) for chat in chats)
        except Exception as error:
            self._fail(job, "invalid_training_file", error, path)
            return
        self._goes_on(job, "queued")
        with self._training:
            if not self._goes_on(job, "running"):
                return
            try:
                fault = self._fault(faults.TRAINING)
                if fault and fault.kind == "failed_job":
                    raise RuntimeError("a planted fault")
                trained = self._backend.finetune(job.base, chats, job.tuning, path.parent)
            except Exception as error:
                self._fail(job, "server_error", error, path)
                return
        with self._changing:
            if job.said["status"] == "running":
                base = job.said["model"]
                root = base.removeprefix("ft:").rsplit(":", 2)[0] if base.startswith("ft:") else base
                new = f"ft:{root}:{job.said['suffix'] or ''}:{name.removeprefix('ftjob-')}"
                self._names[new] = trained
                job.said |= {"fine_tuned_model": new, "trained_tokens": count * job.tuning.num_epochs}
                self._end(job, "succeeded")

    def _goes_on(self, job: _Job, status: str) -> bool:
        """Whether the job has not been cancelled; then its status is this."""
        with self._changing:
            if job.said["status"] in ENDED:
                return False
            job.said["status"] = status
            self._tell(job, f"the job is {status}")
            return True

    def _fail(self, job: _Job, code: str, error: Exception, path: pathlib.Path) -> None:
        message = str(error) if isinstance(error, errors.LanguageError) else f"{type(error).__name__}: {error}"
        message = message.replace(str(path), job.said["training_file"]).replace(str(path.parent), job.said["id"])
        with self._changing:
            if job.said["status"] not in ENDED:
                job.said["error"] = {"code": code, "message": message, "param": None}
                self._end(job, "failed")

    def _end(self, job: _Job, status: str) -> None:
        job.said |= {"status": status, "finished_at": wire.now()}
        self._tell(job, f"the job has {status}" if status != "cancelled" else "the job was cancelled")

    def _tell(self, job: _Job, message: str) -> None:
        level = "error" if job.said["status"] == "failed" else "info"
        event = {"id": wire.identifier("ftevent"), "object": "fine_tuning.job.event", "created_at": wire.now()}
        job.events.append(event | {"level": level, "message": message, "type": "message", "data": {}})

    def _job(self, name: str) -> _Job:
        if name not in self._jobs:
            raise wire.Refusal(404, f"there is no job {name!r}", param="fine_tuning_job_id", code="not_found")
        return self._jobs[name]
