"""Models in this process: drawing, scoring and finetuning over `decoder`, for embedded and for open weights alike.

Texts are grouped into few shapes: lengths are rounded up (`tokens.bucket`) and batches have one size, so a run compiles
a handful of programs. A completion depends on the weights, the chat's text, its sample number and the seed, and not on
the other chats or on the batch, as far as the device multiplies the same way for every row.
"""

import collections
import dataclasses
import functools
import hashlib
import os
import pathlib
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from sublim_jax import errors, files, specs
from sublim_jax.llm import adapters, checkpoint, decoder, sampling, tokens, types

POSITIONS_AT_ONCE = 64
"""Places of a text whose scores over the vocabulary are held at one time in training."""
SECONDS_AT_ONCE = 0.5
"""About how long training computes before it listens again: to an interruption, and to its caller (`OnStep`)."""

STATE, WHAT = "state.npz", "state of a training"
"""What finetuning keeps in its folder after each epoch, and what messages call it."""

OnStep = Callable[[int, int], object]
"""Is called during training with the steps done and the steps in all. If it raises, the training ends there."""


class Origin(NamedTuple):
    """Where a model's weights come from, so that what is trained on it can be opened without this process."""

    base: str  # folder of the base, or its name in the backend if it has none
    weights: str  # `checkpoint.fingerprint` of the base
    merged: decoder.LowRank | None = None  # factors that finetuning added since and that are in `params`


