"""Models behind a server that speaks OpenAI's API: OpenAI, vLLM, llama.cpp, or our own `serve`.

    backend = OpenAIBackend("Qwen/Qwen2.5-7B-Instruct", "http://127.0.0.1:8000/v1", dialect="vllm")
    with store.Store(path) as answers:
        for completion in budgeted.sample_stored(backend, backend.model, chats, how, answers, budget): ...

Servers differ in what they do with a field that they do not know: most say nothing. So the temperature and `top_p` are
always sent, what a server would truncate by default is switched off, every reply is checked, and what was passed over
is an error that names it. An answer that the server refuses to give, e.g. by a content filter, is no error: it is a
completion with `finish="refused"` and the reason. The key comes from the environment; see `transport`.
"""

import contextlib
import functools
import hashlib
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sublim_jax import errors, specs
from sublim_jax.llm import budget as budgets
from sublim_jax.llm import server
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
from sublim_jax.llm.local import tokenizer
from sublim_jax.llm.openai import finetune_job, transport, validation

Dialect = Literal["openai", "vllm", "llama.cpp"]

PLAIN: Mapping[str, Mapping[str, Any]] = {
    "openai": {},
    "vllm": {"top_k": -1, "min_p": 0, "repetition_penalty": 1},
    "llama.cpp": {"top_k": 0, "min_p": 0, "repeat_penalty": 1},
}
"""What a server has to be told to draw from the distribution itself. vLLM else follows the model's generation config,
and llama.cpp draws from 40 tokens."""

HELLO: Chat = (Message("user", "tell me a story"),)  # words that the embedded model has too
LIKELIEST = 20  # tokens that OpenAI tells at most
MAX_SAMPLES = 128  # of one request


class ServerFeatures(NamedTuple):
    """What one question to the server told about it."""

    several: bool  # it honours `n`; otherwise each sample is a request of its own
    tuning: bool  # it has finetuning jobs
    system_fingerprint: str | None
    own: bool  # it is `serve`, whose draws depend on prompt and seed as those of `local.Local` do


