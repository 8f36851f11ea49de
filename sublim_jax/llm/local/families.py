"""Families of open weights: what each calls the entries of its config.json, leaves out of it, and fixes in its code."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

_LLAMA: dict[str, Any] = {"hidden_act": "silu", "rope_theta": 1e4, "tie_word_embeddings": False}
_GEMMA: dict[str, Any] = {
    "hidden_act": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}
_GEMMA_NAMES = {"hidden_act": "hidden_activation"}
_OWN_HEADS = frozenset({"num_key_value_heads", "head_dim"})
_PLAIN_FEED = {"gated": False, "feed_bias": True}


class Family(NamedTuple):
    """What a `model_type` stands for."""

    label: str  # its name in prose
    defaults: Mapping[str, Any]  # what transformers takes where config.json has no such entry
    names: Mapping[str, str] = {}  # names in config.json of entries that other families call otherwise, by those
    fixed: Mapping[str, Any] = {}  # of `DecoderConfig`, whatever config.json says
    reads: frozenset[str] = frozenset()  # entries that are read here, and refused in other families
    unread: frozenset[str] = frozenset()  # entries that transformers does not read here
    windows: Literal["none", "all", "by layer"] = "none"  # which layers see a window, if its size is given
    turns: Literal["head", "part", "stated part", "nothing"] = "head"  # what the rotary embedding turns
    gemma: bool = False  # the embedding is scaled by sqrt(hidden size), norms by weight + 1, queries by an entry


FAMILIES = {
    "qwen2": Family("Qwen2/2.5", _LLAMA, fixed={"qkv_bias": True}, reads=frozenset({"attention_bias"})),
    "qwen3": Family("Qwen3", _LLAMA, fixed={"qk_norm": True}),
    "llama": Family("Llama 3.x", _LLAMA),
    "gemma3_text": Family(
        "Gemma 3 text",
        _GEMMA | {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6},
        _GEMMA_NAMES,
        fixed={"qk_norm": True, "sandwich_norms": True},
        windows="by layer",
        gemma=True,
    ),
    "gemma2": Family(
        "Gemma 2",
        _GEMMA
        | {"rope_theta": 1e4, "head_dim": 256, "sliding_window_pattern": 2}
        | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        _GEMMA_NAMES,
        fixed={"sandwich_norms": True},
        reads=frozenset({"attn_logit_softcapping", "final_logit_softcapping"}),
        windows="by layer",
        gemma=True,
    ),
    "mistral": Family("Mistral", _LLAMA | {"num_key_value_heads": 8, "sliding_window": 4096}, windows="all"),
    "phi3": Family("Phi-3", _LLAMA, fixed={"layout": "phi3"}, windows="all", turns="part"),
    "olmo2": Family(
        "OLMo2",
        _LLAMA,
        fixed={"qk_norm": True, "whole_qk_norm": True, "pre_norms": False, "sandwich_norms": True},
    ),
    "smollm3": Family(
        "SmolLM3",
        _LLAMA | {"rope_theta": 2e6, "tie_word_embeddings": True, "no_rope_layer_interval": 4},
        reads=frozenset({"no_rope_layers"}),
    ),
    "gpt_neox": Family(
        "GPT-NeoX (Pythia)",
        {"hidden_act": "gelu", "rope_theta": 1e4, "tie_word_embeddings": False, "attention_bias": True}
        | {"use_parallel_residual": True},
        {"norm_eps": "layer_norm_eps", "rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
        fixed={"layout": "gpt_neox", "norm": "layer", **_PLAIN_FEED},
        reads=frozenset({"attention_bias"}),
        unread=_OWN_HEADS,
        turns="stated part",
    ),
    "gpt2": Family(
        "GPT-2",
        {"hidden_act": "gelu_new", "tie_word_embeddings": True},
        {
            "hidden_size": "n_embd",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "intermediate_size": "n_inner",
            "max_position_embeddings": "n_positions",
            "norm_eps": "layer_norm_epsilon",
            "hidden_act": "activation_function",
        },
        fixed={"layout": "gpt2", "norm": "layer", **_PLAIN_FEED, "qkv_bias": True, "output_bias": True},
        unread=_OWN_HEADS,
        turns="nothing",
    ),
}
"""By `model_type` in config.json."""
