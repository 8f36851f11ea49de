"""Soft distillation: a student is trained on the teacher's distribution over the next token, not on samples from it.

    student = dataclasses.replace(base, low_rank=decoder.init_low_rank(key, base.params, rank=8))
    distilled = distill(student, teacher, batches, SoftConfig(num_steps=60))

The loss is the KL divergence from teacher to student, over the whole vocabulary or renormalised over some tokens, e.g.
those of numbers, so that the probability of a word is never seen. Teacher and student read the same tokens; before them
the teacher may have a prompt of its own. The teacher's forward pass is part of the one compiled step.
"""

import dataclasses
import functools
import hashlib
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key

from sublim_jax import errors, files, specs
from sublim_jax.llm.local import decoder, finetune
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.finetune import OnStep, TokenizedRows
from sublim_jax.llm.local.model import Model

SAVE_SECONDS = 60.0
"""About how often the state of a training is written, if it has a folder."""


class Batch(NamedTuple):
    """What teacher and student read in one step, or in all steps along a leading axis.

    The field `replies` of the rows marks the tokens at which distributions are compared: those given the tokens before
    it. The first token of a row has none before it and never counts.
    """

    rows: TokenizedRows
    teacher_rows: TokenizedRows | None = None  # ends with the same tokens, after a prompt of its own; None: `rows`


Draw = Callable[[Key[Array, ""], Int[Array, ""]], Batch]
"""A traceable function of a key and the step. The key differs between steps."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftConfig:
    """How a student is distilled from a teacher's distributions."""

    num_steps: specs.Count = 60
    learning_rate: specs.Positive = 3e-4  # of Adam
    beta2: specs.Decay = 0.999  # of Adam: how slowly it forgets squared gradients
    num_warmup_steps: specs.Count = 8  # Adam's first steps have the same size whatever the gradient's
    schedule: Literal["linear", "cosine", "constant"] = "constant"
    clip_norm: specs.Positive | None = None
    seed: specs.Seed = 0  # of the rows, if a function draws them


class Distilled(NamedTuple):
    """A student and how far it was from its teacher on the way."""

    model: Model
    divergences: Float[np.ndarray, "step"]  # mean KL in nats over the places compared, before each step's update