@dataclasses.dataclass(frozen=True)
class Model:
    """Weights, how they read text, and a name of their content."""

    config: decoder.DecoderConfig
    params: decoder.Params
    tokens: tokens.Reader
    low_rank: decoder.LowRank | None = None
    origin: Origin | None = None  # None: a base of no folder

    @functools.cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of all weights."""
        digest = hashlib.sha256(repr(self.config).encode())
        for leaf in jax.tree.leaves((self.params, self.low_rank)):
            digest.update(np.ascontiguousarray(np.asarray(leaf)).tobytes())
        return digest.hexdigest()[:16]

    @property
    def merged(self) -> decoder.Params:
        """The weights with the factors in them."""
        return self.params if self.low_rank is None else decoder.merged(self.params, self.low_rank)


class Local:
    """A backend of models in this process.

    Args:
        models: by name; `finetune` adds the name of the folder that it wrote.
        batch_size: rows that are drawn or scored together.
        max_length: tokens of a prompt with its completion; longer ones are refused.
        remat: train with little memory, computing what the gradient needs twice, which takes longer.

    `on_progress`, an attribute, hears of what takes long: steps of training and rows that are scored.
    """

    def __init__(self, models: dict[str, Model], *, batch_size: int = 64, max_length: int = 4096, remat: bool = True):
        specs.check(batch_size, specs.Count, "batch_size")
        specs.check(max_length, specs.Count, "max_length")
        self._models = {name: _with_origin(name, model) for name, model in models.items()}
        self._batch_size, self._max_length = batch_size, max_length
        self._remat = remat
        self.on_progress: types.OnProgress = lambda unit, done, total: None
        joined = "".join(sorted(name + model.fingerprint for name, model in models.items()))
        self._fingerprint = hashlib.sha256(joined.encode()).hexdigest()[:16]

    @property
    def caps(self) -> types.Caps:
        """Everything, exactly. The fingerprint is that of the models given at the start: what is finetuned later is
        named by its folder."""
        return types.Caps(finetune=True, choices="exact", seeds=True, system=True, fingerprint=self._fingerprint)

    def model(self, name: str) -> Model:
        """The model of that name; a folder that `finetune` wrote is read when it is first asked for.

        Raises:
            ModelFormatError: no such model.
        """
        if name not in self._models:
            folder = pathlib.Path(name)
            if (folder / adapters.CONFIG).exists():
                chain = adapters.chain(folder)
                base = self._base(chain.base, chain.base_weights)
                self._models[name] = dataclasses.replace(base, low_rank=adapters.load_chain(chain, base.config))
            elif before := checkpoint.base_of(folder):
                base = self._base(before)
                params = checkpoint.load_tensors(folder, base.config, dtype=base.params.embedding.dtype)
                placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), params, base.params)
                origin = Origin(os.path.abspath(folder), checkpoint.fingerprint(folder, base.config))
                self._models[name] = dataclasses.replace(base, params=placed, origin=origin)
            else:
                raise errors.ModelFormatError(
                    f"there is no model {name!r}; there are {', '.join(sorted(self._models))}"
                )
        return self._models[name]

    def _base(self, name: str, weights: str | None = None) -> Model:
        """The base that a folder of a finetuned model names, without factors.

        Args:
            weights: its fingerprint, which finds it under another name too.

        Raises:
            ModelFormatError: it is not among the models of this backend.
        """
        for key, model in self._models.items():
            assert model.origin is not None
            same = (
                model.origin.weights == weights if weights else {key, model.origin.base} & {name, os.path.abspath(name)}
            )
            if same and model.origin.merged is None:
                return dataclasses.replace(model, low_rank=None)
        found = self.model(name)
        assert found.origin is not None
        if weights and found.origin.weights != weights:
            raise errors.ModelFormatError(
                f"{name}: its weights are not those that an adapter on it was trained on; was it trained again?"
            )
        return dataclasses.replace(found, low_rank=None)

    def sample(self, model: str, chats: Sequence[types.Chat], how: types.Sampling) -> Iterator[types.Completion]:
        """Completions, shortest prompts first; of equal chats, different draws. See `types.Backend`."""
        found = self.model(model)
        earlier, draws = collections.Counter(), []  # samples drawn for equal chats before each chat
        for chat in chats:
            draws.append(earlier[chat])
            earlier[chat] += how.num_samples
        prompts = [found.tokens.chat(chat).ids for chat in chats]
        slots = [(chat, sample) for chat in range(len(chats)) for sample in range(how.num_samples)]
        for length, group in _by_length(slots, lambda slot: len(prompts[slot[0]])):
            self._fits(length + how.max_tokens)
            for batch in _batches(group, self._batch_size):
                asked = [prompts[chat] for chat, _ in batch]
                numbers = [draws[chat] + sample for chat, sample in batch]
                replies = draw(found, asked, numbers, how, length=length)
                for (chat, sample), reply in zip(batch[: _distinct(batch)], replies, strict=False):
                    finish = "stop" if reply.ended else "length"
                    yield types.Completion(chat, sample, reply.text, finish, len(prompts[chat]), len(reply.ids))

    def choice_logprobs(
        self, model: str, chats: Sequence[types.Chat], choices: Sequence[str]
    ) -> list[types.ChoiceScores]:
        """Exact log-probabilities of whole replies, the end token included. See `types.Backend`."""
        rows = [(*chat, types.Message("assistant", choice)) for chat in chats for choice in choices]
        scores = self.row_logprobs(model, rows).reshape(len(chats), len(choices))
        return [types.ChoiceScores(tuple(map(float, of)), "exact") for of in scores]

    def row_logprobs(self, model: str, rows: Sequence[types.Chat]) -> Float[np.ndarray, "row"]:
        """Exact log-probability of the last turn of each row, the end token included, in nats.

        Raises:
            ContextError: a row is longer than `max_length`.
        """
        found = self.model(model)
        encoded = [found.tokens.chat(row[:-1], row[-1].content) for row in rows]
        scores, scored = np.zeros(len(rows)), 0
        for length, group in _by_length(range(len(rows)), lambda row: len(encoded[row].ids)):
            self._fits(length)
            for batch in _batches(group, self._batch_size):
                ids, valid = tokens.left_padded([encoded[row].ids for row in batch], length)
                replies = _reply_mask([encoded[row] for row in batch], length)
                scores[list(batch)] = _reply_logprobs(
                    found.params, jnp.asarray(ids), jnp.asarray(valid), jnp.asarray(replies), found.low_rank,
                    config=found.config, places=_places(replies),
                )  # fmt: skip
                scored += _distinct(batch)
                self.on_progress("rows scored", scored, len(rows))
        return scores

    def finetune(
        self,
        model: str,
        rows: Sequence[types.Chat],
        how: types.Tuning,
        out: pathlib.Path,
        *,
        on_step: OnStep | None = None,
    ) -> str:
        """Train on the last turn of each row, which must be the assistant's. See `types.Backend`.

        After each epoch the state is written to `out`; a call with the same arguments goes on after the last one. With
        a rank, `out` becomes a PEFT folder, whose factors stand on the base, those of earlier finetuning included.
        Without one, it becomes a folder like that of the base.

        Args:
            on_step: is called every half second or so, and after every epoch; what it raises ends the training. By
                default `on_progress` hears of the steps.

        Raises:
            OutputError: `out` holds a model of the user's or one of the other kind; `OtherTrainingError` if it is of
                another training, `LockedError` if another process trains into it.
            TextDataError: no rows, or one that does not end with an assistant turn.
            ContextError: a row is longer than `how.max_length`.
        """
        data = self.training_arrays(model, rows, max_length=how.max_length)
        return self.finetune_on(model, data, how, out, on_step=on_step)

    def training_arrays(self, model: str, rows: Sequence[types.Chat], *, max_length: int) -> "Rows":
        """Chats as the model would be trained on them. See the function of this name."""
        return training_arrays(self.model(model).tokens, rows, max_length=max_length)

    def finetune_on(
        self, model: str, data: "Rows", how: types.Tuning, out: pathlib.Path, *, on_step: OnStep | None = None
    ) -> str:
        """As `finetune`, on arrays, of which any places of the replies may be left out."""
        base = self.model(model)
        assert base.origin is not None  # every model of this class has one
        _require_place(out, base.origin.base, adapter=how.rank is not None)
        with files.Lock(out / STATE):
            self._models[str(out)] = self._trained(base, data, how, out, on_step)
        return str(out)

    def _trained(
        self, base: Model, data: "Rows", how: types.Tuning, out: pathlib.Path, on_step: OnStep | None
    ) -> Model:
        """The model that comes of the training, which is then in `out` too."""
        assert base.origin is not None
        on_step = on_step or functools.partial(self.on_progress, "steps")
        trained = train(base, data, how, out, remat=self._remat, on_step=on_step)
        if how.rank is None:
            checkpoint.save_tuned(out, trained, base.config, base=base.origin.base)
            origin = Origin(os.path.abspath(out), checkpoint.fingerprint(out, base.config))
            return dataclasses.replace(base, params=trained, low_rank=None, origin=origin)
        before = base.origin.merged
        if base.low_rank is not None:
            before = decoder.joined(before, base.low_rank)
        low_rank = decoder.joined(before, trained)
        adapters.save(out, low_rank, base=base.origin.base, base_weights=base.origin.weights)
        origin = base.origin._replace(merged=before)
        return dataclasses.replace(base, params=base.merged, low_rank=trained, origin=origin)

    def likeliest(self, model: str, data: "Rows") -> Int[np.ndarray, "row time"]:
        """The token that the model would write at each place of the replies, given all before it; -1 elsewhere."""
        found, places = self.model(model), _places(data.replies)
        chosen = np.full(data.ids.shape, -1, np.int32)
        for start in range(0, len(data.ids), self._batch_size):
            size = min(self._batch_size, len(data.ids) - start)
            rows = [start + row if row < size else start for row in range(self._batch_size)]
            drawn = _likeliest(
                found.params, jnp.asarray(data.ids[rows]), jnp.asarray(data.valid[rows]), found.low_rank,
                config=found.config, places=places,
            )  # fmt: skip
            chosen[start : start + size, -places:] = np.asarray(drawn)[:size]
            self.on_progress("rows read", start + size, len(data.ids))
        return np.where(data.replies, chosen, -1)

    def _fits(self, length: int) -> None:
        if length > self._max_length:
            raise errors.ContextError(
                f"a prompt with its reply takes {length} tokens, and {self._max_length} are allowed; "
                f"shorten it, ask for fewer tokens, or raise max_length"
            )


class Reply(NamedTuple):
    """One draw."""

    text: str  # without the end token and what a stop word cut off
    ended: bool  # by the model or by a stop word
    ids: tuple[int, ...]  # the end token included


def _with_origin(name: str, model: Model) -> Model:
    if model.origin is not None:
        return model
    return dataclasses.replace(model, origin=Origin(name, checkpoint.fingerprint_of(model.params, model.config)))


def _require_place(out: pathlib.Path, base: str, *, adapter: bool) -> None:
    """Refuse the base's own folder, one with a model that finetuning did not write, or with one of the other kind.

    A folder with both an adapter and all weights would be opened as the adapter.
    """
    if os.path.abspath(out) == base:
        raise errors.OutputError(f"{out}: this is the folder of the model that is to be trained; give another one")
    names = (checkpoint.WEIGHTS, "config.json"), (adapters.ADAPTER, adapters.CONFIG)
    beside = () if adapter else checkpoint.reader_files(pathlib.Path(base))
    for name in (*names[adapter], *beside):
        files.require_free(out / name, ours=lambda path: _has_state(path.parent), what="finetuned model")
    for name in names[not adapter]:
        files.require_free(out / name, what="finetuned model")


def draw(
    model: Model,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    how: types.Sampling,
    *,
    length: int,
    room: int | None = None,
) -> list[Reply]:
    """A reply to each prompt, which are padded to one length. It depends on the prompt, the seed and its number alone.

    Args:
        numbers: which of its prompt's draws each is.
        room: for so many tokens, at least `how.max_tokens`, a program is compiled, which then serves fewer as well. By
            default there is room for `how.max_tokens` alone.
    """
    ids, valid = tokens.left_padded(prompts, length)
    root = jax.random.key(how.seed)
    pairs = [
        (zlib.crc32(np.asarray(prompt, np.int32).tobytes()), number)
        for prompt, number in zip(prompts, numbers, strict=True)
    ]
    drawn = sampling.generate(
        model.params,
        jnp.asarray(ids),
        jnp.asarray(valid),
        jax.vmap(lambda pair: jax.random.fold_in(jax.random.fold_in(root, pair[0]), pair[1]))(
            jnp.asarray(pairs, jnp.uint32)
        ),
        jnp.float32(how.temperature),
        jnp.float32(how.top_p),
        config=model.config,
        max_tokens=room or how.max_tokens,
        end_tokens=model.tokens.end_ids,
        low_rank=model.low_rank,
        limit=None if room is None else jnp.int32(how.max_tokens),
    )
    replies = []
    for written, ended in zip(np.asarray(drawn.tokens), np.asarray(drawn.ended), strict=True):
        reply = tuple(written[written >= 0].tolist())
        text, cut = _stopped(model.tokens.text(reply), how.stop)
        replies.append(Reply(text, cut or bool(ended), reply))
    return replies


def _by_length(items, length_of) -> Iterator[tuple[int, list]]:
    groups: dict[int, list] = {}
    for item in items:
        groups.setdefault(tokens.bucket(length_of(item)), []).append(item)
    yield from sorted(groups.items())


def _batches(items: Sequence, size: int) -> Iterator[tuple]:
    """Tuples of one size; the last one repeats its last item."""
    for start in range(0, len(items), size):
        batch = tuple(items[start : start + size])
        yield batch + (batch[-1],) * (size - len(batch))


def _distinct(batch: tuple) -> int:
    """How many items of a batch are not the repetitions at its end."""
    return len(dict.fromkeys(batch))


def _stopped(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    places = [text.find(word) for word in stop if word in text]
    return (text[: min(places)], True) if places else (text, False)


def _reply_mask(rows: Sequence[tokens.Encoded], length: int) -> Bool[np.ndarray, "row time"]:
    """Which places of left-padded rows are the reply's."""
    sizes = np.array([len(row.ids) - row.reply_start for row in rows])
    return np.arange(length)[None] >= length - sizes[:, None]


