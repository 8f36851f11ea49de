"""Families of open weights against second implementations in NumPy, which read the hub's tensors by the hub's names and
follow the description of each architecture; and what each family's config may not say."""

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from sublim_jax import errors
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import FinetuneConfig, Message, SamplingParams
from sublim_jax.llm.local import adapters, checkpoint, decoder, families, layout, model_config

pytest.importorskip("safetensors", reason="the extra hf is not installed")
from safetensors.numpy import load_file, save_file

VOCABULARY, HIDDEN, INNER, HEADS, DEPTH, EPS = 23, 16, 24, 4, 2, 1e-5
DIM = HIDDEN // HEADS
Tensors = dict[str, np.ndarray]


# ---------------------------------------------------------------------------------------------------------------------
# What the architectures share


def rms(x, weight):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPS) * weight


def layer_norm(x, weight, bias):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPS) * weight + bias


def silu(x):
    return x * special.expit(x)


def gelu(x):
    return x * special.ndtr(x)


def tanh_gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def by_head(x, dim=DIM):
    return x.reshape(len(x), -1, dim)


def rotate(x, theta, width=DIM):
    """The first `width` features of every head turn, halves of them being the two coordinates."""
    half = width // 2
    angle = np.arange(len(x))[:, None] * theta ** (-np.arange(half) / half)
    z = (x[..., :half] + 1j * x[..., half:width]) * np.exp(1j * angle)[:, None]
    return np.concatenate([z.real, z.imag, x[..., width:]], axis=-1)


def attend(query, key, value, *, scale=DIM**-0.5, window=None, cap=None):
    """Place by place and head by head; query heads share the key heads in equal groups."""
    out = np.zeros_like(query)
    for place in range(len(query)):
        first = 0 if window is None else max(0, place - window + 1)
        for head in range(query.shape[1]):
            group = head * key.shape[1] // query.shape[1]
            scores = key[first : place + 1, group] @ query[place, head] * scale
            scores = scores if cap is None else cap * np.tanh(scores / cap)
            out[place, head] = special.softmax(scores) @ value[first : place + 1, group]
    return out.reshape(len(query), -1)


# ---------------------------------------------------------------------------------------------------------------------
# The families: a config.json, the shapes of a layer's tensors by the hub's names, and the scores of a text


def gpt_neox(t: Tensors, tokens, config):
    x = t["gpt_neox.embed_in.weight"][tokens]
    for index in range(DEPTH):
        w = {name.split(f"layers.{index}.")[-1]: tensor for name, tensor in t.items()}
        h = layer_norm(x, w["input_layernorm.weight"], w["input_layernorm.bias"])
        joined = h @ w["attention.query_key_value.weight"].T + w["attention.query_key_value.bias"]
        query, key, value = np.split(by_head(joined, 3 * DIM), 3, axis=-1)
        query, key = (rotate(part, config["rotary_emb_base"], width=2) for part in (query, key))
        attended = attend(query, key, value) @ w["attention.dense.weight"].T + w["attention.dense.bias"]
        between = x if config["use_parallel_residual"] else x + attended
        h = layer_norm(between, w["post_attention_layernorm.weight"], w["post_attention_layernorm.bias"])
        inner = gelu(h @ w["mlp.dense_h_to_4h.weight"].T + w["mlp.dense_h_to_4h.bias"])
        x = x + attended + inner @ w["mlp.dense_4h_to_h.weight"].T + w["mlp.dense_4h_to_h.bias"]
    x = layer_norm(x, t["gpt_neox.final_layer_norm.weight"], t["gpt_neox.final_layer_norm.bias"])
    return x @ t["embed_out.weight"].T


NEOX_LAYER = {
    "input_layernorm": ("norm", HIDDEN), "post_attention_layernorm": ("norm", HIDDEN),
    "attention.query_key_value": (3 * HIDDEN, HIDDEN), "attention.dense": (HIDDEN, HIDDEN),
    "mlp.dense_h_to_4h": (INNER, HIDDEN), "mlp.dense_4h_to_h": (HIDDEN, INNER),
}  # fmt: skip
NEOX = {
    "model_type": "gpt_neox", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": INNER,
    "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "layer_norm_eps": EPS, "hidden_act": "gelu",
    "rotary_pct": 0.5, "rotary_emb_base": 100, "use_parallel_residual": True, "max_position_embeddings": 32,
}  # fmt: skip


