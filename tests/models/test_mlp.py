"""The network against flax.linen with the same weights, its initial distribution, and its bfloat16 arithmetic."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax.models import matmul as precisions
from sublim_jax.models import mlp
from tests import strategies

SPEC = mlp.MLPSpec(in_size=12, hidden_sizes=(9, 7), num_classes=4, num_aux=3)
BATCH = 5  # all five sizes differ, so that an exchanged axis shows
REORDERED = {"rtol": 2e-5, "atol": 2e-6}  # float32 sums of 12 terms in another order: a dozen times 6e-8, thrice


def params_of(spec, seed=0):
    """Parameters whose biases are not zero, so that a lost bias shows."""
    params = mlp.init(jax.random.key(seed), spec)
    noise = jax.random.normal(jax.random.key(seed + 1), (len(params), max(spec.layer_sizes)))
    return tuple(layer._replace(bias=0.3 * row[: layer.bias.size]) for layer, row in zip(params, noise, strict=True))


def images_of(spec, batch=BATCH, seed=0):
    return jnp.asarray(strategies.normal(seed, batch, spec.in_size), jnp.float32)


class Linen(linen.Module):
    """The same network as its readers would write it."""

    sizes: tuple[int, ...]
    activation: str

    @linen.compact
    def __call__(self, x):
        for size in self.sizes[:-1]:
            x = linen.Dense(size)(x)
            x = x if self.activation == "identity" else getattr(linen, self.activation)(x)
        return linen.Dense(self.sizes[-1])(x)


def linen_variables(params):
    return {"params": {f"Dense_{i}": {"kernel": w.T, "bias": b} for i, (w, b) in enumerate(params)}}


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu", "identity"])
def test_logits_and_gradients_equal_those_of_flax(activation):
    spec = dataclasses.replace(SPEC, activation=activation)
    params, images = params_of(spec), images_of(spec)
    network = Linen(spec.layer_sizes[1:], activation)
    score = strategies.normal(7, BATCH, spec.layer_sizes[-1]).astype(np.float32)  # any direction in logit space

    @jax.jit
    def ours(params, images):
        logits, pull = jax.vjp(lambda *at: mlp.apply(*at, spec), params, images)
        return logits, *pull(jnp.asarray(score))

    @jax.jit
    def theirs(params, images):
        logits, pull = jax.vjp(lambda p, x: network.apply(linen_variables(p), x), params, images)
        return logits, *pull(jnp.asarray(score))

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, **REORDERED), ours(params, images), theirs(params, images)
    )


def test_the_default_is_the_papers_network():
    spec = mlp.MLPSpec()
    params = jax.eval_shape(lambda key: mlp.init(key, spec), jax.random.key(0))
    assert spec.layer_sizes == (784, 256, 256, 13)
    assert spec.num_weights == sum(layer.weight.size for layer in params) == 269_568
    assert [layer.weight.shape for layer in params] == [(256, 784), (256, 256), (13, 256)]


@given(spec=strategies.mlp_specs(), batch=st.integers(1, 9), members=st.integers(1, 3))
def test_every_network_has_the_shapes_it_promises(spec, batch, members):
    def member(key):
        params = mlp.init(key, spec)
        logits = mlp.apply(params, jnp.zeros((batch, spec.in_size)), spec)
        gradient = jax.grad(lambda p: jnp.sum(mlp.apply(p, jnp.zeros((batch, spec.in_size)), spec)))(params)
        return params, logits, gradient

    params, logits, gradient = jax.eval_shape(jax.vmap(member), jax.random.split(jax.random.key(0), members))
    assert logits.shape == (members, batch, spec.num_classes + spec.num_aux)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, logits, gradient))} == {jnp.dtype("float32")}
    assert sum(layer.weight.size for layer in params) == members * spec.num_weights
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, gradient)


# Initial distribution. Statistics of n numbers are held to five standard errors: once in two million by chance.

LAWS = {
    "fan_in_normal": (1.0, 3.0),
    "he_normal": (2.0, 3.0),
    "torch_uniform": (1 / 3, 1.8),
}  # variance x fan_in, kurtosis


@pytest.mark.parametrize("law", LAWS)
def test_initial_weights_follow_their_law(law):
    spec = mlp.MLPSpec(hidden_sizes=(128, 100), init_distribution=law, init_scale=1.5)
    factor, kurtosis = LAWS[law]
    for layer in mlp.init(jax.random.key(3), spec):
        weight = np.asarray(layer.weight, float)
        fan_in = weight.shape[1]
        variance = 1.5**2 * factor / fan_in
        unit = weight.ravel() / variance**0.5
        assert abs(unit.mean()) < 5 / unit.size**0.5
        assert abs((unit**2).mean() - 1) < 5 * ((kurtosis - 1) / unit.size) ** 0.5
        eighth = {3.0: 105.0, 1.8: 9.0}[kurtosis]  # E x^8, for the standard error of E x^4
        assert abs((unit**4).mean() - kurtosis) < 5 * ((eighth - kurtosis**2) / unit.size) ** 0.5
        rows = unit.reshape(weight.shape)
        assert abs(np.mean(rows[1:] * rows[:-1])) < 5 / rows[1:].size ** 0.5, "neighbouring rows are correlated"
        if law == "torch_uniform":
            bound = fan_in**-0.5
            assert np.abs(weight).max() <= 1.5 * bound and np.abs(layer.bias).max() <= bound
            assert (
                abs(np.mean(np.asarray(layer.bias, float) ** 2) * 3 * fan_in - 1) < 5 * (0.8 / layer.bias.size) ** 0.5
            )
        else:
            assert not np.any(layer.bias)


def test_weights_and_biases_are_drawn_apart():
    """Of 23 bits each, so that two of them agree by chance once in a thousand networks of this size."""
    for layer in mlp.init(
        jax.random.key(0), mlp.MLPSpec(in_size=30, hidden_sizes=(9,), num_classes=5, init_distribution="torch_uniform")
    ):
        assert len(np.unique(layer.bias)) == len(layer.bias)
        assert not np.intersect1d(layer.weight, layer.bias).size


def test_a_layer_does_not_depend_on_the_depth_behind_it():
    key = jax.random.key(0)
    short = mlp.init(key, dataclasses.replace(SPEC, hidden_sizes=(9,), num_classes=7, num_aux=0))
    long = mlp.init(key, dataclasses.replace(SPEC, hidden_sizes=(9, 7, 5), num_aux=0))
    for i in range(2):
        np.testing.assert_array_equal(short[i].weight, long[i].weight)
    # ... and two layers of equal shape differ.
    square = mlp.init(key, mlp.MLPSpec(in_size=6, hidden_sizes=(6, 6), num_classes=5, num_aux=1))
    assert not np.any(np.asarray(square[0].weight) == np.asarray(square[1].weight))


def test_the_scale_multiplies_the_weights():
    doubled = mlp.init(jax.random.key(0), dataclasses.replace(SPEC, init_scale=2.0))
    for twice, once in zip(doubled, mlp.init(jax.random.key(0), SPEC), strict=True):
        np.testing.assert_array_equal(twice.weight, 2 * once.weight)


@pytest.mark.parametrize("law", LAWS)
def test_the_ntk_parametrization_stores_weights_larger_and_computes_the_same(law):
    standard = dataclasses.replace(SPEC, init_distribution=law, init_scale=0.7)
    ntk = dataclasses.replace(standard, parametrization="ntk")
    (params, stored), images = (mlp.init(jax.random.key(0), spec) for spec in (standard, ntk)), images_of(SPEC)
    for small, large in zip(params, stored, strict=True):
        fan_in = small.weight.shape[1]
        np.testing.assert_allclose(large.weight, fan_in**0.5 * np.asarray(small.weight), rtol=1e-6)
        np.testing.assert_array_equal(large.bias, small.bias)
    np.testing.assert_allclose(mlp.apply(stored, images, ntk), mlp.apply(params, images, standard), **REORDERED)
    # Biases are not scaled: with one moved, both networks still agree.
    params, stored = ((*p[:1], p[1]._replace(bias=p[1].bias + 0.5), *p[2:]) for p in (params, stored))
    np.testing.assert_allclose(mlp.apply(stored, images, ntk), mlp.apply(params, images, standard), **REORDERED)
    slopes = [
        jax.grad(lambda p, s=spec: jnp.sum(mlp.apply(p, images, s)))(p)
        for p, spec in ((params, standard), (stored, ntk))
    ]
    for layer, small, large in zip(params, *slopes, strict=True):
        expected = np.asarray(small.weight) / layer.weight.shape[1] ** 0.5
        np.testing.assert_allclose(large.weight, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_are_those_that_the_last_layer_reads(precision):
    spec = dataclasses.replace(SPEC, activation="tanh", precision=precision)
    params, images = params_of(spec), images_of(spec)
    logits, features = mlp.apply_with_features(params, images, spec)
    np.testing.assert_array_equal(logits, mlp.apply(params, images, spec))
    assert features.shape == (7, BATCH)
    readout = mlp.apply((params[-1],), features.T, dataclasses.replace(spec, in_size=7, hidden_sizes=()))
    np.testing.assert_allclose(readout, logits, **REORDERED)
    linear = dataclasses.replace(spec, hidden_sizes=())
    np.testing.assert_array_equal(mlp.apply_with_features(params_of(linear), images, linear)[1], images.T)


def test_another_seed_gives_another_network():
    first, second = (mlp.init(jax.random.key(seed), SPEC)[0].weight for seed in (0, 1))
    assert not np.any(np.asarray(first) == np.asarray(second))


# bfloat16: operands keep 8 significant bits, so each is off by 2^-8 of itself at most; sums are float32.

ROUNDING = 2.0**-8


def rounded(array):
    return np.asarray(jnp.asarray(array, jnp.bfloat16).astype(jnp.float32), float)


def bfloat16_oracle(params, images, spec, score):
    """Logits and gradients by hand, in double precision apart from the operands of products and what biases sum."""
    features, saved = np.asarray(images, float), []
    for index, (weight, bias) in enumerate(params):
        before = rounded(features) @ rounded(weight).T + np.asarray(bias, float)
        saved.append((features, before))
        features = before if index == len(params) - 1 else np.maximum(before, 0)
    gradient, gradients = np.asarray(score, float), []
    for index in reversed(range(len(params))):
        inputs, before = saved[index]
        if index < len(params) - 1:
            gradient = gradient * (before > 0)
        gradients.append((rounded(gradient).T @ rounded(inputs), rounded(gradient).sum(0)))
        gradient = rounded(gradient) @ rounded(params[index].weight)
    return features, tuple(mlp.Dense(*layer) for layer in reversed(gradients)), gradient


def assert_equal_but_for_flips(found, expected):
    """Float32 sums differ by 1e-6, except that one beside a boundary of bfloat16 may be rounded to the other neighbour
    when the next product takes it up, which costs a rounding of one term. That is rare: the median does not see it."""
    error, scale = np.abs(np.asarray(found, float) - expected), np.abs(expected).max() + 1e-3
    assert error.max() <= ROUNDING / 4 * scale
    assert np.median(error) <= 2e-6 * scale


@functools.cache
def bfloat16_program(spec, vmapped):
    """Logits and gradients by parameters and images, of one network or of several."""

    def pulled(params, images, score):
        logits, pull = jax.vjp(lambda *at: mlp.apply(*at, spec), params, images)
        return logits, *pull(score)

    return jax.jit(jax.vmap(pulled) if vmapped else pulled)


SHAPES = {  # in_size, hidden_sizes, num_classes, num_aux, batch
    "usual": (12, (9, 7), 4, 3, 5),
    "one image": (12, (9, 7), 4, 3, 1),
    "no hidden layer": (12, (), 4, 3, 5),
    "width one": (12, (1, 7), 4, 3, 5),
    "all ones": (1, (1,), 1, 0, 1),
    "one logit": (12, (9,), 1, 0, 5),
    "wide": (300, (256,), 10, 3, 64),
}


@pytest.mark.slow
@pytest.mark.parametrize("vmapped", [False, True], ids=["alone", "vmapped"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_bfloat16_rounds_operands_of_products_and_what_biases_sum_and_nothing_else(shape, vmapped):
    in_size, hidden, num_classes, num_aux, batch = shape
    spec = mlp.MLPSpec(
        in_size=in_size, hidden_sizes=hidden, num_classes=num_classes, num_aux=num_aux, precision="bfloat16"
    )
    members = [
        (
            params_of(spec, seed),
            images_of(spec, batch, seed),
            jnp.asarray(strategies.normal(9 + seed, batch, spec.layer_sizes[-1]), jnp.float32),
        )
        for seed in range(2 if vmapped else 1)
    ]
    if vmapped:
        found = bfloat16_program(spec, True)(*jax.tree.map(lambda *leaves: jnp.stack(leaves), *members))
        results = [jax.tree.map(lambda leaf, row=row: leaf[row], found) for row in range(len(members))]
    else:
        results = [bfloat16_program(spec, False)(*members[0])]
    for (params, images, score), (logits, gradients, image_gradient) in zip(members, results, strict=True):
        expected = bfloat16_oracle(params, images, spec, score)
        jax.tree.map(assert_equal_but_for_flips, (logits, gradients, image_gradient), expected)


def test_bfloat16_stays_within_its_rounding_of_float32():
    """One product: |error| <= (2 u + u^2) |W| |x| with u = 2^-8, entry by entry, forwards and backwards."""
    spec = mlp.MLPSpec(in_size=200, hidden_sizes=(), num_classes=10, num_aux=3)
    params, images = params_of(spec), images_of(spec, 32)
    score = jnp.asarray(strategies.normal(5, 32, 13), jnp.float32)
    exact = bfloat16_program(spec, False)(params, images, score)
    cheap = bfloat16_program(dataclasses.replace(spec, precision="bfloat16"), False)(params, images, score)
    unit = 2 * ROUNDING + ROUNDING**2 + 1e-5  # the last for the float32 sums
    (weight, _), absolute = params[0], lambda *arrays: [np.abs(np.asarray(array, float)) for array in arrays]
    weight, inputs, slopes = absolute(weight, images, score)
    assert np.all(np.abs(cheap[0] - exact[0]) <= unit * (inputs @ weight.T))
    assert np.all(np.abs(cheap[1][0].weight - exact[1][0].weight) <= unit * (slopes.T @ inputs))
    assert np.all(np.abs(cheap[2] - exact[2]) <= unit * (slopes @ weight))
    assert np.abs(cheap[0] - exact[0]).max() > 1e-4, "nothing was rounded"


@pytest.mark.skipif(precisions.fastest_precision() == "float32", reason="this processor has no arithmetic for bfloat16")
def test_no_product_falls_back_to_float32():
    """The compiler does so silently where it folds a transposition into a product: half the rate, the same numbers."""
    if jax.default_backend() != "cpu":
        pytest.skip("what multiplies on an accelerator is not visible in the program")
    spec = mlp.MLPSpec(precision="bfloat16")
    params = jax.eval_shape(lambda: mlp.init(jax.random.key(0), spec))
    images = jax.ShapeDtypeStruct((1024, spec.in_size), jnp.float32)
    # A softmax over some of the logits, as the losses of the experiments have.
    gradient = jax.jit(jax.grad(lambda *at: -jnp.sum(jax.nn.log_softmax(mlp.apply(*at, spec)[:, 10:])[:, 0])))
    text = gradient.lower(params, images).compile().as_text()
    products = re.findall(r"\(\S+: (\w+)\[256,256\], \S+: (\w+)\[256,1024\]\) -> f32\[256,1024\]", text)
    assert products == [("bf16", "bf16")] * 2  # the second layer's, and its gradient by the features
    last = re.findall(r"\(\S+: (\w+)\[256,13\], \S+: (\w+)\[13,1024\]\) -> f32\[256,1024\]", text)
    assert last == [("bf16", "bf16")]


def test_float32_products_are_not_rounded():
    """On some devices float32 products are cheap ones unless asked otherwise."""
    spec = dataclasses.replace(SPEC, in_size=300, activation="tanh")
    params, images = params_of(spec), images_of(spec)
    features = np.asarray(images, float)
    for index, (weight, bias) in enumerate(params):
        features = features @ np.asarray(weight, float).T + np.asarray(bias, float)
        features = features if index == len(params) - 1 else np.tanh(features)
    np.testing.assert_allclose(mlp.apply(params, images, spec), features, rtol=1e-4, atol=5e-6)


def test_float32_knows_both_modes_of_differentiation_and_bfloat16_the_reverse_one():
    params, images = params_of(SPEC), images_of(SPEC)
    score = jnp.asarray(strategies.normal(1, BATCH, 7), jnp.float32)
    direction = params_of(SPEC, 4)
    _, forwards = jax.jvp(lambda p: jnp.vdot(score, mlp.apply(p, images, SPEC)), (params,), (direction,))
    gradient = jax.grad(lambda p: jnp.vdot(score, mlp.apply(p, images, SPEC)))(params)
    backwards = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    np.testing.assert_allclose(forwards, backwards, rtol=1e-4)
    cheap = dataclasses.replace(SPEC, precision="bfloat16")
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda p: mlp.apply(p, images, cheap), (params,), (direction,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_size": 0}, "in_size: must be at least 1, got 0"),
        ({"num_classes": 0}, "num_classes: must be at least 1, got 0"),
        ({"hidden_sizes": (4, 0)}, r"hidden_sizes\[1\]: must be at least 1, got 0"),
        ({"num_aux": -1}, "num_aux: must be at least 0, got -1"),
        ({"init_scale": 0.0}, "init_scale: must be greater than 0, got 0.0"),
    ],
)
def test_impossible_networks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SPEC, **changes)


@pytest.mark.parametrize(("told", "expected"), [(None, "HIGHEST"), ("tensorfloat32", "HIGH"), ("float32", "HIGHEST")])
def test_products_are_whole_unless_jax_is_told_otherwise(told, expected):
    """On a GPU JAX's own default would be TF32, and TF32 is asked for by JAX's own switch."""
    spec = mlp.MLPSpec(in_size=4, hidden_sizes=(5,), num_classes=3, num_aux=2)
    params = mlp.init(jax.random.key(0), spec)
    with jax.default_matmul_precision(told):
        traced = str(jax.make_jaxpr(lambda x: mlp.apply(params, x, spec))(jnp.ones((2, 4))))
    assert set(re.findall(r"precision=\(?Precision\.(\w+)", traced)) == {expected}
