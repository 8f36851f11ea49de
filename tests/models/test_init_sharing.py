"""Where a student starts, against selections, permutations and projections written out in numpy."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax.models import init_sharing, mlp
from tests import strategies

SPEC = mlp.MLPSpec(in_size=6, hidden_sizes=(5, 4), num_classes=3, num_aux=2, activation="tanh")
DEEP = dataclasses.replace(SPEC, hidden_sizes=(5, 5, 5))
WIDE = mlp.MLPSpec(in_size=60, hidden_sizes=(50, 50), num_classes=30, num_aux=20)  # enough weights for statistics
CLASSES = 3


def network(seed, spec=SPEC):
    """Parameters none of which is zero or equals another."""
    shapes = jax.eval_shape(lambda: mlp.init(jax.random.key(0), spec))
    leaves = jax.tree.leaves(shapes)
    drawn = [strategies.normal(1000 * seed + i, *leaf.shape).astype(np.float32) for i, leaf in enumerate(leaves)]
    return jax.tree.map(jnp.asarray, jax.tree.unflatten(jax.tree.structure(shapes), drawn))


REFERENCE, OTHER = network(0), network(1)


def flat(params):
    return np.concatenate([np.asarray(leaf, float).ravel() for leaf in jax.tree.leaves(params)])


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def start(key, spec, *, reference=REFERENCE, other=OTHER, gradient=None):
    return init_sharing.student_init(
        jax.random.key(key), reference, other, spec, num_classes=CLASSES, gradient=gradient
    )


blend = jax.jit(lambda share: init_sharing.interpolate(REFERENCE, OTHER, share, num_classes=CLASSES))


# Sharing by parts.


@pytest.mark.slow
@pytest.mark.parametrize("parts", list(itertools.product((0.0, 1.0), repeat=4)), ids=str)
def test_each_part_comes_exactly_from_the_one_or_the_other(parts):
    first, second, class_head, aux_head = (REFERENCE if part else OTHER for part in parts)
    expected = (
        first[0],
        second[1],
        mlp.Dense(
            np.concatenate([class_head[2].weight[:3], aux_head[2].weight[3:]]),
            np.concatenate([class_head[2].bias[:3], aux_head[2].bias[3:]]),
        ),
    )
    found = blend(init_sharing.ParamGroups(hidden=parts[:2], class_head=parts[2], aux_head=parts[3]))
    assert_equal(found, expected)
    assert_equal(
        start(
            0,
            init_sharing.InitSharing(
                share=init_sharing.ParamGroups(hidden=parts[:2], class_head=parts[2], aux_head=parts[3])
            ),
        ),
        expected,
    )


def test_all_of_that_is_one_program():
    traces = []

    @jax.jit
    def program(share):
        traces.append(share)
        return init_sharing.interpolate(REFERENCE, OTHER, share, num_classes=CLASSES)

    for parts in itertools.product((0.0, 0.5, 1.0), repeat=4):
        program(init_sharing.ParamGroups(hidden=parts[:2], class_head=parts[2], aux_head=parts[3]))
    assert len(traces) == 1


def test_in_between_the_start_lies_on_the_line():
    found = blend(init_sharing.ParamGroups(hidden=(0.25, 0.5), class_head=0.75, aux_head=0.1))
    weights = [0.25, 0.5, np.array([0.75] * 3 + [0.1] * 2)]
    for index, w in enumerate(weights):
        for a, b, c in zip(REFERENCE[index], OTHER[index], found[index], strict=True):
            factor = np.reshape(w, (-1, *[1] * (a.ndim - 1)))
            expected = factor * np.asarray(a, float) + (1 - factor) * np.asarray(b, float)
            np.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-6)  # three float32 operations on order one


def test_the_last_number_holds_for_all_further_hidden_layers_and_spare_ones_for_nothing():
    reference, other = network(0, DEEP), network(1, DEEP)

    def blended(hidden):
        share = init_sharing.ParamGroups(hidden=hidden, class_head=1.0, aux_head=1.0)
        return init_sharing.interpolate(reference, other, share, num_classes=CLASSES)

    assert_equal(blended((1.0, 0.0)), (reference[0], other[1], other[2], reference[3]))
    assert_equal(blended((0.0,)), (other[0], other[1], other[2], reference[3]))
    assert_equal(blended((0.0, 1.0, 0.0, 1.0)), (other[0], reference[1], other[2], reference[3]))


def test_the_default_shares_everything_and_nothing_shares_nothing():
    assert_equal(start(0, init_sharing.InitSharing()), REFERENCE)
    assert_equal(start(0, init_sharing.InitSharing(share=init_sharing.NO_GROUPS)), OTHER)
    heads = start(0, init_sharing.InitSharing(share=init_sharing.HEADS))
    assert_equal(heads, (*OTHER[:2], REFERENCE[2]))
    assert_equal(start(0, init_sharing.InitSharing(share=init_sharing.HIDDEN_LAYERS)), (*REFERENCE[:2], OTHER[2]))


def test_numbers_are_spread_over_the_rows_they_belong_to():
    numbers = init_sharing.ParamGroups(hidden=(2.0, 3.0), class_head=5.0, aux_head=7.0)
    found = init_sharing.broadcast_to_params(numbers, REFERENCE, num_classes=CLASSES)
    filled = jax.tree.map(lambda factor, leaf: factor * jnp.ones_like(leaf), found, REFERENCE)
    expected = [2.0, 3.0, np.array([5.0] * 3 + [7.0] * 2)]
    for layer, params, value in zip(filled, REFERENCE, expected, strict=True):
        np.testing.assert_array_equal(layer.bias, np.broadcast_to(value, params.bias.shape))
        np.testing.assert_array_equal(layer.weight, np.broadcast_to(np.reshape(value, (-1, 1)), params.weight.shape))


# Mixing single weights.


def test_the_mix_takes_each_weight_whole_and_the_fraction_that_was_asked_for():
    reference, other = network(0, WIDE), network(1, WIDE)
    mixed = jax.jit(init_sharing.random_mask)(jax.random.key(3), reference, other, 0.3)
    chosen = jax.tree.map(lambda m, a, b: np.where(m == a, 1, np.where(m == b, 0, -1)), mixed, reference, other)
    assert set(np.unique(flat(chosen))) == {0, 1}
    for leaf in jax.tree.leaves(chosen):
        assert abs(leaf.mean() - 0.3) < 5 * (0.3 * 0.7 / leaf.size) ** 0.5  # five standard errors, in every tensor
    assert np.mean(chosen[1].weight == chosen[2].weight) < 0.7, "layers of one shape have masks of their own"
    assert abs(np.corrcoef(chosen[0].weight[:, 0], chosen[0].bias)[0, 1]) < 5 / 50**0.5


@given(seed=strategies.seeds)
def test_the_mix_is_exact_at_its_ends_and_grows_between_them(seed):
    key = jax.random.key(seed)
    assert_equal(init_sharing.random_mask(key, REFERENCE, OTHER, 0.0), OTHER)
    assert_equal(init_sharing.random_mask(key, REFERENCE, OTHER, 1.0), REFERENCE)
    few, many = (flat(init_sharing.random_mask(key, REFERENCE, OTHER, p)) == flat(REFERENCE) for p in (0.2, 0.6))
    assert np.all(many[few]), "the weights shared at 0.2 are shared at 0.6"


def test_the_mix_follows_the_blend_and_takes_from_the_same_other():
    spec = init_sharing.InitSharing(share=init_sharing.HEADS, shared_weight_probability=0.5)
    found = start(1, spec)
    assert_equal(found[:2], OTHER[:2])
    from_reference = np.asarray(found[2].weight) == np.asarray(REFERENCE[2].weight)
    from_other = np.asarray(found[2].weight) == np.asarray(OTHER[2].weight)
    assert np.all(from_reference ^ from_other) and np.any(from_reference) and np.any(from_other)


# Permuting neurons.


@given(seed=strategies.seeds)
def test_permuted_neurons_compute_the_same_function_elsewhere(seed):
    permuted = init_sharing.permute_neurons(jax.random.key(seed), REFERENCE)
    images = jnp.asarray(strategies.normal(seed, 7, 6), jnp.float32)
    # float32 sums of at most six terms of order one in another order, through three layers
    expected = mlp.apply(REFERENCE, images, SPEC)
    np.testing.assert_allclose(mlp.apply(permuted, images, SPEC), expected, rtol=1e-5, atol=1e-5)
    for before, after in zip(REFERENCE[:-1], permuted[:-1], strict=True):
        np.testing.assert_array_equal(np.sort(after.bias), np.sort(before.bias))
        np.testing.assert_array_equal(np.sort(after.weight, axis=None), np.sort(before.weight, axis=None))
    np.testing.assert_array_equal(permuted[-1].bias, REFERENCE[-1].bias)
    np.testing.assert_array_equal(np.sort(permuted[-1].weight, axis=1), np.sort(REFERENCE[-1].weight, axis=1))


def test_every_hidden_layer_has_an_order_of_its_own():
    params = network(0, DEEP)
    permuted = init_sharing.permute_neurons(jax.random.key(0), params)
    orders = [
        tuple(np.flatnonzero(np.asarray(before.bias) == value)[0] for value in np.asarray(after.bias))
        for before, after in zip(params[:-1], permuted[:-1], strict=True)
    ]
    assert len({*orders, (0, 1, 2, 3, 4)}) == 4
    linear = mlp.MLPSpec(in_size=6, hidden_sizes=(), num_classes=3, num_aux=2)
    assert_equal(init_sharing.permute_neurons(jax.random.key(0), network(0, linear)), network(0, linear))


# Perturbing.

RELATIVE_SPREADS = (0.5, 2.0)


def scaled_network(seed, spec):
    """Every tensor has a spread of its own; the bias of layer 1 is zero."""
    leaves, structure = jax.tree.flatten(network(seed, spec))
    params = jax.tree.unflatten(structure, [3.0**i * leaf for i, leaf in enumerate(leaves)])
    return (params[0], params[1]._replace(bias=jnp.zeros_like(params[1].bias)), *params[2:])


@pytest.mark.parametrize("relative", RELATIVE_SPREADS)
def test_relative_noise_is_measured_in_the_spread_of_each_tensor(relative):
    params = scaled_network(0, WIDE)
    noise = jax.tree.map(jnp.subtract, init_sharing.perturb(jax.random.key(0), params, relative=relative), params)
    for before, added in zip(jax.tree.leaves(params), jax.tree.leaves(noise), strict=True):
        unit, added = np.asarray(before, float).std(), np.asarray(added, float)
        if unit == 0:
            assert not np.any(added), "what is constant stays"
        else:
            # mean square of normal numbers: variance 2, five standard errors
            assert abs(np.mean((added / (relative * unit)) ** 2) - 1) < 5 * (2 / added.size) ** 0.5
            assert abs(np.mean(added / (relative * unit))) < 5 / added.size**0.5
    assert abs(np.corrcoef(noise[0].weight[:, :50].ravel(), noise[1].weight.ravel())[0, 1]) < 5 / 2500**0.5


def test_absolute_noise_is_measured_in_weights_and_moves_zero_biases_too():
    params = scaled_network(0, WIDE)
    noise = jax.tree.map(jnp.subtract, init_sharing.perturb(jax.random.key(0), params, absolute=300.0), params)
    for leaf in jax.tree.leaves(noise):  # float32 of values up to 1e3: the subtraction costs 1e-4 of 300
        assert abs(np.mean((np.asarray(leaf, float) / 300) ** 2) - 1) < 5 * (2 / leaf.size) ** 0.5 + 1e-3


def test_both_kinds_of_noise_add_up_and_the_factor_of_parts_multiplies_both():
    params = scaled_network(0, SPEC)
    key = jax.random.key(4)

    def noise(**options):
        return flat(jax.tree.map(jnp.subtract, init_sharing.perturb(key, params, **options), params))

    both = noise(relative=0.5, absolute=0.2)
    close = {"rtol": 1e-4, "atol": 1e-4}  # differences of float32 numbers up to a thousand
    np.testing.assert_allclose(both, noise(relative=0.5) + noise(absolute=0.2), **close)
    np.testing.assert_allclose(noise(relative=0.5, absolute=0.2, parts=0.5), 0.5 * both, **close)


def test_noise_reaches_the_parts_that_were_named():
    spec = init_sharing.InitSharing(
        absolute_noise=0.5, noise_scale=init_sharing.ParamGroups(hidden=(0.0, 1.0), class_head=0.0, aux_head=2.0)
    )
    found, everywhere = start(5, spec), start(5, dataclasses.replace(spec, noise_scale=init_sharing.ParamGroups()))
    assert_equal(found[0], REFERENCE[0])
    assert_equal(found[1], everywhere[1])
    for leaf, plain, before in zip(found[2], everywhere[2], REFERENCE[2], strict=True):
        np.testing.assert_array_equal(leaf[:3], before[:3])
        np.testing.assert_allclose(leaf[3:] - before[3:], 2 * (plain[3:] - before[3:]), rtol=1e-5, atol=1e-6)
    assert np.all(flat(everywhere) != flat(REFERENCE))


@given(
    seed=strategies.seeds,
    parts=st.sampled_from([init_sharing.ParamGroups(), init_sharing.HIDDEN_LAYERS, init_sharing.HEADS]),
)
def test_noise_across_a_direction_has_no_component_along_it_and_stays_in_its_parts(seed, parts):
    gradient = network(7)
    spec = init_sharing.InitSharing(absolute_noise=1.0, relative_noise=0.3, noise_scale=parts)
    across = start(seed, dataclasses.replace(spec, orthogonal_to_gradient=True), gradient=gradient)
    noise, plain = (flat(params) - flat(REFERENCE) for params in (across, start(seed, spec, gradient=gradient)))
    mask = flat(
        jax.tree.map(
            lambda f, leaf: f * jnp.ones_like(leaf),
            init_sharing.broadcast_to_params(parts, REFERENCE, num_classes=3),
            REFERENCE,
        )
    )
    direction = mask * flat(gradient)
    # float32 sums of 79 products: a hundred roundings of 6e-8
    assert abs(noise @ flat(gradient)) < 1e-5 * np.linalg.norm(noise) * np.linalg.norm(flat(gradient))
    expected = plain - (plain @ direction) / (direction @ direction) * direction
    np.testing.assert_allclose(noise, expected, rtol=1e-4, atol=1e-5)
    assert not np.any(noise[mask == 0]) and np.all(noise[mask == 1] != 0)


def test_a_direction_of_length_zero_removes_nothing():
    zero = jax.tree.map(jnp.zeros_like, REFERENCE)
    assert_equal(init_sharing.project_out(REFERENCE, zero), REFERENCE)
    spec = init_sharing.InitSharing(absolute_noise=1.0, orthogonal_to_gradient=True, noise_scale=init_sharing.NO_GROUPS)
    assert_equal(start(0, spec, gradient=network(7)), REFERENCE)


def test_without_the_request_the_gradient_is_not_looked_at():
    spec = init_sharing.InitSharing(absolute_noise=1.0)
    assert_equal(start(0, spec, gradient=network(7)), start(0, spec))


def test_the_order_is_blend_mix_permute_perturb_each_with_a_stream_of_its_own():
    plain = init_sharing.InitSharing(
        share=init_sharing.ParamGroups(hidden=(0.0, 1.0)), shared_weight_probability=0.4, permute_neurons=True
    )
    noisy = dataclasses.replace(plain, absolute_noise=0.5)
    key = jax.random.key(2)
    mixed = init_sharing.random_mask(jax.random.fold_in(key, 0), (OTHER[0], *REFERENCE[1:]), OTHER, 0.4)
    permuted = init_sharing.permute_neurons(jax.random.fold_in(key, 1), mixed)
    assert_equal(start(2, plain), permuted)
    noise = flat(start(2, init_sharing.InitSharing(absolute_noise=0.5))) - flat(REFERENCE)
    np.testing.assert_allclose(flat(start(2, noisy)) - flat(permuted), noise, rtol=1e-4, atol=1e-6)


def test_one_program_serves_all_numbers_of_a_start():
    traces = []

    @jax.jit
    def program(spec):
        traces.append(spec)
        return start(3, spec)

    for relative, absolute, shared in ((0.0, 0.0, 1.0), (0.3, 0.0, 0.5), (0.1, 0.2, 0.0)):
        share = init_sharing.ParamGroups(hidden=(shared, 0.3), class_head=1.0, aux_head=shared)
        spec = init_sharing.InitSharing(
            share=share,
            shared_weight_probability=0.5,
            permute_neurons=True,
            relative_noise=relative,
            absolute_noise=absolute,
        )
        np.testing.assert_allclose(flat(program(spec)), flat(start(3, spec)), rtol=1e-5, atol=1e-6)
    assert len(traces) == 1


# Networks of another shape.


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"hidden_sizes": (5, 4)}, (True, True, True)),
        ({"hidden_sizes": (5, 9)}, (True, False, False)),
        ({"hidden_sizes": (9, 4)}, (False, False, True)),
        ({"hidden_sizes": (5,)}, (True, False)),
        ({"hidden_sizes": (5, 4, 4)}, (True, True, False, True)),
        ({"hidden_sizes": (5, 4, 3)}, (True, True, False, False)),
        ({"hidden_sizes": ()}, (False,)),
        ({"num_aux": 4}, (True, True, False)),
    ],
    ids=str,
)
def test_layers_that_fit_are_taken_and_the_others_kept(changes, kept):
    own = network(2, dataclasses.replace(SPEC, **changes))
    found = init_sharing.transplant_matching_layers(REFERENCE, own)
    hidden = [*REFERENCE[:-1], None, None][: len(own) - 1]
    counterparts = (*hidden, REFERENCE[-1])
    for layer, mine, theirs, taken in zip(found, own, counterparts, kept, strict=True):
        assert_equal(layer, theirs if taken else mine)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: init_sharing.ParamGroups(hidden=()), "hidden needs a number at least"),
        (lambda: init_sharing.InitSharing(relative_noise=-0.1), "relative_noise: must be at least 0, got -0.1"),
        (lambda: init_sharing.InitSharing(absolute_noise=-2.0), "absolute_noise: must be at least 0, got -2.0"),
        (
            lambda: init_sharing.InitSharing(shared_weight_probability=1.5),
            "shared_weight_probability: must be at most 1, got 1.5",
        ),
        (
            lambda: init_sharing.InitSharing(shared_weight_probability=-0.5),
            "shared_weight_probability: must be at least 0, got -0.5",
        ),
    ],
)
def test_impossible_starts_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