def gpt2(t: Tensors, tokens, config):
    x = t["wte.weight"][tokens] + t["wpe.weight"][: len(tokens)]
    for index in range(DEPTH):
        w = {name.removeprefix(f"h.{index}."): tensor for name, tensor in t.items()}
        h = layer_norm(x, w["ln_1.weight"], w["ln_1.bias"])
        parts = np.split(h @ w["attn.c_attn.weight"] + w["attn.c_attn.bias"], 3, axis=-1)
        x = x + attend(*map(by_head, parts)) @ w["attn.c_proj.weight"] + w["attn.c_proj.bias"]
        inner = tanh_gelu(layer_norm(x, w["ln_2.weight"], w["ln_2.bias"]) @ w["mlp.c_fc.weight"] + w["mlp.c_fc.bias"])
        x = x + inner @ w["mlp.c_proj.weight"] + w["mlp.c_proj.bias"]
    return layer_norm(x, t["ln_f.weight"], t["ln_f.bias"]) @ t["wte.weight"].T


GPT2_LAYER = {
    "ln_1": ("norm", HIDDEN), "ln_2": ("norm", HIDDEN), "attn.c_attn": (HIDDEN, 3 * HIDDEN),
    "attn.c_proj": (HIDDEN, HIDDEN), "mlp.c_fc": (HIDDEN, INNER), "mlp.c_proj": (INNER, HIDDEN),
}  # fmt: skip
GPT2 = {
    "model_type": "gpt2", "vocab_size": VOCABULARY, "n_embd": HIDDEN, "n_inner": INNER, "n_layer": DEPTH,
    "n_head": HEADS, "n_positions": 16, "layer_norm_epsilon": EPS, "activation_function": "gelu_new",
}  # fmt: skip


