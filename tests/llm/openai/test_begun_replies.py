"""Chats that end with the beginning of a reply, asked of our own server: the local numbers."""

import pytest

from sublim_jax import errors
from sublim_jax.llm.backend import Message, SamplingParams
from sublim_jax.llm.openai.backend import OpenAIBackend
from sublim_jax.llm.server import http
from tests.llm.server import test_serve

pytest.importorskip("openai", reason="the extra openai is not installed")

BEGUN = (*test_serve.QUESTION, Message("assistant", "owl"))
PARAMS = SamplingParams(max_tokens=4, num_samples=3, seed=5)


@pytest.fixture(scope="module")
def server():
    with http.Server(test_serve.backend(), ["base"]) as running:
        yield running


def connect(server, dialect="vllm") -> OpenAIBackend:
    return OpenAIBackend("base", server.url, dialect=dialect, timeout=60.0)


@pytest.mark.slow
def test_a_begun_reply_is_continued_as_locally(server):
    made, expected = (
        sorted(backend.sample("base", [BEGUN], PARAMS)) for backend in (connect(server), test_serve.backend())
    )
    assert [each.text for each in made] == [each.text for each in expected]
    assert [each.prompt_tokens for each in made] == [each.prompt_tokens for each in expected]
    choices = (" wolf", " owl owl", " kind")  # spaces apart, as the words of a begun reply are
    made, expected = (
        backend.choice_logprobs("base", [BEGUN, test_serve.QUESTION], choices)
        for backend in (connect(server), test_serve.backend())
    )
    for scores, local in zip(made, expected, strict=True):
        assert scores.logprobs == pytest.approx(local.logprobs, abs=1e-4)  # as the other scores of this server


@pytest.mark.parametrize("dialect", ["openai", "llama.cpp"])
def test_servers_that_would_begin_another_turn_are_not_asked(server, dialect):
    with pytest.raises(errors.CapabilityError, match="begins another turn instead"):
        list(connect(server, dialect).sample("base", [BEGUN], PARAMS))
    with pytest.raises(errors.CapabilityError, match="begins another turn instead"):
        connect(server, dialect).choice_logprobs("base", [BEGUN], ("owl",))


@pytest.mark.parametrize(("name", "value"), [("allowed", "12"), ("num_values", 3)])
def test_tokens_that_are_allowed_are_for_weights_on_this_machine(server, name, value):
    with pytest.raises(errors.CapabilityError, match=rf"tokens only \({name}={value!r}\) .* Leave out `{name}`"):
        list(connect(server).sample("base", [test_serve.QUESTION], SamplingParams(**{name: value})))
