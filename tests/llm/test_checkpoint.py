"""Folders of open weights: every tensor in its place, every wrong folder refused by name, factors in PEFT's format."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import checkpoint, decoder

pytest.importorskip("safetensors", reason="the extra hf is not installed")
from safetensors.numpy import load_file, save_file

HERE = pathlib.Path("config.json")
SHAPE = {
    "vocab_size": 11,
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
}
CONFIGS = {
    "qwen2": {"model_type": "qwen2", "rope_theta": 1e6, "tie_word_embeddings": True, "hidden_act": "silu"},
    "qwen3": {"model_type": "qwen3", "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "head_dim": 6},
    "llama": {
        "model_type": "llama",
        "rope_theta": 5e5,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "head_dim": 4,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "sliding_window": 5,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 16,
        "hidden_activation": "gelu_pytorch_tanh",
    },
}


def config_of(family, **changes):
    return {**SHAPE, **CONFIGS[family], **changes}


def write(folder, family="qwen2", config=None, change=None, dtype=np.float32):
    """A folder of random weights, laid out by hand: linear maps (out, in). Returns the tensors."""
    config = config or config_of(family)
    random = np.random.default_rng(0)
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    heads, kv = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    names = {"model.embed_tokens.weight": (11, hidden), "model.norm.weight": (hidden,)}
    if family in ("qwen3", "llama"):
        names["lm_head.weight"] = (11, hidden)
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}"
        names |= {
            f"{at}.self_attn.q_proj.weight": (heads, hidden), f"{at}.self_attn.k_proj.weight": (kv, hidden),
            f"{at}.self_attn.v_proj.weight": (kv, hidden), f"{at}.self_attn.o_proj.weight": (hidden, heads),
            f"{at}.mlp.gate_proj.weight": (inner, hidden), f"{at}.mlp.up_proj.weight": (inner, hidden),
            f"{at}.mlp.down_proj.weight": (hidden, inner), f"{at}.input_layernorm.weight": (hidden,),
            f"{at}.post_attention_layernorm.weight": (hidden,),
        }  # fmt: skip
        if family == "qwen2":
            names |= {f"{at}.self_attn.{x}_proj.bias": (heads if x == "q" else kv,) for x in "qkv"}
        if family in ("qwen3", "gemma3"):
            names |= {f"{at}.self_attn.{x}_norm.weight": (head,) for x in "qk"}
        if family == "gemma3":
            names |= {f"{at}.{x}_feedforward_layernorm.weight": (hidden,) for x in ("pre", "post")}
    tensors = {name: random.standard_normal(shape).astype(dtype) for name, shape in names.items()}
    if change:
        change(tensors)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    half = len(tensors) // 2
    parts = list(tensors.items())
    save_file(dict(parts[:half]), folder / "model-00001-of-00002.safetensors")
    save_file(dict(parts[half:]), folder / "model-00002-of-00002.safetensors")
    return tensors


@pytest.mark.parametrize("family", CONFIGS)
def test_every_tensor_is_in_its_place(tmp_path, family):
    tensors = write(tmp_path / "m", family)
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    np.testing.assert_array_equal(params.embedding, tensors["model.embed_tokens.weight"])
    np.testing.assert_array_equal(params.norm, tensors["model.norm.weight"])
    places = {
        "self_attn.q_proj.weight": params.layers.query, "self_attn.k_proj.weight": params.layers.key,
        "self_attn.v_proj.weight": params.layers.value, "self_attn.o_proj.weight": params.layers.output,
        "mlp.gate_proj.weight": params.layers.gate, "mlp.up_proj.weight": params.layers.up,
        "mlp.down_proj.weight": params.layers.down, "input_layernorm.weight": params.layers.attention_norm,
    }  # fmt: skip
    if family == "gemma3":
        places |= {"post_attention_layernorm.weight": params.layers.after_attention_norm,
                   "pre_feedforward_layernorm.weight": params.layers.feed_norm,
                   "post_feedforward_layernorm.weight": params.layers.after_feed_norm}  # fmt: skip
    else:
        places["post_attention_layernorm.weight"] = params.layers.feed_norm
    if family == "qwen2":
        places["self_attn.k_proj.bias"] = params.layers.key_bias
    if family in ("qwen3", "gemma3"):
        places["self_attn.q_norm.weight"] = params.layers.query_norm
    for name, stacked in places.items():
        for layer in range(2):
            np.testing.assert_array_equal(stacked[layer], tensors[f"model.layers.{layer}.{name}"].T, name)
    assert (params.head is None) == (family in ("qwen2", "gemma3"))
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == jax.tree.map(jnp.shape, decoder.init(jax.random.key(0), config))


@pytest.mark.parametrize("family", CONFIGS)
def test_what_is_written_is_what_was_read(tmp_path, family):
    tensors = write(tmp_path / "m", family)
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    checkpoint.save(tmp_path / "copy", params, config, beside=config_of(family))
    again = load_file(tmp_path / "copy" / "model.safetensors")
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(again[name], tensor)
    assert checkpoint.read_config(tmp_path / "copy") == config


def test_bfloat16_stays_bfloat16(tmp_path):
    tensors = write(tmp_path / "m", dtype=jnp.bfloat16)
    _, params = checkpoint.load(tmp_path / "m")
    assert params.embedding.dtype == jnp.bfloat16
    np.testing.assert_array_equal(params.embedding, tensors["model.embed_tokens.weight"])


def test_switches_of_the_families():
    configs = {family: checkpoint._config(HERE, config_of(family)) for family in CONFIGS}
    assert configs["qwen2"].qkv_bias and configs["qwen2"].tied and configs["qwen2"].head_dim == 4
    assert configs["qwen3"].qk_norm and not configs["qwen3"].tied and configs["qwen3"].head_dim == 6
    gemma = configs["gemma3"]
    assert gemma.local_layers == (True, False) and gemma.window == 5 and gemma.query_scale == 0.25
    assert gemma.norm_offset == 1 and gemma.embedding_scale == pytest.approx(8**0.5) and gemma.tied
    assert gemma.frequencies == decoder.rotary_frequencies(4, 1e6)
    assert gemma.local_frequencies == decoder.rotary_frequencies(4, 1e4)
    older = {k: v for k, v in config_of("gemma3", num_hidden_layers=7).items() if k != "layer_types"}
    assert checkpoint._config(HERE, older).local_layers == (True,) * 5 + (False, True)


def test_llama_3_stretches_slow_rotations_only():
    """The rule as Llama 3.1's reference states it, frequency by frequency."""
    rope = CONFIGS["llama"]["rope_scaling"]
    expected = []
    for frequency in decoder.rotary_frequencies(4, 5e5):
        wavelength = 2 * math.pi / frequency
        low, high = 64 / rope["low_freq_factor"], 64 / rope["high_freq_factor"]
        if wavelength < high:
            expected.append(frequency)
        elif wavelength > low:
            expected.append(frequency / 8)
        else:
            smooth = (64 / wavelength - 1.0) / (4.0 - 1.0)
            expected.append((1 - smooth) * frequency / 8 + smooth * frequency)
    found = checkpoint._config(HERE, config_of("llama")).frequencies
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    wide = checkpoint._frequencies(HERE, {**rope, "rope_theta": 1e4}, 64)
    plain = np.array(decoder.rotary_frequencies(64, 1e4))
    assert found != decoder.rotary_frequencies(4, 5e5)
    assert np.any(wide == plain) and np.any(np.isclose(wide, plain / 8)) and np.all(np.diff(wide) < 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mixtral"}, "model_type 'mixtral' is not supported; supported are qwen2"),
        ({"use_sliding_window": True}, "use_sliding_window is not supported"),
        ({"quantization_config": {"bits": 4}}, "a quantised model is not supported"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_type 'yarn' is not supported"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported"),
        ({"model_type": "llama", "attention_bias": True}, "attention_bias is not supported"),
        ({"final_logit_softcapping": 30.0}, "softcapping of logits is not supported"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is not supported"),
    ],
)
def test_what_would_be_loaded_wrongly_is_refused(tmp_path, changes, message):
    write(tmp_path / "m", config=config_of("qwen2", **changes))
    with pytest.raises(errors.ModelFormatError, match=message):
        checkpoint.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), r"1 tensors are missing \['model.norm.weight'\], 0 are unexpected"),
        (lambda t: t.update(extra=np.ones(3, np.float32)), r"0 tensors are missing \[\], 1 are unexpected \['extra'\]"),
        (lambda t: t.update({"model.norm.weight": np.ones(3, np.float32)}), r"model.norm.weight has shape \(3,\)"),
    ],
)
def test_every_tensor_is_accounted_for(tmp_path, change, message):
    write(tmp_path / "m", change=change)
    with pytest.raises(errors.ModelFormatError, match=message):
        checkpoint.load(tmp_path / "m")


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(errors.ModelFormatError, match=r"config.json: there is no such file"):
        checkpoint.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(errors.ModelFormatError, match="not a readable JSON file"):
        checkpoint.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(errors.ModelFormatError, match="the entry 'hidden_size' is missing"):
        checkpoint.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config_of("qwen2")))
    with pytest.raises(errors.ModelFormatError, match=r"there is no \*.safetensors file"):
        checkpoint.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"<html>not found</html>")
    with pytest.raises(errors.ModelFormatError, match="not a readable safetensors file"):
        checkpoint.load(tmp_path)


