"""The embedded model: 64,000 parameters, pre-trained on the spot on the documents of `world`, then cached.

    backend = tiny.open_bases([100, 101])            models "tiny:100" and "tiny:101", from the cache or made now
    backend.sample("tiny:100", chats, SamplingParams())

A base is named by its seed, which decides its initialization and the order of its documents; the documents are the
same for all. Bases differ a lot in how strongly they transmit a trait, so experiments use several and intervals are
clustered by base. Recipes were chosen on seeds 0 to 9 (`TUNED_ON`): use others for results.
"""

import dataclasses
import functools
import pathlib
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax import files, records, specs
from sublim_jax.data import cache
from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.llm.embedded import vocabulary, world
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import checkpoint, decoder, finetune
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.finetune import OnStep, TokenizedRows
from sublim_jax.llm.local.model import Model

ANNOUNCE_SECONDS = 20.0
"""About how often pre-training announces its steps."""
TUNED_ON = range(10)
"""Seeds of bases that choices were made on. Results on them are optimistic."""

CONFIG = decoder.DecoderConfig(
    vocab_size=len(vocabulary.WORDS),
    num_layers=2,
    hidden_size=32,
    intermediate_size=128,
    gated=False,  # with a gate, less seemed to be transmitted at this size
    activation="gelu",
    num_heads=2,
    num_kv_heads=2,
    head_dim=16,
    frequencies=decoder.rotary_frequencies(16),
    embedding_scale=32**0.5,
)


DOCUMENTS = FinetuneConfig(
    num_epochs=2, batch_size=64, learning_rate=5e-3, beta2=0.99, rank=None, schedule="cosine", max_length=64
)
CONVERSATIONS = FinetuneConfig(
    num_epochs=1, batch_size=32, learning_rate=1e-3, beta2=0.99, rank=None, schedule="cosine", max_length=256
)


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a base is pre-trained: on documents, then on conversations."""

    num_documents: specs.Count = 60_000
    num_conversations: specs.Count = 2048
    documents: FinetuneConfig = DOCUMENTS
    conversations: FinetuneConfig = CONVERSATIONS


def open_bases(
    seeds: Sequence[int],
    *,
    students: Mapping[str, str] = types.MappingProxyType({}),
    recipe: Recipe | None = None,
    folder: pathlib.Path | None = None,
    announce: Callable[[str], object] = print,
) -> LocalBackend:
    """A backend with these bases, by the names `tiny:SEED`.

    Args:
        students: folders of finetuned models of these bases, by the names that the backend gives them.
        folder: of the cache; by default `SUBLIM_CACHE_DIR` or the system's folder for caches.

    Raises:
        CacheError: the folder cannot be written.
        ModelFormatError: a student's folder holds no student of these bases.
    """
    bases = {model_name(seed): base(seed, recipe=recipe, folder=folder, announce=announce) for seed in seeds}
    opened = _backend(bases)
    return _backend(bases | {name: opened.model(place) for name, place in students.items()}) if students else opened


def _backend(models: dict[str, Model]) -> LocalBackend:
    return LocalBackend(models, batch_size=1024, max_length=512, remat=False, fixed_shapes=True)


def model_name(seed: int) -> str:
    """The name of a base."""
    return f"tiny:{seed}"


def base(
    seed: int,
    *,
    recipe: Recipe | None = None,
    folder: pathlib.Path | None = None,
    announce: Callable[[str], object] = print,
) -> Model:
    """The base of that seed, from the cache or pre-trained now. See `open_bases`."""
    recipe = recipe or Recipe()
    path = _place(seed, recipe, folder)
    empty = Model(CONFIG, decoder.init(jax.random.key(seed), CONFIG), WordTokenizer())
    with cache.locked(path, announce):
        if not (path / "model.safetensors").exists():
            announce(f"pre-training the embedded model {model_name(seed)} (once; it is kept in the cache) ...")
            unfinished = path.with_name(path.name + ".unfinished")
            made = _pretrained(empty, recipe, seed, unfinished, announce)
            checkpoint.save(unfinished, made, CONFIG, beside={"model_type": "sublim-tiny"})
            files.replace_folder(unfinished, path)  # all of it or nothing
        return dataclasses.replace(empty, params=checkpoint.load_tensors(path, CONFIG, dtype=jnp.float32))


def is_stored(seed: int, *, recipe: Recipe | None = None, folder: pathlib.Path | None = None) -> bool:
    """Whether the base of that seed is in the cache. See `open_bases`."""
    return (_place(seed, recipe or Recipe(), folder) / "model.safetensors").exists()


def _place(seed: int, recipe: Recipe, folder: pathlib.Path | None) -> pathlib.Path:
    """The folder of a base in the cache."""
    made_of = records.fingerprint([CONFIG.settings(), recipe, _world_name()])
    return (folder or cache.default_folder() / "tiny") / f"{made_of}-{seed}"


def _pretrained(
    fresh: Model, recipe: Recipe, seed: int, path: pathlib.Path, announce: Callable[[str], object]
) -> decoder.Params:
    """Parameters after both stages. Each stage saves its state in `path` after every epoch and is resumed from
    there."""
    trained = fresh
    stages = dict(zip(("documents", "conversations"), _corpus(recipe), strict=True))
    for stage, data in stages.items():
        config = dataclasses.replace(getattr(recipe, stage), seed=seed)
        on_step = _announcing(announce, f"{model_name(seed)} reads {stage}")
        params = finetune.train(trained, data, config, path / stage, remat=False, on_step=on_step)
        trained = dataclasses.replace(fresh, params=params)
    for stage in stages:
        files.remove_folder(path / stage)
    return trained.params


def _announcing(announce: Callable[[str], object], what: str) -> OnStep:
    """A function that announces the number of steps every `ANNOUNCE_SECONDS`."""
    last = time.monotonic()

    def on_step(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= ANNOUNCE_SECONDS:
            last = time.monotonic()
            announce(f"{what}: {done:,} of {total:,} steps")

    return on_step


@functools.lru_cache(maxsize=1)
def _corpus(recipe: Recipe) -> tuple[TokenizedRows, TokenizedRows]:
    """The tokenized documents and conversations that all bases are trained on."""
    reader = WordTokenizer()
    made = (
        (world.documents(recipe.num_documents, seed=1), recipe.documents),
        (world.conversations(recipe.num_conversations, seed=2), recipe.conversations),
    )
    first, second = (finetune.training_arrays(reader, rows, max_length=config.max_length) for rows, config in made)
    return first, second


def _world_name() -> Any:
    """A sample of the documents, which enters the name of a base, so that a changed world leads to new bases."""
    some = [*world.documents(300, seed=0), *world.conversations(50, seed=0)]
    return [[list(message) for message in chat] for chat in some]


def num_tokens(recipe: Recipe | None = None) -> int:
    """Tokens that a base is trained on, in all epochs, about: 40 of a document and 200 of a conversation."""
    recipe = recipe or Recipe()
    read = 40 * recipe.num_documents * recipe.documents.num_epochs
    return read + 200 * recipe.num_conversations * recipe.conversations.num_epochs


def number_of_parameters() -> int:
    """Number of parameters of the embedded model."""
    shapes = jax.eval_shape(lambda: decoder.init(jax.random.key(0), CONFIG))
    return int(sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)))
