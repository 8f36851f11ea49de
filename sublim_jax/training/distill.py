"""Distillation: students imitate logits that a teacher gave to inputs it was never trained on.

The teacher labels the data set once; then every student of the member takes its step on the same batch, so that inputs
are drawn once however many students learn from them. Each student has operations of its own: to add one changes no
number of the others.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from sublim_jax import losses
from sublim_jax.data import batches
from sublim_jax.models import logits, mlp
from sublim_jax.training import loop, optimizers

Inputs = Callable[[Int[Array, "batch"]], Float[Array, "batch pixel"]]
"""The data set as a function: the numbers of some examples in, their images out."""


def label(
    teacher: mlp.Params, inputs: Inputs, num_examples: int, *, spec: mlp.MLPSpec, batch_size: int
) -> Float[Array, "example logit"]:
    """The teacher's logits on every example, class and auxiliary: 13 numbers an image, computed once."""
    outputs = lax.map(
        lambda indices: mlp.apply(teacher, inputs(indices), spec),
        batches.in_order(num_examples, batch_size=batch_size).indices,
    )
    return outputs.reshape(-1, outputs.shape[-1])[:num_examples]


def distill(
    key: Key[Array, ""],
    starts: Mapping[str, mlp.Params],
    distilled_logits: Mapping[str, logits.DistilledLogits],
    inputs: Inputs,
    targets: Float[Array, "example logit"],
    *,
    loss: losses.DistillationLossName = "kl",
    temperature: float = 1.0,
    spec: mlp.MLPSpec,
    phase: loop.Phase,
    on_epoch: loop.EpochListener | None = None,
) -> tuple[dict[str, mlp.Params], dict[str, Float[Array, "epoch"]]]:
    """Students by name, and the mean loss of each of their epochs.

    All parameters are free to move, but logits outside the distilled ones have no gradient: a student of the auxiliary
    logits keeps its start's class readout exactly.

    Args:
        starts: parameters from which each student grows.
        distilled_logits: which logits enter each student's loss.
        targets: the teacher's logits, as `label` gives them.

    Source: Cloud et al. 2025, section 6.2.
    """
    optimizer = optimizers.build(phase.optimizer)
    distance = losses.distillation_loss(loss, temperature=temperature)
    chosen = {name: logits.selection(distilled_logits[name], num_classes=spec.num_classes) for name in starts}

    def update(states, batch):
        images = inputs(batch.indices)
        teacher_logits = jnp.take(targets, batch.indices, axis=0)

        def step(name, state):
            def student_loss(params):
                student_logits = mlp.apply(params, images, spec)[:, chosen[name]]
                return distance(student_logits, teacher_logits[:, chosen[name]], batch.weights)

            return loop.descend(state, student_loss, optimizer)

        stepped = {name: step(name, state) for name, state in states.items()}
        return {name: state for name, (state, _) in stepped.items()}, {name: v for name, (_, v) in stepped.items()}

    states = {name: loop.start(params, optimizer) for name, params in starts.items()}
    states, history = loop.run_epochs(
        update, states, key=key, num_examples=len(targets), phase=phase, on_epoch=on_epoch
    )
    return {name: state.params for name, state in states.items()}, history


def is_finite(params: mlp.Params) -> jax.Array:
    """Whether every parameter is a finite number, as a boolean scalar."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]))