def distill(
    student: Model,
    teacher: Model,
    batches: Batch | Draw,
    config: SoftConfig,
    *,
    tokens: Sequence[int] | None = None,
    measure: Callable[[int, Model], object] | None = None,
    measure_at: Sequence[int] = (),
    on_step: OnStep | None = None,
    out: pathlib.Path | None = None,
    remat: bool = False,
) -> Distilled:
    """The student after `config.num_steps` steps of Adam on KL(teacher || student).

    A student that equals its teacher has a gradient of exactly zero, so that the base as its own teacher changes
    nothing, provided that the device computes equal rows alike.

    Args:
        student: the start. Its low-rank factors alone are trained if it has some, and all parameters otherwise.
        batches: arrays with a leading axis of steps, which start again after the last; or a function that draws the
            rows inside the step, so that nothing is stored.
        tokens: ids over which both distributions are renormalised; by default the whole vocabulary.
        measure: is called with the number of updates so far and the student after them, at `measure_at`. It may keep
            the student. A resumed training calls it for the steps that it makes.
        on_step: is called every half second or so, or after each step if that takes longer.
        out: a folder in which the state is saved about once a minute and resumed by the next call. By default nothing
            is written.
        remat: train with little memory, computing what the gradient needs twice.

    Raises:
        InputError: no tokens to compare, rows of teacher and student that end differently, other vocabularies, ids
            outside the vocabulary, or a step to measure at that is never made.
        OtherTrainingError: `out` has the state of another training; `LockedError` if another process trains there.
    """
    beyond = [step for step in measure_at if not 0 <= step <= config.num_steps]
    if beyond:
        raise errors.InputError(f"measure_at: expected steps from 0 to num_steps={config.num_steps}, got {beyond}")
    ids = _token_ids(student, teacher, tokens)
    draw, arrays = (batches, None) if callable(batches) else (None, jax.tree.map(jnp.asarray, batches))
    places = _places(jax.eval_shape(batches, jax.random.key(0), jnp.int32(0)) if callable(batches) else batches)
    trained, frozen, scale = _parts(student)
    trained = jax.tree.map(jnp.copy, trained)  # donated
    fresh = _State(trained, jnp.zeros(config.num_steps), _optimizer(config).init(trained))

    def run(state: _State, first: int, last: int) -> _State:
        return _run(
            state, frozen, scale, teacher.params, teacher.low_rank, arrays, ids, jax.random.key(config.seed),
            jnp.int32(first), jnp.int32(last), draw=draw, config=student.config, teacher_config=teacher.config,
            settings=dataclasses.replace(config, seed=0), places=places, remat=remat,
        )  # fmt: skip

    def model(trained) -> Model:
        return _with(student, jax.tree.map(jnp.copy, trained), scale)

    def train(name: str) -> _State:
        state, done = (fresh, 0) if out is None else finetune.resume(out, name, fresh, unit="step(s)")
        if measure is not None and done == 0 and 0 in measure_at:
            measure(0, model(state.trained))
        stops, at_once, saved_at = sorted({*measure_at, config.num_steps}), 1, time.monotonic()
        while done < config.num_steps:
            last, began = min(done + at_once, min(stop for stop in stops if stop > done)), time.monotonic()
            state = jax.block_until_ready(run(state, done, last))
            seconds_a_step = (time.monotonic() - began) / (last - done)
            at_once = max(1, min(8 * at_once, int(finetune.SECONDS_AT_ONCE / max(seconds_a_step, 1e-6))))
            done = last
            if done == config.num_steps:
                state = state._replace(opt_state=())  # nothing that resumes needs it
            if measure is not None and done in measure_at:
                measure(done, model(state.trained))
            if out is not None and (done == config.num_steps or time.monotonic() - saved_at >= SAVE_SECONDS):
                finetune.save_state(out, name, state, done)
                saved_at = time.monotonic()
            if on_step is not None:
                on_step(done, config.num_steps)
        return state

    if out is None:
        state = train("")
    else:
        with files.Lock(out / finetune.STATE):
            state = train(_spec_name(student, teacher, batches, config, ids))
    return Distilled(_with(student, state.trained, scale), np.asarray(state.divergences))


def divergence(
    student: Model, teacher: Model, batch: Batch, *, tokens: Sequence[int] | None = None
) -> Float[Array, ""]:
    """Mean KL divergence from teacher to student, in nats, over the places that one batch compares. See `distill`."""
    return _of_one_batch(_divergence_alone, student, teacher, batch, tokens, remat=False)


def divergence_and_gradient(
    student: Model, teacher: Model, batch: Batch, *, tokens: Sequence[int] | None = None, remat: bool = False
) -> tuple[Float[Array, ""], Any]:
    """The divergence of one batch and its gradient by what is trained: the factors by name, or the parameters."""
    return _of_one_batch(_divergence_and_gradient, student, teacher, batch, tokens, remat=remat)


@jax.custom_vjp
def kl(student_logits: Float[Array, "*place token"], teacher_logits: Float[Array, "*place token"]):
    """KL divergence from teacher to student at each place, in nats. The teacher's logits have no gradient.

    The gradient is written by hand as the difference of the two distributions: exactly zero where they are equal. The
    derived one is off by rounding there, and Adam would make steps of full size from that.
    """
    return _kl_forward(student_logits, teacher_logits)[0]


def _kl_forward(student_logits, teacher_logits):
    # Both through one function at once, so that equal logits have equal bits.
    log_q, log_p = jax.nn.log_softmax(jnp.stack([student_logits, teacher_logits]))
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1), jnp.exp(log_q) - jnp.exp(log_p)


