"""A GGUF file of the architecture llama as the files of a hub folder: the same config, tensors and tokenizer.

    file = GGUFFile("SmolLM2-135M-Instruct.Q4_1.gguf")
    config(file)             content of config.json
    LlamaTensors(file)       tensors by the hub's names, in the hub's order of rows
    tokenizer_files(file)    contents of tokenizer.json and tokenizer_config.json

Another architecture or tokenizer is refused by name, and so is any entry or tensor that would change the model. A
begin-of-text token is not added, as for every folder: the chat template holds it, or the model has none. A template may
bring a system turn of its own: that of SmolLM2 writes "You are a helpful AI assistant named SmolLM, trained by Hugging
Face" where a chat begins with no system turn. It is a part of the model, and is shown to it.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import annotated_types
import numpy as np

from sublim_jax import errors, specs
from sublim_jax.llm.local.gguf import GGUFFile

ARCHITECTURE = "llama"
ENTRIES = {
    "context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.layer_norm_rms_epsilon",
    "rope.freq_base", "rope.dimension_count", "vocab_size",
}  # fmt: skip
"""Entries of a llama that are used, or that repeat others and are compared with them."""
WITHOUT_EFFECT = {
    "expert_count": 0,
    "expert_used_count": 0,
    "rope.scaling.type": "none",
    "tensor_data_layout": "Meta AI original pth",
}
"""Further entries, with the only value that leaves the model a plain llama."""
PARTS = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
"""Tensors of a layer, by the names of GGUF and of the hub."""
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
"""Tensors of no layer, likewise."""
EMBEDDING, HEAD = "token_embd.weight", "output.weight"
SPLITTING: dict[str, list[dict[str, Any]]] = {
    "smollm": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ]
}
"""How a text is split before byte-pair encoding, by `tokenizer.ggml.pre`. SmolLM encodes every digit alone."""
NORMAL, CONTROL = 1, 3
"""Kinds of tokens that are read: those of text, and special ones such as the marks of a turn."""


def require_llama(file: GGUFFile) -> None:
    """Refuse a file that is no language model of the architecture llama, or one that changes it.

    Raises:
        ModelFormatError: such a file.
    """
    architecture, kind = file.entry("general.architecture", str), file.entry("general.type", str, "model")
    if architecture != ARCHITECTURE or kind != "model":
        raise errors.ModelFormatError(
            f"{file.path}: this is a GGUF file of the architecture {architecture} (general.type {kind}), which is not "
            f"supported; language models of the architecture {ARCHITECTURE} are"
        )
    for name, value in file.metadata.items():
        scheme, _, entry = name.partition(".")
        if scheme != ARCHITECTURE or entry in ENTRIES:
            continue
        if entry not in WITHOUT_EFFECT or value != WITHOUT_EFFECT[entry]:
            raise errors.ModelFormatError(f"{file.path}: the metadata entry {name}={value!r} is not supported")


class _Sizes(NamedTuple):
    """Sizes of a llama, by the names of its entries."""

    vocabulary: int
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head: int

    def of_layer(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors of a layer, by GGUF's names."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        return {
            "attn_norm": (self.hidden,), "attn_q": (queries, self.hidden), "attn_k": (keys, self.hidden),
            "attn_v": (keys, self.hidden), "attn_output": (self.hidden, queries), "ffn_norm": (self.hidden,),
            "ffn_gate": (self.inner, self.hidden), "ffn_up": (self.inner, self.hidden),
            "ffn_down": (self.hidden, self.inner),
        }  # fmt: skip


def _sizes(file: GGUFFile) -> _Sizes:
    """The sizes, of which several entries say the same.

    Raises:
        ModelFormatError: an entry is missing, makes no sense or contradicts another one.
    """
    if EMBEDDING not in file.names():
        raise errors.ModelFormatError(f"{file.path}: the tensor {EMBEDDING} is missing; is the file of a whole model?")
    vocabulary = file.shape(EMBEDDING)[0]
    layers = file.entry(f"{ARCHITECTURE}.block_count", Annotated[int, annotated_types.Interval(ge=1, le=2**12)])
    names = ("embedding_length", "feed_forward_length", "attention.head_count")
    hidden, inner, heads = (file.entry(f"{ARCHITECTURE}.{name}", specs.Count) for name in names)
    kv_heads = file.entry(f"{ARCHITECTURE}.attention.head_count_kv", specs.Count, heads)
    head = file.entry(f"{ARCHITECTURE}.attention.key_length", specs.Count, hidden // heads)
    repeated = {"attention.value_length": head, "rope.dimension_count": head, "vocab_size": vocabulary}
    for name, size in repeated.items():
        if (other := file.entry(f"{ARCHITECTURE}.{name}", specs.Count, size)) != size:
            raise errors.ModelFormatError(
                f"{file.path}: {ARCHITECTURE}.{name} is {other}, and the other entries and tensors say {size}; such a "
                f"model is not supported"
            )
    return _Sizes(vocabulary, layers, hidden, inner, heads, kv_heads, head)


def config(file: GGUFFile) -> dict[str, Any]:
    """The content of the config.json of that model.

    Raises:
        ModelFormatError: not a llama, or an entry is missing, makes no sense or is not supported.
    """
    require_llama(file)
    sizes = _sizes(file)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.inner,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head,
        "hidden_act": "silu",
        "rms_norm_eps": file.entry(f"{ARCHITECTURE}.attention.layer_norm_rms_epsilon", specs.Positive),
        "rope_theta": file.entry(f"{ARCHITECTURE}.rope.freq_base", specs.Positive, 10000.0),
        "max_position_embeddings": file.entry(f"{ARCHITECTURE}.context_length", specs.Count),
        "tie_word_embeddings": HEAD not in file.names(),
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": file.entry("tokenizer.ggml.bos_token_id", specs.CountOrZero, None),
        "eos_token_id": file.entry("tokenizer.ggml.eos_token_id", specs.CountOrZero, None),
    }


class LlamaTensors:
    """The tensors of a file by the hub's names, in the hub's order of rows. Every tensor is there, and no other.

    llama.cpp rotates neighbouring features of a head, the hub's code those that are half a head apart, so the converter
    interleaves the two halves of every head in the rows of query and key. They are put back here.

    Raises:
        ModelFormatError: a tensor is missing, unexpected, of another shape, or not finite.
    """

    def __init__(self, file: GGUFFile):
        require_llama(file)
        self._file, sizes = file, _sizes(file)
        shapes: dict[str, tuple[int, ...]] = {
            EMBEDDING: (sizes.vocabulary, sizes.hidden),
            "output_norm.weight": (sizes.hidden,),
        }
        if HEAD in file.names():
            shapes[HEAD] = (sizes.vocabulary, sizes.hidden)
        self._names = {
            f"{theirs}.weight": f"{stem}.weight" for stem, theirs in WHOLE.items() if f"{stem}.weight" in shapes
        }
        for layer in range(sizes.layers):
            for part, shape in sizes.of_layer().items():
                shapes[f"blk.{layer}.{part}.weight"] = shape
                self._names[f"model.layers.{layer}.{PARTS[part]}.weight"] = f"blk.{layer}.{part}.weight"
        _require_tensors(file, shapes)
        self._order = _halves(sizes.heads, sizes.head)

    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._file.shape(self._names[name])

    def rows(self, name: str, count: int) -> np.ndarray:
        """The first rows of a tensor."""
        stored = self._names[name]
        is_interleaved = stored.split(".")[-2] in ("attn_q", "attn_k")
        values = self._file.rows(stored, self._order[:count] if is_interleaved else slice(count))
        if not np.isfinite(values).all():
            raise errors.ModelFormatError(
                f"{self._file.path}: {stored} has numbers that are not finite; the file is damaged, download it again"
            )
        return values

    def __getitem__(self, name: str) -> np.ndarray:
        return self.rows(name, self.shape(name)[0])


def _halves(heads: int, size: int) -> np.ndarray:
    """Where the rows of some heads stand in a GGUF file, in the hub's order. With fewer heads it begins alike."""
    return np.arange(heads * size).reshape(heads, size // 2, 2).swapaxes(1, 2).reshape(-1)


def _require_tensors(file: GGUFFile, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a file whose tensors are not these."""
    missing, unexpected = sorted(shapes.keys() - file.names()), sorted(file.names() - shapes.keys())
    if missing or unexpected:
        raise errors.ModelFormatError(
            f"{file.path}: the tensors are not those of its entries: {len(missing)} are missing {missing[:3]}, "
            f"{len(unexpected)} are unexpected {unexpected[:3]}; such a model is not supported, or the file is damaged"
        )
    for name, shape in shapes.items():
        if file.shape(name) != shape:
            raise errors.ModelFormatError(
                f"{file.path}: {name} has shape {file.shape(name)}, and the entries say {shape}; the file is damaged"
            )


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def tokenizer_files(file: GGUFFile) -> dict[str, dict[str, Any]]:
    """The contents of `TOKENIZER_FILES` for that model, which say how a text becomes tokens and a chat a text.

    Raises:
        ModelFormatError: another kind of tokenizer, or one whose entries do not fit together.
    """
    require_llama(file)
    kind, splitting = file.entry("tokenizer.ggml.model", str), file.entry("tokenizer.ggml.pre", str, "default")
    if kind != "gpt2" or splitting not in SPLITTING:
        raise errors.ModelFormatError(
            f"{file.path}: a tokenizer of kind {kind!r} (tokenizer.ggml.model) that splits texts as {splitting!r} "
            f"(tokenizer.ggml.pre) is not supported; supported is 'gpt2' with {', '.join(map(repr, SPLITTING))}"
        )
    tokens = file.entry("tokenizer.ggml.tokens", tuple[str, ...])
    kinds = file.entry("tokenizer.ggml.token_type", tuple[int, ...], (NORMAL,) * len(tokens))
    merges = [tuple(merge.split(" ")) for merge in file.entry("tokenizer.ggml.merges", tuple[str, ...])]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    _require_tokens(file, tokens, vocabulary, kinds, merges)
    special = [
        {"id": index, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind == CONTROL
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "fuse_unk": False,
        "end_of_word_suffix": None, "byte_fallback": False, "vocab": vocabulary, "merges": merges,
    }  # fmt: skip
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": SPLITTING[splitting]}, "post_processor": None,
        "decoder": byte_level, "model": model,
    }  # fmt: skip
    ids = {name: _token_id(file, name, len(tokens)) for name in ("bos", "eos", "eot", "padding", "unknown")}
    names = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    settings = {
        **{name: tokens[index] for name, entry in names.items() if (index := ids[entry]) is not None},
        "chat_template": file.entry("tokenizer.chat_template", str, None),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": file.entry(f"{ARCHITECTURE}.context_length", specs.Count),
    }
    ends = [index for index in dict.fromkeys((ids["eos"], ids["eot"])) if index is not None]
    return dict(zip(TOKENIZER_FILES, (tokenizer, settings, {"eos_token_id": ends}), strict=True))


def _require_tokens(
    file: GGUFFile,
    tokens: tuple[str, ...],
    vocabulary: Mapping[str, int],
    kinds: tuple[int, ...],
    merges: Sequence[tuple[str, ...]],
) -> None:
    """Refuse tokens that are there twice, kinds that are not supported, and merges that are none of tokens."""
    if len(vocabulary) < len(tokens) or len(kinds) != len(tokens):
        raise errors.ModelFormatError(
            f"{file.path}: tokenizer.ggml.tokens has {len(tokens)} entries, of which {len(vocabulary)} are different, "
            f"and tokenizer.ggml.token_type has {len(kinds)}; the file is damaged"
        )
    for token, kind in zip(tokens, kinds, strict=True):
        if kind not in (NORMAL, CONTROL):
            raise errors.ModelFormatError(
                f"{file.path}: the token {token!r} is of kind {kind} (tokenizer.ggml.token_type), which is not "
                f"supported; normal (1) and control (3) are"
            )
    for merge in merges:
        if len(merge) != 2 or not vocabulary.keys() >= {*merge, "".join(merge)}:
            raise errors.ModelFormatError(
                f"{file.path}: {' '.join(merge)!r} in tokenizer.ggml.merges is no pair of tokens that make a token; "
                f"the file is damaged"
            )


def _token_id(file: GGUFFile, name: str, num_tokens: int) -> int | None:
    """The id of a token with a role, e.g. of the one that ends a reply; None if the model has none."""
    entry = f"tokenizer.ggml.{name}_token_id"
    index = file.entry(entry, specs.CountOrZero, None)
    if index is not None and index >= num_tokens:
        raise errors.ModelFormatError(
            f"{file.path}: {entry} is {index}, and there are only {num_tokens} tokens; the file is damaged"
        )
    return index
