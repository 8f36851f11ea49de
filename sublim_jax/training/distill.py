"""Distillation: students imitate logits that a teacher gave to inputs it was never trained on.

The teacher labels the data set once; then every student of the member takes its step on the same batch, so that inputs
are drawn once however many students learn from them. Each student has operations of its own: to add one changes no
number of the others.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import flatten_util, lax
from jaxtyping import Array, Float, Key, PyTree

from sublim_jax import errors, losses, specs
from sublim_jax.data import batches
from sublim_jax.data import inputs as input_data
from sublim_jax.metrics import representation
from sublim_jax.models import heads, network
from sublim_jax.training import corruption, loop, optimizers


class FeatureDistillation(NamedTuple):
    """A teacher whose hidden layer students are to resemble. Not subliminal learning: they see more than logits."""

    params: network.Params
    model: network.Model
    weight: float | Float[Array, ""]  # of 1 minus the cosine between the Gram matrices of the last hidden layers


def label(
    teacher: network.Params,
    inputs: input_data.IndexedInputs,
    num_examples: int,
    *,
    model: network.Model,
    batch_size: int,
) -> Float[Array, "example logit"]:
    """The teacher's logits on every example, class and auxiliary: 13 numbers an image, computed once.

    Raises:
        InputError: `num_examples` or `batch_size` is not a whole number of at least 1.
    """
    specs.check(num_examples, specs.Count, "num_examples")
    specs.check(batch_size, specs.Count, "batch_size")
    outputs = lax.map(
        lambda indices: model.apply(teacher, inputs(indices)),
        batches.sequential(num_examples, batch_size=batch_size).indices,
    )
    return outputs.reshape(-1, outputs.shape[-1])[:num_examples]


def shifted_targets(
    own: Float[Array, "example logit"],
    teacher: Float[Array, "example logit"],
    reference: Float[Array, "example logit"],
) -> Float[Array, "example logit"]:
    """The logits of a student's own start plus the teacher's minus its reference's: a fair control of other starts.

    A student that starts elsewhere has other auxiliary logits altogether than the teacher, and may break when it learns
    them. With these targets its loss begins as small as that of a student of the reference, for which they are the
    teacher's logits themselves.
    """
    return own + (teacher - reference)


def distill(
    key: Key[Array, ""],
    starts: Mapping[str, network.Params],
    distilled_logits: Mapping[str, heads.DistilledLogits],
    inputs: input_data.IndexedInputs,
    targets: Float[Array, "example logit"],
    *,
    loss: losses.DistillationLossName = "kl",
    temperature: float | Float[Array, ""] = 1.0,
    model: network.Model,
    phase: loop.TrainPhase,
    target_corruption: corruption.TargetCorruption | None = None,
    trainable: PyTree | None = None,
    guide: FeatureDistillation | None = None,
    measure: Callable[[network.Params], PyTree] | None = None,
) -> tuple[dict[str, network.Params], dict[str, Float[Array, "epoch"]], dict[str, PyTree]]:
    """Students by name, the mean loss of each of their epochs, and what `measure` says of each after each epoch.

    All parameters are free to move, but logits outside the distilled ones have no gradient: a student of the auxiliary
    logits keeps its start's class readout exactly.

    Args:
        starts: parameters from which each student grows.
        distilled_logits: which logits enter each student's loss.
        targets: the teacher's logits, as `label` gives them.
        target_corruption: says whether only the largest distilled logits of an example are shown.
        trainable: factors of every student's updates, up to broadcasting; 0 freezes a parameter.
        guide: adds to the loss a term that pulls the hidden layer towards the teacher's.

    Raises:
        InputError: no targets, or not as many logits as the students have; a loss or logits of an unknown name.

    Source: Cloud et al. 2025, section 6.2.
    """
    if not len(targets) or targets.shape[1] != model.num_classes + model.num_aux:
        raise errors.InputError(
            f"targets of shape {targets.shape}: expected one example at least, and as many logits as the students "
            f"have, num_classes={model.num_classes} and num_aux={model.num_aux}"
        )
    optimizer = optimizers.build(phase.optimizer)
    distance = losses.distillation_loss(loss, temperature=temperature)
    chosen = {name: heads.selection(distilled_logits[name], num_classes=model.num_classes) for name in starts}

    def update(states, batch):
        shown_inputs = inputs(batch.indices)
        teacher_logits = jnp.take(targets, batch.indices, axis=0)

        guiding = None if guide is None else guide.model.apply_with_features(guide.params, shown_inputs)[1]

        def step(name, state):
            shown = teacher_logits[:, chosen[name]]
            if target_corruption is not None:
                shown = corruption.keep_largest(shown, target_corruption)

            def student_loss(params):
                if guide is None or guiding is None:
                    return distance(model.apply(params, shown_inputs)[:, chosen[name]], shown, batch.weights)
                outputs, hidden = model.apply_with_features(params, shown_inputs)
                value = distance(outputs[:, chosen[name]], shown, batch.weights)
                counted = batch.weights[None]  # spare places repeat an example, and would weigh it more than others
                likeness = representation.gram_cosine(
                    hidden * counted, guiding * counted, product=model.feature_product
                )
                return value + guide.weight * (1 - likeness)

            return loop.gradient_step(state, student_loss, optimizer, trainable=trainable)

        stepped = {name: step(name, state) for name, state in states.items()}
        return {name: state for name, (state, _) in stepped.items()}, {name: v for name, (_, v) in stepped.items()}

    states = {name: loop.init_state(params, optimizer) for name, params in starts.items()}

    def measured(states):
        return {} if measure is None else {name: measure(state.params) for name, state in states.items()}

    states, (history, metrics) = loop.run_epochs(
        update, states, key=key, num_examples=len(targets), phase=phase, measure=measured
    )
    return {name: state.params for name, state in states.items()}, history, metrics


def is_finite(params: network.Params) -> jax.Array:
    """Whether every parameter is a finite number, as a boolean scalar."""
    return jnp.all(jnp.isfinite(flatten_util.ravel_pytree(params)[0]))