def _kl_backward(difference, gradient):
    return gradient[..., None] * difference, None


kl.defvjp(_kl_forward, _kl_backward)


class _State(NamedTuple):
    trained: Any  # parameters, or low-rank factors by name
    divergences: Float[Array, "step"]  # zero for steps to come
    opt_state: optax.OptState  # empty after the last step


def _optimizer(config: SoftConfig) -> optax.GradientTransformation:
    return finetune.adam(
        learning_rate=config.learning_rate, beta2=config.beta2, num_steps=config.num_steps,
        num_warmup_steps=config.num_warmup_steps, schedule=config.schedule, clip_norm=config.clip_norm,
    )  # fmt: skip


@functools.partial(
    jax.jit,
    static_argnames=("draw", "config", "teacher_config", "settings", "places", "remat"),
    donate_argnames="state",
)
def _run(
    state: _State, frozen, scale, teacher_params, teacher_low_rank, arrays, ids, root, first, last, *,
    draw: Draw | None, config: decoder.DecoderConfig, teacher_config: decoder.DecoderConfig, settings: SoftConfig,
    places: int, remat: bool,
) -> _State:  # fmt: skip
    """Some steps. How many are run at once changes no result."""
    optimizer = _optimizer(settings)

    def step(index, state: _State) -> _State:
        if draw is None:
            batch = jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, index % len(leaf), keepdims=False), arrays)
        else:
            batch = draw(jax.random.fold_in(root, index), index)
        value, gradient = jax.value_and_grad(_divergence)(
            state.trained, frozen, scale, teacher_params, teacher_low_rank, batch, ids,
            config=config, teacher_config=teacher_config, places=places, remat=remat,
        )  # fmt: skip
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(gradient, state.opt_state, state.trained)
        divergences = lax.dynamic_update_index_in_dim(state.divergences, value, index, 0)
        return _State(optax.apply_updates(state.trained, updates), divergences, opt_state)

    return lax.fori_loop(first, last, step, state)


def _divergence(
    trained, frozen, scale, teacher_params, teacher_low_rank, batch: Batch, ids, *,
    config: decoder.DecoderConfig, teacher_config: decoder.DecoderConfig, places: int, remat: bool,
) -> Float[Array, ""]:  # fmt: skip
    """Mean KL over the places that count. The scores of a few positions at a time are in memory.

    Args:
        scale: of the factors that are trained; None if all parameters are.
        places: at the right edge, which hold all tokens that count.
    """
    params, low_rank = (trained, None) if scale is None else (frozen, decoder.LowRank(trained, scale))
    rows, teacher_rows = batch.rows, batch.teacher_rows or batch.rows

    def before(rows: TokenizedRows, params, low_rank, config, remat):
        """The hidden states that predict the tokens at the right edge."""
        hidden = decoder.features(params, rows.ids, rows.valid, config, low_rank=low_rank, remat=remat)
        return hidden[:, -places - 1 : -1]

    hidden = before(rows, params, low_rank, config, remat)
    aim = lax.stop_gradient(before(teacher_rows, teacher_params, teacher_low_rank, teacher_config, False))
    counted = rows.replies[:, -places:] & rows.valid[:, -places - 1 : -1]
    head, teacher_head = _head(params, ids), _head(teacher_params, ids)

    def add(total, chunk):
        hidden, aim, counted = chunk
        values = kl(decoder.logits(head, hidden, config), decoder.logits(teacher_head, aim, teacher_config))
        return total + jnp.sum(jnp.where(counted, values, 0.0)), None

    chunks = local_model.position_chunks((hidden, aim, counted))
    total, _ = lax.scan(jax.checkpoint(add) if remat else add, jnp.zeros(()), chunks)
    return total / jnp.maximum(jnp.sum(counted), 1)


def _head(params: decoder.Params, ids: Int[Array, "token"] | None) -> decoder.Params:
    """Parameters whose head scores these tokens alone, in this order."""
    if ids is None:
        return params
    head = None if params.head is None else params.head[ids]
    return params._replace(embedding=params.embedding[ids], head=head)


