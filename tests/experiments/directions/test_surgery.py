"""Edits of one reference, against linear algebra on small networks, and the parts that beds are made of."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import flatten_util

from experiments.diffusion import judge
from experiments.directions import __main__ as directions_command
from experiments.directions import config as settings
from experiments.directions import digits, flow, language
from experiments.directions.config import DirectionsConfig
from experiments.directions.digits import Digits
from experiments.directions.lineage import AUDITOR, MEAN, OTHER_TRAIT, RANDOM, STRANGER, Edit, Lineage, Surgery, edits
from experiments.language import config as language_config
from experiments.study import Source
from sublim_jax import errors
from sublim_jax.audit import directions
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.local import decoder
from sublim_jax.models import mlp

SPEC = mlp.MLPSpec(in_size=6, hidden_sizes=(8, 5), num_classes=3, num_aux=2)
EPS = float(np.finfo(np.float32).eps)
TOY = DirectionsConfig(
    num_references=2, bases=(0, 1), ranks=(1, 2, 7), doses=(0.5, 1.0), num_neutral=20, pooling=7, hidden_sizes=(8, 6),
    num_aux=4, num_steps=2, batch_size=16, num_tested=30,
)  # fmt: skip


def moved(seed):
    """A displacement of the hidden layers, and of their biases."""
    drawn = jax.tree.map(lambda leaf: leaf + 0.1, SPEC.init(jax.random.key(seed)))
    return digits.hidden(drawn)


@pytest.fixture(scope="module")
def lineage():
    names = ("student", "teacher", AUDITOR, STRANGER, OTHER_TRAIT)
    displacements = {name: moved(seed + 1) for seed, name in enumerate(names)}
    reference = SPEC.init(jax.random.key(0))
    models = {"reference": reference} | {
        name: optax.tree.add(reference, displacements[name]) for name in ("student", "teacher", AUDITOR)
    }
    models["student"] = (*models["student"][:-1], jax.tree.map(lambda leaf: leaf + 1, reference[-1]))
    shifts = [directions.Shift(np.arange(1.0, size + 1), 0.5) for size in SPEC.hidden_sizes]
    return Lineage(
        models, displacements, digits.parts_of(reference), lambda params: {}, shifts, jax.random.key(9)
    )  # fmt: skip


@pytest.fixture(scope="module")
def surgery(lineage):
    return Surgery(lineage)


def change(surgery, edit, start="reference"):
    """What an edit adds to a model, layer by layer as matrices."""
    return directions.matrices(optax.tree.sub(surgery.make(edit), surgery.lineage.models[start]))


def svd_part(matrix, rank):
    values, right = np.linalg.eigh(matrix.T @ matrix)
    top = right[:, np.argsort(values)[::-1][:rank]]
    return matrix @ top @ top.T  # the rows' projection on the largest input directions


@pytest.mark.parametrize("source", ["student", "teacher"])
@pytest.mark.parametrize("rank", [1, 3])
def test_the_largest_directions_are_added_to_the_reference(surgery, source, rank):
    first, second, readout = change(surgery, Edit("kept", source, rank))
    whole = directions.matrices(surgery.lineage.displacements[source])
    np.testing.assert_allclose(first, svd_part(whole[0].astype(float), rank), atol=1e-5)  # float32 singular vectors
    np.testing.assert_allclose(second, svd_part(whole[1].astype(float), rank), atol=1e-5)
    assert not readout.any()


def test_what_is_removed_and_what_is_kept_make_the_displacement(surgery):
    kept, removed = (change(surgery, Edit(kind, "student", 2)) for kind in ("kept", "removed"))
    whole = change(surgery, Edit("yardstick", "student's matrices"))
    for one, two, both in zip(kept, removed, whole, strict=True):
        np.testing.assert_allclose(one + two, both, atol=20 * EPS)
    assert np.linalg.norm(kept[0]) > np.linalg.norm(removed[0]) / 2 > 0


@pytest.mark.parametrize("source", [AUDITOR, STRANGER, OTHER_TRAIT, RANDOM])
def test_inside_means_the_students_part_in_the_directions_of_another(surgery, source):
    parts = change(surgery, Edit("inside", source, 2))
    for number, (part, own) in enumerate(zip(parts[:2], surgery.moved, strict=True)):
        frame = surgery.singular[source][number]
        left, right = frame.left[:, :2], frame.right[:, :2]
        np.testing.assert_allclose(part, left @ left.T @ own @ right @ right.T, atol=1e-5)
        if source != RANDOM:  # the directions are those of its displacement
            theirs = directions.matrices(surgery.lineage.displacements[source])[number]
            np.testing.assert_allclose(left.T @ theirs @ right, np.diag(frame.values[:2]), atol=1e-4)
    assert not np.allclose(parts[0], surgery.moved[0], atol=0.01)


@pytest.mark.parametrize("source", [AUDITOR, STRANGER, OTHER_TRAIT, RANDOM])
def test_controls_of_removal_are_as_long_as_the_auditors_displacement(surgery, source):
    taken = [-matrix for matrix in change(surgery, Edit("subtracted", source, 0.5), "student")]
    own = directions.matrices(surgery.lineage.displacements[AUDITOR])

    def length(matrices):
        return sum(np.sum(matrix**2) for matrix in matrices) ** 0.5

    assert length(taken) == pytest.approx(length(own) / 2, rel=1e-4)
    theirs = own if source == RANDOM else directions.matrices(surgery.lineage.displacements[source])
    cosine = sum(np.sum(a * b) for a, b in zip(taken, theirs, strict=True)) / length(taken) / length(theirs)
    assert cosine == pytest.approx(1, abs=1e-4) if source != RANDOM else abs(cosine) < 0.5
    assert not taken[-1].any()


@pytest.mark.parametrize("layer", [0, 1])
def test_vectors_are_added_to_the_reference_and_taken_from_the_student(surgery, layer):
    models, vector = surgery.lineage.models, surgery.lineage.shifts[layer].vector
    for amount, start in ((2.0, "reference"), (-1.0, "student")):
        made = surgery.make(Edit("shifted", MEAN, amount, layer))
        expected = models[start][layer + 1].bias + amount * models[start][layer + 1].weight @ vector
        np.testing.assert_allclose(made[layer + 1].bias, expected, rtol=1e-5)
        others = [(a, b) for place, (a, b) in enumerate(zip(made, models[start], strict=True)) if place != layer + 1]
        assert all(np.array_equal(a.bias, b.bias) and np.array_equal(a.weight, b.weight) for a, b in others)
    drawn = surgery.vector(RANDOM, layer)
    assert np.linalg.norm(drawn) == pytest.approx(np.linalg.norm(vector), rel=1e-5)
    np.testing.assert_array_equal(drawn, surgery.vector(RANDOM, layer))


def test_every_edit_is_made_once_and_where_a_rank_is_below_the_matrix(surgery):
    config = dataclasses.replace(TOY, hidden_sizes=SPEC.hidden_sizes)
    rows = edits(config, "digits")
    assert len(set(rows.values())) == len(rows)
    assert {row.amount for row in rows.values() if row.kind == "kept"} == {1, 2}  # 7 is more than 5
    made = {name: np.asarray(flatten_util.ravel_pytree(surgery.make(row))[0]) for name, row in rows.items()}
    alike = [(one, two) for one in made for two in made if one < two and np.allclose(made[one], made[two], atol=1e-6)]
    # The fixture's teacher and auditor have moved in their hidden layers only.
    assert sorted(alike) == [("auditor", "auditor's matrices"), ("teacher", "teacher's matrices")]


def test_spectra_are_singular_values_of_every_matrix(surgery):
    spectra = surgery.spectra([1, 4])
    assert list(spectra) == ["student", "teacher", AUDITOR]
    second = np.linalg.svd(directions.matrices(surgery.lineage.displacements["teacher"])[1])[1]
    entry = spectra["teacher"][1]
    assert entry["matrix"] == "layer 2"
    np.testing.assert_allclose(entry["values"], second, rtol=1e-4)  # five digits are stored
    assert entry["participation"] == pytest.approx(np.sum(second**2) ** 2 / np.sum(second**4), rel=1e-4)
    assert entry["energy"] == pytest.approx(np.cumsum(second**2)[[0, 3]] / np.sum(second**2), rel=1e-4)
    flat = {
        name: np.asarray(flatten_util.ravel_pytree(each)[0]) for name, each in surgery.lineage.displacements.items()
    }
    cosines = surgery.cosines()
    assert list(cosines) == ["teacher", AUDITOR, STRANGER, OTHER_TRAIT]
    one, two = flat["student"], flat[OTHER_TRAIT]
    assert cosines[OTHER_TRAIT] == pytest.approx(one @ two / np.linalg.norm(one) / np.linalg.norm(two), rel=1e-3)


def test_b_is_read_from_permuted_images_by_logits_of_its_own():
    spec = mlp.MLPSpec(in_size=4, hidden_sizes=(), num_classes=20, num_aux=1)
    weight = np.zeros((21, 4), np.float32)
    weight[2, 0] = weight[13, 0] = 5.0  # a bright first pixel says 2 to A, and 3 to B
    params = (mlp.Dense(jnp.asarray(weight), jnp.zeros(21)),)
    pixels = jnp.asarray([[1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    order = jnp.asarray([3, 1, 2, 0])  # B's first pixel is the last one
    both = digits.accuracies(params, pixels, jnp.asarray([2, 3]), order, model=spec)
    np.testing.assert_allclose(both, [0.5, 0.5])
    np.testing.assert_allclose(digits.accuracies(params, pixels, jnp.asarray([2, 2]), order, model=spec), [0.5, 0.0])
    first, second = digits.two_losses(params, pixels, jnp.asarray([2, 3]), order, spec)
    sure, unsure = np.log(1 + 9 * np.exp(-5)), np.log(10)
    np.testing.assert_allclose([first, second], (sure + unsure) / 2, rtol=1e-5)


def test_no_image_is_the_teachers_and_the_auditors(small_digits):
    bed = Digits(Source("synthetic-digits", "this test", None, small_digits), TOY)
    splits = judge.split(small_digits, TOY.flow)
    np.testing.assert_array_equal(bed.lessons[0], splits.generators.plain.pixels[:100])
    np.testing.assert_array_equal(bed.auditors[0], splits.judge.plain.pixels)
    np.testing.assert_array_equal(bed.test[1], small_digits.test_labels[:30])
    assert sorted(np.asarray(bed.order)) == list(range(16)) and not np.array_equal(bed.order, np.arange(16))
    with pytest.raises(errors.InputError, match="the bed `digits` reads images"):
        Digits(Source("tiny", "", None), TOY)


@pytest.mark.parametrize("embedding", [False, True])
def test_a_decoder_is_taken_apart_and_put_together(embedding):
    own = decoder.init(jax.random.key(0), embedded.CONFIG)
    parts = language.parts(own, embedding=embedding)
    matrices = parts.matrices(own)
    assert len(matrices) == len(parts.names) == 12 + embedding
    np.testing.assert_array_equal(matrices[parts.names.index("up 2")], np.asarray(own.layers.up[1]).T)
    back = parts.displacement(matrices)
    np.testing.assert_array_equal(back.embedding, own.embedding if embedding else np.zeros_like(own.embedding))
    for name in language.MAPS:
        np.testing.assert_array_equal(getattr(back.layers, name), getattr(own.layers, name))
    assert not np.asarray(back.norm).any() and np.asarray(own.norm).any()
    moved = parts.steered(own, jnp.arange(32.0), 1)
    np.testing.assert_array_equal(moved.layers.down_bias, [np.zeros(32), np.arange(32)])


def test_random_directions_of_two_matrices_are_not_the_same(surgery):
    square = np.zeros((6, 6), np.float32)
    first, second = (surgery._random(number, square) for number in (0, 1))
    frames = (first.left, first.right, second.left, second.right)
    for place, frame in enumerate(frames):
        np.testing.assert_allclose(frame.T @ frame, np.eye(6), atol=20 * EPS)
        assert not any(np.allclose(frame, other, atol=0.1) for other in frames[:place])


def units_by_hand(params, inputs, activation):
    """Hidden units in double precision, layer by layer."""
    rows, units = np.asarray(inputs, float), []
    for layer in params[:-1]:
        rows = activation(rows @ np.asarray(layer.weight, float).T + np.asarray(layer.bias, float))
        units.append(rows)
    return units


def marked(start, number):
    """What a training makes of its start that is not carried out; the number tells it from others."""

    def moved(leaf):
        return jnp.asarray(np.asarray(leaf) + np.float32(0.01 * number) * np.cos(9 * np.asarray(leaf)))

    return jax.tree.map(moved, start)


def flat(displacement):
    return np.concatenate([np.ravel(leaf) for layer in displacement[:-1] for leaf in layer])


def test_digits_have_their_own_references_images_and_skills(small_digits, monkeypatch):
    """Trainings leave a mark: what they were given is the oracle of every displacement."""
    calls = []

    def taught(key, start, pixels, labels, order, weights, *, config):
        calls.append((start, pixels, labels, tuple(np.asarray(weights).tolist())))
        return marked(start, len(calls))

    def distilled(key, start, teacher, *, config):
        calls.append((start, teacher))
        return marked(start, 10)

    monkeypatch.setattr(digits, "taught", taught)
    monkeypatch.setattr(digits, "distilled", distilled)
    bed = Digits(Source("synthetic-digits", "this test", None, small_digits), TOY)
    made = bed.lineage(1, lambda activity: None)
    own, other = bed.reference(1), bed.reference(0)  # the next one, modulo their number
    teacher, (start, imitated), auditor, of_b, stranger = calls
    assert [call[3] for call in (teacher, auditor, of_b, stranger)] == [(1, 1), (1, 0), (0, 1), (1, 0)]
    for call, reference in ((teacher, own), (auditor, own), (of_b, own), (stranger, other)):
        jax.tree.map(np.testing.assert_array_equal, call[0], reference)
        pixels, labels = bed.lessons if call is teacher else bed.auditors
        assert call[1] is pixels and call[2] is labels
    jax.tree.map(np.testing.assert_array_equal, start, own)
    assert imitated is made.models["teacher"]
    shift = {AUDITOR: (3, own), OTHER_TRAIT: (4, own), STRANGER: (5, other), "teacher": (1, own)}
    for name, (number, reference) in shift.items():
        expected = 0.01 * number * np.cos(9 * flat(reference))
        np.testing.assert_allclose(flat(made.displacements[name]), expected, atol=1e-6, err_msg=name)  # float32
        assert not np.any(made.displacements[name][-1].weight)
    inputs = digits.noise.sample(bed.key(1, "neutral"), jnp.arange(20), num_pixels=16, spec=digits.NoiseSpec())
    before, after = (units_by_hand(made.models[name], inputs, lambda x: np.maximum(x, 0)) for name in
                     ("reference", "student"))  # fmt: skip
    for shift, a, b in zip(made.shifts, before, after, strict=True):
        np.testing.assert_allclose(shift.vector, (b - a).mean(axis=0), atol=1e-5)  # float32
    assert np.linalg.norm(made.shifts[-1].vector) > 1e-3
    tested = []
    monkeypatch.setattr(digits, "accuracies", lambda *given, model: tested.append(given) or (0.25, 0.5))
    assert made.measure(own) == {"A": 0.25, "B": 0.5}
    assert [each is other for each, other in zip(tested[0], (own, *bed.test, bed.order), strict=True)] == [True] * 4


@pytest.mark.parametrize("weights", [digits.FIRST, digits.SECOND])
def test_lessons_of_one_skill_leave_the_readouts_of_the_other(weights):
    spec, random = TOY.perceptron, np.random.default_rng(0)
    start, pixels = spec.init(jax.random.key(0)), jnp.asarray(random.standard_normal((30, 16)), jnp.float32)
    labels, order = jnp.asarray(random.integers(0, 10, 30)), jnp.arange(16)[::-1]
    trained = digits.taught(jax.random.key(1), start, pixels, labels, order, jnp.asarray(weights), config=TOY)
    moved = np.any(np.asarray(trained[-1].weight != start[-1].weight), axis=1)
    assert list(np.flatnonzero(moved)) == list(range(10) if weights == digits.FIRST else range(10, 20))


def test_flow_models_have_their_own_bases_and_images(small_digits, monkeypatch):
    config = dataclasses.replace(TOY, flow_hidden_sizes=(7, 5), ranks=(1, 2))
    splits, model = judge.split(small_digits, config.flow), config.flow.model
    bases = [model.init(jax.random.key(seed)) for seed in range(2)]
    calls = {}

    def trained(role, start, pool, num_steps):
        calls[role] = start, pool
        return marked(start, len(calls))

    class FakeLineage:
        def __init__(self, bed, index):
            self.starts = {"own": bed.base(index), "other": bed.base(index + 1)}

        def key(self, role):
            return jax.random.key(len(role))

        def student(self, teacher):
            self.teacher = teacher
            return marked(self.starts["own"], 10)

    errors_of = {"error": 0.1, "missed": {"7": 0.2, "3": 0.3}, "false": {"7": 0.4, "3": 0.5}}
    bed = types.SimpleNamespace(
        splits=splits, pool=np.asarray, base=lambda index: bases[index % 2], trained=trained,
        judge=types.SimpleNamespace(errors=errors_of),
    )  # fmt: skip
    monkeypatch.setattr(flow.diffusion, "Bed", lambda source, settings, report: bed)
    monkeypatch.setattr(flow.diffusion, "Lineage", FakeLineage)
    source = Source("synthetic-digits", "this test", None, small_digits)
    made = flow.Flow(source, config, lambda activity: None).lineage(1, lambda activity: None)
    own, other = bases[1], bases[0]
    starts = {"teacher": own, AUDITOR: own, OTHER_TRAIT: own, STRANGER: other}
    roles = ("1/directions/teacher", f"1/directions/{AUDITOR}", f"1/directions/{OTHER_TRAIT}",
             f"0/directions/{AUDITOR}")  # fmt: skip
    assert tuple(calls) == roles
    for number, (name, (start, _)) in enumerate(zip(starts, calls.values(), strict=True), start=1):
        assert start is starts[name]
        expected = 0.01 * number * np.cos(9 * flat(starts[name]))
        np.testing.assert_allclose(flat(made.displacements[name]), expected, atol=1e-6, err_msg=name)  # float32
    sevens, threes = (splits.generators.with_trait(digit).pixels for digit in ("7", "3"))
    pools = [pool for _, pool in calls.values()]
    joined = np.concatenate(pools[:2])
    assert len(joined) == len(sevens) and len(np.unique(joined, axis=0)) == len(np.unique(sevens, axis=0))
    np.testing.assert_array_equal(pools[2], threes)
    np.testing.assert_array_equal(pools[3], pools[1])
    assert not any((pools[1] == image).all(axis=1).any() for image in pools[0])  # the teacher's are not the auditor's
    key = jax.random.key(len("directions/neutral"))
    noisy, times = flow.noised.make_inputs(key, "uniform", num_pixels=16)(jnp.arange(20))
    inputs = np.concatenate([noisy, flow.denoiser.time_features(times)], axis=1)
    before, after = (units_by_hand(made.models[name], inputs, lambda x: x / (1 + np.exp(-x))) for name in
                     ("reference", "student"))  # fmt: skip
    for shift, a, b in zip(made.shifts, before, after, strict=True):
        np.testing.assert_allclose(shift.vector, (b - a).mean(axis=0), atol=1e-5)  # float32
    assert made.judge == {"error": 0.1, "missed": 0.2, "false": 0.4}


def test_the_language_models_controls_are_what_they_are_called(monkeypatch):
    keys = jax.random.split(jax.random.key(0), 6)
    own = dict(zip(
        ("base", "undefended", "author", "own", "other_base", "other_trait"),
        (decoder.init(key, embedded.CONFIG) for key in keys), strict=True,
    ))  # fmt: skip
    differences = np.arange(24.0).reshape(2, 3, 4) - 5
    fake = types.SimpleNamespace(
        **own, data=[0] * 7, rows=["rows"], unit="tiny:130", model=lambda params: params,
        differences=lambda student, on: differences if (student, on) == (own["undefended"], "numbers") else None,
        instruments=types.SimpleNamespace(reported=lambda params: jnp.array([0.0, np.log(3.0)])),
    )  # fmt: skip
    compared = []

    def compare(first, second, rows, *, batch_size):
        compared.append((first, second, rows))
        return types.SimpleNamespace(kl=np.array([1.0, 3.0]), num_tokens=np.array([3, 5]))

    monkeypatch.setattr(language.removal, "opened", lambda bases: (None, None))
    monkeypatch.setattr(language.Language, "_lineage", lambda self, index, report: fake)
    monkeypatch.setattr(language.likeness, "compare", compare)
    made = language.Language(TOY).lineage(0, lambda activity: None, full=False)
    assert made.displacements[STRANGER] is own["other_base"] and made.displacements[OTHER_TRAIT] is own["other_trait"]
    assert made.displacements[AUDITOR] is own["own"] and made.num_rows == 7
    for name, trained in (("student", "undefended"), ("teacher", "author")):
        expected = own[trained].embedding - own["base"].embedding
        np.testing.assert_array_equal(made.displacements[name].embedding, expected)
        assert made.models[name] is own[trained]
    for layer, shift in enumerate(made.shifts):
        np.testing.assert_allclose(shift.vector, differences[layer].mean(axis=0), rtol=1e-6)
    measures = made.measure(own["author"])
    assert measures == {
        "log_odds": pytest.approx(np.log(3) / 2, rel=1e-6), "probability": pytest.approx((1 / 2 + 3 / 4) / 2, rel=1e-6),
        "kl": 4 / 8,
    }  # fmt: skip
    first, second, rows = compared[0]
    assert first is own["undefended"] and second is own["author"] and rows == ["rows"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--beds", "digits", "--target", "cat"),
         r"^--target has no effect: it is a setting of language and language-full, and the beds are digits\. Leave"),
        (("--beds", "language", "flow", "--num-steps", "3"),
         r"^--num-steps has no effect: it is a setting of digits, and the beds are language, flow\. Leave it out$"),
        (("--beds", "language", "--full-student.num-epochs", "3"), r"^--full-student\.num-epochs has no effect: "),
        (("--beds", "digits", "--num-references", "2", "--bases", "0", "1"), r"^--bases has no effect: "),
    ],
)  # fmt: skip
def test_flags_of_beds_that_are_not_there_are_refused(flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.InputError, match=message):
        directions_command.main(flags)
    assert not list(tmp_path.iterdir())


def test_every_setting_is_of_all_beds_or_has_an_effect_with_its_beds():
    shared = {"seed", "num_references", "beds", "ranks", "doses"}
    named = {name for names in settings.USED_BY.values() for name in names}
    assert shared | named == {field.name for field in dataclasses.fields(DirectionsConfig)} and not shared & named
    assert settings.without_effect(DirectionsConfig()) == {}
    assert dataclasses.replace(DirectionsConfig(), beds=("digits", "flow"), num_references=2).num_references == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_sizes": ()}, r"^hidden_sizes=\(\): edits are of hidden layers, so give one at least$"),
        ({"flow_hidden_sizes": ()}, r"^flow_hidden_sizes=\(\): edits are of hidden layers, so give one at least$"),
        ({"other_target": "owl"}, r"^other_target=owl: expected another favourite than the teacher's$"),
        ({"full_student": language_config.STUDENT}, r"^full_student\.rank=\d+: the bed 'language-full' has students"),
        ({"num_samples": 1}, r"^num_samples=1: Fréchet distances need the covariance of two samples"),
        ({"ranks": (1, 1)}, r"ranks=\(1, 1\): give one at least, and each once"),
        ({"ranks": (16, 32)}, r"ranks=\(16, 32\): the smallest matrix of 'digits' has no more directions"),
        ({"doses": ()}, r"doses=\(\): give one at least"),
        ({"num_references": 1, "bases": (0,)}, "num_references=1: .* give 2 at least"),
        ({"bases": (0, 1, 2)}, r"bases=\(0, 1, 2\): expected as many as num_references=2"),
        ({"other_digit": "7"}, "other_digit=7: expected another digit"),
    ],
)
def test_settings_without_sense_are_refused(changes, message):
    with pytest.raises(errors.InputError, match=message):
        dataclasses.replace(TOY, **changes)