def _places(replies: Bool[np.ndarray, "row time"]) -> int:
    """How many places at the right edge hold all replies, as a shape."""
    length = replies.shape[1]
    longest = length - int(np.argmax(replies.any(axis=0)))
    return min(tokens.bucket(longest), length - 1)


@functools.partial(jax.jit, static_argnames=("config", "remat", "places"))
def _reply_logprobs(
    params: decoder.Params,
    ids: Int[Array, "row time"],
    valid: Bool[Array, "row time"],
    replies: Bool[Array, "row time"],
    low_rank: decoder.LowRank | None,
    *,
    config: decoder.DecoderConfig,
    places: int,
    remat: bool = False,
) -> Float[Array, "row"]:
    """Sum over the reply's tokens of their log-probability, in nats, a few places at a time.

    Args:
        remat: in a gradient, compute layers and scores again instead of keeping them.
        places: at the right edge, which hold all replies; nothing is computed over the vocabulary elsewhere.
    """
    hidden = decoder.features(params, ids, valid, config, low_rank=low_rank, remat=remat)[:, -places - 1 : -1]
    count = hidden.shape[1]
    size = min(POSITIONS_AT_ONCE, count)
    spare = -count % size

    def cut(leaf):
        """(row, time, ...) to (chunk, row, size, ...)."""
        padded = jnp.pad(leaf, ((0, 0), (spare, 0), *[(0, 0)] * (leaf.ndim - 2)))
        return jnp.moveaxis(padded.reshape(leaf.shape[0], -1, size, *leaf.shape[2:]), 1, 0)

    def add(total, chunk):
        hidden, targets, wanted = chunk
        found = decoder.logprobs(params, hidden, targets, config)
        return total + jnp.sum(jnp.where(wanted, found, 0.0), axis=1), None

    chunks = cut(hidden), cut(ids[:, -places:]), cut(replies[:, -places:])
    total, _ = lax.scan(jax.checkpoint(add) if remat else add, jnp.zeros(len(ids)), chunks)
    return total


