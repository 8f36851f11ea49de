"""One decoder for the embedded model and for open weights of all families that `families` names.

The families differ in the switches of `DecoderConfig`: where norms stand and of which kind they are; biases; norms of q
and k; a window, or no positions, on some layers; the table of rotary frequencies, or learnt positions; caps of scores.
Layers are stacked and, from the fifth on, scanned, so that compilation does not depend on the depth; in training they
can be rematerialized, so that only what lies between layers is kept.

    hidden = features(params, tokens, mask, config)          training and scoring, whole texts
    scores = logits(params, hidden, config)                  only where they are needed: the vocabulary is large
    hidden, cache = run(params, tokens, ..., cache=cache)    token by token, as `sampling` draws completions

Rows are left-padded: `valid` says which tokens count, positions count valid tokens only. Low-rank factors are a second
pytree beside the parameters, and either can be trained.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from sublim_jax import errors
from sublim_jax.llm.local import token_logprobs
from sublim_jax.llm.local.decoder_config import DecoderConfig

PROJECTIONS = ("query", "key", "value", "output", "gate", "up", "down")
"""The linear maps of a layer, in the order of `Layer`; low-rank factors may sit beside each."""
SHALLOW = 4
"""Up to so many layers are written out instead of looped over: on a CPU the gradient is faster then."""


class Layer(NamedTuple):
    """Parameters of a layer; all leaves have a leading layer axis. Linear maps are (in, out)."""

    query: Float[Array, "layer hidden heads_dim"]
    key: Float[Array, "layer hidden kv_dim"]
    value: Float[Array, "layer hidden kv_dim"]
    output: Float[Array, "layer heads_dim hidden"]
    up: Float[Array, "layer hidden inner"]
    down: Float[Array, "layer inner hidden"]
    attention_norm: Float[Array, "layer hidden"] | None
    feed_norm: Float[Array, "layer hidden"] | None
    gate: Float[Array, "layer hidden inner"] | None = None
    query_bias: Float[Array, "layer heads_dim"] | None = None
    key_bias: Float[Array, "layer kv_dim"] | None = None
    value_bias: Float[Array, "layer kv_dim"] | None = None
    query_norm: Float[Array, "layer normed"] | None = None
    key_norm: Float[Array, "layer kv_normed"] | None = None
    after_attention_norm: Float[Array, "layer hidden"] | None = None
    after_feed_norm: Float[Array, "layer hidden"] | None = None
    output_bias: Float[Array, "layer hidden"] | None = None
    up_bias: Float[Array, "layer inner"] | None = None
    down_bias: Float[Array, "layer hidden"] | None = None
    attention_norm_bias: Float[Array, "layer hidden"] | None = None
    feed_norm_bias: Float[Array, "layer hidden"] | None = None


class Params(NamedTuple):
    """A decoder."""

    embedding: Float[Array, "vocab hidden"]
    layers: Layer
    norm: Float[Array, "hidden"]
    head: Float[Array, "vocab hidden"] | None = None
    norm_bias: Float[Array, "hidden"] | None = None
    positions: Float[Array, "position hidden"] | None = None


class Factors(NamedTuple):
    """Low-rank factors of one linear map in all layers: it becomes `w + scale * a @ b`."""

    a: Float[Array, "layer in rank"]
    b: Float[Array, "layer rank out"]


class LowRank(NamedTuple):
    """Low-rank factors of a decoder (Hu et al. 2021). `b` starts at zero, so the model starts as it is."""

    factors: dict[str, Factors]  # by name of the projection
    scale: Float[Array, ""]  # alpha / rank


class Cache(NamedTuple):
    """Keys and values, heads before places, as attention reads them. They have a layer axis in front where layers are
    looped over. Layers that are written out have one each, so that drawing writes one place and copies nothing."""

    key: Float[Array, "*layer batch kv time head_dim"]
    value: Float[Array, "*layer batch kv time head_dim"]


def rotary_frequencies(head_dim: int, base: float = 10_000.0) -> tuple[float, ...]:
    """The plain table `base ** (-2 i / head_dim)`."""
    return tuple(base ** (-2 * index / head_dim) for index in range(head_dim // 2))


def init(key: Key[Array, ""], config: DecoderConfig, *, dtype=jnp.float32) -> Params:
    """Random parameters: normal weights of variance 1 / fan_in, output maps smaller by sqrt(2 layers), norms one."""
    c, keys = config, iter(jax.random.split(key, 16))
    heads, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    shallow = (2 * c.num_layers) ** -0.5

    def weight(fan_in, fan_out, scale=1.0):
        drawn = jax.random.normal(next(keys), (c.num_layers, fan_in, fan_out)) * (scale * fan_in**-0.5)
        return drawn.astype(dtype)

    def norm(size, present=True):
        return jnp.full((c.num_layers, size), 1 - c.norm_offset, dtype) if present else None

    def bias(size, present):
        return jnp.zeros((c.num_layers, size), dtype) if present else None

    normed, kv_normed = (heads, kv) if c.whole_qk_norm else (c.head_dim, c.head_dim)
    centered = c.norm == "layer"

    layers = Layer(
        query=weight(c.hidden_size, heads),
        key=weight(c.hidden_size, kv),
        value=weight(c.hidden_size, kv),
        output=weight(heads, c.hidden_size, shallow),
        gate=weight(c.hidden_size, c.intermediate_size) if c.gated else None,
        up=weight(c.hidden_size, c.intermediate_size),
        down=weight(c.intermediate_size, c.hidden_size, shallow),
        attention_norm=norm(c.hidden_size, c.pre_norms),
        feed_norm=norm(c.hidden_size, c.pre_norms),
        query_bias=bias(heads, c.qkv_bias),
        key_bias=bias(kv, c.qkv_bias),
        value_bias=bias(kv, c.qkv_bias),
        query_norm=norm(normed, c.qk_norm),
        key_norm=norm(kv_normed, c.qk_norm),
        after_attention_norm=norm(c.hidden_size, c.sandwich_norms),
        after_feed_norm=norm(c.hidden_size, c.sandwich_norms),
        output_bias=bias(c.hidden_size, c.output_bias),
        up_bias=bias(c.intermediate_size, c.feed_bias),
        down_bias=bias(c.hidden_size, c.feed_bias),
        attention_norm_bias=bias(c.hidden_size, centered and c.pre_norms),
        feed_norm_bias=bias(c.hidden_size, centered and c.pre_norms),
    )

    def rows(count):
        return (jax.random.normal(next(keys), (count, c.hidden_size)) * c.hidden_size**-0.5).astype(dtype)

    embedding, head = rows(c.vocab_size), None if c.tied else rows(c.vocab_size)
    return Params(
        embedding=embedding,
        layers=layers,
        norm=jnp.full(c.hidden_size, 1 - c.norm_offset, dtype),
        head=head,
        norm_bias=jnp.zeros(c.hidden_size, dtype) if centered else None,
        positions=None if c.num_positions is None else rows(c.num_positions),
    )


def init_low_rank(
    key: Key[Array, ""], params: Params, *, rank: int, alpha: float | None = None, uniform: bool = False
) -> LowRank:
    """Factors beside every projection: `a` normal of variance 1 / fan_in, `b` zero.

    Args:
        alpha: the product is scaled by `alpha / rank`; by default `alpha = rank`.
        uniform: draw `a` from the numbers up to 1 / sqrt(fan_in) in absolute value instead, as PEFT does.
    """
    factors = {}
    for name, key_of_map in zip(PROJECTIONS, jax.random.split(key, len(PROJECTIONS)), strict=True):
        if getattr(params.layers, name) is None:
            continue
        num_layers, fan_in, fan_out = getattr(params.layers, name).shape
        shape = num_layers, fan_in, rank
        drawn = jax.random.uniform(key_of_map, shape, minval=-1) if uniform else jax.random.normal(key_of_map, shape)
        a = drawn * fan_in**-0.5
        factors[name] = Factors(a, jnp.zeros((num_layers, rank, fan_out)))
    return LowRank(factors, jnp.asarray((alpha or rank) / rank, jnp.float32))


def merged(params: Params, low_rank: LowRank) -> Params:
    """Parameters of the same function without factors."""
    changed = {}
    for name, (a, b) in low_rank.factors.items():
        weight = getattr(params.layers, name)
        product = jnp.einsum("lir,lro->lio", a, b, precision="highest") * low_rank.scale
        changed[name] = (weight.astype(jnp.float32) + product).astype(weight.dtype)
    return params._replace(layers=params.layers._replace(**changed))


def joined(first: LowRank | None, second: LowRank) -> LowRank:
    """Factors that add what two pairs of factors add one after the other; their ranks add up."""
    if first is None:
        return second
    factors = {}
    for name in PROJECTIONS:
        pairs = [(low.factors[name], low.scale / second.scale) for low in (first, second) if name in low.factors]
        if pairs:
            a = jnp.concatenate([pair.a for pair, _ in pairs], axis=-1)
            factors[name] = Factors(a, jnp.concatenate([pair.b * share for pair, share in pairs], axis=-2))
    return LowRank(factors, second.scale)


def split(params: Params, devices: Sequence[Any]) -> Params:
    """The parameters divided among devices: inner features of every layer and words of the vocabulary.

    A weight whose size the number of devices does not divide is on all of them whole. What is computed from divided
    parameters is divided likewise, by the compiler; results differ by the rounding of reordered sums.
    """
    mesh = jax.sharding.Mesh(np.asarray(devices), ("feature",))

    def placed(leaf, axis: int | None) -> Any:
        fits = axis is not None and leaf.shape[axis] % len(devices) == 0
        spec: list[str | None] = ["feature" if fits and place == axis else None for place in range(leaf.ndim)]
        return jax.device_put(leaf, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec)))

    inner = dict.fromkeys(("query", "key", "value", "gate", "up"), 2) | {"output": 1, "down": 1}
    layers: Any = {
        name: None if leaf is None else placed(leaf, inner.get(name)) for name, leaf in params.layers._asdict().items()
    }
    rows = ("embedding", "head")
    whole: Any = {
        name: None if leaf is None else placed(leaf, 0 if name in rows else None)
        for name, leaf in params._asdict().items()
        if name != "layers"
    }
    return Params(layers=Layer(**layers), **whole)


def features(
    params: Params,
    tokens: Int[Array, "batch time"],
    valid: Bool[Array, "batch time"],
    config: DecoderConfig,
    *,
    low_rank: LowRank | None = None,
    remat: bool = False,
) -> Float[Array, "batch time hidden"]:
    """Final hidden states of whole left-padded texts, after the last norm.

    Args:
        remat: compute layers again in the backward pass instead of keeping their insides.
    """
    hidden, _ = run(params, tokens, positions(valid), valid, config, low_rank=low_rank, remat=remat)
    return hidden


def logits(
    params: Params, hidden: Float[Array, "*place hidden"], config: DecoderConfig
) -> Float[Array, "*place vocab"]:
    """Scores of the next token, float32."""
    head = params.embedding if config.tied or params.head is None else params.head
    scores = jnp.einsum("...d,vd->...v", hidden, head, preferred_element_type=jnp.float32)
    return _capped(scores, config.logit_cap)


def logprobs(
    params: Params, hidden: Float[Array, "*place hidden"], tokens: Int[Array, "*place"], config: DecoderConfig
) -> Float[Array, "*place"]:
    """Log-probability of one token at each place, in nats, float32. Its gradient is written by hand: it reads the
    scores of all words in two products, where the derived one also scales and transposes them. Scores with a cap have
    the derived one."""
    if config.logit_cap is not None:
        scores = jax.nn.log_softmax(logits(params, hidden, config))
        return jnp.take_along_axis(scores, tokens[..., None], axis=-1)[..., 0]
    head = params.embedding if config.tied or params.head is None else params.head
    return token_logprobs.logprobs(hidden.reshape(-1, hidden.shape[-1]), head, tokens.reshape(-1)).reshape(tokens.shape)


def positions(valid: Bool[Array, "batch time"]) -> Int[Array, "batch time"]:
    """Number of each token among the valid ones of its row, from 0; padding on the left has 0 too."""
    return jnp.maximum(jnp.cumsum(valid, axis=1) - 1, 0)


def _norm(x, weight, config: DecoderConfig, bias=None):
    y = x.astype(jnp.float32)
    if config.norm == "layer":
        y = y - jnp.mean(y, axis=-1, keepdims=True)
    y = y * lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + config.norm_eps)
    y = y * _last_axis(weight.astype(jnp.float32) + config.norm_offset, y)
    return (y if bias is None else y + _last_axis(bias.astype(jnp.float32), y)).astype(x.dtype)


def _capped(scores, cap: float | None):
    """Scores between -cap and cap; as they are without a cap."""
    return scores if cap is None else cap * jnp.tanh(scores / cap)


def _last_axis(vector, like):
    """The vector with the axes of `like`, so that it applies to the last one."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))


