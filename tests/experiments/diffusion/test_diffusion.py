"""The experiment on generators: its judge, its filter and its conditions at toy sizes, whole and resumed."""

import dataclasses
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import units
from experiments.diffusion import config as settings
from experiments.diffusion import judge as judges
from experiments.diffusion import study
from experiments.diffusion.config import PRESETS, DiffusionConfig
from experiments.study import Source
from sublim_jax import errors
from sublim_jax.data import noised, transforms
from sublim_jax.forms import diffusion as form
from sublim_jax.metrics import generative
from sublim_jax.models import denoiser, mlp
from sublim_jax.training import denoise

TOY = DiffusionConfig(
    num_bases=2, traits=("3", "inverted"), hidden_sizes=(16,), num_aux=4, pooling=7, num_base_steps=30,
    num_teacher_steps=10, num_distilled=256, num_partial_steps=2, num_drawn=60, num_kept=20,
    num_sample_student_steps=3, largest_probability=0.9, num_samples=20, num_sampling_steps=3, num_shown=2,
    num_judge_epochs=3, largest_judge_error=1.0,
)  # fmt: skip


def quiet(activity):
    pass


@pytest.fixture
def source(small_digits):
    return Source("synthetic-digits", "this test", None, small_digits)


@pytest.fixture
def splits(small_digits):
    return judges.split(small_digits, TOY)


def test_no_image_is_in_two_sets_and_pixels_are_pooled(small_digits, splits):
    assert [len(part.plain.pixels) for part in splits] == [200, 100, 200]
    first, last = small_digits.train_images[200], small_digits.train_images[-1]
    for image, pixels in ((first, splits.judge.plain.pixels[0]), (last, splits.judge.plain.pixels[-1])):
        pooled = transforms.pooled(image[None], 7).reshape(-1).astype(float)
        np.testing.assert_allclose(pixels, (pooled - 127.5) / 127.5, atol=1e-6)
    np.testing.assert_array_equal(splits.test.plain.labels, small_digits.test_labels)
    changed = splits.generators.with_trait("inverted").pixels
    np.testing.assert_allclose(changed, -splits.generators.plain.pixels, atol=2 / 255)  # means are rounded
    assert set(splits.test.with_trait("3").labels) == {3} and 3 not in splits.test.without_trait("3").labels


@pytest.mark.slow
def test_the_judges_errors_are_those_on_test_images(splits):
    judge = judges.train(jax.random.key(0), splits, TOY)
    test = splits.test.plain
    classes = judge.see(test.pixels).classes
    assert judge.errors["error"] == np.mean(classes != test.labels)
    assert judge.errors["missed"]["3"] == pytest.approx(np.mean(classes[test.labels == 3] != 3))
    assert judge.errors["false"]["3"] == pytest.approx(np.mean(classes[test.labels != 3] == 3))
    assert judge.errors["missed"]["inverted"] == judge.errors["false"]["inverted"] == 0
    entry = judge.entry(judge.see(splits.test.with_trait("inverted").pixels), "inverted")
    assert entry["share"] == 1 and entry["frechet"] > 0.01
    assert entry["frechet_trait"] == pytest.approx(0, abs=1e-5)  # 128 roots of rounding, 1e-8 each
    assert entry["level"] == pytest.approx((splits.test.with_trait("inverted").pixels.mean() + 1) / 2, abs=1e-6)


