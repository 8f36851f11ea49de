"""Soft distillation on a random model of thirteen words, against NumPy and against a training written by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_jax import errors
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder, finetune, soft
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.local.soft import Batch, SoftConfig

SIZE, STEPS, ROWS, TIME = 13, 4, 3, 8
CONFIG = decoder.DecoderConfig(
    vocab_size=SIZE, num_layers=2, hidden_size=16, intermediate_size=24, num_heads=2, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8),
)  # fmt: skip
SETTINGS = SoftConfig(num_steps=STEPS, learning_rate=0.01, num_warmup_steps=2, clip_norm=0.5)
NUMBERS = (2, 5, 7)


@functools.cache
def base(config: decoder.DecoderConfig = CONFIG) -> Model:
    params = decoder.init(jax.random.key(0), config)
    return Model(config, params._replace(embedding=3 * params.embedding), WordTokenizer())  # which reads no text here


def with_factors(model: Model, seed: int, *, size: float = 0.0) -> Model:
    low_rank = decoder.init_low_rank(jax.random.key(seed), model.params, rank=2)
    leaves, keys = low_rank.factors, iter(jax.random.split(jax.random.key(seed + 1), 20))
    factors = {
        name: pair._replace(b=size * jax.random.normal(next(keys), pair.b.shape)) for name, pair in leaves.items()
    }
    return dataclasses.replace(model, low_rank=low_rank._replace(factors=factors))


@functools.cache
def batches(*, prompt: int = 0) -> Batch:
    """Random rows with padding on the left and gaps in the mask; the teacher has some tokens more before them."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, SIZE, (STEPS, ROWS, TIME)).astype(np.int32)
    valid = np.arange(TIME) >= rng.integers(0, 4, (STEPS, ROWS, 1))
    rows = TokenizedRows(ids, valid, valid & (rng.random(ids.shape) < 0.7))
    if not prompt:
        return Batch(rows)
    front = rng.integers(0, SIZE, (STEPS, ROWS, prompt)).astype(np.int32)
    longer = np.concatenate([front, ids], axis=-1), np.concatenate([np.ones_like(front, bool), valid], axis=-1)
    return Batch(rows, TokenizedRows(*longer, np.zeros_like(longer[1])))


def at(step: int, data: Batch) -> Batch:
    return jax.tree.map(lambda leaf: leaf[step % STEPS], data)


def logits(model: Model, rows: TokenizedRows):
    hidden = decoder.features(
        model.params, jnp.asarray(rows.ids), jnp.asarray(rows.valid), model.config, low_rank=model.low_rank
    )
    return decoder.logits(model.params, hidden, model.config)


@functools.partial(jax.jit, static_argnames="tokens")
def hand_gradient(factors, teacher: decoder.LowRank, batch: Batch, *, tokens=None):
    """The mean KL over all pairs of a row and a place, and its derived gradient by the factors."""

    def loss(factors):
        q = logits(dataclasses.replace(base(), low_rank=decoder.LowRank(factors, jnp.float32(1.0))), batch.rows)
        p = logits(dataclasses.replace(base(), low_rank=teacher), batch.teacher_rows or batch.rows)[:, -TIME:]
        chosen = slice(None) if tokens is None else jnp.asarray(tokens)
        log_q, log_p = (jax.nn.log_softmax(scores[:, :-1, chosen]) for scores in (q, p))
        counted = batch.rows.replies[:, 1:] & batch.rows.valid[:, :-1]
        values = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
        return jnp.sum(jnp.where(counted, values, 0.0)) / counted.sum()

    return jax.value_and_grad(loss)(factors)


def assert_trees(made, expected, *, atol: float):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol), made, expected)


@pytest.mark.parametrize(("tokens", "prompt"), [pytest.param(None, 5, marks=pytest.mark.slow), (NUMBERS, 0)])
def test_value_and_gradient(tokens, prompt):
    """The value is that of NumPy in float64 from the scores of both; the gradient is derived from a plain KL."""
    student, teacher = with_factors(base(), 3, size=0.3), with_factors(base(), 5, size=0.5)
    batch = at(0, batches(prompt=prompt))
    q, p = (
        np.asarray(logits(model, rows)[:, -TIME:], np.float64)
        for model, rows in ((student, batch.rows), (teacher, batch.teacher_rows or batch.rows))
    )
    divergences = []
    for row, time in zip(*np.nonzero(batch.rows.replies), strict=True):
        if time and batch.rows.valid[row, time - 1]:
            chosen = list(tokens or range(SIZE))
            weights_q, weights_p = (np.exp(scores[row, time - 1, chosen]) for scores in (q, p))
            share_q, share_p = weights_q / weights_q.sum(), weights_p / weights_p.sum()
            divergences.append(np.sum(share_p * np.log(share_p / share_q)))
    value, gradient = soft.divergence_and_gradient(student, teacher, batch, tokens=tokens)
    np.testing.assert_allclose(value, np.mean(divergences), rtol=1e-5)  # float32 scores of size 10
    assert value > 0.01
    _, hand = hand_gradient(student.low_rank.factors, teacher.low_rank, batch, tokens=tokens)
    assert_trees(gradient, hand, atol=1e-6)  # of gradients up to 0.1