class OpenAIBackend:
    """A backend of models behind a server; see the top of this module.

    Args:
        model: that `caps` and `facts` are about. The verbs may be asked for others of the same server.
        base_url: up to and including /v1.
        dialect: "vllm" is also our own server. It decides how truncation is switched off, what the limit of tokens is
            called, and how choices are scored.
        key_variable: the environment variable with the key; see `transport.Transport`.
        timeout: seconds for one try of a request.
        concurrency: requests on their way at a time.
        max_retries: of one request.
        patience: seconds for one request with all its tries.
        job_patience: seconds to wait for a finetuning job in one call; the next call goes on waiting.
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
        if dialect not in PLAIN:
            raise errors.InputError(f"dialect must be one of {', '.join(PLAIN)}, got {dialect!r}")
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
        self.on_progress: OnProgress = lambda unit, done, total: None  # hears of answers that are scored
        self._extra = {**PLAIN[dialect], **(extra_body or {})}
        if dialect == "vllm":
            pinned = {name: tokenizer.PINNED[name] for name in ("enable_thinking", "date_string")}
            self._extra = {"chat_template_kwargs": pinned} | self._extra
        self._endings: dict[str, list[str]] = {}  # tokens that close an assistant's turn, by model

    def charge_to(self, budget: budgets.Budget) -> None:
        """Reserve the question behind `facts`, the requests that `choice_logprobs` adds to one for each choice, and
        those of finetuning jobs from this budget, beginning now. `budgeted.sample_stored` does so with its own."""
        self._budget = budget

    @functools.cached_property
    def facts(self) -> ServerFeatures:
        """Asks the server once, for two samples of one token.

        Raises:
            BudgetExceededError: the budget does not allow it.
        """
        return self._transport.one(self._probe)

    @property
    def caps(self) -> Capabilities:
        """What this server can do; the first look at it asks the server (see `facts`, which also says whether it
        honours `n`).

        The fingerprint is a hash of the address, the model's name, the dialect, `extra_body` and the server's
        `system_fingerprint`. That of OpenAI is left out: it changes from one answer to the next, which would make
        every stored completion useless; there the model's dated name stands for its weights.
        """
        facts = self.facts
        weights = None if self._dialect == "openai" else facts.system_fingerprint
        spec = json.dumps([self._transport.url, self.model, self._dialect, self._extra, weights], sort_keys=True)
        return Capabilities(
            finetune=facts.tuning,
            choices="exact" if self._dialect == "vllm" else "top",
            seeds=self._dialect != "openai",
            system=True,
            fingerprint=hashlib.sha256(spec.encode()).hexdigest()[:16],
        )

    def sample(self, model: str, chats: Sequence[Chat], how: SamplingParams) -> Iterator[Completion]:
        """Completions as they arrive, refused ones among them. See `Backend`.

        A server may use the same noise for every prompt of a seed, as vLLM does, and give correlated answers. So each
        chat is asked with a seed made of `how.seed` and its text; our own server does so by itself, is asked with
        `how.seed`, and answers as `local.Local`.

        Raises:
            ServerError: the server is down, slow or refuses, after what came back was handed on. Its subclasses say
                more: AuthenticationError, RateLimitError, QuotaError.
            CapabilityError: the server did something else than it was asked for.
        """
        facts, checks = self.facts, self._checks(model)
        most = MAX_SAMPLES if facts.several else 1

        def asked(index: int, first: int) -> transport.Task:
            chat, count = chats[index], min(most, how.num_samples - first)
            seed = how.seed if facts.own and first == 0 else derive_seed(how.seed, chat, first)

            async def ask_once(ask: transport.Client) -> list[Completion]:
                body = self._body(model, chat, how, num_samples=count, seed=seed)
                expected = self._count_tokens(chat) if self._count_tokens else None
                try:
                    reply = await ask(lambda client: client.chat.completions.create(**body), explain=validation.explain)
                except errors.RefusedError as refusal:
                    found = validation.refused(chat, count, str(refusal), prompt_tokens=0)  # no model has read it
                else:
                    found = checks.completions(
                        reply, chat, num_samples=count, max_tokens=how.max_tokens, expected_tokens=expected
                    )
                return [one._replace(chat=index, sample=first + one.sample) for one in found]

            return ask_once

        places = ((index, first) for index in range(len(chats)) for first in range(0, how.num_samples, most))
        with contextlib.closing(self._transport.each(asked(index, first) for index, first in places)) as arrived:
            for found in arrived:
                yield from found

    def choice_logprobs(self, model: str, chats: Sequence[Chat], choices: Sequence[str]) -> list[ChoiceScores]:
        """How likely each choice is. See `Backend`.

        "exact" (vLLM and our own server): the log-probability of all tokens of the choice and of the token that ends
        the assistant's turn, so that choices are whole answers. It is read from the server's scores of the chat with
        the choice as its last turn, closed; one request per choice, and one per chat for where its prompt ends.

        "top" (OpenAI, llama.cpp): the log-probability that the first token is the whole choice, if it is among the 20
        likeliest, else -inf. The answer may go on after it, and a choice of several tokens is never seen: what is told
        is the probability of beginning with that token.

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
        said = Message("assistant", choices[0])
        for chat in chats if model not in self._endings else ():
            turns = self._rows(model, [(*chat, said)] * 2, checks, turns=["continue", "closed"], charged=True)
            open_, closed = turns
            if isinstance(open_, list) and isinstance(closed, list):
                self._endings[model] = self._ending(model, open_, closed)
                break
        prompts = self._rows(model, chats, checks, turns=["reply"] * len(chats), charged=True)
        asked = [(*chat, Message("assistant", choice)) for chat in chats for choice in choices]
        rows = self._rows(model, asked, checks, turns=["closed"] * len(asked))
        found = []
        for index, prompt in enumerate(prompts):
            of_chat = rows[index * len(choices) : (index + 1) * len(choices)]
            refusal = next((row for row in (prompt, *of_chat) if not isinstance(row, list)), None)
            if refusal or model not in self._endings:
                found.append(ChoiceScores((), "exact", str(refusal or "no scores")))
            else:
                found.append(self._exact(model, prompt, of_chat, choices))
        return found

    def finetune(self, model: str, rows: Sequence[Chat], how: FinetuneConfig, out: pathlib.Path) -> str:
        """Upload the rows, begin a job, wait for it. See `Backend`.

        A server is told the epochs, the batch size, the seed and `learning_rate_multiplier`; it chooses the rest. A
        field of `how` that cannot be sent must have its default, which then says nothing. `job.json` in `out` keeps
        the ids, so that a killed call is gone on with and nothing is paid for twice; see `jobs`.

        Raises:
            TuningError: the job failed or was cancelled, has not ended within `job_patience`, or `out` belongs to
                another one.
            BudgetExceededError: the budget does not allow the upload or the job.
            TuningClosedError: the server takes no jobs.
            CapabilityError: a field that cannot be sent is set, or the server trains in another way than it was told.
            TextDataError: no rows, or one that does not end with an assistant turn.
            ServerError: as `sample`; call again to go on.
        """
        job = finetune_job.Job(
            self._transport.url,
            model,
            rows,
            how,
            out,
            multiplier=self._multiplier,
            budget=self._budget,
            patience=self._job_patience,
        )
        return self._transport.one(job.run)

    async def _probe(self, ask: transport.Client) -> ServerFeatures:
        how, several = SamplingParams(max_tokens=1), True

        async def reply(num_samples: int) -> Any:
            body = self._body(self.model, HELLO, how, num_samples=num_samples, seed=0)
            size = budgets.prompt_bound(HELLO)
            self._budget.charge(budgets.Usage(num_samples, num_samples * size, num_samples))
            return await ask(lambda client: client.chat.completions.create(**body))

        try:
            found = await reply(2)
        except errors.CapabilityError:  # some refuse several
            found, several = await reply(1), False
        checks = validation.ResponseValidator(self._transport.url, self.model, fingerprint=None)
        if len(checks.choices(found)) == 1:
            several = False
        checks.completions(found, HELLO, num_samples=2 if several else 1, max_tokens=1)

        def none_there(said: transport.ErrorResponse) -> errors.LanguageError | None:
            absent = said.status in (400, 403, 404, 405, 410, 422, 501)
            return errors.CapabilityError("no finetuning") if absent else None

        tuning = True
        try:
            await ask(lambda client: client.fine_tuning.jobs.list(limit=1), explain=none_there)
        except errors.CapabilityError:
            tuning = False
        weights = found.system_fingerprint if isinstance(found.system_fingerprint, str) else None
        return ServerFeatures(several, tuning, weights, bool(weights and weights.startswith(server.FINGERPRINT_PREFIX)))

    def _body(
        self, model: str, chat: Chat, how: SamplingParams, *, num_samples: int, seed: int, **more: Any
    ) -> dict[str, Any]:
        """The arguments of a chat request."""
        limit = "max_completion_tokens" if self._dialect == "openai" else "max_tokens"
        body: dict[str, Any] = {
            "model": model,
            "messages": [message._asdict() for message in chat],
            "temperature": how.temperature,
            "top_p": how.top_p,
            "seed": seed,
            limit: how.max_tokens,
        }
        if num_samples > 1:
            body["n"] = num_samples
        if how.stop:
            body["stop"] = list(how.stop)
        body["extra_body"] = {**self._extra, **more}
        return body

    def _checks(self, model: str) -> validation.ResponseValidator:
        weights = self.facts.system_fingerprint if self._dialect != "openai" and model == self.model else None
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
            body = self._body(
                model, chats[index], SamplingParams(max_tokens=1), num_samples=1, seed=0, **flags,
                continue_final_message=turns[index] == "continue",
            )  # fmt: skip

            async def ask_once(ask: transport.Client) -> tuple[int, list[validation.Scored] | errors.RefusedError]:
                if charged:
                    self._budget.charge(budgets.Usage(1, budgets.prompt_bound(chats[index]), 1))
                try:
                    reply = await ask(lambda client: client.chat.completions.create(**body), explain=validation.explain)
                    return index, checks.prompt_row(reply)
                except errors.RefusedError as refusal:
                    return index, refusal

            return ask_once

        return self._in_order(asked, len(chats))

    def _in_order(self, asked: Callable[[int], transport.Task], count: int) -> list[Any]:
        """What requests return that come back with their numbers."""
        found = {}
        for index, value in self._transport.each(map(asked, range(count))):
            found[index] = value
            self.on_progress("answers", len(found), count)
        return [found[index] for index in range(count)]

    def _exact(self, model: str, prompt: Any, rows: Sequence[Any], choices: Sequence[str]) -> ChoiceScores:
        """Scores of the choices after one prompt, from the scored tokens of the prompt and of each closed answer."""
        seen: dict[tuple[str, ...], str] = {}
        logprobs = []
        for choice, row in zip(choices, rows, strict=True):
            reply = self._reply(model, prompt, row, self._endings[model])
            other = seen.setdefault(tuple(token.id for token in reply), choice)
            if other != choice:
                raise errors.CapabilityError(
                    f"{self._transport.url}: the template of {model!r} writes {other!r} and {choice!r} alike, so "
                    f"that they would count twice. Leave one of them out."
                )
            logprobs.append(math.fsum(token.logprob for token in reply))
        return ChoiceScores(tuple(logprobs), "exact")

    def _ending(self, model: str, open_: list[validation.Scored], closed: list[validation.Scored]) -> list[str]:
        """The tokens that close a turn: what the closed row has after the open one."""
        if _ids(closed[: len(open_)]) != _ids(open_) or len(closed) == len(open_):
            raise errors.CapabilityError(
                f"{self._transport.url}: the template of {model!r} does not close an assistant's turn after its text, "
                f"so that whole answers cannot be scored. Score them locally."
            )
        return _ids(closed[len(open_) :])

    def _reply(
        self, model: str, prompt: list[validation.Scored], row: list[validation.Scored], ending: list[str]
    ) -> list[validation.Scored]:
        """The tokens of a choice and the one that ends it, of a closed row."""
        stop = len(row) - len(ending)
        if _ids(row[: len(prompt)]) != _ids(prompt) or _ids(row[stop:]) != ending or stop < len(prompt):
            raise errors.CapabilityError(
                f"{self._transport.url}: the template of {model!r} writes an answer given in the chat otherwise than "
                f"one that it generates, e.g. without its thinking, so that choices cannot be scored there. Set the "
                f"template's switch in extra_body (chat_template_kwargs), or score locally."
            )
        return row[len(prompt) : stop + 1]

    def _top(self, model: str, chats: Sequence[Chat], choices: Sequence[str]) -> list[ChoiceScores]:
        checks = self._checks(model)

        def asked(index: int) -> transport.Task:
            body = self._body(model, chats[index], SamplingParams(max_tokens=1), num_samples=1, seed=0)

            async def ask_once(ask: transport.Client) -> tuple[int, ChoiceScores]:
                likeliest = {"logprobs": True, "top_logprobs": LIKELIEST}
                try:
                    reply = await ask(
                        lambda client: client.chat.completions.create(**body, **likeliest), explain=validation.explain
                    )
                    seen = checks.top(reply, LIKELIEST)
                except errors.RefusedError as refusal:
                    return index, ChoiceScores((), "top", str(refusal))
                scores = tuple(seen.get(choice, -math.inf) if choice else -math.inf for choice in choices)
                return index, ChoiceScores(scores, "top")

            return ask_once

        return self._in_order(asked, len(chats))


def _ids(row: Sequence[validation.Scored]) -> list[str]:
    return [token.id for token in row]


def derive_seed(seed: int, chat: Chat, first: int) -> int:
    """Seed, 31 bits, of the samples of a chat from `first` on."""
    text = json.dumps([seed, chat, first])
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) >> 1
