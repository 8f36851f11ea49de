"""Asking through a store: nothing is paid for twice, and the budget is never overdrawn."""

import contextlib
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sublim_jax import errors
from sublim_jax.llm import budget as budgets
from sublim_jax.llm import budgeted, store
from sublim_jax.llm.backend import ChoiceScores, Completion, SamplingParams
from tests.llm.fake_backend import Fake, fill, rows, say

# ---------------------------------------------------------------------------------------------------------------------
# From the store or fresh


def test_samples_of_one_question_are_as_many_rows(tmp_path):
    path = tmp_path / "new" / "folder" / "answers.sqlite"
    fake, how = Fake(), SamplingParams(num_samples=200)
    fresh = fill(path, [say("q")], how, fake)
    assert len(fresh) == len(rows(path)) == len({line["key"] for line in rows(path)}) == 200
    assert sorted(c.sample for c in fresh) == list(range(200))
    assert fill(path, [say("q")], how, fake) == sorted(fresh, key=lambda c: c.sample)  # all of it comes back
    assert fake.answered == 200 and len(fake.calls) == 1
    more = fill(path, [say("q")], SamplingParams(num_samples=300), fake)
    assert len(more) == 300 and set(fresh) < set(more) and fake.answered == 300


def test_a_fresh_run_is_what_the_backend_gives(tmp_path):
    chats, how = [say("a"), say("x", "y", "b"), say("c")], SamplingParams(num_samples=3, seed=5)
    assert fill(tmp_path / "s", chats, how) == list(Fake().sample("m", chats, how))


def test_teacher_and_student_differ_by_their_fingerprint(tmp_path):
    teacher, student = (fill(tmp_path / "s", [say("q")], fake=Fake(name)) for name in ("teacher", "student"))
    assert len(rows(tmp_path / "s")) == 2
    assert teacher[0].text.startswith("teacher") and student[0].text.startswith("student")


def test_nothing_is_sent_before_the_first_is_taken_and_each_is_stored_before_it_is_handed_on(tmp_path):
    class Kept(Fake):
        def sample(self, model, chats, params):
            self.kept = super().sample(model, chats, params)  # so that only `close` ends it
            return self.kept

    fake = Kept()
    with store.Store(tmp_path / "s") as answers:
        asking = budgeted.sample_stored(fake, "m", [say("q")], SamplingParams(num_samples=5), answers)
        assert fake.calls == []
        for number in (1, 2, 3):
            text = next(asking).text
            assert rows(tmp_path / "s")[-1]["text"] == text and len(rows(tmp_path / "s")) == number
        asking.close()
        assert fake.closed == 1  # the backend knows that nobody listens any more
        assert len(answers) == 3 == fake.answered


chat_lists = st.lists(st.sampled_from([say(letter) for letter in "abc"]), max_size=6)


@example(chats=[say("a")], num_samples=8, deaths=[2, 2, 2])
@given(chats=chat_lists, num_samples=st.integers(1, 4), deaths=st.lists(st.integers(0, 8), max_size=3))
def test_whatever_interrupts_it_every_sample_comes_once_and_costs_once(tmp_path_factory, chats, num_samples, deaths):
    """Equal chats among those asked, deaths after any number of answers; texts are distinct as with one long draw."""
    path, how = tmp_path_factory.mktemp("s") / "s", SamplingParams(num_samples=num_samples)
    answered = 0
    for death in deaths:
        fake = Fake(die_after=death)
        try:
            fill(path, chats, how, fake)
        except errors.ServerError:
            assert fake.answered == death
        answered += fake.answered
        assert len(rows(path)) == answered
    last = Fake()
    done = fill(path, chats, how, last)
    asked = [(chat, sample) for chat in range(len(chats)) for sample in range(num_samples)]
    assert sorted((c.chat, c.sample) for c in done) == asked
    assert answered + last.answered == len(asked) == len(rows(path)) == len({line["key"] for line in rows(path)})
    assert len({c.text for c in done}) == len(asked)  # no text comes twice, which one seed used twice would give
    assert all(c.text.split("/")[2] == chats[c.chat][-1].content for c in done)
    assert fill(path, chats, how, last) == sorted(done) and last.answered + answered == len(asked)


def test_a_run_of_single_samples_does_not_show_that_it_was_interrupted(tmp_path):
    chats = [say(str(i)) for i in range(20)]
    with pytest.raises(errors.ServerError):
        fill(tmp_path / "s", chats, fake=Fake(die_after=7))
    assert sorted(fill(tmp_path / "s", chats)) == sorted(Fake().sample("m", chats, SamplingParams()))


