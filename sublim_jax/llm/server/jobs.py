"""The server's finetuning jobs. They train one after the other, and their folders outlive the server.

A job's folder has its rows (`rows.jsonl`), the job itself (`job.json`, see `job.Job`), the state after its last whole
epoch, and in the end the weights. A server that is started on the folder of an earlier one serves the models of the
jobs that succeeded and resumes those that had not ended.
"""

import contextlib
import dataclasses
import functools
import pathlib
import random
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sublim_jax import errors, files
from sublim_jax.llm import datasets, jsonl
from sublim_jax.llm.backend import Chat, FinetuneConfig
from sublim_jax.llm.local import finetune
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.server import heartbeat, responses, schema, uploads
from sublim_jax.llm.server.api_error import APIError
from sublim_jax.llm.server.job import Job, Status

MOST_STARTS = 3
"""The most times that a job is running when its server is killed. Perhaps it is the job that kills it."""


class _Stopped(Exception):
    """Ends the training of a job that is cancelled or interrupted."""


class Jobs:
    """Finetuning jobs, which train one after the other in the background.

    A job that is cancelled while it runs ends after the step that it is at, and the next one begins.

    Args:
        names: the backend's name of each model served; a job that succeeds adds its own.
        folder: where a job's state and weights go, in a folder of its name.
        tuning: the settings of "auto", and what a job cannot choose. `learning_rate_multiplier` multiplies its rate.
        fault: whether a planted fault makes the next job fail.
        lasting: whether another server can find the folder. If so, jobs that have not ended wait for it at `close`;
            otherwise they are cancelled.
        announce: receives lines about jobs.
        seconds_between: interval of the lines about a job that trains.
    """

    def __init__(
        self,
        backend: LocalBackend,
        names: dict[str, str],
        folder: pathlib.Path,
        tuning: FinetuneConfig,
        fault: Callable[[], bool],
        *,
        lasting: bool,
        announce: Callable[[str], object],
        seconds_between: float,
    ):
        self._backend, self._names, self._folder, self._tuning, self._fault = backend, names, folder, tuning, fault
        self._lasting, self._announce, self._seconds_between = lasting, announce, seconds_between
        self._jobs: dict[str, Job] = {}
        self._changing, self._training, self._closing = threading.Lock(), threading.Lock(), False
        self._threads: list[threading.Thread] = []

    def reopen(self) -> None:
        """Serve the models of an earlier server's jobs, and resume the jobs that had not ended."""
        paths = (folder / Job.FILE for folder in self._folder.glob("ftjob-*"))
        for job in sorted(uploads.stored(paths, Job.from_json, self._announce), key=lambda job: job.number):
            try:
                self._resume(job)
            except errors.SublimError as error:
                self._announce(f"{job.name} is left out: {error}")

    def create(self, request: schema.JobRequest, uploaded: uploads.Files) -> dict[str, Any]:
        """Begin a job, and return its description.

        Raises:
            APIError: there is no such model or file, or the server is closing.
            OutputError: the job's folder cannot be written.
        """
        if request.model not in self._names:
            raise APIError(404, f"there is no model {request.model!r}", param="model", code="model_not_found")
        try:
            content = uploaded.content(request.training_file)
        except APIError as error:
            raise APIError(400, str(error), param="training_file") from None
        tuning, hyperparameters = self._settings(request)
        folder = self._folder / responses.identifier("ftjob")
        files.write(folder / "rows.jsonl", content)
        with self._changing:
            if self._closing:
                raise APIError(503, "the server is closing", kind="server_error")
            number = 1 + max((job.number for job in self._jobs.values()), default=0)
            job = Job.create(request, folder, self._names[request.model], tuning, number, hyperparameters)
            self._add(job, "the job was created")
            return dict(job.info)

    def all(self, metadata: Mapping[str, str]) -> list[dict[str, Any]]:
        """The descriptions of jobs that have these metadata, newest first."""
        with self._changing:
            infos = [dict(job.info) for job in self._jobs.values()]
        return [info for info in infos[::-1] if metadata.items() <= (info["metadata"] or {}).items()]

    def info(self, name: str) -> dict[str, Any]:
        """The description of a job."""
        with self._changing:
            return dict(self._job(name).info)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of a job, the latest first."""
        with self._changing:
            return self._job(name).events[::-1]

    def cancel(self, name: str) -> dict[str, Any]:
        """Cancel a job, unless it has ended.

        Raises:
            APIError: it has ended, or there is none.
        """
        with self._changing:
            job = self._job(name)
            if job.has_ended:
                raise APIError(400, f"the job {name} has ended: {job.status}")
            self._end(job, "cancelled")
            return dict(job.info)

    def close(self) -> None:
        """Stop the jobs that have not ended, and wait until the one that trains is at the end of a step."""
        with self._changing:
            self._closing = True
            for job in self._jobs.values():
                if job.has_ended:
                    continue
                if self._lasting:
                    job.num_starts = 0
                    self._report(
                        job,
                        f"the job was interrupted{job.progress}; a server that is started on {self._folder} goes on "
                        f"with it after its last whole epoch",
                    )
                else:
                    self._end(job, "cancelled")
        for thread in self._threads:
            thread.join()

    def _settings(self, request: schema.JobRequest) -> tuple[FinetuneConfig, dict[str, Any]]:
        """The finetuning config of a job, and the hyperparameters in it as its description has them."""
        chosen, default = request.chosen(), self._tuning
        hyperparameters = {
            "n_epochs": chosen.n_epochs or default.num_epochs,
            "batch_size": chosen.batch_size or default.batch_size,
            "learning_rate_multiplier": chosen.learning_rate_multiplier or 1.0,
        }
        tuning = dataclasses.replace(
            default,
            num_epochs=hyperparameters["n_epochs"],
            batch_size=hyperparameters["batch_size"],
            learning_rate=hyperparameters["learning_rate_multiplier"] * default.learning_rate,
            seed=random.randrange(2**31) if request.seed is None else request.seed,
        )
        return tuning, hyperparameters

    def _run(self, job: Job) -> None:
        notices: list[str] = []
        try:
            chats = jsonl.read(job.rows, announce=notices.append)
            notices += datasets.notices(chats)
            base = self._backend.model(job.base)
            count = sum(len(base.tokens.chat(chat[:-1], chat[-1].content).ids) for chat in chats)
        except Exception as error:
            self._fail(job, "invalid_training_file", error)
            return
        if not self._set_status(job, "queued"):
            return
        with self._changing:
            for notice in notices if job.num_starts == 0 else ():
                self._report(job, notice.replace(str(job.rows), job.info["training_file"]))
        with self._training:
            # A finetuned base has its own name; another base may be served with other weights next time.
            job.base_fingerprint = None if job.info["model"].startswith("ft:") else base.fingerprint
            job.num_starts += 1
            if not self._set_status(job, "running"):
                return
            try:
                if self._fault():
                    raise RuntimeError("a planted fault")
                with self._heartbeat(job):
                    trained = self._train(job, chats)
            except _Stopped:
                return
            except Exception as error:
                self._fail(job, "server_error", error)
                return
        with self._changing:
            if self._is_wanted(job):
                self._names[job.finetuned_name] = trained
                job.info |= {"fine_tuned_model": job.finetuned_name, "trained_tokens": count * job.tuning.num_epochs}
                self._end(job, "succeeded")

    def _train(self, job: Job, chats: Sequence[Chat]) -> str:
        """Train the model, and return the backend's name of it.

        A state that an earlier version left in the job's folder is removed if this version cannot resume from it.
        """
        train = functools.partial(
            self._backend.finetune, job.base, chats, job.tuning, job.folder, on_step=functools.partial(self._step, job)
        )
        try:
            return train()
        except errors.OtherTrainingError:
            with self._changing:
                self._report(job, "what was trained so far cannot be resumed: the job begins again")
            (job.folder / finetune.STATE).unlink()
            return train()

    def _step(self, job: Job, done: int, total: int) -> None:
        """Note how far the training is, and stop it if the job is not wanted any more. Called between steps.

        Raises:
            _Stopped: the job is not wanted any more.
        """
        with self._changing:
            job.steps = done, total
            if not self._is_wanted(job):
                raise _Stopped

    def _heartbeat(self, job: Job) -> contextlib.AbstractContextManager[None]:
        """A context that announces the progress of the training at intervals, while compiling too."""

        def line(seconds: float) -> str:
            done, total = job.steps
            at = f"{done:,} of {total:,} steps are done" if total else "no step is done yet (the first one compiles)"
            return f"{job.name}: {at} after {seconds:,.0f} s"

        return heartbeat.repeated(line, self._announce, every=self._seconds_between)

    def _is_wanted(self, job: Job) -> bool:
        """Whether the job is to train, or to train on."""
        return not self._closing and not job.has_ended

    def _set_status(self, job: Job, status: Status) -> bool:
        """Give the job this status if it is still wanted. Returns whether it is."""
        with self._changing:
            if not self._is_wanted(job):
                return False
            job.info["status"] = status
            self._report(job, f"the job is {status}")
            return True

    def _fail(self, job: Job, code: str, error: Exception) -> None:
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, errors.SublimError):
            message = str(error)
        else:
            traceback.print_exception(error)
        message = message.replace(str(job.rows), job.info["training_file"]).replace(str(job.folder), job.name)
        with self._changing:
            if self._is_wanted(job):
                job.info["error"] = {"code": code, "message": message, "param": None}
                self._end(job, "failed")

    def _end(self, job: Job, status: Status) -> None:
        job.info |= {"status": status, "finished_at": responses.now()}
        match status:
            case "cancelled":
                self._report(job, f"the job was cancelled{job.progress}")
            case "failed":
                self._report(job, f"the job has failed: {job.info['error']['message']}")
            case _:
                self._report(job, f"the job has {status}")

    def _report(self, job: Job, message: str) -> None:
        """Add an event to the job and write it. The lock must be held."""
        job.add_event(message)
        self._announce(f"{job.name}: {' '.join(message.split())}")
        try:
            job.write()
        except errors.OutputError as error:
            self._announce(f"{job.name}: the next server will not know this. {error}")

    def _add(self, job: Job, message: str) -> None:
        """Begin or resume a job. The lock must be held."""
        self._jobs[job.name] = job
        self._report(job, message)
        thread = threading.Thread(target=self._run, args=(job,), name=job.name, daemon=True)
        self._threads = [other for other in self._threads if other.is_alive()] + [thread]
        thread.start()

    def _job(self, name: str) -> Job:
        if name not in self._jobs:
            raise APIError(404, f"there is no job {name!r}", param="fine_tuning_job_id", code="not_found")
        return self._jobs[name]

    def _resume(self, job: Job) -> None:
        """List an earlier server's job; serve its model, or resume it.

        Raises:
            SublimError: its base is not served, or its model is not whole.
        """
        with self._changing:
            if job.status in ("failed", "cancelled"):
                self._jobs[job.name] = job
                return
            if job.info["model"] not in self._names:
                raise errors.ModelFormatError(f"the model {job.info['model']!r} that it trains is not served now")
            job.base = self._names[job.info["model"]]
            if job.base_fingerprint not in (None, self._backend.model(job.base).fingerprint):
                raise errors.ModelFormatError(f"the model {job.info['model']!r} that it trains has other weights now")
            if job.status == "succeeded":
                self._backend.model(str(job.folder))
                self._names[job.info["fine_tuned_model"]] = str(job.folder)
                self._jobs[job.name] = job
            elif job.num_starts >= MOST_STARTS:
                self._jobs[job.name] = job
                message = f"the server was killed {job.num_starts} times while this job was running; create it again"
                job.info["error"] = {"code": "interrupted", "message": message, "param": None}
                self._end(job, "failed")
            else:
                job.info["status"] = "validating_files"
                self._add(job, "the job was resumed, because the server was started again")