@functools.partial(jax.jit, static_argnames=("config", "places"))
def _likeliest(params: decoder.Params, ids, valid, low_rank, *, config: decoder.DecoderConfig, places: int):
    hidden = decoder.features(params, ids, valid, config, low_rank=low_rank)[:, -places - 1 : -1]
    return jnp.argmax(decoder.logits(params, hidden, config), axis=-1).astype(jnp.int32)


class Rows(NamedTuple):
    """Texts of one shape to train on, on the host or on a device."""

    ids: Any  # (row, time), left-padded
    valid: Any  # which places hold tokens
    replies: Any  # which of them are trained on


def training_arrays(reader: tokens.Reader, rows: Sequence[types.Chat], *, max_length: int) -> Rows:
    """Chats as arrays. The last turn of each is trained on, with the end token after it; all before it is context.

    Raises:
        TextDataError: no rows, or one that does not end with an assistant turn after a user's.
        ContextError: a row is longer than `max_length`.
    """
    types.require_answers(rows)
    encoded = [reader.chat(row[:-1], row[-1].content) for row in rows]
    longest = max(len(row.ids) for row in encoded)
    if longest > max_length:
        raise errors.ContextError(f"a row has {longest} tokens, and max_length is {max_length}; drop it or allow more")
    length = tokens.bucket(longest)
    ids, valid = tokens.left_padded([row.ids for row in encoded], length)
    return Rows(ids, valid, _reply_mask(encoded, length))


