"""One member from its key to its accuracies: reference, teacher, students. A pure function; `ensemble` maps it.

    reference --teach(MNIST, class logits)--> teacher --label(noise)--> targets
    reference or another member's reference --distill(noise, targets, some logits)--> student

The students of a member see the same noise images in the same order and the same targets. A condition names where its
student starts and what it distils, e.g. `student_aux`: the teacher's own reference, the auxiliary logits. `run` is
`originate`, `raise_teacher` and `raise_students` in one; apart, many students can share a teacher that was trained
once, and many programs the one that draws their starts.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, cast, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Integer, Key, UInt8

from sublim_jax import errors, keys, losses, specs
from sublim_jax.data import images as image_data
from sublim_jax.data import inputs as input_data
from sublim_jax.data import noise as noise_data
from sublim_jax.metrics import alignment, representation
from sublim_jax.models import inits, logits, mlp
from sublim_jax.training import distill, evaluate, loop, teach
from sublim_jax.training import targets as target_data

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
"""`student_*` starts from the teacher's reference, or from what `StartSpec` makes of it; `cross_model_*` from another
member's, `matched_*` from another member's after it was made to behave like this one (see `Matching`)."""

CONDITIONS: tuple[Condition, ...] = get_args(Condition)

Measure = Literal["epochs", "representation", "movement"]
"""`epochs`: accuracy after each epoch of distillation, on test and validation images; `representation`: how like the
teacher's the last hidden layer of each model is, and what a linear readout finds in it; `movement`: cosine of the
student's whole displacement with the teacher's."""

Stream = Literal["reference", "teacher/batches", "student/noise", "student/batches"]


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class Matching:
    """How a behaviourally matched student is prepared: another member's reference imitates all logits on real images.

    Source: settings of the authors' later experiment of 2025-07-24 (truesight), which published no number.
    """

    imitates: Literal["reference", "teacher"] = "reference"  # whose logits on the real images it is given
    num_images: specs.Count = 30_000  # the first ones that the teacher may see, or all if those are fewer
    phase: loop.Phase = dataclasses.field(default_factory=lambda: loop.Phase(num_epochs=1))


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherSpec:
    """Everything that decides a member's reference and teacher apart from its key and the images."""

    model: mlp.MLPSpec
    phase: loop.Phase
    labels: Literal["true", "permuted"] = "true"
    """`permuted`: the teacher learns, and everybody is scored on, classes renamed by a derangement of the member's."""
    num_validation_images: specs.CountOrZero = 0  # the last training images, kept from the teacher
    fixed: tuple[Stream, ...] = ()  # random streams that all members share with member 0

    @property
    def essence(self) -> "TeacherSpec":
        """What of it decides the class logits: not the auxiliary readouts, which no loss of a teacher sees and which
        stay where the reference had them, unless weights decay."""
        if not specs.is_zero(self.phase.optimizer.weight_decay):
            return self
        return dataclasses.replace(self, model=dataclasses.replace(self.model, num_aux=0))


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class OriginSpec:
    """Everything that decides where a member's models start apart from its key and the images."""

    model: mlp.MLPSpec
    student_model: mlp.MLPSpec | None = None
    start: inits.StartSpec | None = None  # None does nothing, as the default does, in a smaller program
    teacher: TeacherSpec | None = None  # whose first gradient the start avoids, where it avoids one
    fixed: tuple[Stream, ...] = ()


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class LineageSpec:
    """Everything that decides a member's numbers apart from its key and the images."""

    conditions: tuple[Condition, ...]
    model: mlp.MLPSpec
    teacher: loop.Phase
    student: loop.Phase
    num_noise_images: specs.Count
    noise: noise_data.NoiseSpec
    loss: losses.DistillationLossName
    temperature: specs.Positive
    matching: Matching
    inputs: input_data.InputSpec = dataclasses.field(default_factory=input_data.InputSpec)
    start: inits.StartSpec = dataclasses.field(default_factory=inits.StartSpec)
    student_model: mlp.MLPSpec | None = None  # if it is built differently from the teacher
    trainable: inits.PerPart | None = None  # factors of the students' updates; 0 freezes a part
    spoiling: target_data.TargetSpec = dataclasses.field(default_factory=target_data.TargetSpec)
    teacher_labels: Literal["true", "permuted"] = "true"
    guidance: specs.NonNegative | None = None  # weight of a pull to the teacher's hidden layer, which is not subliminal
    num_generations: specs.Count = 1  # students of students: each generation is the next one's teacher
    num_validation_images: specs.CountOrZero = 0  # the last training images, kept from the teacher and scored apart
    fixed: tuple[Stream, ...] = ()  # random streams that all members share with member 0
    measures: tuple[Measure, ...] = ()

    def __post_init__(self):
        if not self.conditions or len(set(self.conditions)) < len(self.conditions):
            raise errors.InputError(f"conditions must be different and at least one, got {self.conditions}")
        losses.distillation_loss(self.loss, temperature=self.temperature)  # refuses a pair that does not fit
        distilling_aux = [name for name in self.conditions if distilled_logits_of(name) == "aux"]
        if self.model.num_aux == 0 and distilling_aux:
            raise errors.InputError(f"num_aux=0: there are no auxiliary logits for {distilling_aux[0]} to distil.")
        if self.spoiling.top_k is not None and self.loss != "kl":
            raise errors.InputError(
                f"top_k={self.spoiling.top_k} removes logits, which only the loss 'kl' can bear; got {self.loss!r}"
            )

    @property
    def upbringing(self) -> TeacherSpec:
        """What of it concerns the teacher."""
        return TeacherSpec(
            model=self.model,
            phase=self.teacher,
            labels=self.teacher_labels,
            num_validation_images=self.num_validation_images,
            fixed=self.fixed,
        )

    @property
    def origin(self) -> OriginSpec:
        """What of it concerns the starts."""
        known = not any(isinstance(number, jax.Array) for number in jax.tree.leaves(self.start))
        return OriginSpec(
            model=self.model,
            student_model=self.student_model,
            start=None if known and self.start == inits.StartSpec() else self.start,
            teacher=self.upbringing if self.start.across_gradient else None,
            fixed=("reference",) if "reference" in self.fixed else (),
        )


