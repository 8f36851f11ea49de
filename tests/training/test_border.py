"""What cannot be trained on is refused where it enters, in one line, before anything is compiled."""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.models import mlp
from sublim_jax.training import distill, evaluate, examples, loop, stages, teach
from sublim_jax.training.state import InitialParams, TrainedTeacher
from tests.training import tiny

TRAIN, LABELS, TEST, TEST_LABELS = tiny.images()
KEY = jax.random.key(0)
FLAT = "expected one row of in_size=16 pixels for each"


def run(member=2, partner=3, *, spec=tiny.SMALL, **arrays):
    """The shapes of a whole member, which only traces it. Outside tests nothing checks types, so here neither."""
    images = tiny.images()._replace(**arrays)
    call = inspect.unwrap(stages.run)
    return jax.eval_shape(lambda: call(member, partner, images, seed=0, spec=spec))


def test_whole_numbers_of_python_are_members():
    assert run().accuracy["student_aux"].shape == ()


def test_they_are_the_members_of_these_numbers():
    def program(kind, member):
        """As text, which differs between members."""
        call = functools.partial(stages.init_params, data=tiny.images(), seed=0, spec=tiny.SPEC.init_config)
        return str(jax.make_jaxpr(lambda: call(kind(member), kind(3)))())

    assert program(int, 2) == program(jnp.int32, 2) != program(int, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_inputs": TRAIN.reshape(-1, 4, 4)}, rf"training images of shape \(22, 4, 4\): {FLAT}"),
        ({"train_inputs": TRAIN[:, :15]}, rf"training images of shape \(22, 15\): {FLAT}"),
        ({"test_inputs": TEST.reshape(-1, 4, 4)}, rf"test images of shape \(9, 4, 4\): {FLAT}"),
        ({"train_inputs": TRAIN[:0], "train_labels": LABELS[:0]}, "training images: there are none"),
        ({"test_inputs": TEST[:0], "test_labels": TEST_LABELS[:0]}, "test images: there are none"),
        ({"train_labels": LABELS[:-1]}, r"labels of training images are uint8 of shape \(21,\): .* each of 22 inputs"),
        ({"test_labels": np.eye(4, dtype=np.uint8)[TEST_LABELS]}, r"labels of test images are uint8 of shape \(9, 4\)"),
        ({"train_labels": np.where(np.arange(22) < 5, LABELS, 7)}, "training images: label 5 is 7, expected 0 to 3"),
        ({"test_labels": TEST_LABELS.astype(np.int32) - 1}, r"label \d is -1, expected 0 to 3"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(arrays, message):
    with pytest.raises(errors.InputError, match=message):
        run(**arrays)


@pytest.mark.parametrize("num_kept", [22, 23])
def test_a_teacher_is_left_an_image_at_least(num_kept):
    spec = dataclasses.replace(tiny.SMALL, num_validation_images=num_kept)
    with pytest.raises(errors.InputError, match=f"num_validation_images={num_kept} of 22 training images: .* none"):
        run(spec=spec)
    assert run(spec=dataclasses.replace(spec, num_validation_images=21)).accuracy["teacher"].shape == ()


def test_the_stages_refuse_too():
    broken = tiny.images()._replace(train_inputs=TRAIN[:, :9])
    origin = dataclasses.replace(
        tiny.SPEC.init_config, init_sharing=tiny.SPEC.init_sharing, teacher=tiny.SPEC.teacher_config
    )
    calls = (
        lambda: stages.init_params(0, 1, broken, seed=0, spec=origin),
        lambda: stages.train_teacher(0, broken, seed=0, spec=tiny.SPEC.teacher_config),
        lambda: stages.distill_students(0, ORIGIN, TAUGHT, broken, seed=0, spec=tiny.SPEC),
    )
    for call in calls:
        with pytest.raises(errors.InputError, match=rf"training images of shape \(22, 9\): {FLAT}"):
            jax.eval_shape(call)


PARAMS = mlp.init(KEY, tiny.MODEL)
ORIGIN = InitialParams(PARAMS, PARAMS, PARAMS)
TAUGHT = TrainedTeacher(PARAMS, jnp.zeros(2), {})


def test_teaching_and_scoring_refuse_on_their_own():
    teaching = {"model": tiny.MODEL, "phase": loop.TrainPhase(num_epochs=1)}
    with pytest.raises(errors.InputError, match=r"training images of shape \(22, 4, 4\)"):
        inspect.unwrap(teach.teach)(KEY, PARAMS, TRAIN.reshape(-1, 4, 4), LABELS, **teaching)
    with pytest.raises(errors.InputError, match=r"training images are int32: expected bytes \(uint8\).* or floats"):
        inspect.unwrap(teach.teach)(KEY, PARAMS, TRAIN.astype(np.int32), LABELS, **teaching)
    with pytest.raises(errors.InputError, match="training images: number 3 has values that are not finite"):
        spoiled = np.where(np.arange(22)[:, None] == 3, np.inf, TRAIN.astype(np.float32))
        inspect.unwrap(teach.teach)(KEY, PARAMS, spoiled, LABELS, **teaching)
    with pytest.raises(errors.InputError, match=r"labels of inputs are float32 of shape \(22,\): expected the whole"):
        inspect.unwrap(examples.require_fitting)(tiny.MODEL, TRAIN, LABELS.astype(np.float32))
    with pytest.raises(errors.InputError, match="label 0 is 4, expected 0 to 3, as the network has num_classes=4"):
        teach.teach(KEY, PARAMS, jnp.asarray(TRAIN), jnp.full(22, 4), **teaching)
    with pytest.raises(errors.InputError, match="test images: there are none"):
        evaluate.test_accuracy(PARAMS, jnp.asarray(TEST[:0]), jnp.asarray(TEST_LABELS[:0]), model=tiny.MODEL)


def test_labels_inside_a_program_are_not_looked_into():
    def look(labels):
        examples.require_fitting(tiny.MODEL, TRAIN, labels)
        return labels

    assert jax.eval_shape(look, jnp.full(22, 99)).shape == (22,)
    with pytest.raises(errors.InputError, match="label 0 is 99"):
        look(jnp.full(22, 99))


@pytest.mark.parametrize(
    ("shape", "message"),
    [((0, 7), r"targets of shape \(0, 7\): expected one example"), ((5, 6), "num_classes=4 and num_aux=3")],
)
def test_targets_are_one_row_of_all_logits_for_each_example(shape, message):
    with pytest.raises(errors.InputError, match=message):
        distill.distill(
            KEY, {"one": PARAMS}, {"one": "aux"}, lambda numbers: jnp.zeros((len(numbers), 16)), jnp.zeros(shape),
            model=tiny.MODEL, phase=loop.TrainPhase(),
        )  # fmt: skip


@pytest.mark.parametrize("sizes", [{"num_examples": 0, "batch_size": 4}, {"num_examples": 4, "batch_size": 0}])
def test_labelling_takes_an_example_at_least(sizes):
    with pytest.raises(errors.InputError, match=": must be at least 1, got 0"):
        distill.label(PARAMS, lambda numbers: jnp.zeros((len(numbers), 16)), model=tiny.MODEL, **sizes)