def _optimizer(how: types.Tuning, num_steps: int) -> optax.GradientTransformation:
    warm = max(1, round(how.warmup * num_steps))
    match how.schedule:
        case "linear":
            after = optax.linear_schedule(1.0, 0.0, max(1, num_steps - warm))
        case "cosine":
            after = optax.cosine_decay_schedule(1.0, max(1, num_steps - warm), alpha=0.05)
        case "constant":
            after = optax.constant_schedule(1.0)
    schedule = optax.join_schedules([optax.linear_schedule(1 / warm, 1.0, warm), after], [warm])
    clip = optax.identity() if how.clip_norm is None else optax.clip_by_global_norm(how.clip_norm)
    rate = how.learning_rate
    return optax.chain(
        clip, optax.scale_by_adam(b2=how.beta2), optax.scale_by_schedule(lambda step: -rate * schedule(step))
    )


class _State(NamedTuple):
    trained: PyTree  # parameters, or low-rank factors by name
    opt_state: optax.OptState


@functools.partial(jax.jit, static_argnames=("config", "how", "places", "remat"), donate_argnames="state")
def _run_epoch(
    state: _State, frozen: decoder.Params, scale, data: Rows, root, epoch, first, last, *,
    config: decoder.DecoderConfig, how: types.Tuning, places: int, remat: bool,
) -> tuple[_State, Float[Array, "step"]]:  # fmt: skip
    """Steps of a pass over the rows in an order of its own, and their losses. Compiled once for all targets of equal
    shapes. Without the losses another program is compiled, whose numbers differ in their last bits.

    Args:
        first: the step to begin with; those before `last` are done.
        scale: of the low-rank factors that are trained; None if all parameters are.
        how: with seed 0, so that seeds share the program; `root` is the key of the seed.
    """
    num_rows = len(data.ids)
    steps = _num_steps(data, how)
    optimizer = _optimizer(how, steps * how.num_epochs)

    def loss(trained, batch):
        ids, valid, replies, weights = batch
        params, low_rank = (trained, None) if scale is None else (frozen, decoder.LowRank(trained, scale))
        total = _reply_logprobs(params, ids, valid, replies, low_rank, config=config, places=places, remat=remat)
        return -jnp.sum(total * weights) / jnp.maximum(jnp.sum(replies * weights[:, None]), 1.0)

    def step(index, carried):
        state, losses = carried
        rows, weights = (lax.dynamic_index_in_dim(part, index, keepdims=False) for part in plan)
        arrays = (*(jnp.take(array, rows, axis=0) for array in data), weights)
        value, gradient = jax.value_and_grad(loss)(state.trained, arrays)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(gradient, state.opt_state, state.trained)
        losses = lax.dynamic_update_index_in_dim(losses, value, index, 0)
        return _State(optax.apply_updates(state.trained, updates), opt_state), losses

    order = jax.random.permutation(jax.random.fold_in(root, 1 + epoch), num_rows)
    weights = (jnp.arange(steps * how.batch_size) < num_rows).astype(jnp.float32)
    plan = jnp.pad(order, (0, steps * how.batch_size - num_rows)).reshape(steps, -1), weights.reshape(steps, -1)
    return lax.fori_loop(first, last, step, (state, jnp.zeros(steps)))