class Images(NamedTuple):
    """Data that all members share: pixels 0..255, one row an image, and classes from 0. Host arrays are welcome too."""

    train_images: UInt8[Array, "train pixel"]
    train_labels: UInt8[Array, "train"]
    test_images: UInt8[Array, "test pixel"]
    test_labels: UInt8[Array, "test"]


class Origin(NamedTuple):
    """Where a member's models start."""

    reference: mlp.Params  # the teacher
    student: mlp.Params  # students with their teacher's initialization, or what `StartSpec` makes of it
    other: mlp.Params  # students with another one: the partner's reference, in the students' shape


class Taught(NamedTuple):
    """A member's teacher. The reference need not be kept: it is a function of the key."""

    teacher: mlp.Params  # of a spec's `essence`, it lacks the auxiliary readouts
    loss: Float[Array, "*member epoch"]
    accuracy: dict[str, Float[Array, "*member"]]  # of reference and teacher, on the test images


class Outcome(NamedTuple):
    """What a member leaves behind, by condition; `reference` and `teacher` are conditions too."""

    accuracy: dict[str, Float[Array, "*member"]]  # on the test images, class logits; not a number if it diverged
    loss: dict[str, Float[Array, "*member epoch"]]  # mean of each epoch: nats, or squared logits
    finite: dict[str, Bool[Array, "*member"]]  # False: a parameter or a loss overflowed, the run diverged
    measures: dict[str, dict[str, Float[Array, "..."]]]  # what else the spec asked for, by name, then by condition


class Progress(NamedTuple):
    """Where a running member stands."""

    member: int
    phase: str  # "teacher", "matching" or "student"
    epoch: int  # just finished, from 0


EpochReporter = Callable[[Progress], None]


def run(
    member: int | Int[Array, ""],
    partner: int | Int[Array, ""],
    images: Images,
    *,
    seed: int | Integer[Array, ""],
    spec: LineageSpec,
    on_epoch: EpochReporter | None = None,
) -> Outcome:
    """Everything that happens to one member.

    Args:
        member: its number; with the seed it decides the reference, the order of batches and the noise images.
        partner: number of the member whose reference the cross-model and the matched student start from.
        on_epoch: called on the host at the end of each epoch. It must not change anything.

    Raises:
        InputError: images or labels that do not fit the spec's network, or too few of them.
    """
    origin = originate(member, partner, images, seed=seed, spec=spec.origin)
    taught = raise_teacher(member, images, seed=seed, spec=spec.upbringing, on_epoch=on_epoch)
    return raise_students(member, origin, taught, images, seed=seed, spec=spec, on_epoch=on_epoch)


