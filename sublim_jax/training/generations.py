"""Students, and students of students: each generation is distilled from the one before it.

The students of the first generation have one teacher and share its targets. A later student has a teacher of its own:
the student of its condition in the generation before. All begin at the same initial parameters.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sublim_jax import conditions
from sublim_jax.conditions import Condition
from sublim_jax.data import inputs as input_data
from sublim_jax.models import init_sharing, network
from sublim_jax.training import corruption, diagnostics, distill, examples
from sublim_jax.training.config import MemberConfig
from sublim_jax.training.state import Data
from sublim_jax.training.streams import Streams


class Setup(NamedTuple):
    """What all students of a member have in common."""

    spec: MemberConfig
    streams: Streams
    data: Data
    starts: dict[str, network.Params]  # initial parameters by the word with which a condition begins
    guide: distill.FeatureDistillation | None
    score: Callable[[network.Params], Float[Array, ""]]
    after_epoch: Callable[[network.Params], dict[str, Array]] | None  # what is measured after each epoch


def distill_generations(
    setup: Setup, teacher: network.Params
) -> tuple[dict[str, network.Params], dict[str, Array], dict[str, dict[str, Array]]]:
    """Students of the last generation by condition, their losses, and what was measured on the way, by name first."""
    spec = setup.spec
    students: dict[str, network.Params] = {}
    history: dict[str, Array] = {}
    metrics: dict[str, dict[str, Array]] = {}
    scores: dict[str, list[Array]] = {condition: [] for condition in spec.conditions}
    for generation in range(spec.num_generations):
        groups: dict[tuple[Condition, ...], network.Params] = {spec.conditions: teacher}
        if generation > 0:
            groups = {(condition,): students[condition] for condition in spec.conditions}
        for group, group_teacher in groups.items():
            distilled, losses, epoch_metrics = _distill(setup, generation, group_teacher, group)
            students |= distilled
            history |= losses
            for condition, by_name in epoch_metrics.items():
                for name, values in by_name.items():
                    metrics.setdefault(name, {})[condition] = values
        for condition in spec.conditions:
            scores[condition].append(setup.score(students[condition]))
    if spec.num_generations > 1:
        metrics["generation_accuracy"] = {condition: jnp.stack(values) for condition, values in scores.items()}
    return students, history, metrics


def _distill(setup: Setup, generation: int, teacher: network.Params, group: tuple[Condition, ...]):
    """Students of one teacher, from its labels on noise of their generation."""
    spec, streams, model = setup.spec, setup.streams, setup.spec.students
    suffix = f"/{generation}" if generation else ""
    starts = {condition: setup.starts[conditions.start_of(condition)] for condition in group}
    inputs = _noise(setup, streams["student/noise" + suffix])
    targets = distill.label(
        teacher,
        inputs,
        spec.num_noise_images,
        model=model if generation else spec.model,
        batch_size=spec.student.batch_size,
    )
    trainable = None
    if spec.trainable.groups is not None:
        trainable = init_sharing.broadcast_to_params(
            spec.trainable.groups, next(iter(starts.values())), num_classes=model.num_classes
        )
    return distill.distill(
        streams["student/batches" + suffix],
        starts,
        {condition: conditions.distilled_logits_of(condition) for condition in group},
        inputs,
        corruption.corrupt(streams["student/targets" + suffix], targets, spec.target_corruption),
        loss=spec.loss,
        temperature=spec.temperature,
        model=model,
        phase=spec.student,
        target_corruption=spec.target_corruption,
        trainable=trainable,
        guide=setup.guide,
        measure=setup.after_epoch,
    )


def _noise(setup: Setup, key: Key[Array, ""]) -> input_data.IndexedInputs:
    """The inputs of a generation, as a function of the indices of some examples."""
    spec, data = setup.spec, setup.data
    if (noise_function := spec.noise_function) is not None:
        examples.require_noise(spec.students, noise_function)
        return lambda indices: examples.as_inputs(noise_function(key, indices))
    real_images = diagnostics.teacher_inputs(data, spec)
    return input_data.make_inputs_of_shape(
        key, spec.noise, spec.inputs, shape=data.train_inputs.shape[1:], real_images=real_images
    )