_static = "config", "teacher_config", "places", "remat"
_divergence_alone = jax.jit(_divergence, static_argnames=_static)
_divergence_and_gradient = jax.jit(jax.value_and_grad(_divergence), static_argnames=_static)


def _of_one_batch(function, student: Model, teacher: Model, batch: Batch, tokens, *, remat: bool):
    trained, frozen, scale = _parts(student)
    return function(
        trained, frozen, scale, teacher.params, teacher.low_rank, jax.tree.map(jnp.asarray, batch),
        _token_ids(student, teacher, tokens), config=student.config, teacher_config=teacher.config,
        places=_places(batch), remat=remat,
    )  # fmt: skip


def _parts(student: Model) -> tuple[Any, decoder.Params | None, Any]:
    """What is trained, the parameters that stay as they are, and the scale of the factors, None without any."""
    if student.low_rank is None:
        return student.params, None, None
    return student.low_rank.factors, student.params, student.low_rank.scale


def _with(student: Model, trained, scale) -> Model:
    if scale is None:
        return dataclasses.replace(student, params=trained, origin=None)
    return dataclasses.replace(student, low_rank=decoder.LowRank(trained, scale))


def _token_ids(student: Model, teacher: Model, tokens: Sequence[int] | None) -> Int[Array, "token"] | None:
    size = student.config.vocab_size
    if teacher.config.vocab_size != size:
        raise errors.InputError(
            f"the teacher has a vocabulary of {teacher.config.vocab_size} tokens and the student one of {size}; their "
            f"distributions can be compared with one tokenizer only"
        )
    if tokens is None:
        return None
    outside = [token for token in tokens if not 0 <= token < size]
    if outside or len(set(tokens)) < max(2, len(tokens)):
        raise errors.InputError(
            f"tokens: expected two or more different ids from 0 to {size - 1}, got {len(tokens)}, "
            f"{len(set(tokens))} of them different, and outside are {outside[:5]}. One token alone has probability 1 "
            f"in both."
        )
    return jnp.asarray(tokens, jnp.int32)


def _places(batch: Batch) -> int:
    """Number of positions at the right edge that hold all tokens to compare, of any number of steps.

    Of arrays that are drawn inside the step only the shape is known, so that these are all but the first.
    """
    time = batch.rows.ids.shape[-1]
    if isinstance(batch.rows.ids, jax.ShapeDtypeStruct):
        return time - 1
    rows, others = (_flat(part) for part in (batch.rows, batch.teacher_rows or batch.rows))
    counted = rows.replies[:, 1:] & rows.valid[:, :-1]
    if not counted.any():
        raise errors.InputError("batches: no token is marked in `replies`, so there are no distributions to compare")
    places = min(local_model.reply_places(np.pad(counted, ((0, 0), (1, 0)))), others.ids.shape[1] - 1)
    marked = counted[:, -places:]
    if marked.sum() < counted.sum() or (rows.ids[:, -places:] != others.ids[:, -places:])[marked].any():
        raise errors.InputError(
            "batches: the rows of teacher and student end with different tokens. Pad both on the left, so that the "
            "tokens at which distributions are compared stand at the same places from the end."
        )
    return places


def _flat(rows: TokenizedRows) -> TokenizedRows:
    return TokenizedRows(*(np.asarray(array).reshape(-1, np.shape(array)[-1]) for array in rows))


def _spec_name(student: Model, teacher: Model, batches: Batch | Draw, config: SoftConfig, ids) -> str:
    """A hash of both models, the rows and the settings. A function that draws rows is known by its name."""
    digest = hashlib.sha256(f"{student.fingerprint} {teacher.fingerprint} {config!r}".encode())
    if callable(batches):
        digest.update(f"{batches.__module__}.{batches.__qualname__}".encode())
    for array in jax.tree.leaves((None if callable(batches) else batches, ids)):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