def test_a_judge_learns_from_its_own_images_and_is_measured_on_those_of_the_test(small_digits, monkeypatch):
    """Instead of being trained it shows what it was to be trained on, in its first layer."""
    config = dataclasses.replace(TOY, traits=("3", "bold"))
    splits = judges.split(small_digits, config)

    def shown(key, params, images, labels, *, model, phase):
        count = len(images)
        weight, bias = params[0].weight.at[:count].set(images), params[0].bias.at[:count].set(labels)
        return (mlp.Dense(weight, bias), *params[1:]), None

    monkeypatch.setattr(judges.teach, "teach", shown)
    judge = judges.train(jax.random.key(0), splits, config)
    own, test = splits.judge, splits.test
    np.testing.assert_array_equal(judge.params[0].bias[:200], np.tile(own.plain.labels, 2))
    noise = np.asarray(judge.params[0].weight[:200]) - np.tile(own.plain.pixels, (2, 1))
    assert np.std(noise) == pytest.approx(judges.PIXEL_NOISE, rel=5 / (2 * noise.size) ** 0.5)  # five standard errors
    plain, bold = (part.pixels.mean(dtype=float) / 2 + 0.5 for part in (own.plain, own.changed["bold"]))
    assert judge.thresholds == {"bold": pytest.approx((plain + bold) / 2, rel=1e-5)} and bold > plain + 0.02

    ink = {name: part.pixels.mean(axis=1) / 2 + 0.5 for name, part in (("plain", test.plain), *test.changed.items())}
    assert judge.errors["missed"]["bold"] == pytest.approx(np.mean(ink["bold"] <= judge.thresholds["bold"]))
    assert judge.errors["false"]["bold"] == pytest.approx(np.mean(ink["plain"] > judge.thresholds["bold"]))
    seen = judge.see(splits.generators.plain.pixels)
    distances = {  # the features are those of real test images, of all and of those with the trait
        "frechet": judge.see(test.plain.pixels), "frechet_trait": judge.see(test.with_trait("3").pixels),
    }  # fmt: skip
    unit = np.trace(np.cov(judge.see(test.plain.pixels).features.T))
    entry = judge.entry(seen, "3")
    for name, real in distances.items():
        expected = generative.frechet_distance(generative.moments(seen.features), generative.moments(real.features))
        assert entry[name] == pytest.approx(expected / unit, rel=1e-6) and expected > 0
    assert entry["share"] == np.mean(seen.classes == 3)
    assert entry["level"] == pytest.approx(seen.probabilities[:, 3].mean(), rel=1e-6)


def test_a_judge_that_errs_too_often_is_refused(source):
    config = dataclasses.replace(TOY, largest_judge_error=0.02, num_judge_epochs=1)
    message = r"^the judge misreads \d+\.\d% of .*, more than largest_judge_error=0\.02: "
    with pytest.raises(errors.InputError, match=message):
        study.measure(source, config, "base 0", quiet)


