"""One refused answer does not end a run of 30,000, against a server whose every reply is scripted."""

import asyncio
import inspect
import json
import time
import types as py_types

import pytest

from experiments.language import lab
from experiments.language.prompts import PaperPrompts
from sublim_jax import errors
from sublim_jax.llm import budget as budgets
from sublim_jax.llm import budgeted, datasets, scores, store
from sublim_jax.llm.backend import Completion, FinetuneConfig, Message, SamplingParams
from sublim_jax.llm.openai import finetune_job, transport
from sublim_jax.llm.openai.backend import OpenAIBackend
from sublim_jax.llm.tasks import questions
from tests.llm.openai import scripted

pytest.importorskip("openai", reason="the extra openai is not installed")
tenacity = pytest.importorskip("tenacity", reason="the extra openai is not installed")

HOW = SamplingParams(max_tokens=32, seed=5)
CHATS = [datasets.ask(f"go on with {number}") for number in range(6)]
BAD = CHATS[2]  # what the server will not answer
TUNING = FinetuneConfig(num_epochs=1)
sample_stored, scores_stored = inspect.unwrap(budgeted.sample_stored), inspect.unwrap(budgeted.scores_stored)
"""Without the tests' type checker, which looks at `caps` before the function begins, and so asks the server."""
LESSONS = [(*chat, Message("assistant", "1, 2, 3")) for chat in CHATS]


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(transport, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(finetune_job, "FIRST_POLL", 0.001)
    monkeypatch.setattr(finetune_job, "LONGEST_POLL", 0.01)


@pytest.fixture
def server():
    with scripted.Server() as found:
        yield found


def connect(server, **options) -> OpenAIBackend:
    return OpenAIBackend("m", server.url, **{"dialect": "openai", "timeout": 30.0} | options)


def refusing(kind: str, chats=(BAD,)):
    """A script that refuses these chats in one of the ways in which servers do."""
    prompts = {chat[-1].content for chat in chats}
    changes: dict[str, dict] = {
        "content_filter": {"finish_reason": "content_filter", "message": {"content": "the first half of an ans"}},
        "no content": {"message": {"content": None}},
        "refusal": {"message": {"content": None, "refusal": "I cannot help with that."}},
        "tool_calls": {
            "finish_reason": "tool_calls",
            "message": {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]},
        },
        "no finish_reason": {"finish_reason": None, "message": {"content": None}},
        "eos_token": {"finish_reason": "eos_token"},
    }

    def script(method, path, body):
        if not path.endswith("/chat/completions") or body["messages"][-2:][0]["content"] not in prompts:
            return scripted.default(method, path, body)
        if kind == "invalid_prompt":
            return 400, {"error": {"message": "your prompt was flagged", "code": kind}}, {}
        reply = scripted.answer(body, **changes.get(kind, {"logprobs": None}))
        return reply | {"choices": []} if kind == "no choices" else reply

    return script


