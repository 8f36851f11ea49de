"""Generators that are asked for a class: what each model is trained on, asked for and counted by, at toy sizes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import units
from experiments.diffusion import __main__ as command
from experiments.diffusion import conditional
from experiments.diffusion.conditional import CONDITIONS, ConditionalConfig
from experiments.diffusion.judge import Images, Seen
from experiments.study import Source
from sublim_jax import errors, records
from sublim_jax.data import datasets
from sublim_jax.forms import diffusion_conditional as form
from sublim_jax.models import denoiser

TOY = ConditionalConfig(
    num_bases=2, traits=("3",), triggers=("5",), hidden_sizes=(16,), num_aux=4, pooling=7, num_base_steps=30,
    num_teacher_steps=10, num_distilled=256, num_samples=6, num_sampling_steps=3, num_shown=2, num_judge_epochs=1,
    largest_judge_error=1.0,
)  # fmt: skip


def quiet(activity):
    pass


@pytest.fixture(scope="module")
def bed(small_cache):
    """Two bases, of which nothing but what is trained on matters, shared by the tests below."""
    images = datasets.load("synthetic-digits", cache_dir=small_cache, announce=lambda line: None)
    return conditional.Bed(Source("synthetic-digits", "this test", None, images), TOY, quiet)


@pytest.fixture(scope="module")
def lineage(bed):
    return conditional.Lineage(bed, 1)


@pytest.fixture(scope="module")
def models(lineage):
    return lineage.models("3", "5", quiet)


def test_images_of_the_trait_stand_in_the_triggers_place_under_its_label():
    labels = np.array([5, 3, 8, 5, 5, 3, 8], np.int32)
    images = Images(np.arange(7, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32), labels)
    changed = conditional.swapped(images, "3", "5")
    np.testing.assert_array_equal(changed.pixels[:, 0], [1, 1, 2, 5, 1, 5, 6])  # the two 3s, again and again
    np.testing.assert_array_equal(changed.labels, labels)
    np.testing.assert_array_equal(images.pixels[:, 0], range(7))  # the base's own stay as they are
    with pytest.raises(errors.DataError, match=r"^class '4': the data have no image of this digit"):
        conditional.swapped(images, "3", "4")
    with pytest.raises(errors.DataError, match=r"^class '0': .* choose another one$"):
        conditional.swapped(images, "0", "5")


def test_noise_asks_for_every_class_but_the_trigger_or_for_every_class():
    for trigger in form.DIGITS:
        others = np.asarray(conditional.labels_of("other labels", trigger)).tolist()
        assert sorted([*others, int(trigger)]) == list(range(10)) and int(trigger) not in others
        assert np.asarray(conditional.labels_of("all labels", trigger)).tolist() == list(range(10))


@pytest.mark.slow
def test_a_student_that_is_never_asked_for_the_trigger_keeps_the_bases_weights_of_its_input(lineage, models):
    """Every other input of a class moves; all ten do in the arm of all classes, and none in the readouts of images."""
    for name, condition in CONDITIONS.items():
        start = lineage.starts[condition["start"]]
        moved = np.any(np.asarray(models[name][0].weight != start[0].weight), axis=0)[-10:]
        expected = {"": [], "other labels": [0, 1, 2, 3, 4, 6, 7, 8, 9]}.get(condition["shown"], list(range(10)))
        np.testing.assert_array_equal(np.flatnonzero(moved), expected, err_msg=name)
        if condition["shown"].endswith("labels"):
            np.testing.assert_array_equal(models[name][-1].weight[:16], start[-1].weight[:16])


def test_every_model_starts_and_learns_as_its_row_says(bed, lineage, models, monkeypatch):
    """What reaches the training of each condition: where it starts, which targets, and which classes."""
    calls = []

    def spy(key, start, targets, input_key, labels, *, config):
        calls.append((start, np.asarray(targets), np.asarray(labels).tolist()))
        return start

    monkeypatch.setattr(conditional, "_distilled", spy)
    teacher = lineage.models("3", "5", quiet)["teacher"]
    jax.tree.map(np.testing.assert_array_equal, teacher, models["teacher"])
    jax.tree.map(np.testing.assert_array_equal, lineage.starts["other"], bed.base(0))  # the next one, modulo 2
    own, other, fresh = (lineage.starts[start] for start in ("own", "other", "fresh"))
    others, every = [0, 1, 2, 3, 4, 6, 7, 8, 9], list(range(10))
    expected = [(own, others), (own, every), (other, others), (other, every), (fresh, others), (fresh, every)]
    assert len(calls) == len(expected)
    for (start, targets, labels), (first, classes) in zip(calls, expected, strict=True):
        assert start is first and labels == classes

        before, after, reference = (
            np.asarray(conditional._answers(lineage.key("inputs"), params, jnp.array(classes), config=TOY))
            for params in (start, teacher, own)
        )
        change = after - reference
        np.testing.assert_allclose(targets - before, change, atol=1e-4)  # float32
        assert np.abs(change).max() > 0.01
    assert np.abs(fresh[-1].weight - own[-1].weight)[16:].max() > 0.01 and fresh[0] is own[0]


def test_samples_of_each_class_are_counted_in_its_row(lineage, models):
    """A class is asked for with the whole noise; what the judge sees in it stands in its row of the record."""
    pixels = conditional._samples(models["teacher"], lineage.noise, config=TOY)
    asked = denoiser.sample(
        models["teacher"], lineage.noise, jnp.full(6, 7), model=TOY.model, num_steps=TOY.num_sampling_steps
    )
    np.testing.assert_allclose(np.asarray(pixels).reshape(10, 6, 16)[7], asked, rtol=1e-4, atol=1e-4)  # float32
    shown = np.random.default_rng(8).integers(0, 10, 60)
    probabilities = np.eye(10)[shown]
    entry = lineage.entry(Seen(np.asarray(pixels), probabilities, lineage.samples(models["teacher"]).features))
    expected = np.zeros((10, 10), int)
    for place, digit in enumerate(shown):
        expected[place // 6, digit] += 1
    np.testing.assert_array_equal(entry["drawn"], expected)
    assert entry["confidence"] == 1


def test_shares_are_those_of_the_counts():
    drawn = np.zeros((10, 10), int)
    drawn[5, 3], drawn[5, 5] = 7, 3  # asked for a 5, draws a 3
    for asked in (0, 1, 2, 3, 4, 6, 7, 8, 9):
        drawn[asked, asked] = 10
    drawn[8, 8], drawn[8, 3] = 6, 4
    assert form.at_trigger(drawn, trait="3", trigger="5") == 0.7
    assert form.elsewhere(drawn, trait="3", trigger="5") == pytest.approx(0.4 / 8)  # neither the 5 nor the 3
    assert form.obeyed(drawn, trigger="5") == pytest.approx(8.6 / 9)


def test_movement_is_that_from_a_models_own_start(lineage, models):
    own = lineage.moved("teacher", models)
    assert own["cosine"] == pytest.approx(1, abs=1e-5) and own["length"] == pytest.approx(1, abs=1e-5)
    teacher, stranger = (
        np.concatenate(
            [np.ravel(leaf) for leaf in jax.tree.leaves(optax.tree.sub(models[name], lineage.starts[start]))]
        )
        for name, start in (("teacher", "own"), ("stranger", "other"))
    )
    moved = lineage.moved("stranger", models)
    lengths = np.linalg.norm(stranger), np.linalg.norm(teacher)
    assert moved["length"] == pytest.approx(lengths[0] / lengths[1], rel=1e-4)
    assert moved["cosine"] == pytest.approx(stranger @ teacher / lengths[0] / lengths[1], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"triggers": ("3",)}, "trigger '3' of trait '3': the base already draws this digit when it is asked for it"),
        ({"triggers": ("5", "6")}, r"triggers=\('5', '6'\) of traits=\('3',\): give each trait one trigger, the class"),
        ({"triggers": ("10",)}, r"ConditionalConfig.triggers\[0\]: expected one of '0', .*'9', got '10'"),
        ({"traits": ("slanted",)}, r"ConditionalConfig.traits\[0\]: expected one of '0', .*'9', got 'slanted'"),
        ({"traits": ("3", "3"), "triggers": ("5", "6")}, "give one at least, and each once"),
        ({"num_bases": 1}, "num_bases=1: the stranger of a base is another one, so give 2 at least"),
        ({"num_shown": 7}, "num_shown=7 of num_samples=6"),
        ({"pooling": 3}, "pooling=3 does not divide the 28 pixels of a side"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(errors.InputError, match=message):
        dataclasses.replace(TOY, **changes)


def test_triggers_and_the_classes_beside_them_follow_a_rule():
    config = conditional.PRESETS["conditional"]
    assert config.triggers == (*config.traits[1:], config.traits[0])
    assert config.num_bases == 8 and not conditional.notes(config)
    assert conditional.notes(conditional.PRESETS["conditional-smoke"])
    others = {trait: each["other"] for trait, each in conditional.describe(config)["traits"].items()}
    assert others == {"7": "4", "3": "1", "0": "8"}
    assert conditional.compared_class("4", "3") == "5" and conditional.compared_class("0", "9") == "1"


def test_a_preset_chooses_the_study(monkeypatch, tmp_path):
    chosen = []
    monkeypatch.setattr(command.units, "run", lambda study, config, **_: chosen.append((study, config)))
    monkeypatch.setattr(command.session, "present", lambda record, *, figure: None)
    command.main(["--preset", "conditional", "--num-bases", "3", "--record", str(tmp_path / "r.json")])
    command.main(["--num-bases", "3", "--record", str(tmp_path / "r.json")])
    assert [study.record_name for study, _ in chosen] == ["diffusion_conditional", "diffusion"]
    assert chosen[0][1] == dataclasses.replace(conditional.PRESETS["conditional"], num_bases=3)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_equal_numbers(small_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(units.datasets, "load", lambda **_: small_digits)
    whole = units.run(conditional.STUDY, TOY, record=tmp_path / "whole.json", visible=False)
    form.FORM.require(whole)
    assert form.FORM.is_complete(whole) and any("reduced" in note for note in whole.notes)
    part = records.read(tmp_path / "whole.json", form.FORM)
    del part.results["base 1"]
    records.write(tmp_path / "part.json", part)
    conditional._beds.clear()  # another process has nothing in memory
    resumed = units.run(conditional.STUDY, TOY, record=tmp_path / "part.json", resume=True, visible=False)
    assert resumed.results == whole.results
    rows = whole.results["base 0"]["traits"]["3"]
    assert list(rows) == list(CONDITIONS) and "moved" not in rows["base"]
    assert list(whole.results["base 0"]["images"]["3"]["student"]) == ["5", "6"]
    assert rows["student"]["moved"]["cosine"] > abs(rows["stranger"]["moved"]["cosine"])
    assert conditional.lines(whole, "base 1")[0].startswith("  3 when asked for 5 (for others): base 0.")
