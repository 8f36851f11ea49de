"""A finetuning job on a server. It is paid for once: a process that is killed while it waits finds the job again.

`job.json` in the run's folder says what was begun. It has the file's id before the job is created and the job's id
before it is waited for. Whoever is killed in between finds the job by the key in its metadata.
"""

import asyncio
import hashlib
import json
import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from sublim_jax import errors, files
from sublim_jax.llm import budget as budgets
from sublim_jax.llm import datasets, jsonl
from sublim_jax.llm.backend import Chat, FinetuneConfig
from sublim_jax.llm.openai import transport

FIRST_POLL, LONGEST_POLL = 0.1, 30.0  # seconds, half as long again each time
PATIENCE = 48 * 3600.0  # seconds to wait for a job in one call; OpenAI's may be in a queue for a day
WAITING, ENDED = ("validating_files", "queued", "running"), ("succeeded", "failed", "cancelled")
"""States of a job that has not ended, and of one that has."""
METADATA_KEY = "sublim_key"
SENT = ("num_epochs", "batch_size", "seed")
"""Fields of `FinetuneConfig` that a job can be given."""


def check(config: FinetuneConfig) -> None:
    """Refuse settings that cannot be sent to a server.

    Raises:
        CapabilityError: a field that is not sent has another value than its default.
    """
    unsent = {name: value for name, value in vars(config).items() if name not in SENT}
    for name, value in unsent.items():
        if value != getattr(FinetuneConfig(), name):
            raise errors.CapabilityError(
                f"{name}={value} cannot be sent with a finetuning job: a job has only {', '.join(SENT)} and a "
                f"learning_rate_multiplier, and the server chooses the rest. Leave {name} out, or train locally."
            )


def hyperparameters(config: FinetuneConfig, multiplier: float | None) -> dict[str, Any]:
    """The hyperparameters that are sent."""
    sent: dict[str, Any] = {"n_epochs": config.num_epochs, "batch_size": config.batch_size}
    return sent if multiplier is None else sent | {"learning_rate_multiplier": multiplier}


