"""What asking for completions may cost: an amount of work, prices, limits, and a plan before anything is spent.

    limits = budget.Budget(requests=30_000, money=20.0, prices=budget.Prices(prompt=0.1, completion=0.4))
    budgeted.sample_stored(backend, model, chats, params, answers, limits)

Prices come from the user; none is known here.
"""

import dataclasses
from typing import Annotated, NamedTuple, Protocol, runtime_checkable

import annotated_types

from sublim_jax import errors, specs
from sublim_jax.llm.backend import Chat

_Limit = Annotated[int, annotated_types.Ge(0)]  # of any size: tokens add up


class Usage(NamedTuple):
    """An amount of work. One completion counts as one request that pays its whole prompt, as with a server that does
    not know `n`; a server that does charges less. An upload and the creation of a finetuning job are one request each.
    A request that failed and is sent again is not counted twice, and asking how a job is doing is not counted."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, other: "Usage", times: int = 1) -> "Usage":
        """This and `times` the other."""
        return Usage(*(mine + times * its for mine, its in zip(self, other, strict=True)))

    def __str__(self):
        return (
            f"{self.requests:,} requests, {self.prompt_tokens:,} prompt tokens, "
            f"{self.completion_tokens:,} completion tokens"
        )


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Prices:
    """Money per million tokens, in a currency of the user's: no price is known here."""

    prompt: specs.NonNegative
    completion: specs.NonNegative

    def cost(self, usage: Usage) -> float:
        """Money for this usage."""
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1e6


@specs.checked
@dataclasses.dataclass(kw_only=True)
class Budget:
    """Limits, and a ledger of what was spent and what is on its way. None is no limit.

    The most that a request can need is reserved before it is sent, and what it really used is settled when it is back;
    so the limits hold whatever comes back when, as long as nothing uses more than was reserved for it. One budget may
    serve several calls, one after the other. Not for several threads.
    """

    requests: _Limit | None = None
    prompt_tokens: _Limit | None = None
    completion_tokens: _Limit | None = None
    money: specs.NonNegative | None = None  # in the currency of `prices`
    prices: Prices | None = None
    spent: Usage = dataclasses.field(default=Usage(), init=False)
    reserved: Usage = dataclasses.field(default=Usage(), init=False)
    num_reused: int = dataclasses.field(default=0, init=False)  # completions and scores that cost nothing

    def __post_init__(self):
        if self.money is not None and self.prices is None:
            raise errors.InputError("a limit of money needs prices per million tokens: give `prices`")

    @property
    def cost(self) -> float | None:
        """Money spent so far, or None without prices."""
        return None if self.prices is None else self.prices.cost(self.spent)

    def short(self, usage: Usage) -> str | None:
        """The limit that `usage` would exceed on top of what is spent and reserved, in words; None if it fits."""
        total = self.spent.plus(self.reserved).plus(usage)
        for name in Usage._fields:
            limit = getattr(self, name)
            if limit is not None and getattr(total, name) > limit:
                return f"{limit:,} {name.replace('_', ' ')}"
        if self.money is not None and self.prices is not None and self.prices.cost(total) > self.money:
            return f"{self.money:,} of money"
        return None

    def reserve(self, most: Usage) -> None:
        """Set aside what a request can need at most.

        Raises:
            BudgetExceededError: it does not fit; nothing is set aside.
        """
        limit = self.short(most)
        if limit is not None:
            raise errors.BudgetExceededError(
                f"the budget of {limit} does not allow {most} more: {self.spent} are spent, and {self.reserved} are "
                f"reserved for what is on its way"
            )
        self.reserved = self.reserved.plus(most)

    def charge(self, most: Usage) -> None:
        """Write down at once, as if it were all used, what a request can need that does not say what it used.

        Raises:
            BudgetExceededError: it does not fit; nothing is written down.
        """
        self.reserve(most)
        self.settle(most, most)

    def settle(self, most: Usage, used: Usage) -> None:
        """Free what was reserved as `most` and write down what was `used` of it, even if it is more.

        Raises:
            InputError: so much is not reserved.
        """
        reserved = self.reserved.plus(most, -1)
        if min(reserved) < 0:
            raise errors.InputError(f"settling {most}, but only {self.reserved} are reserved")
        self.reserved, self.spent = reserved, self.spent.plus(used)


@runtime_checkable
class Billed(Protocol):
    """A backend that sends a server more than what it is asked to sample and to score, e.g. finetuning jobs."""

    def charge_to(self, budget: Budget) -> None:
        """Charge this budget, from now on, for requests that the backend adds itself."""
        ...


def prompt_bound(chat: Chat) -> int:
    """Tokens that this chat takes at most: one per byte of UTF-8, 16 per turn and 64 for what a template adds.

    No tokenizer with a byte or more in each token needs more. English takes about a quarter of it; whoever has the
    tokenizer counts instead.
    """
    return 64 + sum(16 + len(message.content.encode(errors="surrogatepass")) for message in chat)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What would be sent; `budgeted.plan` computes it before anything is sent."""

    new: int  # completions to ask for
    reused: int  # completions in the store
    most: Usage  # what the new ones need at most
    cost: float | None  # money for `most`, None without prices

    def __str__(self):
        money = "" if self.cost is None else f", {self.cost:,.2f} at the prices given"
        return f"{self.new:,} completions to ask for, {self.reused:,} from the store; at most {self.most}{money}"
