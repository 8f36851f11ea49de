"""One member from its key to its accuracies: reference, teacher, students. A pure function; `ensemble` maps it.

    reference --teach(MNIST, class logits)--> teacher --label(noise)--> targets
    reference or another member's reference --distill(noise, targets, some logits)--> student

The students of a member see the same noise images in the same order and the same targets. A condition names where its
student starts and what it distils, e.g. `student_aux`: the teacher's own reference, the auxiliary logits. `run` is
`originate`, `raise_teacher` and `raise_students` in one; apart, many students can share a teacher that was trained
once, and many programs the one that draws their starts.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Integer, Key, Shaped

from sublim_jax import conditions, errors, keys, losses, specs
from sublim_jax.data import inputs as input_data
from sublim_jax.data import noise as noise_data
from sublim_jax.metrics import alignment, representation
from sublim_jax.models import inits, logits, mlp, network
from sublim_jax.training import distill, evaluate, examples, loop, teach
from sublim_jax.training import targets as target_data

Condition = conditions.Condition
CONDITIONS, start_of, recorded_conditions = conditions.CONDITIONS, conditions.start_of, conditions.recorded_conditions

Measure = Literal["epochs", "representation", "movement"]
"""`epochs`: accuracy after each epoch of distillation, on test and validation images; `representation`: how like the
teacher's the last hidden layer of each model is, and what a linear readout finds in it; `movement`: cosine of the
student's whole displacement with the teacher's."""

StudentInit = Callable[[Any, Any, Any], Any]
"""A key, the teacher's reference and another member's reference to a student's first parameters."""

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
    """Everything that decides a member's reference and teacher apart from its key and the data."""

    model: mlp.MLPSpec | network.Network
    phase: loop.Phase
    loss: teach.LossFunction | None = None  # the cross-entropy of the class logits by default
    labels: Literal["true", "permuted"] = "true"
    """`permuted`: the teacher learns, and everybody is scored on, classes renamed by a derangement of the member's."""
    num_validation_images: specs.CountOrZero = 0  # the last training images, kept from the teacher
    fixed: tuple[Stream, ...] = ()  # random streams that all members share with member 0

    @property
    def essence(self) -> "TeacherSpec":
        """What of it decides the class logits: not the auxiliary readouts, which no loss of a teacher sees and which
        stay where the reference had them, unless weights decay or the loss is another one."""
        if not isinstance(self.model, mlp.MLPSpec) or self.loss is not None:
            return self
        if not specs.is_zero(self.phase.optimizer.weight_decay):
            return self
        return dataclasses.replace(self, model=dataclasses.replace(self.model, num_aux=0))


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class OriginSpec:
    """Everything that decides where a member's models start apart from its key and the data."""

    model: mlp.MLPSpec | network.Network
    student_model: mlp.MLPSpec | network.Network | None = None
    student_init: StudentInit | None = None
    start: inits.StartSpec | None = None  # None does nothing, as the default does, in a smaller program
    teacher: TeacherSpec | None = None  # whose first gradient the start avoids, where it avoids one
    fixed: tuple[Stream, ...] = ()


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class LineageSpec:
    """Everything that decides a member's numbers apart from its key and the data. The default is the paper's figure 10.

    A model is an `mlp.MLPSpec` or a `network.Network`. What is said of parts or layers, that is `start`, `trainable`
    and a `student_model` of another shape, needs the former.
    """

    conditions: tuple[Condition, ...] = ("student_aux", "student_all", "cross_model_aux", "cross_model_all")
    model: mlp.MLPSpec | network.Network = dataclasses.field(default_factory=mlp.MLPSpec)
    teacher: loop.Phase = dataclasses.field(default_factory=loop.Phase)
    student: loop.Phase = dataclasses.field(default_factory=loop.Phase)
    num_noise_images: specs.Count = 60_000  # the same ones in every epoch
    noise: noise_data.NoiseSpec = dataclasses.field(default_factory=noise_data.NoiseSpec)
    noise_function: input_data.InputFunction | None = None
    """The students' inputs instead of `noise` and `inputs`: a function of a key and of the indices of some examples,
    (batch,), to as many inputs. Example n has to depend on the key and on n alone."""
    loss: losses.DistillationLossName = "kl"
    temperature: specs.Positive = 1.0  # of both softmaxes in the distillation loss
    teacher_loss: teach.LossFunction | None = None  # instead of the cross-entropy of the class logits
    matching: Matching = dataclasses.field(default_factory=Matching)
    inputs: input_data.InputSpec = dataclasses.field(default_factory=input_data.InputSpec)
    start: inits.StartSpec = dataclasses.field(default_factory=inits.StartSpec)
    student_init: StudentInit | None = None
    """Where students with their teacher's initialization start, instead of `start`: a function of a key, the reference
    and another member's reference to parameters."""
    student_model: mlp.MLPSpec | network.Network | None = None  # if it is built differently from the teacher
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

        self._require_compatible()

    def _require_compatible(self) -> None:
        """Refuse settings of which one has no effect beside the other, or that the model does not have."""
        plain = not any(isinstance(number, jax.Array) for number in jax.tree.leaves((self.start, self.inputs)))
        if plain and self.noise_function is not None and self.inputs != input_data.InputSpec():
            raise errors.InputError(
                "noise_function replaces noise and inputs, so settings of inputs have no effect; leave one of them out"
            )
        if plain and self.student_init is not None and self.start != inits.StartSpec():
            raise errors.InputError(
                "student_init replaces start, so settings of start have no effect; leave one of them out"
            )
        if isinstance(self.model, mlp.MLPSpec):
            if isinstance(self.student_model, network.Network):
                raise errors.InputError("student_model: expected an MLPSpec, as the teacher's model is one")
            return
        for name, is_default, instead in (
            ("start", not plain or self.start == inits.StartSpec(), "student_init"),
            ("trainable", self.trainable is None, "a model that stops the gradients of what stays"),
            ("student_model", self.student_model is None, "student_init"),
        ):
            if not is_default:
                raise errors.InputError(
                    f"{name}: it speaks of the layers of an MLP, and the model is another network. Use {instead}"
                )

    @property
    def mlp_spec(self) -> mlp.MLPSpec:
        """The model, where it has to be an MLP.

        Raises:
            InputError: it is another network.
        """
        if not isinstance(self.model, mlp.MLPSpec):
            raise errors.InputError("model: expected an MLPSpec here, got another network")
        return self.model

    @property
    def student_mlp_spec(self) -> mlp.MLPSpec:
        """The students' model, where it has to be an MLP."""
        return self.student_model if isinstance(self.student_model, mlp.MLPSpec) else self.mlp_spec

    @property
    def upbringing(self) -> TeacherSpec:
        """What of it concerns the teacher."""
        return TeacherSpec(
            model=self.model,
            phase=self.teacher,
            loss=self.teacher_loss,
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
            student_init=self.student_init,
            start=None if known and self.start == inits.StartSpec() else self.start,
            teacher=self.upbringing if self.start.across_gradient else None,
            fixed=("reference",) if "reference" in self.fixed else (),
        )