class Job:
    """One job: `run` creates it or resumes waiting for it, and returns the name of the new model.

    Args:
        out: the run's folder.
        budget: is charged one request for the upload and one for the job before they are sent.
        patience: seconds to wait for the job's end.
    """

    def __init__(
        self,
        server: str,
        model: str,
        chats: Sequence[Chat],
        config: FinetuneConfig,
        out: pathlib.Path,
        *,
        multiplier: float | None,
        budget: budgets.Budget | None = None,
        patience: float = PATIENCE,
    ):
        check(config)
        datasets.require_answers(chats)
        self._server, self._model, self._seed, self._out = server, model, config.seed, out
        self._path, self._sent = out / "job.json", hyperparameters(config, multiplier)
        self._budget, self._patience = budget or budgets.Budget(), patience
        with tempfile.TemporaryDirectory() as folder:
            jsonl.write(pathlib.Path(folder) / "rows.jsonl", chats)
            self._content = (pathlib.Path(folder) / "rows.jsonl").read_bytes()
        spec = json.dumps([server, model, self._seed, self._sent], sort_keys=True).encode()
        self._key = hashlib.sha256(spec + self._content).hexdigest()[:32]

    async def run(self, client: transport.Client) -> str:
        """The name of the new model.

        Raises:
            TuningError: the job failed or was cancelled, or the folder holds another one.
            TuningClosedError: the server takes no jobs.
            CapabilityError: the server trains in another way than requested.
        """
        state = self._read()
        if state.get("model"):
            return state["model"]
        job = None
        if "job" not in state:
            job = await self._earlier(client)
            if job is None:
                state["file"] = state.get("file") or await self._upload(client)
                self._write(state)
                job = await self._create(client, state["file"])
            state["job"] = self._id(job)
            self._write(state)
            await self._as_told(client, job)
        state["model"] = await self._ended(client, state["job"])
        self._write(state)
        return state["model"]

    async def _upload(self, client: transport.Client) -> str:
        content = ("rows.jsonl", self._content)
        self._budget.charge(budgets.Usage(1))
        file = await client.send(lambda api: api.files.create(file=content, purpose="fine-tune"), explain=self._closed)
        return self._id(file)

    async def _create(self, client: transport.Client, file: str) -> Any:
        self._budget.charge(budgets.Usage(1))
        return await client.send(
            lambda api: api.fine_tuning.jobs.create(
                model=self._model,
                training_file=file,
                seed=self._seed,
                metadata={METADATA_KEY: self._key},
                method={"type": "supervised", "supervised": {"hyperparameters": self._sent}},
            ),
            repeatable=False,  # what the server did before it was lost is looked for by the next call
            explain=self._closed,
        )

    async def _earlier(self, client: transport.Client) -> Any:
        """A job that an earlier call created and did not write down, unless it failed or was cancelled."""
        after: dict[str, Any] = {}
        while True:
            query = {"limit": 100, **after}
            page = await client.send(lambda api, query=query: api.fine_tuning.jobs.list(**query), explain=self._closed)
            jobs = getattr(page, "data", None) or ()
            for job in jobs:
                mine = (getattr(job, "metadata", None) or {}).get(METADATA_KEY) == self._key
                if mine and getattr(job, "status", None) not in ("failed", "cancelled"):
                    return job
            last = getattr(jobs[-1], "id", None) if jobs else None
            if not getattr(page, "has_more", False) or last in (None, after.get("after")):  # no further page
                return None
            after = {"after": last}

    async def _as_told(self, client: transport.Client, job: Any) -> None:
        """Cancel a job that the server created with other hyperparameters."""
        method = getattr(getattr(job, "method", None), "supervised", None)
        hyperparameters = getattr(method, "hyperparameters", None) or job.hyperparameters
        values = {name: getattr(hyperparameters, name, None) for name in self._sent}
        values["seed"] = getattr(job, "seed", None)
        for name, asked in (self._sent | {"seed": self._seed}).items():
            if values[name] not in (None, asked):
                await client.send(lambda api: api.fine_tuning.jobs.cancel(job.id))
                raise errors.CapabilityError(
                    f"{self._server}: the server did not do what {name} says: asked was {asked}, the job {job.id} has "
                    f"{values[name]}. It was cancelled. Ask for what the server does, or use another."
                )

    async def _ended(self, client: transport.Client, name: str) -> str:
        """Wait for a job and return the name of its model."""
        wait, deadline = FIRST_POLL, time.monotonic() + self._patience
        while True:
            job = await client.send(lambda api: api.fine_tuning.jobs.retrieve(name), explain=self._gone)
            status, model = getattr(job, "status", None), getattr(job, "fine_tuned_model", None)
            if status == "succeeded" and model:
                return str(model)
            if status in ENDED:
                error = getattr(job, "error", None)
                code, message = (getattr(error, field, None) for field in ("code", "message"))
                why = f"{code}: {message}" if message else str(error) if isinstance(error, str) else "no reason given"
                raise errors.TuningError(
                    f"{self._server}: the finetuning job {name} has {status} without a model ({why}). Correct what it "
                    f"names; to begin another job, remove {self._path}."
                )
            if status not in WAITING:
                raise errors.TuningError(
                    f"{self._server}: expected the finetuning job {name} to be {', '.join(WAITING)} or "
                    f"{', '.join(ENDED)}, found {status!r}. See what the server says of it; when the job runs, run "
                    f"the same again, and to begin another job, remove {self._path}."
                )
            if time.monotonic() + wait > deadline:
                raise errors.TuningError(
                    f"{self._server}: the finetuning job {name} is {status} and has not ended within "
                    f"{self._patience:g} seconds (job_patience). Nothing is lost: run the same again to continue "
                    f"waiting, or cancel it at the server."
                )
            await asyncio.sleep(wait)
            wait = min(1.5 * wait, LONGEST_POLL)

    def _id(self, reply: Any) -> str:
        """The name that the server gave to a file or a job."""
        name = getattr(reply, "id", None)
        if not isinstance(name, str) or not name:
            raise errors.ServerError(
                f"{self._server}: expected the id of what was sent, found {str(reply)[:80]!r}. base_url is perhaps not "
                f"that of this API; it usually ends with /v1."
            )
        return name

    def _closed(self, error: transport.ErrorResponse) -> errors.LanguageError | None:
        if error.code == "model_not_found":
            return errors.TuningError(
                f"{self._server}: there is no model {self._model!r} to finetune. The server says: {error.message}"
            )
        if error.status in (403, 404, 410):
            return errors.TuningClosedError(
                f"{self._server} (status {error.status}): the server takes no finetuning jobs, or none from this "
                f"account. Train open weights instead, or ask another server. The server says: {error.message}"
            )
        return None

    def _gone(self, error: transport.ErrorResponse) -> errors.LanguageError | None:
        if error.status not in (404, 410):
            return None
        return errors.TuningError(
            f"{self._server}: the server does not know the job that {self._path} names; it was perhaps restarted or is "
            f"another. To begin another job, remove that file. The server says: {error.message}"
        )

    def _read(self) -> dict[str, Any]:
        """The content of `job.json`, or what it begins with if there is none."""
        try:
            state = json.loads(self._path.read_text(encoding="utf-8"))
            key = state["key"]
        except FileNotFoundError:
            return {"key": self._key, "server": self._server, "base": self._model}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise errors.TuningError(f"{self._path}: expected the ids of a job in JSON ({error}); remove it") from error
        if key != self._key:
            raise errors.TuningError(
                f"{self._path}: this folder belongs to another job ({state.get('job')} of {state.get('base')} at "
                f"{state.get('server')}), with other rows, numbers or another model. Give another folder, or remove it."
            )
        return state

    def _write(self, state: dict[str, Any]) -> None:
        """Write `job.json` atomically, and to the disk before anything is paid for."""
        files.write(self._path, json.dumps(state, indent=1), ours=files.json_with("key", "server"), what="job")