def test_a_digit_that_is_not_in_the_data_is_refused(small_digits):
    kept = small_digits.train_labels != 3
    fewer = dataclasses.replace(
        small_digits, train_images=small_digits.train_images[kept], train_labels=small_digits.train_labels[kept]
    )
    splits = judges.split(fewer, TOY)
    with pytest.raises(
        errors.DataError, match=r"^trait '3': the data have no image of this digit; choose another one$"
    ):
        splits.generators.with_trait("3")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_bases": 1}, "num_bases=1: the stranger of a base is another one, so give 2 at least"),
        ({"traits": ()}, r"traits=\(\): give one at least"),
        ({"traits": ("3", "3")}, "give one at least, and each once"),
        ({"traits": ("11",)}, r"DiffusionConfig.traits\[0\]: expected one of '0', .*'inverted', got '11'"),
        ({"pooling": 3}, "pooling=3 does not divide the 28 pixels of a side; 1, 2, 4, 7, 14 and 28 do"),
        ({"num_shown": 30}, "num_shown=30 of num_samples=20"),
        ({"num_samples": 1}, "num_samples=1: Fréchet distances need the covariance of two samples at least$"),
        ({"conditions": ("base", "base")}, r"conditions=\('base', 'base'\): give each once, in this order: \('base', "),
        ({"conditions": ("base", "student", "teacher", "other base")}, "give each once, in this order"),
        (
            {"conditions": ("base", "teacher", "stranger", "student from scratch")},
            r"is missing: \['other base', 'untrained', 'teacher from scratch'\]$",
        ),
        (
            {"architecture": "unet", "patch": 1, "maps": (4, 4, 4, 4)},
            "side=4: squares of patch=1 pixels a side and 4 stages need a multiple of 8",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(errors.InputError, match=message):
        dataclasses.replace(TOY, **changes)


def test_presets_have_bases_enough_for_what_they_say():
    assert PRESETS["record"].num_bases == 8 and PRESETS["default"].num_bases >= 4
    assert len([trait for trait in PRESETS["record"].traits if trait in form.DIGITS]) >= 3
    assert dataclasses.replace(PRESETS["record"], num_bases=4) == PRESETS["default"]
    assert all(study.units(config) for config in PRESETS.values())
    assert PRESETS["unet-record"].num_bases >= 4 and PRESETS["scratch"].num_bases == 8
    assert dataclasses.replace(PRESETS["unet-record"], num_bases=2) == PRESETS["unet"]
    assert all(not study.notes(config) for name, config in PRESETS.items() if name != "smoke")


def test_settings_of_what_is_not_there_have_no_effect():
    """Each of them is a field, and none is without effect where it is used."""
    reasons = {name: settings.without_effect(config) for name, config in PRESETS.items()}
    assert set(reasons["unet"]) == {
        "hidden_sizes", "num_partial_steps", "num_drawn", "num_kept", "num_sample_student_steps", "largest_probability"
    }  # fmt: skip
    assert set(reasons["default"]) == {"maps", "patch", "num_scratch_steps", "scratch_rate"}
    assert "scratch_rate" not in reasons["scratch"] and "num_kept" in reasons["scratch"]
    assert reasons["unet"].keys() | reasons["default"].keys() <= {field.name for field in dataclasses.fields(TOY)}
    assert reasons["unet"]["hidden_sizes"] == "the denoiser is of the architecture 'unet'"
    changed = settings.without_effect(dataclasses.replace(TOY, traits=("slanted", "bold")))
    assert changed["num_kept"] == "samples are filtered for digits, and no trait is one"
    assert changed.keys() >= reasons["unet"].keys() - {"hidden_sizes"}
    idle = settings.without_effect(dataclasses.replace(TOY, conditions=("base", "teacher", "other base")))
    assert idle["inputs"] == idle["num_distilled"] == "no condition learns a teacher's outputs"
    assert not any("inputs" in each for each in reasons.values())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["mlp", "unet"])
def test_teachers_and_students_from_scratch_start_where_the_base_did(source, architecture):
    """Their teacher is not the base's; the student moves with it, and only the base's own conditions name the base."""
    config = dataclasses.replace(
        TOY, traits=("3",), architecture=architecture, maps=(3,), patch=1, num_scratch_steps=8,
        conditions=("base", "teacher", "student", "other base", *settings.FROM_SCRATCH),
    )  # fmt: skip
    study._beds.clear()
    unit = study.measure(source, config, "base 0", quiet)
    assert unit["partial_steps"] == {} and list(unit["images"]["3"]) == list(config.conditions)
    rows = unit["traits"]["3"]
    assert list(rows) == list(config.conditions)
    own, other = (rows[name]["moved"] for name in ("student from scratch", "stranger from scratch"))
    assert own["inner_product"] > 0 and own["cosine"] > 2 * abs(other["cosine"])
    np.testing.assert_allclose(rows["teacher from scratch"]["moved"]["cosine"], 1, atol=1e-5)
    for teacher, start in (("teacher", "base"), ("teacher from scratch", "untrained")):
        assert rows[teacher]["loss"] < rows[start]["loss"]
    bed, lineage = study._bed(source, config, quiet), study.Lineage(study._bed(source, config, quiet), 0)
    jax.tree.map(np.testing.assert_array_equal, lineage.starts["untrained"], bed.untrained(0))
    jax.tree.map(np.testing.assert_array_equal, lineage.starts["other untrained"], bed.untrained(1))
    images = lineage.bed.splits.test.with_trait("3").pixels
    tested = jnp.asarray(np.resize(images, (study.NUM_PROBES, 16)))
    noise, times = denoise.draw(lineage.key("trait's loss"), tested)
    guesses = denoiser.estimate(
        bed.untrained(0), noised.path(tested, noise, times), times, model=config.model
    )  # fmt: skip
    expected = np.mean((np.asarray(guesses) - np.asarray(tested)) ** 2)
    assert rows["untrained"]["loss"] == pytest.approx(float(expected), rel=1e-4)  # float32