@pytest.mark.slow
def test_training_is_adam_on_that_gradient_with_its_warm_up_and_clipping():
    student, teacher = with_factors(base(), 3), with_factors(base(), 5, size=0.5)
    made = soft.distill(student, teacher, batches(), SETTINGS)
    factors, divergences = student.low_rank.factors, []
    adam = optax.chain(optax.clip_by_global_norm(0.5), optax.scale_by_adam())
    state = adam.init(factors)
    for step, rate in enumerate((0.005, 0.0075, 0.01, 0.01)):
        value, gradient = hand_gradient(factors, teacher.low_rank, at(step, batches()))
        divergences.append(value)
        updates, state = adam.update(gradient, state)
        factors = jax.tree.map(lambda leaf, update, rate=rate: leaf - rate * update, factors, updates)
    np.testing.assert_allclose(made.divergences, divergences, rtol=1e-4)
    assert_trees(made.model.low_rank.factors, factors, atol=1e-4)  # Adam divides small gradients by their own rounding
    assert made.model.params is student.params
    np.testing.assert_allclose(soft.divergence(student, teacher, at(0, batches())), divergences[0], rtol=1e-5)


@pytest.mark.slow
def test_all_parameters_are_trained_without_factors():
    made = soft.distill(base(), with_factors(base(), 5, size=0.5), batches(), SETTINGS)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), made.model.params, base().params)
    assert all(jax.tree.leaves(moved)) and made.model.low_rank is None
    assert made.divergences[-1] < made.divergences[1]  # both of the larger ones


@pytest.mark.parametrize(
    ("num_layers", "full", "remat"),
    [(2, False, False), (5, False, False), pytest.param(5, False, True, marks=pytest.mark.slow),
     pytest.param(5, True, False, marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_base_that_is_its_own_teacher_does_not_move_by_a_bit(num_layers, full, remat):
    """Layers are written out up to the fourth, and looped over from the fifth on."""
    model = base(dataclasses.replace(CONFIG, num_layers=num_layers))
    student = model if full else with_factors(model, 3)
    made = soft.distill(student, model, batches(), SETTINGS, remat=remat)
    assert not made.divergences.any()
    leaves = (jax.tree.leaves((each.params, each.low_rank)) for each in (made.model, student))
    for leaf, before in zip(*leaves, strict=True):
        np.testing.assert_array_equal(leaf, before)


def drawn(key, step) -> Batch:
    ids = jax.random.randint(key, (ROWS, TIME), 0, SIZE)
    return Batch(TokenizedRows(ids, jnp.ones_like(ids, bool), ids < SIZE - 1 - step))


@pytest.mark.slow
def test_rows_may_be_drawn_inside_the_step():
    """As from arrays of the same rows; another seed draws others."""
    student, teacher = with_factors(base(), 3), with_factors(base(), 5, size=0.5)
    config = dataclasses.replace(SETTINGS, seed=7)
    root = jax.random.key(7)
    steps = [drawn(jax.random.fold_in(root, step), step) for step in range(STEPS)]
    arrays = jax.tree.map(lambda *leaves: np.stack(leaves), *steps)
    made, expected = (soft.distill(student, teacher, rows, config) for rows in (drawn, arrays))
    np.testing.assert_allclose(made.divergences, expected.divergences, rtol=1e-5)
    assert made.divergences[0] != soft.distill(student, teacher, drawn, SETTINGS).divergences[0]


def test_an_interrupted_training_resumes_to_the_same_bits(tmp_path, monkeypatch):
    student, teacher = with_factors(base(), 3), with_factors(base(), 5, size=0.5)
    monkeypatch.setattr(soft, "SAVE_SECONDS", 0.0)
    whole = soft.distill(student, teacher, batches(), SETTINGS)

    def stop(done, total):
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        soft.distill(student, teacher, batches(), SETTINGS, out=tmp_path, on_step=stop, measure=print, measure_at=[2])
    steps, again = [], []
    for expected in ([3, 4], []):  # the second call finds it finished
        steps.clear()
        resumed = soft.distill(
            student, teacher, batches(), SETTINGS, out=tmp_path,
            on_step=lambda done, total: steps.append(done), measure=lambda step, model: again.append((step, model)),
            measure_at=[0, 3, 4],
        )  # fmt: skip
        assert steps == expected
        np.testing.assert_array_equal(resumed.divergences, whole.divergences)
        jax.tree.map(np.testing.assert_array_equal, resumed.model.low_rank.factors, whole.model.low_rank.factors)
    assert [step for step, _ in again] == [3, 4]
    jax.tree.map(np.testing.assert_array_equal, again[1][1].low_rank.factors, whole.model.low_rank.factors)
    stored = np.load(tmp_path / finetune.STATE)
    num_leaves = len(jax.tree.leaves(student.low_rank.factors)) + 1  # the divergences, and nothing of the optimizer
    assert len(stored.files) == num_leaves + 2
    other = dataclasses.replace(SETTINGS, learning_rate=0.02)
    with pytest.raises(errors.OtherTrainingError, match=r"for 4 step\(s\)"):
        soft.distill(student, teacher, batches(), other, out=tmp_path)


def test_what_cannot_be_compared_is_refused():
    student, teacher = with_factors(base(), 3), base()
    rows = batches(prompt=5)
    nothing = Batch(rows.rows._replace(replies=np.zeros_like(rows.rows.replies)))
    shifted = Batch(rows.rows, jax.tree.map(lambda leaf: leaf[..., :-1], rows.teacher_rows))
    bigger = base(dataclasses.replace(CONFIG, vocab_size=SIZE + 1))
    for other, given, options, message in [
        (teacher, nothing, {}, "no token is marked"),
        (teacher, shifted, {}, "end with different tokens"),
        (bigger, rows, {}, "vocabulary of 14 tokens and the student one of 13"),
        (teacher, rows, {"tokens": [3]}, "two or more different ids"),
        (teacher, rows, {"tokens": [3, 3, 4]}, "2 of them different"),
        (teacher, rows, {"tokens": [3, 13]}, r"outside are \[13\]"),
        (teacher, rows, {"measure_at": [5]}, r"num_steps=4, got \[5\]"),
    ]:
        with pytest.raises(errors.InputError, match=message):
            soft.distill(student, other, given, SETTINGS, **options)
