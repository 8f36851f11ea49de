"""The decoder that a `config.json` of one of the `families` describes.

Every entry that is used is checked. Entries with which the decoder would be another one are refused by name.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import annotated_types
import numpy as np

from sublim_jax import errors, specs
from sublim_jax.llm.local import decoder, entries, families, gguf, gguf_llama
from sublim_jax.llm.local.families import Family

UNSUPPORTED = {
    "quantization_config": "a quantised model",
    "compression_config": "a quantised model",
    "use_sliding_window": "use_sliding_window",
    "attention_bias": "attention_bias",
    "mlp_bias": "mlp_bias",
    "use_bidirectional_attention": "use_bidirectional_attention",
    "attn_logit_softcapping": "softcapping of logits",
    "final_logit_softcapping": "softcapping of logits",
    "no_rope_layers": "no_rope_layers",
    "clip_qkv": "clip_qkv",
    "scale_attn_by_inverse_layer_idx": "scale_attn_by_inverse_layer_idx",
    "add_cross_attention": "add_cross_attention",
    "transformers_weights": "another name of the weights (transformers_weights)",
}
"""Entries of config.json with which the decoder would be another one, and what they mean."""
ACTIVATIONS = {
    "silu": "silu",
    "gelu": "exact_gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_new": "gelu",
    "gelu_fast": "gelu",
}
"""Activations of config.json by our name for them."""
_Size = Annotated[int, annotated_types.Interval(ge=1, le=2**24)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config:
    """The entries of config.json that are used. Where null is allowed, transformers reads it as the default."""

    hidden_size: _Size
    vocab_size: _Size
    num_hidden_layers: Annotated[int, annotated_types.Interval(ge=1, le=2**12)]
    intermediate_size: _Size
    num_attention_heads: _Size
    norm_eps: specs.Positive
    hidden_act: str
    num_key_value_heads: _Size | None = None
    head_dim: _Size | None = None
    tie_word_embeddings: bool | None
    rope_theta: specs.Positive = 1e4
    rope_scaling: dict | None = None
    rope_parameters: dict | None = None
    max_position_embeddings: specs.Count | None = None
    partial_rotary_factor: specs.Positive | None = None
    layer_types: tuple[Literal["full_attention", "sliding_attention"], ...] | None = None
    sliding_window: specs.Count | None = None
    # of some families alone
    rope_local_base_freq: specs.Positive = 1e4
    query_pre_attn_scalar: specs.Positive = 256.0
    sliding_window_pattern: specs.Count | None = None
    attn_logit_softcapping: specs.Positive | None = None
    final_logit_softcapping: specs.Positive | None = None
    no_rope_layers: tuple[Literal[0, 1], ...] | None = None
    no_rope_layer_interval: specs.Count | None = None
    attention_bias: bool | None = None
    use_parallel_residual: bool = False


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
    def refuse(what: str, supported: Iterable[str]) -> errors.ModelFormatError:
        return errors.ModelFormatError(f"{path}: {what} is not supported; supported are {', '.join(supported)}")

    model_type = content.get("model_type")
    if not isinstance(model_type, str) or model_type not in families.FAMILIES:
        supported = (f"{name} ({known.label})" for name, known in families.FAMILIES.items())
        raise refuse(f"model_type {model_type!r}", supported)
    family = families.FAMILIES[model_type]
    for entry, meaning in UNSUPPORTED.items():
        if content.get(entry) and entry not in family.reads:
            raise errors.ModelFormatError(f"{path}: {meaning} is not supported in a model of type {model_type}")
    if content.get("scale_attn_weights") is False:
        raise errors.ModelFormatError(f"{path}: scale_attn_weights=false is not supported in a model of type gpt2")
    names = {"norm_eps": "rms_norm_eps"} | dict(family.names)
    content = {names.get(name, name): value for name, value in family.defaults.items()} | content
    content = {name: value for name, value in content.items() if name not in family.unread}
    if model_type == "gpt2" and content.get("n_inner") is None and isinstance(content.get("n_embd"), int):
        content["n_inner"] = 4 * content["n_embd"]
    c = entries.of(_Config, content, path, names)
    if c.hidden_act not in ACTIVATIONS:
        raise refuse(f"{names.get('hidden_act', 'hidden_act')} {c.hidden_act!r}", ACTIVATIONS)
    local = _local_layers(path, c, family)
    if c.head_dim is None and c.hidden_size % c.num_attention_heads:
        sizes = ("hidden_size", c.hidden_size), ("num_attention_heads", c.num_attention_heads)
        size, heads = (f"{names.get(name, name)}={value}" for name, value in sizes)
        raise errors.ModelFormatError(f"{path}: {size} is no multiple of {heads}, and there is no head_dim")
    head_dim = c.head_dim or c.hidden_size // c.num_attention_heads
    full_frequencies, local_frequencies = _rotary(path, c, head_dim, family)
    settings: dict[str, Any] = {
        "vocab_size": c.vocab_size,
        "num_layers": c.num_hidden_layers,
        "hidden_size": c.hidden_size,
        "intermediate_size": c.intermediate_size,
        "num_heads": c.num_attention_heads,
        "num_kv_heads": c.num_key_value_heads or c.num_attention_heads,
        "head_dim": head_dim,
        "frequencies": full_frequencies,
        "local_frequencies": local_frequencies,
        "local_layers": local,
        "window": None if family.windows == "none" else c.sliding_window,
        "activation": ACTIVATIONS[c.hidden_act],
        "norm_eps": c.norm_eps,
        "tied": bool(c.tie_word_embeddings),
        "attention_cap": c.attn_logit_softcapping,
        "logit_cap": c.final_logit_softcapping,
        "unrotated_layers": _unrotated_layers(c) if "no_rope_layers" in family.reads else (),
        "parallel": c.use_parallel_residual and "use_parallel_residual" in family.defaults,
        "num_positions": c.max_position_embeddings if family.turns == "nothing" else None,
    }
    if family.gemma:
        settings |= {
            "query_scale": c.query_pre_attn_scalar**-0.5,
            "norm_offset": 1.0,
            "embedding_scale": c.hidden_size**0.5,
        }
    if "attention_bias" in family.defaults:
        settings |= {"qkv_bias": bool(c.attention_bias), "output_bias": bool(c.attention_bias)}
    try:
        return decoder.DecoderConfig(**settings | dict(family.fixed))
    except errors.InputError as error:
        raise errors.ModelFormatError(f"{path}: {error}") from error


def _local_layers(path: pathlib.Path, c: _Config, family: Family) -> tuple[bool, ...]:
    """Which layers see a window only; none is an empty tuple outside Gemma."""
    if c.layer_types is not None and len(c.layer_types) != c.num_hidden_layers:
        raise errors.ModelFormatError(
            f"{path}: layer_types has {len(c.layer_types)} entries, and num_hidden_layers is {c.num_hidden_layers}"
        )
    local = tuple(kind == "sliding_attention" for kind in c.layer_types or ())
    if family.windows == "by layer":
        pattern = c.sliding_window_pattern or family.defaults["sliding_window_pattern"]
        return local or tuple((index + 1) % pattern != 0 for index in range(c.num_hidden_layers))
    all_local = family.windows == "all" and c.sliding_window is not None
    if local and local != (all_local,) * c.num_hidden_layers:
        kind = "full_attention" if all_local else "sliding_attention"
        raise errors.ModelFormatError(
            f"{path}: {kind} in layer_types is not supported in a model of this type with sliding_window="
            f"{c.sliding_window}"
        )
    return (True,) * c.num_hidden_layers if all_local else ()


def _unrotated_layers(c: _Config) -> tuple[bool, ...]:
    """Which layers know no positions; in config.json, 1 stands for layers that do."""
    if c.no_rope_layers is not None:
        return tuple(not rotated for rotated in c.no_rope_layers)
    interval = c.no_rope_layer_interval
    return () if interval is None else tuple((index + 1) % interval == 0 for index in range(c.num_hidden_layers))


def _rotary(path: pathlib.Path, c: _Config, head_dim: int, family: Family):
    """Frequencies of full and of windowed layers, from either spelling of the config."""
    if family.turns == "nothing":
        return (), None
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
    if "rope_local_base_freq" in family.defaults:
        local = default | {"rope_theta": c.rope_local_base_freq} | local
        return _frequencies(path, default | full | scaling, head_dim), _frequencies(path, local, head_dim)
    if full or local:
        raise errors.ModelFormatError(f"{path}: rope_parameters by kind of layer are supported for Gemma 3 alone")
    settings = default | (scaling or parameters)
    part = settings.get("partial_rotary_factor")
    if family.turns == "stated part" and part is None:
        raise errors.ModelFormatError(
            f"{path}: neither rotary_pct nor rope_parameters with a partial_rotary_factor is there, so it is not known "
            f"which part of a head turns; Pythia has rotary_pct 0.25"
        )
    if family.turns != "head" and part is not None:
        entries.check(part, specs.Positive, f"{path}: partial_rotary_factor")
        size = int(head_dim * part)
        if part > 1 or size < 2 or size % 2:
            raise errors.ModelFormatError(
                f"{path}: partial_rotary_factor {part} turns {size} of the {head_dim} features of a head; expected an "
                f"even number of them"
            )
        head_dim, settings = size, settings | {"partial_rotary_factor": None}
    return _frequencies(path, settings, head_dim), None


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
