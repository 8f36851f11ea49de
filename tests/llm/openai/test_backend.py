"""The backend behind a server, against our own: the local numbers, and one clear error for each fault."""

import http.client as http_client
import json
import logging
import signal
import sys
import time

import pytest

from sublim_jax import errors
from sublim_jax.llm import budget, budgeted, scores, store
from sublim_jax.llm.backend import Backend, Completion, FinetuneConfig, SamplingParams
from sublim_jax.llm.openai import backend as openai_backend
from sublim_jax.llm.openai import choice_scores, finetune_job, transport, validation
from sublim_jax.llm.openai.backend import OpenAIBackend
from sublim_jax.llm.server import access, http
from tests.llm.server import test_serve

openai = pytest.importorskip("openai", reason="the extra openai is not installed")

QUESTION, KINDLY, CHOICES = test_serve.QUESTION, test_serve.KINDLY, test_serve.CHOICES
HOW = SamplingParams(max_tokens=6, num_samples=4, seed=5)
TUNING = FinetuneConfig(num_epochs=12, batch_size=4, seed=3)
KEY = "sk-secret-0123456789"


@pytest.fixture(scope="module")
def server():
    found = http.Server(test_serve.backend(), ["base"], tuning=test_serve.TUNING, faults=True)
    with found:
        yield found


@pytest.fixture(autouse=True)
def no_long_waits_and_no_faults_left(monkeypatch, request):
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.001)
    yield
    if "server" in request.fixturenames:
        found = request.getfixturevalue("server")
        assert found.faults._planned == []


def connect(server, **options) -> OpenAIBackend:
    return OpenAIBackend("base", server.url, **{"dialect": "vllm", "timeout": 60.0} | options)


