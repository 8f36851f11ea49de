"""The decoder that a `config.json` of Qwen2/2.5, Qwen3, Llama 3.x or Gemma 3 text describes.

Every entry that is used is checked. Entries with which the decoder would be another one are refused by name.
"""

import dataclasses
import math
import os
import pathlib
from typing import Annotated, Any, Literal

import annotated_types
import numpy as np

from sublim_jax import errors, specs
from sublim_jax.llm.local import decoder, entries, gguf, gguf_llama

FAMILIES = ("qwen2", "qwen3", "llama", "gemma3_text")
UNSUPPORTED = {
    "quantization_config": "a quantised model",
    "compression_config": "a quantised model",
    "use_sliding_window": "use_sliding_window",
    "attention_bias": "attention_bias",
    "mlp_bias": "mlp_bias",
    "use_bidirectional_attention": "use_bidirectional_attention",
    "attn_logit_softcapping": "softcapping of logits",
    "final_logit_softcapping": "softcapping of logits",
    "transformers_weights": "another name of the weights (transformers_weights)",
}
"""Entries of config.json with which the decoder would be another one, and what they mean."""
DEFAULTS: dict[str, Any] = {"hidden_act": "silu", "rope_theta": 1e4, "tie_word_embeddings": False}
GEMMA_DEFAULTS = {
    "hidden_activation": "gelu_pytorch_tanh",
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}
"""What transformers takes where config.json has no such entry."""
_Size = Annotated[int, annotated_types.Interval(ge=1, le=2**24)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config:
    """The entries of config.json that are used. Where null is allowed, transformers reads it as the default."""

    hidden_size: _Size
    vocab_size: _Size
    num_hidden_layers: Annotated[int, annotated_types.Interval(ge=1, le=2**12)]
    intermediate_size: _Size
    num_attention_heads: _Size
    rms_norm_eps: specs.Positive
    num_key_value_heads: _Size | None = None
    head_dim: _Size | None = None
    tie_word_embeddings: bool | None
    rope_theta: specs.Positive
    rope_scaling: dict | None = None
    rope_parameters: dict | None = None
    max_position_embeddings: specs.Count | None = None
    partial_rotary_factor: specs.Positive | None = None
    layer_types: tuple[Literal["full_attention", "sliding_attention"], ...] | None = None
    # Gemma's alone
    rope_local_base_freq: specs.Positive = 1e4
    query_pre_attn_scalar: specs.Positive = 256.0
    sliding_window: specs.Count | None = None
    sliding_window_pattern: specs.Count | None = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rotary:
    """The entries of a rotary embedding."""

    rope_theta: specs.Positive
    rope_type: str = "default"
    factor: specs.Positive | None = None
    low_freq_factor: specs.Positive | None = None
    high_freq_factor: specs.Positive | None = None
    original_max_position_embeddings: specs.Count | None = None
    partial_rotary_factor: specs.Positive | None = None


def read_config(folder: str | os.PathLike[str]) -> decoder.DecoderConfig:
    """The decoder that `config.json` describes, or the metadata of a GGUF file.

    Raises:
        ModelFormatError: no such file, no JSON, an entry that is missing or makes no sense, or an architecture that is
            not supported.
    """
    if gguf.is_gguf(folder):
        return _config(pathlib.Path(folder), gguf_llama.config(gguf.GGUFFile(folder)))
    path = pathlib.Path(folder) / "config.json"
    return _config(path, entries.read(path))


def _config(path: pathlib.Path, content: dict[str, Any]) -> decoder.DecoderConfig:
    family = content.get("model_type")

    def refuse(what: str) -> errors.ModelFormatError:
        return errors.ModelFormatError(f"{path}: {what} is not supported; supported are {', '.join(FAMILIES)}")

    if family not in FAMILIES:
        raise refuse(f"model_type {family!r}")
    for entry, meaning in UNSUPPORTED.items():
        if content.get(entry) and not (entry == "attention_bias" and family == "qwen2"):  # Qwen2 has biases anyway
            raise refuse(meaning)
    gemma = family == "gemma3_text"
    content = (GEMMA_DEFAULTS if gemma else DEFAULTS) | content
    activation = content["hidden_activation" if gemma else "hidden_act"]
    if activation not in ("silu", "gelu_pytorch_tanh"):
        raise refuse(f"hidden_act {activation!r}")
    c = entries.of(_Config, content, path)
    local = _local_layers(path, c, gemma)
    if any(local) and not gemma:
        raise refuse("sliding_attention in layer_types")
    if c.head_dim is None and c.hidden_size % c.num_attention_heads:
        raise errors.ModelFormatError(
            f"{path}: hidden_size={c.hidden_size} is no multiple of num_attention_heads={c.num_attention_heads}, and "
            f"there is no head_dim"
        )
    head_dim = c.head_dim or c.hidden_size // c.num_attention_heads
    full_frequencies, local_frequencies = _rotary(path, c, head_dim, gemma)
    try:
        return decoder.DecoderConfig(
            vocab_size=c.vocab_size,
            num_layers=c.num_hidden_layers,
            hidden_size=c.hidden_size,
            intermediate_size=c.intermediate_size,
            num_heads=c.num_attention_heads,
            num_kv_heads=c.num_key_value_heads or c.num_attention_heads,
            head_dim=head_dim,
            frequencies=full_frequencies,
            local_frequencies=local_frequencies,
            local_layers=local,
            window=c.sliding_window if gemma else None,
            query_scale=c.query_pre_attn_scalar**-0.5 if gemma else None,
            activation="silu" if activation == "silu" else "gelu",
            norm_eps=c.rms_norm_eps,
            qkv_bias=family == "qwen2",
            qk_norm=family in ("qwen3", "gemma3_text"),
            sandwich_norms=gemma,
            norm_offset=1.0 if gemma else 0.0,
            embedding_scale=c.hidden_size**0.5 if gemma else 1.0,
            tied=bool(c.tie_word_embeddings),
        )
    except errors.InputError as error:
        raise errors.ModelFormatError(f"{path}: {error}") from error


def _local_layers(path: pathlib.Path, c: _Config, gemma: bool) -> tuple[bool, ...]:
    """Which layers see a window only; none is an empty tuple outside Gemma."""
    if c.layer_types is None:
        pattern = c.sliding_window_pattern or 6
        return tuple((index + 1) % pattern != 0 for index in range(c.num_hidden_layers)) if gemma else ()
    if len(c.layer_types) != c.num_hidden_layers:
        raise errors.ModelFormatError(
            f"{path}: layer_types has {len(c.layer_types)} entries, and num_hidden_layers is {c.num_hidden_layers}"
        )
    local = tuple(kind == "sliding_attention" for kind in c.layer_types)
    return local if gemma or any(local) else ()


def _rotary(path: pathlib.Path, c: _Config, head_dim: int, gemma: bool):
    """Frequencies of full and of windowed layers, from either spelling of the config."""
    scaling, parameters = c.rope_scaling or {}, c.rope_parameters or {}
    default = {
        "rope_theta": c.rope_theta,
        "partial_rotary_factor": c.partial_rotary_factor,
        "original_max_position_embeddings": c.max_position_embeddings,
    }
    nested = [parameters.get(kind) or {} for kind in ("full_attention", "sliding_attention")]
    for value in nested:
        entries.check(value, dict, f"{path}: rope_parameters")
    full, local = nested
    if gemma:
        local = default | {"rope_theta": c.rope_local_base_freq} | local
        return _frequencies(path, default | full | scaling, head_dim), _frequencies(path, local, head_dim)
    if full or local:
        raise errors.ModelFormatError(f"{path}: rope_parameters by kind of layer are supported for Gemma alone")
    return _frequencies(path, default | (scaling or parameters), head_dim), None


def _frequencies(path: pathlib.Path, settings: dict[str, Any], head_dim: int) -> tuple[float, ...]:
    if "type" in settings:  # the older name
        settings = {"rope_type": settings["type"]} | settings
    rotary = entries.of(_Rotary, settings, f"{path}: rotary embedding")
    if rotary.partial_rotary_factor not in (None, 1):
        raise errors.ModelFormatError(f"{path}: partial_rotary_factor {rotary.partial_rotary_factor} is not supported")

    def number(name: str) -> float:
        value = getattr(rotary, name)
        if value is None:
            raise errors.ModelFormatError(f"{path}: rope_type {rotary.rope_type!r} needs the entry {name!r}")
        return float(value)

    plain = np.array(decoder.rotary_frequencies(head_dim, rotary.rope_theta))
    match rotary.rope_type:
        case "default":
            if rotary.factor is not None:
                raise errors.ModelFormatError(
                    f"{path}: the rotary embedding has factor {rotary.factor}, and its rope_type does not say what for"
                )
            return tuple(plain)
        case "linear":
            return tuple(plain / number("factor"))
        case "llama3":
            low, high = number("low_freq_factor"), number("high_freq_factor")
            if high <= low:
                raise errors.ModelFormatError(
                    f"{path}: high_freq_factor={high} must be greater than low_freq_factor={low}"
                )
            turns = number("original_max_position_embeddings") * plain / (2 * math.pi)
            share = np.clip((turns - low) / (high - low), 0.0, 1.0)  # 1: fast, kept; 0: slow, divided by the factor
            return tuple((1 - share) * plain / number("factor") + share * plain)
    raise errors.ModelFormatError(
        f"{path}: rope_type {rotary.rope_type!r} is not supported; default, linear and llama3 are"
    )
