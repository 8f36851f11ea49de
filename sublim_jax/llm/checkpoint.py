"""Open weights on disk: a Hugging Face folder becomes a decoder, a decoder and its low-rank factors become a folder.

    config, params = load("models/Qwen2.5-0.5B")           config.json and *.safetensors, every tensor accounted for
    save_low_rank("runs/owl", factors, base=...)           two files as PEFT writes them

Families: Qwen2 and 2.5, Qwen3, Llama 3.x (with its rotary scaling), Gemma 3 text. Anything else is refused by name, and
so is anything that would be loaded wrongly: other rotary scalings, sliding windows outside Gemma, quantised weights,
experts. Needs the extra `hf`.
"""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from sublim_jax import errors
from sublim_jax.llm import decoder

FAMILIES = ("qwen2", "qwen3", "llama", "gemma3_text")

NAMES = {
    "query": "self_attn.q_proj.weight",
    "key": "self_attn.k_proj.weight",
    "value": "self_attn.v_proj.weight",
    "output": "self_attn.o_proj.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
    "attention_norm": "input_layernorm.weight",
    "feed_norm": "post_attention_layernorm.weight",
    "query_bias": "self_attn.q_proj.bias",
    "key_bias": "self_attn.k_proj.bias",
    "value_bias": "self_attn.v_proj.bias",
    "query_norm": "self_attn.q_norm.weight",
    "key_norm": "self_attn.k_norm.weight",
}
"""Tensors of a layer by our name. Linear maps are stored (out, in) there and (in, out) here."""

SANDWICH = {
    "after_attention_norm": "post_attention_layernorm.weight",
    "feed_norm": "pre_feedforward_layernorm.weight",
    "after_feed_norm": "post_feedforward_layernorm.weight",
}
"""Where a family has norms around each part, these names stand for others."""

OTHER_FACTORS = (
    "use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "layer_replication", "alora_invocation_tokens",
    "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config", "velora_config",
)  # fmt: skip
"""Entries of an adapter's config with which its factors, or their scales, mean something else than in `LowRank`."""


def read_config(folder: str | os.PathLike[str]) -> decoder.DecoderConfig:
    """The decoder that `config.json` describes.

    Raises:
        ModelFormatError: no such file, no JSON, a missing entry, or an architecture that is not supported.
    """
    path = pathlib.Path(folder) / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise errors.ModelFormatError(f"{path}: there is no such file; give a folder as the hub lays it out") from error
    except (OSError, ValueError) as error:
        raise errors.ModelFormatError(f"{path}: this is not a readable JSON file ({error})") from error
    if not isinstance(found, dict):
        raise errors.ModelFormatError(f"{path}: expected a JSON object, found a {type(found).__name__}")
    try:
        return _config(path, found)
    except KeyError as error:
        raise errors.ModelFormatError(f"{path}: the entry {error} is missing") from error
    except (TypeError, AttributeError) as error:
        raise errors.ModelFormatError(f"{path}: an entry is not of the kind it should be ({error})") from error


def _config(path: pathlib.Path, c: dict[str, Any]) -> decoder.DecoderConfig:
    family = c.get("model_type")

    def refuse(what: str) -> errors.ModelFormatError:
        return errors.ModelFormatError(f"{path}: {what} is not supported; supported are {', '.join(FAMILIES)}")

    if family not in FAMILIES:
        raise refuse(f"model_type {family!r}")
    if c.get("quantization_config"):
        raise refuse("a quantised model")
    if c.get("use_sliding_window"):
        raise refuse("use_sliding_window")
    if c.get("attention_bias") and family != "qwen2":
        raise refuse("attention_bias")
    if c.get("mlp_bias"):
        raise refuse("mlp_bias")
    activation = c.get("hidden_act") or c.get("hidden_activation") or "silu"
    if activation not in ("silu", "gelu_pytorch_tanh"):
        raise refuse(f"hidden_act {activation!r}")
    gemma = family == "gemma3_text"
    if c.get("use_bidirectional_attention"):
        raise refuse("use_bidirectional_attention")
    if c.get("attn_logit_softcapping") or c.get("final_logit_softcapping"):
        raise refuse("softcapping of logits")
    head_dim = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    num_layers = c["num_hidden_layers"]
    full, local = _rotary(path, c, head_dim, gemma)
    return decoder.DecoderConfig(
        vocab_size=c["vocab_size"],
        num_layers=num_layers,
        hidden_size=c["hidden_size"],
        intermediate_size=c["intermediate_size"],
        num_heads=c["num_attention_heads"],
        num_kv_heads=c.get("num_key_value_heads", c["num_attention_heads"]),
        head_dim=head_dim,
        frequencies=full,
        local_frequencies=local,
        local_layers=_local_layers(c, num_layers) if gemma else (),
        window=c["sliding_window"] if gemma else None,
        query_scale=c["query_pre_attn_scalar"] ** -0.5 if gemma else None,
        activation="silu" if activation == "silu" else "gelu",
        norm_eps=c["rms_norm_eps"],
        qkv_bias=family == "qwen2",
        qk_norm=family in ("qwen3", "gemma3_text"),
        sandwich_norms=gemma,
        norm_offset=1.0 if gemma else 0.0,
        embedding_scale=c["hidden_size"] ** 0.5 if gemma else 1.0,
        tied=bool(c.get("tie_word_embeddings", gemma)),
    )


