"""The loop itself, with updates so simple that one can say what must come out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_jax.training import loop

NUM_EXAMPLES = 10
PHASE = loop.TrainPhase(num_epochs=3, batch_size=4)


def counting(state, batch):
    """Counts how often each example was seen, and reports the batch and how full it is."""
    visits = state.at[batch.indices].add(batch.weights)
    return visits, {"indices": batch.indices, "full": jnp.sum(batch.weights)}


def run(key=0, phase=PHASE, **options):
    return loop.run_epochs(
        counting, jnp.zeros(NUM_EXAMPLES), key=jax.random.key(key), num_examples=NUM_EXAMPLES, phase=phase, **options
    )


def test_every_example_counts_once_an_epoch():
    visits, reports = jax.jit(run)()
    np.testing.assert_array_equal(visits, np.full(NUM_EXAMPLES, 3.0))
    np.testing.assert_allclose(reports["full"], np.full(3, (4 + 4 + 2) / 3), rtol=1e-6)


def test_reports_are_means_over_the_steps_of_an_epoch():
    _, reports = run()
    for epoch in range(3):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(jax.random.key(0), epoch), NUM_EXAMPLES))
        batches = np.pad(order, (0, 2)).reshape(3, 4)
        np.testing.assert_allclose(reports["indices"][epoch], batches.mean(axis=0), rtol=1e-6)


def test_an_epochs_order_depends_on_the_key_and_its_number_only():
    _, three = run()
    _, two = run(phase=loop.TrainPhase(num_epochs=2, batch_size=4))
    _, other = run(key=1)
    np.testing.assert_array_equal(three["indices"][:2], two["indices"])
    assert not np.array_equal(three["indices"][0], three["indices"][1])
    assert not np.array_equal(three["indices"], other["indices"])


def test_no_epochs_change_nothing():
    visits, reports = run(phase=loop.TrainPhase(num_epochs=0))
    assert not np.any(visits)
    assert reports["full"].shape == (0,)


def test_a_step_descends_counts_and_reports_the_loss_before_it():
    optimizer = optax.sgd(0.25)
    state = loop.init_state({"x": jnp.array([3.0, -1.0])}, optimizer)
    assert state.step == 0
    for step in (1, 2):
        before = state.params["x"]
        state, loss = loop.gradient_step(state, lambda params: jnp.sum(params["x"] ** 2), optimizer)
        np.testing.assert_allclose(loss, jnp.sum(before**2))
        np.testing.assert_allclose(state.params["x"], before / 2)
        assert state.step == step


def test_what_is_measured_is_the_state_at_the_end_of_each_epoch():
    usual = run()
    visits, (reports, measured) = run(measure=lambda state: {"total": jnp.sum(state), "first": state[0]})
    jax.tree.map(np.testing.assert_array_equal, (visits, reports), usual)
    np.testing.assert_array_equal(measured["total"], [10, 20, 30])
    np.testing.assert_array_equal(measured["first"], [1, 2, 3])


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_factors_of_the_update_freeze_and_slow_down_whatever_the_optimizer(name):
    """Not factors of the gradient: Adam would undo those."""
    optimizer = getattr(optax, name)(0.1)
    params = {"x": jnp.array([[3.0, -1.0], [2.0, 5.0]]), "y": jnp.array([4.0])}
    factors = {"x": jnp.array([[0.0], [0.5]]), "y": jnp.array([1.0])}

    def loss(params):
        return jnp.sum(params["x"] ** 2) + jnp.sum(params["y"] ** 2)

    free, value = loop.gradient_step(loop.init_state(params, optimizer), loss, optimizer)
    held, held_value = loop.gradient_step(loop.init_state(params, optimizer), loss, optimizer, trainable=factors)
    assert held_value == value
    np.testing.assert_array_equal(held.params["x"][0], params["x"][0])
    np.testing.assert_allclose(held.params["x"][1], (params["x"] + free.params["x"])[1] / 2, rtol=1e-6)
    np.testing.assert_array_equal(held.params["y"], free.params["y"])


def test_it_descends_also_where_dtypes_are_not_promoted():
    with jax.numpy_dtype_promotion("strict"):
        optimizer = optax.adam(0.1)
        state, _ = loop.gradient_step(loop.init_state(jnp.array(1.0), optimizer), lambda x: x * x, optimizer)
    np.testing.assert_allclose(state.params, 0.9, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_epochs": -1}, "num_epochs: must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size: must be at least 1, got 0"),
    ],
)
def test_impossible_phases_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        loop.TrainPhase(**changes)
