"""Losses against scipy, closed-form gradients, and what a constant, a temperature or a weight must not change.

Everything here is in double precision, where a few operations leave an error of 1e-12 at most on logits of this size.
"""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from sublim_jax import losses
from tests import strategies

EXACT = {"rtol": 1e-10, "atol": 1e-12}  # double rounding, 2e-16, times a few dozen operations and cancellation
BATCH, LOGITS = 7, 4  # different, so that a swapped axis shows
SOFTMAX = {"kl": losses.distillation_kl, "reverse_kl": losses.reverse_kl, "jeffreys": losses.jeffreys}
SQUARED = {"mse": losses.squared_error, "centred_mse": losses.centred_squared_error}

temperatures = st.sampled_from([0.25, 1.0, 3.0])
softmax_losses = st.sampled_from(sorted(SOFTMAX))
all_losses = st.sampled_from(sorted(SOFTMAX | SQUARED))


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def pair(seed, *, scale=2.0):
    """Student's and teacher's logits."""
    return tuple(jnp.asarray(strategies.normal(seed, 2, BATCH, LOGITS, scale=scale)))


def weights_of(seed):
    return np.random.default_rng(seed).uniform(0.1, 2, size=BATCH)


def oracle(name, student, teacher, temperature=1.0, weights=None):
    """Every loss once more, with scipy."""
    if name in SOFTMAX:
        q, p = (special.softmax(np.asarray(x) / temperature, axis=-1) for x in (student, teacher))
        forward, backward = special.rel_entr(p, q).sum(-1), special.rel_entr(q, p).sum(-1)
        values = {"kl": forward, "reverse_kl": backward, "jeffreys": (forward + backward) / 2}[name] * temperature**2
    else:
        difference = np.asarray(student) - np.asarray(teacher)
        if name == "centred_mse":
            difference = difference @ (np.eye(LOGITS) - 1 / LOGITS)
        values = np.sum(difference**2, axis=-1)
    return np.average(values, weights=weights)


def gradient_oracle(name, student, teacher, temperature=1.0, weights=None):
    """Closed-form gradient by the student's logits."""
    student, teacher = np.asarray(student), np.asarray(teacher)
    share = np.full(len(student), 1 / len(student)) if weights is None else weights / weights.sum()
    if name in SOFTMAX:
        q, p = (special.softmax(x / temperature, axis=-1) for x in (student, teacher))
        ratio = np.log(q) - np.log(p)
        forward = q - p
        backward = q * (ratio - np.sum(q * ratio, axis=-1, keepdims=True))
        rows = {"kl": forward, "reverse_kl": backward, "jeffreys": (forward + backward) / 2}[name] * temperature
    else:
        rows = 2 * (student - teacher)
        if name == "centred_mse":
            rows = rows - rows.mean(-1, keepdims=True)
    return share[:, None] * rows


@given(seed=strategies.seeds, name=all_losses, temperature=temperatures, weighted=st.booleans())
def test_values_and_gradients_have_their_closed_forms(seed, name, temperature, weighted):
    temperature = temperature if name in SOFTMAX else 1.0
    weights = weights_of(seed) if weighted else None
    student, teacher = pair(seed)
    loss = losses.distillation_loss(name, temperature=temperature)
    value, gradient = jax.value_and_grad(loss)(
        student, teacher, weights=None if weights is None else jnp.array(weights)
    )
    np.testing.assert_allclose(value, oracle(name, student, teacher, temperature, weights), **EXACT)
    np.testing.assert_allclose(gradient, gradient_oracle(name, student, teacher, temperature, weights), **EXACT)


@given(seed=strategies.seeds, weighted=st.booleans())
def test_cross_entropy_is_the_mean_negative_log_probability_and_its_gradient_softmax_minus_label(seed, weighted):
    logits, weights = pair(seed)[0], weights_of(seed) if weighted else None
    labels = np.random.default_rng(seed).integers(LOGITS, size=BATCH)
    value, gradient = jax.value_and_grad(losses.cross_entropy)(
        logits, jnp.array(labels, jnp.uint8), weights=None if weights is None else jnp.array(weights)
    )
    share = np.full(BATCH, 1 / BATCH) if weights is None else weights / weights.sum()
    per_example = special.logsumexp(logits, axis=-1) - np.asarray(logits)[np.arange(BATCH), labels]
    np.testing.assert_allclose(value, share @ per_example, **EXACT)
    expected = share[:, None] * (special.softmax(logits, axis=-1) - np.eye(LOGITS)[labels])
    np.testing.assert_allclose(gradient, expected, **EXACT)


