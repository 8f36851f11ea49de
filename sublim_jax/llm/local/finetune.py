"""Supervised finetuning of a model in this process: Adam on the tokens of the replies, resumed where it stopped.

After each epoch the state is written to the folder of the run, in place of the one before. `train` resumes from it, and
refuses the state of another training. After the last epoch it holds no moments of Adam, which nothing needs any more:
all parameters then take as much room as the model itself and not three times as much.
"""

import dataclasses
import functools
import hashlib
import pathlib
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, PyTree

from sublim_jax import errors, files
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import (
    Chat,
    FinetuneConfig,
)
from sublim_jax.llm.local import decoder, layout, tokenizer
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.local.tokenizer import Tokenizer

SECONDS_AT_ONCE = 0.5
"""About how many seconds training computes before it can be interrupted, and calls `OnStep`, again."""
KEPT_AT_MOST = 2 * 2**30
"""Most bytes that a gradient keeps of what the layers compute, unless the caller says otherwise."""
STATE, WHAT = "state.npz", "state of a training"
"""The file with the state after each epoch, and its name in messages."""
OnStep = Callable[[int, int], object]
"""A function that is called during training with the number of steps done and the total. If it raises, training
ends."""


State = TypeVar("State")


class TokenizedRows(NamedTuple):
    """Rows in tokens, padded to one length, on the host or on a device."""

    ids: Any  # (row, time), left-padded
    valid: Any  # which places hold tokens
    replies: Any  # which of them are trained on


@runtime_checkable
class Rows(Protocol):
    """Training data: arrays whose first axis is that of the examples."""

    @property
    def ids(self) -> Any: ...

    @property
    def replies(self) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


Score = Callable[[Any, Any, Any], Float[Array, "row"]]
"""Returns the log-probability of each row's reply, given ids, valid and replies as in `TokenizedRows`."""
Objective = Callable[[Score, Any, Float[Array, "row"]], Float[Array, ""]]
"""A loss of a batch, given the score of rows, the batch and a weight per example, 0 for those that only fill it up. It
is hashable, and its text identifies it."""


def supervised(score: Score, batch: TokenizedRows, weights: Float[Array, "row"]) -> Float[Array, ""]:
    """Mean negative log-probability of the replies' tokens, in nats."""
    return -jnp.sum(score(*batch) * weights) / jnp.maximum(jnp.sum(batch.replies * weights[:, None]), 1.0)


def training_arrays(
    reader: Tokenizer, rows: Sequence[Chat], *, max_length: int, end_token: bool = True
) -> TokenizedRows:
    """Chats as arrays. The last turn of each and the end token after it are trained on; the turns before are context.

    Args:
        end_token: whether there is an end token.

    Raises:
        TextDataError: no rows, or one that does not end with an assistant turn after a user's.
        ContextError: a row is longer than `max_length`.
    """
    datasets.require_answers(rows)
    encoded = [reader.chat(row[:-1], row[-1].content) for row in rows]
    if not end_token:
        encoded = [dataclasses.replace(row, ids=row.ids[:-1]) for row in encoded]
    longest = max(len(row.ids) for row in encoded)
    if longest > max_length:
        raise errors.ContextError(f"a row has {longest} tokens, and max_length is {max_length}; drop it or allow more")
    length = tokenizer.padded_length(longest)
    ids, valid = tokenizer.pad_left([row.ids for row in encoded], length)
    return TokenizedRows(ids, valid, local_model.reply_mask(encoded, length))


def kept_bytes(config: decoder.DecoderConfig, num_rows: int, length: int) -> int:
    """About how many bytes a gradient keeps of what the layers compute, without rematerialization, in float32.

    The factors are of compiled programs of a model of 135 million parameters, rounded up.
    """
    numbers = 8 * config.hidden_size + 6 * config.intermediate_size + 3 * config.num_heads * length
    return 4 * num_rows * length * config.num_layers * numbers


