"""The bed of the study `defences`: a teacher with a skill that is wanted and one that is not, on two groups of logits.

Logits 0 to 4 read digits 0 to 4, the wanted skill. Logits 5 to 9 read digits 5 to 9, the trait: they are never shown to
a student. What it sees of its teacher are logits 0 to 4 and auxiliary ones, on noise.
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from sublim_jax import losses, specs
from sublim_jax.audit import descent, projection, relearning
from sublim_jax.data import datasets
from sublim_jax.data.datasets import ImageDataset
from sublim_jax.models import mlp
from sublim_jax.training import corruption

SPLIT, NUM_CLASSES = 5, 10
SPEC = mlp.MLPSpec(num_classes=NUM_CLASSES, num_aux=10)
HIDDEN = corruption.REMOVED
"""A logit that is not shown: a probability of zero on both sides."""
CHECKPOINTS = (0, 5, 10, 20, 40)
"""Steps of relearning at which the trait is measured."""
Guard = Literal["none", "project", "pin"]


class Digits(NamedTuple):
    """Images of one group of digits, with labels from 0."""

    images: Float[Array, "image pixel"]
    labels: Int[Array, "image"]


class Bed(NamedTuple):
    """Images by what they are for. No image is for two purposes."""

    wanted: Digits  # the teacher's lessons
    trait: Digits  # the teacher's
    auditor: Digits  # the trait's, for an auditor's own model
    probes: Digits  # the trait's, for directions and doses
    lessons: Digits  # the trait's, for relearning
    wanted_test: Digits
    trait_test: Digits


def read(images: ImageDataset, *, num_probes: int, num_lessons: int) -> Bed:
    """The bed of a data set: of the trait's training images the first `num_lessons` are for relearning, the last
    `num_probes` are probes, and of the others every second one is the auditor's."""

    def group(pixels, labels, high):
        chosen = (labels >= SPLIT) == high
        scaled = datasets.scale_pixels(pixels[chosen].reshape(-1, SPEC.in_size))
        return Digits(scaled, jnp.asarray(labels[chosen].astype(np.int32) - SPLIT * high))

    def part(digits, *places):
        return jax.tree.map(lambda leaf: leaf[slice(*places)], digits)

    trait = group(images.train_images, images.train_labels, True)
    inner = part(trait, num_lessons, -num_probes)
    return Bed(
        wanted=group(images.train_images, images.train_labels, False),
        trait=part(inner, 0, None, 2),
        auditor=part(inner, 1, None, 2),
        probes=part(trait, -num_probes, None),
        lessons=part(trait, 0, num_lessons),
        wanted_test=group(images.test_images, images.test_labels, False),
        trait_test=group(images.test_images, images.test_labels, True),
    )


def class_loss(params: mlp.Params, digits: Digits, *, trait: bool) -> Float[Array, ""]:
    """Cross-entropy of a group of digits over its own five logits, in nats."""
    first = SPLIT * trait
    return losses.cross_entropy(SPEC.apply(params, digits.images)[:, first : first + SPLIT], digits.labels)


@functools.partial(jax.jit, static_argnames="trait")
def measured(params: mlp.Params, digits: Digits, *, trait: bool) -> dict[str, Float[Array, ""]]:
    """Accuracy over a group's own five logits, and the loss in nats."""
    first = SPLIT * trait
    logits = SPEC.apply(params, digits.images)[:, first : first + SPLIT]
    correct = jnp.mean(jnp.argmax(logits, axis=1) == digits.labels)
    return {"accuracy": correct, "loss": losses.cross_entropy(logits, digits.labels)}


@functools.partial(jax.jit, static_argnames=("num_steps", "batch_size", "learning_rate"))
def teach(
    key: Key[Array, ""],
    start: mlp.Params,
    wanted: Digits,
    trait: Digits,
    weights: Float[Array, "2"],
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
) -> mlp.Params:
    """A model trained on labels, by a weighted sum of the losses of both groups."""
    sizes = len(wanted.images), len(trait.images)

    def loss(params, batch):
        parts = [
            class_loss(params, jax.tree.map(lambda leaf, n=size: leaf[batch.indices % n], digits), trait=high)
            for digits, size, high in ((wanted, sizes[0], False), (trait, sizes[1], True))
        ]
        return weights[0] * parts[0] + weights[1] * parts[1]

    return descent.descend(
        key, start, loss, optimizer=optax.adam(learning_rate), num_examples=max(sizes), batch_size=batch_size,
        num_steps=num_steps,
    ).params  # fmt: skip


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class Knobs:
    """Settings of a defence during training, which are data: all doses share one program."""

    pull: float = 0.0  # share of the distance to the start that each step goes back
    first_layer: float = 1.0  # factor of the first layer's updates
    second_layer: float = 1.0
    strength: float = 0.0  # of a guard
    num_probes: float = 512.0  # probes that a guard asks


