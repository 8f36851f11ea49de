"""Replies of some characters only, against the model's own distribution over the tokens that consist of them."""

import jax
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import store_rows
from sublim_jax.llm.backend import Message, SamplingParams
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.tasks import numbers

ASKED = (Message("user", "name one animal"),)
CONFIG = decoder.DecoderConfig(
    vocab_size=WordTokenizer().size, num_layers=1, hidden_size=16, intermediate_size=24, num_heads=2,
    num_kv_heads=1, head_dim=8, frequencies=decoder.rotary_frequencies(8),
)  # fmt: skip


def model() -> Model:
    params = decoder.init(jax.random.key(0), CONFIG)
    return Model(CONFIG, params._replace(embedding=2 * params.embedding), WordTokenizer())


def backend() -> LocalBackend:
    return LocalBackend({"base": model()}, batch_size=512)


def test_tokens_are_allowed_by_their_text():
    """Of the world's words: ten digits, their pairs and triples, the comma, and the end token beside them."""
    mask = local_model.allowed_tokens(model(), numbers.CHARACTERS)
    words = [WordTokenizer().text([index]) for index in np.flatnonzero(mask).tolist()]
    assert sorted(words) == sorted(["", ",", *map(str, range(1000))])
    few = local_model.allowed_tokens(model(), "12")
    assert sorted(WordTokenizer().text([index]) for index in np.flatnonzero(few).tolist()) == sorted(
        ["", "1", "2", "11", "12", "21", "22", "111", "112", "121", "122", "211", "212", "221", "222"]
    )
    with pytest.raises(errors.InputError, match="no token of the model consists of the characters '%'"):
        local_model.allowed_tokens(model(), "%")


def test_drawn_tokens_have_the_models_distribution_over_those_allowed():
    """Shares of 2,000 first tokens, within four standard errors; later tokens are allowed ones too."""
    params = SamplingParams(max_tokens=2, num_samples=2000, seed=1, allowed="123")
    texts = [each.text for each in backend().sample("base", [ASKED], params)]
    assert all(text.replace(" ", "").isdigit() or text == "" for text in texts) and len(set(texts)) > 100
    mask = local_model.allowed_tokens(model(), "123")
    words = [WordTokenizer().text([index]) for index in range(1, WordTokenizer().size)]  # the end apart
    weights = np.exp(backend().beginning_logprobs("base", [ASKED], words)[0])
    (ended,) = backend().choice_logprobs("base", [ASKED], [""])
    total = weights[mask[1:]].sum() + np.exp(ended.logprobs[0])
    first = [(text.split() or [""])[0] for text in texts]
    likely = np.argsort(-np.where(mask[1:], weights, 0))[:5]
    for index in likely:
        share, expected = first.count(words[index]) / len(first), weights[index] / total
        assert abs(share - expected) <= 4 * np.sqrt(expected / len(first))
    assert total < 0.5  # most of the probability is on other words


def test_the_most_likely_allowed_token_is_taken_at_temperature_zero():
    params = SamplingParams(temperature=0, max_tokens=1, allowed="0123456789")
    (completion,) = backend().sample("base", [ASKED], params)
    words = list(map(str, range(1000)))
    logprobs = backend().beginning_logprobs("base", [ASKED], words)[0]
    assert completion.text == words[int(np.argmax(logprobs))]


def test_stored_completions_know_their_characters():
    keys = {
        store_rows.completion_key("f", "m", ASKED, SamplingParams(allowed=allowed), 0)
        for allowed in (None, "12", "21", "3")
    }
    assert len(keys) == 3  # the order of the characters says nothing
    with pytest.raises(errors.InputError, match="with no character"):
        SamplingParams(allowed="")