def adam(
    *,
    learning_rate: float,
    beta2: float,
    num_steps: int,
    num_warmup_steps: int,
    schedule: str,
    clip_norm: float | None,
    weight_decay: float = 0.0,
    full_at_last: bool = False,
) -> optax.GradientTransformation:
    """Adam whose rate rises from the first step on, then follows "linear", "cosine" or "constant" to the last.

    Args:
        weight_decay: of AdamW, of everything that is trained.
        full_at_last: whether the last step of the warm-up has the full rate; by default the one after it has.
    """
    warm = max(1, num_warmup_steps)
    num_rises = max(1, warm - 1) if full_at_last else warm
    match schedule:
        case "linear":
            after = optax.linear_schedule(1.0, 0.0, max(1, num_steps - warm))
        case "cosine":
            after = optax.cosine_decay_schedule(1.0, max(1, num_steps - warm), alpha=0.05)
        case _:
            after = optax.constant_schedule(1.0)
    shares = optax.join_schedules([optax.linear_schedule(1 / warm, 1.0, num_rises), after], [warm])
    clip = optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm)
    decay = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
    return optax.chain(
        clip, optax.scale_by_adam(b2=beta2), *decay, optax.scale_by_schedule(lambda step: -learning_rate * shares(step))
    )


def _optimizer(config: FinetuneConfig, num_steps: int) -> optax.GradientTransformation:
    """The optimizer of a training of so many steps.

    Raises:
        InputError: the schedule is to end before training does.
    """
    if config.schedule_steps is not None and config.schedule_steps < num_steps:
        raise errors.InputError(
            f"schedule_steps={config.schedule_steps}: training takes {num_steps} steps, and those after the end of the "
            f"schedule would have no rate; give more, or leave it out"
        )
    return adam(
        learning_rate=config.learning_rate, beta2=config.beta2, num_steps=config.schedule_steps or num_steps,
        num_warmup_steps=config.warmup_steps or round(config.warmup * num_steps), schedule=config.schedule,
        clip_norm=config.clip_norm, weight_decay=config.weight_decay, full_at_last=config.warmup_steps is not None,
    )  # fmt: skip


class _Shared(NamedTuple):
    """Low-rank factors of which the first is shared by the maps that the family joins in one module."""

    a: dict[str, Float[Array, "layer in rank"]]  # by module
    b: dict[str, Float[Array, "layer rank out"]]  # by map


def _shared(factors: dict[str, decoder.Factors], config: decoder.DecoderConfig) -> _Shared:
    """Factors as PEFT trains them: of each module, the first map's `a`."""
    parts = {module.name: [part for part in module.outputs if part in factors] for module in layout.modules(config)}
    first = {name: factors[present[0]].a for name, present in parts.items() if present}
    return _Shared(first, {part: pair.b for part, pair in factors.items()})


def _separate(trained: Any, config: decoder.DecoderConfig) -> dict[str, decoder.Factors]:
    """The factors of each map; they are what is trained unless some are shared."""
    if not isinstance(trained, _Shared):
        return trained
    names = {part: module.name for module in layout.modules(config) for part in module.outputs}
    return {part: decoder.Factors(trained.a[names[part]], b) for part, b in trained.b.items()}


class _State(NamedTuple):
    trained: PyTree  # parameters, or low-rank factors by name, or those that are `_Shared`
    opt_state: optax.OptState