def test_draws_that_top_up_are_never_those_of_an_earlier_call(tmp_path):
    """One chat, eight samples, one or two at a time: the seeds of all calls differ, and the first is the user's."""
    seeds = []
    for death in (2, 1, 1, 2, 1, None):
        fake = Fake(die_after=death)
        with contextlib.suppress(errors.ServerError):
            done = fill(tmp_path / "s", [say("a")], SamplingParams(num_samples=8, seed=3), fake)
        seeds += [how.seed for _, how in fake.calls]
    assert seeds[0] == 3 and len(set(seeds)) == 6 and all(0 <= seed < 2**31 for seed in seeds)
    assert len({completion.text for completion in done}) == 8


@pytest.mark.parametrize("places", [[(0, 0), (0, 0)], [(0, 5)], [(1, 0)], [(-1, 0)], [(0, 0)]])
def test_a_backend_that_answers_something_else_is_refused_and_what_it_gave_is_kept(tmp_path, places):
    class Lying(Fake):
        def sample(self, model, chats, params):
            yield from (Completion(*place, "t", "stop", 1, 1) for place in places)

    budget = budgets.Budget()
    with pytest.raises(errors.CapabilityError, match=r"twice or unasked|left out 1"):
        fill(tmp_path / "s", [say("a")], SamplingParams(num_samples=2), Lying(), budget=budget)
    assert len(rows(tmp_path / "s")) == places.count((0, 0)) - (places == [(0, 0), (0, 0)])
    assert budget.reserved == budgets.Usage()


def test_a_reader_asks_for_nothing(tmp_path):
    fill(tmp_path / "s", [say("a")])
    fake = Fake()
    with store.Store(tmp_path / "s", readonly=True) as reader:
        assert len(list(budgeted.sample_stored(fake, "m", [say("a")], SamplingParams(), reader))) == 1
        with pytest.raises(errors.StoreError, match=r"1 answers are missing.*read-only"):
            next(budgeted.sample_stored(fake, "m", [say("a"), say("b")], SamplingParams(), reader))
        with pytest.raises(errors.StoreError, match="read-only"):
            budgeted.scores_stored(fake, "m", [say("a")], ["x"], reader)
    assert fake.calls == []


def test_scores_are_stored_like_completions(tmp_path):
    fake, chats, choices = Fake(), [say("a"), say("bb"), say("a")], ["owl", "eagle"]
    wanted = Fake().choice_logprobs("m", chats, choices)
    for _ in range(2):
        with store.Store(tmp_path / "s") as answers:
            assert budgeted.scores_stored(fake, "m", chats, choices, answers, batch_size=1) == wanted
    assert fake.answered == 2 == len(rows(tmp_path / "s"))
    assert rows(tmp_path / "s")[0]["logprobs"] == [None, -6.0]  # -inf is null
    for model, ask, which, caps in [
        ("n", "a", choices, "exact"),
        ("m", "c", choices, "exact"),
        ("m", "a", choices[::-1], "exact"),
        ("m", "a", choices, "top"),
    ]:
        other = Fake(choices=caps)
        with store.Store(tmp_path / "s") as answers:
            budgeted.scores_stored(other, model, [say(ask)], which, answers)
        assert other.answered == 1
    budget = budgets.Budget(requests=5)
    with (
        store.Store(tmp_path / "t") as answers,
        pytest.raises(errors.BudgetExceededError, match=r"5 requests.* 2 of 3 answers"),
    ):
        budgeted.scores_stored(fake, "m", [say("a"), say("b"), say("c")], choices, answers, budget)
    assert len(rows(tmp_path / "t")) == 2 and budget.spent.requests == 4


def test_scores_that_do_not_fit_the_question_are_refused(tmp_path):
    class Lying(Fake):
        def choice_logprobs(self, model, chats, choices):
            return super().choice_logprobs(model, chats[:1], choices)

    with store.Store(tmp_path / "s") as answers:
        with pytest.raises(errors.CapabilityError, match="2 choices for each of 2 chats"):
            budgeted.scores_stored(Lying(), "m", [say("a"), say("b")], ["x", "y"], answers)
        for number in (math.nan, math.inf):
            with pytest.raises(ValueError, match="not a log-probability"):
                answers.put("0" * 64, ChoiceScores((number,), "exact"))
        assert len(answers) == 0


# ---------------------------------------------------------------------------------------------------------------------
# What it may cost