def _rotate(x: Float[Array, "batch time head dim"], cosine, sine):
    """Halves of a head are the two coordinates; of a head that turns in part, halves of that part, which comes first.
    Stacked and not joined, for the sake of the gradient on a CPU."""
    if (width := 2 * cosine.shape[-1]) < x.shape[-1]:
        return jnp.concatenate([_rotate(x[..., :width], cosine, sine), x[..., width:]], axis=-1)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.stack([first * cosine - second * sine, second * cosine + first * sine], axis=-2).reshape(x.shape)


def _attend(query, key, value, allowed: Bool[Array, "batch time seen"], scale: float, cap: float | None):
    """Softmax attention, (batch, head, time, dim); query heads share the key heads in equal groups. Float32 inside."""
    batch, heads, time, dim = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, dim)  # the queries of a group follow one another
    scores = jnp.einsum("bkqd,bksd->bkqs", grouped, key, preferred_element_type=jnp.float32) * scale
    scores = _capped(scores, cap).reshape(batch, heads, time, -1)
    weights = jax.nn.softmax(jnp.where(allowed[:, None], scores, jnp.finfo(jnp.float32).min), axis=-1)
    weights = weights.astype(value.dtype).reshape(batch, key.shape[1], -1, key.shape[2])
    return jnp.einsum("bkqs,bksd->bkqd", weights, value).reshape(query.shape)


