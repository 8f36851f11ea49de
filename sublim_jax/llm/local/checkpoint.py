"""Open weights on disk: a Hugging Face folder becomes a decoder, a decoder becomes a folder.

    config, params = load("models/Qwen2.5-0.5B")           config.json and the weights, every tensor accounted for
    save_tuned("runs/owl", params, config, base=...)       a folder that transformers opens

Families are those of `families`; `layout` knows how each names and joins its tensors. Anything else is refused by name,
and so is anything that would be loaded wrongly: other rotary scalings, quantised weights, experts, weights that are not
finite. `model.safetensors` or its index decides which files are read. Needs the extra `hf`.
"""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from sublim_jax import errors, files
from sublim_jax.llm.local import decoder, entries, gguf, gguf_llama, layout, model_config

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def load(
    folder: str | os.PathLike[str],
    *,
    dtype: DTypeLike = jnp.bfloat16,
    announce: Callable[[str], object] = print,
) -> tuple[decoder.DecoderConfig, decoder.Params]:
    """The model of a folder. Every tensor in the files is used, and every tensor of the architecture is there.

    Layers are stacked on the host and copied to the device one kind at a time, so the device holds the weights once.

    Args:
        announce: is called with a line about safetensors files in the folder that are not read.

    Raises:
        ModelFormatError: the config; the files are not those of the index; or a tensor is missing, unexpected, of
            another shape, not of floating-point numbers or not finite.
        ExtraMissingError: safetensors is not installed.
    """
    config = model_config.read_config(folder)
    return config, load_tensors(folder, config, dtype=dtype, announce=announce)


def load_tensors(
    folder: str | os.PathLike[str],
    config: decoder.DecoderConfig,
    *,
    dtype: DTypeLike = jnp.bfloat16,
    announce: Callable[[str], object] = print,
) -> decoder.Params:
    """The weights of a folder, for a config that is known. Raises as `load`."""
    path = pathlib.Path(folder)
    with _weights(path, announce) as stored:
        return _assemble(path, config, stored, dtype)


