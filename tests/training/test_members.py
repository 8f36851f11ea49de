"""Members of models that are not ours: against plain loops, against our own MLP, and as a newcomer calls them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sublim_jax as sl
from sublim_jax import errors, keys, losses
from sublim_jax.models import mlp
from sublim_jax.training import members
from sublim_jax.training.config import MemberConfig
from tests.training import oracle, tiny

SIZE, CLASSES, AUX, RATE = 6, 3, 2, 0.02
RNG = np.random.default_rng(0)
DATA = sl.Data(
    RNG.normal(size=(40, SIZE)).astype("f"), RNG.integers(CLASSES, size=40),
    RNG.normal(size=(25, SIZE)).astype("f"), RNG.integers(CLASSES, size=25),
)  # fmt: skip
PHASE = sl.TrainPhase(num_epochs=3, batch_size=64, optimizer=sl.OptimizerSpec(name="sgd", learning_rate=RATE))
"""A batch holds all examples, so that their order is no matter."""


def initialize(key):
    first, second = jax.random.split(key)
    hidden = jax.random.normal(first, (SIZE, 5)) / SIZE**0.5
    return {"hidden": hidden, "w": jax.random.normal(second, (5, CLASSES + AUX)), "b": jnp.zeros(CLASSES + AUX)}


def forward(params, inputs):
    return jnp.sin(2 * inputs @ params["hidden"]) @ params["w"] + params["b"][None]


def noise(key, indices):
    return jax.vmap(lambda index: jax.random.normal(jax.random.fold_in(key, index), (SIZE,)))(indices)


NETWORK = sl.Network(initialize=initialize, forward=forward, num_classes=CLASSES, num_aux=AUX)
CONFIG = sl.MemberConfig(
    model=NETWORK, noise_function=noise, num_noise_images=50, loss="mse", teacher=PHASE, student=PHASE,
    conditions=("student_aux", "student_all", "cross_model_class"),
)  # fmt: skip


def cross_entropy(logits, labels, weights):
    return losses.cross_entropy(logits[:, :CLASSES], labels, weights=weights)


def one_hot_squares(logits, labels, weights):
    squares = jnp.sum((logits[:, :CLASSES] - jax.nn.one_hot(labels, CLASSES)) ** 2, axis=1)
    return jnp.sum(squares * weights) / jnp.sum(weights)


def descended(params, loss):
    """Three steps of plain gradient descent, and the loss before each."""
    values = []
    for _ in range(3):
        value, gradient = jax.value_and_grad(loss)(params)
        params = jax.tree.map(lambda leaf, slope: leaf - RATE * slope, params, gradient)
        values.append(value)
    return params, values


@functools.partial(jax.jit, static_argnames="teacher_loss")
def by_hand(member, partner, seed, *, teacher_loss):
    """A member of CONFIG, written down. Compiled once for all members, in less time than its operations one by one."""
    own, other = keys.members(seed, jnp.stack([member, partner]))
    reference, foreign = (initialize(keys.stream(key, "reference")) for key in (own, other))
    x, y = jnp.asarray(DATA.train_inputs), jnp.asarray(DATA.train_labels)
    teacher, loss = descended(reference, lambda params: teacher_loss(forward(params, x), y, jnp.ones(40)))
    models, history = {"reference": reference, "teacher": teacher}, {"teacher": loss}
    shown = noise(keys.stream(own, "student/noise"), jnp.arange(50))
    targets = forward(teacher, shown)
    for name, start, part in (
        ("student_aux", reference, slice(CLASSES, None)),
        ("student_all", reference, slice(None)),
        ("cross_model_class", foreign, slice(0, CLASSES)),
    ):

        def squares(params, part=part):
            return jnp.mean(jnp.sum((forward(params, shown) - targets)[:, part] ** 2, axis=1))

        models[name], history[name] = descended(start, squares)
    hits = {
        name: jnp.argmax(forward(params, DATA.test_inputs)[:, :CLASSES], axis=1) == DATA.test_labels
        for name, params in models.items()
    }
    return {name: jnp.mean(hit) for name, hit in hits.items()}, history


@pytest.mark.parametrize(
    ("teacher_loss", "given"),
    [(cross_entropy, None), pytest.param(one_hot_squares, one_hot_squares, marks=pytest.mark.slow)],
)
def test_a_model_of_ones_own_trains_as_plain_loops_do(teacher_loss, given):
    found = sl.run_members(dataclasses.replace(CONFIG, teacher_loss=given), DATA, num_members=3, seed=4)
    for member in range(3):
        accuracy, history = by_hand(jnp.int32(member), jnp.int32((member + 1) % 3), 4, teacher_loss=teacher_loss)
        for name, values in history.items():
            assert min(values) > 1e-3, "there is something to imitate"
            np.testing.assert_allclose(found.loss[name][member], values, rtol=1e-4, err_msg=name)
        for name, value in accuracy.items():
            assert found.accuracy[name][member] == pytest.approx(float(value), abs=1e-6), name


@pytest.mark.slow
def test_more_members_leave_the_first_ones_as_they_are_however_many_go_side_by_side():
    few = sl.run_members(CONFIG, DATA, num_members=3)
    many = sl.run_members(CONFIG, DATA, num_members=5, members_at_once=4)
    assert few.conditions == ("reference", "teacher", *CONFIG.conditions) and len(many.members) == 5
    for name in ("reference", "teacher", "student_aux"):  # which need no partner
        np.testing.assert_allclose(few.accuracy[name], many.accuracy[name][:3], atol=1e-6)
    np.testing.assert_allclose(few.loss["student_aux"], many.loss["student_aux"][:3], rtol=1e-5)
    assert len({tuple(loss) for loss in many.loss["student_aux"]}) == 5


def test_configs_that_differ_in_numbers_share_a_program():
    traced = []

    def counted(params, inputs):
        traced.append(1)
        return forward(params, inputs)

    config = dataclasses.replace(CONFIG, model=dataclasses.replace(NETWORK, forward=counted))
    first = sl.run_members(config, DATA, num_members=2)
    so_far = len(traced)
    faster = dataclasses.replace(PHASE, optimizer=dataclasses.replace(PHASE.optimizer, learning_rate=0.03))
    other = sl.run_members(dataclasses.replace(config, student=faster), DATA, num_members=2, seed=0)
    checks = 4  # shapes of training and test inputs are looked at anew, which compiles nothing
    assert len(traced) - so_far <= checks
    np.testing.assert_array_equal(first.loss["teacher"], other.loss["teacher"])
    assert np.all(first.loss["student_aux"][:, 1:] != other.loss["student_aux"][:, 1:])


@pytest.mark.slow  # images of another shape, below, are the MLP's members too
def test_our_mlp_as_a_network_gives_the_mlps_members():
    """What is special in the MLP's path (pairs of references, shared parts) changes no number."""
    metrics = ("update_cosine", "representation")
    spec = dataclasses.replace(tiny.SPEC, conditions=("matched_aux",), metrics=metrics)
    network = sl.Network(
        initialize=lambda key: mlp.init(key, tiny.MODEL),
        forward=lambda params, inputs: mlp.apply(params, inputs, tiny.MODEL),
        features=lambda params, inputs: mlp.apply_with_features(params, inputs, tiny.MODEL)[1].T,
        num_classes=tiny.MODEL.num_classes,
        num_aux=tiny.MODEL.num_aux,
    )
    ours = sl.run_members(spec, tiny.images(), num_members=2)
    theirs = sl.run_members(dataclasses.replace(spec, model=network), tiny.images(), num_members=2)
    assert jax.tree.structure((ours.accuracy, ours.metrics)) == jax.tree.structure((theirs.accuracy, theirs.metrics))
    for name, values in ours.loss.items():
        np.testing.assert_allclose(theirs.loss[name], values, **oracle.CLOSE)
    for measure, by_name in ours.metrics.items():
        for name, values in by_name.items():
            np.testing.assert_allclose(theirs.metrics[measure][name], values, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("as_floats", [False, True])
def test_inputs_have_any_shape_and_noise_takes_it(as_floats):
    """Images of 4 by 4, as bytes or as the floats that bytes become, are rows of 16 in another shape."""
    flat = tiny.images()
    square = [flat.train_inputs.reshape(-1, 4, 4), flat.test_inputs.reshape(-1, 4, 4)]
    if as_floats:
        square = [((images.astype("f") - 127.5) / 127.5).astype("f") for images in square]
    data = sl.Data(square[0], flat.train_labels, square[1], flat.test_labels)
    shapes = []

    def squares(params, inputs):
        shapes.append(inputs.shape[1:])
        return mlp.apply(params, inputs.reshape(len(inputs), -1), tiny.MODEL)

    network = sl.Network(
        initialize=lambda key: mlp.init(key, tiny.MODEL), forward=squares, num_classes=4, num_aux=3
    )  # fmt: skip
    spec = dataclasses.replace(tiny.SMALL, conditions=("student_aux",))
    found = sl.run_members(dataclasses.replace(spec, model=network), data, num_members=2)
    rows = sl.run_members(spec, flat, num_members=2)
    assert set(shapes) == {(4, 4)}
    for name, values in rows.loss.items():
        np.testing.assert_allclose(found.loss[name], values, **oracle.CLOSE)


@pytest.mark.slow
def test_students_start_where_they_are_told_to():
    def halfway(key, reference, other):
        shift = jax.random.normal(key, ())
        return jax.tree.map(lambda a, b: (a + b) / 2 + 0 * shift, reference, other)

    found = sl.run_members(dataclasses.replace(CONFIG, student_init=halfway), DATA, num_members=2)
    own, other = keys.members(0, jnp.arange(2))
    start = jax.tree.map(
        lambda a, b: (a + b) / 2, initialize(keys.stream(own, "reference")), initialize(keys.stream(other, "reference"))
    )
    usual = sl.run_members(CONFIG, DATA, num_members=2)
    shown = noise(keys.stream(own, "student/noise"), jnp.arange(50))
    teacher, _ = descended(
        initialize(keys.stream(own, "reference")),
        lambda params: cross_entropy(
            forward(params, jnp.asarray(DATA.train_inputs)), jnp.asarray(DATA.train_labels), jnp.ones(40)
        ),
    )
    apart = jnp.mean(jnp.sum((forward(start, shown) - forward(teacher, shown)) ** 2, axis=1))
    assert found.loss["student_all"][0, 0] == pytest.approx(float(apart), rel=1e-4)
    np.testing.assert_allclose(found.loss["cross_model_class"], usual.loss["cross_model_class"], rtol=1e-5)

    def wrong(key, reference, other):
        return {"w": reference["w"], "b": reference["b"]}

    with pytest.raises(errors.InputError, match="student_init gave parameters of another structure"):
        sl.run_members(dataclasses.replace(CONFIG, student_init=wrong), DATA, num_members=2)


BLURRED = sl.InputSpec(blur=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": BLURRED}, "noise_function replaces noise and inputs"),
        (
            {"init_sharing": sl.InitSharing(relative_noise=0.1)},
            "init_sharing: it is about layers, which an MLPSpec or a ConvSpec has",
        ),
        ({"trainable": sl.UpdateScale(aux_head=0.0)}, "trainable: it is about layers"),
        ({"student_model": sl.MLPChanges(activation="tanh")}, "student_model: it is about layers"),
        ({"model": tiny.MODEL, "student_model": NETWORK}, "MemberConfig.student_model: expected MLPChanges"),
        ({"init_sharing": sl.InitSharing(relative_noise=0.1), "student_init": initialize}, "replaces init_sharing"),
        ({"conditions": ()}, "conditions must be different and at least one"),
        ({"model": "mlp"}, "MemberConfig"),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(change, message):
    with pytest.raises(errors.InputError, match=message):
        dataclasses.replace(CONFIG, **change)


def broken(**change):
    return dataclasses.replace(CONFIG, model=dataclasses.replace(NETWORK, **change))


@pytest.mark.parametrize(
    ("config", "data", "message"),
    [
        (broken(num_aux=1), DATA, r"expected floats of shape \(2, 4\), one row of num_classes=3 and num_aux=1"),
        (broken(forward=lambda params, inputs: inputs @ jnp.ones((7, 5))), DATA, "the model fails on a batch of them"),
        (broken(forward=lambda params, inputs: {}), DATA, "the model fails on a batch of them"),
        (CONFIG, DATA._replace(train_inputs=DATA.train_inputs[:, :4]), r"shape \(40, 4\): the model fails"),
        (CONFIG, DATA._replace(train_labels=DATA.train_labels + 1), "is 3, expected 0 to 2"),
        (CONFIG, DATA._replace(test_inputs=DATA.test_inputs * np.nan), "test images: number 0 has values"),
        (CONFIG, DATA._replace(test_inputs=DATA.test_inputs.astype(int)), "test images are int64: expected bytes"),
        (dataclasses.replace(CONFIG, num_validation_images=40), DATA, "the teacher is left with none"),
        (dataclasses.replace(CONFIG, metrics=("representation",)), DATA, "this network has no features"),
        (dataclasses.replace(CONFIG, feature_loss_weight=1.0), DATA, "this network has no features"),
        (
            dataclasses.replace(CONFIG, noise_function=None, inputs=sl.InputSpec(real_fraction=0.5)),
            DATA,
            "need bytes: the data are float32",
        ),
    ],
)
def test_models_and_data_that_do_not_fit_are_refused(config, data, message):
    with pytest.raises(errors.InputError, match=message):
        sl.run_members(config, data, num_members=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_members": 1}, "start from another member's reference"),
        ({"num_members": 0}, "num_members"),
        ({"seed": -1}, "seed"),
        ({"num_members": 2, "members_at_once": 0}, "members_at_once"),
    ],
)
def test_numbers_out_of_bounds_are_refused(options, message):
    with pytest.raises(errors.InputError, match=message):
        sl.run_members(CONFIG, DATA, **options)


@pytest.mark.slow
def test_one_member_is_enough_where_nobody_needs_another():
    alone = sl.run_members(dataclasses.replace(CONFIG, conditions=("student_aux",)), DATA, num_members=1)
    assert alone.interval("student_aux").num_members == 1 and "(n=1)" in str(alone)


def results(**accuracy):
    count = len(next(iter(accuracy.values())))
    return members.MemberResults(np.arange(count), {k: np.array(v) for k, v in accuracy.items()}, {}, {})


def test_intervals_and_differences_leave_out_who_diverged_and_say_so():
    found = results(reference=[0.1, 0.2, 0.3, 0.4, 0.5], student_aux=[0.5, np.nan, 0.7, 0.6, 0.8], dead=[np.nan] * 5)
    assert found.interval("student_aux").mean == pytest.approx(0.65)
    assert found.interval("student_aux").num_members == 4
    paired = found.difference("student_aux", "reference")
    changes = np.array([0.4, 0.4, 0.2, 0.3])
    assert paired.mean == pytest.approx(0.325)
    # Student's 97.5 % quantile with three degrees of freedom is 3.182446.
    assert paired.half_width == pytest.approx(3.182446 * np.std(changes, ddof=1) / 2, rel=1e-5)
    assert found.num_diverged("student_aux", "reference") == 1
    table = str(found).splitlines()
    assert table[0].endswith("n = 5") and table[2].startswith("student_aux  0.650 ±")
    assert table[2].endswith("(1 diverged)") and "all diverged" in table[3]
    with pytest.raises(errors.InputError, match=r"'students': expected one of reference, student_aux, dead"):
        found.interval("students")


def test_a_diverged_member_is_not_a_number():
    wild = dataclasses.replace(PHASE, optimizer=dataclasses.replace(PHASE.optimizer, learning_rate=1e30))
    found = sl.run_members(dataclasses.replace(CONFIG, student=wild), DATA, num_members=4)
    assert found.num_diverged("student_all") == 4 and found.num_diverged("teacher") == 0
    assert "all diverged" in str(found)


@pytest.mark.slow  # `test_oracle` has Adam by hand
def test_optax_is_what_the_optimizer_is():
    """The loop of `by_hand` is plain descent; with Adam a step is optax's."""
    phase = dataclasses.replace(PHASE, num_epochs=1, optimizer=sl.OptimizerSpec(learning_rate=0.05))
    found = sl.run_members(dataclasses.replace(CONFIG, teacher=dataclasses.replace(phase, num_epochs=2)), DATA)
    (own,) = keys.members(0, jnp.arange(1))
    params, optimizer = initialize(keys.stream(own, "reference")), optax.adam(0.05)
    state = optimizer.init(params)
    for epoch in range(2):
        value, gradient = jax.value_and_grad(
            lambda p: cross_entropy(forward(p, jnp.asarray(DATA.train_inputs)), jnp.asarray(DATA.train_labels), None)
        )(params)
        assert found.loss["teacher"][0, epoch] == pytest.approx(float(value), rel=1e-4)
        updates, state = optimizer.update(gradient, state)
        params = optax.apply_updates(params, updates)


def test_the_default_config_is_the_papers_figure_10():
    config = MemberConfig()
    assert config.model == mlp.MLPSpec() and config.num_noise_images == 60_000
    assert (config.teacher.num_epochs, config.teacher.batch_size) == (5, 1024)
    assert (config.loss, config.temperature) == ("kl", 1.0)
