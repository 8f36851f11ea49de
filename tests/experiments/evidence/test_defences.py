"""The study `defences`: the bed's parts do not overlap, targets hide what they should, doses are chosen, rows run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.evidence import defence_bed, defences
from experiments.evidence.defence_bed import HIDDEN, Digits, Knobs
from experiments.study import Source

ANSWERS = jnp.asarray(np.random.default_rng(0).standard_normal((7, 20)), jnp.float32)


def visible(targets):
    return np.asarray(targets) != np.float32(HIDDEN)


def test_no_image_has_two_purposes(small_digits):
    bed = defence_bed.read(small_digits, num_probes=30, num_lessons=20)
    trained = [bed.trait, bed.auditor, bed.probes, bed.lessons]
    rows = [tuple(np.asarray(image).tolist()) for part in trained for image in part.images]
    total = int(np.sum(small_digits.train_labels >= 5))
    assert len(rows) == total
    assert len(set(rows)) == len({tuple(i.tolist()) for i in small_digits.train_images[small_digits.train_labels >= 5]
                                  .reshape(total, -1)})  # fmt: skip
    assert (len(bed.probes.images), len(bed.lessons.images)) == (30, 20)
    assert len(bed.wanted.images) + total == len(small_digits.train_labels)
    for digits in (*trained, bed.wanted, bed.wanted_test, bed.trait_test):
        assert set(np.unique(digits.labels)) <= set(range(5))


def test_students_never_see_the_traits_logits():
    assert visible(defences.shown(ANSWERS)).all(axis=0).tolist() == [True] * 5 + [False] * 5 + [True] * 10
    assert (
        visible(defences.shown(ANSWERS, 3)).any(axis=0).tolist() == [True] * 5 + [False] * 5 + [True] * 3 + [False] * 7
    )
    labels = defences._labels(Digits(jnp.zeros((3, 4)), jnp.array([4, 0, 2])), 3)[1]
    assert visible(labels).all(axis=0).tolist() == [True] * 5 + [False] * 15
    assert np.argmax(labels, axis=1).tolist() == [4, 0, 2]


def test_largest_and_hard_targets():
    targets = defences.shown(ANSWERS)
    kept = defences.largest(targets, 2)
    for row, answers in zip(visible(kept), np.asarray(targets), strict=True):
        assert set(np.flatnonzero(row)) == set(np.argsort(answers)[-2:])
    certain = np.asarray(defences.hard(targets))
    assert np.argmax(certain, axis=1).tolist() == np.argmax(ANSWERS[:, :5], axis=1).tolist()
    assert np.all(visible(certain).sum(axis=1) == 5)


@pytest.mark.slow
def test_a_truncated_direction_keeps_the_best_matrix_of_its_rank():
    direction = defence_bed.SPEC.init(jax.random.key(0))
    kept = defences.truncated(direction, 3)
    values = np.linalg.svd(np.asarray(kept[1].weight), compute_uv=False)
    expected = np.linalg.svd(np.asarray(direction[1].weight), compute_uv=False)
    np.testing.assert_allclose(values[:3], expected[:3], rtol=1e-4)
    assert values[3] < 1e-4 * values[0]
    np.testing.assert_array_equal(kept[1].bias, direction[1].bias)


@pytest.mark.slow
def test_influence_is_the_product_of_gradients():
    spec = defence_bed.SPEC
    params, probes = spec.init(jax.random.key(1)), Digits(jax.random.normal(jax.random.key(2), (9, 784)),
                                                          jnp.arange(9) % 5)  # fmt: skip
    images = jax.random.normal(jax.random.key(3), (2, 784))
    targets = defences.shown(spec.apply(spec.init(jax.random.key(4)), images))
    influence = defence_bed.row_influence(params, images, targets, probes)

    def row_loss(params, index):
        seen = visible(targets[0])
        p, q = (jax.nn.log_softmax(each[index][seen]) for each in (targets, spec.apply(params, images)))
        return jnp.sum(jnp.exp(p) * (p - q))

    trait = jax.grad(lambda params: defence_bed.class_loss(params, probes, trait=True))(params)
    for index in range(2):
        own = jax.grad(row_loss)(params, index)
        expected = optax.tree.vdot(own[:-1], trait[:-1])  # the readout has no part
        assert float(influence[index]) == pytest.approx(float(expected), rel=1e-3)


def test_rows_have_names_of_their_own_and_an_undefended_student():
    names = [row.name for row in defences.DEFENCES]
    assert len(set(names)) == len(names)
    assert {"none", "teacher", "another start", "labels of 0 to 4, no teacher"} <= set(names)
    assert set(defences.describe(defences.DefencesConfig())["rows"]) == set(names)


def distil(guard="none", num_steps=6, **knobs):
    spec = defence_bed.SPEC
    start = spec.init(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (64, 784))
    targets = defences.shown(spec.apply(spec.init(jax.random.key(2)), images))
    probes = Digits(jax.random.normal(jax.random.key(3), (32, 784)), jnp.arange(32) % 5)
    student = defence_bed.distill(
        jax.random.key(4), start, images, targets, probes, Knobs(**({"num_probes": 32.0} | knobs)), guard=guard,
        num_steps=num_steps, batch_size=32, learning_rate=1e-3,
    )  # fmt: skip
    return start, student, probes


@pytest.mark.slow
def test_knobs_of_a_student():
    start, plain, _ = distil()
    np.testing.assert_array_equal(plain[-1].weight[5:10], start[-1].weight[5:10])
    _, frozen, _ = distil(first_layer=0.0)
    np.testing.assert_array_equal(frozen[0].weight, start[0].weight)
    assert np.any(np.asarray(frozen[1].weight != start[1].weight))
    _, held, _ = distil(pull=1.0)
    np.testing.assert_allclose(held[0].weight, start[0].weight, atol=1e-7)
    _, nearer, _ = distil(pull=0.3)
    distances = [float(jnp.linalg.norm(each[0].weight - start[0].weight)) for each in (nearer, plain)]
    assert 0 < distances[0] < 0.8 * distances[1]


@pytest.mark.slow
@pytest.mark.parametrize("guard", ["project", "pin"])
def test_a_guard_of_no_strength_changes_nothing_and_one_of_strength_holds_the_trait(guard):
    start, plain, probes = distil()
    _, unguarded, _ = distil(guard, strength=0.0)
    np.testing.assert_allclose(unguarded[0].weight, plain[0].weight, atol=2e-6)
    _, plain, _ = distil(num_steps=60)
    _, guarded, _ = distil(guard, num_steps=60, strength=1.0 if guard == "project" else 10.0)

    def moved(params):
        change = (defence_bed.SPEC.apply(each, probes.images)[:, 5:10] for each in (params, start))
        return float(jnp.mean(jnp.abs(jnp.subtract(*map(jax.nn.log_softmax, change)))))

    if guard == "pin":
        assert moved(guarded) < 0.7 * moved(plain)
    else:
        loss = [float(defence_bed.class_loss(each, probes, trait=True)) for each in (guarded, plain)]
        assert loss[0] > loss[1]


@pytest.mark.slow
def test_a_reference_end_to_end(small_digits, monkeypatch):
    chosen = ("none", "untrained, own start", "teacher", "subtract the auditor's displacement, chosen",
              "drop rows of high influence, 50%", "real images of 0 to 4", "mix in another family, 25%")  # fmt: skip
    monkeypatch.setattr(defences, "DEFENCES", tuple(row for row in defences.DEFENCES if row.name in chosen))
    config = defences.DefencesConfig(
        num_references=1, num_rows=64, batch_size=32, num_teacher_steps=20, num_student_steps=5, num_auditor_steps=5,
        num_probes=20, num_lessons=10,
    )  # fmt: skip
    results = defences.measure(Source("", "", None, small_digits), config, "reference 0", lambda activity: None)
    assert set(results) == set(chosen)
    assert results["teacher"]["wanted"]["accuracy"] > results["untrained, own start"]["wanted"]["accuracy"]
    for entry in results.values():
        assert len(entry["relearnt"]) == len(defence_bed.CHECKPOINTS)
        assert entry["relearnt"][0] == pytest.approx(entry["trait"]["accuracy"], abs=1e-6)
