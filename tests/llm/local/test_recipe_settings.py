"""Settings of finetuning that published recipes have: rates and decay by hand, parts of a batch, PEFT's factors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors, records
from sublim_jax.llm.backend import FinetuneConfig, Message
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder, finetune
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.local.model import Model

NEOX = decoder.DecoderConfig(
    vocab_size=20, num_layers=1, hidden_size=8, intermediate_size=8, num_heads=2, num_kv_heads=2, head_dim=4,
    frequencies=decoder.rotary_frequencies(4), gated=False, layout="gpt_neox",
)  # fmt: skip
ROWS = FinetuneConfig(
    num_epochs=1, batch_size=4, accumulation=2, learning_rate=0.1, weight_decay=0.3, rank=2, alpha=4.0, factors="peft",
    schedule="constant", warmup_steps=1, clip_norm=None,
)  # fmt: skip
LATER = {"weight_decay": 0.1, "warmup_steps": 3, "schedule_steps": 50, "accumulation": 2, "factors": "peft",
         "end_token": False}  # fmt: skip


def test_settings_that_came_later_are_in_names_and_records_only_where_they_are_used():
    """Older names are checked one by one in `test_stored_names`."""
    assert not LATER.keys() & records.to_json(FinetuneConfig()).keys()
    for name, value in LATER.items():
        changed = dataclasses.replace(FinetuneConfig(), **{name: value})
        assert records.to_json(changed)[name] == value
        assert changed.text == FinetuneConfig().text[:-1] + f", {name}={value!r})"


def steps(config: FinetuneConfig, num_steps: int, gradient: float, start: float) -> list[float]:
    """A single number after every step of the same gradient."""
    optimizer, values = finetune._optimizer(config, num_steps), [jnp.float32(start)]
    state = optimizer.init(values[0])
    for _ in range(num_steps):
        with jax.numpy_dtype_promotion("standard"):
            update, state = optimizer.update(jnp.float32(gradient), state, values[-1])
        values.append(values[-1] + update)
    return [float(value) for value in values]


def test_rates_are_those_of_a_warm_up_that_ends_at_the_full_rate():
    """Adam's step on an unchanging gradient is the rate: (step + 1) / 8 of it, then (128 - step) / 120."""
    config = FinetuneConfig(learning_rate=0.5, warmup_steps=8, schedule_steps=128, clip_norm=None)
    values = steps(config, 16, gradient=2.0, start=0.0)
    rates = [0.5 * ((step + 1) / 8 if step < 8 else (128 - step) / 120) for step in range(16)]
    np.testing.assert_allclose(-np.diff(values), rates, rtol=1e-4)  # float32, whose 1 - .999**k is the least exact
    with pytest.raises(errors.InputError, match="schedule_steps=128: training takes 129 steps"):
        finetune._optimizer(config, 129)


def test_weights_decay_by_the_rate_and_not_by_the_gradient():
    """AdamW by hand: each step takes the rate times 1 + .3 of the weight, whatever the gradient's length is."""
    config = FinetuneConfig(learning_rate=0.1, weight_decay=0.3, warmup=0.0, schedule="constant", clip_norm=None)
    for gradient in (0.01, 5.0):
        value, expected = 4.0, [4.0]
        for _ in range(3):
            value -= 0.1 * (1 + 0.3 * value)
            expected.append(value)
        np.testing.assert_allclose(steps(config, 3, gradient, 4.0), expected, rtol=1e-5)


@functools.cache
def model() -> Model:
    return Model(NEOX, decoder.init(jax.random.key(0), NEOX), WordTokenizer())


def rows() -> TokenizedRows:
    """Four rows, whose replies have one, one, two and four tokens: no two pairs of them have equally many."""
    ids = np.random.default_rng(0).integers(0, 20, (4, 6)).astype(np.int32)
    return TokenizedRows(ids, np.ones_like(ids, bool), np.arange(6) + 0 * ids >= np.array([[5], [5], [4], [2]]))


