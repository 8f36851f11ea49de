"""What a server can do, found out by asking it."""

from typing import Any, NamedTuple

from sublim_jax import errors
from sublim_jax.llm import budget as budgets
from sublim_jax.llm import server
from sublim_jax.llm.backend import Chat, Message, SamplingParams
from sublim_jax.llm.openai import transport, validation
from sublim_jax.llm.openai.requests import ChatRequests

HELLO: Chat = (Message("user", "tell me a story"),)  # words that the embedded model has too


class ServerFeatures(NamedTuple):
    """What the probe of a server has shown."""

    several: bool  # it honours `n`; otherwise each sample is a separate request
    tuning: bool  # it has finetuning jobs
    system_fingerprint: str | None
    own: bool  # it is `serve`, whose samples depend on prompt and seed as those of `LocalBackend` do


async def probe(
    client: transport.Client, url: str, model: str, requests: ChatRequests, budget: budgets.Budget
) -> ServerFeatures:
    """Features of a server, by one request for two samples of one token and one for its finetuning jobs.

    Raises:
        BudgetExceededError: the budget does not allow it.
    """
    params, several = SamplingParams(max_tokens=1), True

    async def reply(num_samples: int) -> Any:
        body = requests.body(model, HELLO, params, num_samples=num_samples, seed=0)
        size = budgets.prompt_bound(HELLO)
        budget.charge(budgets.Usage(num_samples, num_samples * size, num_samples))
        return await client.send(lambda api: api.chat.completions.create(**body))

    try:
        response = await reply(2)
    except errors.CapabilityError:  # some refuse several
        response, several = await reply(1), False
    checks = validation.ResponseValidator(url, model, fingerprint=None)
    if len(checks.choices(response)) == 1:
        several = False
    checks.completions(response, HELLO, num_samples=2 if several else 1, max_tokens=1)

    def no_jobs(error: transport.ErrorResponse) -> errors.LanguageError | None:
        absent = error.status in (400, 403, 404, 405, 410, 422, 501)
        return errors.CapabilityError("no finetuning") if absent else None

    tuning = True
    try:
        await client.send(lambda api: api.fine_tuning.jobs.list(limit=1), explain=no_jobs)
    except errors.CapabilityError:
        tuning = False
    weights = response.system_fingerprint if isinstance(response.system_fingerprint, str) else None
    return ServerFeatures(several, tuning, weights, bool(weights and weights.startswith(server.FINGERPRINT_PREFIX)))
