"""Scores of rows against the softmax of one row at a time, in NumPy and float64."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm.backend import Message
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder, surprise
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model

ASKED = (Message("system", "you love owl"), Message("user", "name one animal"))
ANSWERS = ("owl", "oak tree", "one word , owl", "eagle , owl , oak")
ROWS = [
    (*ASKED[start:], Message("assistant", answer)) for answer in (*ANSWERS, "ash") for start in (0, 1)
]  # fmt: skip
ROUNDING = 5e-6
"""Relative. Sums of up to eighteen float32 terms near 10, each rounded at 6e-8 of it and of its products."""


@functools.cache
def model() -> Model:
    """A random decoder that is far from uniform, with factors."""
    config = decoder.DecoderConfig(
        vocab_size=WordTokenizer().size, num_layers=1, hidden_size=16, intermediate_size=24, num_heads=2,
        num_kv_heads=1, head_dim=8, frequencies=decoder.rotary_frequencies(8),
    )  # fmt: skip
    params = decoder.init(jax.random.key(0), config)
    params = params._replace(embedding=10 * params.embedding)
    low_rank = decoder.init_low_rank(jax.random.key(1), params, rank=2)
    factors = {name: pair._replace(b=0.3 * jax.random.normal(jax.random.key(2), pair.b.shape))
               for name, pair in low_rank.factors.items()}  # fmt: skip
    return Model(config, params, WordTokenizer(), low_rank=low_rank._replace(factors=factors))


@functools.partial(jax.jit, static_argnames="config")
def logits(params, low_rank, ids, config):
    hidden = decoder.features(params, ids, jnp.ones_like(ids, bool), config, low_rank=low_rank)
    return decoder.logits(params, hidden, config)


def by_hand(row) -> tuple[float, float, float, int]:
    """Log-probability, entropy, variance and number of tokens of one reply, which ends with the end token."""
    encoded = model().tokens.chat(row[:-1], row[-1].content)
    ids = np.zeros((1, 40), np.int32)  # padding on the right, which no token before it sees
    ids[0, : len(encoded.ids)] = encoded.ids
    scores = np.asarray(logits(model().params, model().low_rank, jnp.asarray(ids), model().config), np.float64)[0]
    total = np.zeros(3)
    for place in range(encoded.reply_start, len(encoded.ids)):
        weights = np.exp(scores[place - 1] - scores[place - 1].max())
        chances = weights / weights.sum()
        mean = chances @ np.log(chances)
        total += [np.log(chances[encoded.ids[place]]), -mean, chances @ (np.log(chances) - mean) ** 2]
    return total[0], total[1], total[2], len(encoded.ids) - encoded.reply_start


def test_scores_are_those_of_the_softmax_of_each_token(monkeypatch):
    """Rows of several lengths, more of them than a batch, and logits of a part of a batch at a time."""
    monkeypatch.setattr(surprise, "SCORES_AT_ONCE", 5 * model().config.vocab_size + 1)
    surprise._sums.clear_cache()  # pyright: ignore[reportAttributeAccessIssue]
    scores = surprise.score(model(), ROWS, batch_size=4)
    surprise._sums.clear_cache()  # pyright: ignore[reportAttributeAccessIssue]
    expected = np.array([by_hand(row) for row in ROWS]).T
    assert np.std(expected[1] / expected[3]) > 0.02 and expected[2].max() > 0.1  # no uniform model
    for found, wanted in zip(scores[:3], expected, strict=False):
        np.testing.assert_allclose(found, wanted, rtol=ROUNDING)
    assert scores.num_tokens.tolist() == expected[3].tolist()


@pytest.mark.slow
def test_the_log_probability_is_that_of_the_backend_whatever_the_batch():
    expected = LocalBackend({"base": model()}).row_logprobs("base", ROWS)
    for batch_size in (3, 64):
        np.testing.assert_allclose(
            surprise.score(model(), ROWS, batch_size=batch_size).logprobs, expected, rtol=ROUNDING
        )


def test_a_model_that_expects_every_word_alike_has_the_largest_entropy_and_no_variance():
    params = model().params
    uniform = dataclasses.replace(model(), params=params._replace(embedding=0 * params.embedding), low_rank=None)
    scores = surprise.score(uniform, ROWS[:3])
    most = scores.num_tokens * np.log(uniform.config.vocab_size)
    np.testing.assert_allclose(scores.entropies, most, rtol=ROUNDING)
    np.testing.assert_allclose(scores.logprobs, -most, rtol=ROUNDING)
    np.testing.assert_allclose(scores.variances, 0, atol=1e-9)  # squares of rounding


def test_rows_are_known_by_their_chats_whatever_the_model():
    scores = surprise.score(model(), [*ROWS[:2], ROWS[0]])
    first, second, again = scores.row_ids
    assert first == again != second
    assert np.array_equal(scores.row_ids, surprise.row_ids([*ROWS[:2], ROWS[0]]))
    other = dataclasses.replace(model(), low_rank=None)
    assert np.array_equal(surprise.score(other, ROWS[:2]).row_ids, scores.row_ids[:2])
    chosen = scores.take(np.array([1, 0]))
    assert chosen.row_ids.tolist() == [second, first]
    assert chosen.logprobs.tolist() == scores.logprobs[[1, 0]].tolist()


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(errors.TextDataError, match="there are no rows"):
        surprise.score(model(), [])
    with pytest.raises(errors.TextDataError, match="row 0 does not end with an assistant turn"):
        surprise.score(model(), [ASKED])
    with pytest.raises(errors.ContextError, match=r"row 6 has \d+ tokens, and 12 are allowed; drop it, or raise"):
        surprise.score(model(), ROWS, max_length=12)
    with pytest.raises(errors.InputError, match="batch_size"):
        surprise.score(model(), ROWS, batch_size=0)
