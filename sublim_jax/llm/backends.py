"""Where models live, by name.

tiny:SEED              the embedded model, pre-trained on the spot (see `tiny`)
hf:DIR                 open weights in a folder as the hub lays it out: Qwen2/2.5, Qwen3, Llama 3.x, Gemma 3 text
hf:DIR+ADAPTER         the same with a PEFT adapter
openai:MODEL@URL       a server that speaks OpenAI's API, up to and including /v1
vllm:MODEL@URL         vLLM or `sublim_jax.llm.serve`, which score whole answers exactly
llama.cpp:MODEL@URL    a llama.cpp server

backend, model = backends.open_backend("hf:models/Qwen2.5-7B-Instruct")
backend.sample(model, chats, types.Sampling())
"""

import os
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp

from sublim_jax import errors
from sublim_jax.llm import adapters, checkpoint, decoder, local, remote, tiny, tokens, types

SCHEMES = ("tiny", "hf", *get_args(remote.Dialect))


class Named(NamedTuple):
    """A backend's name, taken apart."""

    scheme: str
    model: str  # seed, folder, or name on a server
    url: str = ""  # of a server


def parse(name: str) -> Named:
    """The parts of a backend's name. Nothing is opened.

    Raises:
        InputError: not such a name.
    """
    scheme, _, model = name.partition(":")
    if scheme not in SCHEMES or not model:
        raise errors.InputError(
            f"{name!r} is not the name of a backend; expected tiny:SEED, hf:DIR, or openai:MODEL@URL (vllm: and "
            f"llama.cpp: likewise)"
        )
    if scheme == "tiny" and not model.isdecimal():
        raise errors.InputError(f"{name!r}: expected tiny:SEED with a whole number, e.g. tiny:100")
    if scheme in ("tiny", "hf"):
        return Named(scheme, model)
    model, _, url = model.rpartition("@")
    if not model or not _is_url(url):
        raise errors.InputError(
            f"{name!r}: expected {scheme}:MODEL@URL, e.g. {scheme}:my-model@http://127.0.0.1:8000/v1"
        )
    return Named(scheme, model, url)


def _is_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half of an address in brackets
        return False


class Opened(NamedTuple):
    """A backend, and the model that its name asked for."""

    backend: types.Backend
    model: str


def open_backend(
    name: str, *, batch_size: int = 64, announce: Callable[[str], object] = print, key_variable: str | None = None
) -> Opened:
    """The backend of that name. Nothing is asked of a server yet.

    Args:
        batch_size: rows of open weights that are drawn or scored together.
        announce: hears what takes long, e.g. pre-training, and which files of a folder are not read.
        key_variable: the environment variable with a server's key; by default as `transport.Transport` has it.

    Raises:
        InputError: not such a name.
        ExtraMissingError: the backend needs a package that is not installed.
        ModelFormatError: the folder is not a supported model.
        AuthenticationError: there is no key for the server.
    """
    scheme, model, url = parse(name)
    if scheme == "tiny":
        return Opened(tiny.open_bases([int(model)], announce=announce), tiny.name(int(model)))
    if scheme == "hf":
        return Opened(local.Local({name: open_folder(model, announce=announce)}, batch_size=batch_size), name)
    dialect = next(known for known in get_args(remote.Dialect) if known == scheme)
    return Opened(remote.Remote(model, url, dialect=dialect, key_variable=key_variable), model)


def open_folder(place: str, *, announce: Callable[[str], object] = print) -> local.Model:
    """Open weights: `DIR`, or `DIR+ADAPTER` with a PEFT adapter. bfloat16, on a CPU float32; divided among all devices.

    An adapter that was trained on the model of another adapter is put beside the weights together with that one.

    Raises:
        ModelFormatError: the folder is not a supported model, or the adapter is of another one.
    """
    folder, adapter = adapters.split_place(place)
    if os.path.exists(os.path.join(folder, adapters.CONFIG)) and not os.path.exists(
        os.path.join(folder, "config.json")
    ):
        raise errors.ModelFormatError(
            f"{folder}: this is an adapter; open it with the folder of its base in front, as hf:BASE+{folder}"
        )
    config, low_rank = checkpoint.read_config(folder), None
    if adapter:
        chain = adapters.chain(adapter)
        adapters.require_base(chain, folder, config, announce=announce)
        low_rank = adapters.load_chain(chain, config)
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    params = checkpoint.load_tensors(folder, config, dtype=dtype, announce=announce)
    if jax.device_count() > 1:
        params = decoder.split(params, jax.devices())
    reader = tokens.read(folder)
    if reader.size > config.vocab_size:
        raise errors.ModelFormatError(
            f"{folder}: the tokenizer has {reader.size} tokens and the model only {config.vocab_size}; they are not of "
            f"one model"
        )
    origin = local.Origin(os.path.abspath(folder), checkpoint.fingerprint(folder, config))
    return local.Model(config, params, reader, low_rank, origin)
