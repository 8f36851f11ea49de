"""Low-rank factors on disk, as PEFT writes and reads them, with its rules of ranks, scales, modules and layers.

    save("runs/owl", factors, base="models/Qwen2.5-0.5B")  two files that peft and vLLM load
    factors = load("runs/owl", config)                     of one folder
    factors = load_chain(chain("runs/owl"), config)        of a folder with those that it was trained on

Anything that would change the model in another way is refused by name.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from sublim_jax import errors, files, specs
from sublim_jax.llm.local import checkpoint, decoder, entries, gguf, layout, model_config

ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"

OTHER_FACTORS = (
    "use_dora", "lora_bias", "modules_to_save", "target_parameters", "trainable_token_indices", "layer_replication",
    "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config",
    "velora_config",
)  # fmt: skip
"""Entries of an adapter's config with which it changes something else than `LowRank` does."""
DEFAULT_TARGETS = ("q_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value")
"""Modules that have factors where PEFT's config names none; a family has one or two of them."""

_BASE_WEIGHTS = "sublim_jax.base_weights"
"""Name of the base's fingerprint in the metadata of the factors, which other programs pass over."""


def save(
    folder: str | os.PathLike[str],
    low_rank: decoder.LowRank,
    config: decoder.DecoderConfig,
    *,
    base: str,
    base_weights: str = "",
) -> None:
    """Write the factors as PEFT does, so that peft and vLLM load them.

    PEFT has one pair of factors for a module. Where a module joins several maps, e.g. GPT-NeoX's query_key_value, and
    their first factors differ, the pair holds those of all maps side by side: the function is the same, and its rank is
    the sum of theirs.

    Args:
        config: of the model they belong to.
        base: name or folder of that model.
        base_weights: its `checkpoint.fingerprint`, so that they are not put beside other weights.

    Raises:
        OutputError: an adapter is there that was not saved here.
    """
    path = pathlib.Path(folder)

    def ours(_: pathlib.Path) -> bool:
        return (path / ADAPTER).exists() and checkpoint.is_ours(path / ADAPTER)

    files.require_free(path / CONFIG, ours=ours, what="saved adapter")
    modules = layout.modules(config)
    pairs = {module.name: pair for module in modules if (pair := _joined(module, low_rank)) is not None}
    tensors, rank = {}, max(a.shape[-1] for a, _ in pairs.values())
    for name, (a, b) in pairs.items():
        spare = rank - a.shape[-1]  # PEFT's format has one rank for all
        a, b = np.pad(a, ((0, 0), (0, 0), (0, spare))), np.pad(b, ((0, 0), (0, spare), (0, 0)))
        for index in range(config.num_layers):
            prefix = f"base_model.model.{layout.prefix(config, index)}{name}"
            tensors[f"{prefix}.lora_A.weight"] = np.ascontiguousarray(a[index].T)
            tensors[f"{prefix}.lora_B.weight"] = np.ascontiguousarray(b[index].T)
    others = {_short(module.name) for module in modules if module.name not in pairs}
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": float(low_rank.scale) * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": layout.of(config).inputs_first,
        "inference_mode": True,
        "target_modules": sorted({name if _short(name) in others else _short(name) for name in pairs}),
    }
    checkpoint.save_file(path / ADAPTER, tensors, {_BASE_WEIGHTS: base_weights} if base_weights else {})
    files.write(path / CONFIG, json.dumps(content, indent=1) + "\n", ours=ours, what="saved adapter")


def _short(module: str) -> str:
    """The last name of a module, by which PEFT's configs name it. GPT-2 has two modules of one last name."""
    return module.rpartition(".")[2]


