"""Streams of our server, read by OpenAI's own client and byte by byte: joined, they are the response without a stream.

The requests have the shapes of `test_serve`, so that no program is compiled for them alone.
"""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax.llm.server import http, responses, scoring
from tests.llm.server import test_serve
from tests.llm.server.test_serve import QUESTION, ask, backend, messages, raw

openai = pytest.importorskip("openai", reason="the extra openai is not installed")

DRAWS = {"n": 4, "max_tokens": 6, "temperature": 0.7}


@pytest.fixture(scope="module")
def server():
    with http.Server(backend(), ["base"], faults=True) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(api_key="none", base_url=server.url, max_retries=0, timeout=60) as connected:
        yield connected


def joined_chat(chunks) -> list[tuple]:
    """Text, finish reason, and log-probabilities of each choice in a stream, in order."""
    parts: dict[int, list] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            parts.setdefault(choice.index, []).append(choice)
    choices = []
    for _, own in sorted(parts.items()):
        assert own[0].delta.role == "assistant" and all(part.delta.role is None for part in own[1:])
        assert [part.finish_reason for part in own[:-1]] == [None] * (len(own) - 1)
        scores = [entry for part in own if part.logprobs for entry in part.logprobs.content]
        choices.append(("".join(part.delta.content or "" for part in own), own[-1].finish_reason, scores))
    return choices


def whole_chat(response) -> list[tuple]:
    return [
        (choice.message.content, choice.finish_reason, choice.logprobs.content if choice.logprobs else [])
        for choice in response.choices
    ]


@pytest.mark.parametrize("fields", [{}, {"stop": ["is", "wl b"]}, {"logprobs": True, "top_logprobs": 2}])
def test_a_chat_in_a_stream_is_the_chat_without(client, fields):
    num_chunks = set()
    for seed in range(4):
        chunks = list(ask(client, seed=seed, stream=True, **DRAWS, **fields))
        whole = ask(client, seed=seed, **DRAWS, **fields)
        assert joined_chat(chunks) == whole_chat(whole)
        assert len({chunk.id for chunk in chunks}) == 1 and {chunk.usage for chunk in chunks} == {None}
        assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
        assert {chunk.system_fingerprint for chunk in chunks} == {whole.system_fingerprint}
        num_chunks.add(len(chunks))
    assert max(num_chunks) > 2 * DRAWS["n"]  # token by token, not only a beginning and an end


@pytest.mark.parametrize(
    "fields",
    [
        {"echo": True},
        {"logprobs": 2},
        {"echo": True, "logprobs": 0},
        {"stop": " is"},
        {"echo": True, "max_tokens": 0},
    ],
)
def test_texts_in_a_stream_are_the_texts_without(client, fields):
    asked = {"model": "base", "prompt": ["<user> what is ?", "owl"], "seed": 3} | DRAWS | fields
    whole = client.completions.create(**asked)
    parts: dict[int, list] = {}
    for chunk in client.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        parts.setdefault(choice.index, []).append(choice)
    assert sorted(parts) == [choice.index for choice in whole.choices] == list(range(8))
    for choice in whole.choices:
        own = parts[choice.index]
        assert "".join(part.text for part in own) == choice.text
        assert [part.finish_reason for part in own] == [None] * (len(own) - 1) + [choice.finish_reason]
        for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
            values = [getattr(part.logprobs, name) for part in own if part.logprobs]
            expected = getattr(choice.logprobs, name, None)
            assert expected == (None if expected is None else list(itertools.chain(*values)))


def test_the_events_of_a_stream(server):
    """As they arrive: events with one object in JSON each, the last one of them being the end."""
    body = {"model": "base", "messages": messages(QUESTION), "stream": True, "seed": 1} | DRAWS
    for options in ({}, {"include_usage": True}, {"include_usage": False, "include_obfuscation": False}):
        content_type, text = events(server, body | {"stream_options": options or None})
        assert content_type.startswith("text/event-stream") and text.endswith("\n\ndata: [DONE]\n\n")
        chunks = [json.loads(event.removeprefix("data: ")) for event in text.split("\n\n")[:-2]]
        if options.get("include_usage"):
            *chunks, last = chunks
            assert last["choices"] == [] and all(chunk["usage"] is None for chunk in chunks)
            whole = raw(server, "POST", "/v1/chat/completions", json.dumps(body | {"stream": False}).encode())[1]
            assert last["usage"] == whole["usage"] and last["usage"]["completion_tokens"] > 0
        else:
            assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


def events(server, body) -> tuple[str, str]:
    """Content type and text of a response."""
    with test_serve.connection(server) as connected:
        connected.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connected.getresponse()
        assert response.status == 200
        return response.headers["Content-Type"], response.read().decode()


def test_what_fails_before_a_stream_has_the_status_of_its_error(server, client):
    with pytest.raises(openai.BadRequestError, match="4096 are allowed"):
        ask(client, stream=True, max_tokens=5000)
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        ask(client, model="bas", stream=True)
    raw(server, "POST", "/_faults", b'[{"kind": "rate_limit"}, {"kind": "lie", "about": "model"}]')
    with pytest.raises(openai.RateLimitError):
        ask(client, stream=True)
    assert {chunk.model for chunk in ask(client, stream=True, max_tokens=6, n=4)} == {"another-model"}


def test_a_letter_of_several_tokens_is_sent_whole():
    reader, text = test_serve.byte_level(), "a 🦉ö"
    ids = reader.encode(text)
    choice = responses.Choice(text, "length", len(ids), None, scoring.pieces(reader, ids))
    body = responses.chat_response("base", "f", 1, [choice], None)
    deltas = [chunk["choices"][0]["delta"] for chunk in responses.chunks(body, [choice], include_usage=False)]
    assert [delta.get("content") for delta in deltas] == ["", "a", " ", "🦉", "ö", None]


@pytest.mark.slow
@given(parts=st.lists(st.text(max_size=3), max_size=6), length=st.integers(0, 20))
def test_cut_pieces_are_those_of_the_beginning(parts, length):
    pieces = scoring.cut(parts, length)
    assert "".join(pieces) == "".join(parts)[:length] and len(pieces) == len(parts)
    assert all(part.startswith(piece) for part, piece in zip(parts, pieces, strict=True))