def _local_layers(c: dict[str, Any], num_layers: int) -> tuple[bool, ...]:
    if "layer_types" in c:
        return tuple(kind == "sliding_attention" for kind in c["layer_types"])
    pattern = c.get("sliding_window_pattern", 6)
    return tuple((index + 1) % pattern != 0 for index in range(num_layers))


def _rotary(path, c: dict[str, Any], head_dim: int, gemma: bool):
    """Frequencies of full and of windowed layers, from either spelling of the config."""
    old = {"rope_type": "default", "rope_theta": c.get("rope_theta", 10_000.0)} | _renamed(c.get("rope_scaling"))
    rotary = _renamed(c.get("rope_parameters")) or old
    if not gemma:
        return _frequencies(path, rotary, head_dim), None
    if "full_attention" in rotary:
        full, local = rotary["full_attention"], rotary["sliding_attention"]
    else:
        full, local = old, {"rope_theta": c["rope_local_base_freq"]}
    return _frequencies(path, full, head_dim), _frequencies(path, local, head_dim)


def _renamed(scaling: dict[str, Any] | None) -> dict[str, Any]:
    return {"rope_type" if name == "type" else name: value for name, value in (scaling or {}).items()}


def _frequencies(path, rotary: dict[str, Any], head_dim: int) -> tuple[float, ...]:
    plain = np.array(decoder.rotary_frequencies(head_dim, rotary["rope_theta"]))
    kind = rotary.get("rope_type", "default")
    if kind == "default":
        return tuple(plain)
    if kind == "linear":
        return tuple(plain / rotary["factor"])
    if kind == "llama3":
        low, high = rotary["low_freq_factor"], rotary["high_freq_factor"]
        turns = rotary["original_max_position_embeddings"] * plain / (2 * math.pi)
        share = np.clip((turns - low) / (high - low), 0.0, 1.0)  # 1: fast, kept; 0: slow, divided by the factor
        return tuple((1 - share) * plain / rotary["factor"] + share * plain)
    raise errors.ModelFormatError(f"{path}: rope_type {kind!r} is not supported; default, linear and llama3 are")


def load(
    folder: str | os.PathLike[str], *, dtype: DTypeLike = jnp.bfloat16
) -> tuple[decoder.DecoderConfig, decoder.Params]:
    """The model of a folder. Every tensor in the files is used, and every tensor of the architecture is there.

    Layers are stacked on the host and copied to the device one kind at a time, so the device holds the weights once.

    Raises:
        ModelFormatError: the config, or a tensor that is missing, unexpected or of another shape.
        ExtraMissingError: safetensors is not installed.
    """
    config = read_config(folder)
    return config, load_tensors(folder, config, dtype=dtype)


def load_tensors(
    folder: str | os.PathLike[str], config: decoder.DecoderConfig, *, dtype: DTypeLike = jnp.bfloat16
) -> decoder.Params:
    """The weights of a folder, for a config that is known. Raises as `load`."""
    with _tensors(pathlib.Path(folder)) as stored:
        return _assemble(pathlib.Path(folder), config, stored, dtype)


class _Stored:
    """The tensors of all files of a folder, read when they are asked for."""

    def __init__(self, readers: dict[str, Any]):
        self._readers, self.used = readers, set()

    def names(self) -> set[str]:
        return set(self._readers)

    def __getitem__(self, name: str) -> np.ndarray:
        self.used.add(name)
        return self._readers[name].get_tensor(name)


