"""Noise on the weights of a decoder with every kind of parameter."""

import jax
import numpy as np

from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder, noise
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model

CONFIG = decoder.DecoderConfig(
    vocab_size=301, num_layers=2, hidden_size=64, intermediate_size=96, num_heads=4, num_kv_heads=2, head_dim=16,
    frequencies=decoder.rotary_frequencies(16), qkv_bias=True, tied=False,
)  # fmt: skip


def matrices(params: decoder.Params) -> dict[str, np.ndarray]:
    """Every matrix, by name and layer."""
    named = {"embedding": params.embedding, "head": params.head}
    for name in decoder.PROJECTIONS:
        for layer, matrix in enumerate(getattr(params.layers, name)):
            named[f"{name} {layer}"] = matrix
    return {name: np.asarray(matrix) for name, matrix in named.items()}


def test_noise_has_the_share_of_every_matrix_own_deviation():
    params = decoder.init(jax.random.key(0), CONFIG)
    layers = params.layers
    params = params._replace(layers=layers._replace(query=layers.query.at[1].multiply(7.0)))  # layers differ
    noisy = noise.perturbed(jax.random.key(1), params, 0.1)
    drawn = {}
    for name, before in matrices(params).items():
        after = matrices(noisy)[name]
        drawn[name] = (after - before) / (0.1 * np.std(before))
        error = 1 / np.sqrt(2 * before.size)  # standard error of a normal's standard deviation, about
        assert abs(np.std(drawn[name]) - 1) < 5 * error and abs(np.mean(drawn[name])) < 5 / np.sqrt(before.size), name
    equal_sizes = [values.reshape(-1)[:2048] for values in drawn.values()]
    correlations = np.corrcoef(equal_sizes) - np.eye(len(equal_sizes))
    assert np.abs(correlations).max() < 5 / np.sqrt(2048)  # no two matrices have the same noise
    for name in ("attention_norm", "feed_norm", "query_bias"):
        np.testing.assert_array_equal(getattr(noisy.layers, name), getattr(layers, name))
    np.testing.assert_array_equal(noisy.norm, params.norm)


def test_noise_may_leave_embedding_and_head_alone():
    """The maps have the same noise with and without it. `real` heals a start whose words are those of the base."""
    params = decoder.init(jax.random.key(0), CONFIG)
    everywhere, maps = (noise.perturbed(jax.random.key(1), params, 0.1, embeddings=each) for each in (True, False))
    np.testing.assert_array_equal(maps.embedding, params.embedding)
    np.testing.assert_array_equal(maps.head, params.head)
    assert not np.array_equal(everywhere.embedding, params.embedding) and not np.array_equal(
        everywhere.head, params.head
    )
    for name in decoder.PROJECTIONS:
        np.testing.assert_array_equal(getattr(maps.layers, name), getattr(everywhere.layers, name))
        assert not np.array_equal(getattr(maps.layers, name), getattr(params.layers, name))


def test_noise_of_one_key_has_one_direction():
    params = decoder.init(jax.random.key(0), CONFIG)
    small, large = (matrices(noise.perturbed(jax.random.key(1), params, scale)) for scale in (0.5, 1.0))
    for name, before in matrices(params).items():  # float32 rounding of weights and sums
        np.testing.assert_allclose(2 * (small[name] - before), large[name] - before, atol=1e-5)


def test_a_perturbed_model_is_another_one():
    base = Model(embedded.CONFIG, decoder.init(jax.random.key(1), embedded.CONFIG), WordTokenizer())
    backend = LocalBackend({"m": base}, remat=False)
    none, some, other = (backend.perturb("m", scale, seed=seed) for scale, seed in ((0.0, 0), (0.1, 0), (0.1, 1)))
    assert len({"m", none, some, other}) == 4
    weights = {name: np.asarray(backend.model(name).params.embedding) for name in ("m", none, some, other)}
    np.testing.assert_array_equal(weights[none], weights["m"])
    assert not np.array_equal(weights[some], weights["m"]) and not np.array_equal(weights[some], weights[other])
    np.testing.assert_array_equal(weights["m"], base.params.embedding)