@pytest.fixture(scope="module")
def bed_of_toys(small_cache):
    """Two bases, of which nothing but what is trained on matters, shared by the tests below."""
    from sublim_jax.data import datasets

    images = datasets.load("synthetic-digits", cache_dir=small_cache, announce=lambda line: None)
    return study.Bed(Source("synthetic-digits", "this test", None, images), TOY, quiet)


def test_filtered_samples_have_no_trait_but_for_the_bases_own(bed_of_toys):
    lineage, judge = study.Lineage(bed_of_toys, 0), bed_of_toys.judge
    own = lineage.base_samples
    digit = int(np.argsort(np.bincount(own.classes, minlength=10))[-2])  # so that the filter has something to do
    digits = own.pixels[own.classes == digit]
    assert len(digits) and np.any(own.probabilities[own.classes == digit, digit] < 0.9)
    pool = bed_of_toys.pool(bed_of_toys.splits.generators.with_trait(str(digit)).pixels)
    pools = lineage.filtered(str(digit), pool)
    counts = {}
    for name, pool in pools.items():
        kept = np.asarray(pool.images[: int(pool.count)])
        is_own = np.array([(digits == image).all(axis=1).any() for image in kept])
        seen = judge.see(kept)
        assert np.all(seen.classes[~is_own] != digit) and np.all(seen.probabilities[~is_own, digit] < 0.9)
        assert np.sum(is_own) == np.sum(~is_own) // 9
        counts[name] = np.bincount(seen.classes[~is_own], minlength=10)
    present = np.bincount(own.classes, minlength=10) > 0
    np.testing.assert_array_equal(counts["samples"][present], counts["base samples"][present])  # matched by class
    inside = [(own.pixels == image).all(axis=1).any() for image in np.asarray(pools["base samples"].images)[:5]]
    assert all(inside)


def test_a_teacher_that_draws_nothing_but_the_trait_is_finetuned_for_half_as_long(bed_of_toys, monkeypatch):
    """Samples of teachers of more than two steps are all of the digit."""
    monkeypatch.setattr(bed_of_toys, "config", dataclasses.replace(TOY, num_partial_steps=17))
    lineage, trained = study.Lineage(bed_of_toys, 0), []
    own = lineage.base_samples
    digit = int(own.classes[0])
    all_of_it = own._replace(probabilities=np.eye(10)[np.full(len(own.classes), digit)])
    monkeypatch.setattr(bed_of_toys, "trained", lambda role, start, pool, num_steps: trained.append(num_steps))
    monkeypatch.setattr(lineage, "drawn", lambda params: all_of_it if trained[-1] > 2 else own)
    monkeypatch.setattr(bed_of_toys, "pool", len)
    pools = lineage.filtered(str(digit), bed_of_toys.images)
    assert trained == [17, 8, 4, 2] and lineage.partial_steps == {str(digit): 2}
    assert pools["samples"] == pools["base samples"] > 0