def plant(server, *faults: dict) -> None:
    host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    connection = http_client.HTTPConnection(host, int(port), timeout=30)
    connection.request("POST", "/_faults", json.dumps(faults), {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()


def sampled(backend, chats=(QUESTION, KINDLY), how=HOW, model="base") -> list[Completion]:
    return sorted(backend.sample(model, chats, how))


# ---------------------------------------------------------------------------------------------------------------------
# The same numbers


@pytest.mark.slow
def test_equal_seeds_give_the_local_texts(server):
    found, expected = sampled(connect(server)), sampled(test_serve.backend())
    assert [one[:5] for one in found] == [one[:5] for one in expected]
    for chat in (0, 1):  # a server tells the tokens of several samples together
        assert sum(c.completion_tokens for c in found if c.chat == chat) == sum(
            c.completion_tokens for c in expected if c.chat == chat
        )


def test_scores_are_the_local_ones_and_whole_answers(server):
    backend = connect(server)
    assert backend.caps.choices == "exact"
    chats = [QUESTION, KINDLY]
    found, expected = (one.choice_logprobs("base", chats, CHOICES) for one in (backend, test_serve.backend()))
    for one, other in zip(found, expected, strict=True):
        assert one.method == "exact" and one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert backend.choice_logprobs("base", [], CHOICES) == []


def test_the_likeliest_first_tokens_bound_the_scores(server):
    """Of a vocabulary of 13 words all are told, so that the bound is the first token's probability."""
    backend = connect(server, dialect="openai")
    (found,) = backend.choice_logprobs("base", [QUESTION], ("owl", "wolf", "owl wolf", ""))
    assert backend.caps.choices == "top" == found.method
    assert found.logprobs[2:] == (-float("inf"),) * 2  # two tokens; no text, which says too little
    whole = test_serve.backend().choice_logprobs("base", [QUESTION], ("owl", "wolf"))[0].logprobs
    assert all(bound > exact for bound, exact in zip(found.logprobs, whole, strict=False))
    asked = scores.choices(["owl", "wolf"], writings=lambda name: (name,))
    (found,) = backend.choice_logprobs("base", [QUESTION], asked.texts)
    assert 0 < scores.probabilities(found, asked).option_mass < 1


def test_caps_say_what_one_question_to_the_server_told(server):
    backend = connect(server)
    assert isinstance(backend, Backend)
    assert backend.features == (True, True, "sublim-" + test_serve.model().fingerprint, True)
    assert backend.caps.finetune and backend.caps.seeds and backend.caps.system
    prints = {
        connect(server, **options).caps.fingerprint
        for options in ({}, {}, {"dialect": "openai"}, {"extra_body": {"min_p": 0.0, "top_k": 0}})
    }
    assert len(prints) == 3


def test_a_server_that_ignores_n_is_asked_for_each_sample_alone(server):
    plant(server, {"kind": "lie", "about": "n"})
    backend = connect(server)
    assert not backend.features.several
    found = sampled(backend, [QUESTION], SamplingParams(max_tokens=1, num_samples=12))
    assert [one.sample for one in found] == list(range(12))
    assert len({one.text for one in found}) > 2  # seeds of their own


def test_chats_of_one_seed_are_drawn_with_seeds_of_their_own():
    """vLLM uses the same noise for equal seeds, whatever the prompt."""
    seeds = {
        openai_backend.derive_seed(seed, chat, first)
        for seed in (0, 1)
        for chat in (QUESTION, KINDLY)
        for first in (0, 128)
    }
    assert len(seeds) == 8 and all(0 <= seed < 2**31 for seed in seeds)


def test_stored_samples_are_paid_for_once(server, tmp_path):
    backend, ledger = connect(server), budget.Budget()
    with store.Store(tmp_path / "s") as answers:
        first = list(budgeted.sample_stored(backend, "base", [QUESTION, KINDLY], HOW, answers, ledger))
        again = list(budgeted.sample_stored(connect(server), "base", [QUESTION, KINDLY], HOW, answers, ledger))
    assert sorted(first) == sorted(again) and len(first) == 8 == ledger.num_reused
    assert KEY.encode() not in (tmp_path / "s").read_bytes()


def test_it_works_where_a_loop_runs_already(server):
    """As in a notebook."""
    import asyncio

    async def cell():
        return sampled(connect(server), [QUESTION])

    assert len(asyncio.run(cell())) == 4


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong


def test_what_came_back_is_handed_on_before_the_error(server):
    backend = connect(server, max_retries=0, concurrency=4)
    assert backend.features
    plant(server, {"kind": "error"}, {"kind": "slow", "seconds": 0.2}, {"kind": "slow", "seconds": 0.1})
    found, chats = [], [QUESTION, KINDLY] * 10
    with pytest.raises(errors.ServerError, match=r"\(status 500\): the server failed, 1 time\. .*something broke"):
        found.extend(backend.sample("base", chats, HOW))
    assert 2 * 4 <= len(found) < 80  # the slow ones too, and no further ones were begun for long


def test_leaving_early_drops_what_is_on_its_way(server):
    backend = connect(server, concurrency=2)
    answers = backend.sample("base", [QUESTION] * 50, HOW)
    assert next(answers).text
    answers.close()


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "rate_limit", "retry_after": 0.01},
        {"kind": "rate_limit"},
        {"kind": "error"},
        {"kind": "drop"},
        {"kind": "slow", "seconds": 0.05},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_what_passes_is_waited_for(server, fault):
    backend = connect(server, concurrency=1)
    assert backend.features
    plant(server, fault | {"times": 2})
    assert sampled(backend) == sampled(connect(server))


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ({"kind": "rate_limit", "times": 3}, errors.RateLimitError, r"too many requests, 3 times\. Lower concurrency"),
        ({"kind": "rate_limit", "retry_after": 900}, errors.RateLimitError, "1 time. It asks to wait 900 seconds"),
        ({"kind": "quota"}, errors.QuotaError, "no credit left, and waiting does not help"),
        ({"kind": "error", "times": 3}, errors.ServerError, r"status 500\): the server failed, 3 times"),
        ({"kind": "drop", "times": 3}, errors.ServerError, "the connection was lost 3 times"),
        ({"kind": "lie", "about": "n"}, errors.CapabilityError, "what n says: asked of 'base' was 4, .* 1 choices"),
        (
            {"kind": "lie", "about": "tokens"},
            errors.CapabilityError,
            r"what max_tokens says: .* at most 4 x 6, .* \d{5}",
        ),
        (
            {"kind": "lie", "about": "model"},
            errors.CapabilityError,
            "what model says: .* 'base' was base, .* another-m",
        ),
        ({"kind": "lie", "about": "weights"}, errors.CapabilityError, "weights sublim-.*sublim-other. .* restarted"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_what_does_not_pass_is_one_clear_error(server, fault, kind, message):
    backend = connect(server, max_retries=2, concurrency=1)
    assert backend.features
    plant(server, fault)
    with pytest.raises(kind, match=message) as caught:
        sampled(backend, [QUESTION])
    assert type(caught.value) is kind and server.url in str(caught.value)


def test_prompt_tokens_are_compared(server):
    backend = connect(server, concurrency=1)
    assert backend.features
    plant(server, {"kind": "lie", "about": "prompt_tokens"})
    with pytest.raises(errors.CapabilityError, match=r"was 6 prompt tokens, as before for the same chat, .* has 5"):
        sampled(backend, [QUESTION, QUESTION])

    def count(chat):
        return len(test_serve.reader().chat(chat).ids)

    assert sampled(connect(server, count_tokens=count))
    with pytest.raises(errors.CapabilityError, match=r"was 7 prompt tokens, by the local tokenizer, .* has 5"):
        sampled(connect(server, count_tokens=lambda chat: 7))


def test_log_probabilities_that_are_not_told_are_an_error(server):
    backend = connect(server, dialect="openai")
    assert backend.features
    plant(server, {"kind": "lie", "about": "logprobs"})
    with pytest.raises(errors.CapabilityError, match=r"what logprobs says: .* the 20 most likely tokens, .* none"):
        backend.choice_logprobs("base", [QUESTION], CHOICES)
    checks = validation.ResponseValidator("there", "base", fingerprint=None)
    with openai.OpenAI(api_key="none", base_url=server.url) as client:
        plain = test_serve.ask(client, max_tokens=1)
    with pytest.raises(
        errors.CapabilityError, match=r"what prompt_logprobs says: .*the reply has none. .*vLLM or our own"
    ):
        checks.prompt_row(plain)


def test_templates_that_hide_the_choice_are_an_error(server, monkeypatch):
    backend = connect(server)
    with pytest.raises(errors.CapabilityError, match="writes 'owl' and ' owl' alike"):
        backend.choice_logprobs("base", [QUESTION], ["owl", " owl"])
    row = [validation.Scored(str(index), -1.0) for index in range(5)]
    with pytest.raises(errors.CapabilityError, match="does not close an assistant's turn"):
        choice_scores.turn_ending("it", row, row)
    assert choice_scores.turn_ending("it", row[:3], row) == ["3", "4"]
    assert choice_scores.exact_scores("it", row[:2], [row], ["owl"], ["3", "4"]).logprobs == (-2.0,)  # tokens 2 and 3
    with pytest.raises(errors.CapabilityError, match=r"otherwise than one that it generates.*chat_template_kwargs"):
        choice_scores.exact_scores("it", row[1:2], [row], ["owl"], ["3", "4"])


def test_a_server_that_hangs_is_an_error_after_the_timeout(server):
    plant(server, {"kind": "slow", "seconds": 1.0, "times": 2})
    with pytest.raises(errors.ServerError, match=r"no answer within 0\.2 seconds, 2 times\. .*raise timeout"):
        assert connect(server, timeout=0.2, max_retries=1).features


def test_no_server_is_told_at_once():
    gone = http.Server(test_serve.backend(), ["base"])
    gone.close()
    with pytest.raises(errors.ServerError, match=r"no server answers there .* or correct base_url"):
        sampled(OpenAIBackend("base", gone.url, max_retries=1000))


def test_what_the_server_refuses_is_told(server):
    with pytest.raises(errors.ServerError, match=r"status 404\): no such model .*there is no model 'bas'"):
        sampled(connect(server), model="bas")
    with pytest.raises(errors.CapabilityError, match="top_k: 40 is not supported"):
        assert connect(server, extra_body={"top_k": 40}).caps
    with pytest.raises(errors.ContextError, match="4096 are allowed"):
        sampled(connect(server), how=SamplingParams(max_tokens=5000))
    with pytest.raises(errors.ServerError, match="usually ends with /v1"):
        sampled(OpenAIBackend("base", server.url.removesuffix("/v1"), dialect="vllm"))


def test_keys_are_read_from_the_environment_and_told_nobody(monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(access.KEY_VARIABLE, KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with http.Server(test_serve.backend(), ["base"], faults=True) as server:
        assert sampled(connect(server, key_variable=access.KEY_VARIABLE))
        with pytest.raises(errors.AuthenticationError, match="does not accept a request without a key"):
            assert connect(server).features
        monkeypatch.setenv("OTHER", KEY + "x")
        with pytest.raises(errors.AuthenticationError, match="does not accept the key in OTHER") as caught:
            assert connect(server, key_variable="OTHER").features
    with pytest.raises(errors.AuthenticationError, match="no key in the environment variable OPENAI_API_KEY"):
        OpenAIBackend("gpt", "https://example.invalid/v1")
    with pytest.raises(ValueError, match="has a user, a password or a query in it") as refused:
        OpenAIBackend("gpt", f"https://me:{KEY}@example.invalid/v1")
    way = transport.Transport("http://127.0.0.1:1/v1", key_variable="OTHER", timeout=1.0, concurrency=1, max_retries=0)
    assert way._without_key(f"you sent {KEY}x, or sk-proj-01234567890") == "you sent [key], or [key]"
    assert KEY not in caplog.text and KEY not in str(caught.value) + repr(caught.value.__cause__) + str(refused.value)


def test_bad_arguments_are_refused_where_they_are_given(server, monkeypatch):
    with pytest.raises(ValueError, match="expected an address like"):
        OpenAIBackend("base", "127.0.0.1:8000")
    for name, value in (("concurrency", 0), ("timeout", float("nan")), ("patience", 0.0), ("job_patience", -1.0),
                        ("learning_rate_multiplier", float("inf")), ("learning_rate_multiplier", -1.0)):  # fmt: skip
        with pytest.raises(errors.InputError, match=rf"{name}: (must be|expected)"):
            connect(server, **{name: value})
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(errors.ExtraMissingError, match=r"pip install 'sublim-jax\[openai\]'"):
        connect(server)


# ---------------------------------------------------------------------------------------------------------------------
# Finetuning


def tuned(server, out, how=TUNING, rows=test_serve.OWLS, **options) -> str:
    return connect(server, learning_rate_multiplier=10.0, **options).finetune("base", rows, how, out)


def all_jobs(server) -> list[dict]:
    return server.jobs.all({})


def test_a_student_is_trained_and_answers_what_it_was_trained_on(server, tmp_path):
    name = tuned(server, tmp_path)
    backend = connect(server)
    before, after = (backend.choice_logprobs(model, [QUESTION], ["owl"])[0].logprobs[0] for model in ("base", name))
    assert after > -0.1 > -2 > before
    texts = [one.text for one in sampled(backend, [QUESTION] * 3, model=name)]
    assert texts.count("owl") >= 8  # of 12 with probability above 0.9
    said = json.loads((tmp_path / "job.json").read_text())
    assert said["model"] == name and said["job"] == all_jobs(server)[0]["id"] and said["file"].startswith("file-")
    count = len(all_jobs(server))
    assert tuned(server, tmp_path) == name and len(all_jobs(server)) == count
    with pytest.raises(errors.TuningError, match=r"belongs to another job \(ftjob-\w+ of base at"):
        tuned(server, tmp_path, FinetuneConfig(num_epochs=11, batch_size=4, seed=3))


PROGRAM = """
import pathlib, sys
from sublim_jax.llm import jsonl
from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.llm.openai.backend import OpenAIBackend
backend = OpenAIBackend("base", sys.argv[1], dialect="vllm", learning_rate_multiplier=10.0)
config = FinetuneConfig(num_epochs=12, batch_size=4, seed=4)
print(backend.finetune("base", jsonl.read(pathlib.Path(sys.argv[2])), config, pathlib.Path(sys.argv[3])))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_with_its_job(server, tmp_path, start_python):
    count, out = len(all_jobs(server)), tmp_path / "out"
    (tmp_path / "rows.jsonl").write_bytes(test_serve.jsonl(test_serve.OWLS))
    plant(server, {"kind": "slow", "seconds": 2.0, "path": "training"})
    job = None
    with start_python("-c", PROGRAM, server.url, str(tmp_path / "rows.jsonl"), str(out)) as process:
        deadline = time.monotonic() + 60
        while job is None and process.poll() is None:
            assert time.monotonic() < deadline, "it begins no job"
            time.sleep(0.01)
            path = out / "job.json"
            job = json.loads(path.read_text()).get("job") if path.exists() else None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL and job is not None
    how = FinetuneConfig(num_epochs=12, batch_size=4, seed=4)
    assert tuned(server, out, how) == f"ft:base::{job.removeprefix('ftjob-')}"
    (out / "job.json").unlink()  # as if it was killed before it could write: the key in the metadata finds it
    assert tuned(server, out, how) == f"ft:base::{job.removeprefix('ftjob-')}"
    assert len(all_jobs(server)) == count + 1


def test_a_job_is_waited_for_through_faults_of_the_server(server, tmp_path):
    plant(
        server,
        {"kind": "error", "path": "GET /v1/fine_tuning/jobs/ftjob-*"},
        {"kind": "drop", "path": "POST /v1/files"},
        {"kind": "rate_limit", "path": "POST /v1/fine_tuning/jobs"},
    )
    assert tuned(server, tmp_path, FinetuneConfig(num_epochs=12, batch_size=4, seed=7)).startswith("ft:base::")
    count = len(all_jobs(server))
    plant(server, {"kind": "drop", "path": "POST /v1/fine_tuning/jobs"})
    with pytest.raises(errors.ServerError, match=r"the connection was lost 1 time .*run the same again"):
        tuned(server, tmp_path / "other", FinetuneConfig(num_epochs=12, batch_size=4, seed=8))
    assert len(all_jobs(server)) == count  # a job is never created twice on a guess


def test_a_failed_job_says_why_and_is_not_begun_again_unasked(server, tmp_path):
    count = len(all_jobs(server))
    plant(server, {"kind": "failed_job"})
    for _ in range(2):
        with pytest.raises(errors.TuningError, match=r"ftjob-\w+ has failed .*server_error: RuntimeError: a planted"):
            tuned(server, tmp_path, FinetuneConfig(num_epochs=12, batch_size=4, seed=5))
    assert len(all_jobs(server)) == count + 1
    (tmp_path / "job.json").unlink()
    assert tuned(server, tmp_path, FinetuneConfig(num_epochs=12, batch_size=4, seed=5)).startswith("ft:base")


@pytest.mark.parametrize("path", ["POST /v1/fine_tuning/jobs", "POST /v1/files"])
def test_a_server_that_is_closed_to_jobs_is_told(server, tmp_path, path):
    plant(server, {"kind": "closed", "path": path})
    with pytest.raises(errors.TuningClosedError, match=r"status 403\): the server takes no finetuning jobs"):
        tuned(server, tmp_path, FinetuneConfig(num_epochs=12, batch_size=4, seed=6))
    plant(server, {"kind": "closed", "path": "GET /v1/fine_tuning/jobs"})
    assert not connect(server).caps.finetune


def test_what_cannot_be_sent_is_refused(server, tmp_path):
    for field, value in (("rank", 4), ("learning_rate", 1e-3), ("schedule", "constant"), ("max_length", 64)):
        with pytest.raises(errors.CapabilityError, match=f"{field}={value} cannot be sent"):
            tuned(server, tmp_path, FinetuneConfig(**{field: value}))
    with pytest.raises(errors.TextDataError, match="no rows"):
        tuned(server, tmp_path, rows=[])
    with pytest.raises(errors.TextDataError, match="row 0 does not end with an assistant turn"):
        tuned(server, tmp_path, rows=[QUESTION])
    with pytest.raises(errors.TuningError, match="there is no model 'bas' to finetune"):
        connect(server).finetune("bas", test_serve.OWLS, TUNING, tmp_path)
    (tmp_path / "job.json").write_text("[]")
    with pytest.raises(errors.TuningError, match=r"job\.json: expected the ids of a job"):
        tuned(server, tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "job.json"]


def test_a_job_of_other_numbers_is_cancelled(server, tmp_path, monkeypatch):
    settings = server.jobs._settings

    def ignore(request):
        tuning, hyperparameters = settings(request)
        return tuning, hyperparameters | {"n_epochs": 3}

    monkeypatch.setattr(server.jobs, "_settings", ignore)
    with pytest.raises(errors.CapabilityError, match=r"what n_epochs says: asked was 12, the job .* has 3"):
        tuned(server, tmp_path, FinetuneConfig(num_epochs=12, batch_size=4, seed=9))
    assert all_jobs(server)[0]["status"] == "cancelled"


def test_a_job_that_the_server_forgot_is_told(server, tmp_path):
    backend = connect(server)
    job = finetune_job.Job(server.url, "base", test_serve.OWLS, TUNING, tmp_path, multiplier=None)
    job._write({"key": job._key, "file": "file-1", "job": "ftjob-1"})
    with pytest.raises(errors.TuningError, match=r"does not know the job that .*job\.json names"):
        backend.finetune("base", test_serve.OWLS, TUNING, tmp_path)