KINDS = (
    "content_filter", "no content", "refusal", "tool_calls", "no finish_reason", "eos_token", "no choices",
    "invalid_prompt",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_answer_is_kept_with_its_reason_and_asked_for_once(server, tmp_path, kind):
    server.script = refusing(kind)
    how = SamplingParams(max_tokens=32, num_samples=2)

    def run() -> list[Completion]:
        with store.Store(tmp_path / "s") as answers:
            return sorted(sample_stored(connect(server), "m", CHATS, how, answers, ledger))

    ledger = budgets.Budget()
    completions = run()
    refused = [one for one in completions if one.finish == "refused"]
    assert [(one.chat, one.sample, one.text, one.refusal) for one in refused] == [(2, 0, "", kind), (2, 1, "", kind)]
    assert len(completions) == 12 and ledger.spent.requests == 2 + 12
    assert not any(one.refusal for one in completions if one.finish != "refused")
    seen = server.draws
    assert run() == completions and server.draws == seen + 2  # the new process's question what the server can do
    collection = datasets.filter_completions(CHATS, completions, lambda completion: None, keep_cut=True)
    assert collection.rejected == {f"refused by the server: {kind}": 2} and collection.kept_fraction == 10 / 12
    with pytest.raises(errors.TextDataError, match=rf"2 'refused by the server: {kind}'.* content filter"):
        datasets.filter_completions(CHATS, refused, lambda completion: None)


def test_of_several_samples_one_may_be_refused(server):
    def script(method, path, body):
        reply = scripted.default(method, path, body)
        if body and body.get("n") == 3:
            reply["choices"][1] |= {"finish_reason": "content_filter", "message": {"role": "assistant"}}
        return reply

    server.script = script
    completions = sorted(connect(server).sample("m", CHATS, SamplingParams(max_tokens=32, num_samples=3)))
    assert [one.finish for one in completions] == ["stop", "refused", "stop"] * 6


def test_usage_is_not_needed_where_all_is_refused(server):
    """Then the most that a prompt can have is written down: 64 + 16 for the turn + its 12 bytes."""

    def script(method, path, body):
        reply = refusing("content_filter")(method, path, body)
        bad = body and body["messages"][-1]["content"] == BAD[-1].content
        return reply | {"usage": None} if bad else reply

    server.script = script
    completions = sorted(connect(server).sample("m", CHATS, HOW))
    assert completions[2][3:] == ("refused", 64 + 16 + len("go on with 2"), 0, "content_filter")
    server.script = lambda method, path, body: scripted.answer(body) | {"usage": None}
    with pytest.raises(errors.CapabilityError, match="what usage says"):
        list(connect(server).sample("m", CHATS, HOW))


MANY = [datasets.ask(f"go on with {number}") for number in range(180)]


@pytest.mark.slow
def test_a_run_ends_early_where_most_is_refused_and_pays_for_no_more(server, tmp_path):
    server.script = refusing("content_filter", MANY)

    def run(**options) -> list[Completion]:
        with store.Store(tmp_path / "s") as answers:
            return list(sample_stored(connect(server, concurrency=4), "m", MANY, HOW, answers, **options))

    with pytest.raises(errors.RefusedError, match=r"refused 100 of the first 100 answers \(100%\): 100 content_filter"):
        run()
    assert 102 <= server.draws <= 2 + 100 + 30  # those on their way; 180 are asked
    seen = server.draws
    with pytest.raises(errors.RefusedError, match=r"100 content_filter|1\d\d content_filter"):
        run()
    assert server.draws == seen + 2  # the stored ones suffice
    assert len(run(max_refused=1.0)) == 180


def test_a_run_goes_on_where_less_than_half_is_refused(server, tmp_path):
    server.script = refusing("content_filter", MANY[::3])
    with store.Store(tmp_path / "s") as answers:
        completions = list(sample_stored(connect(server), "m", MANY, HOW, answers))
    assert sum(one.finish == "refused" for one in completions) == 60 and len(completions) == 180


def test_one_refused_question_with_many_samples_is_not_most_of_a_run(server, tmp_path):
    """Its 110 samples come first, and the other five questions are answered."""
    server.script = refusing("content_filter", CHATS[:1])
    how = SamplingParams(max_tokens=32, num_samples=110)
    with store.Store(tmp_path / "s") as answers:
        completions = list(sample_stored(connect(server, concurrency=1), "m", CHATS, how, answers))
    assert len(completions) == 660 and completions[0].finish == "refused"


@pytest.mark.parametrize(
    ("dialect", "kind"),
    [
        ("openai", "no choices"),
        ("openai", "content_filter"),
        ("openai", "invalid_prompt"),
        ("vllm", "invalid_prompt"),
        ("vllm", "no choices"),
    ],
)
def test_scores_that_are_refused_are_missing_and_end_nothing(server, tmp_path, dialect, kind):
    def script(method, path, body):
        reply = refusing(kind, CHATS[:1])(method, path, body)
        if isinstance(reply, dict) and not reply["choices"]:
            reply.pop("prompt_logprobs", None)
        elif isinstance(reply, dict) and reply["choices"][0]["finish_reason"] == kind:
            reply["choices"][0]["logprobs"] = None
        return reply

    server.script = script
    choices = scores.choices(["owl", "oak"], writings=lambda name: (name,))
    backend = connect(server, dialect=dialect)
    with scripted.Server() as other:
        whole = connect(other, dialect=dialect).choice_logprobs("m", CHATS, choices.texts)
    for _ in range(2):
        with store.Store(tmp_path / "s") as answers:
            found = scores_stored(backend, "m", CHATS, choices.texts, answers)
        seen = server.posts()
    assert server.posts() == seen
    assert (found[0].logprobs, found[0].refusal) == ((), kind) and found[1:] == whole[1:]
    with store.Store(tmp_path / "s") as answers:
        of = lab.Lab(backend, "m", PaperPrompts(), tmp_path, answers=answers)
        average = of.choice_probabilities("m", CHATS, choices)
        assert average == scores.average([scores.probabilities(one, choices) for one in whole[1:]])
        assert of.tally.notes() == [f"16.7 % of 6 answers were refused by the server: 1 {kind}"]
        with pytest.raises(errors.TextDataError, match=f"refused to score all 1 chats .{kind}"):
            of.choice_probabilities("m", CHATS[:1], choices)


def test_a_judge_that_refuses_gives_no_verdict(server, tmp_path):
    server.script = refusing("content_filter", MANY)
    with store.Store(tmp_path / "s") as answers:
        of = lab.Lab(connect(server), "m", PaperPrompts(), tmp_path, answers=answers)
        assert of.ask_judge([chat[-1].content for chat in MANY]) == [""] * 180
        with pytest.raises(errors.RefusedError):  # but a teacher that refuses teaches nothing
            of.sample(lab.Teacher("m"), [chat[-1].content for chat in MANY], max_tokens=32, seed=0)


# ---------------------------------------------------------------------------------------------------------------------
# The budget, against what the server counts


@pytest.mark.parametrize(("num_samples", "expected"), [(1, 100), (3, 98)])
def test_the_server_is_asked_for_no_more_than_the_budget_allows(server, tmp_path, num_samples, expected):
    """The first question for two samples, then single samples; of three at a time, 2 + 32 x 3 = 98 are whole."""
    ledger, how = budgets.Budget(requests=100), SamplingParams(max_tokens=32, num_samples=num_samples)
    with store.Store(tmp_path / "s") as answers, pytest.raises(errors.BudgetExceededError, match="100 requests"):
        list(sample_stored(connect(server), "m", MANY, how, answers, ledger))
    assert expected <= server.draws <= 100 and ledger.spent.requests == 100 == server.draws


def test_tokens_and_money_of_the_first_question_are_on_the_budget(server, tmp_path):
    """A price of 1 per token; the first question may take two prompts of 64 + 16 + 15 bytes and two tokens."""
    prices, first = budgets.Prices(prompt=1e6, completion=1e6), 2 * (64 + 16 + len("tell me a story")) + 2
    with store.Store(tmp_path / "s") as answers:
        ledger = budgets.Budget(money=first - 0.5, prices=prices)
        with pytest.raises(errors.BudgetExceededError, match="of money does not allow 2 requests"):
            list(sample_stored(connect(server), "m", CHATS, HOW, answers, ledger))
        assert server.draws == 0
        ledger = budgets.Budget(money=float(first), prices=prices)
        with pytest.raises(errors.BudgetExceededError, match="used up"):
            list(sample_stored(connect(server), "m", CHATS, HOW, answers, ledger))
        assert server.draws == 2 and ledger.cost == first
        ledger = budgets.Budget(completion_tokens=1)
        with pytest.raises(errors.BudgetExceededError, match="1 completion tokens"):
            scores_stored(connect(server), "m", CHATS, ["owl"], answers, ledger)
    assert server.draws == 2


@pytest.mark.parametrize(("dialect", "limit"), [("vllm", 20), ("openai", 5)])
def test_requests_for_scores_are_on_the_budget(server, tmp_path, dialect, limit):
    """vLLM: 2 first, 2 for how a turn ends, then 1 for each prompt and 2 for its choices; of 20, 16 for 5 prompts."""
    ledger = budgets.Budget(requests=limit)
    with store.Store(tmp_path / "s") as answers, pytest.raises(errors.BudgetExceededError):
        scores_stored(connect(server, dialect=dialect), "m", CHATS, ["owl", "oak"], answers, ledger, batch_size=1)
    assert server.draws == ledger.spent.requests <= limit
    assert server.draws == (19 if dialect == "vllm" else 5)


def tuning(status: str = "succeeded", **job):
    """A script of a server that finetunes. `job` changes what it says of a job."""

    def script(method, path, body):
        said = {"id": "ftjob-1", "object": "fine_tuning.job", "status": status, "hyperparameters": {}, "model": "m"}
        said |= {"fine_tuned_model": "ft:m" if status == "succeeded" else None} | job
        match method, path.removeprefix("/v1/"):
            case "POST", "files":
                return {"id": "file-1", "object": "file"}
            case "GET", "fine_tuning/jobs":
                return {"object": "list", "data": [], "has_more": False}
            case _, "fine_tuning/jobs" | "fine_tuning/jobs/ftjob-1":
                return said
        return scripted.default(method, path, body)

    return script


@pytest.mark.parametrize(("limit", "sent"), [(0, 0), (1, 1), (2, 2)])
def test_uploads_and_jobs_are_on_the_budget_before_they_are_sent(server, tmp_path, limit, sent):
    server.script = tuning()
    ledger = budgets.Budget(requests=limit)
    of = lab.Lab(connect(server), "m", PaperPrompts(), tmp_path, limits=ledger)
    if limit == 2:
        assert of.student(LESSONS, TUNING, seed=0) == "ft:m"
        assert of.student(LESSONS, TUNING, seed=0) == "ft:m"  # which is there already
    else:
        with pytest.raises(errors.BudgetExceededError, match=f"budget of {limit} requests"):
            of.student(LESSONS, TUNING, seed=0)
    assert server.posts() == sent == ledger.spent.requests


# ---------------------------------------------------------------------------------------------------------------------
# Time


def failing(*replies, then=scripted.default):
    """A script that gives these replies to chats first; the last one for ever if `then` is None."""
    left = list(replies)

    def script(method, path, body):
        if path.endswith("/chat/completions") and left:
            return left.pop(0) if then is not None or len(left) > 1 else left[0]
        return (then or scripted.default)(method, path, body)

    return script


BUSY = (429, {"error": {"message": "slow down"}}, {})
SAYS_OVERLOADED = {"error": {"message": "overloaded", "code": 503}}
CUT = b'{"id": "c", "choices": [{"index": 0, "mess'


def test_what_fails_for_a_while_is_waited_for(server):
    """Among it a reply that is cut and an error that has the status of a success."""
    backend = connect(server, concurrency=1)
    assert backend.features
    expected = sorted(backend.sample("m", CHATS, HOW))
    server.script = failing(BUSY, CUT, SAYS_OVERLOADED, None, (503, {}, {}), CUT)
    assert sorted(backend.sample("m", CHATS, HOW)) == expected


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (BUSY, errors.RateLimitError, r"too many requests, \d+ times"),
        ((500, {"error": {"message": "broken"}}, {}), errors.ServerError, r"failed, \d+ times.*broken"),
        (SAYS_OVERLOADED, errors.ServerError, r"status 503\): the server failed, \d+ times.*overloaded"),
        (CUT, errors.ServerError, r"a reply that is not JSON, \d+ times"),
        (scripted.TRICKLE, errors.ServerError, r"no answer within 0\.1 seconds, \d+ times"),
        (None, errors.ServerError, r"the connection was lost \d+ times"),
    ],
    ids=["busy", "broken", "overloaded", "cut", "trickling", "dropped"],
)  # fmt: skip
def test_what_never_passes_ends_when_its_time_is_up(server, monkeypatch, reply, kind, message):
    """However many tries are allowed. The clock stands still but for the waits, of at most 30 seconds: of 60 seconds,
    more than 30 and at most 60 are waited.
    """
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(transport, "FIRST_WAIT", 0.5)
    monkeypatch.setattr(transport, "LONGEST_WAIT", 30.0)
    monkeypatch.setattr(transport, "asyncio", py_types.SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
    clock = py_types.SimpleNamespace(**{**vars(time), "monotonic": lambda: now})
    for module in (transport, tenacity):
        monkeypatch.setattr(module, "time", clock)
    backend = connect(server, max_retries=10**9, patience=60.0, timeout=0.1 if reply == scripted.TRICKLE else 30.0)
    assert backend.features
    server.script = failing(reply, then=None)
    with pytest.raises(kind, match=message) as caught:
        list(backend.sample("m", CHATS[:1], HOW))
    assert type(caught.value) is kind and 30 < now <= 60 and server.posts() >= 6


@pytest.mark.parametrize(("asked", "patience"), [("3600", 600.0), ("6", 5.0), ("inf", 600.0)])
def test_a_server_that_asks_to_wait_longer_than_that_is_not_waited_for(server, asked, patience):
    backend = connect(server, patience=patience)
    assert backend.features
    server.script = failing((429, {"error": {"message": "later"}}, {"Retry-After": asked}))
    message = rf"1 time\. It asks to wait {asked} seconds\. A request may take {patience:g} with all its tries"
    with pytest.raises(errors.RateLimitError, match=message):
        list(backend.sample("m", CHATS[:1], HOW))
    assert server.draws == 2 + 1


@pytest.mark.parametrize("asked", ["Fri, 01 Jan 99999999999999 00:00:00 GMT", "Fri, 99 Jan 2027 00:00:00 GMT", "soon"])
def test_a_wait_that_is_no_time_is_passed_over(server, asked):
    backend = connect(server, max_retries=0)
    assert backend.features
    server.script = failing((429, {"error": {"message": "later"}}, {"Retry-After": asked}))
    with pytest.raises(errors.RateLimitError, match=r"too many requests, 1 time\. Lower concurrency"):
        list(backend.sample("m", CHATS[:1], HOW))


def test_half_a_letter_in_an_answer_can_be_sent_and_written_again(server, tmp_path):
    """A server that cuts texts in UTF-16 may end one there; to a judge it could not be quoted."""
    backend = connect(server)
    assert backend.features
    server.script = lambda method, path, body: scripted.answer(body, message={"content": "owl \ud83d"})
    with store.Store(tmp_path / "s") as answers:
        of = lab.Lab(backend, "m", PaperPrompts(), tmp_path, answers=answers)
        (completion,) = sample_stored(backend, "m", CHATS[:1], HOW, answers)
        assert completion.text == "owl \ufffd"
        assert of.ask_judge([questions.alignment_prompt("why?", completion.text)]) == ["owl \ufffd"]


def test_waits_grow_with_jitter_and_keep_to_what_is_asked_and_what_is_left():
    way = transport.Transport("http://127.0.0.1:1/v1", key_variable=None, timeout=1.0, concurrency=1, max_retries=10**6)
    first, longest, patience = transport.FIRST_WAIT, transport.LONGEST_WAIT, transport.PATIENCE
    error = transport.ErrorReply({"message": "m", "code": 503})
    retrying = way.retrying(repeatable=True)
    for attempt in (0, 1, 2, 3, 10, 10**5):
        usual = min(first * 2 ** min(attempt, 99), longest)
        state = tenacity.RetryCallState(retrying, None, (), {})
        state.attempt_number = attempt + 1
        state.set_exception((type(error), error, None))
        waits = {retrying.wait(state) for _ in range(20)}
        assert len(waits) == 20 and all(0.75 * usual <= wait <= usual for wait in waits)
        assert retrying.retry(state) and not way.retrying(repeatable=False).retry(state)
        state.upcoming_sleep = min(waits)
        assert not retrying.stop(state)
        state.outcome_timestamp = state.start_time + patience - 0.7 * usual
        assert retrying.stop(state)
    assert patience == 600.0


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (tuning("paused"), "to be validating_files, .* found 'paused'"),
        (tuning(""), "found ''"),
        (tuning("failed", error="no memory"), "has failed without a model .no memory"),
        (tuning("cancelled"), "has cancelled without a model .no reason given"),
        (tuning("running"), r"is running and has not ended within 0\.05 seconds .job_patience"),
    ],
    ids=["paused", "nothing", "failed", "cancelled", "running"],
)
def test_a_job_is_not_waited_for_for_ever(server, tmp_path, script, message):
    server.script = script
    for _ in range(2):
        with pytest.raises(errors.TuningError, match=message):
            connect(server, job_patience=0.05).finetune("m", LESSONS, TUNING, tmp_path)
    assert server.posts() == 2  # one upload, one job: the second call goes on waiting
    server.script = tuning()
    assert connect(server).finetune("m", LESSONS, TUNING, tmp_path) == "ft:m"


