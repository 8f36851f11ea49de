"""The budget against a ledger kept by hand: it is never overspent, and what was paid is written down."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors
from sublim_jax.llm import budget as budgets

amounts = st.builds(budgets.Usage, st.integers(0, 5), st.integers(0, 50), st.integers(0, 50))
limits = st.none() | st.integers(0, 200)
PRICES = budgets.Prices(prompt=100_000.0, completion=400_000.0)  # 0.1 and 0.4 a token


@given(
    requests=limits,
    prompt_tokens=limits,
    completion_tokens=limits,
    money=st.none() | st.floats(0, 60),
    steps=st.lists(st.tuples(amounts, st.floats(0, 1), st.integers(0, 30)), max_size=30),
)
def test_a_budget_is_never_overspent_whatever_comes_back_when(requests, prompt_tokens, completion_tokens, money, steps):
    """Against a ledger by hand; an amount is refused exactly if the ledger says that it could overspend."""
    upper = [requests, prompt_tokens, completion_tokens, money]
    budget = budgets.Budget(**dict(zip((*budgets.Usage._fields, "money"), upper, strict=True)), prices=PRICES)
    open_, spent = [], [0, 0, 0]

    def allowed(amounts):
        total = [sum(column) for column in zip(*amounts, strict=True)]
        bill = (total[1] * 100_000.0 + total[2] * 400_000.0) / 1e6
        return all(limit is None or value <= limit for value, limit in zip([*total, bill], upper, strict=True))

    for most, share, which in steps:
        if allowed([spent, *open_, most]):
            budget.reserve(most)
            open_.append(most)
        else:
            before = budget.reserved
            with pytest.raises(errors.BudgetExceededError, match="does not allow"):
                budget.reserve(most)
            assert budget.reserved == before
        if open_ and which % 3:
            back = open_.pop(which % len(open_))
            used = budgets.Usage(*(math.floor(share * value) for value in back))
            budget.settle(back, used)
            spent = [a + b for a, b in zip(spent, used, strict=True)]
        assert tuple(budget.spent) == tuple(spent) and allowed([spent])
        assert tuple(budget.reserved) == tuple(map(sum, zip([0, 0, 0], *open_, strict=True)))
        assert budget.cost == (spent[1] * 100_000.0 + spent[2] * 400_000.0) / 1e6


def test_an_overrun_is_written_down_and_nothing_that_was_not_reserved_is_settled():
    budget = budgets.Budget(completion_tokens=10)
    budget.reserve(budgets.Usage(1, 5, 8))
    with pytest.raises(ValueError, match="only"):
        budget.settle(budgets.Usage(2, 5, 8), budgets.Usage())
    budget.settle(budgets.Usage(1, 5, 8), budgets.Usage(1, 5, 12))  # a server that ignored max_tokens: paid is paid
    assert budget.spent.completion_tokens == 12 and budget.short(budgets.Usage()) == "10 completion tokens"


def test_limits_and_prices_are_checked():
    for bad, message in (
        ({"requests": -1}, "Budget.requests: must be at least 0, got -1"),
        ({"requests": 1.5}, "Budget.requests: expected a whole number"),
        ({"money": math.nan, "prices": PRICES}, "Budget.money: expected a finite number"),
        ({"money": 1.0}, "needs prices"),
    ):
        with pytest.raises(ValueError, match=message):
            budgets.Budget(**bad)
    for prompt in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"Prices\.prompt: "):
            budgets.Prices(prompt=prompt, completion=1.0)