@functools.partial(
    jax.jit, static_argnames=("config", "finetuning", "places", "remat", "objective"), donate_argnames="state"
)
def _run_epoch(
    state: _State, frozen: decoder.Params, scale, data: Rows, root, epoch, first, last, *,
    config: decoder.DecoderConfig, finetuning: FinetuneConfig, places: int, remat: bool, objective: Objective,
) -> tuple[_State, Float[Array, "step"]]:  # fmt: skip
    """Some steps of one epoch, which has its own order of rows, and their losses. One compiled program serves all data
    of equal shapes. Without the losses a different program is compiled, whose results differ in their last bits.

    Args:
        first: the step to begin with; those before `last` are done.
        scale: of the low-rank factors that are trained; None if all parameters are.
        finetuning: with seed 0, so that seeds share the program; `root` is the key of the seed.
    """
    num_rows = len(data.ids)
    steps = _num_steps(data, finetuning)
    optimizer = _optimizer(finetuning, steps * finetuning.num_epochs)

    def loss(trained, batch, weights):
        params, low_rank = (
            (trained, None) if scale is None else (frozen, decoder.LowRank(_separate(trained, config), scale))
        )

        def score(ids, valid, replies):
            return local_model.reply_logprobs(
                params, ids, valid, replies, low_rank, config=config, places=places, remat=remat
            )

        return objective(score, batch, weights)

    def loss_and_gradient(trained, batch, weights):
        count = finetuning.accumulation
        if count == 1:
            return jax.value_and_grad(loss)(trained, batch, weights)
        parts = jax.tree.map(lambda array: array.reshape(count, -1, *array.shape[1:]), (batch, weights))
        sums = jax.tree.map(jnp.zeros_like, (jnp.zeros(()), trained))
        sums, _ = lax.scan(
            lambda sums, part: (jax.tree.map(jnp.add, sums, jax.value_and_grad(loss)(trained, *part)), None),
            sums, parts,
        )  # fmt: skip
        return jax.tree.map(lambda total: total / count, sums)

    def step(index, carried):
        state, losses = carried
        rows, weights = (lax.dynamic_index_in_dim(part, index, keepdims=False) for part in plan)
        batch = jax.tree.map(lambda array: jnp.take(array, rows, axis=0), data)
        value, gradient = loss_and_gradient(state.trained, batch, weights)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(gradient, state.opt_state, state.trained)
        losses = lax.dynamic_update_index_in_dim(losses, value, index, 0)
        return _State(optax.apply_updates(state.trained, updates), opt_state), losses

    order = jax.random.permutation(jax.random.fold_in(root, 1 + epoch), num_rows)
    weights = (jnp.arange(steps * finetuning.batch_size) < num_rows).astype(jnp.float32)
    plan = jnp.pad(order, (0, steps * finetuning.batch_size - num_rows)).reshape(steps, -1), weights.reshape(steps, -1)
    return lax.fori_loop(first, last, step, (state, jnp.zeros(steps)))