def llama_like(t: Tensors, tokens, config):
    """OLMo2, Mistral, Phi-3, Gemma 2 and SmolLM3: a gated feed-forward, and norms without a mean."""
    family = config["model_type"]
    gemma, olmo, phi = (family == name for name in ("gemma2", "olmo2", "phi3"))
    gain = 1.0 if gemma else 0.0
    x = t["model.embed_tokens.weight"][tokens] * (HIDDEN**0.5 if gemma else 1.0)
    for index in range(DEPTH):
        w = {name.removeprefix(f"model.layers.{index}."): tensor for name, tensor in t.items()}

        def linear(name, h, w=w):
            return h @ w[f"{name}.weight"].T

        def norm(name, h, w=w):
            return rms(h, w[f"{name}.weight"] + gain)

        h = x if olmo else norm("input_layernorm", x)
        if phi:
            parts = np.split(linear("self_attn.qkv_proj", h), [HIDDEN, HIDDEN + HIDDEN // 2], axis=-1)
        else:
            parts = [linear(f"self_attn.{name}_proj", h) for name in "qkv"]
        if olmo:
            parts[:2] = norm("self_attn.q_norm", parts[0]), norm("self_attn.k_norm", parts[1])
        query, key, value = map(by_head, parts)
        if config.get("no_rope_layers", (1, 1))[index]:
            width = int(DIM * config.get("partial_rotary_factor", 1))
            query, key = (rotate(part, config["rope_theta"], width) for part in (query, key))
        window = config["sliding_window"] if family in ("mistral", "phi3") or (gemma and index == 0) else None
        scale, cap = (24**-0.5, 1.5) if gemma else (DIM**-0.5, None)
        attended = linear("self_attn.o_proj", attend(query, key, value, scale=scale, window=window, cap=cap))
        x = x + (norm("post_attention_layernorm", attended) if gemma or olmo else attended)
        before = "pre_feedforward_layernorm" if gemma else "post_attention_layernorm"
        h = x if olmo else norm(before, x)
        if phi:
            gate, up = np.split(linear("mlp.gate_up_proj", h), 2, axis=-1)
        else:
            gate, up = linear("mlp.gate_proj", h), linear("mlp.up_proj", h)
        fed = linear("mlp.down_proj", (tanh_gelu if gemma else silu)(gate) * up)
        x = x + (norm("post_feedforward_layernorm", fed) if gemma or olmo else fed)
    head = t["model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"]
    scores = rms(x, t["model.norm.weight"] + gain) @ head.T
    return 4.0 * np.tanh(scores / 4.0) if gemma else scores


SPLIT = {
    "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (HIDDEN // 2, HIDDEN),
    "self_attn.v_proj": (HIDDEN // 2, HIDDEN), "mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN),
}  # fmt: skip
JOINED = {"self_attn.qkv_proj": (2 * HIDDEN, HIDDEN), "mlp.gate_up_proj": (2 * INNER, HIDDEN)}
OUTPUTS = {"self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.down_proj": (HIDDEN, INNER)}
PRE = {"input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,)}
POST = {"post_attention_layernorm": (HIDDEN,), "post_feedforward_layernorm": (HIDDEN,)}
LLAMA = {
    "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS, "num_key_value_heads": HEADS // 2, "rms_norm_eps": EPS, "rope_theta": 100.0,
    "tie_word_embeddings": False, "max_position_embeddings": 32,
}  # fmt: skip


class Case(NamedTuple):
    """A family, laid out by hand."""

    config: dict[str, Any]
    layer: dict[str, tuple]  # shapes by module; "norm" in front stands for a norm with a bias
    scores: Callable[[Tensors, np.ndarray, dict[str, Any]], np.ndarray]
    base: str = "model."
    layers: str = "layers"
    whole: tuple[str, str, str] = ("embed_tokens", "norm", "lm_head")
    biases: bool = False


NEOX_NAMES = ("gpt_neox.", "layers", ("embed_in", "final_layer_norm", "embed_out"), True)
CASES = {
    "gpt-neox": Case(NEOX, NEOX_LAYER, gpt_neox, *NEOX_NAMES),
    "gpt-neox-in-turn": Case(NEOX | {"use_parallel_residual": False}, NEOX_LAYER, gpt_neox, *NEOX_NAMES),
    "gpt2": Case(GPT2, GPT2_LAYER, gpt2, "", "h", ("wte", "ln_f", "lm_head"), True),
    "mistral": Case(LLAMA | {"model_type": "mistral", "sliding_window": 3}, SPLIT | OUTPUTS | PRE, llama_like),
    "phi3": Case(
        LLAMA | {"model_type": "phi3", "sliding_window": 4, "partial_rotary_factor": 0.5},
        JOINED | OUTPUTS | PRE,
        llama_like,
    ),
    "olmo2": Case(
        LLAMA | {"model_type": "olmo2"},
        SPLIT | OUTPUTS | POST | {"self_attn.q_norm": (HIDDEN,), "self_attn.k_norm": (HIDDEN // 2,)},
        llama_like,
    ),
    "smollm3": Case(
        LLAMA | {"model_type": "smollm3", "no_rope_layers": [0, 1], "tie_word_embeddings": True},
        SPLIT | OUTPUTS | PRE,
        llama_like,
    ),
    "gemma2": Case(
        LLAMA
        | {"model_type": "gemma2", "head_dim": DIM, "tie_word_embeddings": True, "sliding_window": 3}
        | {"query_pre_attn_scalar": 24, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 4.0},
        SPLIT | OUTPUTS | PRE | POST | {"pre_feedforward_layernorm": (HIDDEN,)},
        llama_like,
    ),
}


def tensors_of(case: Case) -> Tensors:
    """Random tensors by the hub's names."""
    random = np.random.default_rng(0)
    embedding, norm, head = case.whole
    shapes: dict[str, tuple] = {f"{case.base}{embedding}": (VOCABULARY, HIDDEN), f"{case.base}{norm}": (HIDDEN,)}
    if not case.config.get("tie_word_embeddings", case.config["model_type"] == "gpt2"):
        shapes[head] = (VOCABULARY, HIDDEN)
    if case.config["model_type"] == "gpt2":
        shapes["wpe"] = (16, HIDDEN)
    shapes |= {
        f"{case.base}{case.layers}.{i}.{name}": shape for i in range(DEPTH) for name, shape in case.layer.items()
    }
    tensors = {}
    for name, shape in shapes.items():
        size = tuple(length for length in shape if length != "norm")
        scale = HIDDEN**-0.5 if len(size) == 2 else 0.3
        tensors[f"{name}.weight"] = random.normal(float(len(size) == 1), scale, size)
        if case.biases and name.startswith((f"{case.base}{case.layers}.", f"{case.base}{norm}")):
            outputs = size[-1] if case.config["model_type"] == "gpt2" else size[0]
            tensors[f"{name}.bias"] = random.normal(0, 0.3, outputs)
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def write(folder: pathlib.Path, case: Case, **more: np.ndarray) -> Tensors:
    folder.mkdir(exist_ok=True)
    tensors = tensors_of(case)
    save_file(tensors | more, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(case.config))
    return tensors


@functools.partial(jax.jit, static_argnames="config")
def scores_of(params, tokens, valid, *, config):
    return decoder.logits(params, decoder.features(params, tokens, valid, config), config)


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_description(tmp_path, name):
    """Float32 against float64, sums of 24 terms, two layers: 1e-5 of scores of order one. One text fills the row, of
    the other the left half is padding."""
    case = CASES[name]
    tensors = {key: tensor.astype(float) for key, tensor in write(tmp_path / "m", case).items()}
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, jax.eval_shape(
        lambda: decoder.init(jax.random.key(0), config)))  # fmt: skip
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, (2, 8))
    valid = np.arange(8)[None] >= np.array([[0], [4]])
    scores = np.asarray(scores_of(params, jnp.asarray(tokens), jnp.asarray(valid), config=config))
    for row, first in enumerate((0, 4)):
        expected = case.scores(tensors, tokens[row, first:], case.config)
        assert expected.std() > 0.3
        np.testing.assert_allclose(scores[row, first:], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])  # learnt positions; caps, and a window on one layer of two
def test_a_cache_token_by_token_gives_the_scores_of_whole_texts(tmp_path, name):
    """Also where the padding is on the right, which has no place among the positions. Equal up to float32 rounding."""
    write(tmp_path / "m", CASES[name])
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, VOCABULARY, (2, 8)))
    everywhere = jnp.ones((2, 8), bool)
    whole = np.asarray(scores_of(params, tokens, everywhere, config=config))
    right = scores_of(params, tokens, everywhere.at[1, 5:].set(False), config=config)
    np.testing.assert_allclose(right[1, :5], whole[1, :5], rtol=0, atol=1e-5)

    @jax.jit
    def step(cache, token, place):
        hidden, cache = decoder.run(
            params, token[:, None], jnp.full((2, 1), place), everywhere, config, cache=cache, at=place
        )
        return cache, decoder.logits(params, hidden[:, 0], config)

    cache = decoder.empty_cache(config, 2, 8, jnp.float32)
    for place in range(8):
        cache, scores = step(cache, tokens[:, place], place)
        np.testing.assert_allclose(scores, whole[:, place], rtol=0, atol=1e-5)


def test_log_probabilities_of_capped_scores_are_those_of_the_capped_scores(tmp_path):
    write(tmp_path / "m", CASES["gemma2"])
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    hidden, tokens = jax.random.normal(jax.random.key(0), (3, HIDDEN)), jnp.asarray([4, 0, 22])
    expected = 4.0 * np.tanh(np.asarray(hidden, float) @ np.asarray(params.embedding, float).T / 4.0)
    expected = special.log_softmax(expected, axis=-1)[np.arange(3), tokens]
    np.testing.assert_allclose(decoder.logprobs(params, hidden, tokens, config), expected, rtol=1e-5)


def test_learnt_positions_end_with_an_error_and_not_with_the_last_one(tmp_path):
    write(tmp_path / "m", CASES["gpt2"])
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    long = jnp.zeros((1, 17), int)
    with pytest.raises(errors.ContextError, match=r"room for 17 tokens, .* the model has learnt 16 positions; shorten"):
        jax.eval_shape(lambda: decoder.features(params, long, long == 0, config))


# ---------------------------------------------------------------------------------------------------------------------
# Folders


@pytest.mark.parametrize("name", ["gpt-neox", "gpt2", "phi3", "olmo2"])  # one of each way to name and join tensors
def test_what_is_written_is_what_was_read(tmp_path, name):
    """The hub's GPT-2 leaves out the name of the base, which transformers writes; both have one fingerprint."""
    case = CASES[name]
    tensors = write(tmp_path / "m", case)
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    checkpoint.save(tmp_path / "copy", params, config, beside=case.config)
    copied, base = load_file(tmp_path / "copy" / "model.safetensors"), "transformer." if name == "gpt2" else ""
    assert copied.keys() == {base + key for key in tensors}
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(copied[base + key], tensor, key)
    fingerprints = {checkpoint.fingerprint(tmp_path / folder, config) for folder in ("m", "copy")}
    assert fingerprints == {checkpoint.fingerprint_of(params, config)}
    key = next(key for key in tensors if "query_key" in key or "c_attn" in key or "qkv" in key or "q_proj" in key)
    save_file(tensors | {key: tensors[key] + 1}, tmp_path / "m" / "model.safetensors")
    assert checkpoint.fingerprint(tmp_path / "m", config) not in fingerprints


@pytest.mark.parametrize(
    ("name", "computed"),
    [
        ("gpt-neox", {"gpt_neox.layers.0.attention.bias": np.ones((1, 1, 4, 4), bool),
                      "gpt_neox.layers.1.attention.masked_bias": np.float32(-1e9),
                      "gpt_neox.layers.1.attention.rotary_emb.inv_freq": np.ones(1, np.float32)}),
        ("gpt2", {"h.0.attn.bias": np.ones((1, 1, 4, 4), np.float32)}),
    ],
)  # fmt: skip
def test_what_follows_from_the_config_may_lie_in_the_files(tmp_path, name, computed):
    write(tmp_path / "m", CASES[name], **{key: np.asarray(value) for key, value in computed.items()})
    checkpoint.load(tmp_path / "m")
    stray = {"gpt_neox.layers.0.attention.scale" if name == "gpt-neox" else "h.0.attn.scale": np.ones(1, np.float32)}
    write(tmp_path / "m", CASES[name], **stray)
    with pytest.raises(errors.ModelFormatError, match=r"0 tensors are missing \[\], 1 are unexpected .*scale"):
        checkpoint.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gpt-neox", {"rotary_pct": None}, "neither rotary_pct nor rope_parameters .* Pythia has rotary_pct 0.25"),
        ("gpt-neox", {"rotary_pct": 1.5}, "partial_rotary_factor 1.5 turns 6 of the 4 features of a head; expected an"),
        ("gpt-neox", {"rotary_pct": 0.25}, "partial_rotary_factor 0.25 turns 1 of the 4 features of a head"),
        ("gpt-neox", {"rotary_pct": "a half"}, "rotary_pct: expected a number, got 'a half'"),
        ("gpt-neox", {"layer_norm_eps": None}, "layer_norm_eps: expected a number, got None"),
        ("gpt-neox", {"hidden_act": "relu"}, "hidden_act 'relu' is not supported; supported are silu, gelu, gelu_py"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is not supported in"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights=false is not supported in a model of type gpt2"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention is not supported in a model of type gpt2"),
        ("gpt2", {"activation_function": "tanh"}, "activation_function 'tanh' is not supported"),
        ("gpt2", {"n_embd": None}, "n_embd: expected a whole number, got None"),
        ("gpt2", {"n_head": 5}, "n_embd=16 is no multiple of n_head=5"),
        ("olmo2", {"clip_qkv": 8.0}, "clip_qkv is not supported in a model of type olmo2"),
        ("mistral", {"layer_types": ["full_attention"] * 2}, "full_attention in layer_types is not supported .*=3"),
        ("mistral", {"sliding_window": 0}, "sliding_window: must be at least 1"),
        ("phi3", {"rope_scaling": {"type": "longrope", "short_factor": [1]}}, "rope_type 'longrope' is not supported"),
        ("phi3", {"rope_scaling": {"type": "su"}}, "rope_type 'su' is not supported; default, linear and llama3 are"),
        ("gemma2", {"attn_logit_softcapping": 0.0}, "attn_logit_softcapping: must be greater than 0"),
        ("gemma2", {"hidden_activation": "relu"}, "hidden_activation 'relu' is not supported"),
        ("smollm3", {"no_rope_layers": [1]}, "for 1 layers it is said whether they know no positions, and there are 2"),
        ("smollm3", {"no_rope_layers": [1, 2]}, r"no_rope_layers\[1\]: expected"),
        ("smollm3", {"use_sliding_window": True}, "use_sliding_window is not supported in a model of type smollm3"),
        ("olmo2", {"model_type": "gptj"}, "model_type 'gptj' is not supported; supported are qwen2 .*, gpt2 .GPT-2.$"),
        ("olmo2", {"model_type": "llama", "no_rope_layers": [1, 0]}, "no_rope_layers is not supported in a model"),
    ],
)  # fmt: skip
def test_a_config_of_another_architecture_is_refused_in_one_line(name, changes, message):
    with pytest.raises(errors.ModelFormatError, match=message) as refused:
        model_config._config(pathlib.Path("config.json"), CASES[name].config | changes)
    assert str(refused.value).startswith("config.json: ") and "\n" not in str(refused.value)