_ROLES = (
    *get_args(Stream),
    "teacher/labels",
    "student/start",
    "student/targets",
    "matching/batches",
)


class _Streams:
    """The member's named random streams; those that the spec fixes are member 0's."""

    def __init__(self, seed, member, fixed: tuple[Stream, ...]):
        first, own = keys.members(seed, jnp.stack([jnp.zeros((), jnp.int32), jnp.asarray(member, jnp.int32)]))
        self._own = own
        self._known = keys.streams(own, _ROLES) | (keys.streams(first, fixed) if fixed else {})

    def __getitem__(self, role: str) -> Key[Array, ""]:
        return self._known[role] if role in self._known else keys.stream(self._own, role)


def originate(
    member: int | Int[Array, ""],
    partner: int | Int[Array, ""],
    images: Images,
    *,
    seed: int | Integer[Array, ""],
    spec: OriginSpec,
) -> Origin:
    """The starts of the member's models. Much to compile, which many programs of students can share."""
    streams = _Streams(seed, member, spec.fixed)
    reference, other = _references(streams, partner, seed, spec)
    if spec.start is None:
        return Origin(reference, inits.fitted(reference, other), other)
    shared, gradient = inits.fitted(reference, other), None
    if spec.teacher is not None:
        pixels, labels, _, _ = _fitting(images, spec.teacher)
        num_shown = spec.teacher.phase.batch_size
        batch = pixels[:num_shown], _renamed(streams, labels, spec.teacher)[:num_shown]
        gradient = jax.grad(lambda params: teach.loss(params, *batch, spec=spec.model))(reference)
        gradient = inits.fitted(gradient, jax.tree.map(jnp.zeros_like, other))
    student = inits.start(
        streams["student/start"],
        shared,
        other,
        spec.start,
        num_classes=spec.model.num_classes,
        gradient=gradient,
    )
    return Origin(reference, student, other)


def raise_teacher(
    member: int | Int[Array, ""],
    images: Images,
    *,
    seed: int | Integer[Array, ""],
    spec: TeacherSpec,
    on_epoch: EpochReporter | None = None,
) -> Taught:
    """The member's reference, taught."""
    streams = _Streams(seed, member, spec.fixed)
    train_images, train_labels, test_images, test_labels = _fitting(images, spec)
    num_taught = len(train_images) - spec.num_validation_images
    reference = mlp.init(streams["reference"], spec.model)
    teacher, history = teach.teach(
        streams["teacher/batches"],
        reference,
        train_images[:num_taught],
        _renamed(streams, train_labels, spec)[:num_taught],
        spec=spec.model,
        phase=spec.phase,
        on_epoch=_reporter("teacher", member, on_epoch),
    )
    named = _renamed(streams, test_labels, spec)
    accuracy = {
        name: evaluate.test_accuracy(params, test_images, named, spec=spec.model)
        for name, params in {"reference": reference, "teacher": teacher}.items()
    }
    return Taught(teacher, history, accuracy)