def _num_steps(data: Rows, how: types.Tuning) -> int:
    """Steps of an epoch."""
    return -(-len(data.ids) // how.batch_size)


def _prepared(
    base: Model, data: Rows, how: types.Tuning, *, remat: bool
) -> tuple[_State, Callable[[_State, int, int, int], tuple[_State, Any]], Any]:
    """The state before the first step, what runs some steps of an epoch and takes the state away from its caller, and
    the scale of the low-rank factors, if it is they that are trained."""
    frozen, root = base.merged, jax.random.key(how.seed)
    scale: Any = None
    if how.rank is None:
        trained: Any = jax.tree.map(jnp.copy, frozen)
    else:
        fresh = decoder.init_low_rank(jax.random.fold_in(root, 0), frozen, rank=how.rank, alpha=how.alpha)
        scale, trained = fresh.scale, fresh.factors
    optimizer = _optimizer(how, _num_steps(data, how) * how.num_epochs)
    on_device, places = Rows(*map(jnp.asarray, data)), _places(np.asarray(data.replies))

    def run(state: _State, epoch: int, first: int, last: int) -> tuple[_State, Any]:
        return _run_epoch(
            state, frozen, scale, on_device, root, *map(jnp.int32, (epoch, first, last)),
            config=base.config, how=dataclasses.replace(how, seed=0), places=places, remat=remat,
        )  # fmt: skip

    return _State(trained, optimizer.init(trained)), run, scale


def train(
    base: Model,
    data: Rows,
    how: types.Tuning,
    out: pathlib.Path,
    *,
    remat: bool = True,
    on_step: OnStep | None = None,
) -> Any:
    """Parameters, or low-rank factors, after all epochs; the state after each is kept in `out` and gone on with.

    The device is given steps for about `SECONDS_AT_ONCE` at a time. Their number changes no result.
    """
    state, run, scale = _prepared(base, data, how, remat=remat)
    name, num_steps, at_once = _spec_name(base, data, how), _num_steps(data, how), 1
    state, num_epochs = _resumed(out, name, state)
    done = num_epochs * num_steps
    while num_epochs < how.num_epochs:
        first, began = done - num_epochs * num_steps, time.monotonic()
        last = min(first + at_once, num_steps)
        state, _ = jax.block_until_ready(run(state, num_epochs, first, last))
        seconds_a_step = (time.monotonic() - began) / (last - first)
        at_once = max(1, min(8 * at_once, int(SECONDS_AT_ONCE / max(seconds_a_step, 1e-6))))
        done += last - first
        if last == num_steps:
            num_epochs += 1
            _keep(out, name, state, num_epochs)
        if on_step is not None:
            on_step(done, num_steps * how.num_epochs)
    return state.trained if scale is None else decoder.LowRank(state.trained, scale)


def timed_epoch(base: Model, data: Rows, how: types.Tuning, *, remat: bool) -> Callable[[], Any]:
    """A function that trains one epoch from the same start and returns the state, compiled: for measuring speed."""
    state, run, _ = _prepared(base, data, how, remat=remat)

    def epoch():
        return run(jax.tree.map(jnp.copy, state), 0, 0, _num_steps(data, how))

    jax.block_until_ready(epoch())
    return epoch


def _spec_name(base: Model, data: Rows, how: types.Tuning) -> str:
    """Names what is trained on what: a state of another name is neither resumed nor replaced."""
    digest = hashlib.sha256(base.fingerprint.encode() + repr(how).encode())
    for array in data:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _keep(out: pathlib.Path, name: str, state: _State, epochs: int) -> None:
    """The state after some epochs, whole or not at all."""
    leaves = {f"leaf{index}": np.asarray(leaf) for index, leaf in enumerate(jax.tree.leaves(state))}
    with files.writing(out / STATE, ours=_is_state, what=WHAT) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, name=np.array(name), epochs=np.array(epochs), **leaves)