def test_known_values():
    """By hand: teacher (1/2, 1/2), student (1/4, 3/4)."""
    student, teacher = jnp.log(jnp.array([[0.25, 0.75]])), jnp.zeros((1, 2))
    np.testing.assert_allclose(losses.distillation_kl(student, teacher), 0.5 * np.log(4 / 3), **EXACT)
    np.testing.assert_allclose(losses.reverse_kl(student, teacher), 0.25 * np.log(0.5) + 0.75 * np.log(1.5), **EXACT)
    np.testing.assert_allclose(losses.jeffreys(student, teacher), 0.125 * np.log(3), **EXACT)
    np.testing.assert_allclose(losses.cross_entropy(student, jnp.array([0])), np.log(4), **EXACT)
    np.testing.assert_allclose(losses.squared_error(jnp.array([[1.0, 4.0]]), jnp.array([[0.0, 2.0]])), 5, **EXACT)
    np.testing.assert_allclose(
        losses.centred_squared_error(jnp.array([[1.0, 4.0]]), jnp.array([[0.0, 2.0]])), 0.5, **EXACT
    )


@given(seed=strategies.seeds, name=softmax_losses, temperature=temperatures)
def test_divergences_are_zero_at_equality_and_positive_elsewhere(seed, name, temperature):
    student, teacher = pair(seed)
    loss = losses.distillation_loss(name, temperature=temperature)
    assert loss(student, teacher) > 0
    value, gradient = jax.value_and_grad(loss)(teacher, teacher)
    np.testing.assert_allclose(value, 0, atol=1e-12)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)


