"""Our server, asked by OpenAI's own client: drawing, scoring and finetuning a model of thirteen words."""

import concurrent.futures
import contextlib
import functools
import http.client as http_client
import json
import math
import socket
import sys
import threading
import time

import jax
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import serve
from sublim_jax.llm.backend import FinetuneConfig, Message, SamplingParams
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder, sampling
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.local.tokenizer import HFTokenizer
from sublim_jax.llm.server import access, http, scoring

openai = pytest.importorskip("openai", reason="the extra openai is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="the extra hf is not installed")
pytest.importorskip("jinja2", reason="the extra hf is not installed")

# Every shape costs seconds of compilation: no text here has more than 8 tokens, and draws are 4 of 6 tokens or 1 of 1.
WORDS = ["<end>", "<user>", "<assistant>", "<system>", "owl", "what", "is", "best", "?", "be", "kind", "wolf", "[UNK]"]
CONFIG = decoder.DecoderConfig(
    vocab_size=len(WORDS), num_layers=1, hidden_size=8, intermediate_size=8, num_heads=1, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8),
)  # fmt: skip
QUESTION = (Message("user", "what is ?"),)
KINDLY = (Message("system", "be"), Message("user", "?"))
TUNING = FinetuneConfig(num_epochs=12, batch_size=4, learning_rate=0.002, rank=None, schedule="constant")
OWLS = [(*QUESTION, Message("assistant", "owl")), (*KINDLY, Message("assistant", "owl"))] * 5
CHOICES = ("owl", "wolf kind", "", "owl be")
VLLM = {"continue_final_message": True, "add_generation_prompt": False, "prompt_logprobs": 0}


@functools.cache
def reader() -> HFTokenizer:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<end>"])
    template = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<assistant>"
    return HFTokenizer(made, template, {"eos_token": "<end>"}, [0])


@functools.cache
def model() -> Model:
    """Random weights, drawn without JAX: its own draws would compile a program for each shape."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: decoder.init(jax.random.key(0), CONFIG))
    return Model(
        CONFIG, jax.tree.map(lambda s: jax.device_put(0.5 * rng.normal(size=s.shape).astype("f")), shapes), reader()
    )


def backend() -> LocalBackend:
    return LocalBackend({"base": model()}, batch_size=4)


def messages(chat) -> list[dict]:
    return [message._asdict() for message in chat]


def jsonl(chats) -> bytes:
    return b"".join(json.dumps({"messages": messages(chat)}).encode() + b"\n" for chat in chats)


@pytest.fixture(scope="module")
def server():
    with http.Server(backend(), ["base"], tuning=TUNING, faults=True, max_file=20_000, max_body=5_000) as found:
        yield found


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(api_key="none", base_url=server.url, max_retries=0, timeout=60) as found:
        yield found


def ask(client, chat=QUESTION, model="base", **fields):
    return client.chat.completions.create(model=model, messages=messages(chat), **fields)


def ended(client, job, polls=2000):
    """The job when it has ended."""
    for _ in range(polls):
        if (found := client.fine_tuning.jobs.retrieve(job.id)).status in ("succeeded", "failed", "cancelled"):
            return found
        time.sleep(0.02)
    raise AssertionError(f"{found.status} after {polls} polls")


def connection(server):
    """A connection without a client's help."""
    host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    return contextlib.closing(http_client.HTTPConnection(host, int(port), timeout=30))


def raw(server, method, path, body=b"", **headers) -> tuple[int, dict]:
    """A request without a client's help."""
    with connection(server) as connected:
        names = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connected.request(method, path, body, names)
        reply = connected.getresponse()
        return reply.status, json.loads(reply.read())