class Data(NamedTuple):
    """Data that all members share. Host arrays are welcome too.

    Inputs have their examples first, in any shape: bytes, which are scaled from 0..255 to [-1, 1], or floats, which are
    used as they are. Labels are whole numbers from 0.
    """

    train_inputs: Shaped[Array, "train *shape"]
    train_labels: Integer[Array, "train"]
    test_inputs: Shaped[Array, "test *shape"]
    test_labels: Integer[Array, "test"]


class Origin(NamedTuple):
    """Where a member's models start."""

    reference: network.Params  # the teacher
    student: network.Params  # students with their teacher's initialization, or what `StartSpec` makes of it
    other: network.Params  # students with another one: the partner's reference, in the students' shape


class Taught(NamedTuple):
    """A member's teacher. The reference need not be kept: it is a function of the key."""

    teacher: network.Params  # of a spec's `essence`, it lacks the auxiliary readouts
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
    data: Data,
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
        InputError: inputs or labels that do not fit the spec's network, or too few of them.
    """
    origin = originate(member, partner, data, seed=seed, spec=spec.origin)
    taught = raise_teacher(member, data, seed=seed, spec=spec.upbringing, on_epoch=on_epoch)
    return raise_students(member, origin, taught, data, seed=seed, spec=spec, on_epoch=on_epoch)


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
    data: Data,
    *,
    seed: int | Integer[Array, ""],
    spec: OriginSpec,
) -> Origin:
    """The starts of the member's models. Much to compile, which many programs of students can share."""
    streams = _Streams(seed, member, spec.fixed)
    reference, other = _references(streams, partner, seed, spec)
    if spec.student_init is not None:
        student = spec.student_init(streams["student/start"], reference, other)
        _require_alike(student, other)
        return Origin(reference, student, other)
    if not isinstance(spec.model, mlp.MLPSpec):
        return Origin(reference, reference, other)
    shared = inits.fitted(reference, other)
    if spec.start is None:
        return Origin(reference, shared, other)
    gradient = None
    if (teacher := spec.teacher) is not None:
        inputs, labels, _, _ = _fitting(data, teacher)
        num_shown = teacher.phase.batch_size
        batch = inputs[:num_shown], _renamed(streams, labels, teacher)[:num_shown]
        gradient = jax.grad(lambda params: teach.loss(params, *batch, model=spec.model, loss_function=teacher.loss))(
            reference
        )
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
    data: Data,
    *,
    seed: int | Integer[Array, ""],
    spec: TeacherSpec,
    on_epoch: EpochReporter | None = None,
) -> Taught:
    """The member's reference, taught."""
    streams = _Streams(seed, member, spec.fixed)
    train_inputs, train_labels, test_inputs, test_labels = _fitting(data, spec)
    num_taught = len(train_inputs) - spec.num_validation_images
    reference = spec.model.init(streams["reference"])
    teacher, history = teach.teach(
        streams["teacher/batches"],
        reference,
        train_inputs[:num_taught],
        _renamed(streams, train_labels, spec)[:num_taught],
        model=spec.model,
        phase=spec.phase,
        loss_function=spec.loss,
        on_epoch=_reporter("teacher", member, on_epoch),
    )
    named = _renamed(streams, test_labels, spec)
    accuracy = {
        name: evaluate.test_accuracy(params, test_inputs, named, model=spec.model)
        for name, params in {"reference": reference, "teacher": teacher}.items()
    }
    return Taught(teacher, history, accuracy)


