"""Soft distillation on a model of sums of words, beside a training written by hand. Compiling takes little time."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder, soft
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.local.soft import Batch, SoftConfig

SIZE, HIDDEN, ROWS, TIME, SCALE = 11, 6, 3, 7, 2.5
CONFIG = decoder.DecoderConfig(
    vocab_size=SIZE, num_layers=1, hidden_size=HIDDEN, intermediate_size=8, num_heads=1, num_kv_heads=1, head_dim=6,
    frequencies=decoder.rotary_frequencies(6), tied=False,
)  # fmt: skip
SETTINGS = SoftConfig(
    num_steps=5, learning_rate=0.05, beta2=0.9, num_warmup_steps=3, schedule="cosine", clip_norm=0.02, seed=7
)
TOKENS = (9, 2, 5)


@pytest.fixture(autouse=True)
def sums_of_words(monkeypatch):
    """The hidden state of a place is its word's embedding, a share of all before, and what factors make of both."""

    def features(params, ids, valid, config, *, low_rank, remat=False):
        words = params.embedding[ids]
        hidden = words + 0.2 * jnp.cumsum(jnp.where(valid[..., None], words, 0.0), axis=1)
        if low_rank is None:
            return hidden
        (factors,) = low_rank.factors.values()
        return hidden + low_rank.scale * (hidden @ factors.a) @ factors.b

    monkeypatch.setattr(decoder, "features", features)


@functools.cache
def model(seed: int, *, scale: float | None = None) -> Model:
    """A random model, which has factors if their scale is given."""
    keys = iter(jax.random.split(jax.random.key(seed), 5))
    embedding, head = (2 * jax.random.normal(next(keys), (SIZE, HIDDEN)) for _ in range(2))
    params = decoder.Params(embedding, layers=None, norm=jnp.ones(HIDDEN), head=head)  # pyright: ignore[reportArgumentType]
    low_rank = None
    if scale is not None:
        factors = decoder.Factors(
            0.3 * jax.random.normal(next(keys), (HIDDEN, 2)), 0.3 * jax.random.normal(next(keys), (2, HIDDEN))
        )
        low_rank = decoder.LowRank({"query": factors}, jnp.float32(scale))
    return Model(CONFIG, params, WordTokenizer(), low_rank=low_rank)  # the tokenizer reads no text here


def rows(key: jax.Array, step) -> Batch:
    """Random rows with gaps, so that some places before a word that counts are empty; the teacher has a prompt."""
    drawn, there, marked, before = jax.random.split(key, 4)
    ids = jax.random.randint(drawn, (ROWS, TIME), 0, SIZE)
    valid = jax.random.bernoulli(there, 0.7, ids.shape)
    replies = jax.random.bernoulli(marked, 0.6, ids.shape)
    front = jax.random.randint(before, (ROWS, 2), 0, SIZE)
    longer = jnp.concatenate([front, ids], axis=1)
    every = jnp.ones_like(longer, bool)
    return Batch(TokenizedRows(ids, valid, replies & valid), TokenizedRows(longer, every, every))


def row_of_step(step: int) -> Batch:
    return rows(jax.random.fold_in(jax.random.key(SETTINGS.seed), step), step)