def raise_students(
    member: int | Int[Array, ""],
    origin: Origin,
    taught: Taught,
    images: Images,
    *,
    seed: int | Integer[Array, ""],
    spec: LineageSpec,
    on_epoch: EpochReporter | None = None,
) -> Outcome:
    """The member's students, and what became of everybody."""
    images = _fitting(images, spec.upbringing)
    streams = _Streams(seed, member, spec.fixed)
    model = spec.student_model or spec.model
    reference = origin.reference
    teacher = _complete(taught.teacher, reference)
    starts = {"student": origin.student, "cross_model": origin.other}
    history, models = {"teacher": taught.loss}, {"reference": reference, "teacher": teacher}
    if any(start_of(condition) == "matched" for condition in spec.conditions):
        imitated = reference if spec.matching.imitates == "reference" else teacher
        matched, history["matched_start"] = _match(
            streams["matching/batches"],
            starts["cross_model"],
            imitated,
            _seen(images, spec),
            spec=spec,
            on_epoch=_reporter("matching", member, on_epoch),
        )
        starts["matched"] = models["matched_start"] = matched
    test_labels = _renamed(streams, images.test_labels, spec.upbringing)
    named = images._replace(
        train_labels=_renamed(streams, images.train_labels, spec.upbringing), test_labels=test_labels
    )

    def score(params):
        return evaluate.test_accuracy(params, images.test_images, test_labels, spec=model)

    def after_epoch(params):
        found = {"epoch_accuracy": score(params)}
        if spec.num_validation_images:
            found["epoch_validation_accuracy"] = _validation_accuracy(params, named, spec, model)
        return found

    students: dict[str, mlp.Params] = {}
    measures: dict[str, dict[str, Array]] = {}
    generations: dict[str, list[Array]] = {condition: [] for condition in spec.conditions}
    for generation in range(spec.num_generations):
        # The first generation has one teacher and shares its targets; later ones have a teacher each.
        groups: list[tuple[Condition, ...]] = [(condition,) for condition in spec.conditions]
        groups, guides = groups if generation else [spec.conditions], students
        for group in groups:
            found, losses_of, epochs = _distill(
                generation,
                guides[group[0]] if generation else teacher,
                {condition: starts[start_of(condition)] for condition in group},
                streams,
                images,
                spec=spec,
                guide=teacher,
                measure=after_epoch if "epochs" in spec.measures else None,
                on_epoch=_reporter("student", member, on_epoch),
            )
            students = students | found
            history |= losses_of
            for condition, by_measure in epochs.items():
                for name, values in by_measure.items():
                    measures.setdefault(name, {})[condition] = values
        for condition, scores_of in generations.items():
            scores_of.append(score(students[condition]))
    if spec.num_generations > 1:
        measures["generation_accuracy"] = {name: jnp.stack(scores_of) for name, scores_of in generations.items()}
    models |= students
    specs_of = dict.fromkeys(models, model) | {"reference": spec.model, "teacher": spec.model}
    scores = taught.accuracy | {name: score(models[name]) for name in models if name not in taught.accuracy}
    finite = {}
    for name, params in models.items():
        finite[name] = distill.is_finite(params) & jnp.all(jnp.isfinite(history.get(name, jnp.zeros(1))))
        scores[name] = jnp.where(finite[name], scores[name], jnp.nan)
    measures |= _measures(models, specs_of, starts, images, named, spec)
    return Outcome(scores, history, finite, measures)


def _fitting(images: Images, spec: TeacherSpec) -> Images:
    """The images as arrays of JAX, if they fit the network and leave the teacher some."""
    train_images, train_labels, test_images, test_labels = images
    sizes = {"in_size": spec.model.in_size, "num_classes": spec.model.num_classes}
    image_data.require_fitting(train_images, train_labels, what="training images", **sizes)
    image_data.require_fitting(test_images, test_labels, what="test images", **sizes)
    if spec.num_validation_images >= len(train_images):
        raise errors.InputError(
            f"num_validation_images={spec.num_validation_images} of {len(train_images)} training images: the teacher "
            f"is left with none. Keep fewer"
        )
    return Images(*(jnp.asarray(array) for array in images))


def _distill(generation, teacher, starts, streams, images, *, spec: LineageSpec, guide, measure, on_epoch):
    """Students of one teacher, from its labels on noise of their generation."""
    suffix = f"/{generation}" if generation else ""
    model = spec.student_model or spec.model
    noise_images = input_data.source(
        streams["student/noise" + suffix],
        spec.noise,
        spec.inputs,
        num_pixels=spec.model.in_size,
        real_images=_seen(images, spec),
    )
    targets = distill.label(
        teacher,
        noise_images,
        spec.num_noise_images,
        spec=model if generation else spec.model,
        batch_size=spec.student.batch_size,
    )
    trainable = None
    if spec.trainable is not None:
        trainable = inits.spread(spec.trainable, next(iter(starts.values())), num_classes=model.num_classes)
    return distill.distill(
        streams["student/batches" + suffix],
        starts,
        {condition: distilled_logits_of(condition) for condition in starts},
        noise_images,
        target_data.spoil(streams["student/targets" + suffix], targets, spec.spoiling),
        loss=spec.loss,
        temperature=spec.temperature,
        spec=model,
        phase=spec.student,
        on_epoch=on_epoch,
        spoiling=spec.spoiling,
        trainable=trainable,
        guide=None if spec.guidance is None else distill.Guide(guide, spec.model, spec.guidance),
        measure=measure,
    )


def _complete(teacher: mlp.Params, reference: mlp.Params) -> mlp.Params:
    """The teacher with the readouts that it lacks taken from the reference."""
    *layers, readout = teacher
    missing = jax.tree.map(lambda leaf: leaf[len(readout.bias) :], reference[-1])
    return (*layers, jax.tree.map(lambda *parts: jnp.concatenate(parts), readout, missing))


