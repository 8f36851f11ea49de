"""The bed `digits`: a perceptron with two skills, which a student acquires from auxiliary logits on noise.

Logits 0 to 9 read digits (A); logits 10 to 19 read the same digits in images whose pixels are permuted (B). A teacher
learns both, an auditor one of them, on other images. Students see noise and imitate auxiliary logits.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.diffusion import judge
from experiments.directions.config import DirectionsConfig
from experiments.directions.lineage import AUDITOR, OTHER_TRAIT, STRANGER, Lineage, Parts
from experiments.study import Report, Source
from sublim_jax import errors, keys, losses
from sublim_jax.audit import descent, directions
from sublim_jax.data import noise
from sublim_jax.data.noise import NoiseSpec
from sublim_jax.models import mlp
from sublim_jax.training import distill
from sublim_jax.training.loop import TrainPhase
from sublim_jax.training.optimizers import OptimizerSpec

NUM_CLASSES = 10
MEASURES = {"A": "accuracy of digits (A)", "B": "accuracy of permuted digits (B)"}
BOTH, FIRST, SECOND = (1.0, 1.0), (1.0, 0.0), (0.0, 1.0)
"""Weights of the losses of A and B."""


def two_losses(
    params: mlp.Params,
    pixels: Float[Array, "image pixel"],
    labels: Int[Array, "image"],
    order: Int[Array, "pixel"],
    model: mlp.MLPSpec,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross-entropies of A and B, in nats: B's images are the same with their pixels in another order."""
    plain, permuted = (model.apply(params, shown) for shown in (pixels, pixels[:, order]))
    return (
        losses.cross_entropy(plain[:, :NUM_CLASSES], labels),
        losses.cross_entropy(permuted[:, NUM_CLASSES : 2 * NUM_CLASSES], labels),
    )


@functools.partial(jax.jit, static_argnames="model")
def accuracies(
    params: mlp.Params,
    pixels: Float[Array, "image pixel"],
    labels: Int[Array, "image"],
    order: Int[Array, "pixel"],
    *,
    model: mlp.MLPSpec,
) -> Float[Array, "2"]:
    """Accuracies of A and B."""
    plain, permuted = (model.apply(params, shown) for shown in (pixels, pixels[:, order]))
    guesses = plain[:, :NUM_CLASSES], permuted[:, NUM_CLASSES : 2 * NUM_CLASSES]
    return jnp.stack([jnp.mean(jnp.argmax(logits, axis=1) == labels) for logits in guesses])


@functools.partial(jax.jit, static_argnames="config")
def taught(
    key: Key[Array, ""],
    start: mlp.Params,
    pixels: Float[Array, "image pixel"],
    labels: Int[Array, "image"],
    order: Int[Array, "pixel"],
    weights: Float[Array, "2"],
    *,
    config: DirectionsConfig,
) -> mlp.Params:
    """A model trained on labels, by a weighted sum of the losses of A and B."""

    def loss(params, batch):
        parts = two_losses(params, pixels[batch.indices], labels[batch.indices], order, config.perceptron)
        return weights[0] * parts[0] + weights[1] * parts[1]

    return descent.descend(
        key, start, loss, optimizer=optax.adam(config.learning_rate), num_examples=len(pixels),
        batch_size=config.batch_size, num_steps=config.num_steps,
    ).params  # fmt: skip


@functools.partial(jax.jit, static_argnames="config")
def distilled(key: Key[Array, ""], start: mlp.Params, teacher: mlp.Params, *, config: DirectionsConfig) -> mlp.Params:
    """A student of the teacher's auxiliary logits on noise images, each seen once."""
    model, images_key = config.perceptron, keys.stream(key, "images")

    def inputs(numbers):
        return noise.sample(images_key, numbers, num_pixels=model.in_size, spec=NoiseSpec())

    size = config.batch_size
    targets = distill.label(teacher, inputs, config.num_steps * size, model=model, batch_size=size)
    phase = TrainPhase(num_epochs=1, batch_size=size, optimizer=OptimizerSpec(learning_rate=config.learning_rate))
    students, _, _ = distill.distill(
        key, {"student": start}, {"student": "aux"}, inputs, targets, model=model, phase=phase
    )  # fmt: skip
    return students["student"]


