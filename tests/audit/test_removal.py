"""Removal, projection, pins and the tangent model, against linear algebra on small models."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import flatten_util

from sublim_jax import errors, losses
from sublim_jax.audit import projection, removal, tangent
from sublim_jax.models import mlp

SPEC = mlp.MLPSpec(in_size=5, hidden_sizes=(7,), num_classes=3, num_aux=4, activation="tanh")
IMAGES = jax.random.normal(jax.random.key(9), (40, 5))
LABELS = jnp.arange(40) % 3


def trait_loss(params):
    return losses.cross_entropy(SPEC.apply(params, IMAGES)[:, :3], LABELS)


def flat(tree):
    return np.asarray(flatten_util.ravel_pytree(tree)[0], float)


def three(seed):
    """A start, a student and a direction, all different."""
    return (SPEC.init(jax.random.key(seed + place)) for place in range(3))


@given(seed=st.integers(0, 2**31), dose=st.floats(0, 3))
def test_removal_is_a_projection_of_the_displacement(seed, dose):
    start, student, direction = three(seed)
    removed = flat(removal.remove(student, start, direction, dose=dose)) - flat(start)
    moved, along = flat(student) - flat(start), flat(direction)
    np.testing.assert_allclose(removed @ along, (1 - dose) * (moved @ along), atol=1e-4 * along @ along)
    across = removed - (removed @ along) / (along @ along) * along
    np.testing.assert_allclose(across, moved - (moved @ along) / (along @ along) * along, atol=1e-5)


def test_by_tensor_each_tensor_loses_its_own_component():
    start, student, direction = three(4)
    removed = removal.remove(student, start, direction, by="tensor")
    for leaf, begin, along in zip(*map(jax.tree.leaves, (removed, start, direction)), strict=True):
        length = max(float(jnp.linalg.norm(along)), 1e-6)
        assert abs(float(jnp.vdot(leaf - begin, along))) / length < 1e-5
    whole = removal.remove(student, start, direction)
    assert not np.allclose(flat(whole), flat(removed), atol=1e-3)


@pytest.mark.parametrize("by", ["model", "tensor"])
def test_a_direction_of_zeros_removes_nothing(by):
    start, student, direction = three(5)
    unchanged = removal.remove(student, start, jax.tree.map(jnp.zeros_like, direction), by=by)
    np.testing.assert_array_equal(flat(unchanged), flat(student))


def test_subtracting_the_whole_displacement_gives_the_start():
    start, student, _ = three(6)
    moved = optax.tree.sub(student, start)
    np.testing.assert_allclose(flat(removal.subtract(student, moved)), flat(start), atol=1e-6)
    np.testing.assert_allclose(
        flat(removal.subtract(student, moved, dose=0.25)), flat(student) - 0.25 * flat(moved), atol=1e-6
    )


def test_the_dose_is_the_smallest_that_reaches_the_wanted_loss():
    """The loss of a quadratic trait grows by the square of the dose, so the dose is known."""
    edits = []

    def edit(dose):
        edits.append(dose)
        return jnp.asarray(dose)

    chosen = removal.choose_dose(edit, lambda params: params**2, wanted=3.9, doses=(0.0, 1.0, 1.9, 2.0, 3.0))
    assert (chosen.dose, chosen.wanted) == (2.0, 3.9)
    assert edits == [0.0, 1.0, 1.9, 2.0]
    assert chosen.losses == pytest.approx({0.0: 0.0, 1.0: 1.0, 1.9: 3.61, 2.0: 4.0})


@given(root=st.floats(0.02, 7.9), num_halvings=st.integers(0, 6))
def test_halvings_close_in_on_the_smallest_dose(root, num_halvings):
    """Of a loss that rises through the wanted one at `root`, the dose is the first point at or above it of a grid that
    is as fine as the halvings make it."""
    chosen = removal.choose_dose(
        lambda dose: dose, lambda params: np.tanh(params - root), wanted=0.0, doses=(0.0, 1.0, 2.0, 8.0),
        num_halvings=num_halvings,
    )  # fmt: skip
    above = next(dose for dose in (1.0, 2.0, 8.0) if dose >= root)
    below = {1.0: 0.0, 2.0: 1.0, 8.0: 2.0}[above]
    grid = np.linspace(below, above, 2**num_halvings + 1)
    assert chosen.dose == chosen.params == grid[grid >= root][0]
    assert chosen.losses[chosen.dose] >= 0
    assert len(chosen.losses) == [1.0, 2.0, 8.0].index(above) + 2 + num_halvings


def test_a_first_dose_that_suffices_is_not_halved():
    chosen = removal.choose_dose(lambda dose: dose, lambda params: 1.0, wanted=0.5, doses=(0.0, 1.0), num_halvings=3)
    assert (chosen.dose, chosen.losses) == (0.0, {0.0: 1.0})


def test_controls_are_as_long_as_what_they_control():
    displacement = jax.tree.map(lambda leaf: 3 * leaf, SPEC.init(jax.random.key(1)))
    drawn, again = (removal.random_like(jax.random.key(seed), displacement) for seed in (2, 3))
    for leaf, moved in zip(*map(jax.tree.leaves, (drawn, displacement)), strict=True):
        np.testing.assert_allclose(jnp.linalg.norm(leaf), jnp.linalg.norm(moved), rtol=1e-5)
    cosine = flat(drawn) @ flat(displacement) / (flat(displacement) @ flat(displacement))
    assert abs(cosine) < 4 / flat(drawn).size ** 0.5
    assert not np.allclose(flat(drawn), flat(again))
    direction = SPEC.init(jax.random.key(4))
    scaled = removal.as_long_as(direction, displacement)
    ratio = np.linalg.norm(flat(displacement)) / np.linalg.norm(flat(direction))
    np.testing.assert_allclose(flat(scaled), ratio * flat(direction), rtol=1e-5)
    with pytest.raises(errors.InputError, match="a direction of zeros has no length"):
        removal.as_long_as(jax.tree.map(jnp.zeros_like, direction), displacement)


@pytest.mark.parametrize(
    ("doses", "value", "message"),
    [
        ((), 1.0, "expected increasing numbers"),
        ((1.0, 0.5), 1.0, "expected increasing numbers"),
        ((-1.0,), 1.0, "expected increasing numbers"),
        ((0.0,), np.nan, "not a finite number of nats"),
        ((0.0, 2.0), 1.0, "no dose up to 2 brings the trait's loss to 5 nats; the largest leaves it at 1"),
    ],
)
def test_doses_that_lead_nowhere_are_refused(doses, value, message):
    with pytest.raises(errors.InputError, match=message) as refused:
        removal.choose_dose(lambda dose: dose, lambda params: value, wanted=5.0, doses=doses)
    assert isinstance(refused.value, errors.DoseError) == (value == 1.0 and doses == (0.0, 2.0))


@given(seed=st.integers(0, 2**31), strength=st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_a_projected_update_does_not_lower_the_trait_to_first_order(seed, strength):
    params, updates, gradient = three(seed)
    transformation = projection.project(lambda params, count: gradient, strength=strength)
    projected, _ = transformation.update(updates, transformation.init(params), params)
    before, along = flat(updates) @ flat(gradient), flat(projected) @ flat(gradient)
    scale = 1e-5 * np.linalg.norm(flat(updates)) * np.linalg.norm(flat(gradient))
    assert along == pytest.approx(before if before > 0 else (1 - strength) * before, abs=scale)
    if before > 0:
        np.testing.assert_array_equal(flat(projected), flat(updates))


def test_projection_counts_updates_and_knows_the_present_parameters():
    seen = []

    def gradient(params, count):
        seen.append((float(params), int(count)))
        return jnp.asarray(1.0)

    transformation = optax.chain(optax.sgd(0.5), projection.project(gradient))
    params = jnp.asarray(4.0)
    state = transformation.init(params)
    for _ in range(2):
        updates, state = transformation.update(jnp.asarray(-1.0), state, params)  # raises the trait: unchanged
        params = optax.apply_updates(params, updates)
    assert seen == [(4.0, 0), (4.5, 1)]


def test_training_with_projection_keeps_the_trait_out_and_learns_the_rest():
    """Two parameters share a loss; the trait is the first one, which would fall without projection."""
    trait = jax.grad(lambda params: params[0])

    def data(params):
        return (params[0] + 1) ** 2 + (params[1] - 2) ** 2

    def trained(optimizer):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(data)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (jnp.zeros(2), optimizer.init(jnp.zeros(2))), None, length=60)
        return np.asarray(params)

    np.testing.assert_allclose(trained(optax.sgd(0.1)), [-1, 2], atol=1e-4)
    guarded = optax.chain(optax.sgd(0.1), projection.project(lambda params, count: trait(params)))
    np.testing.assert_allclose(trained(guarded), [0, 2], atol=1e-4)


def test_a_pin_is_the_divergence_from_the_starts_answers():
    start, student, _ = three(8)

    def answers(params):
        return SPEC.apply(params, IMAGES)[:, :3]

    penalty = projection.pin(answers, start, strength=2.5)
    assert float(penalty(start)) == pytest.approx(0, abs=1e-6)
    p, q = (np.exp(np.asarray(jax.nn.log_softmax(answers(each)), float)) for each in (start, student))
    assert float(penalty(student)) == pytest.approx(2.5 * np.mean(np.sum(p * np.log(p / q), axis=1)), rel=1e-4)


@pytest.mark.parametrize("strength", [-1.0, np.nan])
def test_a_negative_strength_is_refused(strength):
    with pytest.raises(errors.InputError, match="expected 0 or more"):
        projection.project(lambda params, count: params, strength=strength)
    with pytest.raises(errors.InputError, match="expected 0 or more"):
        projection.pin(lambda params: params, jnp.zeros(2), strength=strength)


def test_projection_needs_the_parameters():
    transformation = projection.project(lambda params, count: params)
    with pytest.raises(errors.InputError, match="needs the parameters"):
        transformation.update(jnp.zeros(2), transformation.init(jnp.zeros(2)))


def test_the_tangent_model_is_the_first_order_of_the_model():
    start, direction, _ = three(11)
    small = jax.tree.map(lambda leaf: 1e-3 * leaf, direction)
    moved = tangent.TangentParams(start, small)
    exact = SPEC.apply(tangent.end(moved), IMAGES)
    linear = tangent.apply(SPEC, moved, IMAGES)
    first = np.abs(np.asarray(linear - SPEC.apply(start, IMAGES))).max()
    assert first > 1e-3
    np.testing.assert_allclose(linear, exact, atol=1e-2 * first)  # the second order is a thousandth of the first
    doubled = tangent.apply(SPEC, tangent.TangentParams(start, jax.tree.map(lambda leaf: 2 * leaf, small)), IMAGES)
    np.testing.assert_allclose(doubled - linear, linear - SPEC.apply(start, IMAGES), atol=1e-5)


def test_only_the_displacement_is_trained():
    start = SPEC.init(jax.random.key(1))
    gradient = jax.grad(lambda params: jnp.sum(tangent.apply(SPEC, params, IMAGES)[:, 3:] ** 2))(tangent.at(start))
    assert np.all(flat(gradient.start) == 0)
    assert np.any(flat(gradient.displacement) != 0)
    plain = jax.grad(lambda params: jnp.sum(SPEC.apply(params, IMAGES)[:, 3:] ** 2))(start)
    np.testing.assert_allclose(flat(gradient.displacement), flat(plain), rtol=1e-4, atol=1e-4)


def test_projection_is_blind_where_the_traits_gradient_is_zero():
    """A trait's loss of -x y at (0, 0), where its gradient is zero: the update (1, 1) passes, and the loss falls."""

    def loss(params):
        return -params[0] * params[1]

    transformation = projection.project(lambda params, count: jax.grad(loss)(params))
    start = jnp.zeros(2)
    projected, _ = transformation.update(jnp.ones(2), transformation.init(start), start)
    np.testing.assert_array_equal(projected, [1.0, 1.0])
    assert loss(start + 0.1 * projected) == pytest.approx(-0.01)
    # One step away the gradient is no longer zero, and the same update no longer passes.
    stopped, _ = transformation.update(jnp.ones(2), transformation.init(start), jnp.array([0.1, 0.1]))
    np.testing.assert_allclose(stopped, [0.0, 0.0], atol=1e-7)