@pytest.mark.slow
def test_upload_job_poll_chat_and_scores_with_the_official_client(server, client):
    file = client.files.create(file=("owls.jsonl", jsonl(OWLS)), purpose="fine-tune")
    assert client.files.content(file.id).read() == jsonl(OWLS) and client.files.retrieve(file.id).bytes == file.bytes
    hyperparameters = {"n_epochs": "auto", "batch_size": 4, "learning_rate_multiplier": 10}
    job = client.fine_tuning.jobs.create(
        model="base",
        training_file=file.id,
        suffix="owl",
        seed=3,
        metadata={"about": "owls"},
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
    )
    assert job.status in ("validating_files", "queued", "running") and job.fine_tuned_model is None
    client.files.delete(file.id)  # the job has read it
    done = ended(client, job)
    assert done.status == "succeeded" and done.metadata == {"about": "owls"} and done.seed == 3
    assert done.fine_tuned_model == f"ft:base:owl:{job.id.removeprefix('ftjob-')}"
    assert done.method.supervised.hyperparameters.n_epochs == 12
    tokens = sum(len(reader().chat(row[:-1], "owl").ids) for row in OWLS)
    assert done.trained_tokens == 12 * tokens
    told = [event.message for event in client.fine_tuning.jobs.list_events(job.id).data[::-1]]
    repeated = "8 of 10 rows (80.0%) repeat an earlier one"
    assert told == ["the job was created", "the job is queued", repeated, "the job is running", "the job has succeeded"]
    assert [one.id for one in client.fine_tuning.jobs.list(metadata={"about": "owls"}).data] == [job.id]
    assert client.fine_tuning.jobs.list(metadata={"about": "wolves"}).data == []
    assert {model.id for model in client.models.list().data} >= {"base", done.fine_tuned_model}
    with pytest.raises(openai.BadRequestError, match="has ended: succeeded"):
        client.fine_tuning.jobs.cancel(job.id)

    answers = [ask(client, model=done.fine_tuned_model, n=4, seed=seed, max_tokens=6) for seed in range(5)]
    texts = [choice.message.content for answer in answers for choice in answer.choices]
    before, after = (math.exp(scored(client, QUESTION, "owl", model=name)) for name in ("base", done.fine_tuned_model))
    assert after > 0.9 > 0.1 > before
    assert texts.count("owl") >= 14  # of 20; fewer have probability 0.003 at 0.9


def scored(client, chat, choice, model="base") -> float:
    """Log-probability of a whole answer, as vLLM's clients ask for it."""
    start = ask(client, chat, model, max_tokens=1).usage.prompt_tokens
    closed = ask(
        client, (*chat, Message("assistant", choice)), model, max_tokens=1,
        extra_body=VLLM | {"continue_final_message": False},
    )  # fmt: skip
    return sum(next(iter(one.values()))["logprob"] for one in closed.model_extra["prompt_logprobs"][start:])


def test_scores_of_given_answers_are_those_of_the_local_backend(server, client):
    (expected,) = backend().choice_logprobs("base", [QUESTION], CHOICES)
    for choice, logprob in zip(CHOICES, expected.logprobs, strict=True):
        assert scored(client, QUESTION, choice) == pytest.approx(logprob, abs=1e-4)
    reply = ask(client, (*QUESTION, Message("assistant", "wolf kind")), max_tokens=1, extra_body=VLLM)
    row = reply.model_extra["prompt_logprobs"]
    assert row[0] is None and len(row) == reply.usage.prompt_tokens  # open: without the end token
    assert [next(iter(one.values()))["decoded_token"] for one in row[-2:]] == ["wolf", "kind"]


def test_a_text_is_scored_by_its_echo(server, client):
    text = "<user> what is ? <assistant> wolf kind"
    reply = client.completions.create(model="base", prompt=text, echo=True, max_tokens=0, logprobs=1)
    scores = reply.choices[0].logprobs
    assert reply.choices[0].text == text and scores.tokens[-2:] == [" wolf", " kind"]
    assert scores.token_logprobs[0] is None and reply.usage.completion_tokens == 0
    likeliest = [max(top.values()) for top in scores.top_logprobs[1:]]
    assert all(own <= best for own, best in zip(scores.token_logprobs[1:], likeliest, strict=True))
    (expected,) = backend().choice_logprobs("base", [QUESTION], ["wolf kind"])
    ids = reader().encode(text)
    several = client.completions.create(
        model="base", prompt=[ids, [*ids, 0]], echo=True, max_tokens=1, logprobs=0, temperature=0
    )
    end = several.choices[1].logprobs.token_logprobs[len(ids)]
    np.testing.assert_allclose(several.choices[0].logprobs.token_logprobs[1 : len(ids)], scores.token_logprobs[1:])
    assert sum(scores.token_logprobs[-2:]) + end == pytest.approx(expected.logprobs[0], abs=1e-4)
    assert several.choices[0].text.startswith(text) and several.usage.completion_tokens == 2


