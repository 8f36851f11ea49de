"""Asking for completions and scores: only for what is not in a store, and for nothing beyond a budget.

    with store.Store(path) as answers:
        print(budgeted.plan(backend.caps, model, chats, params, answers))  # nothing is spent yet
        for completion in budgeted.sample_stored(backend, model, chats, params, answers, budget):
            ...

An answer is stored before it is handed on. A run that was killed is run again, and only what is missing is asked for.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Generator, Iterator, Sequence

from sublim_jax import errors, specs
from sublim_jax.llm import budget as budgets
from sublim_jax.llm import store as stores
from sublim_jax.llm import store_rows
from sublim_jax.llm.backend import Backend, Capabilities, Chat, ChoiceScores, Completion, Message, SamplingParams

MAX_REFUSED = 0.5
"""Share of the answers that a server may refuse before nothing more is sent."""
FEWEST_ANSWERS, FEWEST_CHATS = 100, 20  # before that share says anything; all chats where they are fewer


def plan(
    caps: Capabilities,
    model: str,
    chats: Sequence[Chat],
    params: SamplingParams,
    store: stores.Store,
    *,
    prices: budgets.Prices | None = None,
    prompt_tokens: Callable[[Chat], int] = budgets.prompt_bound,
) -> budgets.Plan:
    """What `sample_stored` would send for the same arguments. Nothing is sent or written."""
    lookup = store.find(caps.fingerprint, model, chats, params)
    most = _most(lookup.missing, _sizes(lookup.missing, chats, prompt_tokens), params)
    cost = None if prices is None else prices.cost(most)
    return budgets.Plan(new=len(lookup.missing), reused=len(lookup.here), most=most, cost=cost)


def sample_stored(
    backend: Backend,
    model: str,
    chats: Sequence[Chat],
    params: SamplingParams,
    store: stores.Store,
    budget: budgets.Budget | None = None,
    *,
    prompt_tokens: Callable[[Chat], int] = budgets.prompt_bound,
    max_refused: float = MAX_REFUSED,
) -> Iterator[Completion]:
    """Every (chat, sample) once: first those in the store, then fresh ones as they come in, stored before handed on.
    What a server refused is stored and handed on too.

    Nothing is sent before the first is taken. As many as the budget allows at their worst are sent together; when all
    are back and settled, as many as it still allows, until not a single one fits.

    Chats without any stored sample are asked together with `params.seed`, so an empty store gives what the backend
    gives. Where some samples of a chat are stored and others are missing, the missing ones are drawn with a seed made
    of `params.seed` and of their numbers, because the same seed would give the same texts again. Samples of a chat are
    independent and have one distribution either way. Bit for bit they are those of an uninterrupted run only for
    `num_samples=1` and a backend in which a chat's text does not depend on the other chats.

    Args:
        prompt_tokens: tokens of a chat; only used to reserve.
        max_refused: share of the answers that may be refused; it is looked at from the hundredth answer on, when they
            are of twenty chats or of all.

    Raises:
        BudgetExceededError: the budget is used up. Everything that was sent is stored and was handed on.
        RefusedError: the server refuses more than `max_refused`. What came is stored, and no more is sent.
        CapabilityError: the backend answered other questions than it was asked, or left some out.
        StoreError: something is missing and the store is read-only, or the disk is full.
    """
    specs.check(max_refused, specs.Fraction, "max_refused")
    budget = _paying(backend, budget)
    lookup = store.find(backend.caps.fingerprint, model, chats, params)
    _refuse_readonly(store, len(lookup.missing))
    sizes = _sizes(lookup.missing, chats, prompt_tokens)
    budget.num_reused += len(lookup.here)
    refusals = Refusals(model, num_chats=len(chats), limit=max_refused)
    for completion in lookup.here:
        refusals.see(completion)
        yield completion
    if lookup.missing:
        refusals.check()
    left = {slot.key: slot for slot in lookup.missing}
    while left:
        on_their_way: dict[str, budgets.Usage] = {}
        for slot in left.values():
            most = budgets.Usage(1, sizes[slot.chat], params.max_tokens)
            if budget.short(most):
                break
            budget.reserve(most)
            on_their_way[slot.key] = most
        if not on_their_way:
            needed = _most(list(left.values()), sizes, params)
            counts = len(lookup.here) + len(lookup.missing), len(left), len(lookup.here)
            raise errors.BudgetExceededError(_used_up(store, budget, most, needed, *counts))
        asking = _ask(backend, model, chats, params, [left[key] for key in on_their_way])
        try:
            for slot, seed, completion in asking:
                used = budgets.Usage(1, completion.prompt_tokens, completion.completion_tokens)
                budget.settle(on_their_way.pop(slot.key), used)
                served = backend.caps.fingerprint
                store.put(slot.key, completion, model=model, served=served, seed=seed, draw=slot.draw)
                del left[slot.key]
                refusals.see(completion)
                yield completion
                refusals.check()
                # A server that adds to the chats needs more than was reserved, for those on their way too.
                longer = max(1.0, completion.prompt_tokens / max(1, sizes[slot.chat]))
                sizes = {chat: math.ceil(longer * size) for chat, size in sizes.items()} if longer > 1 else sizes
                if budget.short(budgets.Usage()):
                    break
        finally:
            asking.close()
            for most in on_their_way.values():  # never came back
                budget.settle(most, budgets.Usage())


def scores_stored(
    backend: Backend,
    model: str,
    chats: Sequence[Chat],
    choices: Sequence[str],
    store: stores.Store,
    budget: budgets.Budget | None = None,
    *,
    prompt_tokens: Callable[[Chat], int] = budgets.prompt_bound,
    batch_size: int = 64,
) -> list[ChoiceScores]:
    """Scores of all choices for every chat, from the store or fresh; equal chats are asked once.

    Scores come without token counts, so each is charged what was reserved for it: for every choice one request, the
    chat with the choice, and one token; one such request for all choices where only the most likely tokens are read.
    A chat that the server refused has scores without log-probabilities, and a reason.

    Args:
        batch_size: chats in one call of the backend; they are stored when it is done.

    Raises:
        BudgetExceededError: the budget is used up; what was sent is stored.
        CapabilityError: the backend cannot score choices, or scored other ones than it was asked.
        StoreError: something is missing and the store is read-only, or the disk is full.
    """
    specs.check(batch_size, specs.Count, "batch_size")
    budget = _paying(backend, budget)
    key_of = {chat: store_rows.scores_key(backend.caps, model, chat, choices) for chat in chats}
    left = [chat for chat, key in key_of.items() if store.scores(key) is None]
    _refuse_readonly(store, len(left))
    num_here = len(key_of) - len(left)
    budget.num_reused += num_here
    most_of = {}
    for chat in left:
        scored = [prompt_tokens((*chat, Message("assistant", choice))) for choice in choices]
        most_of[chat] = budgets.Usage(len(choices), sum(scored), len(choices))
        if backend.caps.choices == "top":
            most_of[chat] = budgets.Usage(1, prompt_tokens(chat), 1)
    while left:
        asked = []
        for chat in left[:batch_size]:
            if budget.short(most_of[chat]):
                break
            budget.reserve(most_of[chat])
            asked.append(chat)
        if not asked:
            needed = budgets.Usage()
            for chat in left:
                needed = needed.plus(most_of[chat])
            counts = len(key_of), len(left), num_here
            raise errors.BudgetExceededError(_used_up(store, budget, most_of[left[0]], needed, *counts))
        try:
            scores = backend.choice_logprobs(model, asked, choices)
        except BaseException:
            for chat in asked:  # never came back
                budget.settle(most_of[chat], budgets.Usage())
            raise
        for chat in asked:
            budget.settle(most_of[chat], most_of[chat])
        right = all(score.refusal or len(score.logprobs) == len(choices) for score in scores)
        if len(scores) != len(asked) or not right:
            raise errors.CapabilityError(
                f"{model}: asked to score {len(choices)} choices for each of {len(asked)} chats, the backend returned "
                f"{[len(score.logprobs) for score in scores]}"
            )
        for chat, score in zip(asked, scores, strict=True):
            store.put(key_of[chat], score, model=model, served=backend.caps.fingerprint)
        left = left[len(asked) :]
    stored = [store.scores(key_of[chat]) for chat in chats]
    return [score for score in stored if score is not None]


class Refusals:
    """How many answers a server has refused, and whether the run should end for it.

    Args:
        model: whose answers they are, for the message.
        num_chats: of all that are asked.
        limit: the share that may be refused.
    """

    def __init__(self, model: str, *, num_chats: int, limit: float):
        self._model, self._limit = model, limit
        self._fewest_chats = min(FEWEST_CHATS, num_chats)
        self._chats: set[int] = set()
        self._num_answers = 0
        self._reasons: collections.Counter[str] = collections.Counter()

    def see(self, completion: Completion) -> None:
        """Count this answer."""
        self._num_answers += 1
        self._chats.add(completion.chat)
        if completion.finish == "refused":
            self._reasons[completion.refusal] += 1

    def check(self) -> None:
        """End the run where the server refuses too many.

        Raises:
            RefusedError: more than the limit, of enough answers to enough chats.
        """
        if self._num_answers < FEWEST_ANSWERS or len(self._chats) < self._fewest_chats:
            return
        total = self._reasons.total()
        if total > self._limit * self._num_answers:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self._reasons.most_common())
            raise errors.RefusedError(
                f"{self._model}: the server refused {total:,} of the first {self._num_answers:,} answers "
                f"({total / self._num_answers:.0%}): {reasons}. More than {self._limit:.0%} end the run, which would "
                f"otherwise pay for what no filter keeps. What came is stored. Change the prompts or the server's "
                f"content filter, or raise max_refused (--max-refused) to continue."
            )


def _paying(backend: object, budget: budgets.Budget | None) -> budgets.Budget:
    """The budget, which the backend now also charges for requests that it adds itself."""
    budget = budgets.Budget() if budget is None else budget
    if isinstance(backend, budgets.Billed):
        backend.charge_to(budget)
    return budget


def _sizes(slots: Sequence[stores.Slot], chats: Sequence[Chat], prompt_tokens: Callable[[Chat], int]) -> dict[int, int]:
    """Prompt tokens of every chat that has to be asked, by its index."""
    return {index: prompt_tokens(chats[index]) for index in dict.fromkeys(slot.chat for slot in slots)}


def _most(slots: Sequence[stores.Slot], sizes: dict[int, int], params: SamplingParams) -> budgets.Usage:
    return budgets.Usage(len(slots), sum(sizes[slot.chat] for slot in slots), len(slots) * params.max_tokens)


def _ask(
    backend: Backend, model: str, chats: Sequence[Chat], params: SamplingParams, slots: Sequence[stores.Slot]
) -> Generator[tuple[stores.Slot, int, Completion], None, None]:
    """Answers for these slots, each with the seed it was drawn with, in one call for every different set of draws."""
    wanted = collections.Counter(chats)
    slots_of: dict[Chat, list[stores.Slot]] = {}
    for slot in slots:
        slots_of.setdefault(chats[slot.chat], []).append(slot)
    calls: dict[tuple[int, tuple[int, ...]], list[Chat]] = {}
    for chat, of_chat in slots_of.items():
        draws = tuple(slot.draw for slot in of_chat)
        whole = draws == tuple(range(wanted[chat] * params.num_samples))
        calls.setdefault((params.seed if whole else _top_up_seed(params.seed, draws), draws), []).append(chat)
    for (seed, draws), asked in calls.items():
        expected = {
            (index, sample): slot for index, chat in enumerate(asked) for sample, slot in enumerate(slots_of[chat])
        }
        answers = backend.sample(model, asked, dataclasses.replace(params, num_samples=len(draws), seed=seed))
        try:
            for answer in answers:
                slot = expected.pop((answer.chat, answer.sample), None)
                if slot is None:
                    raise errors.CapabilityError(
                        f"{model}: the backend returned sample {answer.sample} of chat {answer.chat} twice or unasked; "
                        f"it was asked for {len(draws)} samples of each of {len(asked)} chats"
                    )
                yield slot, seed, answer._replace(chat=slot.chat, sample=slot.sample)
        finally:
            close = getattr(answers, "close", None)
            if close is not None:
                close()
        if expected:
            raise errors.CapabilityError(
                f"{model}: the backend was asked for {len(draws)} samples of each of {len(asked)} chats and left out "
                f"{len(expected)} of them. Those that came are stored; run the same again for the others."
            )


def _top_up_seed(seed: int, draws: tuple[int, ...]) -> int:
    """Seed, 31 bits, for some draws of a chat. The same draws are asked for again only if none of them arrived, so no
    seed gives a chat two texts that are the same by construction."""
    return int(store_rows.digest(kind="seed", seed=int(seed), draws=draws)[:8], 16) >> 1


def _refuse_readonly(store: stores.Store, num_missing: int) -> None:
    if num_missing and store.readonly:
        raise errors.StoreError(
            f"{store.path}: {num_missing:,} answers are missing, and the store was opened read-only; open it to write"
        )


def _used_up(
    store: stores.Store,
    budget: budgets.Budget,
    most: budgets.Usage,
    needed: budgets.Usage,
    total: int,
    num_left: int,
    num_before: int,
) -> str:
    """What to say when `most` for the next answer, hence `needed` for all that are left, does not fit."""
    cost = "" if budget.cost is None else f", {budget.cost:,.2f} of money"
    cost_left = "" if budget.prices is None else f", {budget.prices.cost(needed):,.2f} of money"
    return (
        f"the budget of {budget.short(most)} is used up: {budget.spent}{cost} are spent, and the next answer may take "
        f"{most}. {total - num_left:,} of {total:,} answers are in {store.path} ({num_before:,} of them were before), "
        f"{num_left:,} are left and take at most {needed}{cost_left}. Raise the limit and run the same again: what is "
        f"stored costs nothing."
    )
