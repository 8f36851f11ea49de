"""Training by steps is compared with training by epochs and with a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_jax import errors
from sublim_jax.audit import descent, relearning
from sublim_jax.training import loop, optimizers
from sublim_jax.training.loop import TrainPhase

OPTIMIZER = optimizers.OptimizerSpec(learning_rate=0.02)
TARGETS = jnp.asarray(np.random.default_rng(0).standard_normal((22, 3)), jnp.float32)
START = {"a": jnp.array([0.5, -1.0, 2.0])}


def loss(params, batch):
    """Squared distance to the batch's targets; spare places weigh nothing."""
    distance = jnp.sum((params["a"][None] - TARGETS[batch.indices]) ** 2, axis=1)
    return jnp.sum(batch.weights * distance) / jnp.sum(batch.weights)


def descend(num_steps, checkpoints=(), key=3):
    return descent.descend(
        jax.random.key(key), START, loss, optimizer=optimizers.build(OPTIMIZER), num_examples=22, batch_size=8,
        num_steps=num_steps, checkpoints=checkpoints, measure=lambda params: params["a"],
    )  # fmt: skip


def test_whole_epochs_are_those_of_the_training_loop():
    optimizer = optimizers.build(OPTIMIZER)
    state, _ = loop.run_epochs(
        lambda state, batch: loop.gradient_step(state, lambda params: loss(params, batch), optimizer),
        loop.init_state(START, optimizer),
        key=jax.random.key(3),
        num_examples=22,
        phase=TrainPhase(num_epochs=2, batch_size=8, optimizer=OPTIMIZER),
    )
    np.testing.assert_array_equal(descend(6).params["a"], state.params["a"])


def test_a_pilot_is_a_prefix():
    long, short = descend(7, (0, 2, 5)), descend(5)
    np.testing.assert_allclose(long.measured[2], short.params["a"], rtol=1e-6)
    np.testing.assert_array_equal(long.measured[0], START["a"])
    np.testing.assert_allclose(long.losses[:5], short.losses, rtol=1e-6)
    assert long.measured.shape == (3, 3)
    assert len(long.losses) == 7


def test_no_steps_leave_the_start():
    untrained = descend(0, (0,))
    np.testing.assert_array_equal(untrained.params["a"], START["a"])
    assert untrained.losses.shape == (0,)


def test_orders_depend_on_the_key():
    assert np.any(np.asarray(descend(4).params["a"]) != np.asarray(descend(4, key=4).params["a"]))


def test_without_a_key_examples_come_in_their_order():
    first = descent.descend(
        None, START, loss, optimizer=optax.sgd(0.1), num_examples=22, batch_size=8, num_steps=1
    ).params["a"]  # fmt: skip
    np.testing.assert_allclose(first, START["a"] - 0.2 * (START["a"] - TARGETS[:8].mean(axis=0)), rtol=1e-5)


@pytest.mark.parametrize("checkpoints", [(3, 2), (1, 1), (5,), (-1,)])
def test_checkpoints_increase_within_the_run(checkpoints):
    with pytest.raises(errors.InputError, match="expected increasing numbers of steps from 0 to num_steps=4"):
        descend(4, checkpoints)


def test_relearning_is_adam_on_all_lessons_at_once():
    params, optimizer = START, optax.adam(0.05)
    state, curve = optimizer.init(params), [float(jnp.sum(params["a"]))]

    def lessons(params):
        return jnp.mean((params["a"][None] - TARGETS[:4]) ** 2)

    for _ in range(3):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(jax.grad(lessons)(params), state, params)
        params = optax.apply_updates(params, updates)
        curve.append(float(jnp.sum(params["a"])))
    relearnt = relearning.relearn(
        START, lessons, lambda params: jnp.sum(params["a"]), checkpoints=(0, 1, 3), learning_rate=0.05
    )
    np.testing.assert_allclose(
        relearnt.measured, [curve[0], curve[1], curve[3]], rtol=1e-5
    )  # float32 rounding of fused operations
    np.testing.assert_allclose(relearnt.params["a"], params["a"], rtol=1e-5)


def test_relearning_by_stages_is_the_same_training():
    def lessons(params):
        return jnp.mean((params["a"][None] - TARGETS[:4]) ** 2)

    relearnt = relearning.relearn(START, lessons, lambda params: params["a"], checkpoints=(0, 1, 3), learning_rate=0.1)
    run = relearning.stages(lessons, learning_rate=0.1)
    for _ in range(2):  # a call does not change the next one
        stages = [params["a"] for params in run(START, (0, 1, 3))]
        np.testing.assert_allclose(jnp.stack(stages), relearnt.measured, rtol=1e-6)
    for checkpoints in ((), (3, 1), (-1, 2)):
        with pytest.raises(errors.InputError, match="expected increasing numbers of steps"):
            next(run(START, checkpoints))
    with pytest.raises(errors.InputError, match="expected a positive number"):
        relearning.stages(lessons, learning_rate=0.0)


def test_relearning_refuses_bad_numbers():
    for checkpoints, message in (((), "e.g. "), ((3, 2), "expected increasing"), ((-1,), "at least 0")):
        with pytest.raises(errors.InputError, match=message):
            relearning.relearn(START, lambda params: 0.0, lambda params: 0.0, checkpoints=checkpoints)
    with pytest.raises(errors.InputError, match=r"learning_rate=0\.0"):
        relearning.relearn(START, lambda params: 0.0, lambda params: 0.0, learning_rate=0.0)