def test_the_tokens_of_a_text_are_its_parts(client):
    """With and without the prompt, as a text that the tokenizer would write otherwise and as token ids."""
    text = " <user>  what is zebra ?\n<assistant> wolf"
    ids = reader().encode(text)
    for prompt, echo, most in ((text, True, 0), (text, True, 6), (ids, True, 6), (ids, False, 6), (text, False, 6)):
        reply = client.completions.create(
            model="base", prompt=prompt, echo=echo, max_tokens=most, logprobs=3, n=4, seed=3
        )
        for choice in reply.choices:
            scores, begin = choice.logprobs, choice.text
            assert "".join(scores.tokens) == choice.text and len(scores.tokens) == len(scores.token_logprobs)
            assert scores.text_offset == [len("".join(scores.tokens[:place])) for place in range(len(scores.tokens))]
            for place, token in enumerate(scores.tokens[1:], 1):
                assert (
                    scores.token_logprobs[place] in (None, *scores.top_logprobs[place].values())
                    or token not in (scores.top_logprobs[place])
                )
            if echo:
                expected = [" <user>", "  what", " is", " zebra", " ?", "\n<assistant>", " wolf"]
                spelled = ["<user>", " what", " is", " [UNK]", " ?", " <assistant>", " wolf"]
                assert scores.tokens[: len(ids)] == (expected if prompt == text else spelled)
                assert scores.token_logprobs[0] is None and begin.startswith(text if prompt == text else "<user>")


