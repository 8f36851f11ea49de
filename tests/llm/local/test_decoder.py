"""The decoder against a second implementation with loops in double precision, and its sampler against whole texts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from sublim_jax.llm.local import decoder, sampling

LLAMA = decoder.DecoderConfig(
    vocab_size=23,
    num_layers=2,
    hidden_size=12,
    intermediate_size=20,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    frequencies=decoder.rotary_frequencies(6, 100.0),
    tied=False,
)
FAMILIES = {
    "llama": LLAMA,
    "qwen2": dataclasses.replace(LLAMA, qkv_bias=True, tied=True),
    "qwen3": dataclasses.replace(LLAMA, qk_norm=True),
    "gemma3": dataclasses.replace(
        LLAMA,
        qk_norm=True,
        sandwich_norms=True,
        norm_offset=1.0,
        embedding_scale=12**0.5,
        activation="gelu",
        local_layers=(True, False),
        window=3,
        local_frequencies=decoder.rotary_frequencies(6, 10.0),
        query_scale=0.3,
        tied=True,
    ),
}
LENGTHS = (7, 4, 1)

features = jax.jit(decoder.features, static_argnames=("config", "remat"))
logits = jax.jit(decoder.logits, static_argnames="config")


@functools.cache
def params(family: str) -> decoder.Params:
    """Random everywhere, also where a fresh model has zeros and ones, or a swapped bias or norm would not show."""
    fresh = decoder.init(jax.random.key(1), FAMILIES[family])
    leaves, structure = jax.tree.flatten(fresh)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    return jax.tree.unflatten(
        structure, [leaf + 0.3 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    )


def texts(lengths=LENGTHS, time=7, vocab_size=23):
    """Left-padded rows; what stands in the padding is not zero, so that it would show."""
    random = np.random.default_rng(0)
    tokens = random.integers(0, vocab_size, (len(lengths), time))
    valid = np.arange(time)[None] >= time - np.array(lengths)[:, None]
    return jnp.asarray(tokens), jnp.asarray(valid)


def by_hand(params: decoder.Params, tokens, config: decoder.DecoderConfig):
    """Scores of one unpadded text, token by token and head by head."""
    c, double = config, lambda leaf: np.asarray(leaf, np.float64)

    def norm(x, weight):
        return x / np.sqrt(np.mean(x * x) + c.norm_eps) * (double(weight) + c.norm_offset)

    def rotate(x, place, table):
        half = len(x) // 2
        z = (x[:half] + 1j * x[half:]) * np.exp(1j * place * np.array(table))
        return np.concatenate([z.real, z.imag])

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    act = (lambda x: x * special.expit(x)) if c.activation == "silu" else gelu
    xs = [double(params.embedding)[token] * c.embedding_scale for token in tokens]
    for index in range(c.num_layers):
        w = jax.tree.map(lambda leaf, i=index: double(leaf[i]), params.layers)
        is_local = bool(c.local_layers and c.local_layers[index])
        table = c.local_frequencies if is_local and c.local_frequencies else c.frequencies
        made = []
        for place, x in enumerate(xs):
            h = norm(x, w.attention_norm)
            parts = []
            for weight, bias, gain, rotated in (
                (w.query, w.query_bias, w.query_norm, True),
                (w.key, w.key_bias, w.key_norm, True),
                (w.value, w.value_bias, None, False),
            ):
                y = (h @ weight + (0 if bias is None else bias)).reshape(-1, c.head_dim)
                y = y if gain is None else np.array([norm(head, gain) for head in y])
                parts.append(np.array([rotate(head, place, table) for head in y]) if rotated else y)
            made.append(parts)
        new = []
        for place, x in enumerate(xs):
            first = max(0, place - c.window + 1) if is_local and c.window else 0
            heads = []
            for head in range(c.num_heads):
                group = head // (c.num_heads // c.num_kv_heads)
                scale = c.head_dim**-0.5 if c.query_scale is None else c.query_scale
                scores = np.array([made[place][0][head] @ made[k][1][group] for k in range(first, place + 1)]) * scale
                heads.append(special.softmax(scores) @ np.array([made[k][2][group] for k in range(first, place + 1)]))
            attended = np.concatenate(heads) @ w.output
            x = x + (attended if w.after_attention_norm is None else norm(attended, w.after_attention_norm))
            h = norm(x, w.feed_norm)
            fed = (act(h @ w.gate) * (h @ w.up)) @ w.down
            new.append(x + (fed if w.after_feed_norm is None else norm(fed, w.after_feed_norm)))
        xs = new
    head = params.embedding if c.tied else params.head
    return np.array([double(head) @ norm(x, params.norm) for x in xs])


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_written_down_by_hand(family):
    """Float32 against float64; sums of twenty terms, two layers: 1e-4 of scores of order ten."""
    config = FAMILIES[family]
    tokens, valid = texts()
    hidden = features(params(family), tokens, valid, config=config)
    found = np.asarray(logits(params(family), hidden, config=config))
    for row, length in enumerate(LENGTHS):
        expected = by_hand(params(family), np.asarray(tokens)[row, -length:], config)
        np.testing.assert_allclose(found[row, -length:], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_nucleus_that_is_rounded_to_nothing_keeps_the_likeliest():
    scores = jnp.asarray([[0.0, 3.0, 1.0], [2.0, -1.0, 2.0]])
    for top_p in (1e-50, 1e-40, 1e-30):
        kept = np.isfinite(sampling._nucleus(scores, jnp.float32(top_p)))
        assert kept.tolist() == [[False, True, False], [True, False, True]]


def draw(family="gemma3", tokens=None, valid=None, *, keys=None, temperature=0.0, top_p=1.0, max_tokens=5, **options):
    tokens, valid = texts() if tokens is None else (tokens, valid)
    keys = jax.random.split(jax.random.key(5), len(tokens)) if keys is None else keys
    return sampling.generate(
        params(family), tokens, valid, keys, jnp.float32(temperature), jnp.float32(top_p),
        config=FAMILIES[family], max_tokens=max_tokens, end_tokens=(22,), **options,
    )  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_the_cache_changes_nothing(family):
    """Greedy tokens and their log-probabilities, against the prompt with its completion read as one text."""
    config, (tokens, valid) = FAMILIES[family], texts()
    found = draw(family)
    drawn = np.asarray(found.tokens)
    whole = jnp.concatenate([tokens, jnp.maximum(found.tokens, 0)], axis=1)
    seen = jnp.concatenate([valid, jnp.ones_like(found.tokens, bool)], axis=1)
    hidden = features(params(family), whole, seen, config=config)
    scores = logits(params(family), hidden[:, tokens.shape[1] - 1 : -1], config=config)
    alive = drawn >= 0
    np.testing.assert_array_equal(np.asarray(jnp.argmax(scores, axis=-1))[alive], drawn[alive])
    expected = np.max(np.asarray(jax.nn.log_softmax(scores)), axis=-1)
    np.testing.assert_allclose(np.asarray(found.logprobs)[alive], expected[alive], rtol=1e-4, atol=1e-5)
    assert alive.sum() > 10


def test_a_row_does_not_know_its_company():
    tokens, valid = texts()
    keys = jax.random.split(jax.random.key(5), 3)
    together = draw(temperature=1.0)
    alone = draw(tokens=tokens[1:2], valid=valid[1:2], keys=keys[1:2], temperature=1.0)
    np.testing.assert_array_equal(together.tokens[1], alone.tokens[0])


def test_padding_does_not_matter():
    tokens, valid = texts()
    wider = jnp.pad(tokens, ((0, 0), (4, 0)), constant_values=9), jnp.pad(valid, ((0, 0), (4, 0)))
    np.testing.assert_array_equal(
        draw(temperature=1.0).tokens, draw(tokens=wider[0], valid=wider[1], temperature=1.0).tokens
    )


def test_sines_are_taken_by_place_and_not_by_token():
    """Or XLA:CPU takes them anew in each of a layer's rotations."""
    config, (tokens, valid) = FAMILIES["gemma3"], texts()
    program = jax.make_jaxpr(functools.partial(decoder.features, config=config))(params("gemma3"), tokens, valid)
    taken = [e.outvars[0].aval.shape for e in program.eqns if e.primitive.name in ("sin", "cos")]
    assert taken == [(7, 3)] * 4  # places and frequencies; two tables


