"""Modules, functions and arrays of a user's own are refused in one line where they do not fit."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import sublim_jax as sl
from sublim_jax.training import examples, stages

INPUTS = np.linspace(-1, 1, 40, dtype=np.float32).reshape(8, 5)
LABELS = np.arange(8) % 3
DATA = sl.Data(INPUTS, LABELS, INPUTS, LABELS)
PHASE = sl.TrainPhase(num_epochs=1, batch_size=4)


def noise(key, indices):
    return jax.random.uniform(key, (len(indices), 5))


def forward(params, inputs):
    return inputs @ params


NETWORK = sl.Network(
    initialize=lambda key: jax.random.normal(key, (5, 6)), forward=forward, num_classes=3, num_aux=3
)  # fmt: skip
CONFIG = sl.MemberConfig(model=NETWORK, noise_function=noise, num_noise_images=4, teacher=PHASE, student=PHASE)


def trace(config, data=DATA):
    """A whole member, of which nothing is computed."""
    return jax.eval_shape(lambda: stages.run(0, 1, data, seed=0, spec=config))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda key, indices: jnp.ones((len(indices), 7)), r"noise_function of shape \(2, 7\): the model fails"),
        (lambda key, indices: jnp.ones(5), "noise_function gives .* for two indices: expected an array of two inputs"),
        (lambda key, indices: None, "noise_function gives None for two indices"),
        (lambda key, indices: jnp.ones((len(indices), 5), int), "inputs of noise_function are int32: expected bytes"),
        (lambda key: jnp.ones((4, 5)), r"noise_function fails on a key and two indices \(TypeError: .*positional"),
    ],
)  # fmt: skip
def test_noise_that_is_not_an_input_for_each_index_is_refused(function, message):
    with pytest.raises(sl.errors.InputError, match=message):
        examples.require_noise(NETWORK, function)


def test_it_is_refused_before_a_member_is_run():
    config = dataclasses.replace(CONFIG, noise_function=lambda key, indices: jnp.ones((len(indices), 7)))
    with pytest.raises(sl.errors.InputError, match="inputs of noise_function"):
        trace(config)


def test_bytes_of_noise_reach_the_model_as_floats_as_bytes_of_data_do():
    types = set()

    def watching(params, inputs):
        types.add(inputs.dtype)
        return forward(params, inputs)

    def drawn(key, indices):
        return jax.random.randint(key, (len(indices), 5), 0, 256, jnp.uint8)

    model = dataclasses.replace(NETWORK, forward=watching)
    trace(dataclasses.replace(CONFIG, model=model, noise_function=drawn))
    assert types == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda logits, labels, weights: logits[:, 0], r"gives float32 of shape \(4,\): expected one float"),
        (lambda logits, labels, weights: jnp.sum(labels), "teacher_loss gives int"),
    ],
)  # fmt: skip
def test_a_loss_that_is_not_one_float_is_refused(loss, message):
    with pytest.raises(sl.errors.InputError, match=message):
        trace(dataclasses.replace(CONFIG, teacher_loss=loss))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tuple(DATA)[:3], "expected Data.* of four arrays, got .'ndarray', 'ndarray', 'ndarray'."),
        (None, "expected Data.* of four arrays, got NoneType"),
        (sl.Data(*(array.tolist() for array in DATA)), "got .'list', .*numpy.asarray"),
    ],
)
def test_data_that_are_not_four_arrays_are_refused(data, message):
    with pytest.raises(sl.errors.InputError, match=message):
        inspect.unwrap(stages.require_fitting)(data, CONFIG.teacher_config)  # outside tests nothing checks types


def test_a_single_auxiliary_logit_is_refused_where_its_loss_has_no_gradient():
    single = dataclasses.replace(CONFIG, model=dataclasses.replace(NETWORK, num_classes=5, num_aux=1))
    with pytest.raises(sl.errors.InputError, match=r"num_aux=1: .* the loss kl, .* student_aux cannot learn"):
        sl.run_members(single, DATA, num_members=2)


EXAMPLE = np.zeros((1, 4), np.float32)


class Net(nnx.Module):
    def __init__(self, size, rngs):
        self.readout = nnx.Linear(size, 5, rngs=rngs)

    def __call__(self, x):
        return self.readout(x)


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (linen.Dense, EXAMPLE, "expected a linen module, e.g. nn.Dense.13., or a function from nnx.Rngs"),
        ("Dense", EXAMPLE, "or a function from nnx.Rngs to an nnx module, got 'Dense'"),
        (linen.Dense(5), EXAMPLE.tolist(), "example: expected an array of some inputs, batch first"),
        (linen.Dense(5), np.float32(3), "example: expected an array of some inputs, batch first"),
        (linen.Dense(5), EXAMPLE.astype(int), "example: expected bytes .uint8. or floats, got int64"),
        (linen.Conv(5, (3, 3, 3)), EXAMPLE, r"the module fails on one input of shape \(4,\)"),
        (lambda rngs: None, EXAMPLE, "the function from nnx.Rngs gives None, expected an nnx module"),
        (lambda: Net(4, nnx.Rngs(0)), EXAMPLE, "the function from nnx.Rngs fails .TypeError"),
        (lambda rngs: Net(7, rngs), EXAMPLE, r"the module fails on one input of shape \(4,\)"),
    ],
)
def test_what_is_no_flax_module_of_these_inputs_is_refused(module, example, message):
    with pytest.raises(sl.errors.InputError, match=message):
        inspect.unwrap(sl.from_flax)(module, example, num_classes=3)


def test_a_module_is_shown_bytes_as_floats():
    class Floats(linen.Module):
        @linen.compact
        def __call__(self, x):
            assert jnp.issubdtype(x.dtype, jnp.floating)
            return linen.Dense(5)(x)

    assert sl.from_flax(Floats(), EXAMPLE.astype(np.uint8), num_classes=3).num_aux == 2


def test_what_is_no_equinox_module_of_these_inputs_is_refused():
    import equinox as eqx

    def dropping(key):
        return eqx.nn.Sequential([eqx.nn.Linear(4, 5, key=key), eqx.nn.Dropout(0.5)])

    for make, message in (
        (lambda key: eqx.nn.Linear(7, 5, key=key), r"the module fails on one input of shape \(4,\)"),
        (eqx.nn.Linear(4, 5, key=jax.random.key(0)), "the function from a key fails"),
        (dropping, "the module fails .*Dropout requires a key"),
        (lambda key: None, "the module fails"),
    ):
        with pytest.raises(sl.errors.InputError, match=message):
            sl.from_equinox(make, EXAMPLE, num_classes=3)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, -0.5, float("nan")])
def test_a_confidence_is_a_probability(confidence):
    for interval in (
        lambda: sl.t_interval([1.0, 2.0, 3.0, 4.0], confidence=confidence),
        lambda: sl.paired_difference([1.0, 2.0], [3.0, 4.0], confidence=confidence),
    ):
        with pytest.raises(sl.errors.InputError, match="expected a probability between 0 and 1"):
            interval()


def test_words_have_no_interval():
    with pytest.raises(sl.errors.InputError, match="expected one number per member"):
        sl.t_interval("abc")


@pytest.mark.parametrize("num_members", [0, -1])
def test_cores_are_shared_out_among_a_number_of_members(num_members):
    with pytest.raises(sl.errors.InputError, match="num_members"):
        sl.use_cpu_cores(num_members)


def test_an_update_of_another_model_is_refused():
    model = sl.mlp(in_size=4, hidden_sizes=(3,), num_classes=2, num_aux=2)
    other = sl.mlp(in_size=4, hidden_sizes=(5,), num_classes=2, num_aux=2)
    reference, update = (network.init(jax.random.key(0)) for network in (model, other))
    with pytest.raises(sl.errors.InputError, match=r"update: expected the shapes of the reference.*\(4, 3\).*\(4, 5\)"):
        sl.theory.first_step(model, reference, update, jnp.ones((6, 4)))