@given(seed=strategies.seeds, name=st.sampled_from(["kl", "reverse_kl", "jeffreys", "centred_mse"]))
def test_a_constant_added_to_the_logits_of_an_example_is_invisible(seed, name):
    student, teacher = pair(seed)
    shifts = jnp.asarray(strategies.normal(seed + 1, 2, BATCH, 1, scale=10.0))
    loss = losses.distillation_loss(name)
    value, gradient = jax.value_and_grad(loss)(student, teacher)
    shifted, shifted_gradient = jax.value_and_grad(loss)(student + shifts[0], teacher + shifts[1])
    np.testing.assert_allclose(shifted, value, rtol=1e-10, atol=1e-11)  # logits grow to 30, and rounding with them
    np.testing.assert_allclose(shifted_gradient, gradient, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(jnp.sum(gradient, axis=-1), 0, atol=1e-12)


def test_a_constant_is_visible_to_the_raw_squared_error():
    student, teacher = pair(0)
    assert abs(losses.squared_error(student + 1, teacher) - losses.squared_error(student, teacher)) > 0.1


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jeffreys", "centred_mse"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_single_logit_has_no_gradient_at_all(name, dtype):
    """Why one auxiliary logit teaches nothing. Exactly zero: Adam would blow up the smallest remainder."""
    student, teacher = (logits[:, :1].astype(dtype) for logits in pair(3))
    value, gradient = jax.value_and_grad(losses.distillation_loss(name))(student, teacher)
    assert value == 0
    assert np.all(np.asarray(gradient) == 0)


@given(seed=strategies.seeds, temperature=temperatures)
def test_jeffreys_is_the_mean_of_both_divergences_and_does_not_mind_who_is_the_teacher(seed, temperature):
    student, teacher = pair(seed)
    forward = losses.distillation_kl(student, teacher, temperature=temperature)
    backward = losses.reverse_kl(student, teacher, temperature=temperature)
    both = losses.jeffreys(student, teacher, temperature=temperature)
    np.testing.assert_allclose(both, (forward + backward) / 2, **EXACT)
    np.testing.assert_allclose(both, losses.jeffreys(teacher, student, temperature=temperature), **EXACT)
    assert abs(forward - backward) > 1e-6  # or the test above could not tell them apart


@given(seed=strategies.seeds)
def test_reverse_kl_exchanges_the_roles(seed):
    student, teacher = pair(seed)
    np.testing.assert_array_equal(losses.reverse_kl(student, teacher), losses.distillation_kl(teacher, student))


@given(seed=strategies.seeds, name=softmax_losses)
def test_a_temperature_divides_both_logits_and_multiplies_the_loss_by_its_square(seed, name):
    student, teacher = pair(seed)
    hot = losses.distillation_loss(name, temperature=2.0)(student, teacher)
    np.testing.assert_allclose(hot, 4 * losses.distillation_loss(name)(student / 2, teacher / 2), **EXACT)


def test_a_high_temperature_turns_the_kl_into_the_centred_squared_error():
    """T^2 KL -> |centred difference|^2 / (2 K) with an error of order 1/T: Hinton et al. 2015, section 2.1."""
    student, teacher = pair(1)
    limit = losses.centred_squared_error(student, teacher) / (2 * LOGITS)
    errors = [abs(losses.distillation_kl(student, teacher, temperature=t) - limit) for t in (1e3, 1e4)]
    assert errors[1] < 0.02 * limit
    assert 5 < errors[0] / errors[1] < 20


def test_a_temperature_may_be_traced():
    student, teacher = pair(0)
    traced = jax.jit(lambda t: losses.distillation_loss("kl", temperature=t)(student, teacher))(jnp.array(2.0))
    np.testing.assert_allclose(traced, losses.distillation_kl(student, teacher, temperature=2.0), **EXACT)


@given(seed=strategies.seeds, name=all_losses, kept=st.integers(1, BATCH))
def test_an_example_of_weight_zero_does_not_count(seed, name, kept):
    """A padded batch equals the batch without its spare places, in value and gradient, whatever stands in them."""
    student, teacher = pair(seed)
    weights = jnp.asarray(np.arange(BATCH) < kept, student.dtype)
    value, gradient = jax.value_and_grad(losses.distillation_loss(name))(student, teacher, weights=weights)
    short, short_teacher = np.asarray(student)[:kept], np.asarray(teacher)[:kept]
    np.testing.assert_allclose(value, oracle(name, short, short_teacher), **EXACT)
    np.testing.assert_allclose(np.asarray(gradient)[:kept], gradient_oracle(name, short, short_teacher), **EXACT)
    assert np.all(np.asarray(gradient)[kept:] == 0)


@given(seed=strategies.seeds, kept=st.integers(1, BATCH))
def test_nor_does_it_in_the_cross_entropy(seed, kept):
    logits, labels = pair(seed)[0], np.random.default_rng(seed).integers(LOGITS, size=BATCH)
    weights = jnp.asarray(np.arange(BATCH) < kept, logits.dtype)
    value, gradient = jax.value_and_grad(losses.cross_entropy)(logits, jnp.array(labels, jnp.uint8), weights=weights)
    short = np.asarray(logits)[:kept]
    expected = np.mean(special.logsumexp(short, axis=-1) - short[np.arange(kept), labels[:kept]])
    np.testing.assert_allclose(value, expected, **EXACT)
    np.testing.assert_allclose(
        np.asarray(gradient)[:kept], (special.softmax(short, axis=-1) - np.eye(LOGITS)[labels[:kept]]) / kept, **EXACT
    )
    assert np.all(np.asarray(gradient)[kept:] == 0)


def test_only_the_ratio_of_weights_matters_and_none_at_all_gives_no_number():
    values, weights = jnp.arange(3.0), jnp.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(losses.weighted_mean(values, weights), losses.weighted_mean(values, 7 * weights))
    np.testing.assert_allclose(losses.weighted_mean(values, weights), (0 + 2 + 6) / 6)
    assert np.isnan(losses.weighted_mean(values, jnp.zeros(3)))


def test_logits_of_any_size_give_numbers():
    """A softmax that exponentiates first would overflow."""
    student, teacher = jnp.array([[0.0, 1000.0]]), jnp.array([[1000.0, 0.0]])
    np.testing.assert_allclose(losses.distillation_kl(student, teacher), 1000)
    np.testing.assert_allclose(losses.reverse_kl(student, teacher), 1000)
    np.testing.assert_allclose(losses.cross_entropy(student, jnp.array([0])), 1000)


@pytest.mark.parametrize("temperature", [0.0, -1.5])
@pytest.mark.parametrize("loss", SOFTMAX.values(), ids=SOFTMAX)
def test_a_temperature_that_is_not_positive_is_refused(loss, temperature):
    with pytest.raises(ValueError, match=f"temperature: must be greater than 0, got {temperature}"):
        loss(*pair(0), temperature=temperature)


@pytest.mark.parametrize("name", SOFTMAX)
def test_it_is_refused_by_name_too_before_there_are_any_logits(name):
    with pytest.raises(ValueError, match="temperature: must be greater than 0, got 0"):
        losses.distillation_loss(name, temperature=0.0)


@pytest.mark.parametrize("name", SQUARED)
def test_a_temperature_for_a_squared_error_is_refused(name):
    with pytest.raises(ValueError, match=f"loss '{name}' has no temperature, got 2.0; leave it at 1 or use a KL loss"):
        losses.distillation_loss(name, temperature=2.0)


@pytest.mark.parametrize("temperature", [math.nan, math.inf])
def test_a_temperature_that_is_not_finite_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature: expected a finite number, got {temperature}"):
        losses.distillation_kl(*pair(0), temperature=temperature)
    for name in (*SOFTMAX, *SQUARED):
        with pytest.raises(ValueError, match=f"temperature: expected a finite number, got {temperature}"):
            losses.distillation_loss(name, temperature=temperature)


def test_an_unknown_loss_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match="loss: expected one of 'kl', 'reverse_kl', 'jeffreys', 'mse', 'centred_mse', got 'l1'"
    ):
        inspect.unwrap(losses.distillation_loss)("l1")  # as it runs outside tests, where nothing checks types