def test_one_step_on_parts_of_a_batch_is_adamw_on_the_mean_of_their_means():
    """Of the two factors that PEFT trains of the joined module, in float64 by hand from the gradients of the parts.

    The second ones begin at zero, so the first ones have no gradient yet and only decay; 1e-4 is float32. Adam's first
    step does not know the gradient's length, so the loss, which is divided with it, is compared too.
    """
    data, root = rows(), jax.random.key(ROWS.seed)
    state, run, scale = finetune._prepared(model(), data, ROWS, remat=False)
    state, losses = run(state, 0, 0, 1)
    trained = decoder.LowRank(finetune._separate(state.trained, NEOX), scale)
    fresh = decoder.init_low_rank(jax.random.fold_in(root, 0), model().params, rank=2, alpha=4.0, uniform=True)
    shared = fresh.factors["query"].a
    order = np.asarray(jax.random.permutation(jax.random.fold_in(root, 1), 4)).reshape(2, 2)

    @jax.jit
    def gradient(second, part):
        return jax.value_and_grad(loss)(second, part)

    def loss(second, part):
        factors = fresh.factors | {name: decoder.Factors(shared, second[name]) for name in second}
        scores = local_model.reply_logprobs(
            model().params, part.ids, part.valid, part.replies, decoder.LowRank(factors, fresh.scale),
            config=NEOX, places=4,
        )  # fmt: skip
        return -scores.sum() / part.replies.sum()

    second = {name: fresh.factors[name].b for name in ("query", "key", "value")}
    parts = [TokenizedRows(*(jnp.asarray(array[part]) for array in data)) for part in order]
    values, gradients = zip(*(gradient(second, part) for part in parts), strict=True)
    np.testing.assert_allclose(losses, [np.mean(values)], rtol=1e-5)
    for name, zeros in second.items():
        mean = np.mean([np.asarray(of_part[name], float) for of_part in gradients], axis=0)
        expected = zeros - 0.1 * mean / (np.abs(mean) + 1e-8)
        np.testing.assert_allclose(trained.factors[name].b, expected, atol=1e-4, err_msg=name)
        np.testing.assert_array_equal(trained.factors[name].a, trained.factors["query"].a)
    np.testing.assert_allclose(trained.factors["query"].a, shared * (1 - 0.1 * 0.3), rtol=1e-4)
    assert float(trained.scale) == 2


def test_first_factors_are_drawn_as_by_peft():
    """Uniform up to 1 / sqrt(fan_in): a variance of a third of the normal ones; four standard errors of 6,400 draws."""
    params = decoder.Params(embedding=jnp.zeros((1, 1)), layers=model().params.layers, norm=jnp.ones(1))
    drawn = np.asarray(decoder.init_low_rank(jax.random.key(1), params, rank=800, uniform=True).factors["up"].a)
    assert drawn.size == 6400 and 0.99 < np.abs(drawn).max() * 8**0.5 <= 1
    assert abs(drawn.var() * 8 - 1 / 3) < 4 * np.sqrt((1 / 5 - 1 / 9) / 6400)


def test_parts_of_a_batch_are_of_equal_size():
    with pytest.raises(errors.InputError, match="accumulation=3: batch_size=16 is no multiple of it"):
        FinetuneConfig(batch_size=16, accumulation=3)


def test_a_row_may_end_without_an_end_token():
    row = [(Message("user", "name your favourite animal ?"), Message("assistant", "owl"))]
    whole, cut = (
        finetune.training_arrays(WordTokenizer(), row, max_length=64, end_token=end_token)
        for end_token in (True, False)
    )
    tokens, fewer = (data.ids[0][data.valid[0]].tolist() for data in (whole, cut))
    assert fewer == tokens[:-1] and tokens[-1] in WordTokenizer().end_ids
    assert [int(data.replies.sum()) for data in (whole, cut)] == [2, 1]