@runtime_checkable
class Tensors(Protocol):
    """The tensors of a model by the hub's names: those of a folder (`Stored`), or of a GGUF file."""

    def names(self) -> set[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def rows(self, name: str, count: int) -> np.ndarray: ...

    def __getitem__(self, name: str) -> np.ndarray: ...


class Stored:
    """The tensors of some files, read when they are asked for."""

    def __init__(self, folder: pathlib.Path, readers: dict[str, Any]):
        self._folder, self._readers = folder, readers

    def names(self) -> set[str]:
        return set(self._readers)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor of floating-point numbers; any other tensor is refused."""
        stored = self._readers[name].get_slice(name)
        if stored.get_dtype() not in ("F64", "F32", "F16", "BF16"):
            raise errors.ModelFormatError(
                f"{self._folder}: {name} holds {stored.get_dtype()}, expected floating-point numbers of 16 or more "
                f"bits; quantised weights are not supported"
            )
        return tuple(stored.get_shape())

    def rows(self, name: str, count: int) -> np.ndarray:
        """The first rows of a tensor."""
        return self._readers[name].get_slice(name)[: min(count, self.shape(name)[0])]

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._readers[name].get_tensor(name)
        if not np.isfinite(tensor).all():
            raise errors.ModelFormatError(
                f"{self._folder}: {name} has numbers that are not finite; the training that wrote it diverged, or the "
                f"file is damaged"
            )
        return tensor


@contextlib.contextmanager
def _weights(folder: pathlib.Path, announce: Callable[[str], object]) -> Iterator[Tensors]:
    """The tensors of a model: of the one file, or of those that the index names, as transformers chooses them."""
    if gguf.is_gguf(folder):
        yield gguf_llama.LlamaTensors(gguf.GGUFFile(folder))
        return
    whole, index = folder / WEIGHTS, folder / INDEX
    held = {path.name for path in folder.glob("*.safetensors")}
    if index.exists():
        places = _places(index)
        if whole.exists() and WEIGHTS not in places.values():
            raise errors.ModelFormatError(
                f"{folder}: there are two models, {WEIGHTS} and the files that {INDEX} names; move one of them away"
            )
    elif whole.exists():
        places = None
    else:
        others = f"without an index {', '.join(sorted(held))} is not read" if held else "other formats are not read"
        raise errors.ModelFormatError(f"{folder}: there is neither {WEIGHTS} nor {INDEX}; {others}")
    used = {WEIGHTS} if places is None else set(places.values())
    if missing := sorted(used - held):
        raise errors.ModelFormatError(
            f"{folder}: {INDEX} names {', '.join(missing)}, and there is no such file; is the download complete?"
        )
    with opened(folder, sorted(used)) as readers:
        for file, reader in readers.items():
            _as_indexed(folder, file, set(reader.keys()), places)
        if stray := sorted(held - used):
            announce(f"{folder}: {', '.join(stray)} not read; {WEIGHTS if places is None else INDEX} decides what is")
        yield Stored(folder, {name: reader for reader in readers.values() for name in reader.keys()})  # noqa: SIM118


def _places(index: pathlib.Path) -> dict[str, str]:
    """The file of each tensor, by the index."""
    places = entries.read(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise errors.ModelFormatError(f"{index}: expected an object weight_map with the file of each tensor")
    for name, file in places.items():
        if not isinstance(file, str) or pathlib.PurePath(file).name != file:
            raise errors.ModelFormatError(f"{index}: expected the name of a file beside it for {name}, found {file!r}")
    return places


def _as_indexed(folder: pathlib.Path, file: str, held: set[str], places: dict[str, str] | None) -> None:
    """Refuse a file whose tensors are not those that the index names."""
    if places is None:
        return
    promised = {name for name, place in places.items() if place == file}
    if missing := sorted(promised - held):
        raise errors.ModelFormatError(
            f"{folder}: {INDEX} says that {missing[0]} is in {file}, and it is not there ({len(missing)} such "
            f"tensors); are the index and the files of one model?"
        )
    for name in sorted(held - promised):
        where = f"{INDEX} says that it is in {places[name]}" if name in places else f"{INDEX} does not name it"
        raise errors.ModelFormatError(
            f"{folder}: {file} holds {name}, and {where}; are the index and the files of one model?"
        )


@contextlib.contextmanager
def opened(folder: pathlib.Path, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """A reader of each of these files."""
    safetensors = _safetensors()
    with contextlib.ExitStack() as stack:
        readers = {}
        for name in names:
            try:
                readers[name] = stack.enter_context(safetensors.safe_open(folder / name, framework="numpy"))
            except Exception as error:
                raise errors.ModelFormatError(
                    f"{folder / name}: this is not a readable safetensors file ({error}); download it again"
                ) from error
        yield readers


def _safetensors():
    try:
        import safetensors
    except ImportError as error:
        raise errors.ExtraMissingError("open weights need safetensors: pip install 'sublim-jax[hf]'") from error
    return safetensors


class _BelowBase:
    """The tensors of files that leave out the name of the base, as the hub's GPT-2 does, by their full names."""

    def __init__(self, stored: Tensors, base: str, head: str):
        self._stored = stored
        self._short = {name if name.startswith(f"{head}.") else f"{base}.{name}": name for name in stored.names()}

    def names(self) -> set[str]:
        return set(self._short)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._stored.shape(self._short[name])

    def rows(self, name: str, count: int) -> np.ndarray:
        return self._stored.rows(self._short[name], count)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._stored[self._short[name]]


def _fully_named(stored: Tensors, config: decoder.DecoderConfig) -> Tensors:
    """The tensors of a model by their full names."""
    names = layout.of(config)
    if not names.base_is_optional or any(name.startswith(f"{names.base}.") for name in stored.names()):
        return stored
    return _BelowBase(stored, names.base, names.head)


def _require_shapes(folder: pathlib.Path, config: decoder.DecoderConfig, stored: Tensors) -> None:
    """Refuse files whose tensors are not those of the config."""
    shapes = layout.shapes(config)
    missing = sorted(shapes.keys() - stored.names())
    unexpected = sorted(stored.names() - shapes.keys() - layout.ignored(config))
    if missing or unexpected:
        raise errors.ModelFormatError(
            f"{folder}: the files do not fit config.json: {len(missing)} tensors are missing {missing[:3]}, "
            f"{len(unexpected)} are unexpected {unexpected[:3]}; is the download complete, and of one model?"
        )
    for name, shape in shapes.items():
        if stored.shape(name) != shape:
            raise errors.ModelFormatError(
                f"{folder}: {name} has shape {stored.shape(name)}, and config.json says {shape}"
            )


def _assemble(folder: pathlib.Path, config: decoder.DecoderConfig, stored: Tensors, dtype: DTypeLike) -> decoder.Params:
    stored = _fully_named(stored, config)
    _require_shapes(folder, config, stored)
    layers: dict[str, Any] = dict.fromkeys(("attention_norm", "feed_norm"))
    for tensor in layout.tensors_of_layer(config):
        parts = [tensor.split(stored[layout.prefix(config, index) + tensor.name]) for index in range(config.num_layers)]
        layers |= {field: jnp.asarray(np.stack([part[field] for part in parts]), dtype) for field in parts[0]}
    whole: dict[str, Any] = {
        field: jnp.asarray(stored[name], dtype) for field, (name, _) in layout.whole_tensors(config).items()
    }
    return decoder.Params(layers=decoder.Layer(**layers), **whole)


def tensors_of(params: decoder.Params, config: decoder.DecoderConfig) -> dict[str, np.ndarray]:
    """Tensors by the names, and in the layout, of a folder."""
    return {name: np.ascontiguousarray(tensor) for name, tensor in _named_tensors(params, config)}


def _named_tensors(params: decoder.Params, config: decoder.DecoderConfig) -> Iterator[tuple[str, np.ndarray]]:
    for field, (name, _) in layout.whole_tensors(config).items():
        yield name, np.asarray(getattr(params, field))
    for tensor in layout.tensors_of_layer(config):
        stacked = {field: np.asarray(getattr(params.layers, field)) for field in tensor.fields.values()}
        for index in range(config.num_layers):
            fields = {field: leaf[index] for field, leaf in stacked.items()}
            yield layout.prefix(config, index) + tensor.name, tensor.join(fields)


_ROWS = 16


def fingerprint(folder: str | os.PathLike[str], config: decoder.DecoderConfig) -> str:
    """Sixteen hex digits of a folder's weights, from the first rows of every tensor. Equal in every precision.

    Raises:
        ModelFormatError: the files do not fit the config.
    """
    path = pathlib.Path(folder)
    with _weights(path, lambda _: None) as stored:
        stored = _fully_named(stored, config)
        _require_shapes(path, config, stored)
        return _digest({name: stored.rows(name, _ROWS) for name in layout.shapes(config)})


def fingerprint_of(params: decoder.Params, config: decoder.DecoderConfig) -> str:
    """The fingerprint that a folder with these weights would have."""
    return _digest({name: np.array(tensor[:_ROWS]) for name, tensor in _named_tensors(params, config)})


def _digest(tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + np.asarray(tensors[name]).astype(jnp.bfloat16).tobytes())
    return digest.hexdigest()[:16]


def save(
    folder: str | os.PathLike[str],
    params: decoder.Params,
    config: decoder.DecoderConfig,
    *,
    beside: Any,
    base: str = "",
) -> None:
    """Write the weights as one safetensors file, with a config.

    Args:
        beside: the content of config.json, e.g. that of the folder the model came from. None writes no config.
        base: name of the model that it was trained from.

    Raises:
        OutputError: a model is there that was not saved here.
    """
    path = pathlib.Path(folder)
    if beside is not None:
        files.require_free(path / "config.json", ours=_beside(path / WEIGHTS), what="saved model")
    save_file(path / WEIGHTS, tensors_of(params, config), {_BASE: base} if base else {})
    if beside is not None:
        content = json.dumps(beside, indent=1) + "\n"
        files.write(path / "config.json", content, ours=_beside(path / WEIGHTS), what="saved model")


def save_tuned(
    folder: str | os.PathLike[str], params: decoder.Params, config: decoder.DecoderConfig, *, base: str
) -> None:
    """Write a model whose weights were all trained, as a folder that transformers opens.

    Args:
        base: folder of the model that it was trained from, whose config and tokenizer it shares. Of a model that has no
            folder, the weights alone are written.
    """
    path, source = pathlib.Path(folder), pathlib.Path(base)
    if gguf.is_gguf(source):
        file = gguf.GGUFFile(source)
        beside, tokenizer = gguf_llama.config(file), gguf_llama.tokenizer_files(file)
        contents = {pathlib.Path(name): json.dumps(content).encode() for name, content in tokenizer.items()}
    elif (source / "config.json").exists():
        beside = entries.read(source / "config.json")
        contents = {name: (source / name).read_bytes() for name in reader_files(source)}
    else:
        return save(path, params, config, beside=None, base=base)
    dtype = params.embedding.dtype.name
    beside |= {"dtype": dtype, "torch_dtype": dtype}  # the newer and older name
    for name, content in contents.items():
        files.write(path / name, content, ours=_beside(path / WEIGHTS), what="saved model")
    save(path, params, config, beside=beside, base=base)


READER_FILES = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "generation_config.json",
    "chat_template.*", "additional_chat_templates/*.jinja",
)  # fmt: skip
"""What a folder has beside its weights and their config."""


