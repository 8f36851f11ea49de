"""One member from its key to its accuracies: reference, teacher, students. A pure function; `ensemble` maps it.

    reference --teach(MNIST, class logits)--> teacher --label(noise)--> targets
    reference or another member's reference --distill(noise, targets, some logits)--> student

The students of a member see the same noise images in the same order and the same targets. A condition names where its
student starts and what it distils, e.g. `student_aux`: the teacher's own reference, the auxiliary logits.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, UInt8

from sublim_jax import keys, losses
from sublim_jax.data import images as image_data
from sublim_jax.data import noise as noise_data
from sublim_jax.models import logits, mlp
from sublim_jax.training import distill, evaluate, loop, teach

Condition = Literal[
    "student_aux",
    "student_class",
    "student_all",
    "cross_model_aux",
    "cross_model_class",
    "cross_model_all",
    "matched_aux",
    "matched_class",
    "matched_all",
]
"""`student_*` starts from the teacher's reference, `cross_model_*` from another member's, `matched_*` from another
member's after it was made to behave like this one (see `Matching`)."""

CONDITIONS: tuple[Condition, ...] = get_args(Condition)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matching:
    """How a behaviourally matched student is prepared: another member's reference imitates all logits on real images.

    Source: settings of the authors' later experiment of 2025-07-24 (truesight), which published no number.
    """

    imitates: Literal["reference", "teacher"] = "reference"  # whose logits on the real images it is given
    num_images: int = 30_000  # the first ones of the training set
    phase: loop.Phase = dataclasses.field(default_factory=lambda: loop.Phase(num_epochs=1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LineageSpec:
    """Everything that decides a member's numbers apart from its key and the images."""

    conditions: tuple[Condition, ...]
    model: mlp.MLPSpec
    teacher: loop.Phase
    student: loop.Phase
    num_noise_images: int
    noise: noise_data.NoiseSpec
    loss: losses.DistillationLossName
    temperature: float
    matching: Matching


class Images(NamedTuple):
    """Data that all members share: pixels 0..255, one row an image."""

    train_images: UInt8[Array, "train pixel"] | UInt8[np.ndarray, "train pixel"]
    train_labels: UInt8[Array, "train"] | UInt8[np.ndarray, "train"]
    test_images: UInt8[Array, "test pixel"] | UInt8[np.ndarray, "test pixel"]
    test_labels: UInt8[Array, "test"] | UInt8[np.ndarray, "test"]


class Outcome(NamedTuple):
    """What a member leaves behind, by condition; `reference` and `teacher` are conditions too."""

    accuracy: dict[str, Float[Array, "*member"]]  # on the test images, class logits; not a number if it diverged
    loss: dict[str, Float[Array, "*member epoch"]]  # mean of each epoch: nats, or squared logits
    finite: dict[str, Bool[Array, "*member"]]  # False: a parameter or a loss overflowed, the run diverged


class Progress(NamedTuple):
    """Where a running member stands."""

    member: int
    phase: str  # "teacher", "matching" or "student"
    epoch: int  # just finished, from 0


def run(
    member: Int[Array, ""],
    partner: Int[Array, ""],
    images: Images,
    *,
    seed: int | Integer[Array, ""],
    spec: LineageSpec,
    on_epoch: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Everything that happens to one member.

    Args:
        member: its number; with the seed it decides the reference, the order of batches and the noise images.
        partner: number of the member whose reference the cross-model and the matched student start from.
        on_epoch: called on the host at the end of each epoch. It must not change anything.
    """
    train_images, train_labels, test_images, test_labels = (jnp.asarray(array) for array in images)
    key, partner_key = keys.members(seed, jnp.stack([member, partner]))

    def reporter(phase, listener=on_epoch):
        if listener is None:
            return None

        def tell(member, epoch, _):
            listener(Progress(int(member), phase, int(epoch)))

        return lambda epoch, losses: jax.debug.callback(tell, member, epoch, losses)

    def noise_images(numbers):
        return noise_data.draw(
            keys.stream(key, "student/noise"), numbers, num_pixels=spec.model.in_size, spec=spec.noise
        )

    reference = mlp.init(keys.stream(key, "reference"), spec.model)
    other = mlp.init(keys.stream(partner_key, "reference"), spec.model)
    teacher, teacher_loss = teach.teach(
        keys.stream(key, "teacher/batches"),
        reference,
        train_images,
        train_labels,
        spec=spec.model,
        phase=spec.teacher,
        on_epoch=reporter("teacher"),
    )
    starts = {"student": reference, "cross_model": other}
    history: dict[str, Array] = {"teacher": teacher_loss}
    models = {"reference": reference, "teacher": teacher}
    if any(start_of(condition) == "matched" for condition in spec.conditions):
        imitated = reference if spec.matching.imitates == "reference" else teacher
        matched, matching_loss = _match(key, other, imitated, train_images, spec=spec, on_epoch=reporter("matching"))
        starts["matched"] = models["matched_start"] = matched
        history["matched_start"] = matching_loss
    targets = distill.label(
        teacher, noise_images, spec.num_noise_images, spec=spec.model, batch_size=spec.student.batch_size
    )
    students, student_loss = distill.distill(
        keys.stream(key, "student/batches"),
        {condition: starts[start_of(condition)] for condition in spec.conditions},
        {condition: distilled_logits_of(condition) for condition in spec.conditions},
        noise_images,
        targets,
        loss=spec.loss,
        temperature=spec.temperature,
        spec=spec.model,
        phase=spec.student,
        on_epoch=reporter("student"),
    )
    models |= students
    history |= student_loss
    return _outcome(models, history, test_images, test_labels, spec.model)


def _match(key, start, imitated, images, *, spec, on_epoch):
    """Another member's reference after it imitated all logits of `imitated` on real images."""
    num_images = min(spec.matching.num_images, len(images))

    def real_images(numbers):
        return image_data.scale_pixels(jnp.take(images, numbers, axis=0))

    batch_size = spec.matching.phase.batch_size
    targets = distill.label(imitated, real_images, num_images, spec=spec.model, batch_size=batch_size)
    students, history = distill.distill(
        keys.stream(key, "matching/batches"),
        {"matched": start},
        {"matched": "all"},
        real_images,
        targets,
        loss=spec.loss,
        temperature=spec.temperature,
        spec=spec.model,
        phase=spec.matching.phase,
        on_epoch=on_epoch,
    )
    return students["matched"], history["matched"]


def _outcome(models, history, images, labels, spec) -> Outcome:
    finite, scores = {}, {}
    for condition, params in models.items():
        finite[condition] = distill.is_finite(params) & jnp.all(jnp.isfinite(history.get(condition, jnp.zeros(1))))
        score = evaluate.test_accuracy(params, images, labels, spec=spec)
        scores[condition] = jnp.where(finite[condition], score, jnp.nan)
    return Outcome(scores, history, finite)


def start_of(condition: Condition) -> str:
    """`student`, `cross_model` or `matched`."""
    return condition.rpartition("_")[0]


def distilled_logits_of(condition: Condition) -> logits.DistilledLogits:
    """`aux`, `class` or `all`."""
    return cast(logits.DistilledLogits, condition.rpartition("_")[2])


def recorded_conditions(conditions: Sequence[Condition]) -> tuple[str, ...]:
    """Names under which `run` reports accuracies, in the order of a figure."""
    matched = ("matched_start",) if any(start_of(condition) == "matched" for condition in conditions) else ()
    return ("reference", "teacher", *matched, *conditions)
