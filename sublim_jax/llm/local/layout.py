"""Tensors of a folder: their names and shapes, and the parts of a decoder that each of them holds.

Some families join what are several maps here: queries, keys and values, or gate and up. Parts of a tensor are told
apart by their outputs, so that weights, biases and the second factor of a low-rank pair are cut in the same way.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sublim_jax.llm.local import decoder
from sublim_jax.llm.local.decoder_config import DecoderConfig


class Layout(NamedTuple):
    """How files name the tensors of a model."""

    modules: Mapping[str, str]  # in a layer, by part; parts of one module are joined in this order
    base: str = "model"  # all but the head are below it
    layers: str = "layers"
    embedding: str = "embed_tokens"
    norm: str = "norm"
    head: str = "lm_head"
    positions: str = "positions"
    by_head: bool = False  # joined head by head, not map by map
    inputs_first: bool = False  # linear maps are stored (in, out), else (out, in)
    base_is_optional: bool = False  # files of the model without its head leave out the name of the base
    computed: tuple[str, ...] = ()  # tensors of a layer that older files hold and that follow from the config


_LLAMA = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "feed_norm": "post_attention_layernorm",
    "query_norm": "self_attn.q_norm",
    "key_norm": "self_attn.k_norm",
}
_SANDWICH = {
    "after_attention_norm": "post_attention_layernorm",
    "feed_norm": "pre_feedforward_layernorm",
    "after_feed_norm": "post_feedforward_layernorm",
}
"""Where a family has norms after each part, these names stand for others."""
_INVERSE_FREQUENCIES = "self_attn.rotary_emb.inv_freq"
_LAYOUTS = {
    "llama": Layout(_LLAMA, computed=(_INVERSE_FREQUENCIES,)),
    "phi3": Layout(
        _LLAMA
        | dict.fromkeys(("query", "key", "value"), "self_attn.qkv_proj")
        | dict.fromkeys(("gate", "up"), "mlp.gate_up_proj"),
        computed=(_INVERSE_FREQUENCIES,),
    ),
    "gpt_neox": Layout(
        dict.fromkeys(("query", "key", "value"), "attention.query_key_value")
        | {
            "output": "attention.dense",
            "up": "mlp.dense_h_to_4h",
            "down": "mlp.dense_4h_to_h",
            "attention_norm": "input_layernorm",
            "feed_norm": "post_attention_layernorm",
        },
        base="gpt_neox",
        embedding="embed_in",
        norm="final_layer_norm",
        head="embed_out",
        by_head=True,
        base_is_optional=True,
        computed=("attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"),
    ),
    "gpt2": Layout(
        dict.fromkeys(("query", "key", "value"), "attn.c_attn")
        | {
            "output": "attn.c_proj",
            "up": "mlp.c_fc",
            "down": "mlp.c_proj",
            "attention_norm": "ln_1",
            "feed_norm": "ln_2",
        },
        base="transformer",
        layers="h",
        embedding="wte",
        norm="ln_f",
        positions="wpe",
        inputs_first=True,
        base_is_optional=True,
        computed=("attn.bias", "attn.masked_bias"),
    ),
}


def of(config: DecoderConfig) -> Layout:
    """The layout of a model's files."""
    layout = _LAYOUTS[config.layout]
    return layout._replace(modules={**layout.modules, **_SANDWICH}) if config.sandwich_norms else layout