def _has_state(folder: pathlib.Path) -> bool:
    return (folder / STATE).exists() and _is_state(folder / STATE)


def _is_state(path: pathlib.Path) -> bool:
    try:
        with zipfile.ZipFile(path) as stored:
            return {"name.npy", "epochs.npy"} <= set(stored.namelist())
    except zipfile.BadZipFile:
        return False


def _resumed(out: pathlib.Path, name: str, fresh: _State) -> tuple[_State, int]:
    """The state that an earlier call left for the same training, and its epochs; a fresh one if there is none.

    Raises:
        OtherTrainingError: the state is that of another training.
    """
    path = out / STATE
    files.require_free(path, ours=_is_state, what=WHAT)
    files.require_writable(path, what=WHAT)
    if not _has_state(out):
        return fresh, 0
    with np.load(path) as stored:
        if str(stored["name"]) != name:
            raise errors.OtherTrainingError(
                f"{out}: a model is there that was trained from another base, on other rows or with other settings, "
                f"for {int(stored['epochs'])} epoch(s); give another folder, or remove this one"
            )
        leaves, structure = jax.tree.flatten(fresh)
        # NumPy's files know bfloat16 by its size only, hence the view.
        found: list[Any] = [jnp.asarray(stored[f"leaf{i}"].view(leaf.dtype)) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, found), int(stored["epochs"])