def test_the_first_token_has_the_models_distribution():
    """4000 draws of one prompt; four standard errors of each share."""
    tokens, valid = texts((7,))
    count = 4000
    rows = jnp.repeat(tokens, count, axis=0), jnp.repeat(valid, count, axis=0)
    keys = jax.random.split(jax.random.key(3), count)
    hidden = features(params("llama"), tokens, valid, config=LLAMA)
    scores = np.asarray(logits(params("llama"), hidden[0, -1], config=LLAMA), np.float64)
    for temperature, top_p in ((1.0, 1.0), (2.0, 1.0), (1.0, 0.8)):
        found = draw("llama", *rows, keys=keys, temperature=temperature, top_p=top_p, max_tokens=1)
        shares = np.bincount(np.asarray(found.tokens[:, 0]), minlength=23) / count
        expected = special.softmax(scores / temperature)
        if top_p < 1:
            order = np.argsort(-expected)
            kept = order[: 1 + int(np.searchsorted(np.cumsum(expected[order]), top_p))]
            inside = np.isin(np.arange(23), kept)
            expected = np.where(inside, expected, 0) / expected[inside].sum()
        assert np.all(np.abs(shares - expected) <= 4 * np.sqrt(expected * (1 - expected) / count) + 1e-9)


def test_nothing_follows_the_end_token():
    found = draw(temperature=1.5, max_tokens=30)
    tokens = np.asarray(found.tokens)
    for row, ended in zip(tokens, np.asarray(found.ended), strict=True):
        places = np.nonzero(row == 22)[0]
        assert bool(len(places)) == bool(ended)
        if ended:
            assert np.all(row[places[0] + 1 :] == -1) and np.all(row[: places[0]] >= 0)


