"""Models behind a server that speaks OpenAI's API: OpenAI, vLLM, llama.cpp, or our own `serve`.

    backend = OpenAIBackend("Qwen/Qwen2.5-7B-Instruct", "http://127.0.0.1:8000/v1", dialect="vllm")
    with store.Store(path) as answers:
        for completion in budgeted.sample_stored(backend, backend.model, chats, params, answers, budget): ...

Most servers silently ignore a field that they do not know. So the temperature and `top_p` are always sent, truncation
that is on by default is switched off, every response is checked, and an ignored field is an error that names it. An
answer that the server refuses to give, e.g. by a content filter, is no error: it is a completion with
`finish="refused"` and the reason. The key comes from the environment; see `transport`.
"""

import contextlib
import functools
import hashlib
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sublim_jax import errors, specs
from sublim_jax.llm import budget as budgets
from sublim_jax.llm.backend import (
    Capabilities,
    Chat,
    ChoiceScores,
    Completion,
    FinetuneConfig,
    Message,
    OnProgress,
    SamplingParams,
)
from sublim_jax.llm.openai import choice_scores, finetune_job, server_features, transport, validation
from sublim_jax.llm.openai.requests import ChatRequests, Dialect
from sublim_jax.llm.openai.server_features import ServerFeatures

MOST_LIKELY = 20  # tokens whose log-probabilities OpenAI returns at most
MAX_SAMPLES = 128  # of one request


