"""The server's finetuning jobs. They train one after the other, and their folders outlive the server.

A job's folder has what it was given (`rows.jsonl`), what is known of it (`job.json`), the state after its last whole
epoch, and in the end the weights. A server that is started on the folder of an earlier one serves the models of the
jobs that succeeded and goes on with those that had not ended.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from sublim_jax import errors, files, specs
from sublim_jax.llm import faults, local, rows, types, uploads, wire

Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
ENDED = ("succeeded", "failed", "cancelled")
MOST_STARTS = 3
"""How often a job may be running when its server is killed. Perhaps it is the job that kills it."""


@dataclasses.dataclass
class _Job:
    said: dict[str, Any]  # the object on the wire
    folder: pathlib.Path
    base: str  # the backend's name of the model
    tuning: types.Tuning
    number: int  # among the jobs of the folder, in the order of their creation
    base_fingerprint: str | None = None
    num_starts: int = 0  # since a server last ended in order
    events: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    steps: tuple[int, int] = (0, 0)  # done, and in all; zero until the first is done

    @property
    def name(self) -> str:
        return self.said["id"]

    @property
    def rows(self) -> pathlib.Path:
        return self.folder / "rows.jsonl"


class _Stopped(Exception):
    """Ends the training of a job that nobody wants any more."""


@contextlib.contextmanager
def repeated(line: Callable[[float], str], announce: Callable[[str], object], *, every: float) -> Iterator[None]:
    """Announce a line at regular intervals from a separate thread, so that long work is never silent.

    Args:
        line: the text, given the seconds since the beginning.
        every: seconds between two lines.
    """
    ended, began = threading.Event(), time.monotonic()

    def report() -> None:
        while not ended.wait(every):
            announce(line(time.monotonic() - began))

    thread = threading.Thread(target=report, name="lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Jobs:
    """Finetuning jobs, which train one after the other in the background.

    A job that is cancelled while it runs ends after the step that it is at, and the next one begins.

    Args:
        names: of the models served, with the backend's names of them; a job that succeeds adds its own.
        folder: where a job's state and weights go, in a folder of its name.
        tuning: what "auto" means, and everything that a job cannot say. `learning_rate_multiplier` multiplies its rate.
        fault: a planted fault of this kind of request, if any.
        lasting: whether another server will find the folder. If so, jobs that have not ended wait for it at `close`;
            otherwise they are cancelled.
        announce: hears what happens to jobs, line by line.
        seconds_between: lines about a job that trains.
    """

    def __init__(
        self,
        backend: local.Local,
        names: dict[str, str],
        folder: pathlib.Path,
        tuning: types.Tuning,
        fault: Callable[[str], faults.Fault | None],
        *,
        lasting: bool,
        announce: Callable[[str], object],
        seconds_between: float,
    ):
        self._backend, self._names, self._folder, self._tuning, self._fault = backend, names, folder, tuning, fault
        self._lasting, self._announce, self._seconds_between = lasting, announce, seconds_between
        self._jobs: dict[str, _Job] = {}
        self._changing, self._training, self._closing = threading.Lock(), threading.Lock(), False
        self._threads: list[threading.Thread] = []

    def reopen(self) -> None:
        """Serve what an earlier server's jobs trained, and go on with those that had not ended."""
        paths = (folder / "job.json" for folder in self._folder.glob("ftjob-*"))
        found = uploads.stored(paths, self._earlier, self._announce)
        for job in sorted(found, key=lambda job: job.number):
            try:
                self._take_up(job)
            except errors.SublimError as error:
                self._announce(f"{job.name} is left out: {error}")

    def create(self, fields: wire.Fields, uploaded: uploads.Files) -> dict[str, Any]:
        """Begin a job.

        Raises:
            Refusal: a field is missing, malformed or not supported; no such model or file.
            OutputError: its folder cannot be written.
        """
        model, file = fields.text("model"), fields.text("training_file")
        if model not in self._names:
            raise wire.Refusal(404, f"there is no model {model!r}", param="model", code="model_not_found")
        try:
            content = uploaded.content(file)
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
        name = wire.identifier("ftjob")
        said = {
            "id": name,
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
        }
        files.write(self._folder / name / "rows.jsonl", content)
        with self._changing:
            number = 1 + max((job.number for job in self._jobs.values()), default=0)
            job = _Job(said, self._folder / name, self._names[model], tuning, number)
            self._add(job, "the job was created")
            return dict(job.said)

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
        """Stop what has not ended, and wait until what trains is at the end of a step."""
        with self._changing:
            self._closing = True
            for job in self._jobs.values():
                if job.said["status"] in ENDED:
                    continue
                if self._lasting:
                    job.num_starts = 0
                    self._tell(
                        job,
                        f"the job was interrupted{_after(job)}; a server that is started on {self._folder} goes on "
                        f"with it after its last whole epoch",
                    )
                else:
                    self._end(job, "cancelled")
        for thread in self._threads:
            thread.join()

    def _read(self, fields: wire.Fields, seed: int) -> tuple[types.Tuning, dict[str, Any]]:
        """How to train, and what is said of it."""
        given = fields.take("method")
        method = wire.Fields({"type": "supervised"} if given is None else given, of="method")
        if method.take("type") != "supervised":
            raise wire.Refusal(400, "method.type: only supervised finetuning is done here", param="method")
        supervised = method.object("supervised")
        inner, outer = supervised.take("hyperparameters"), fields.take("hyperparameters")
        method.finish()
        supervised.finish()
        if inner not in (None, {}) and outer not in (None, {}):
            raise wire.Refusal(
                400, "hyperparameters are given twice; leave out the outer ones", param="hyperparameters"
            )
        given = next((one for one in (inner, outer) if one not in (None, {})), {})
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
        notices: list[str] = []
        try:
            chats = rows.read_jsonl(job.rows, announce=notices.append)
            notices += rows.notices(chats)
            base = self._backend.model(job.base)
            count = sum(len(base.tokens.chat(chat[:-1], chat[-1].content).ids) for chat in chats)
        except Exception as error:
            self._fail(job, "invalid_training_file", error)
            return
        if not self._goes_on(job, "queued"):
            return
        with self._changing:
            for notice in notices if job.num_starts == 0 else ():
                self._tell(job, notice.replace(str(job.rows), job.said["training_file"]))
        with self._training:
            # A finetuned base has a name of its own; another one may be served with other weights next time.
            job.base_fingerprint = None if job.said["model"].startswith("ft:") else base.fingerprint
            job.num_starts += 1
            if not self._goes_on(job, "running"):
                return
            try:
                fault = self._fault(faults.TRAINING)
                if fault and fault.kind == "failed_job":
                    raise RuntimeError("a planted fault")
                with self._reported(job):
                    trained = self._trained(job, chats)
            except _Stopped:
                return
            except Exception as error:
                self._fail(job, "server_error", error)
                return
        with self._changing:
            if self._is_wanted(job):
                model = job.said["model"]
                root = model.removeprefix("ft:").rsplit(":", 2)[0] if model.startswith("ft:") else model
                new = f"ft:{root}:{job.said['suffix'] or ''}:{job.name.removeprefix('ftjob-')}"
                self._names[new] = trained
                job.said |= {"fine_tuned_model": new, "trained_tokens": count * job.tuning.num_epochs}
                self._end(job, "succeeded")

    def _trained(self, job: _Job, chats: Sequence[types.Chat]) -> str:
        """The backend's name of the model. The job's folder is the server's own, so a state that an earlier version
        left there and this one cannot go on with is removed."""
        finetune = functools.partial(
            self._backend.finetune, job.base, chats, job.tuning, job.folder, on_step=functools.partial(self._step, job)
        )
        try:
            return finetune()
        except errors.OtherTrainingError:
            with self._changing:
                self._tell(job, "what was trained so far cannot be gone on with: the job begins anew")
            (job.folder / local.STATE).unlink()
            return finetune()

    def _step(self, job: _Job, done: int, total: int) -> None:
        """Is called between steps."""
        with self._changing:
            job.steps = done, total
            if not self._is_wanted(job):
                raise _Stopped

    def _reported(self, job: _Job) -> contextlib.AbstractContextManager[None]:
        """Announces now and then how far the training is, while compiling too."""

        def line(seconds: float) -> str:
            done, total = job.steps
            at = f"{done:,} of {total:,} steps are done" if total else "no step is done yet (the first one compiles)"
            return f"{job.name}: {at} after {seconds:,.0f} s"

        return repeated(line, self._announce, every=self._seconds_between)

    def _is_wanted(self, job: _Job) -> bool:
        return not self._closing and job.said["status"] not in ENDED

    def _goes_on(self, job: _Job, status: Status) -> bool:
        """Whether the job is still wanted; then its status is this."""
        with self._changing:
            if not self._is_wanted(job):
                return False
            job.said["status"] = status
            self._tell(job, f"the job is {status}")
            return True

    def _fail(self, job: _Job, code: str, error: Exception) -> None:
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, errors.SublimError):
            message = str(error)
        else:
            traceback.print_exception(error)
        message = message.replace(str(job.rows), job.said["training_file"]).replace(str(job.folder), job.name)
        with self._changing:
            if self._is_wanted(job):
                job.said["error"] = {"code": code, "message": message, "param": None}
                self._end(job, "failed")

    def _end(self, job: _Job, status: Status) -> None:
        job.said |= {"status": status, "finished_at": wire.now()}
        match status:
            case "cancelled":
                self._tell(job, f"the job was cancelled{_after(job)}")
            case "failed":
                self._tell(job, f"the job has failed: {job.said['error']['message']}")
            case _:
                self._tell(job, f"the job has {status}")

    def _tell(self, job: _Job, message: str) -> None:
        """Note what happened, with the lock held."""
        level = "error" if job.said["status"] == "failed" else "info"
        event = {"id": wire.identifier("ftevent"), "object": "fine_tuning.job.event", "created_at": wire.now()}
        job.events.append(event | {"level": level, "message": message, "type": "message", "data": {}})
        self._announce(f"{job.name}: {' '.join(message.split())}")
        content = {
            "job": job.said,
            "tuning": dataclasses.asdict(job.tuning),
            "number": job.number,
            "base_fingerprint": job.base_fingerprint,
            "num_starts": job.num_starts,
            "events": job.events,
        }
        try:
            files.write(job.folder / "job.json", json.dumps(content, indent=1) + "\n", ours=files.anything)
        except errors.OutputError as error:
            self._announce(f"{job.name}: the next server will not know this. {error}")

    def _add(self, job: _Job, message: str) -> None:
        """Begin or go on with a job, with the lock held."""
        self._jobs[job.name] = job
        self._tell(job, message)
        thread = threading.Thread(target=self._run, args=(job,), name=job.name, daemon=True)
        self._threads = [other for other in self._threads if other.is_alive()] + [thread]
        thread.start()

    def _job(self, name: str) -> _Job:
        if name not in self._jobs:
            raise wire.Refusal(404, f"there is no job {name!r}", param="fine_tuning_job_id", code="not_found")
        return self._jobs[name]

    def _earlier(self, path: pathlib.Path, content: Any) -> _Job:
        """The job in a `job.json`."""
        said = content["job"]
        for name in ("model", "training_file", "status", "organization_id"):
            specs.check(said[name], str, name)
        specs.check(said["status"], Status, "status")
        specs.check(said["suffix"], str | None, "suffix")
        specs.check(said["fine_tuned_model"], str if said["status"] == "succeeded" else str | None, "fine_tuned_model")
        specs.check(content["base_fingerprint"], str | None, "base_fingerprint")
        for number in (said["created_at"], content["number"], content["num_starts"]):
            specs.check(number, specs.CountOrZero, "a number")
        if said["id"] != path.parent.name:
            raise errors.InputError(f"it is of the job {said['id']!r}")
        for text in (*(event["id"] for event in content["events"]), *(said["metadata"] or {}).values()):
            specs.check(text, str, "events or metadata")
        return _Job(
            said,
            path.parent,
            "",
            types.Tuning(**content["tuning"]),
            content["number"],
            content["base_fingerprint"],
            content["num_starts"],
            content["events"],
        )

    def _take_up(self, job: _Job) -> None:
        """List an earlier server's job; serve its model, or go on with it.

        Raises:
            SublimError: its base is not served, or its model is not whole.
        """
        with self._changing:
            if job.said["status"] in ("failed", "cancelled"):
                self._jobs[job.name] = job
                return
            if job.said["model"] not in self._names:
                raise errors.ModelFormatError(f"the model {job.said['model']!r} that it trains is not served now")
            job.base = self._names[job.said["model"]]
            if job.base_fingerprint not in (None, self._backend.model(job.base).fingerprint):
                raise errors.ModelFormatError(f"the model {job.said['model']!r} that it trains has other weights now")
            if job.said["status"] == "succeeded":
                self._backend.model(str(job.folder))
                self._names[job.said["fine_tuned_model"]] = str(job.folder)
                self._jobs[job.name] = job
            elif job.num_starts >= MOST_STARTS:
                self._jobs[job.name] = job
                message = f"the server was killed {job.num_starts} times while this job was running; create it again"
                job.said["error"] = {"code": "interrupted", "message": message, "param": None}
                self._end(job, "failed")
            else:
                job.said["status"] = "validating_files"
                self._add(job, "the job goes on, because the server was started again")


def _after(job: _Job) -> str:
    done, total = job.steps
    return f" after {done:,} of {total:,} steps" if total else ""