def empty_cache(config: DecoderConfig, batch: int, time: int, dtype) -> Cache | tuple[Cache, ...]:
    """A cache of so many rows and places that holds nothing yet."""
    empty = jnp.zeros((batch, config.num_kv_heads, time, config.head_dim), dtype)
    if config.num_layers <= SHALLOW:
        return (Cache(empty, empty),) * config.num_layers
    return Cache(*(jnp.broadcast_to(empty, (config.num_layers, *empty.shape)),) * 2)


def run(
    params: Params, tokens, places, seen, config: DecoderConfig, *, cache: Cache | tuple[Cache, ...] | None = None,
    at=0, low_rank: LowRank | None = None, remat: bool = False,
):  # fmt: skip
    """All layers on `tokens` at `places`; with a cache they are written at `at` and attend to what it holds.

    Args:
        seen: which keys may be looked at: of `tokens`, or of the whole cache.
    """
    hidden, cache, _ = _layers(
        params, tokens, places, seen, config, cache=cache, at=at, low_rank=low_rank, remat=remat, keep=False
    )
    return hidden, cache


def residual_streams(
    params: Params,
    tokens: Int[Array, "batch time"],
    valid: Bool[Array, "batch time"],
    config: DecoderConfig,
    *,
    low_rank: LowRank | None = None,
) -> Float[Array, "layer batch time hidden"]:
    """Hidden states after every layer, before the last norm."""
    _, _, streams = _layers(
        params, tokens, positions(valid), valid, config, cache=None, at=0, low_rank=low_rank, remat=False, keep=True
    )
    assert streams is not None
    return streams