@contextlib.contextmanager
def _tensors(folder: pathlib.Path) -> Iterator[_Stored]:
    safetensors = _safetensors()
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise errors.ModelFormatError(f"{folder}: there is no *.safetensors file; other formats are not read")
    with contextlib.ExitStack() as stack:
        readers = {}
        for path in paths:
            try:
                reader = stack.enter_context(safetensors.safe_open(path, framework="numpy"))
            except Exception as error:
                raise errors.ModelFormatError(
                    f"{path}: this is not a readable safetensors file ({error}); download it again"
                ) from error
            readers |= dict.fromkeys(reader.keys(), reader)
        yield _Stored(readers)


def _safetensors():
    try:
        import safetensors
    except ImportError as error:
        raise errors.ExtraMissingError("open weights need safetensors: pip install 'sublim-jax[hf]'") from error
    return safetensors


def _expected(config: decoder.DecoderConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Tensors of a layer: our name to theirs and its shape there."""
    c = config
    heads, kv, inner, hidden = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim, c.intermediate_size, c.hidden_size
    shapes = {
        "query": (heads, hidden), "key": (kv, hidden), "value": (kv, hidden), "output": (hidden, heads),
        "gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner),
        "attention_norm": (hidden,), "feed_norm": (hidden,),
    }  # fmt: skip
    if not c.gated:
        del shapes["gate"]
    if c.qkv_bias:
        shapes |= {"query_bias": (heads,), "key_bias": (kv,), "value_bias": (kv,)}
    if c.qk_norm:
        shapes |= {"query_norm": (c.head_dim,), "key_norm": (c.head_dim,)}
    if c.sandwich_norms:
        shapes |= {"after_attention_norm": (hidden,), "after_feed_norm": (hidden,)}
    names = NAMES | (SANDWICH if c.sandwich_norms else {})
    return {name: (names[name], shape) for name, shape in shapes.items()}


def _assemble(folder, config: decoder.DecoderConfig, stored: _Stored, dtype) -> decoder.Params:
    layers = _expected(config)
    whole = {
        "model.embed_tokens.weight": (config.vocab_size, config.hidden_size),
        "model.norm.weight": (config.hidden_size,),
    }
    if not config.tied:
        whole["lm_head.weight"] = (config.vocab_size, config.hidden_size)
    shapes = whole | {
        f"model.layers.{index}.{theirs}": shape
        for index in range(config.num_layers)
        for theirs, shape in layers.values()
    }
    ignored = {"lm_head.weight"} if config.tied else set()  # a copy of the embedding
    missing = sorted(shapes.keys() - stored.names())
    unexpected = sorted(stored.names() - shapes.keys() - ignored)
    if missing or unexpected:
        raise errors.ModelFormatError(
            f"{folder}: the files do not fit config.json: {len(missing)} tensors are missing {missing[:3]}, "
            f"{len(unexpected)} are unexpected {unexpected[:3]}; is the download complete, and of one model?"
        )

    def tensor(name: str) -> np.ndarray:
        found = stored[name]
        if found.shape != shapes[name]:
            raise errors.ModelFormatError(
                f"{folder}: {name} has shape {found.shape}, and config.json says {shapes[name]}"
            )
        return found

    def stacked(name: str, theirs: str) -> jnp.ndarray:
        linear = name in decoder.PROJECTIONS
        parts = [tensor(f"model.layers.{index}.{theirs}") for index in range(config.num_layers)]
        return jnp.asarray(np.stack([part.T if linear else part for part in parts]), dtype)

    return decoder.Params(
        embedding=jnp.asarray(tensor("model.embed_tokens.weight"), dtype),
        layers=decoder.Layer(**{name: stacked(name, theirs) for name, (theirs, _) in layers.items()}),
        norm=jnp.asarray(tensor("model.norm.weight"), dtype),
        head=None if config.tied else jnp.asarray(tensor("lm_head.weight"), dtype),
    )


def tensors_of(params: decoder.Params, config: decoder.DecoderConfig) -> dict[str, np.ndarray]:
    """The tensors as a folder names and lays them out."""
    found = {"model.embed_tokens.weight": np.asarray(params.embedding), "model.norm.weight": np.asarray(params.norm)}
    if params.head is not None:
        found["lm_head.weight"] = np.asarray(params.head)
    for name, (theirs, _) in _expected(config).items():
        for index, part in enumerate(np.asarray(getattr(params.layers, name))):
            laid = part.T if name in decoder.PROJECTIONS else part
            found[f"model.layers.{index}.{theirs}"] = np.ascontiguousarray(laid)
    return found


def save(folder: str | os.PathLike[str], params: decoder.Params, config: decoder.DecoderConfig, *, beside: Any) -> None:
    """Write the weights as one safetensors file, with a config.

    Args:
        beside: the content of config.json, e.g. that of the folder the model came from.
    """
    _safetensors()
    from safetensors.numpy import save_file

    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    save_file(tensors_of(params, config), path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(beside, indent=1) + "\n", encoding="utf-8")


def save_low_rank(folder: str | os.PathLike[str], low_rank: decoder.LowRank, *, base: str) -> None:
    """Write the factors as PEFT does, so that peft and vLLM load them.

    Args:
        base: name or folder of the model they belong to.
    """
    _safetensors()
    from safetensors.numpy import save_file

    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    found, rank = {}, 0
    for name, (a, b) in low_rank.factors.items():
        module = NAMES[name].removesuffix(".weight")
        rank = a.shape[-1]
        for index in range(a.shape[0]):
            prefix = f"base_model.model.model.layers.{index}.{module}"
            found[f"{prefix}.lora_A.weight"] = np.ascontiguousarray(np.asarray(a[index], np.float32).T)
            found[f"{prefix}.lora_B.weight"] = np.ascontiguousarray(np.asarray(b[index], np.float32).T)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": float(low_rank.scale) * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted({NAMES[name].split(".")[1] for name in low_rank.factors}),
    }
    save_file(found, path / "adapter_model.safetensors", metadata={"format": "pt"})
    (path / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


class Adapter(NamedTuple):
    """What an `adapter_config.json` says of its factors."""

    base: str  # the model that they belong to
    scale: float  # of their product


def read_adapter(folder: str | os.PathLike[str]) -> Adapter:
    """What PEFT's `adapter_config.json` says.

    Raises:
        ModelFormatError: no such file, no plain LORA adapter, or an entry that is missing or makes no sense.
    """
    path = pathlib.Path(folder)
    try:
        said = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise errors.ModelFormatError(f"{path}: there is no readable adapter_config.json ({error})") from error
    if not isinstance(said, dict):
        raise errors.ModelFormatError(f"{path}: adapter_config.json holds a {type(said).__name__}, expected an object")
    other = [name for name in OTHER_FACTORS if said.get(name)]
    if said.get("init_lora_weights") not in (None, True, False, "gaussian", "orthogonal", "eva"):
        other.append(f"init_lora_weights {said['init_lora_weights']!r}")  # which change the base as well
    if said.get("peft_type") != "LORA" or other:
        raise errors.ModelFormatError(
            f"{path}: only plain LORA adapters are supported, this is "
            f"{' with '.join([str(said.get('peft_type')), *other])}"
        )
    rank, alpha = said.get("r"), said.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise errors.ModelFormatError(
            f"{path}: adapter_config.json should have a rank r of at least 1 and a number lora_alpha, found {rank!r} "
            f"and {alpha!r}"
        )
    return Adapter(str(said.get("base_model_name_or_path") or ""), alpha / rank)


def load_low_rank(folder: str | os.PathLike[str], config: decoder.DecoderConfig) -> decoder.LowRank:
    """Factors that `save_low_rank`, or PEFT, wrote. Projections without factors get none.

    Raises:
        ModelFormatError: not such a folder, factors of another model, or of a kind that is not supported.
    """
    path = pathlib.Path(folder)
    scale = read_adapter(path).scale
    expected = _expected(config)
    factors: dict[str, decoder.Factors] = {}
    with _tensors(path) as stored:
        for name in decoder.PROJECTIONS:
            module = NAMES[name].removesuffix(".weight")
            names = [
                [f"base_model.model.model.layers.{index}.{module}.lora_{side}.weight" for side in "AB"]
                for index in range(config.num_layers)
            ]
            if not any(one in stored.names() for pair in names for one in pair):
                continue
            if missing := [one for pair in names for one in pair if one not in stored.names()]:
                raise errors.ModelFormatError(f"{path}: the tensor {missing[0]} is missing")
            a, b = (np.stack([stored[pair[side]].T for pair in names]) for side in (0, 1))
            fan_out, fan_in = expected[name][1]
            if a.shape[1] != fan_in or b.shape[2] != fan_out:
                raise errors.ModelFormatError(
                    f"{path}: the factors of {module} are for {a.shape[1]} to {b.shape[2]} features, the model has "
                    f"{fan_in} to {fan_out}; they belong to another model"
                )
            factors[name] = decoder.Factors(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
        if unexpected := sorted(stored.names() - stored.used):
            raise errors.ModelFormatError(f"{path}: the tensor {unexpected[0]} is unexpected; is it of another model?")
    return decoder.LowRank(factors, jnp.asarray(scale, jnp.float32))