class Module(NamedTuple):
    """A module of a layer, as files have it: one part of the decoder, or several that are joined by their outputs."""

    name: str  # in a layer, e.g. "self_attn.qkv_proj"
    fan_in: int  # of a linear map; 0 of a norm
    outputs: dict[str, np.ndarray | slice]  # by part: where its outputs are among those of the module
    fan_out: int

    def part(self, joined: np.ndarray, part: str) -> np.ndarray:
        """One part of an array over the module's outputs, which are its last axis."""
        return joined[..., self.outputs[part]]

    def join(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """The array over the module's outputs that has these parts, and zeros for parts that are left out."""
        first = next(iter(parts.values()))
        if len(self.outputs) == 1:
            return first
        joined = np.zeros((*first.shape[:-1], self.fan_out), first.dtype)
        for part, array in parts.items():
            joined[..., self.outputs[part]] = array
        return joined


def modules(config: DecoderConfig) -> list[Module]:
    """The linear maps of a layer as files have them."""
    c, layout = config, of(config)
    heads, kv, inner, hidden = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim, c.intermediate_size, c.hidden_size
    sizes = {
        "query": (hidden, heads), "key": (hidden, kv), "value": (hidden, kv), "output": (heads, hidden),
        "gate": (hidden, inner), "up": (hidden, inner), "down": (inner, hidden),
    }  # fmt: skip
    by_module: dict[str, list[str]] = {}
    for part in decoder.PROJECTIONS:
        if part != "gate" or c.gated:
            by_module.setdefault(layout.modules[part], []).append(part)
    joined = []
    for name, parts in by_module.items():
        widths = [sizes[part][1] for part in parts]
        places: list[np.ndarray | slice] = [slice(None)]
        if len(parts) > 1:
            order = np.arange(sum(widths))
            places = list(np.split(order, np.cumsum(widths)[:-1]))
            if layout.by_head:
                places = list(order.reshape(c.num_heads, len(parts), c.head_dim).swapaxes(0, 1).reshape(len(parts), -1))
        joined.append(Module(name, sizes[parts[0]][0], dict(zip(parts, places, strict=True)), sum(widths)))
    return joined


class Tensor(NamedTuple):
    """A tensor of a layer, as files have it."""

    name: str  # in a layer, e.g. "self_attn.q_proj.weight"
    shape: tuple[int, ...]
    fields: dict[str, str]  # of `decoder.Layer`, by part
    module: Module
    turned: bool  # stored (out, in), where the decoder has (in, out)

    def split(self, stored: np.ndarray) -> dict[str, np.ndarray]:
        """Fields of a layer, by name."""
        ours = stored.T if self.turned else stored
        return {field: self.module.part(ours, part) for part, field in self.fields.items()}

    def join(self, fields: Mapping[str, np.ndarray]) -> np.ndarray:
        """The stored tensor of a layer with these fields."""
        ours = self.module.join({part: fields[field] for part, field in self.fields.items()})
        return ours.T if self.turned else ours


def tensors_of_layer(config: DecoderConfig) -> list[Tensor]:
    """The tensors of a layer."""
    c, layout = config, of(config)
    tensors = []
    biased = dict.fromkeys(("query", "key", "value"), c.qkv_bias) | dict.fromkeys(("up", "down"), c.feed_bias)
    biased |= {"output": c.output_bias, "gate": False}
    for module in modules(c):
        shape = (module.fan_in, module.fan_out) if layout.inputs_first else (module.fan_out, module.fan_in)
        fields = {part: part for part in module.outputs}
        tensors.append(Tensor(f"{module.name}.weight", shape, fields, module, not layout.inputs_first))
        if all(biased[part] for part in fields):
            biases = {part: f"{part}_bias" for part in fields}
            tensors.append(Tensor(f"{module.name}.bias", (module.fan_out,), biases, module, False))
    whole = c.whole_qk_norm
    norms = {
        "attention_norm": (c.hidden_size, c.pre_norms),
        "feed_norm": (c.hidden_size, c.pre_norms),
        "query_norm": (c.num_heads * c.head_dim if whole else c.head_dim, c.qk_norm),
        "key_norm": (c.num_kv_heads * c.head_dim if whole else c.head_dim, c.qk_norm),
        "after_attention_norm": (c.hidden_size, c.sandwich_norms),
        "after_feed_norm": (c.hidden_size, c.sandwich_norms),
    }
    for norm, (size, present) in norms.items():
        if not present:
            continue
        module = Module(layout.modules[norm], 0, {norm: slice(None)}, size)
        tensors.append(Tensor(f"{module.name}.weight", (size,), {norm: norm}, module, False))
        if c.norm == "layer":
            tensors.append(Tensor(f"{module.name}.bias", (size,), {norm: f"{norm}_bias"}, module, False))
    return tensors


def whole_tensors(config: DecoderConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Tensors outside the layers: name and shape, by the field of `decoder.Params`."""
    c, layout = config, of(config)
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {
        "embedding": (f"{layout.base}.{layout.embedding}.weight", (c.vocab_size, c.hidden_size)),
        "norm": (f"{layout.base}.{layout.norm}.weight", (c.hidden_size,)),
    }
    if c.norm == "layer":
        tensors["norm_bias"] = (f"{layout.base}.{layout.norm}.bias", (c.hidden_size,))
    if c.num_positions is not None:
        tensors["positions"] = (f"{layout.base}.{layout.positions}.weight", (c.num_positions, c.hidden_size))
    if not c.tied:
        tensors["head"] = (f"{layout.head}.weight", (c.vocab_size, c.hidden_size))
    return tensors


def prefix(config: DecoderConfig, index: int) -> str:
    """What the names of a layer's tensors begin with."""
    layout = of(config)
    return f"{layout.base}.{layout.layers}.{index}."


def shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a folder, by name."""
    layer = tensors_of_layer(config)
    return dict(whole_tensors(config).values()) | {
        prefix(config, index) + tensor.name: tensor.shape for index in range(config.num_layers) for tensor in layer
    }


def ignored(config: DecoderConfig) -> set[str]:
    """Names of tensors that a folder may hold as well: a copy of the embedding, and what follows from the config."""
    layout = of(config)
    copies = {f"{layout.head}.weight"} if config.tied else set()
    return copies | {prefix(config, index) + name for index in range(config.num_layers) for name in layout.computed}