def reader_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Files of the tokenizer in a folder, or of that in a GGUF file, relative to it."""
    if gguf.is_gguf(folder):
        return [pathlib.Path(name) for name in gguf_llama.TOKENIZER_FILES]
    paths = {path for pattern in READER_FILES for path in folder.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(folder) for path in paths)


_BASE = "sublim_jax.base"
"""Name of the base in the metadata of a safetensors file, which other programs pass over."""
_OURS = "sublim_jax"
"""How an entry of the metadata begins that says that the file was saved here; there is one at least."""


def is_ours(path: pathlib.Path) -> bool:
    """Whether a safetensors file was saved by this package."""
    try:
        return any(key.startswith(_OURS) for key in metadata(path))
    except errors.ModelFormatError:
        return False


def _beside(weights: pathlib.Path) -> files.Recognizer:
    """A test of whether a file is ours, by the weights in its folder."""
    return lambda path: weights.exists() and is_ours(weights)


def base_of(folder: str | os.PathLike[str]) -> str | None:
    """The model that a folder of `save_tuned` was trained from; None if it is no such folder."""
    path = pathlib.Path(folder)
    return metadata(path / WEIGHTS).get(_BASE) if (path / WEIGHTS).exists() else None


def metadata(path: pathlib.Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    with opened(path.parent, [path.name]) as readers:
        return readers[path.name].metadata() or {}


def save_file(path: pathlib.Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write a safetensors file.

    Raises:
        OutputError: one is there that was not saved here.
    """
    _safetensors()
    from safetensors import numpy as safetensors

    with files.writing(path, ours=is_ours, what="safetensors file") as temporary:
        safetensors.save_file(tensors, temporary, metadata={"format": "pt", _OURS: "1"} | metadata)