def test_pages_name_every_family():
    readme = pathlib.Path(__file__).parents[3] / "README.md"
    for page in (" ".join(readme.read_text().split()), " ".join((open_llm.__doc__ or "").split())):
        assert not [family.label for family in families.FAMILIES.values() if family.label not in page]


def test_entries_that_are_missing_are_what_transformers_takes_for_them():
    """By its own config classes, version 5.24; the parity tests compare the models."""

    def config_of(name, *missing, **changes):
        content = {key: value for key, value in (CASES[name].config | changes).items() if key not in missing}
        return model_config._config(pathlib.Path("config.json"), content)

    assert config_of("gpt2", "n_inner", "activation_function").intermediate_size == 4 * HIDDEN
    assert config_of("gpt2", num_key_value_heads=1, head_dim=2) == config_of("gpt2")
    neox = config_of("gpt-neox", "rotary_emb_base", "use_parallel_residual", "hidden_act")
    assert neox.parallel and neox.activation == "exact_gelu" and neox.qkv_bias and neox.output_bias
    newer = {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}}
    assert config_of("gpt-neox", "rotary_emb_base", "rotary_pct", **newer) == config_of("gpt-neox")
    assert not config_of("gpt-neox", attention_bias=False).qkv_bias
    assert config_of("mistral", "sliding_window").window == 4096
    assert config_of("mistral", sliding_window=None).local_layers == ()
    assert config_of("phi3", "sliding_window").local_layers == ()
    assert len(config_of("phi3", "partial_rotary_factor").frequencies) == DIM // 2
    smol = config_of("smollm3", "no_rope_layers", "tie_word_embeddings", "rope_theta", num_hidden_layers=8)
    assert smol.unrotated_layers == (False, False, False, True) * 2 and smol.tied
    assert smol.frequencies == decoder.rotary_frequencies(DIM, 2e6)
    gemma = config_of("gemma2", "attn_logit_softcapping", "final_logit_softcapping", "head_dim", "sliding_window")
    assert (gemma.attention_cap, gemma.logit_cap, gemma.head_dim, gemma.window) == (50.0, 30.0, 256, 4096)
    assert gemma.local_layers == (True, False) and gemma.activation == "gelu"
    assert config_of("gemma2", attn_logit_softcapping=None, final_logit_softcapping=None).logit_cap is None
    qwen = config_of("mistral", "sliding_window", model_type="qwen2", attention_bias=True, tie_word_embeddings=True)
    assert qwen.qkv_bias and not qwen.output_bias and not qwen.parallel and qwen.unrotated_layers == ()


