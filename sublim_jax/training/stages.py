"""One member from its key to its accuracies: reference, teacher, students. A pure function; `ensemble` maps it.

    reference --teach(MNIST, class logits)--> teacher --label(noise)--> targets
    reference or another member's reference --distill(noise, targets, some logits)--> student

The students of a member see the same noise images in the same order and the same targets. A condition names where its
student starts and what it distils, e.g. `student_aux`: the teacher's own reference, the auxiliary logits. `run` is
`init_params`, `train_teacher`, `match_behaviour` and `distill_students` in one program. Apart, many students can share
a teacher that was trained once, many programs the one that draws their starts, and a run can say after each stage how
far it is.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Integer

from sublim_jax import conditions, errors, keys
from sublim_jax.models import conv, init_sharing, network
from sublim_jax.training import diagnostics, distill, evaluate, examples, generations, teach
from sublim_jax.training.config import InitConfig, MemberConfig, TeacherConfig
from sublim_jax.training.state import Data, InitialParams, MatchedStart, MemberResult, TrainedTeacher
from sublim_jax.training.streams import Streams


def run(
    member: int | Int[Array, ""],
    partner: int | Int[Array, ""],
    data: Data,
    *,
    seed: int | Integer[Array, ""],
    spec: MemberConfig,
) -> MemberResult:
    """Everything that happens to one member.

    Args:
        member: its number; with the seed it decides the reference, the order of batches and the noise images.
        partner: number of the member whose reference the cross-model and the matched student start from.

    Raises:
        InputError: inputs or labels that do not fit the spec's network, or too few of them.
    """
    initial = init_params(member, partner, data, seed=seed, spec=spec.init_config)
    trained = train_teacher(member, data, seed=seed, spec=spec.teacher_config)
    return distill_students(member, initial, trained, data, seed=seed, spec=spec)


def init_params(
    member: int | Int[Array, ""],
    partner: int | Int[Array, ""],
    data: Data,
    *,
    seed: int | Integer[Array, ""],
    spec: InitConfig,
) -> InitialParams:
    """Initial parameters of the member's models. The program is large, and many programs of students can share it."""
    streams = Streams(seed, member, spec.shared_streams)
    reference, other = _references(streams, partner, seed, spec)
    if spec.student_init is not None:
        student = spec.student_init(streams["student/start"], reference, other)
        _require_alike(student, other)
        return InitialParams(reference, student, other)
    if not isinstance(spec.model, conv.LayeredSpec):
        return InitialParams(reference, reference, other)
    shared = init_sharing.transplant_matching_layers(reference, other)
    if spec.init_sharing is None:
        return InitialParams(reference, shared, other)
    gradient = None
    if (teacher := spec.teacher) is not None:
        inputs, labels, _, _ = _fitting(data, teacher)
        num_shown = teacher.phase.batch_size
        batch = inputs[:num_shown], _renamed(streams, labels, teacher)[:num_shown]
        gradient = jax.grad(lambda params: teach.loss(params, *batch, model=spec.model, loss_function=teacher.loss))(
            reference
        )
        gradient = init_sharing.transplant_matching_layers(gradient, jax.tree.map(jnp.zeros_like, other))
    student = init_sharing.student_init(
        streams["student/start"],
        shared,
        other,
        spec.init_sharing,
        num_classes=spec.model.num_classes,
        gradient=gradient,
    )
    return InitialParams(reference, student, other)


def train_teacher(
    member: int | Int[Array, ""],
    data: Data,
    *,
    seed: int | Integer[Array, ""],
    spec: TeacherConfig,
) -> TrainedTeacher:
    """The member's teacher: its reference, trained on the labels."""
    streams = Streams(seed, member, spec.shared_streams)
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
    )
    named = _renamed(streams, test_labels, spec)
    accuracy = {
        name: evaluate.test_accuracy(params, test_inputs, named, model=spec.model)
        for name, params in {"reference": reference, "teacher": teacher}.items()
    }
    return TrainedTeacher(teacher, history, accuracy)


def has_matched_start(spec: MemberConfig) -> bool:
    """Whether a condition starts from a reference that has imitated another model."""
    return any(conditions.start_of(condition) == "matched" for condition in spec.conditions)


def match_behaviour(
    member: int | Int[Array, ""],
    initial: InitialParams,
    trained: TrainedTeacher,
    data: Data,
    *,
    seed: int | Integer[Array, ""],
    spec: MemberConfig,
) -> MatchedStart:
    """The other member's reference after it imitated all logits of the member's reference or teacher on real images."""
    data = _fitting(data, spec.teacher_config)
    imitated = initial.reference
    if spec.matching.target == "teacher":
        imitated = _complete(trained.teacher, initial.reference, spec.model)
    inputs = diagnostics.teacher_inputs(data, spec)
    num_images = min(spec.matching.num_images, len(inputs))

    def real_inputs(indices):
        return examples.as_inputs(jnp.take(inputs, indices, axis=0))

    batch_size = spec.matching.phase.batch_size
    targets = distill.label(imitated, real_inputs, num_images, model=spec.model, batch_size=batch_size)
    students, history, _ = distill.distill(
        Streams(seed, member, spec.shared_streams)["matching/batches"],
        {"matched": initial.other},
        {"matched": "all"},
        real_inputs,
        targets,
        loss=spec.loss,
        temperature=spec.temperature,
        model=spec.students,
        phase=spec.matching.phase,
    )
    return MatchedStart(students["matched"], history["matched"])


