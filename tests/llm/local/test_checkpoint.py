"""Folders of open weights: every tensor in its place, every wrong folder refused by name, factors in PEFT's format."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm.local import checkpoint, decoder, model_config

pytest.importorskip("safetensors", reason="the extra hf is not installed")
from safetensors.numpy import load_file, save_file

HERE = pathlib.Path("config.json")
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
SHAPE = {
    "vocab_size": 11,
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS = {
    "qwen2": {"model_type": "qwen2", "rope_theta": 1e6, "tie_word_embeddings": True, "hidden_act": "silu"},
    "qwen3": {"model_type": "qwen3", "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "head_dim": 6},
    "llama": {
        "model_type": "llama",
        "rope_theta": 5e5,
        "rope_scaling": LLAMA_3,
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
    vocabulary = config["vocab_size"]
    names = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    if family in ("qwen3", "llama"):
        names["lm_head.weight"] = (vocabulary, hidden)
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
    parts = dict(zip(SHARDS, (list(tensors.items())[:half], list(tensors.items())[half:]), strict=True))
    for name, part in parts.items():
        save_file(dict(part), folder / name)
    places = {tensor: name for name, part in parts.items() for tensor, _ in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
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
    assert model_config.read_config(tmp_path / "copy") == config


def test_bfloat16_stays_bfloat16(tmp_path):
    tensors = write(tmp_path / "m", dtype=jnp.bfloat16)
    _, params = checkpoint.load(tmp_path / "m")
    assert params.embedding.dtype == jnp.bfloat16
    np.testing.assert_array_equal(params.embedding, tensors["model.embed_tokens.weight"])


def test_switches_of_the_families():
    configs = {family: model_config._config(HERE, config_of(family)) for family in CONFIGS}
    assert configs["qwen2"].qkv_bias and configs["qwen2"].tied and configs["qwen2"].head_dim == 4
    assert configs["qwen3"].qk_norm and not configs["qwen3"].tied and configs["qwen3"].head_dim == 6
    gemma = configs["gemma3"]
    assert gemma.local_layers == (True, False) and gemma.window == 5 and gemma.query_scale == 0.25
    assert gemma.norm_offset == 1 and gemma.embedding_scale == pytest.approx(8**0.5) and gemma.tied
    assert gemma.frequencies == decoder.rotary_frequencies(4, 1e6)
    assert gemma.local_frequencies == decoder.rotary_frequencies(4, 1e4)
    older = {k: v for k, v in config_of("gemma3", num_hidden_layers=7).items() if k != "layer_types"}
    assert model_config._config(HERE, older).local_layers == (True,) * 5 + (False, True)


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
    found = model_config._config(HERE, config_of("llama")).frequencies
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    wide = model_config._frequencies(HERE, {**rope, "rope_theta": 1e4}, 64)
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
    with pytest.raises(
        errors.ModelFormatError, match=r"there is neither model.safetensors nor .*; other formats are not read"
    ):
        checkpoint.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"<html>not found</html>")
    with pytest.raises(errors.ModelFormatError, match="not a readable safetensors file"):
        checkpoint.load(tmp_path)


def test_a_tied_model_may_hold_a_copy_of_its_head(tmp_path):
    write(tmp_path / "m", change=lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].copy()}))
    assert checkpoint.load(tmp_path / "m")[1].head is None


def test_a_config_of_another_kind_is_refused(tmp_path):
    for content, what in (
        ([], "expected a JSON object, found a list"),
        (config_of("qwen3", hidden_size="12"), "hidden_size: expected a whole number, got '12'"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(errors.ModelFormatError, match=what):
            model_config.read_config(tmp_path)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("qwen2", {"num_attention_heads": 0}, "num_attention_heads: must be at least 1, got 0"),
        ("qwen2", {"num_attention_heads": None}, "num_attention_heads: expected a whole number, got None"),
        ("qwen2", {"num_key_value_heads": -1}, "num_key_value_heads: must be at least 1, got -1"),
        ("qwen2", {"num_key_value_heads": 0}, "num_key_value_heads: must be at least 1, got 0"),
        ("qwen2", {"num_attention_heads": 3, "head_dim": 4, "num_key_value_heads": 2}, "3 heads of the queries cannot"),
        ("qwen2", {"num_hidden_layers": 3.0}, "num_hidden_layers: expected a whole number, got 3.0"),
        ("qwen2", {"num_hidden_layers": 10**9}, "num_hidden_layers: must be at most 4096"),
        ("qwen2", {"vocab_size": 10**400}, "vocab_size: must be at most"),
        ("qwen2", {"vocab_size": True}, "vocab_size: expected a whole number, got True"),
        ("qwen2", {"head_dim": 5}, "head_dim=5 is odd"),
        ("qwen2", {"hidden_size": 9}, "hidden_size=9 is no multiple of num_attention_heads=2"),
        ("qwen2", {"rms_norm_eps": math.nan}, "rms_norm_eps: expected a finite number, got nan"),
        ("qwen2", {"rms_norm_eps": None}, "rms_norm_eps: expected a number, got None"),
        ("qwen2", {"rope_theta": -1.0}, "rope_theta: must be greater than 0"),
        ("qwen2", {"rope_theta": math.inf}, "rope_theta: expected a finite number"),
        ("qwen2", {"rope_scaling": "linear"}, "rope_scaling: expected an object of names and values, got 'linear'"),
        ("qwen2", {"rope_scaling": {"type": "linear"}}, "rope_type 'linear' needs the entry 'factor'"),
        ("qwen2", {"rope_scaling": {"type": "linear", "factor": 0}}, "embedding: factor: must be greater than 0"),
        ("qwen2", {"rope_theta": 1e300}, "rope_theta: must be at most 3.4028.*e.38, got 1e.300"),
        ("qwen2", {"rms_norm_eps": 1e-50}, "rms_norm_eps: must be at least 1.17549.*e-38, got 1e-50"),
        ("llama", {"rope_scaling": LLAMA_3 | {"factor": 10**40}}, "factor: must be at most 3.4028.*e.38, got 10{40}"),
        ("qwen2", {"rope_scaling": {"factor": 4.0}}, "has factor 4.0, and its rope_type does not say what for"),
        ("qwen2", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported"),
        ("qwen2", {"rope_parameters": {"full_attention": {"rope_theta": 5.0}}}, "by kind of layer are supported for G"),
        ("qwen2", {"tie_word_embeddings": "false"}, "tie_word_embeddings: expected True or False, got 'false'"),
        ("qwen2", {"layer_types": ["full_attention"] * 3}, "layer_types has 3 entries, and num_hidden_layers is 2"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 2}, "sliding_attention in layer_types is not supported"),
        ("qwen2", {"layer_types": ["chunked_attention"] * 2}, "layer_types.*: expected one of 'full_attention'"),
        ("qwen2", {"model_type": ["qwen2"]}, r"model_type \['qwen2'\] is not supported"),
        ("llama", {"rope_scaling": LLAMA_3 | {"high_freq_factor": 1.0}}, "must be greater than low_freq_factor"),
        ("gemma3", {"sliding_window": None}, "the size of the window is missing"),
        ("gemma3", {"sliding_window": 0}, "sliding_window: must be at least 1"),
        ("gemma3", {"layer_types": ["sliding_attention"]}, "layer_types has 1 entries"),
        ("gemma3", {"layer_types": None, "sliding_window_pattern": 0}, "sliding_window_pattern: must be at least 1"),
        ("gemma3", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar: must be greater than 0"),
        ("gemma3", {"hidden_act": "silu", "hidden_activation": "relu"}, "hidden_activation 'relu' is not"),
        ("gemma3", {"rope_parameters": {"full_attention": [1.0]}}, "rope_parameters: expected an object of names"),
    ],
)  # fmt: skip
def test_an_entry_that_makes_no_sense_is_refused_in_one_line(family, changes, message):
    with pytest.raises(errors.ModelFormatError, match=message) as refused:
        model_config._config(HERE, config_of(family, **changes))
    assert str(refused.value).startswith("config.json: ") and "\n" not in str(refused.value)


def test_null_and_missing_entries_are_what_transformers_takes_for_them():
    """By its own config classes; the parity tests compare the models."""
    nulls = {"num_key_value_heads": None, "head_dim": None, "layer_types": None, "rope_scaling": None}
    config = model_config._config(HERE, config_of("llama", **nulls))
    assert (config.num_kv_heads, config.head_dim, config.local_layers) == (2, 4, ())
    assert config.frequencies == decoder.rotary_frequencies(4, 5e5)
    plain = {name: value for name, value in config_of("qwen2").items() if name != "rope_theta"}
    assert model_config._config(HERE, plain).frequencies == decoder.rotary_frequencies(4, 1e4)
    bare = {"model_type": "gemma3_text", "head_dim": 4, "num_hidden_layers": 7}
    gemma = model_config._config(HERE, SHAPE | bare | {"layer_types": None, "sliding_window_pattern": None})
    assert gemma.activation == "gelu" and gemma.tied and gemma.window == 4096 and gemma.query_scale == 256**-0.5
    assert gemma.local_layers == (True,) * 5 + (False, True)
    assert gemma.frequencies == decoder.rotary_frequencies(4, 1e6)
    assert gemma.local_frequencies == decoder.rotary_frequencies(4, 1e4)
    both = config_of("qwen2", rope_parameters={"rope_theta": 7.0}, rope_scaling={"type": "linear", "factor": 2})
    np.testing.assert_allclose(model_config._config(HERE, both).frequencies, np.array([1.0, 1e6**-0.5]) / 2)


def test_the_index_decides_which_files_are_read(tmp_path):
    """Strays of the kinds that lie in real folders: a backup, half precision, an old whole model."""
    expected, said = write(tmp_path / "m"), []
    for name in ("z_old.safetensors", "model-00001-of-00002-fp16.safetensors"):
        save_file({"model.norm.weight": np.zeros(8, np.float32)}, tmp_path / "m" / name)
    _, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32, announce=said.append)
    np.testing.assert_array_equal(params.norm, expected["model.norm.weight"])
    assert len(said) == 1 and "model-00001-of-00002-fp16.safetensors, z_old.safetensors not read" in said[0]
    whole = {"model.norm.weight": np.zeros(8, np.float32)}
    save_file(whole, tmp_path / "m" / "model.safetensors")
    with pytest.raises(errors.ModelFormatError, match=r"there are two models, model.safetensors and the files"):
        checkpoint.load(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").unlink()
    with pytest.raises(errors.ModelFormatError, match="25 tensors are missing"):  # and the shards are not read
        checkpoint.load(tmp_path / "m", announce=said.append)
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(errors.ModelFormatError, match=r"without an index model-00001.*z_old.safetensors is not read"):
        checkpoint.load(tmp_path / "m")


def edit_index(folder, change):
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i["weight_map"].update({NORM: "model-00003-of-00003.safetensors"}), "names model-00003-of-00003"),
        (lambda i: i["weight_map"].update({"extra": SHARDS[0]}), f"says that extra is in {SHARDS[0]}, and it is not"),
        (lambda i: i["weight_map"].pop(NORM), f"{SHARDS[0]} holds {NORM}, and model.safetensors.index.json does not n"),
        (lambda i: i["weight_map"].update({NORM: "../m/" + SHARDS[0]}), "expected the name of a file beside it for"),
        (lambda i: i["weight_map"].update({NORM: 3}), f"expected the name of a file beside it for {NORM}, found 3"),
        (lambda i: i.update(weight_map={}), "expected an object weight_map"),
        (lambda i: i.pop("weight_map"), "expected an object weight_map"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path, change, message):
    write(tmp_path / "m")
    edit_index(tmp_path / "m", change)
    with pytest.raises(errors.ModelFormatError, match=message):
        checkpoint.load(tmp_path / "m")


def test_a_tensor_in_two_files_is_refused(tmp_path):
    tensors = write(tmp_path / "m")
    second = load_file(tmp_path / "m" / SHARDS[1])
    save_file(second | {NORM: tensors[NORM] + 1}, tmp_path / "m" / SHARDS[1])
    with pytest.raises(
        errors.ModelFormatError, match=f"{SHARDS[1]} holds {NORM}, and .* says that it is in {SHARDS[0]}"
    ):
        checkpoint.load(tmp_path / "m")


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, bool])
def test_quantised_weights_without_their_config_are_refused(tmp_path, dtype):
    name = "model.layers.1.mlp.up_proj.weight"
    write(tmp_path / "m", change=lambda t: t.update({name: np.ones((12, 8), dtype)}))
    with pytest.raises(errors.ModelFormatError, match=f"{name} holds .*, expected floating-point numbers of 16"):
        checkpoint.load(tmp_path / "m")


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.float16])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, dtype, value):
    name = "model.layers.1.self_attn.k_proj.bias"

    def spoil(tensors):
        tensors[name][2] = value

    write(tmp_path / "m", dtype=dtype, change=spoil)
    with pytest.raises(errors.ModelFormatError, match=f"{name} has numbers that are not finite"):
        checkpoint.load(tmp_path / "m")


@pytest.mark.parametrize("family", ["qwen2", "llama", "gemma3"])
def test_a_fingerprint_is_of_the_weights_and_not_of_their_precision(tmp_path, monkeypatch, family):
    monkeypatch.setattr(checkpoint, "_ROWS", 3)  # fewer than there are of anything
    write(tmp_path / "m", family)
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    mark = checkpoint.fingerprint(tmp_path / "m", config)
    assert mark == checkpoint.fingerprint_of(params, config) and len(mark) == 16
    half = checkpoint.load(tmp_path / "m", dtype=jnp.bfloat16)[1]
    assert mark == checkpoint.fingerprint_of(half, config)
    checkpoint.save(tmp_path / "h", half, config, beside=config_of(family))
    assert mark == checkpoint.fingerprint(tmp_path / "h", config)
    leaves, structure = jax.tree.flatten(jax.tree.map(np.array, params))
    for leaf in leaves:
        leaf.flat[0] += 1
        assert checkpoint.fingerprint_of(jax.tree.unflatten(structure, leaves), config) != mark, leaf.shape
        leaf.flat[0] -= 1


def test_a_finetuned_model_leaves_a_folder_like_its_base(tmp_path):
    write(tmp_path / "m", dtype=np.float16)
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json", "unrelated.py"):
        (tmp_path / "m" / name).write_text(f"content of {name}")
    (tmp_path / "m" / "additional_chat_templates").mkdir()
    (tmp_path / "m" / "additional_chat_templates" / "rag.jinja").write_text("rag")
    config, params = checkpoint.load(tmp_path / "m", dtype=jnp.float32)
    tuned = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.25), params)
    checkpoint.save_tuned(tmp_path / "t", tuned, config, base=str(tmp_path / "m"))
    files = {str(path.relative_to(tmp_path / "t")) for path in (tmp_path / "t").rglob("*") if path.is_file()}
    assert files == {
        "config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "generation_config.json",
        "additional_chat_templates/rag.jinja",
    }  # fmt: skip
    said = json.loads((tmp_path / "t" / "config.json").read_text())
    assert said == config_of("qwen2") | {"dtype": "float32", "torch_dtype": "float32"}
    again, read = checkpoint.load(tmp_path / "t", dtype=jnp.float32)
    assert again == config and checkpoint.base_of(tmp_path / "t") == str(tmp_path / "m")
    jax.tree.map(np.testing.assert_array_equal, read, tuned)
    assert checkpoint.base_of(tmp_path / "m") is None


def test_weights_of_somebody_else_are_not_replaced_and_ours_are(tmp_path):
    path = tmp_path / checkpoint.WEIGHTS
    save_file({"years of work": np.ones(3, np.float32)}, path)
    before = path.read_bytes()
    with pytest.raises(errors.OutputError, match=f"^{path}: a file is there .* not replaced"):
        checkpoint.save_file(path, {"x": np.zeros(2, np.float32)}, {})
    assert path.read_bytes() == before
    for value in (1.0, 2.0):
        checkpoint.save_file(tmp_path / "ours", {"x": np.full(2, value, np.float32)}, {})
    assert load_file(tmp_path / "ours")["x"].tolist() == [2.0, 2.0]