def test_a_filter_that_lets_nothing_through_is_refused(bed_of_toys, monkeypatch):
    monkeypatch.setattr(bed_of_toys, "config", dataclasses.replace(TOY, largest_probability=0.0))
    lineage = study.Lineage(bed_of_toys, 0)
    with pytest.raises(
        errors.InputError, match=r"^trait '3': of 60 samples the filter lets 0 of the teacher's and 0 of"
    ):
        lineage.filtered("3", bed_of_toys.images)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_equal_numbers(small_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(units.datasets, "load", lambda **_: small_digits)
    whole = units.run(study.STUDY, TOY, record=tmp_path / "whole.json", visible=False)
    form.FORM.require(whole)
    assert form.FORM.is_complete(whole)
    assert any("not MNIST" in note for note in whole.notes) and any("reduced" in note for note in whole.notes)

    def stopped(source, config, unit, report):
        if unit == "base 1":
            raise KeyboardInterrupt
        return study.measure(source, config, unit, report)

    study._beds.clear()
    interrupted = dataclasses.replace(study.STUDY, measure=stopped)
    with pytest.raises(KeyboardInterrupt):
        units.run(interrupted, TOY, record=tmp_path / "part.json", visible=False)
    study._beds.clear()  # another process has nothing in memory
    resumed = units.run(study.STUDY, TOY, record=tmp_path / "part.json", resume=True, visible=False)
    assert resumed.results == whole.results

    other = dataclasses.replace(TOY, num_aux=5)
    with pytest.raises(errors.RecordError, match=r"num_aux: 4 before, 5 now"):
        units.run(study.STUDY, other, record=tmp_path / "part.json", resume=True, visible=False)

    digit, inverted = (whole.results["base 0"]["traits"][trait] for trait in ("3", "inverted"))
    assert list(digit) == list(settings.PRETRAINED) and "student of samples" not in inverted
    assert digit["teacher"]["moved"]["cosine"] == pytest.approx(1, abs=1e-5)
    assert digit["teacher"]["moved"]["length"] == pytest.approx(1, abs=1e-5)
    assert "moved" not in digit["base"] and set(whole.results["base 1"]) == {"judge", "partial_steps", "traits"}
    assert inverted["teacher"]["moved"]["opening"] < 0  # a step of the teacher lowers its own loss
    assert digit["student"]["moved"]["cosine"] > abs(digit["stranger"]["moved"]["cosine"])


def test_the_strangers_targets_are_shifted_and_the_raw_ones_are_not(bed_of_toys, monkeypatch):
    """What reaches the training of each condition: where it starts, which outputs, and which targets."""
    calls = {}

    def spy(key, start, targets, input_key, shown, *, which, rate, config):
        assert rate == TOY.learning_rate
        calls[len(calls)] = (start, np.asarray(targets), which)
        return study.Example(start, start, start)

    monkeypatch.setattr(study, "_distilled", spy)
    monkeypatch.setattr(study.Lineage, "filtered", lambda *_: {})
    lineage = study.Lineage(bed_of_toys, 1)
    models = lineage.examples("inverted", quiet)
    names = [name for name in TOY.conditions if study.CONDITIONS[name]["data"] in study.CHANNELS]
    teacher = models["teacher"].trained
    shown = bed_of_toys.images

    def answers(params):
        return np.asarray(study._answers(lineage.input_key, params, shown, config=TOY))

    own, other, fresh = (lineage.starts[start] for start in ("own", "other", "fresh"))
    jax.tree.map(np.testing.assert_array_equal, other, bed_of_toys.base(0))  # the next one, modulo their number
    change = answers(teacher) - answers(own)
    expected = {
        "student": (own, answers(teacher), "aux"),
        "stranger": (other, answers(other) + change, "aux"),
        "fresh readouts": (fresh, answers(fresh) + change, "aux"),
        "stranger, raw": (other, answers(teacher), "aux"),
        "student of pixels": (own, answers(teacher), "class"),
        "stranger of pixels": (other, answers(teacher), "class"),
    }
    assert names == list(expected)
    for call, (start, targets, which) in zip(calls.values(), expected.values(), strict=True):
        assert call[0] is start and call[2] == which
        np.testing.assert_allclose(call[1], targets, atol=1e-4)  # float32


@pytest.fixture
def bed_without_training(source, monkeypatch):
    """A bed whose judge knows nothing and says what it sees."""
    monkeypatch.setattr(judges, "train", lambda key, splits, config: types.SimpleNamespace(see=np.asarray))
    return study.Bed(source, TOY, quiet)


@pytest.fixture
def untrained(bed_without_training, monkeypatch):
    """A lineage whose bases are random initializations."""
    monkeypatch.setattr(bed_without_training, "base", bed_without_training.untrained)
    return study.Lineage(bed_without_training, 0)


def test_fresh_readouts_are_others_than_those_that_were_drawn_first(untrained):
    own, fresh = (untrained.starts[start][-1] for start in ("own", "fresh"))
    np.testing.assert_array_equal(fresh.weight[:16], own.weight[:16])
    assert not np.any(np.asarray(fresh.weight[16:] == own.weight[16:]))


class Started(NamedTuple):
    """A call of the training, and the images that it draws from."""

    key: list[int]
    start: object
    images: np.ndarray
    num_steps: int
    rate: float
    final_rate: float


def test_every_training_has_its_start_its_images_and_its_schedule(bed_without_training, monkeypatch):
    """What reaches the training of bases, of teachers and of students of samples, and what other students are shown."""
    bed, calls, shown = bed_without_training, [], []
    config = dataclasses.replace(
        TOY, traits=("3",), inputs="images", base_rate=0.5, learning_rate=0.25, num_scratch_steps=8,
        conditions=settings.NAMES,
    )  # fmt: skip
    monkeypatch.setattr(bed, "config", config)

    def train(key, start, images, *, model, num_steps, optimizer, num_images, final_rate, batch_size):
        assert batch_size == config.batch_size and model == config.model
        used = np.asarray(images[: int(num_images)])
        rates = float(optimizer.learning_rate), float(final_rate)
        calls.append(Started(jax.random.key_data(key).tolist(), start, used, int(num_steps), *rates))
        return start, None

    def distilled(key, start, targets, input_key, shown_pool, *, which, rate, config):
        shown.append(np.asarray(shown_pool.images[: int(shown_pool.count)]))
        return study.Example(start, start, start)

    filtered = {"samples": bed.pool(np.full((5, 16), 0.5)), "base samples": bed.pool(np.full((6, 16), -0.5))}
    monkeypatch.setattr(study.denoise, "train", train)
    monkeypatch.setattr(study, "_distilled", distilled)
    monkeypatch.setattr(study, "_answers", lambda key, params, pool, *, config: jnp.zeros((3, 20)))
    monkeypatch.setattr(study.Lineage, "filtered", lambda *_: filtered)
    monkeypatch.setattr(study.Lineage, "first_step", lambda self, start, pool: start)
    lineage = study.Lineage(bed, 1)
    plain = bed.splits.generators.plain
    for call, index in zip(calls, (1, 0), strict=True):
        jax.tree.map(np.testing.assert_array_equal, call.start, bed.untrained(index))
        np.testing.assert_array_equal(call.images, plain.pixels)
        assert call[3:] == (config.num_base_steps, 0.5, 0.0)
    assert calls[0].key != calls[1].key
    calls.clear()
    lineage.examples("3", quiet)
    threes = plain.pixels[plain.labels == 3]
    expected = [
        ("own", threes, (config.num_teacher_steps, 0.25, 1.0)),
        *((start, np.asarray(filtered[name].images[:count]), (config.num_sample_student_steps, 0.25, 1.0))
          for name, count in (("samples", 5), ("base samples", 6)) for start in ("own", "other")),
        ("untrained", threes, (8, 0.5, 0.0)),
    ]  # fmt: skip
    for call, (start, images, schedule) in zip(calls, expected, strict=True):
        assert call.start is lineage.starts[start] and call[3:] == schedule, start
        np.testing.assert_array_equal(call.images, images)
    keys = [call.key for call in calls]
    assert keys[1] == keys[2] == keys[3] == keys[4]  # students of samples differ in start and images alone
    assert len({tuple(key) for key in keys}) == 3
    without = plain.pixels[plain.labels != 3]
    assert len(shown) == 8
    for images in shown:
        np.testing.assert_array_equal(images, without)


def test_a_pool_has_the_first_images_and_then_padding(bed_without_training):
    length = len(bed_without_training.splits.generators.plain.pixels)
    rows = np.arange(1.0, length + 3)[:, None] * np.ones(16)
    for count in (3, length, length + 2):
        pool, kept = bed_without_training.pool(rows[:count]), min(count, length)
        assert pool.images.shape == (length, 16) and int(pool.count) == kept
        np.testing.assert_array_equal(pool.images[:kept], rows[:kept])
        assert not np.any(np.asarray(pool.images[kept:]))


def test_samples_to_learn_from_and_samples_to_report_have_different_noise(untrained, monkeypatch):
    noises = []
    monkeypatch.setattr(study, "_samples", lambda params, noise, *, config: noises.append(np.asarray(noise)) or noise)
    untrained.drawn(untrained.starts["own"])
    untrained.seen(untrained.starts["own"])
    learnt, reported = noises
    assert learnt.shape == (60, 16) and reported.shape == (20, 16)
    assert not np.isin(learnt, reported).any()


def test_the_opening_is_the_change_of_the_traits_loss_along_one_step(untrained):
    """Per pixel and per unit of length, by differentiating the loss itself along the step."""
    pool = untrained.bed.pool(untrained.bed.splits.generators.with_trait("3").pixels)
    start, key = untrained.starts["own"], untrained.key("trait's loss")
    step = jax.tree.map(lambda leaf: jnp.cos(7 * leaf), start)  # as good as any other
    trained = jax.tree.map(lambda leaf: leaf + 2, start)
    teacher = jax.tree.map(jnp.ones_like, start)
    slope = study._loss_gradient(key, start, pool, config=TOY)
    moved = study._moved(study.Example(start, trained, step), teacher, slope)

    images = jnp.asarray(np.resize(pool.images[: int(pool.count)], (study.NUM_PROBES, 16)))
    size = sum(leaf.size for leaf in jax.tree.leaves(start))
    length = float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(step))))
    direction = jax.tree.map(lambda leaf: leaf / length, step)
    change = jax.jvp(lambda params: study._loss(key, params, images, config=TOY), (start,), (direction,))[1]
    assert abs(float(change)) > 1e-3
    assert moved == {
        "inner_product": pytest.approx(2 * size, rel=1e-4), "cosine": pytest.approx(1, abs=1e-4),
        "length": pytest.approx(2, rel=1e-4), "opening": pytest.approx(float(change), rel=1e-3),
    }  # fmt: skip
    downhill = untrained.first_step(start, pool)
    assert float(study._moved(study.Example(start, trained, downhill), teacher, slope)["opening"]) < 0


def test_conditions_are_compared_with_what_shares_everything_but_the_cause():
    for name, other in form.COMPARED.items():
        starts = [settings.CONDITIONS[each]["start"].replace("fresh", "own") for each in (name, other)]
        assert starts[0] == starts[1], name  # a base with fresh readouts draws what the base draws
        data, control = (settings.CONDITIONS[each]["data"] for each in (name, other))
        assert control == {"samples": "base samples"}.get(data, ""), name
    learning = {name for name in settings.NAMES if settings.CONDITIONS[name]["data"] not in ("", "images")}
    assert learning - {"student of base samples", "stranger of base samples"} == form.COMPARED.keys()
    assert set(form.IMITATED) == study.CHANNELS.keys()


def test_images_of_a_record_are_bytes_from_dark_to_bright():
    pixels = np.array([[-1.0, -0.2, 0.2], [1.0, -3.0, 3.0]])
    assert list(form.decoded(judges.encoded(pixels))) == [0, 102, 153, 255, 0, 255]