def _num_steps(data: Rows, config: FinetuneConfig) -> int:
    """Number of steps of an epoch."""
    return -(-len(data.ids) // config.batch_size)


def _prepared(
    base: Model, data: Rows, config: FinetuneConfig, *, remat: bool, objective: Objective = supervised
) -> tuple[_State, Callable[[_State, int, int, int], tuple[_State, Any]], Any]:
    """The state before the first step; a function that runs some steps of an epoch and donates the state; and the scale
    of the low-rank factors, None if all parameters are trained."""
    frozen, root = base.merged, jax.random.key(config.seed)
    scale: Any = None
    if config.rank is None:
        trained: Any = jax.tree.map(jnp.copy, frozen)
    else:
        as_peft = config.factors == "peft"
        fresh = decoder.init_low_rank(
            jax.random.fold_in(root, 0), frozen, rank=config.rank, alpha=config.alpha, uniform=as_peft
        )
        scale, trained = fresh.scale, _shared(fresh.factors, base.config) if as_peft else fresh.factors
    optimizer = _optimizer(config, _num_steps(data, config) * config.num_epochs)
    on_device, replies = jax.tree.map(jnp.asarray, data), np.asarray(data.replies)
    places = local_model.reply_places(replies.reshape(-1, replies.shape[-1]))

    def run(state: _State, epoch: int, first: int, last: int) -> tuple[_State, Any]:
        return _run_epoch(
            state, frozen, scale, on_device, root, *map(jnp.int32, (epoch, first, last)),
            config=base.config, finetuning=dataclasses.replace(config, seed=0), places=places, remat=remat,
            objective=objective,
        )  # fmt: skip

    return _State(trained, optimizer.init(trained)), run, scale


def train(
    base: Model,
    data: Rows,
    config: FinetuneConfig,
    out: pathlib.Path,
    *,
    remat: bool = True,
    on_step: OnStep | None = None,
    objective: Objective = supervised,
) -> Any:
    """Parameters, or low-rank factors, after all epochs. The state after each epoch is saved in `out` and resumed from.

    The device is given steps for about `SECONDS_AT_ONCE` at a time. Their number changes no result.
    """
    state, run, scale = _prepared(base, data, config, remat=remat, objective=objective)
    name, num_steps, at_once = _spec_name(base, data, config, objective), _num_steps(data, config), 1
    state, num_epochs = resume(out, name, state)
    done = num_epochs * num_steps
    while num_epochs < config.num_epochs:
        first, began = done - num_epochs * num_steps, time.monotonic()
        last = min(first + at_once, num_steps)
        state, _ = jax.block_until_ready(run(state, num_epochs, first, last))
        seconds_a_step = (time.monotonic() - began) / (last - first)
        at_once = max(1, min(8 * at_once, int(SECONDS_AT_ONCE / max(seconds_a_step, 1e-6))))
        done += last - first
        if last == num_steps:
            num_epochs += 1
            if num_epochs == config.num_epochs:
                state = state._replace(opt_state=())
            save_state(out, name, state, num_epochs)
        if on_step is not None:
            on_step(done, num_steps * config.num_epochs)
    return state.trained if scale is None else decoder.LowRank(_separate(state.trained, base.config), scale)


def timed_epoch(base: Model, data: TokenizedRows, config: FinetuneConfig, *, remat: bool) -> Callable[[], Any]:
    """A function that trains one epoch from the same start and returns the state, compiled: for measuring speed."""
    state, run, _ = _prepared(base, data, config, remat=remat)

    def epoch():
        return run(jax.tree.map(jnp.copy, state), 0, 0, _num_steps(data, config))

    jax.block_until_ready(epoch())
    return epoch


def _spec_name(base: Model, data: Rows, config: FinetuneConfig, objective: Objective = supervised) -> str:
    """A hash of the base, the rows, the settings and the objective.

    A state with another hash is neither resumed nor replaced.
    """
    settings = config.text + ("" if objective is supervised else repr(objective))
    digest = hashlib.sha256(base.fingerprint.encode() + settings.encode())
    for array in data:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def save_state(out: pathlib.Path, name: str, state: Any, epochs: int) -> None:
    """Write the state of a training after some epochs, or steps, atomically.

    Args:
        name: of the training, a hash of everything that it depends on.
    """
    leaves = {f"leaf{index}": np.asarray(leaf) for index, leaf in enumerate(jax.tree.leaves(state))}
    with files.writing(out / STATE, ours=_is_state, what=WHAT) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, name=np.array(name), epochs=np.array(epochs), **leaves)


def has_state(folder: pathlib.Path) -> bool:
    return (folder / STATE).exists() and _is_state(folder / STATE)


def _is_state(path: pathlib.Path) -> bool:
    try:
        with zipfile.ZipFile(path) as stored:
            return {"name.npy", "epochs.npy"} <= set(stored.namelist())
    except zipfile.BadZipFile:
        return False


def resume(out: pathlib.Path, name: str, fresh: State, *, unit: str = "epoch(s)") -> tuple[State, int]:
    """The state that an earlier call left for the same training, and its number of epochs; `fresh` if there is none.

    Leaves at the end that a finished training did not write, those of the optimizer, are as in `fresh`.

    Args:
        unit: what the training counts, for the message.

    Raises:
        OtherTrainingError: the state is that of another training.
    """
    path = out / STATE
    files.require_free(path, ours=_is_state, what=WHAT)
    files.require_writable(path, what=WHAT)
    if not has_state(out):
        return fresh, 0
    with np.load(path) as stored:
        if str(stored["name"]) != name:
            raise errors.OtherTrainingError(
                f"{out}: a model is there that was trained from another base, on other rows or with other settings, "
                f"for {int(stored['epochs'])} {unit}; give another folder, or remove this one"
            )
        leaves, structure = jax.tree.flatten(fresh)
        # NumPy's files know bfloat16 by its size only, hence the view.
        restored: list[Any] = [
            jnp.asarray(stored[f"leaf{i}"].view(leaf.dtype)) if f"leaf{i}" in stored else leaf
            for i, leaf in enumerate(leaves)
        ]
        return jax.tree.unflatten(structure, restored), int(stored["epochs"])