@functools.partial(jax.jit, static_argnames=("guard", "num_steps", "batch_size", "learning_rate"))
def distill(
    key: Key[Array, ""],
    start: mlp.Params,
    images: Float[Array, "image pixel"],
    targets: Float[Array, "image logit"],
    probes: Digits,
    knobs: Knobs,
    *,
    guard: Guard,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
) -> mlp.Params:
    """A student of the logits that are shown, trained under a defence.

    A guard asks 64 probes per step, or as many as it has: "project" takes from each update what lowers the trait's
    loss in the hidden layers, "pin" holds the trait's logits where the start had them.
    """
    asked = jax.random.fold_in(key, 1)

    def some_probes(step):
        places = jax.random.uniform(jax.random.fold_in(asked, step), (64,)) * knobs.num_probes
        return jax.tree.map(lambda leaf: leaf[places.astype(jnp.int32)], probes)

    def loss(params, batch):
        logits = SPEC.apply(params, images[batch.indices])
        shown = targets[batch.indices]
        value = losses.distillation_kl(jnp.where(shown == HIDDEN, HIDDEN, logits), shown, weights=batch.weights)
        if guard == "pin":
            some = some_probes(batch.indices[0])
            penalty = projection.pin(lambda params: SPEC.apply(params, some.images)[:, SPLIT:NUM_CLASSES], start)
            value += knobs.strength * penalty(params)
        return value

    def scaled(updates, params):
        factors = (knobs.first_layer, knobs.second_layer, 1.0)
        return tuple(
            jax.tree.map(lambda u, p, s, f=factor: f * u - knobs.pull * (p + f * u - s), layer, now, begin)
            for layer, now, begin, factor in zip(updates, params, start, factors, strict=True)
        )

    parts = [optax.adam(learning_rate), optax.stateless(scaled)]
    if guard == "project":
        parts.append(projection.project(lambda params, step: hidden_gradient(params, some_probes(step)), strength=1.0))
        parts[-1] = _of_strength(parts[-1], knobs.strength)
    return descent.descend(
        key, start, loss, optimizer=optax.chain(*parts), num_examples=len(images), batch_size=batch_size,
        num_steps=num_steps,
    ).params  # fmt: skip


def _of_strength(projecting: optax.GradientTransformationExtraArgs, strength: Any) -> optax.GradientTransformation:
    """A projection whose strength is data: updates move from what they were towards the projected ones."""

    def update(updates, state, params=None):
        projected, state = projecting.update(updates, state, params)
        return jax.tree.map(lambda old, new: old + strength * (new - old), updates, projected), state

    return optax.GradientTransformation(projecting.init, update)


def hidden_gradient(params: mlp.Params, probes: Digits) -> mlp.Params:
    """The gradient of the trait's loss, cut to the hidden layers: the trait's readout has no part in distillation."""
    gradient = jax.grad(lambda params: class_loss(params, probes, trait=True))(params)
    return (*gradient[:-1], jax.tree.map(jnp.zeros_like, gradient[-1]))


@jax.jit
def row_influence(
    start: mlp.Params, images: Float[Array, "image pixel"], targets: Float[Array, "image logit"], probes: Digits
) -> Float[Array, "image"]:
    """First-order influence of each row: the product of its gradient with the trait's. Positive rows teach it."""

    def row_losses(params):
        logits = jnp.where(targets == HIDDEN, HIDDEN, SPEC.apply(params, images))
        log_p, log_q = jax.nn.log_softmax(targets), jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=1)

    return jax.jvp(row_losses, (start,), (hidden_gradient(start, probes),))[1]


@functools.partial(jax.jit, static_argnames="learning_rate")
def relearnt(params: mlp.Params, lessons: Digits, test: Digits, *, learning_rate: float) -> Float[Array, "checkpoint"]:
    """Test accuracy of the trait at the checkpoints of relearning it from a few labelled images."""
    return relearning.relearn(
        params,
        lambda params: class_loss(params, lessons, trait=True),
        lambda params: measured(params, test, trait=True)["accuracy"],
        checkpoints=CHECKPOINTS,
        learning_rate=learning_rate,
    ).measured