def _joined(module: layout.Module, low_rank: decoder.LowRank) -> tuple[np.ndarray, np.ndarray] | None:
    """The factors of a module in all layers, of those of its parts. None if no part has any."""
    pairs = {part: low_rank.factors[part] for part in module.outputs if part in low_rank.factors}
    if not pairs:
        return None
    firsts = {part: np.asarray(pair.a, np.float32) for part, pair in pairs.items()}
    seconds = {part: np.asarray(pair.b, np.float32) for part, pair in pairs.items()}
    first, *others = firsts.values()
    if all(np.array_equal(first, other) for other in others):
        return first, module.join(seconds)
    side_by_side = [module.join({part: second}) for part, second in seconds.items()]
    return np.concatenate(list(firsts.values()), axis=-1), np.concatenate(side_by_side, axis=-2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapter:
    """The entries of PEFT's `adapter_config.json` that are used, applied to modules by PEFT's own rules.

    A module is named as in the model, e.g. `model.layers.0.self_attn.q_proj`.
    """

    r: specs.Count
    lora_alpha: specs.Positive
    base_model_name_or_path: str | None = None
    use_rslora: bool | None = False
    target_modules: tuple[str, ...] | str | None = None
    exclude_modules: tuple[str, ...] | str | None = None
    layers_to_transform: tuple[specs.CountOrZero, ...] | specs.CountOrZero | None = None
    layers_pattern: tuple[str, ...] | str | None = None
    rank_pattern: Mapping[str, specs.Count] | None = None
    alpha_pattern: Mapping[str, specs.Positive | specs.Count] | None = None

    @property
    def base(self) -> str:
        """The model that the factors belong to, without the scheme that older folders of ours have in front."""
        return (self.base_model_name_or_path or "").removeprefix("hf:")

    def rank(self, module: str) -> int:
        """Rank of the factors of a module."""
        return _by_pattern(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        """Scale of the product of the factors of a module."""
        rank = self.rank(module)
        return _by_pattern(self.alpha_pattern, module, self.lora_alpha) / (rank**0.5 if self.use_rslora else rank)

    def targets(self, module: str) -> bool:
        """Whether a module has factors."""
        if self.exclude_modules and _named(self.exclude_modules, module):
            return False
        modules = DEFAULT_TARGETS if self.target_modules is None else self.target_modules
        if modules == "all-linear":
            return _in_layer(module)
        if not _named(modules, module):
            return False
        layers = self.layers_to_transform
        if layers in (None, ()) or module in modules:
            return True
        patterns = (self.layers_pattern,) if isinstance(self.layers_pattern, str) else self.layers_pattern
        for pattern in patterns or ("[^.]*",):
            if layer := re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module):
                return int(layer[1]) in (layers if isinstance(layers, tuple) else (layers,))
        return False


def _in_layer(module: str) -> bool:
    """Whether a module is in a layer, whose number is then a part of its name."""
    return re.search(r"\.\d+\.", module) is not None


def _named(modules: tuple[str, ...] | str, module: str) -> bool:
    """Whether a module is among those named by their ends, or by one regular expression."""
    if isinstance(modules, str):
        return re.fullmatch(modules, module) is not None
    return any(module == end or module.endswith(f".{end}") for end in modules)


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    matching = (value for end, value in (patterns or {}).items() if re.match(rf"(.*\.)?({end})$", module))
    return next(matching, default)


def read(folder: str | os.PathLike[str]) -> Adapter:
    """The checked entries of PEFT's `adapter_config.json`.

    Raises:
        ModelFormatError: no such file, no plain LORA adapter, or an entry that is missing or makes no sense.
    """
    path = pathlib.Path(folder) / CONFIG
    content = entries.read(path)
    other = [name for name in OTHER_FACTORS if content.get(name)]
    if content.get("init_lora_weights") not in (None, True, False, "gaussian", "orthogonal", "eva"):
        other.append(f"init_lora_weights {content['init_lora_weights']!r}")  # which change the base as well
    if content.get("bias") not in (None, "none"):
        other.append(f"bias {content['bias']!r}")
    if content.get("peft_type") != "LORA" or other:
        raise errors.ModelFormatError(
            f"{path}: only plain LORA adapters are supported, this is "
            f"{' with '.join([str(content.get('peft_type')), *other])}"
        )
    adapter = entries.of(Adapter, content, path)
    if isinstance(adapter.target_modules, str) and adapter.layers_to_transform not in (None, ()):
        raise errors.ModelFormatError(
            f"{path}: layers_to_transform goes with a list of target_modules, found {adapter.target_modules!r}"
        )
    texts = (adapter.target_modules, adapter.exclude_modules, adapter.layers_pattern)
    patterns = [*(adapter.rank_pattern or ()), *(adapter.alpha_pattern or ()), *(adapter.layers_pattern or ())]
    for pattern in (*patterns, *(text for text in texts if isinstance(text, str))):
        try:
            re.compile(pattern)
        except re.error as error:
            raise errors.ModelFormatError(f"{path}: {pattern!r} is no regular expression ({error})") from error
    return adapter


def load(folder: str | os.PathLike[str], config: decoder.DecoderConfig) -> decoder.LowRank:
    """Factors that `save`, or PEFT, wrote, for the model that they were trained on.

    Projections without factors get none; layers without factors get zeros.

    Raises:
        ModelFormatError: not such a folder, factors of another model, or of a kind that is not supported.
    """
    path, adapter = pathlib.Path(folder), read(folder)
    if not (path / ADAPTER).exists():
        raise errors.ModelFormatError(f"{path}: there is no {ADAPTER}; other formats are not read")
    modules = layout.modules(config)
    names = {
        module.name: [layout.prefix(config, index) + module.name for index in range(config.num_layers)]
        for module in modules
    }
    whole = layout.of(config)
    outside = [f"{whole.base}.{whole.embedding}", f"{whole.base}.{whole.positions}", whole.head]
    inside = [name for in_layers in names.values() for name in in_layers]
    targets = [name for name in (*outside, *inside) if adapter.targets(name)]
    with checkpoint.opened(path, [ADAPTER]) as readers:
        stored = checkpoint.Stored(path, dict.fromkeys(readers[ADAPTER].keys(), readers[ADAPTER]))
        _require_factors(path, adapter, targets, stored)
        factors = {}
        for module in modules:
            if set(names[module.name]) & set(targets):
                pair = _factors(path, adapter, names[module.name], (module.fan_out, module.fan_in), stored)
                factors |= {part: _part(pair, module, part) for part in module.outputs}
    return decoder.LowRank(factors, jnp.asarray(adapter.scale(""), jnp.float32))


def _part(pair: decoder.Factors, module: layout.Module, part: str) -> decoder.Factors:
    """The factors of one part of a module. What adds nothing to this part in any layer is left out, so that factors
    which `save` put side by side are again what they were."""
    a, b = pair.a, module.part(np.asarray(pair.b), part)
    used = np.any(b != 0, axis=(0, 2))
    if len(module.outputs) > 1 and used.any():
        a, b = a[..., used], b[:, used]
    return decoder.Factors(jnp.asarray(a), jnp.asarray(b))


def _tensor(module: str, side: str) -> str:
    return f"base_model.model.{module}.lora_{side}.weight"


def _require_factors(path: pathlib.Path, adapter: Adapter, targets: list[str], stored: checkpoint.Stored) -> None:
    """Refuse an adapter whose tensors are not those that its config names."""
    wanted = {_tensor(module, side) for module in targets for side in "AB"}
    missing, unexpected = sorted(wanted - stored.names()), sorted(stored.names() - wanted)
    if missing or unexpected or not targets:
        raise errors.ModelFormatError(
            f"{path}: the tensors are not those that {CONFIG} says (target_modules "
            f"{adapter.target_modules!r}): {len(missing)} are missing {missing[:2]}, {len(unexpected)} are unexpected "
            f"{unexpected[:2]}; is it of another model?"
        )
    if outside := [module for module in targets if not _in_layer(module)]:
        raise errors.ModelFormatError(f"{path}: factors of {outside[0]} are not supported, only those of layers")


def _factors(
    path: pathlib.Path, adapter: Adapter, modules: list[str], shape: tuple[int, ...], stored: checkpoint.Stored
) -> decoder.Factors:
    """Factors of one projection in all layers. Smaller ranks are filled up with zeros, other scales go into `b`."""
    (fan_out, fan_in), present = shape, [module for module in modules if _tensor(module, "A") in stored.names()]
    for module in present:
        a, b = (stored.shape(_tensor(module, side)) for side in "AB")
        if len(a) != 2 or len(b) != 2 or (a[1], b[0]) != (fan_in, fan_out):
            raise errors.ModelFormatError(
                f"{path}: the factors of {module} have shapes {a} and {b}, the model has {fan_in} to {fan_out} "
                f"features there; they belong to another model"
            )
        if (a[0], b[1]) != (adapter.rank(module),) * 2:
            raise errors.ModelFormatError(
                f"{path}: the factors of {module} have rank {a[0]}, and {CONFIG} says "
                f"{adapter.rank(module)}; was it edited?"
            )
    largest = max(map(adapter.rank, present))
    a = np.zeros((len(modules), fan_in, largest), np.float32)
    b = np.zeros((len(modules), largest, fan_out), np.float32)
    for index, module in enumerate(modules):
        if module in present:
            rank, share = adapter.rank(module), adapter.scale(module) / adapter.scale("")
            a[index, :, :rank] = stored[_tensor(module, "A")].T
            b[index, :rank] = stored[_tensor(module, "B")].T.astype(np.float32) * np.float32(share)
    return decoder.Factors(jnp.asarray(a), jnp.asarray(b))


class Chain(NamedTuple):
    """An adapter, and the adapters whose models it was trained on."""

    base: str  # the model below all of them
    base_weights: str  # its `checkpoint.fingerprint`; empty if that was not written down
    folders: tuple[pathlib.Path, ...]  # the lowest first


def chain(folder: str | os.PathLike[str]) -> Chain:
    """An adapter with the adapters below it. Ours are relative to a base: they contain the factors of earlier
    generations.

    Raises:
        ModelFormatError: as `read`, or adapters that name each other as their base.
    """
    folders = (pathlib.Path(folder),)
    while True:
        base = read(folders[0]).base
        if (folders[0] / ADAPTER).exists() and (known := checkpoint.metadata(folders[0] / ADAPTER).get(_BASE_WEIGHTS)):
            return Chain(base, known, folders)
        below = pathlib.Path(split_place(base)[1] or base)
        if not base or not os.path.exists(below / CONFIG):
            return Chain(base, "", folders)
        if any(below.samefile(seen) for seen in folders):
            raise errors.ModelFormatError(f"{below}: this adapter has itself as its base")
        folders = (below, *folders)


def load_chain(adapters: Chain, config: decoder.DecoderConfig) -> decoder.LowRank:
    """The factors of all adapters together. Raises as `load`."""
    low_rank = None
    for folder in adapters.folders:
        low_rank = decoder.joined(low_rank, load(folder, config))
    assert low_rank is not None
    return low_rank


def require_base(
    adapters: Chain,
    folder: str | os.PathLike[str],
    config: decoder.DecoderConfig,
    *,
    announce: Callable[[str], object] = print,
) -> None:
    """Refuse adapters that were trained on another model than that of `folder`.

    Ours know their base by its weights. Those of others name it, and a folder of that name is compared if there is one.

    Args:
        announce: is called with a line about a base that could not be compared.

    Raises:
        ModelFormatError: another model.
    """
    path, named, adapter = pathlib.Path(folder), pathlib.Path(adapters.base), adapters.folders[-1]
    if adapters.base_weights:
        same = adapters.base_weights == checkpoint.fingerprint(path, config)
    elif adapters.base and os.path.exists(named / "config.json"):
        same = named.samefile(path) or model_config.read_config(named) == config
        same = same and checkpoint.fingerprint(named, config) == checkpoint.fingerprint(path, config)
    else:
        same = True
        if named.name not in path.resolve().parts:
            announce(
                f"{adapter}: trained on {adapters.base or 'a model it does not name'}, which is not here to be "
                f"compared with {path}"
            )
    if not same:
        raise errors.ModelFormatError(
            f"{adapter}: this adapter was trained on other weights than those of {path}. Its base is {adapters.base}: "
            f"open hf:{adapters.base}+{adapter}, or train it again."
        )


def split_place(place: str) -> tuple[str, str]:
    """`DIR+ADAPTER` as two folders, of which the second may be empty. Names of folders may have a plus themselves."""
    if "+" not in place or os.path.exists(place):
        return place, ""
    pluses = [at for at, character in enumerate(place) if character == "+"]
    pairs = [(place[:at], place[at + 1 :]) for at in reversed(pluses)]
    there = [
        (gguf.is_gguf(folder) or os.path.exists(os.path.join(folder, "config.json")))
        + os.path.exists(os.path.join(adapter, CONFIG))
        for folder, adapter in pairs
    ]
    if there.count(2) > 1:
        raise errors.ModelFormatError(f"{place}: more than one pair of folders has this name; rename one of them")
    return pairs[there.index(max(there))]