# ---------------------------------------------------------------------------------------------------------------------
# Factors of joined modules


PEFT = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "bias": "none"}
ADAPTED = {
    "gpt-neox": ("gpt_neox.layers", tuple(name for name in NEOX_LAYER if "norm" not in name)),
    "gpt2": ("transformer.h", ("attn.c_attn", "mlp.c_proj")),
    "phi3": ("model.layers", ("self_attn.qkv_proj", "mlp.gate_up_proj")),
}  # fmt: skip


def write_adapter(folder, name, *, targets, **entries) -> Tensors:
    """A PEFT folder, laid out by hand, for both layers."""
    random, factors = np.random.default_rng(2), {}
    prefix, modules = ADAPTED[name]
    for index in range(DEPTH):
        for module in modules:
            fan_out, fan_in = CASES[name].layer[module][:: -1 if name == "gpt2" else 1]
            at = f"base_model.model.{prefix}.{index}.{module}"
            factors[f"{at}.lora_A.weight"] = random.standard_normal((2, fan_in)).astype(np.float32)
            factors[f"{at}.lora_B.weight"] = random.standard_normal((fan_out, 2)).astype(np.float32)
    folder.mkdir()
    save_file(factors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(PEFT | {"target_modules": targets} | entries))
    return factors


@pytest.mark.parametrize(
    ("name", "entries", "scale"),
    [
        ("gpt-neox", {"targets": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]}, 3.0),
        ("gpt-neox", {"targets": "all-linear", "use_rslora": True}, 6 * 2**-0.5),
        ("gpt2", {"targets": ["c_attn", "mlp.c_proj"], "fan_in_fan_out": True}, 3.0),
        ("phi3", {"targets": ["qkv_proj", "gate_up_proj"], "use_rslora": True}, 6 * 2**-0.5),
    ],
)
def test_factors_of_joined_modules_change_the_weights_of_their_parts(tmp_path, name, entries, scale):
    """The file's tensors plus scale * B @ A, by NumPy. What is saved again is the same adapter, by PEFT's names."""
    tensors = write(tmp_path / "m", CASES[name])
    factors = write_adapter(tmp_path / "a", name, **entries)
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    low_rank = adapters.load(tmp_path / "a", config)
    adapters.save(tmp_path / "again", low_rank, config, base="m")
    assert load_file(tmp_path / "again" / "adapter_model.safetensors").keys() == factors.keys()
    for loaded in (low_rank, adapters.load(tmp_path / "again", config)):
        merged = checkpoint.tensors_of(decoder.merged(params, loaded), config)
        for key, tensor in tensors.items():
            key = f"transformer.{key}" if name == "gpt2" else key
            at = f"base_model.model.{key.removesuffix('.weight')}"
            expected = tensor
            if f"{at}.lora_A.weight" in factors:
                product = scale * factors[f"{at}.lora_B.weight"] @ factors[f"{at}.lora_A.weight"]
                expected = tensor + (product.T if name == "gpt2" else product)
            np.testing.assert_allclose(merged[key], expected, rtol=1e-5, atol=1e-5, err_msg=key)


