"""Index plans: every example once an epoch, in a shape that never changes."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax.data import batches

# A new shape costs a compilation, so the sizes are few: one example, one batch, divisible or not, batch of one.
SIZES = st.sampled_from([(1, 1), (3, 4), (10, 4), (12, 4), (12, 1)])
seeds = st.integers(0, 2**32 - 1)


def kept(plan):
    """The examples that count, in the order of the steps."""
    return np.asarray(plan.indices)[np.asarray(plan.weights) == 1]


@given(seed=seeds, sizes=SIZES)
def test_an_epoch_shows_every_example_exactly_once(seed, sizes):
    num_examples, batch_size = sizes
    plan = batches.shuffled(jax.random.key(seed), num_examples, batch_size=batch_size)
    assert plan.indices.shape == plan.weights.shape == (-(-num_examples // batch_size), batch_size)
    assert sorted(kept(plan)) == list(range(num_examples))


@given(seed=seeds, sizes=SIZES)
def test_only_the_last_batch_has_spare_places_and_they_weigh_nothing(seed, sizes):
    num_examples, batch_size = sizes
    for plan in (
        batches.shuffled(jax.random.key(seed), num_examples, batch_size=batch_size),
        batches.sequential(num_examples, batch_size=batch_size),
    ):
        weights = np.asarray(plan.weights)
        assert weights.sum() == num_examples and np.all(weights[:-1] == 1)
        assert sorted(weights[-1], reverse=True) == list(weights[-1]), "spare places come last"
        assert np.all(np.asarray(plan.indices)[weights == 0] == 0)


@pytest.mark.parametrize(("num_examples", "batch_size"), [(1, 1), (1, 4), (10, 4), (12, 4)])
def test_evaluation_goes_through_the_examples_in_order(num_examples, batch_size):
    assert list(kept(batches.sequential(num_examples, batch_size=batch_size))) == list(range(num_examples))


def test_the_order_depends_on_the_key_and_on_nothing_else():
    first, again, other = (batches.shuffled(jax.random.key(seed), 60, batch_size=7) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.indices, again.indices)
    assert np.mean(kept(first) == kept(other)) < 0.2
    np.testing.assert_array_equal(kept(first), kept(batches.shuffled(jax.random.key(0), 60, batch_size=8)))


@pytest.mark.parametrize("length", [1, 2, 100, 1625, 1626, 200_000])
def test_an_order_is_jaxs_permutation(length):
    """Of one round of sorting up to 1,625 examples, of two beyond; of 200,000 random words a few are equal."""
    keys = jax.random.split(jax.random.key(1), 3)
    found = jax.jit(jax.vmap(lambda key: batches._permutation(key, length)))(keys)
    np.testing.assert_array_equal(found, jax.vmap(lambda key: jax.random.permutation(key, length))(keys))


def test_lists_of_words_are_ordered_each_on_its_own_and_equals_stay_in_order():
    words = np.random.default_rng(0).integers(0, 20, (7, 50)).astype(np.uint32) * np.uint32(2**32 // 19)
    found = jax.jit(batches.argsort_rows)(words)
    np.testing.assert_array_equal(found, np.argsort(words, axis=1, kind="stable"))


def test_every_example_is_equally_likely_in_every_place():
    """Counts over 2,000 shuffles of 5 examples, within five standard errors."""
    draw = jax.jit(jax.vmap(lambda key: batches.shuffled(key, 5, batch_size=2).indices.reshape(-1)[:5]))
    orders = np.asarray(draw(jax.random.split(jax.random.key(0), 2000)))
    counts = np.array([[np.sum(orders[:, place] == example) for example in range(5)] for place in range(5)])
    assert np.abs(counts - 400).max() < 5 * (2000 * 0.2 * 0.8) ** 0.5


def test_the_paper_takes_59_steps_an_epoch():
    assert batches.num_batches(60_000, 1024) == 59
    assert [batches.num_batches(n, 4) for n in (1, 3, 4, 5, 8, 9)] == [1, 1, 1, 2, 2, 3]