class OpenAIBackend:
    """A backend of models behind a server; see the top of this module.

    Args:
        model: that `caps` and `features` are about. The verbs may be asked for others of the same server.
        base_url: up to and including /v1.
        dialect: "vllm" is also our own server. It decides how truncation is switched off, what the limit of tokens is
            called, and how choices are scored.
        key_variable: the environment variable with the key; see `transport.Transport`.
        timeout: seconds for one try of a request.
        concurrency: requests on their way at a time.
        max_retries: of one request.
        patience: seconds for one request with all its tries.
        job_patience: seconds to wait for a finetuning job in one call; the next call continues to wait.
        extra_body: further fields of every chat request, e.g. what a model's template takes.
        learning_rate_multiplier: of finetuning jobs; None leaves it to the server.
        count_tokens: of a chat as a prompt, by a local tokenizer, to be compared with what the server says.

    Raises:
        AuthenticationError: the variable is empty.
        ExtraMissingError: the openai client is not installed.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        dialect: Dialect = "openai",
        key_variable: str | None = None,
        timeout: float = 600.0,
        concurrency: int = 16,
        max_retries: int = 20,
        patience: float = transport.PATIENCE,
        job_patience: float = finetune_job.PATIENCE,
        extra_body: Mapping[str, Any] | None = None,
        learning_rate_multiplier: float | None = None,
        count_tokens: Callable[[Chat], int] | None = None,
    ):
        self._requests = ChatRequests.make(dialect, extra_body or {})
        transport.package()
        specs.check(job_patience, specs.Positive, "job_patience")
        specs.check(learning_rate_multiplier, specs.Positive | None, "learning_rate_multiplier")
        self._transport = transport.Transport(
            base_url,
            key_variable=key_variable,
            timeout=timeout,
            concurrency=concurrency,
            max_retries=max_retries,
            patience=patience,
        )
        self.model, self._dialect, self._multiplier = model, dialect, learning_rate_multiplier
        self._budget, self._job_patience = budgets.Budget(), job_patience
        self._count_tokens = count_tokens
        self.on_progress: OnProgress = _ignore  # called with the number of answers that are scored
        self._endings: dict[str, list[str]] = {}  # tokens that close an assistant's turn, by model

    def charge_to(self, budget: budgets.Budget) -> None:
        """Reserve the question behind `features`, the requests that `choice_logprobs` adds to one for each choice, and
        those of finetuning jobs from this budget, beginning now. `budgeted.sample_stored` does so with its own."""
        self._budget = budget

    @functools.cached_property
    def features(self) -> ServerFeatures:
        """Features of the server, which is asked once; see `server_features.probe`.

        Raises:
            BudgetExceededError: the budget does not allow it.
        """
        return self._transport.call(
            lambda client: server_features.probe(client, self._transport.url, self.model, self._requests, self._budget)
        )

    @property
    def caps(self) -> Capabilities:
        """What this server can do; the first look at it asks the server (see `features`, which also says whether it
        honours `n`).

        The fingerprint is a hash of the address, the model's name, the dialect, `extra_body` and the server's
        `system_fingerprint`. That of OpenAI is left out: it changes from one answer to the next, which would make
        every stored completion useless; there the model's dated name stands for its weights.
        """
        features = self.features
        weights = None if self._dialect == "openai" else features.system_fingerprint
        spec = json.dumps(
            [self._transport.url, self.model, self._dialect, self._requests.extra, weights], sort_keys=True
        )
        return Capabilities(
            finetune=features.tuning,
            choices="exact" if self._dialect == "vllm" else "top",
            seeds=self._dialect != "openai",
            system=True,
            fingerprint=hashlib.sha256(spec.encode()).hexdigest()[:16],
        )

    def sample(self, model: str, chats: Sequence[Chat], params: SamplingParams) -> Iterator[Completion]:
        """Completions as they arrive, refused ones among them. See `Backend`.

        A server may use the same noise for every prompt of a seed, as vLLM does, and give correlated answers. So each
        chat is asked with a seed made of `params.seed` and its text; our own server does so by itself, is asked with
        `params.seed`, and answers as `LocalBackend`.

        Raises:
            ServerError: the server is down, slow or refuses, after what came back was handed on. Its subclasses say
                more: AuthenticationError, RateLimitError, QuotaError.
            CapabilityError: the server did something else than it was asked for.
        """
        for name, value in (("allowed", params.allowed), ("num_values", params.num_values or None)):
            if value is not None:
                raise errors.CapabilityError(
                    f"{self._transport.url}: answers of some characters or tokens only ({name}={value!r}) are sampled "
                    f"by hf:DIR alone, because chat completions have no common field for them. Leave out `{name}`."
                )
        features, checks = self.features, self._checks(model)
        most = MAX_SAMPLES if features.several else 1

        def asked(index: int, first: int) -> transport.Task:
            chat, count = chats[index], min(most, params.num_samples - first)
            seed = params.seed if features.own and first == 0 else derive_seed(params.seed, chat, first)

            async def ask_once(client: transport.Client) -> list[Completion]:
                body = self._requests.body(model, chat, params, num_samples=count, seed=seed, **self._open_turn(chat))
                expected = self._count_tokens(chat) if self._count_tokens else None
                try:
                    reply = await client.send(
                        lambda api: api.chat.completions.create(**body), explain=validation.explain
                    )
                except errors.RefusedError as refusal:
                    completions = validation.refused(chat, count, str(refusal), prompt_tokens=0)  # no model has read it
                else:
                    completions = checks.completions(
                        reply, chat, num_samples=count, max_tokens=params.max_tokens, expected_tokens=expected
                    )
                return [each._replace(chat=index, sample=first + each.sample) for each in completions]

            return ask_once

        places = ((index, first) for index in range(len(chats)) for first in range(0, params.num_samples, most))
        with contextlib.closing(self._transport.map(asked(index, first) for index, first in places)) as arrived:
            for completions in arrived:
                yield from completions

    def choice_logprobs(self, model: str, chats: Sequence[Chat], choices: Sequence[str]) -> list[ChoiceScores]:
        """How likely each choice is. See `Backend`.

        "exact" (vLLM and our own server): the log-probability of all tokens of the choice and of the token that ends
        the assistant's turn, so that choices are whole answers. It is read from the server's scores of the chat with
        the choice as its last turn, closed; one request per choice, and one per chat for where its prompt ends.

        "top" (OpenAI, llama.cpp): the log-probability that the first token is the whole choice, if it is among the 20
        most likely, else -inf. The answer may continue after it, and a choice of several tokens is never seen: the
        score is the probability of beginning with that token.

        A chat that the server refuses has no log-probabilities but a reason (`ChoiceScores.refusal`).

        Raises:
            ServerError: as `sample`.
            CapabilityError: the server does not tell log-probabilities, its template does not close turns, or it
                writes two choices alike.
        """
        if not chats:
            return []
        if self._dialect != "vllm":
            return self._top(model, chats, choices)
        checks = self._checks(model)
        for chat in chats if model not in self._endings else ():
            row = _answered(chat, choices[0])
            unclosed, closed = self._rows(model, [row, row], checks, turns=["continue", "closed"], charged=True)
            if isinstance(unclosed, list) and isinstance(closed, list):
                self._endings[model] = choice_scores.turn_ending(self._where(model), unclosed, closed)
                break
        turns = ["continue" if self._open_turn(chat) else "reply" for chat in chats]
        prompts = self._rows(model, chats, checks, turns=turns, charged=True)
        asked = [_answered(chat, choice) for chat in chats for choice in choices]
        rows = self._rows(model, asked, checks, turns=["closed"] * len(asked))
        scores = []
        for index, prompt in enumerate(prompts):
            of_chat = rows[index * len(choices) : (index + 1) * len(choices)]
            scored = [row for row in of_chat if isinstance(row, list)]
            if isinstance(prompt, list) and len(scored) == len(choices) and model in self._endings:
                where, ending = self._where(model), self._endings[model]
                scores.append(choice_scores.exact_scores(where, prompt, scored, choices, ending))
            else:
                refusal = next((row for row in (prompt, *of_chat) if not isinstance(row, list)), "no scores")
                scores.append(ChoiceScores((), "exact", str(refusal)))
        return scores

    def finetune(self, model: str, rows: Sequence[Chat], config: FinetuneConfig, out: pathlib.Path) -> str:
        """Upload the rows, begin a job, wait for it. See `Backend`.

        A request has the epochs, the batch size, the seed and `learning_rate_multiplier`; the server chooses the rest.
        A field of `config` that cannot be sent must have its default, which then says nothing. `job.json` in `out`
        keeps the ids, so that a killed call is resumed and nothing is paid for twice; see `finetune_job`.

        Raises:
            TuningError: the job failed or was cancelled, has not ended within `job_patience`, or `out` belongs to
                another one.
            BudgetExceededError: the budget does not allow the upload or the job.
            TuningClosedError: the server takes no jobs.
            CapabilityError: a field that cannot be sent is set, or the server trains in another way than requested.
            TextDataError: no rows, or one that does not end with an assistant turn.
            ServerError: as `sample`; call again to resume.
        """
        job = finetune_job.Job(
            self._transport.url,
            model,
            rows,
            config,
            out,
            multiplier=self._multiplier,
            budget=self._budget,
            patience=self._job_patience,
        )
        return self._transport.call(job.run)

    def _open_turn(self, chat: Chat) -> dict[str, bool]:
        """What asks a server to continue a last assistant's turn; nothing where the user's is last.

        Raises:
            CapabilityError: this server cannot.
        """
        if chat[-1].role != "assistant":
            return {}
        if self._dialect != "vllm":
            raise errors.CapabilityError(
                f"{self._transport.url}: the chat ends with an assistant's turn, which is to be continued, and this "
                f"kind of server begins another turn instead. Use vllm:MODEL@URL or hf:DIR, or end with a user turn."
            )
        return {"add_generation_prompt": False, "continue_final_message": True}

    def _where(self, model: str) -> str:
        """The beginning of a message about the model's chat template."""
        return f"{self._transport.url}: the template of {model!r}"

    def _checks(self, model: str) -> validation.ResponseValidator:
        weights = self.features.system_fingerprint if self._dialect != "openai" and model == self.model else None
        return validation.ResponseValidator(self._transport.url, model, fingerprint=weights)

    def _rows(
        self,
        model: str,
        chats: Sequence[Chat],
        checks: validation.ResponseValidator,
        *,
        turns: Sequence[str],
        charged: bool = False,
    ) -> list[list[validation.Scored] | errors.RefusedError]:
        """The scored tokens of these chats, written out ready for a reply, with an open last turn or a closed one.

        Args:
            charged: the caller has not reserved these requests from the budget.
        """

        def asked(index: int) -> transport.Task:
            flags = {"prompt_logprobs": 0, "add_generation_prompt": turns[index] == "reply"}
            body = self._requests.body(
                model, chats[index], SamplingParams(max_tokens=1), num_samples=1, seed=0, **flags,
                continue_final_message=turns[index] == "continue",
            )  # fmt: skip

            async def ask_once(client: transport.Client) -> tuple[int, list[validation.Scored] | errors.RefusedError]:
                if charged:
                    self._budget.charge(budgets.Usage(1, budgets.prompt_bound(chats[index]), 1))
                try:
                    reply = await client.send(
                        lambda api: api.chat.completions.create(**body), explain=validation.explain
                    )
                    return index, checks.prompt_row(reply)
                except errors.RefusedError as refusal:
                    return index, refusal

            return ask_once

        return self._in_order(asked, len(chats))

    def _in_order(self, asked: Callable[[int], transport.Task], count: int) -> list[Any]:
        """Results of numbered requests, in the order of their numbers."""
        values = {}
        for index, value in self._transport.map(map(asked, range(count))):
            values[index] = value
            self.on_progress("answers", len(values), count)
        return [values[index] for index in range(count)]

    def _top(self, model: str, chats: Sequence[Chat], choices: Sequence[str]) -> list[ChoiceScores]:
        checks = self._checks(model)

        def asked(index: int) -> transport.Task:
            params, open_turn = SamplingParams(max_tokens=1), self._open_turn(chats[index])
            body = self._requests.body(model, chats[index], params, num_samples=1, seed=0, **open_turn)

            async def ask_once(client: transport.Client) -> tuple[int, ChoiceScores]:
                scored = {"logprobs": True, "top_logprobs": MOST_LIKELY}
                try:
                    reply = await client.send(
                        lambda api: api.chat.completions.create(**body, **scored), explain=validation.explain
                    )
                    seen = checks.top(reply, MOST_LIKELY)
                except errors.RefusedError as refusal:
                    return index, ChoiceScores((), "top", str(refusal))
                scores = tuple(seen.get(choice, -math.inf) if choice else -math.inf for choice in choices)
                return index, ChoiceScores(scores, "top")

            return ask_once

        return self._in_order(asked, len(chats))


def _ignore(unit: str, done: int, total: int) -> None:
    pass


def _answered(chat: Chat, answer: str) -> Chat:
    """The chat with an answer, which continues a last assistant's turn."""
    if chat[-1].role == "assistant":
        return (*chat[:-1], Message("assistant", chat[-1].content + answer))
    return (*chat, Message("assistant", answer))


def derive_seed(seed: int, chat: Chat, first: int) -> int:
    """Seed, 31 bits, of the samples of a chat from `first` on."""
    text = json.dumps([seed, chat, first])
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) >> 1