def hidden(displacement: mlp.Params) -> mlp.Params:
    """A displacement of the hidden layers alone."""
    return (*displacement[:-1], jax.tree.map(jnp.zeros_like, displacement[-1]))


def parts_of(layers: mlp.Params) -> Parts:
    """A perceptron's hidden layers as matrices."""
    blank = jax.tree.map(jnp.zeros_like, layers[-1])
    return Parts(
        [f"layer {number + 1}" for number in range(len(layers) - 1)],
        lambda displacement: directions.matrices(displacement[:-1]),
        lambda matrices: (*directions.layers(matrices), blank),
        lambda params, vector, layer: directions.steered(params, vector, layer=layer),
    )


class Digits:
    """Images, and the references of a run, each trained once."""

    def __init__(self, source: Source, config: DirectionsConfig):
        if source.images is None:
            raise errors.InputError("the bed `digits` reads images")
        self.config = config
        splits = judge.split(source.images, config.flow)
        own, other = splits.generators.plain, splits.judge.plain
        length = min(len(own.labels), len(other.labels))  # of equal length, so that one program serves both
        self.lessons, self.auditors = (
            (jnp.asarray(images.pixels[:length]), jnp.asarray(images.labels[:length])) for images in (own, other)
        )
        test, count = splits.test.plain, config.num_tested
        self.test = jnp.asarray(test.pixels[:count]), jnp.asarray(test.labels[:count])
        self.order = jnp.asarray(np.random.default_rng(config.seed).permutation(config.perceptron.in_size))
        self._auditors: dict[tuple[int, tuple[float, float]], mlp.Params] = {}

    def key(self, index: int, role: str) -> Key[Array, ""]:
        """Key of a purpose, for a reference."""
        return keys.stream(keys.members(self.config.seed, jnp.array([index]))[0], f"directions/{role}")

    def reference(self, index: int) -> mlp.Params:
        """An untrained model."""
        return self.config.perceptron.init(self.key(index, "reference"))

    def teacher(self, index: int) -> mlp.Params:
        """A model that has learnt A and B."""
        return taught(
            self.key(index, "teacher"), self.reference(index), *self.lessons, self.order, jnp.asarray(BOTH),
            config=self.config,
        )  # fmt: skip

    def auditor(self, index: int, weights: tuple[float, float] = FIRST) -> mlp.Params:
        """An auditor's own model of one of the skills, on images that the teacher has not seen."""
        if (index, weights) not in self._auditors:
            self._auditors[index, weights] = taught(
                self.key(index, "auditor"), self.reference(index), *self.auditors, self.order, jnp.asarray(weights),
                config=self.config,
            )  # fmt: skip
        return self._auditors[index, weights]

    def measure(self, params: mlp.Params) -> dict[str, float]:
        """Test accuracies."""
        both = accuracies(params, *self.test, self.order, model=self.config.perceptron)
        return dict(zip(MEASURES, map(float, both), strict=True))

    def lineage(self, index: int, report: Report) -> Lineage:
        """A reference with its student, and what edits are made of."""
        config, next_one = self.config, (index + 1) % self.config.num_references
        report("teacher")
        reference, teacher = self.reference(index), self.teacher(index)
        report("student")
        student = distilled(self.key(index, "student"), reference, teacher, config=config)
        report("auditors")
        auditor, other = self.auditor(index), self.auditor(index, SECOND)
        moved = {
            "student": (student, reference), "teacher": (teacher, reference), AUDITOR: (auditor, reference),
            STRANGER: (self.auditor(next_one), self.reference(next_one)), OTHER_TRAIT: (other, reference),
        }  # fmt: skip
        numbers = jnp.arange(config.num_neutral)
        shown = noise.sample(
            self.key(index, "neutral"), numbers, num_pixels=config.perceptron.in_size, spec=NoiseSpec()
        )
        before, after = (directions.hidden_units(model, shown, config.perceptron) for model in (reference, student))
        return Lineage(
            models={"reference": reference, "student": student, "teacher": teacher, AUDITOR: auditor},
            displacements={name: hidden(optax.tree.sub(*pair)) for name, pair in moved.items()},
            parts=parts_of(reference),
            measure=self.measure,
            shifts=[directions.mean_shift(b - a) for a, b in zip(before, after, strict=True)],
            key=self.key(index, "controls"),
        )