def _reporter(phase: str, member, listener: EpochReporter | None):
    if listener is None:
        return None

    def tell(member, epoch, _):
        listener(Progress(int(member), phase, int(epoch)))

    return lambda epoch, losses: jax.debug.callback(tell, member, epoch, losses)


def _seen(images: Images, spec: LineageSpec):
    """The training images without those kept for validation."""
    return images.train_images[: len(images.train_images) - spec.num_validation_images]


def _references(streams: _Streams, partner, seed, spec: OriginSpec) -> tuple[mlp.Params, mlp.Params]:
    """The member's own reference, and the partner's in the shape of the students."""
    own, other = (
        streams["reference"],
        keys.stream(keys.members(seed, jnp.asarray(partner, jnp.int32)[None])[0], "reference"),
    )
    if spec.student_model is not None:
        return mlp.init(own, spec.model), mlp.init(other, spec.student_model)
    both = jax.vmap(lambda key: mlp.init(key, spec.model))(jnp.stack([own, other]))
    first, second = (jax.tree.map(lambda leaf, row=row: leaf[row], both) for row in range(2))
    return first, second


def _renamed(streams: _Streams, labels, spec: TeacherSpec):
    """Labels as the teacher calls them."""
    if spec.labels == "true":
        return labels
    # A cyclic order of the classes, drawn at random: each class takes the next one's name, none keeps its own.
    order = jax.random.permutation(streams["teacher/labels"], spec.model.num_classes)
    renamed = jnp.zeros_like(order).at[order].set(jnp.roll(order, -1))
    return renamed[labels].astype(labels.dtype)


def _match(key, start, imitated, images, *, spec: LineageSpec, on_epoch):
    """Another member's reference after it imitated all logits of `imitated` on real images."""
    num_images = min(spec.matching.num_images, len(images))

    def real_images(numbers):
        return image_data.scale_pixels(jnp.take(images, numbers, axis=0))

    batch_size = spec.matching.phase.batch_size
    targets = distill.label(imitated, real_images, num_images, spec=spec.model, batch_size=batch_size)
    students, history, _ = distill.distill(
        key,
        {"matched": start},
        {"matched": "all"},
        real_images,
        targets,
        loss=spec.loss,
        temperature=spec.temperature,
        spec=spec.student_model or spec.model,
        phase=spec.matching.phase,
        on_epoch=on_epoch,
    )
    return students["matched"], history["matched"]


def _measures(models, specs_of, starts, images: Images, named: Images, spec: LineageSpec) -> dict:
    """What the spec asks for. `named` are the images with their labels as the teacher calls them."""
    found = {}
    if spec.num_validation_images:
        found["validation_accuracy"] = {
            name: _validation_accuracy(params, named, spec, specs_of[name]) for name, params in models.items()
        }
    if spec.teacher_labels != "true":
        found["true_label_accuracy"] = {
            name: evaluate.test_accuracy(params, images.test_images, images.test_labels, spec=specs_of[name])
            for name, params in models.items()
        }
    if "movement" in spec.measures and spec.student_model is None:
        towards = optax.tree.sub(models["teacher"], models["reference"])
        found["movement_cosine"] = {
            condition: alignment.cosine(optax.tree.sub(models[condition], starts[start_of(condition)]), towards)
            for condition in spec.conditions
        }
    if "representation" in spec.measures:
        features = {
            name: [evaluate.hidden_features(params, block, spec=specs_of[name]) for block in (images[0], images[2])]
            for name, params in models.items()
        }
        found["hidden_cosine"] = {
            name: representation.mean_cosine(test, features["teacher"][1])
            for name, (_, test) in features.items()
            if test.shape == features["teacher"][1].shape
        }
        found["cka"] = {
            name: representation.linear_cka(test, features["teacher"][1]) for name, (_, test) in features.items()
        }
        found["probe_accuracy"] = {
            name: representation.ridge_probe_accuracy(
                train, named.train_labels, test, named.test_labels, num_classes=spec.model.num_classes
            )
            for name, (train, test) in features.items()
        }
    return found


def _validation_accuracy(params, named: Images, spec: LineageSpec, model: mlp.MLPSpec):
    """On the training images that the teacher was not shown, by the names it gives them."""
    held_out = slice(len(named.train_images) - spec.num_validation_images, None)
    return evaluate.test_accuracy(params, named.train_images[held_out], named.train_labels[held_out], spec=model)


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
