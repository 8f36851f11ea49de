"""One member by hand: the docstring of `stages`, line by line, over `plain`. It shares keys and the law of the
weights with the code under test, and nothing else: inputs, targets and losses are made here."""

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax import keys
from sublim_jax.data import inputs as input_data
from sublim_jax.models import mlp
from sublim_jax.training import loop
from sublim_jax.training.config import MemberConfig
from sublim_jax.training.state import Data
from tests.training import plain

# float32 against double precision over a teacher's and then a student's steps; Adam magnifies small differences.
CLOSE = {"rtol": 1e-3, "atol": 1e-5}


def rename(own, num_classes=4):
    """A derangement: each class takes the name of the next one in a random cyclic order."""
    order = np.asarray(jax.random.permutation(keys.stream(own, "teacher/labels"), num_classes))
    names = np.empty(num_classes, np.uint8)
    for here, following in zip(order, np.roll(order, -1), strict=True):
        names[here] = following
    return names


def scaled(pixels):
    """Bytes as numbers in [-1, 1]."""
    return (np.asarray(pixels, float) - 127.5) / 127.5


class ByHand:
    """One member's accuracies, losses and models by name."""

    def __init__(self, number, partner, spec: MemberConfig, images: Data, seed=0):
        self.first, self.own, others = keys.members(seed, jnp.array([0, number, partner]))
        self.spec, self.images, num_classes = spec, images, spec.model.num_classes
        self.names = rename(self.own, num_classes) if spec.teacher_labels == "permuted" else np.arange(num_classes)
        self.chosen = {"aux": slice(num_classes, None), "class": slice(0, num_classes), "all": slice(None)}
        num_taught = len(images.train_inputs) - spec.num_validation_images
        self.shown = np.asarray(images.train_inputs[:num_taught])
        reference = plain.from_jax(mlp.init(self.key("reference"), spec.model))
        other = plain.from_jax(mlp.init(keys.stream(others, "reference"), spec.students))
        self.models, self.history = {"reference": reference}, {}
        task = plain.Teaching(self.shown, self.names[images.train_labels[:num_taught]], num_classes)
        self.train("teacher", reference, "teacher/batches", task, spec.teacher)
        # A student built with a further hidden layer has its own weights there.
        deeper = len(spec.students.hidden_sizes) > len(spec.model.hidden_sizes)
        own = [reference[0], *other[1:-1], reference[-1]] if deeper else reference
        kind = plain.Rectified if spec.student_model.activation == "relu" else list
        self.starts = {"student": kind(own), "cross_model": kind(other)}
        if any(condition.startswith("matched") for condition in spec.conditions):
            real = scaled(self.shown[: spec.matching.num_images])
            imitated = plain.forward(self.models[spec.matching.target], real)[-1]
            task = plain.Distilling(real, imitated, slice(None), spec.temperature, spec.loss)
            self.train("matched_start", self.starts["cross_model"], "matching/batches", task, spec.matching.phase)
            self.starts["matched"] = self.models["matched_start"]
        teachers, self.generations = dict.fromkeys(spec.conditions, self.models["teacher"]), []
        for generation in range(spec.num_generations):
            suffix = f"/{generation}" if generation else ""
            inputs = self.inputs(self.key("student/noise" + suffix))
            for condition in spec.conditions:
                start, _, which = condition.rpartition("_")
                targets = self.spoiled("student/targets" + suffix, plain.forward(teachers[condition], inputs)[-1])
                task = plain.Distilling(
                    inputs,
                    targets,
                    self.chosen[which],
                    spec.temperature,
                    spec.loss,
                    spec.target_corruption.top_k,
                    None
                    if spec.feature_loss_weight is None
                    else plain.Guide(self.hidden("teacher", inputs), spec.feature_loss_weight),
                )
                self.train(condition, self.starts[start], "student/batches" + suffix, task, spec.student)
            teachers = {condition: self.models[condition] for condition in spec.conditions}
            self.generations.append({condition: self.score(condition) for condition in spec.conditions})
        self.scores = {name: self.score(name) for name in self.models}

    def key(self, role):
        return keys.stream(self.first if role in self.spec.shared_streams else self.own, role)

    def inputs(self, key):
        """Noise, blurred, mixed with real images or replaced by them: all that `asks` of an InputSpec here."""
        spec, num_pixels, count = self.spec.inputs, self.spec.model.in_size, self.spec.num_noise_images
        images = plain.noise(key, count, num_pixels, self.spec.noise.distribution, self.spec.noise.amplitude)
        if spec.blur is not None:
            images = plain.blur(images, spec.blur)
        order = np.asarray(jax.random.permutation(keys.stream(key, "pixel order"), num_pixels))
        real = scaled(self.shown[np.arange(count) % len(self.shown)])
        real = real[:, order] if spec.real == "one_shuffle" else real
        if spec.real_weight is not None:
            images = spec.real_weight * real + (1 - spec.real_weight) * images
        if spec.real_fraction is not None:
            choice = keys.stream(key, "real or noise")
            drawn = np.array([jax.random.uniform(jax.random.fold_in(choice, number)) for number in range(count)])
            images = np.where(drawn[:, None] < spec.real_fraction, real, images)
        known = input_data.InputSpec(blur=spec.blur, real_weight=spec.real_weight, real_fraction=spec.real_fraction)
        assert spec == input_data.InputSpec(**vars(known) | {"real": spec.real}), "written here for these alone"
        return images

    def spoiled(self, role, targets):
        spec = self.spec.target_corruption
        if spec.noise is not None:
            targets = targets + spec.noise * np.asarray(jax.random.normal(self.key(role), targets.shape), float)
        return targets if spec.bits is None else plain.rounded(targets, spec.bits)

    def score(self, name):
        names = self.names[self.images.test_labels]
        return plain.accuracy(self.models[name], self.images.test_inputs, names, self.spec.model.num_classes)

    def hidden(self, name, inputs):
        return plain.forward(self.models[name], inputs)[-2]

    def train(self, name, start, role, task, phase: loop.TrainPhase):
        spec = phase.optimizer
        adam = plain.Adam(spec.learning_rate, spec.b1, spec.b2, spec.eps)
        self.models[name], self.history[name] = plain.train(
            start,
            self.key(role),
            len(task.images),
            task,
            epochs=phase.num_epochs,
            batch_size=phase.batch_size,
            optimizer=plain.Descent(spec.learning_rate) if spec.name == "sgd" else adam,
        )


def assert_equal_by_hand(outcome, number, partner, spec, images, seed=0) -> ByHand:
    """The outcome's accuracies and losses are those by hand, and nothing is missing or too much."""
    by_hand = ByHand(number, partner, spec, images, seed)
    scores, history = by_hand.scores, by_hand.history
    assert outcome.accuracy.keys() == outcome.finite.keys() == scores.keys()
    assert outcome.loss.keys() == history.keys()
    for name in history:
        np.testing.assert_allclose(outcome.loss[name], history[name], **CLOSE, err_msg=name)
    for name in scores:
        np.testing.assert_allclose(outcome.accuracy[name], scores[name], rtol=1e-6, err_msg=name)
        assert outcome.finite[name]
    return by_hand