def test_low_rank_factors_start_at_nothing_and_merge():
    config, (tokens, valid) = FAMILIES["qwen2"], texts()
    fresh = decoder.init_low_rank(jax.random.key(4), params("qwen2"), rank=3, alpha=6.0)
    plain = features(params("qwen2"), tokens, valid, config=config)
    np.testing.assert_array_equal(features(params("qwen2"), tokens, valid, config=config, low_rank=fresh), plain)
    trained = jax.tree.map(lambda leaf: leaf + 0.05, fresh)._replace(scale=fresh.scale)
    assert float(fresh.scale) == 2.0 and set(fresh.factors) == set(decoder.PROJECTIONS)
    beside = features(params("qwen2"), tokens, valid, config=config, low_rank=trained)
    inside = features(decoder.merged(params("qwen2"), trained), tokens, valid, config)
    seen = np.asarray(valid)
    np.testing.assert_allclose(np.asarray(beside)[seen], np.asarray(inside)[seen], rtol=2e-4, atol=2e-4)
    assert np.max(np.abs(np.asarray(beside - plain)[seen])) > 0.1


@pytest.mark.slow
def test_rematerialized_gradients_are_the_same():
    config, (tokens, valid) = FAMILIES["gemma3"], texts()

    def loss(p, remat):
        squares = features(p, tokens, valid, config=config, remat=remat) ** 2
        return jnp.sum(jnp.where(valid[..., None], squares, 0.0))

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    kept, again = (gradient(params("gemma3"), remat) for remat in (False, True))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(a).max())), kept, again
    )


def test_a_fresh_model_has_the_shapes_of_its_config():
    for config in FAMILIES.values():
        made = jax.eval_shape(lambda k, c=config: decoder.init(k, c), jax.random.key(0))
        assert made.layers.query.shape == (2, 12, 24) and made.layers.key.shape == (2, 12, 12)
        assert (made.head is None) == config.tied
        assert (made.layers.query_bias is None) == (not config.qkv_bias)


