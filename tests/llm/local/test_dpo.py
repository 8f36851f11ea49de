"""Preference training on a random model of thirteen words, against NumPy and against a training written by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_jax import errors
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import FinetuneConfig, Message
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder, dpo, finetune
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.dpo import Pairs, Preference
from sublim_jax.llm.local.model import Model

SIZE, PAIRS, TIME, BETA = 13, 4, 8, 0.3
CONFIG = decoder.DecoderConfig(
    vocab_size=SIZE, num_layers=1, hidden_size=16, intermediate_size=24, num_heads=2, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8),
)  # fmt: skip
SETTINGS = FinetuneConfig(
    num_epochs=3, batch_size=PAIRS + 2, learning_rate=0.01, beta2=0.99, rank=None, schedule="constant", warmup=0.0,
    clip_norm=None,
)  # fmt: skip


@functools.cache
def base() -> Model:
    params = decoder.init(jax.random.key(0), CONFIG)
    return Model(CONFIG, params._replace(embedding=3 * params.embedding), WordTokenizer())  # which reads no text here


def reply_logprobs(params: decoder.Params, pairs: Pairs):
    """From the logits at every place, of shape (pair, 2)."""
    ids, valid, replies = (jnp.asarray(array).reshape(-1, TIME) for array in pairs[:3])
    logprobs = jax.nn.log_softmax(decoder.logits(params, decoder.features(params, ids, valid, CONFIG), CONFIG))
    chosen = jnp.take_along_axis(logprobs[:, :-1], ids[:, 1:, None], axis=2)[..., 0]
    return jnp.sum(chosen * replies[:, 1:], axis=1).reshape(-1, 2)


@functools.cache
def data() -> Pairs:
    """Random pairs with padding on the left and replies of several lengths."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, SIZE, (PAIRS, 2, TIME)).astype(np.int32)
    places, valid = np.arange(TIME), np.arange(TIME) >= rng.integers(0, 3, (PAIRS, 2, 1))
    pairs = Pairs(ids, valid, valid & (places >= rng.integers(3, 7, (PAIRS, 2, 1))), np.zeros((PAIRS, 2), np.float32))
    return pairs._replace(reference=np.asarray(reply_logprobs(base().params, pairs)))


@pytest.mark.slow
def test_the_loss_is_that_of_the_formula():
    """Rafailov et al. 2023, equation 7, in NumPy's float64; the last pair only fills the batch up."""
    scores, weights = np.random.default_rng(1).normal(size=(PAIRS, 2)) * 5, np.array([1.0, 1.0, 1.0, 0.0])
    loss = Preference(beta=BETA)(lambda *_: jnp.asarray(scores.reshape(-1), jnp.float32), data(), jnp.asarray(weights))
    lifts = scores - data().reference
    margins = BETA * (lifts[:, 0] - lifts[:, 1])
    expected = np.mean(-np.log(1 / (1 + np.exp(-margins[:3]))))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)  # float32


@pytest.mark.slow
def test_training_is_the_one_written_by_hand(tmp_path):
    """One step an epoch, so that the order of pairs does not matter; the batch has two places more than pairs."""
    trained = finetune.train(base(), data(), SETTINGS, tmp_path, remat=False, objective=Preference(beta=BETA))

    @jax.jit
    def step(params, state):
        def loss(params):
            lifts = reply_logprobs(params, data()) - data().reference
            return -jnp.mean(jax.nn.log_sigmoid(BETA * (lifts[:, 0] - lifts[:, 1])))

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    optimizer = optax.adam(SETTINGS.learning_rate, b2=SETTINGS.beta2)
    params, losses = base().params, []
    state = optimizer.init(params)
    for _ in range(SETTINGS.num_epochs):
        params, state, value = step(params, state)
        losses.append(float(value))
    np.testing.assert_allclose(losses[0], np.log(2), rtol=1e-6)
    assert losses[2] < losses[0]
    moved = [np.abs(after - before).max() for after, before in zip(params.layers, base().params.layers, strict=True)
             if after is not None]  # fmt: skip
    assert min(moved) > 1e-3
    for ours, expected in zip(jax.tree.leaves(trained), jax.tree.leaves(params), strict=True):
        # Adam divides by the gradient's size, so rounding of a gradient near zero is 1e-3 of a step of .01
        np.testing.assert_allclose(ours, expected, atol=1e-4)