def test_a_tied_model_may_hold_a_copy_of_its_head(tmp_path):
    write(tmp_path / "m", change=lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].copy()}))
    assert checkpoint.load(tmp_path / "m")[1].head is None


def test_factors_survive_a_folder_in_pefts_layout(tmp_path):
    write(tmp_path / "m", "qwen3")
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    fresh = decoder.init_low_rank(jax.random.key(0), params, rank=3, alpha=6.0)
    trained = jax.tree.map(lambda leaf: leaf + 0.1, fresh)._replace(scale=fresh.scale)
    checkpoint.save_low_rank(tmp_path / "a", trained, base="m")
    jax.tree.map(np.testing.assert_array_equal, checkpoint.load_low_rank(tmp_path / "a", config), trained)
    said = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (said["r"], said["lora_alpha"]) == (3, 6.0)
    assert said["target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    stored = load_file(tmp_path / "a" / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.down_proj"
    product = stored[f"{name}.lora_B.weight"] @ stored[f"{name}.lora_A.weight"] * 2.0  # (out, in), alpha / r = 2
    expected = np.asarray(params.layers.down[1]) + product.T
    np.testing.assert_allclose(decoder.merged(params, trained).layers.down[1], expected, rtol=1e-5, atol=1e-6)


def test_factors_of_another_model_are_refused(tmp_path):
    write(tmp_path / "m", "qwen3")
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    checkpoint.save_low_rank(tmp_path / "a", decoder.init_low_rank(jax.random.key(0), params, rank=2), base="m")
    other = checkpoint._config(HERE, config_of("qwen3", hidden_size=16))
    with pytest.raises(errors.ModelFormatError, match="they belong to another model"):
        checkpoint.load_low_rank(tmp_path / "a", other)
    shallow = checkpoint._config(HERE, config_of("qwen3", num_hidden_layers=1))
    with pytest.raises(errors.ModelFormatError, match="is unexpected; is it of another model"):
        checkpoint.load_low_rank(tmp_path / "a", shallow)
    deep = checkpoint._config(HERE, config_of("qwen3", num_hidden_layers=3))
    with pytest.raises(errors.ModelFormatError, match=r"layers.2.self_attn.q_proj.lora_A.weight is missing"):
        checkpoint.load_low_rank(tmp_path / "a", deep)
    said = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    for changes, what in (
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"use_rslora": True}, "LORA with use_rslora"),
        ({"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 1}}, "LORA with rank_pattern with alpha_pattern"),
        ({"init_lora_weights": "pissa"}, "LORA with init_lora_weights 'pissa'"),
    ):
        (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(said | changes))
        with pytest.raises(errors.ModelFormatError, match=f"only plain LORA adapters are supported, this is {what}$"):
            checkpoint.load_low_rank(tmp_path / "a", config)
    for content, what in (
        (said | {"r": 0}, r"rank r of at least 1 .* found 0 and 2"),
        ({name: value for name, value in said.items() if name != "lora_alpha"}, r"found 2 and None"),
        ([said], "holds a list, expected an object"),
    ):
        (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(content))
        with pytest.raises(errors.ModelFormatError, match=what):
            checkpoint.load_low_rank(tmp_path / "a", config)


def test_a_config_of_another_kind_is_refused(tmp_path):
    for content, what in (([], "expected a JSON object, found a list"), (config_of("qwen3", hidden_size="12"), "kind")):
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(errors.ModelFormatError, match=what):
            checkpoint.read_config(tmp_path)
