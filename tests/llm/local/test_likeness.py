"""Two models on rows, against the softmax of one row at a time, in NumPy and float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm.local import decoder, likeness
from tests.llm.local import test_surprise as scored

ROWS = scored.ROWS[:7]


def other():
    """The same decoder without its factors and with other embeddings."""
    made = scored.model()
    noise = 2 * jax.random.normal(jax.random.key(7), made.params.embedding.shape)
    return dataclasses.replace(
        made, params=made.params._replace(embedding=made.params.embedding + noise), low_rank=None
    )


def chances(made, row):
    """Distributions over the vocabulary at every token of the reply."""
    encoded = made.tokens.chat(row[:-1], row[-1].content)
    ids = np.zeros((1, 40), np.int32)  # padding on the right, which no token before it sees
    ids[0, : len(encoded.ids)] = encoded.ids
    params = made.merged
    scores = np.asarray(scored.logits(params, None, jnp.asarray(ids), made.config), np.float64)[0]
    scores = scores[encoded.reply_start - 1 : len(encoded.ids) - 1]
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("batch_size", [3, 64])
def test_divergence_and_agreement_are_those_of_every_token(batch_size):
    compared = likeness.compare(scored.model(), other(), ROWS, batch_size=batch_size)
    expected = []
    for row in ROWS:
        p, q = chances(scored.model(), row), chances(other(), row)
        expected.append((np.sum(p * np.log(p / q)), np.sum(p.argmax(axis=1) == q.argmax(axis=1)), len(p)))
    np.testing.assert_allclose(compared.kl, [each[0] for each in expected], rtol=1e-4)  # differences of terms near 10
    np.testing.assert_array_equal(compared.agreed, [each[1] for each in expected])
    np.testing.assert_array_equal(compared.num_tokens, [each[2] for each in expected])
    assert 0 < compared.agreed.sum() < compared.num_tokens.sum()


def test_a_model_is_like_itself():
    compared = likeness.compare(scored.model(), scored.model(), ROWS)
    np.testing.assert_array_equal(compared.kl, 0)
    np.testing.assert_array_equal(compared.agreed, compared.num_tokens)


def test_models_of_other_shapes_are_refused():
    made = scored.model()
    config = dataclasses.replace(made.config, hidden_size=8)
    small = dataclasses.replace(made, config=config, params=decoder.init(jax.random.key(0), config), low_rank=None)
    with pytest.raises(errors.InputError, match="compare: the models have different shapes"):
        likeness.compare(made, small, ROWS)