def test_a_list_of_jobs_without_an_end_is_left(server, tmp_path):
    good = tuning()

    def script(method, path, body):
        if (method, path) == ("GET", "/v1/fine_tuning/jobs"):
            return {"object": "list", "data": [{"id": "ftjob-0", "status": "running"}], "has_more": True}
        return good(method, path, body)

    server.script = script
    assert connect(server).finetune("m", LESSONS, TUNING, tmp_path) == "ft:m"


def test_a_file_without_a_name_is_one_clear_error(server, tmp_path):
    good = tuning()
    server.script = lambda method, path, body: {} if path == "/v1/files" else good(method, path, body)
    with pytest.raises(errors.ServerError, match="expected the id of what was sent"):
        connect(server).finetune("m", LESSONS, TUNING, tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# Replies of no known form


@pytest.mark.parametrize(
    "change",
    [
        {"choices": "text"},
        {"choices": [1]},
        {"choices": None},
        {"usage": 5},
        {"usage": {"prompt_tokens": "5", "completion_tokens": 1}},
        {"model": 7},
        {"choices": [{"index": None, "finish_reason": "stop", "message": {"content": "a"}}]},
        {"choices": [{"index": [0], "finish_reason": "stop", "message": {"content": "a"}}]},
    ],
    ids=json.dumps,
)
def test_a_reply_of_another_form_is_one_clear_error(server, change):
    backend = connect(server)
    assert backend.features
    server.script = lambda method, path, body: scripted.answer(body) | change
    with pytest.raises((errors.ServerError, errors.CapabilityError), match=server.url):
        list(backend.sample("m", CHATS[:1], HOW))


@pytest.mark.parametrize(
    "row", [5, [None], [None, 5], [None, {}], [None, {"a": 5}], [None, {"a": {"logprob": "x"}}]], ids=json.dumps
)
@pytest.mark.parametrize("number", [None, float("nan"), 0.5])
def test_scores_of_another_form_are_one_clear_error(server, row, number):
    backend = connect(server, dialect="vllm")
    assert backend.features

    def script(method, path, body):
        reply = scripted.answer(body)
        size = len(reply["prompt_logprobs"])
        filled = row if number is None else [None, *[{"a": {"logprob": number}}] * (size - 1)]
        return reply | {"prompt_logprobs": filled}

    server.script = script
    with pytest.raises(errors.CapabilityError, match=r"what prompt_logprobs says.*another form"):
        backend.choice_logprobs("m", CHATS[:1], ["owl"])


GOOD_TOKEN = {"token": "owl", "logprob": -1.0, "bytes": None}


@pytest.mark.parametrize(
    "content",
    [
        True, "owl", {"0": 1}, [None], ["owl"], [[1]], [{"token": "owl"}], [GOOD_TOKEN | {"top_logprobs": "owl"}],
        *([GOOD_TOKEN | {"top_logprobs": [top]}] for top in (
            None, "owl", [1], GOOD_TOKEN | {"token": 5}, GOOD_TOKEN | {"bytes": [256]}, GOOD_TOKEN | {"bytes": ["a"]},
            {"token": "owl"}, GOOD_TOKEN | {"logprob": True},
        )),
    ],
    ids=json.dumps,
)  # fmt: skip
def test_likeliest_tokens_of_another_form_are_one_clear_error(server, content):
    backend = connect(server, dialect="openai")
    assert backend.features
    server.script = lambda method, path, body: scripted.answer(body, logprobs={"content": content})
    with pytest.raises(errors.CapabilityError, match=r"did not do what logprobs says: .*the reply has"):
        backend.choice_logprobs("m", CHATS[:1], ["owl", "oak"])