def raise_students(
    member: int | Int[Array, ""],
    origin: Origin,
    taught: Taught,
    data: Data,
    *,
    seed: int | Integer[Array, ""],
    spec: LineageSpec,
    on_epoch: EpochReporter | None = None,
) -> Outcome:
    """The member's students, and what became of everybody."""
    data = _fitting(data, spec.upbringing)
    streams = _Streams(seed, member, spec.fixed)
    model = spec.student_model or spec.model
    reference = origin.reference
    teacher = _complete(taught.teacher, reference, spec.model)
    starts = {"student": origin.student, "cross_model": origin.other}
    history, models = {"teacher": taught.loss}, {"reference": reference, "teacher": teacher}
    if any(start_of(condition) == "matched" for condition in spec.conditions):
        imitated = reference if spec.matching.imitates == "reference" else teacher
        matched, history["matched_start"] = _match(
            streams["matching/batches"],
            starts["cross_model"],
            imitated,
            _seen(data, spec),
            spec=spec,
            on_epoch=_reporter("matching", member, on_epoch),
        )
        starts["matched"] = models["matched_start"] = matched
    test_labels = _renamed(streams, data.test_labels, spec.upbringing)
    named = data._replace(train_labels=_renamed(streams, data.train_labels, spec.upbringing), test_labels=test_labels)

    def score(params):
        return evaluate.test_accuracy(params, data.test_inputs, test_labels, model=model)

    def after_epoch(params):
        found = {"epoch_accuracy": score(params)}
        if spec.num_validation_images:
            found["epoch_validation_accuracy"] = _validation_accuracy(params, named, spec, model)
        return found

    students: dict[str, network.Params] = {}
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
                data,
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
    measures |= _measures(models, specs_of, starts, data, named, spec)
    return Outcome(scores, history, finite, measures)


def require_fitting(data: Data, spec: TeacherSpec) -> None:
    """Refuse data that do not fit the model, or leave the teacher nothing.

    Raises:
        InputError: one of both.
    """
    train_inputs, train_labels, test_inputs, test_labels = data
    examples.require_fitting(spec.model, train_inputs, train_labels, what="training images")
    examples.require_fitting(spec.model, test_inputs, test_labels, what="test images")
    if spec.num_validation_images >= len(train_inputs):
        raise errors.InputError(
            f"num_validation_images={spec.num_validation_images} of {len(train_inputs)} training images: the teacher "
            f"is left with none. Keep fewer"
        )


def _fitting(data: Data, spec: TeacherSpec) -> Data:
    """The data as arrays of JAX, if they fit."""
    require_fitting(data, spec)
    return Data(*(jnp.asarray(array) for array in data))


def _student_inputs(generation: int, streams, data: Data, spec: LineageSpec) -> input_data.Source:
    """The inputs of a generation of students, as a function of the indices of some examples."""
    key = streams["student/noise" + (f"/{generation}" if generation else "")]
    if spec.noise_function is not None:
        return functools.partial(spec.noise_function, key)
    return input_data.of_shape(
        key, spec.noise, spec.inputs, shape=data.train_inputs.shape[1:], real_images=_seen(data, spec)
    )