def distill_students(
    member: int | Int[Array, ""],
    initial: InitialParams,
    trained: TrainedTeacher,
    data: Data,
    *,
    seed: int | Integer[Array, ""],
    spec: MemberConfig,
    matched: MatchedStart | None = None,
) -> MemberResult:
    """Train the member's students, and score all its models.

    Args:
        matched: what `match_behaviour` gives; by default it is prepared here, if a condition needs it.
    """
    data = _fitting(data, spec.teacher_config)
    streams = Streams(seed, member, spec.shared_streams)
    model, reference = spec.students, initial.reference
    teacher = _complete(trained.teacher, reference, spec.model)
    starts = {"student": initial.student, "cross_model": initial.other}
    history, models = {"teacher": trained.loss}, {"reference": reference, "teacher": teacher}
    if has_matched_start(spec):
        matched = matched or match_behaviour(member, initial, trained, data, seed=seed, spec=spec)
        starts["matched"] = models["matched_start"] = matched.params
        history["matched_start"] = matched.loss
    test_labels = _renamed(streams, data.test_labels, spec.teacher_config)
    named = data._replace(
        train_labels=_renamed(streams, data.train_labels, spec.teacher_config), test_labels=test_labels
    )
    guide = None
    if spec.feature_loss_weight is not None:
        guide = distill.FeatureDistillation(teacher, spec.model, spec.feature_loss_weight)

    def score(params):
        return evaluate.test_accuracy(params, data.test_inputs, test_labels, model=model)

    def after_epoch(params):
        accuracies = {"epoch_accuracy": score(params)}
        if spec.num_validation_images:
            accuracies["epoch_validation_accuracy"] = diagnostics.validation_accuracy(params, named, spec, model)
        return accuracies

    setup = generations.Setup(
        spec, streams, data, starts, guide, score, after_epoch if "epochs" in spec.metrics else None
    )
    students, losses, metrics = generations.distill_generations(setup, teacher)
    models, history = models | students, history | losses
    specs_of = dict.fromkeys(models, model) | {"reference": spec.model, "teacher": spec.model}
    scores = trained.accuracy | {name: score(models[name]) for name in models if name not in trained.accuracy}
    finite = {}
    for name, params in models.items():
        finite[name] = distill.is_finite(params) & jnp.all(jnp.isfinite(history.get(name, jnp.zeros(1))))
        scores[name] = jnp.where(finite[name], scores[name], jnp.nan)
    metrics |= diagnostics.measure(models, specs_of, starts, data, named, spec)
    return MemberResult(scores, history, finite, metrics)


def require_fitting(data: Data, spec: TeacherConfig) -> None:
    """Refuse data that do not fit the model, or leave the teacher nothing.

    Raises:
        InputError: the data are not four arrays, do not fit, or are too few.
    """
    if (
        not isinstance(data, tuple)
        or len(data) != 4
        or not all(isinstance(part, np.ndarray | jax.Array) for part in data)
    ):
        parts = [type(part).__name__ for part in data] if isinstance(data, tuple | list) else type(data).__name__
        raise errors.InputError(
            f"data: expected Data(train_inputs, train_labels, test_inputs, test_labels) of four arrays, got {parts}. "
            f"Make arrays of lists with numpy.asarray"
        )
    train_inputs, train_labels, test_inputs, test_labels = data
    examples.require_fitting(spec.model, train_inputs, train_labels, what="training images")
    examples.require_fitting(spec.model, test_inputs, test_labels, what="test images")
    if spec.num_validation_images >= len(train_inputs):
        raise errors.InputError(
            f"num_validation_images={spec.num_validation_images} of {len(train_inputs)} training images: the teacher "
            f"is left with none. Keep fewer"
        )


def _fitting(data: Data, spec: TeacherConfig) -> Data:
    """The data as arrays of JAX, if they fit."""
    require_fitting(data, spec)
    return Data(*(jnp.asarray(array) for array in data))


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


def _complete(teacher: network.Params, reference: network.Params, model: conv.LayeredSpec | network.Network):
    """The teacher with the readouts that it lacks taken from the reference."""
    if not isinstance(model, conv.LayeredSpec):
        return teacher
    *layers, readout = teacher
    missing = jax.tree.map(lambda leaf: leaf[len(readout.bias) :], reference[-1])
    return (*layers, jax.tree.map(lambda *parts: jnp.concatenate(parts), readout, missing))


def _references(streams: Streams, partner, seed, spec: InitConfig) -> tuple[network.Params, network.Params]:
    """The member's own reference, and the partner's in the shape of the students."""
    own, other = (
        streams["reference"],
        keys.stream(keys.members(seed, jnp.asarray(partner, jnp.int32)[None])[0], "reference"),
    )
    if spec.student_model is not None or not isinstance(spec.model, conv.LayeredSpec):
        return spec.model.init(own), (spec.student_model or spec.model).init(other)
    both = jax.vmap(spec.model.init)(jnp.stack([own, other]))
    first, second = (jax.tree.map(lambda leaf, row=row: leaf[row], both) for row in range(2))
    return first, second


def _renamed(streams: Streams, labels, spec: TeacherConfig):
    """Labels as the teacher calls them."""
    if spec.labels == "true":
        return labels
    # A cyclic order of the classes, drawn at random: each class takes the next one's name, none keeps its own.
    order = jax.random.permutation(streams["teacher/labels"], spec.model.num_classes)
    renamed = jnp.zeros_like(order).at[order].set(jnp.roll(order, -1))
    return renamed[labels].astype(labels.dtype)