def test_in_the_tangent_model_displacements_add_as_targets_do():
    """Squared error, the same batches and rates: an auditor's displacement of the trait's targets alone leaves the
    student of the wanted targets. In the network itself it does not."""
    start = SPEC.init(jax.random.key(2))
    outputs = SPEC.apply(start, IMAGES)
    wanted, trait = (jax.random.normal(jax.random.key(seed), outputs.shape) for seed in (3, 4))

    def remainder(apply):
        """What is left of the student's displacement beside the wanted one's, and that one."""

        @jax.jit
        def displacement(targets):
            """Of three steps on alternating halves, at two rates."""
            moved = tangent.at(start).displacement
            for half, rate in ((slice(0, None, 2), 0.1), (slice(1, None, 2), 0.1), (slice(0, None, 2), 0.3)):

                def loss(moved, half=half):
                    shown = apply(tangent.TangentParams(start, moved), IMAGES[half])
                    return jnp.mean((shown - (outputs + targets)[half]) ** 2)

                moved = jax.tree.map(lambda leaf, g, rate=rate: leaf - rate * g, moved, jax.grad(loss)(moved))
            return moved

        student, auditor, alone = (displacement(targets) for targets in (wanted + trait, trait, wanted))
        cleaned = removal.subtract(tangent.end(tangent.TangentParams(start, student)), auditor)
        return flat(optax.tree.sub(cleaned, start)) - flat(alone), flat(alone)

    linear, alone = remainder(lambda params, images: tangent.apply(SPEC, params, images))
    assert np.linalg.norm(linear) < 1e-5 * np.linalg.norm(alone)  # rounding
    curved, alone = remainder(lambda params, images: SPEC.apply(tangent.end(params), images))
    assert np.linalg.norm(curved) > 1e-2 * np.linalg.norm(alone)