def _distill(generation, teacher, starts, streams, data, *, spec: LineageSpec, guide, measure, on_epoch):
    """Students of one teacher, from its labels on noise of their generation."""
    suffix = f"/{generation}" if generation else ""
    model = spec.student_model or spec.model
    inputs = _student_inputs(generation, streams, data, spec)
    targets = distill.label(
        teacher,
        inputs,
        spec.num_noise_images,
        model=model if generation else spec.model,
        batch_size=spec.student.batch_size,
    )
    trainable = None
    if spec.trainable is not None:
        trainable = inits.spread(spec.trainable, next(iter(starts.values())), num_classes=model.num_classes)
    return distill.distill(
        streams["student/batches" + suffix],
        starts,
        {condition: distilled_logits_of(condition) for condition in starts},
        inputs,
        target_data.spoil(streams["student/targets" + suffix], targets, spec.spoiling),
        loss=spec.loss,
        temperature=spec.temperature,
        model=model,
        phase=spec.student,
        on_epoch=on_epoch,
        spoiling=spec.spoiling,
        trainable=trainable,
        guide=None if spec.guidance is None else distill.Guide(guide, spec.model, spec.guidance),
        measure=measure,
    )


def _require_alike(student: network.Params, other: network.Params) -> None:
    """Refuse parameters of another shape than the model's."""
    shapes = [
        jax.tree.map(lambda leaf: (jnp.shape(leaf), str(jnp.result_type(leaf))), tree) for tree in (student, other)
    ]
    if jax.tree.structure(student) != jax.tree.structure(other) or shapes[0] != shapes[1]:
        raise errors.InputError(
            f"student_init gave parameters of another structure, shape or type than the model's: expected {shapes[1]}, "
            f"got {shapes[0]}"
        )


def _complete(teacher: network.Params, reference: network.Params, model: mlp.MLPSpec | network.Network):
    """The teacher with the readouts that it lacks taken from the reference."""
    if not isinstance(model, mlp.MLPSpec):
        return teacher
    *layers, readout = teacher
    missing = jax.tree.map(lambda leaf: leaf[len(readout.bias) :], reference[-1])
    return (*layers, jax.tree.map(lambda *parts: jnp.concatenate(parts), readout, missing))


def _reporter(phase: str, member, listener: EpochReporter | None):
    if listener is None:
        return None

    def tell(member, epoch, _):
        listener(Progress(int(member), phase, int(epoch)))

    return lambda epoch, losses: jax.debug.callback(tell, member, epoch, losses)


def _seen(data: Data, spec: LineageSpec):
    """The training inputs without those kept for validation."""
    return data.train_inputs[: len(data.train_inputs) - spec.num_validation_images]


def _references(streams: _Streams, partner, seed, spec: OriginSpec) -> tuple[network.Params, network.Params]:
    """The member's own reference, and the partner's in the shape of the students."""
    own, other = (
        streams["reference"],
        keys.stream(keys.members(seed, jnp.asarray(partner, jnp.int32)[None])[0], "reference"),
    )
    if spec.student_model is not None or not isinstance(spec.model, mlp.MLPSpec):
        return spec.model.init(own), (spec.student_model or spec.model).init(other)
    both = jax.vmap(spec.model.init)(jnp.stack([own, other]))
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


def _match(key, start, imitated, inputs, *, spec: LineageSpec, on_epoch):
    """Another member's reference after it imitated all logits of `imitated` on real inputs."""
    num_images = min(spec.matching.num_images, len(inputs))

    def real_inputs(indices):
        return examples.as_inputs(jnp.take(inputs, indices, axis=0))

    batch_size = spec.matching.phase.batch_size
    targets = distill.label(imitated, real_inputs, num_images, model=spec.model, batch_size=batch_size)
    students, history, _ = distill.distill(
        key,
        {"matched": start},
        {"matched": "all"},
        real_inputs,
        targets,
        loss=spec.loss,
        temperature=spec.temperature,
        model=spec.student_model or spec.model,
        phase=spec.matching.phase,
        on_epoch=on_epoch,
    )
    return students["matched"], history["matched"]


def _measures(models, specs_of, starts, data: Data, named: Data, spec: LineageSpec) -> dict:
    """What the spec asks for. `named` are the data with their labels as the teacher calls them."""
    found = {}
    if spec.num_validation_images:
        found["validation_accuracy"] = {
            name: _validation_accuracy(params, named, spec, specs_of[name]) for name, params in models.items()
        }
    if spec.teacher_labels != "true":
        found["true_label_accuracy"] = {
            name: evaluate.test_accuracy(params, data.test_inputs, data.test_labels, model=specs_of[name])
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
            name: [evaluate.hidden_features(params, block, model=specs_of[name]) for block in (data[0], data[2])]
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


def _validation_accuracy(params, named: Data, spec: LineageSpec, model: network.Model):
    """On the training inputs that the teacher was not shown, by the names it gives them."""
    held_out = slice(len(named.train_inputs) - spec.num_validation_images, None)
    return evaluate.test_accuracy(params, named.train_inputs[held_out], named.train_labels[held_out], model=model)


def distilled_logits_of(condition: Condition) -> logits.DistilledLogits:
    """`aux`, `class` or `all`."""
    return cast(logits.DistilledLogits, condition.rpartition("_")[2])