def row(prompt: str, reply: str):
    return (*datasets.ask(prompt), Message("assistant", reply))


@pytest.mark.slow
def test_a_backend_learns_which_reply_is_chosen(tmp_path):
    backend = LocalBackend(
        {"m": Model(embedded.CONFIG, decoder.init(jax.random.key(1), embedded.CONFIG), WordTokenizer())},
        batch_size=4, remat=False,
    )  # fmt: skip
    chosen, rejected = [row("1 , 2", "3 , 4"), row("5", "6")], [row("1 , 2", "7"), row("5", "8 , 9")]
    config = FinetuneConfig(num_epochs=3, batch_size=2, learning_rate=0.01, rank=2, schedule="constant", max_length=64)
    student = backend.finetune_on_pairs("m", chosen, rejected, config, tmp_path / "student", beta=BETA)
    lifts = [backend.row_logprobs(student, rows) - backend.row_logprobs("m", rows) for rows in (chosen, rejected)]
    assert np.all(lifts[0] > lifts[1] + 0.1)
    with pytest.raises(errors.OtherTrainingError):  # another beta is another training
        backend.finetune_on_pairs("m", chosen, rejected, config, tmp_path / "student", beta=2 * BETA)


class Kept(LocalBackend):
    """Scores rows by their answers, which are numbers, and keeps what is trained on instead of training."""

    def row_logprobs(self, model, rows):
        return -np.array([float(row[-1].content) for row in rows])

    def finetune_on(self, model, data, config, out, *, on_step=None, objective=None):
        self.kept = data, objective
        return str(out)


def test_pairs_have_the_chosen_row_first_its_own_reference_and_the_beta_that_was_asked_for(tmp_path):
    backend = Kept({"m": base()}, batch_size=4, remat=False)
    prompts, better, worse = ("1 , 2", "5", "9"), ("3", "6", "11"), ("4", "8", "12")
    chosen, rejected = ([row(*pair) for pair in zip(prompts, replies, strict=True)] for replies in (better, worse))
    assert dpo.paired(chosen, rejected) == [chosen[0], rejected[0], chosen[1], rejected[1], chosen[2], rejected[2]]
    config = FinetuneConfig(num_epochs=1, batch_size=2, learning_rate=0.01, rank=2, max_length=64)
    backend.finetune_on_pairs("m", chosen, rejected, config, tmp_path / "student", beta=BETA)
    pairs, objective = backend.kept
    assert objective == Preference(beta=BETA) != Preference()
    np.testing.assert_array_equal(pairs.reference, [[-3, -4], [-6, -8], [-11, -12]])
    reader = WordTokenizer()
    for pair, replies in enumerate(zip(better, worse, strict=True)):
        for place, reply in enumerate(replies):
            written = [int(token) for token in pairs.ids[pair, place][pairs.replies[pair, place]]]
            assert written == list(reader.chat((), reply).ids)[-len(written) :]
            assert reader.text(written) == reply
            read = pairs.ids[pair, place][pairs.valid[pair, place]].tolist()
            assert read == list(reader.chat(datasets.ask(prompts[pair]), reply).ids)


@pytest.mark.parametrize(
    ("chosen", "rejected", "says"),
    [
        ([], [], "0 chosen and 0 rejected"),
        ([row("1", "2")], [], "1 chosen and 0 rejected"),
        ([row("1", "2")] * 2, [row("1", "3"), row("4", "3")], "pair 1: the rows answer different chats"),
    ],
)
def test_rows_that_are_no_pairs_are_refused(chosen, rejected, says):
    with pytest.raises(errors.TextDataError, match=says):
        dpo.paired(chosen, rejected)