def test_factors_that_were_trained_apart_are_saved_side_by_side_and_read_apart(tmp_path):
    """Queries, keys and values have first factors of their own here; PEFT has one for all three, of three times the
    rank. The saved pair, multiplied by NumPy, is that of the parts."""
    write(tmp_path / "m", CASES["gpt-neox"])
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    fresh = decoder.init_low_rank(jax.random.key(0), params, rank=2, alpha=6.0)
    low_rank = fresh._replace(factors=jax.tree.map(lambda leaf: leaf + 0.05, fresh.factors))
    adapters.save(tmp_path / "a", low_rank, config, base="m")
    content = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert content["r"] == 6 and content["lora_alpha"] == 18.0 and not content["fan_in_fan_out"]
    assert content["target_modules"] == ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"]
    saved = load_file(tmp_path / "a" / "adapter_model.safetensors")
    at = "base_model.model.gpt_neox.layers.1.attention.query_key_value"
    product = 3.0 * saved[f"{at}.lora_B.weight"] @ saved[f"{at}.lora_A.weight"]
    for place, part in enumerate(("query", "key", "value")):
        a, b = (np.asarray(factor[1]) for factor in low_rank.factors[part])
        rows = product.reshape(HEADS, 3, DIM, HIDDEN)[:, place].reshape(HIDDEN, HIDDEN)
        np.testing.assert_allclose(rows, (3.0 * a @ b).T, rtol=1e-5, atol=1e-6)
    loaded = adapters.load(tmp_path / "a", config)
    for part in ("query", "key", "value"):
        jax.tree.map(np.testing.assert_array_equal, loaded.factors[part], low_rank.factors[part])