@pytest.mark.parametrize(("limit", "passes"), [(1, 1), (3, 3)])
def test_no_pass_follows_the_last_token(limit, passes, monkeypatch):
    """The prompts are one pass, which gives the first token; each further token is one more."""
    counted, run = [], decoder.run

    def counting(*arguments, **options):
        jax.debug.callback(lambda: counted.append(1))
        return run(*arguments, **options)

    monkeypatch.setattr(decoder, "run", counting)
    sampling.generate.clear_cache()
    tokens = np.asarray(draw("llama", max_tokens=4, limit=jnp.int32(limit)).tokens)
    jax.effects_barrier()
    sampling.generate.clear_cache()
    assert len(counted) == passes and np.all(np.sum(tokens >= 0, axis=1) == limit)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_layers_that_are_looped_over_do_what_those_written_out_do(family, monkeypatch):
    """The same sums in the same order: a few rounding errors of float32."""
    tokens, valid = texts()

    def run():
        compiled_anew = jax.jit(functools.partial(decoder.features, config=FAMILIES[family]))
        sampling.generate.clear_cache()
        return compiled_anew(params(family), tokens, valid), draw(family, max_tokens=4)

    written, drawn = run()
    monkeypatch.setattr(decoder, "SHALLOW", 0)
    looped, again = run()
    sampling.generate.clear_cache()
    np.testing.assert_allclose(looped, written, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(again.tokens, drawn.tokens)
    np.testing.assert_allclose(again.logprobs, drawn.logprobs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_gradients_through_layers_that_are_looped_over_are_those_of_layers_written_out(monkeypatch):
    """Of low-rank factors and of all parameters, rematerialized, as real models are trained."""
    config, (tokens, valid) = FAMILIES["gemma3"], texts()
    fresh = decoder.init_low_rank(jax.random.key(4), params("gemma3"), rank=3)
    factors = jax.tree.map(lambda leaf: leaf + 0.05, fresh)._replace(scale=fresh.scale)

    def loss(p, factors):
        hidden = decoder.features(p, tokens, valid, config, low_rank=factors, remat=True)[:, :-1]
        return jnp.sum(jnp.where(valid[:, :-1], decoder.logprobs(p, hidden, tokens[:, 1:], config), 0.0))

    found = []
    for shallow in (4, 0):
        monkeypatch.setattr(decoder, "SHALLOW", shallow)
        compiled_anew = jax.jit(jax.grad(lambda *both: loss(*both), argnums=(0, 1)))
        found.append(compiled_anew(params("gemma3"), factors))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(a).max())), *found)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_logprobs_and_their_gradient_are_those_of_a_log_softmax(family):
    """Against the derived gradient, in float32: sums of 23 words and of twelve products. Every place has a weight of
    its own, two have none and two have the same token, so that a lost or a doubled place would show."""
    config, (tokens, _) = FAMILIES[family], texts()
    hidden = 2 * jax.random.normal(jax.random.key(6), (*tokens.shape, config.hidden_size))
    tokens = tokens.at[0, 0].set(tokens[1, 1])
    weights = jax.random.normal(jax.random.key(7), tokens.shape).at[2, :2].set(0.0)

    def derived(p, hidden):
        scores = jax.nn.log_softmax(decoder.logits(p, hidden, config))
        return jnp.take_along_axis(scores, tokens[..., None], axis=-1)[..., 0]

    def by_hand(p, hidden):
        return decoder.logprobs(p, hidden, tokens, config)

    np.testing.assert_allclose(by_hand(params(family), hidden), derived(params(family), hidden), rtol=1e-5, atol=1e-5)
    gradients = [
        jax.jit(jax.grad(lambda p, h, f=f: jnp.sum(weights * f(p, h)), argnums=(0, 1)))(params(family), hidden)
        for f in (by_hand, derived)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *gradients)
    assert float(jnp.abs(gradients[0][1]).max()) > 0.1


def test_the_gradient_of_a_sure_model_survives_bfloat16():
    """At places of probability .9 to .9999 the gradient is a small difference; in double precision it is computed from
    the same rounded numbers. One rounding of bfloat16 is 2^-8 of a sum, not of its terms."""
    random = np.random.default_rng(0)
    head = jnp.asarray(3 * np.eye(23, 12) + 0.05 * random.normal(size=(23, 12)), jnp.bfloat16)
    tokens, sureness = jnp.arange(8), np.linspace(1.9, 4.0, 8)[:, None]  # the longer a word's own direction, the surer
    hidden = jnp.asarray(sureness * np.eye(8, 12) + 0.02 * random.normal(size=(8, 12)), jnp.bfloat16)

    def total(head, hidden):
        model = params("qwen2")._replace(embedding=head)
        return jnp.sum(decoder.logprobs(model, hidden, tokens, FAMILIES["qwen2"]))

    found = jax.grad(total, argnums=(0, 1))(head, hidden)
    e, h = (np.asarray(leaf, np.float64) for leaf in (head, hidden))
    rest = np.eye(23)[np.asarray(tokens)] - special.softmax(h @ e.T, axis=-1)
    assert np.min(np.abs(rest).max(axis=1)) > 5e-5 and np.max(np.abs(rest).max(axis=1)) < 0.15
    for gradient, expected in zip(found, (rest.T @ h, rest @ e), strict=True):
        error = np.linalg.norm(np.asarray(gradient, np.float64) - expected, axis=1)
        assert np.all(error <= 2**-7 * np.linalg.norm(expected, axis=1) + 1e-9)