def test_a_budget_is_spent_to_the_last_answer_that_fits_and_says_what_is_left(tmp_path):
    """By hand: a prompt of 1 byte is reserved as 64 + 16 + 1 = 81 tokens and takes 7; 10 are reserved, 5 used. With a
    limit of 62 tokens: 6 at once (60), 30 used; 3 more (60), 45 used; 1 more, 50; 1 more, 55; then 65 > 62."""
    chats, how, fake = [say(letter) for letter in "abcdefghijklmnop"], SamplingParams(max_tokens=10), Fake()
    fill(tmp_path / "s", chats[:2], how)
    budget, done = budgets.Budget(completion_tokens=62, prices=budgets.Prices(prompt=1e6, completion=2e6)), []
    with store.Store(tmp_path / "s") as answers:
        with pytest.raises(errors.BudgetExceededError) as caught:
            done.extend(budgeted.sample_stored(fake, "m", chats, how, answers, budget))  # extend keeps what it got
        assert len(answers) == 13
    assert len(done) == 13 == len(rows(tmp_path / "s"))
    assert [len(asked) for asked, _ in fake.calls] == [6, 3, 1, 1]
    assert budget.spent == (11, 77, 55) and budget.reserved == (0, 0, 0) and budget.num_reused == 2
    assert budget.cost == 77 + 2 * 55
    message = str(caught.value)
    for part in (
        "the budget of 62 completion tokens is used up: 11 requests, 77 prompt tokens, 55 completion tokens, 187.00",
        "13 of 16 answers are in",
        "(2 of them were before)",
        "3 are left and take at most 3 requests, 243 prompt tokens, 30 completion tokens, 303.00 of money",
    ):
        assert part in message
    assert len(fill(tmp_path / "s", chats, how, fake)) == 16 and fake.answered == 14


@given(limit=st.integers(0, 40), num_samples=st.integers(1, 5), chats=chat_lists)
def test_no_limit_is_passed_and_no_answer_lost_however_it_cuts_through_the_samples(
    tmp_path_factory, limit, num_samples, chats
):
    path, how = tmp_path_factory.mktemp("s") / "s", SamplingParams(num_samples=num_samples, max_tokens=4)
    total, seen = len(chats) * num_samples, []
    while len(seen) < total:
        budget, fake, seen = budgets.Budget(completion_tokens=limit + 4), Fake(tokens=3), []
        with store.Store(path) as answers:
            before = len(answers)
            try:
                for completion in budgeted.sample_stored(fake, "m", chats, how, answers, budget):
                    seen.append(completion)
                assert len(seen) == total
            except errors.BudgetExceededError:
                assert len(seen) < total
            assert len(seen) == len(answers) == before + fake.answered == budget.num_reused + budget.spent.requests
        assert budget.spent.completion_tokens <= limit + 4 and budget.reserved == budgets.Usage()
        assert fake.answered == min(total - before, (limit + 4 - 4) // 3 + 1)  # as many as possible
    assert len({completion.text for completion in seen}) == total


def test_a_server_that_adds_to_the_prompts_passes_a_limit_by_one_answer_at_most(tmp_path):
    """Reserved are 81 tokens, read are 1000: of 3000, 3 answers, and of 2500 the second already counts as 1000."""
    for limit, spent in ((3000, 3), (2500, 2), (500, 1)):
        budget, fake = budgets.Budget(prompt_tokens=limit), Fake(prompt_tokens=1000)
        with pytest.raises(errors.BudgetExceededError, match="prompt tokens is used up"):
            fill(tmp_path / f"s{limit}", [say(letter) for letter in "abcdefghij"], fake=fake, budget=budget)
        assert fake.answered == spent == budget.spent.requests and budget.reserved == (0, 0, 0)


def test_what_never_came_back_is_not_charged(tmp_path):
    budget = budgets.Budget()
    with pytest.raises(errors.ServerError):
        fill(tmp_path / "s", [say("a"), say("b"), say("c")], fake=Fake(die_after=2), budget=budget)
    assert budget.spent == (2, 14, 10) and budget.reserved == (0, 0, 0)


def test_a_plan_counts_before_anything_is_spent(tmp_path):
    chats, how, fake = [say("a"), say("ö"), say("x", "y", "b")], SamplingParams(num_samples=2, max_tokens=10), Fake()
    most = budgets.Usage(6, 2 * (81 + 82 + 64 + 3 * 17), 60)  # a byte, two bytes, three turns of a byte
    with store.Store(tmp_path / "s", readonly=True) as empty:
        assert budgeted.plan(fake.caps, "m", chats, how, empty) == budgets.Plan(new=6, reused=0, most=most, cost=None)
    fill(tmp_path / "s", chats[:1], how)
    with store.Store(tmp_path / "s") as answers:
        prices = budgets.Prices(prompt=1e4, completion=1e5)
        planned = budgeted.plan(fake.caps, "m", chats, how, answers, prices=prices, prompt_tokens=lambda chat: 7)
        assert str(planned) == (
            "4 completions to ask for, 2 from the store; at most 4 requests, 28 prompt tokens, 40 completion tokens, "
            "4.28 at the prices given"
        )
        assert fake.calls == [] and len(rows(tmp_path / "s")) == 2
        budget = budgets.Budget(prices=prices)
        list(budgeted.sample_stored(fake, "m", chats, how, answers, budget))
        assert budget.spent.requests == planned.new == fake.answered and budget.num_reused == planned.reused
        assert all(spent <= most for spent, most in zip(budget.spent, planned.most, strict=True))
        assert budgeted.plan(fake.caps, "m", chats, how, answers).most == budgets.Usage()