def test_a_module_whose_last_name_another_has_too_is_named_in_full(tmp_path):
    write(tmp_path / "m", CASES["gpt2"])
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    whole = decoder.init_low_rank(jax.random.key(0), params, rank=1)
    for parts, targets in ((("down",), ["mlp.c_proj"]), (("down", "output"), ["c_proj"]), (("value",), ["c_attn"])):
        low_rank = whole._replace(factors={part: whole.factors[part] for part in parts})
        folder = tmp_path / "-".join(parts)
        adapters.save(folder, low_rank, config, base="m")
        content = json.loads((folder / "adapter_config.json").read_text())
        assert content["target_modules"] == targets and content["fan_in_fan_out"]
        adapters.load(folder, config)


def test_factors_outside_the_layers_are_refused(tmp_path):
    write(tmp_path / "m", CASES["gpt2"])
    factors = write_adapter(tmp_path / "a", "gpt2", targets=["c_attn", "mlp.c_proj", "wte"])
    at = "base_model.model.transformer.wte.lora_"
    more = {f"{at}A.weight": np.ones((2, VOCABULARY), np.float32), f"{at}B.weight": np.ones((HIDDEN, 2), np.float32)}
    save_file(factors | more, tmp_path / "a" / "adapter_model.safetensors")
    with pytest.raises(
        errors.ModelFormatError, match=r"factors of transformer\.wte are not supported, only those of l"
    ):
        adapters.load(tmp_path / "a", model_config.read_config(tmp_path / "m"))


