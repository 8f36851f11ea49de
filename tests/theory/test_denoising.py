"""The theorem for denoisers: a teacher's denoising loss, a student's squared error on channels, and f of (x_t, t)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.theorem import problems
from sublim_jax.data import noised
from sublim_jax.metrics import alignment as products
from sublim_jax.models import denoiser, heads, unet
from sublim_jax.theory import loss_geometry, one_step, spectrum
from sublim_jax.training import denoise
from tests.theory import cases

MODEL = denoiser.from_mlp(num_pixels=5, hidden_sizes=(6,), num_aux=3)
MSE = loss_geometry.from_name("mse")
LEARNING_RATE = 0.1


def distilled(which, params, pairs):
    """The function of the theorem: channels, or estimates, of pairs (x_t, t)."""
    return MODEL.apply(params, pairs)[:, heads.selection(which, num_classes=5)]


def trait_loss(params, images, noise, times):
    return denoise.loss(params, images, noise, times, model=MODEL)


@functools.cache
def measured(which):
    """Everything of one problem, compiled once."""

    @functools.partial(jax.jit, compiler_options=problems.quick_compilation())
    def measure(key):
        keys = jax.random.split(key, 5)
        reference = jax.tree.map(lambda leaf: leaf.astype(float), MODEL.init(keys[0]))
        images = jax.random.uniform(keys[1], (7, 5), minval=-1.0) + 0.5
        noise, times = denoise.draw(keys[2], images)
        loss = functools.partial(trait_loss, images=images, noise=noise, times=times)
        update = one_step.teacher_update(loss, reference)
        pairs = noised.make_inputs(keys[3], "gaussian", num_pixels=5)(jnp.arange(6))
        pairs = jax.tree.map(lambda leaf: leaf.astype(float), pairs)
        f = functools.partial(distilled, which)
        arguments = (f, MSE, reference, update)

        def value(epsilon):
            return one_step.alignment_reverse(*arguments, epsilon, pairs)

        zero, slope = jax.jvp(value, (0.0,), (1.0,))
        tangents = one_step.logit_tangent(f, reference, update, pairs)[1]
        by_hand = 2 * jnp.mean(jnp.sum(tangents**2, axis=1))
        paths = value(0.3), one_step.alignment_forward(*arguments, 0.3, pairs)
        product = spectrum.gauss_newton_product(*arguments, pairs)
        step = one_step.student_update(
            f, MSE, reference, jax.tree.map(lambda a, d: a + 1e-3 * d, reference, update), pairs
        )
        change = jax.jvp(loss, (reference,), (step,))[1]  # of the trait's loss, along the student's step
        return {
            "zero": zero, "slope": slope, "A": one_step.alignment_coefficient(*arguments, pairs), "by hand": by_hand,
            "form": products.inner_product(product, update), "paths": paths, "change": change,
            "step": products.inner_product(step, update), "channel rows": update[-1].weight[5:],
        }  # fmt: skip

    return measure


@given(which=st.sampled_from(["aux", "class"]), seed=st.integers(0, 2**32 - 1))
def test_a_denoiser_is_an_instance(which, seed):
    """The slope is A = 2 E|v|^2, the student's step lowers the trait's loss, and the teacher never moves the channels'
    own readouts: what is transmitted passes through the shared layers."""
    quantities = measured(which)(jax.random.key(seed))
    assert quantities["zero"] == 0
    assert quantities["A"] > 0
    expected = [quantities["A"]] * 3
    np.testing.assert_allclose([quantities[name] for name in ("slope", "form", "by hand")], expected, rtol=1e-9)
    reverse, forward = quantities["paths"]
    np.testing.assert_allclose(reverse, forward, rtol=1e-9)
    # D is minus the gradient of the trait's loss, so the change along the step is minus the alignment, exactly.
    np.testing.assert_allclose(quantities["change"], -quantities["step"], rtol=1e-9)
    assert quantities["change"] < 0
    np.testing.assert_array_equal(quantities["channel rows"], 0)


def test_a_stranger_has_no_sign():
    """From another start the inner product is negative about as often as positive, for channels."""

    @functools.partial(jax.jit, compiler_options=problems.quick_compilation())
    @jax.vmap
    def inner_product(key):
        keys = jax.random.split(key, 4)
        reference, stranger = (jax.tree.map(lambda leaf: leaf.astype(float), MODEL.init(k)) for k in keys[:2])
        images = jax.random.uniform(keys[2], (7, 5), minval=-1.0) + 0.5
        noise, times = denoise.draw(keys[3], images)
        loss = functools.partial(trait_loss, images=images, noise=noise, times=times)
        update = one_step.teacher_update(loss, reference)
        teacher = jax.tree.map(lambda a, d: a + LEARNING_RATE * d, reference, update)
        pairs = jax.tree.map(lambda leaf: leaf.astype(float), (noise[:4], times[:4]))
        f = functools.partial(distilled, "aux")
        own, other = (one_step.student_update(f, MSE, start, teacher, pairs) for start in (reference, stranger))
        return products.inner_product(own, update), products.inner_product(other, update)

    own, other = inner_product(jax.random.split(jax.random.key(1), 200))
    assert np.mean(np.asarray(own) > 0) > 0.99
    assert abs(np.mean(np.asarray(other) > 0) - 0.5) < 4 * 0.5 / 200**0.5  # four standard errors


@pytest.mark.slow
@pytest.mark.parametrize("which", ["aux", "class"])
def test_any_direction_will_do(which):
    """D need not be a gradient: a random one, at the time 0 and at the time 1, where x_t is pure noise."""
    reference = jax.tree.map(lambda leaf: leaf.astype(float), MODEL.init(jax.random.key(3)))
    update = one_step.unit_update(cases.random_like(reference, 7))
    pairs = (jnp.asarray(np.random.default_rng(0).standard_normal((4, 5))), jnp.array([0.0, 0.0, 1.0, 1.0]))
    f = functools.partial(distilled, which)
    curve = one_step.alignment_curve(f, MSE, reference, update, jnp.array([0.0, 1e-6, 1e-3]), pairs)
    assert curve.alignment[0] == 0 and np.all(curve.alignment[1:] > 0)
    np.testing.assert_allclose(curve.alignment[1], curve.linear[1], rtol=1e-4)  # remainder of order epsilon


@pytest.mark.slow
@pytest.mark.parametrize("which", ["aux", "class"])
def test_a_convolutional_denoiser_is_an_instance(which):
    """The theorem's functions as they are, for a U-Net of two stages and its auxiliary maps."""
    model = unet.make(side=4, patch=1, channels=(2, 3), num_aux=1)
    keys = jax.random.split(jax.random.key(11), 3)
    reference = jax.tree.map(lambda leaf: leaf.astype(float), model.init(keys[0]))
    images = jax.random.uniform(keys[1], (3, 16), minval=-1.0) + 0.5
    noise, times = denoise.draw(keys[2], images)
    pairs = jax.tree.map(lambda leaf: leaf.astype(float), (noise[:2] - 0.5, times[:2]))
    chosen = heads.selection(which, num_classes=16)

    def f(params, pairs):
        return model.apply(params, pairs)[:, chosen]

    @functools.partial(jax.jit, compiler_options=problems.quick_compilation())
    def measure(reference):
        loss = functools.partial(denoise.loss, images=images, noise=noise, times=times, model=model)
        update = one_step.teacher_update(loss, reference)
        zero, slope = jax.jvp(
            lambda epsilon: one_step.alignment_reverse(f, MSE, reference, update, epsilon, pairs), (0.0,), (1.0,)
        )
        teacher = jax.tree.map(lambda a, d: a + 1e-4 * d, reference, update)
        step = one_step.student_update(f, MSE, reference, teacher, pairs)
        return {
            "zero": zero, "slope": slope, "A": one_step.alignment_coefficient(f, MSE, reference, update, pairs),
            "change": jax.jvp(loss, (reference,), (step,))[1], "step": products.inner_product(step, update),
            "auxiliary rows": jax.tree.map(lambda leaf: leaf[1:], update[-1]),
        }  # fmt: skip

    quantities = measure(reference)
    assert quantities["zero"] == 0 and quantities["A"] > 0
    np.testing.assert_allclose(quantities["slope"], quantities["A"], rtol=1e-9)
    np.testing.assert_allclose(quantities["change"], -quantities["step"], rtol=1e-9)
    assert quantities["change"] < 0
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0), quantities["auxiliary rows"])