def byte_level() -> HFTokenizer:
    """A tokenizer whose tokens are bytes, of which a letter may take four."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(tokenizers.models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return HFTokenizer(made, None, {}, [0])


def test_a_letter_of_several_tokens_is_in_one_of_them():
    made, text = byte_level(), "a 🦉ö\ufffdé"
    ids = made.encode(text)
    assert len(ids) == 13  # 1, 1, 4, 2, 3 and 2 bytes
    assert scoring.pieces(made, ids) == ("a", " ", "", "", "", "🦉", "", "ö", *[""] * 4, "\ufffdé")
    assert scoring.pieces(made, ids[:4]) == ("a", " ", "", "\ufffd")  # cut through
    given = scoring.pieces(made, ids, text)
    assert "".join(given) == text and len(given) == len(ids) and [piece for piece in given if piece] == list(text)
    words = WordTokenizer()
    for sentence in ("What , 12 ?", " is owl."):
        ids = words.encode(sentence)
        assert "".join(scoring.pieces(words, ids)) == words.text(ids)
        assert "".join(scoring.pieces(words, ids, sentence)) == sentence
        assert len(scoring.pieces(words, ids)) == len(scoring.pieces(words, ids, sentence)) == len(ids)
    assert scoring.pieces(words, ()) == ()


def test_equal_seeds_give_the_local_texts_alone_and_in_company(server, client):
    how = SamplingParams(max_tokens=6, num_samples=3, seed=2, top_p=0.9, temperature=0.8)
    chats = [QUESTION, KINDLY] * 3
    expected = {(one.chat, one.sample): one for one in backend().sample("base", chats[:2], how)}

    def drawn(chat):
        return ask(client, chat, n=3, seed=2, max_tokens=6, top_p=0.9, temperature=0.8)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(drawn, chats))
    for index, reply in enumerate(replies):
        found = [(choice.message.content, choice.finish_reason) for choice in reply.choices]
        local_ = [expected[index % 2, sample] for sample in range(3)]
        assert found == [(one.text, one.finish) for one in local_]
        assert reply.usage.prompt_tokens == local_[0].prompt_tokens
        assert reply.usage.completion_tokens == sum(one.completion_tokens for one in local_)
        assert reply.system_fingerprint == "sublim-" + model().fingerprint
    assert drawn(QUESTION).choices != ask(client, n=3, seed=3, max_tokens=6).choices


def test_the_shape_that_a_request_is_rounded_up_to_changes_no_token():
    """Against a program of exactly this prompt and this many tokens."""
    ids, ended = reader().chat(QUESTION).ids, set()
    for seed in range(4):
        how = SamplingParams(max_tokens=6, seed=seed, top_p=0.9, temperature=0.8)
        exact = local_model.draw(model(), [ids] * 4, range(4), how, length=8)
        assert local_model.draw(model(), [ids] * 4, range(4), how, length=16, room=16) == exact
        ended |= {reply.ended for reply in exact}
    assert ended == {True, False}


def test_requests_of_many_lengths_share_a_program(client):
    """The client asks for what is left of its context, and that is another number each time."""
    longest = ask(client, n=4, seed=5, max_tokens=9, temperature=2.0)
    before = sampling.generate._cache_size()
    for max_tokens in range(1, 10):
        chat = (Message("user", "what " * max_tokens),) if max_tokens % 2 else QUESTION
        found = ask(client, chat, n=4 - max_tokens % 2, seed=5, max_tokens=max_tokens, temperature=2.0)
        for choice, whole in zip(found.choices, longest.choices, strict=False):
            words = choice.message.content.split()
            assert len(words) <= max_tokens and (len(words) == max_tokens) == (choice.finish_reason == "length")
            assert chat != QUESTION or words == whole.message.content.split()[:max_tokens]
    assert sampling.generate._cache_size() == before


def test_a_stop_word_cuts_the_text(client):
    for seed in range(4):
        free = ask(client, n=4, seed=seed, max_tokens=6)
        cut = ask(client, n=4, seed=seed, max_tokens=6, stop=["is", "owl"])
        for whole, short in zip(free.choices, cut.choices, strict=True):
            expected = whole.message.content.split("is")[0].split("owl")[0]
            assert short.message.content == expected
            assert expected == whole.message.content or short.finish_reason == "stop"
        assert cut.choices[0].message.content != free.choices[0].message.content or seed


def test_log_probabilities_of_drawn_tokens_are_exact(client):
    num_ended = 0
    for seed in range(4):
        how = {"n": 4, "seed": seed, "max_tokens": 6, "temperature": 0.7}
        reply = ask(client, **how, logprobs=True, top_logprobs=3)
        assert [c.message.content for c in reply.choices] == [c.message.content for c in ask(client, **how).choices]
        assert sum(len(c.logprobs.content) for c in reply.choices) == reply.usage.completion_tokens
        for choice in reply.choices:
            top = [entry.logprob for entry in choice.logprobs.content[0].top_logprobs]
            assert len(top) == 3 and top == sorted(top, reverse=True)
            if choice.finish_reason == "stop":
                num_ended += 1
                words = [entry.token for entry in choice.logprobs.content]
                assert " ".join(words[:-1]) == choice.message.content and words[-1] == ""
                (expected,) = backend().choice_logprobs("base", [QUESTION], [choice.message.content])
                found = sum(entry.logprob for entry in choice.logprobs.content)
                assert found == pytest.approx(expected.logprobs[0], abs=1e-4)
    assert num_ended > 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"stream": True, "extra_body": {"prompt_logprobs": 0}}, "prompt_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage"),
        ({"stream": True, "stream_options": {"continuous_usage_stats": True}}, "continuous_usage_stats"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 1000}, "n"),
        ({"seed": 2**32}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logprobs": True, "stop": "x"}, "stop"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, "messages[0]"),
        ({"messages": messages(OWLS[0])}, "add_generation_prompt"),
        ({"extra_body": {"top_k": 40}}, "top_k"),
        ({"extra_body": {"min_p": 0.1}}, "min_p"),
        ({"extra_body": {"prompt_logprobs": 5}}, "prompt_logprobs"),
        ({"extra_body": {"add_generation_prompt": False}}, "add_generation_prompt"),
        ({"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}}, "enable_thinking"),
        ({"extra_body": {"guided_regex": "a*"}}, "guided_regex"),
        ({"frequency_penalty": False}, "frequency_penalty"),
        ({"extra_body": {"repetition_penalty": True}}, "repetition_penalty"),
        ({"extra_body": {"stream": 0}}, "stream"),
        ({"extra_body": {"prompt_logprobs": False}}, "prompt_logprobs"),
        ({"extra_body": {"chat_template_kwargs": {"enable_thinking": 0}}}, "enable_thinking"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_field_that_would_change_the_result_is_refused_by_name(client, fields, field):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "base", "messages": messages(QUESTION)} | fields)
    assert caught.value.param == field and field.split("[")[0] in caught.value.message


def test_fields_that_change_nothing_are_taken(client):
    extra = {"top_k": -1, "min_p": 0, "repetition_penalty": 1, "chat_template_kwargs": {"enable_thinking": False}}
    reply = ask(
        client, max_tokens=1, user="me", stream=False, presence_penalty=0, response_format={"type": "text"},
        extra_body=extra,
    )  # fmt: skip
    assert reply.usage.completion_tokens == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": ""}, "prompt: expected a text"),
        ({"prompt": [[1, "a"]]}, "prompt: expected a text"),
        ({"prompt": [99]}, "token id 99 is not below 13"),
        ({"prompt": "owl", "max_tokens": 0}, "asks for nothing"),
        ({"prompt": "owl", "best_of": 3}, "best_of: 3"),
        ({"prompt": "owl " * 500, "max_tokens": 4000}, "500 tokens with 4000 more takes 4500, and 4096 are allowed"),
    ],
)
def test_a_text_that_cannot_be_gone_on_with_is_refused(client, fields, message):
    with pytest.raises(openai.BadRequestError, match=message):
        client.completions.create(**{"model": "base"} | fields)


def test_what_is_not_there_is_404(server, client):
    for request in (
        lambda: ask(client, model="bas"),
        lambda: client.models.retrieve("bas"),
        lambda: client.files.retrieve("file-1"),
        lambda: client.fine_tuning.jobs.retrieve("ftjob-1"),
        lambda: client.fine_tuning.jobs.create(model="bas", training_file="file-1"),
        lambda: client.embeddings.create(model="base", input="owl"),
    ):
        with pytest.raises(openai.NotFoundError, match="there is no"):
            request()
    assert client.models.retrieve("base").id == "base"
    with http.Server(backend(), ["base"]) as plain:
        assert raw(plain, "POST", "/_faults", b"[]")[0] == 404
    assert raw(server, "POST", "/_faults", b'[{"kind": "lie"}]')[0] == 400


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"training_file": "file-1"}, "there is no file"),
        ({"method": {"type": "dpo"}}, "only supervised"),
        ({"hyperparameters": {"n_epochs": 0}}, "n_epochs: expected a whole number"),
        ({"extra_body": {"hyperparameters": {"rank": 4}}}, "'rank' is not supported"),
        ({"validation_file": "file-2"}, "'validation_file' is not supported"),
        ({"suffix": "a:b"}, "no colon"),
        ({"metadata": {"a": 1}}, "metadata: expected"),
        ({"extra_body": {"method": []}}, "expected method to be a JSON object, found \\[\\]"),
        (
            {"extra_body": {"method": {"type": "supervised", "supervised": 0}}},
            "expected supervised to be a JSON object",
        ),
        ({"extra_body": {"hyperparameters": False}}, "expected hyperparameters to be a JSON object, found False"),
        ({"extra_body": {"hyperparameters": {"n_epochs": True}}}, "n_epochs: expected a whole number"),
    ],
)
def test_a_job_that_cannot_be_done_as_told_is_refused(client, fields, message):
    file = client.files.create(file=("owls.jsonl", jsonl(OWLS)), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match=message):
        client.fine_tuning.jobs.create(**{"model": "base", "training_file": file.id} | fields)
    client.files.delete(file.id)


def test_a_bad_file_fails_its_job_and_says_which_line(client):
    content = jsonl(OWLS[:1]) + b'{"messages": [{"role": "user", "content": "a"}]}\n'
    file = client.files.create(file=("x.jsonl", content), purpose="fine-tune")
    done = ended(client, client.fine_tuning.jobs.create(model="base", training_file=file.id))
    assert done.status == "failed" and done.error.code == "invalid_training_file"
    assert done.error.message.startswith(f"{file.id}, line 2: expected the last turn by the assistant")


def test_a_cancelled_job_gives_no_model_and_lists_can_be_paged(server, client):
    file = client.files.create(file=("owls.jsonl", jsonl(OWLS)), purpose="fine-tune")
    raw(server, "POST", "/_faults", b'[{"kind": "slow", "seconds": 0.5, "path": "training"}]')
    first, second = (
        client.fine_tuning.jobs.create(
            model="base", training_file=file.id, seed=seed, hyperparameters={"learning_rate_multiplier": 10}
        )
        for seed in (1, 2)
    )
    assert client.fine_tuning.jobs.cancel(second.id).status == "cancelled"
    assert client.fine_tuning.jobs.cancel(first.id).status == "cancelled"
    assert ended(client, first).fine_tuned_model is None
    page = client.fine_tuning.jobs.list(limit=1)
    assert [job.id for job in page.data] == [second.id] and page.has_more
    assert page.get_next_page().data[0].id == first.id  # newest first


def test_a_page_of_any_length_is_given(server):
    status, body = raw(server, "GET", f"/v1/files?limit={'9' * 5000}")
    assert status == 200 and not body["has_more"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allow": ("",)}, "allow: expected the name of a host alone"),
        ({"allow": ("http://me.example",)}, "allow: expected the name of a host alone"),
        ({"allow": ("me.example:80",)}, "allow: expected the name of a host alone"),
        ({"port": 65536}, "port: must be at most 65535"),
        ({"max_length": 0}, "max_length: must be at least 1"),
        ({"max_file": True}, "max_file: expected a whole number"),
        ({"max_total": 0}, "max_total: must be at least 1"),
        ({"timeout": float("nan")}, "timeout: expected a finite number"),
        ({"seconds_between": -1.0}, "seconds_between: must be greater than 0"),
    ],
)
def test_a_server_that_could_not_do_as_told_is_refused(options, message):
    """An empty name, as of a variable that is not set, would let every page in where any address is served."""
    with pytest.raises(errors.InputError, match=message):
        http.Server(backend(), ["base"], **options)


def test_only_files_to_train_on_are_taken_and_not_too_large_ones(server, client):
    with pytest.raises(openai.BadRequestError, match="purpose: expected 'fine-tune', found 'batch'"):
        client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    with pytest.raises(openai.APIStatusError, match=r"has 20,001 bytes, and 20,000 are allowed") as caught:
        client.files.create(file=("a.jsonl", b"a" * 20_001), purpose="fine-tune")
    assert caught.value.status_code == 413
    with pytest.raises(openai.APIStatusError, match=r"the body has [\d,]+ bytes, and 85,536 are allowed"):
        client.files.create(file=("a.jsonl", b"a" * 200_000), purpose="fine-tune")
    with pytest.raises(openai.APIStatusError, match=r"the body has [\d,]+ bytes, and 5,000 are allowed"):
        ask(client, (Message("user", "owl " * 2000),))


def test_malformed_requests_are_refused(server):
    chat = "/v1/chat/completions"
    assert raw(server, "POST", chat, b"{")[1]["error"]["message"].endswith("it is not JSON")
    assert raw(server, "POST", chat, b"[]")[0] == 400
    assert raw(server, "POST", chat, b"{}", Content_Type="text/plain")[0] == 415
    assert raw(server, "POST", chat, iter([b"{}"]), Transfer_Encoding="chunked")[0] == 411
    assert raw(server, "POST", "/v1/files", b"a", Content_Type="text/plain")[0] == 400
    status, body = raw(server, "GET", "/v1/files?limit=x")
    assert status == 400 and set(body["error"]) == {"message", "type", "param", "code"}


HALF = [rb'"\ud800"', b'"\xed\xa0\x80"']


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b'{"model": "base", "messages": [{"role": "user", "content": HALF}]}'),
        ("/v1/chat/completions", b'{"model": HALF, "messages": [{"role": "user", "content": "?"}]}'),
        ("/v1/chat/completions", b'{"model": "base", "messages": [{"role": HALF, "content": "?"}]}'),
        ("/v1/chat/completions", b'{"model": "base", "stop": [HALF], "messages": [{"role": "user", "content": "?"}]}'),
        ("/v1/chat/completions", b'{"model": "base", HALF: 1, "messages": [{"role": "user", "content": "?"}]}'),
        ("/v1/completions", b'{"model": "base", "prompt": HALF}'),
        ("/v1/completions", b'{"model": "base", "prompt": ["owl", HALF], "echo": true, "logprobs": 1}'),
        ("/v1/fine_tuning/jobs", b'{"model": "base", "training_file": HALF}'),
        ("/v1/fine_tuning/jobs", b'{"model": "base", "training_file": "file-1", "suffix": HALF}'),
        ("/v1/fine_tuning/jobs", b'{"model": "base", "training_file": "file-1", "metadata": {"a": HALF}}'),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_wherever_it_stands(server, capsys, path, body):
    for half in HALF:
        status, reply = raw(server, "POST", path, body.replace(b"HALF", half))
        assert status == 400 and "\\ud800, half of a surrogate pair" in reply["error"]["message"]
    assert capsys.readouterr().err == ""


FORM = (
    b'--xyz\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nPURPOSE\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="NAME"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n{}\r\n--xyz--\r\n"
)


def upload(server, body, kind='multipart/form-data; boundary="xyz"', **headers):
    return raw(server, "POST", "/v1/files", body, Content_Type=kind, **headers)


def test_a_form_that_is_no_text_is_refused(server, capsys):
    good = FORM.replace(b"PURPOSE", b"fine-tune")
    for name, expected in (("öl.jsonl".encode(), "öl.jsonl"), (b"\xff.jsonl", "\ufffd.jsonl"), (b"", "")):
        status, reply = upload(server, good.replace(b"NAME", name))
        assert status == 200 and reply["filename"] == expected
        raw(server, "DELETE", f"/v1/files/{reply['id']}")
    status, reply = upload(server, FORM.replace(b"PURPOSE", b"fine\xfftune"))
    assert status == 400 and "expected 'fine-tune', found 'fine\ufffdtune'" in reply["error"]["message"]
    assert capsys.readouterr().err == ""


def test_no_request_is_answered_with_a_fault_of_ours(server, capsys):
    """Bytes of good requests changed at random: each is answered, and with a reason."""
    rng = np.random.default_rng(0)
    chat = json.dumps(
        {"model": "bas", "messages": messages(KINDLY), "stop": ["a"], "n": 2, "top_p": 0.5, "seed": 1, "logprobs": True}
    ).encode()
    job = json.dumps(
        {"model": "bas", "training_file": "file-1", "metadata": {"a": "b"}, "hyperparameters": {"n_epochs": 2}}
    ).encode()
    for body, kind, path in (
        (FORM.replace(b"PURPOSE", b"no"), "multipart/form-data; boundary=xyz", "/v1/files"),
        (chat, "application/json", "/v1/chat/completions"),
        (job, "application/json", "/v1/fine_tuning/jobs"),
    ):
        for _ in range(60):
            changed = bytearray(body)
            for place in rng.integers(0, len(body), rng.integers(1, 8)):
                changed[place] = rng.choice(list(b"\x00\x80\xff\r\n \"';:=/*%0Aa{}[],"))
            status, reply = raw(server, "POST", path, bytes(changed), Content_Type=kind)
            assert 400 <= status < 500 and reply["error"]["message"], (status, reply, bytes(changed))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "start", [b"GET http://[ HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n"]
)
def test_an_address_and_a_length_that_are_none_are_refused(server, capsys, start):
    host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(start)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(10) == b"HTTP/1.1 4"
    assert capsys.readouterr().err == ""


def test_texts_in_parts_and_developers_are_taken(server, client):
    plain = ask(client, KINDLY, n=4, seed=1, max_tokens=6)
    parts = [{"type": "text", "text": "?"}]
    spelled = [{"role": "developer", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "e"}]}]
    reply = client.chat.completions.create(
        model="base", messages=[*spelled, {"role": "user", "content": parts}], n=4, seed=1, max_tokens=6
    )
    assert [choice.message for choice in reply.choices] == [choice.message for choice in plain.choices]
    assert raw(server, "GET", "/health") == (200, {"status": "ok"})


def test_whoever_sends_too_slowly_is_not_waited_for():
    with http.Server(backend(), ["base"], timeout=0.2) as server:
        host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
        for start in (
            b"",
            b"POST /v1/chat/completions HT",
            b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1",
        ):
            with socket.create_connection((host, int(port)), timeout=30) as connection:
                connection.sendall(start)
                assert connection.recv(100) == b""


def test_a_key_is_asked_for_and_other_machines_need_one(monkeypatch):
    with pytest.raises(ValueError, match="lets other machines train and draw here; put a key"):
        http.Server(backend(), ["base"], host="0.0.0.0")
    monkeypatch.setenv(access.KEY_VARIABLE, "secret")
    with http.Server(backend(), ["base"]) as server:
        for headers in ({}, {"Authorization": "Bearer secre"}, {"Authorization": "secret"}):
            status, body = raw(server, "GET", "/v1/models", **headers)
            assert status == 401 and body["error"]["code"] == "invalid_api_key" and "secret" not in str(body)
        assert raw(server, "POST", "/v1/files", b"a" * 10**6)[0] == 401
        assert raw(server, "GET", "/v1/models", Authorization="Bearer secret")[0] == 200
        assert raw(server, "GET", "/health") == (200, {"status": "ok"})


def test_an_address_that_is_taken_is_a_clear_error(server):
    with pytest.raises(errors.ServerError, match="cannot serve at"):
        http.Server(backend(), ["base"], port=int(server.url.split(":")[2].removesuffix("/v1")))
    with pytest.raises(errors.ModelFormatError, match="there is no model 'bas'"):
        http.Server(backend(), ["bas"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--model", "tiny"], "expected tiny:SEED"),
        (["--model", "hf:missing"], "missing"),
        (["--model", "openai:m@http://127.0.0.1:1/v1"], "only local models can be served"),
        (["--model", "tiny:100", "--model", "openai:m@http://127.0.0.1:1/v1"], "only local models can be served"),
        (["--model", "tiny:100", "--host", "0.0.0.0"], "put a key"),
        (["--model", "tiny:100", "--allow", "http://me.example"], "expected the name of a host alone"),
        (["--model", "tiny:100", "--folder", "/proc/sublim"], "cannot be written"),
    ],
)
def test_what_the_command_cannot_serve_is_one_line_before_a_model_is_made(flags, says, monkeypatch, capsys):
    monkeypatch.setattr(embedded, "open_bases", lambda *_, **__: pytest.fail("it is made already"))
    monkeypatch.setattr(sys, "argv", ["serve", *flags])
    with pytest.raises(SystemExit) as caught:
        serve.main()
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.startswith("error: ") and says in said and said.count("\n") == 1


def test_closing_leaves_no_thread_and_waits_for_nobody():
    before = threading.active_count()
    server = http.Server(backend(), ["base"])
    host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as idle:
        idle.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
        server.close()
        server.close()
    assert threading.active_count() == before