def test_parts_of_a_module_divide_its_outputs():
    """Every output belongs to one part, in every layout."""
    for case in CASES.values():
        config = model_config._config(pathlib.Path("config.json"), case.config)
        for module in layout.modules(config):
            outputs = np.arange(module.fan_out)
            places = np.concatenate([module.part(outputs, part) for part in module.outputs])
            np.testing.assert_array_equal(np.sort(places), outputs)


# ---------------------------------------------------------------------------------------------------------------------
# A base model in use


@pytest.mark.slow
def test_a_base_model_is_sampled_scored_and_finetuned(tmp_path):
    """As Pythia is: plain text, one joined pair of factors a module. The opened adapter scores as the finetuned model;
    what other processes do to the sums is float32 rounding."""
    tokenizers = pytest.importorskip("tokenizers", reason="the extra hf is not installed")
    words = ["<end>", *(f"{number}," for number in range(VOCABULARY - 2)), "[UNK]"]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    write(tmp_path / "m", CASES["gpt-neox"])
    made.save(str(tmp_path / "m" / "tokenizer.json"))
    (tmp_path / "m" / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))
    backend, base = open_llm.open_backend(f"hf:{tmp_path / 'm'}", batch_size=2)
    chat = (Message("user", "1, 2, 3,"),)
    assert len(list(backend.sample(base, [chat], SamplingParams(max_tokens=4)))) == 1
    rows = [(*chat, Message("assistant", "4, 5,")), (Message("user", "7,"), Message("assistant", "8, 9, 10,"))]
    config = FinetuneConfig(num_epochs=2, batch_size=2, learning_rate=0.02, rank=2, alpha=4.0)
    tuned = backend.finetune(base, rows, config, tmp_path / "tuned")
    before, after = (backend.choice_logprobs(name, [chat], ["4, 5,"])[0].logprobs[0] for name in (base, tuned))
    assert after > before
    again, name = open_llm.open_backend(f"hf:{tmp_path / 'm'}+{tuned}", batch_size=2)
    assert again.choice_logprobs(name, [chat], ["4, 5,"])[0].logprobs[0] == pytest.approx(after, rel=1e-5)