def _layers(params: Params, tokens, places, seen, config: DecoderConfig, *, cache, at, low_rank, remat, keep: bool):
    """The hidden states after the last norm and the cache, as `run` returns them; with `keep` also those after every
    layer."""
    c, (batch, time) = config, tokens.shape
    x = params.embedding[tokens]
    x = x * jnp.asarray(c.embedding_scale, x.dtype)
    if params.positions is not None:
        if seen.shape[1] > len(params.positions):
            raise errors.ContextError(
                f"there is room for {seen.shape[1]} tokens, prompt and reply together, and the model has learnt "
                f"{len(params.positions)} positions; shorten the texts or ask for fewer tokens"
            )
        x = x + params.positions[places]

    def rotation(frequencies):
        """From a table of places: XLA:CPU would take the sines of every token's angle anew for each rotation."""
        angle = jnp.outer(jnp.arange(seen.shape[1], dtype=jnp.float32), jnp.asarray(frequencies, jnp.float32))
        return tuple(function(angle).astype(x.dtype)[places][:, :, None] for function in (jnp.cos, jnp.sin))

    everywhere = rotation(c.frequencies)
    local = rotation(c.local_frequencies) if c.local_frequencies else everywhere
    query_at = at + jnp.arange(time)[:, None]
    key_at = jnp.arange(seen.shape[1])[None, :]
    causal = (key_at <= query_at)[None] & seen[:, None, :]
    windowed = causal if c.window is None else causal & (query_at - key_at < c.window)[None]
    gelu = functools.partial(jax.nn.gelu, approximate=c.activation == "gelu")
    activation = jax.nn.silu if c.activation == "silu" else gelu
    mixed = any(c.local_layers)  # some layers look through a window
    is_local = jnp.asarray(c.local_layers or (False,) * c.num_layers)
    unrotated = jnp.asarray(c.unrotated_layers) if any(c.unrotated_layers) else None
    factors = {} if low_rank is None else low_rank.factors

    def layer(x, scanned):
        (w, windows, unrotated, extra), kept = scanned

        def linear(name, h):
            flat = h.reshape(-1, h.shape[-1])  # as a matrix: XLA:CPU takes longer for the gradient otherwise
            y = flat @ getattr(w, name)
            bias = getattr(w, f"{name}_bias", None)
            y = y if bias is None else y + _last_axis(bias, y)
            if name in extra:
                a, b = (factor.astype(h.dtype) for factor in extra[name])
                y = y + (flat @ a) @ b * low_rank.scale.astype(h.dtype)  # pyright: ignore[reportOptionalMemberAccess]
            return y.reshape(*h.shape[:-1], -1)

        def projected(name, norm):
            y = linear(name, h)
            if norm is not None and c.whole_qk_norm:
                y = _norm(y, norm, c)
            return y.reshape(batch, time, -1, c.head_dim)

        h = x if w.attention_norm is None else _norm(x, w.attention_norm, c, w.attention_norm_bias)
        norms = (("query", w.query_norm), ("key", w.key_norm), ("value", None))
        query, key, value = (projected(name, norm) for name, norm in norms)
        if w.query_norm is not None and not c.whole_qk_norm:
            query, key = _norm(query, w.query_norm, c), _norm(key, w.key_norm, c)
        if c.frequencies:
            cosine, sine = everywhere
            if mixed:
                cosine, sine = jax.tree.map(lambda a, b: jnp.where(windows, a, b), local, everywhere)
            if unrotated is not None:
                cosine, sine = jnp.where(unrotated, 1, cosine), jnp.where(unrotated, 0, sine)
            query, key = _rotate(query, cosine, sine), _rotate(key, cosine, sine)
        query, key, value = (leaf.swapaxes(1, 2) for leaf in (query, key, value))
        if kept is not None:
            key = lax.dynamic_update_slice(kept.key, key, (0, 0, at, 0))
            value = lax.dynamic_update_slice(kept.value, value, (0, 0, at, 0))
        allowed = jnp.where(windows, windowed, causal) if mixed else causal
        scale = c.head_dim**-0.5 if c.query_scale is None else c.query_scale
        heads = _attend(query, key, value, allowed, scale, c.attention_cap)
        attended = linear("output", heads.swapaxes(1, 2).reshape(batch, time, -1))
        if w.after_attention_norm is not None:
            attended = _norm(attended, w.after_attention_norm, c)
        between = x if c.parallel else x + attended
        h = between if w.feed_norm is None else _norm(between, w.feed_norm, c, w.feed_norm_bias)
        inner = activation(linear("gate", h)) * linear("up", h) if c.gated else activation(linear("up", h))
        fed = linear("down", inner)
        if w.after_feed_norm is not None:
            fed = _norm(fed, w.after_feed_norm, c)
        x = x + attended + fed if c.parallel else between + fed
        return x, (None if kept is None else Cache(key, value), x if keep else None)

    body = jax.checkpoint(layer) if remat else layer
    scanned = params.layers, is_local, unrotated, factors
    if c.num_layers > SHALLOW:
        x, (cache, streams) = lax.scan(body, x, (scanned, cache))
        return _norm(x, params.norm, c, params.norm_bias), cache, streams
    caches, streams = [], []
    for index in range(c.num_layers):
        own = jax.tree.map(lambda leaf, index=index: leaf[index], scanned)
        x, (kept, stream) = body(x, (own, None if cache is None else cache[index]))
        caches.append(kept)
        streams.append(stream)
    hidden = _norm(x, params.norm, c, params.norm_bias)
    return hidden, None if cache is None else tuple(caches), jnp.stack(streams) if keep else None