def by_hand(student: Model, teacher: Model, tokens: tuple[int, ...], batch_of: Callable[[int], Batch]):
    """Divergences and factors of the steps: optax's own Adam on the derived gradient of a sum over word pairs."""

    def loss(factors, batch: Batch):
        q, p = (
            decoder.features(each.params, read.ids, read.valid, CONFIG, low_rank=low_rank)[:, -TIME:]
            @ each.params.head.T
            for each, read, low_rank in (
                (student, batch.rows, decoder.LowRank(factors, jnp.float32(SCALE))),
                (teacher, batch.teacher_rows, teacher.low_rank),
            )
        )
        log_q, log_p = (jax.nn.log_softmax(scores[..., jnp.array(tokens)]) for scores in (q, p))
        each = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)[:, :-1]
        counted = (batch.rows.replies[:, 1:] & batch.rows.valid[:, :-1]).astype(jnp.float32)
        return jnp.sum(each * counted) / jnp.sum(counted)

    assert student.low_rank is not None
    gradient, factors = jax.jit(jax.value_and_grad(loss)), student.low_rank.factors
    adam = optax.chain(optax.clip_by_global_norm(0.02), optax.scale_by_adam(b2=0.9))
    state, divergences = adam.init(factors), []
    shares = [1 / 3, 5 / 9, 7 / 9, 1.0, 0.525]  # three rising steps, then the cosine from 1 to .05 in two
    for step, share in enumerate(shares):
        value, slope = gradient(factors, batch_of(step))
        divergences.append(float(value))
        updates, state = adam.update(slope, state)
        factors = jax.tree.map(lambda leaf, update, share=share: leaf - 0.05 * share * update, factors, updates)
    return divergences, factors


def assert_factors(made, expected) -> None:
    for leaf, other in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-4, atol=1e-5)  # float32; steps are of .05


def test_a_training_on_drawn_rows_is_the_one_written_by_hand():
    """Its seed reaches the rows, its steps have rows of their own, and every setting of Adam is used. Student and
    teacher have other heads and other scales of their factors."""
    student, teacher = model(0, scale=SCALE), model(1, scale=0.5)
    made = soft.distill(student, teacher, rows, SETTINGS, tokens=TOKENS)
    divergences, factors = by_hand(student, teacher, TOKENS, row_of_step)
    np.testing.assert_allclose(made.divergences, divergences, rtol=1e-4)  # float32
    assert made.model.low_rank is not None and float(made.model.low_rank.scale) == SCALE
    assert_factors(made.model.low_rank.factors, factors)


def test_given_rows_start_again_after_the_last_and_a_stop_moves_none():
    """Three steps of rows for five steps of training, over the whole vocabulary."""
    student, teacher = model(0, scale=SCALE), model(1)
    given = jax.tree.map(lambda *leaves: np.stack(leaves), *map(row_of_step, range(3)))
    seen = {}
    made = soft.distill(
        student, teacher, given, SETTINGS, measure=lambda step, model: seen.update({step: model}), measure_at=(2, 4, 5)
    )
    divergences, factors = by_hand(student, teacher, tuple(range(SIZE)), lambda step: row_of_step(step % 3))
    np.testing.assert_allclose(made.divergences, divergences, rtol=1e-4)
    assert made.model.low_rank is not None
    assert_factors(made.model.low_rank.factors, factors)
    assert list(seen) == [2, 4, 5]
    assert_factors(seen[5].low_rank.factors, factors)
    for step in (2, 4):  # what is measured then is before the update of that step's rows
        value = soft.divergence(seen[step], teacher, row_of_step(step % 3))
        np.testing.assert_allclose(value, divergences[step], rtol=1e-4)


def test_every_ingredient_of_a_training_is_in_its_name():
    """Else a folder with the state of another training would be resumed."""
    given = jax.tree.map(lambda *leaves: np.stack(leaves), *map(row_of_step, range(2)))
    moved = given._replace(teacher_rows=given.teacher_rows._replace(ids=(given.teacher_rows.ids + 1) % SIZE))
    ingredients = {
        "student": model(0, scale=SCALE), "teacher": model(1), "batches": given, "config": SETTINGS,
        "ids": jnp.array(TOKENS),
    }  # fmt: skip
    others = [
        {"student": model(0)}, {"student": model(0, scale=1.0)}, {"teacher": model(2)},
        {"teacher": model(1, scale=0.5)}, {"batches": moved}, {"batches": given._replace(teacher_rows=None)},
        {"batches": rows},
        {"config": dataclasses.replace(SETTINGS, seed=8)}, {"ids": None}, {"ids": jnp.array(TOKENS[::-1])},
    ]  # fmt: skip
    names = [soft._spec_name(**ingredients | other) for other in ({}, *others)]
    assert len(set(names)) == len(names) and soft._spec_name(**ingredients) == names[0]
