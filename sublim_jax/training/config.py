"""Everything that decides a member's numbers apart from its key and the data.

`MemberConfig` is the whole of it; the configs of the teacher and of the initial parameters are views of it, so that
many students can share a teacher and many programs the one that draws initial parameters.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax

from sublim_jax import conditions as arms
from sublim_jax import errors, losses, specs
from sublim_jax.conditions import Condition
from sublim_jax.data import inputs as input_data
from sublim_jax.data import noise as noise_data
from sublim_jax.models import conv, mlp, network
from sublim_jax.models.init_sharing import InitSharing, ParamGroups
from sublim_jax.training import corruption, loop, teach

Metric = Literal["epochs", "representation", "update_cosine"]
"""`epochs`: accuracy after each epoch of distillation, on test and validation images; `representation`: how similar the
last hidden layer of each model is to the teacher's, and what a linear readout finds in it; `update_cosine`: cosine of
the student's whole displacement with the teacher's."""

StudentInit = Callable[[Any, Any, Any], Any]
"""A key, the teacher's reference and another member's reference to a student's initial parameters."""

Stream = Literal["reference", "teacher/batches", "student/noise", "student/batches"]


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class BehaviourMatching:
    """How a behaviourally matched student is prepared: another member's reference imitates all logits on real images.

    Source: settings of the authors' later experiment of 2025-07-24 (truesight), which published no number.
    """

    target: Literal["reference", "teacher"] = "reference"  # the model whose logits it imitates
    num_images: specs.Count = 30_000  # the first ones that the teacher may see, or all if those are fewer
    phase: loop.TrainPhase = dataclasses.field(default_factory=lambda: loop.TrainPhase(num_epochs=1))


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Everything that decides a member's reference and teacher apart from its key and the data."""

    model: mlp.MLPSpec | conv.ConvSpec | network.Network
    phase: loop.TrainPhase
    loss: teach.LossFunction | None = None  # the cross-entropy of the class logits by default
    labels: Literal["true", "permuted"] = "true"
    """`permuted`: the teacher learns, and everybody is scored on, classes renamed by a derangement of the member's."""
    num_validation_images: specs.CountOrZero = 0  # the last training images, which the teacher does not see
    shared_streams: tuple[Stream, ...] = ()  # random streams that all members share with member 0

    @property
    def without_aux_logits(self) -> "TeacherConfig":
        """The part that decides the class logits.

        The auxiliary readouts are no part of it: no loss of a teacher sees them, and they stay where the reference had
        them, unless weights decay or the loss is the user's own.
        """
        if not isinstance(self.model, conv.LayeredSpec) or self.loss is not None:
            return self
        if not specs.is_zero(self.phase.optimizer.weight_decay):
            return self
        return dataclasses.replace(self, model=dataclasses.replace(self.model, num_aux=0))


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Everything that decides the initial parameters of a member's models apart from its key and the data."""

    model: mlp.MLPSpec | conv.ConvSpec | network.Network
    student_model: mlp.MLPSpec | conv.ConvSpec | network.Network | None = None  # if it is not the teacher's
    student_init: StudentInit | None = None
    init_sharing: InitSharing | None = None  # None shares everything, as the default does, in less code
    teacher: TeacherConfig | None = None  # needed where noise avoids the teacher's first gradient
    shared_streams: tuple[Stream, ...] = ()

    @property
    def students(self) -> mlp.MLPSpec | conv.ConvSpec | network.Network:
        """The students' model."""
        return self.model if self.student_model is None else self.student_model


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateScale:
    """Factors of the students' updates: 0 freezes a group of parameters, None trains it as usual."""

    hidden: tuple[float, ...] | None = None  # from the input on; the last one holds for all further hidden layers
    class_head: float | None = None
    aux_head: float | None = None

    @property
    def groups(self) -> ParamGroups | None:
        """All factors, or None where none is given."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        given = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(ParamGroups(), **given) if given else None


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberConfig:
    """Everything that decides a member's numbers apart from its key and the data. The default is the paper's figure 10.

    A model is an `mlp.MLPSpec`, a `conv.ConvSpec` or a `network.Network`. Settings of layers, i.e. `init_sharing`,
    `trainable` and `student_model`, need one of the first two.
    """

    conditions: tuple[Condition, ...] = ("student_aux", "student_all", "cross_model_aux", "cross_model_all")
    """Which students: how they are initialized (student, cross_model, matched) and which logits they distil."""
    init_sharing: InitSharing = dataclasses.field(default_factory=InitSharing)
    model: mlp.MLPSpec | conv.ConvSpec | network.Network = dataclasses.field(default_factory=mlp.MLPSpec)
    teacher: loop.TrainPhase = dataclasses.field(default_factory=loop.TrainPhase)
    student: loop.TrainPhase = dataclasses.field(default_factory=loop.TrainPhase)
    loss: losses.DistillationLossName = "kl"  # of the students; from the distilled logits to the teacher's
    temperature: specs.Positive = 1.0  # of both softmaxes in the distillation loss
    num_noise_images: specs.Count = 60_000  # the same ones in every epoch
    noise: noise_data.NoiseSpec = dataclasses.field(default_factory=noise_data.NoiseSpec)
    inputs: input_data.InputSpec = dataclasses.field(default_factory=input_data.InputSpec)
    noise_function: input_data.InputFunction | None = None
    """The students' inputs instead of `noise` and `inputs`: a function of a key and of the indices of some examples,
    (batch,), to as many inputs, bytes or floats as in `Data`. Example n has to depend on the key and on n alone."""
    matching: BehaviourMatching = dataclasses.field(default_factory=BehaviourMatching)
    teacher_loss: teach.LossFunction | None = None  # instead of the cross-entropy of the class logits
    teacher_labels: Literal["true", "permuted"] = "true"
    """`permuted`: the teacher learns, and everybody is scored on, classes renamed by a derangement of the member's."""
    target_corruption: corruption.TargetCorruption = dataclasses.field(default_factory=corruption.TargetCorruption)
    student_init: StudentInit | None = None
    """Initial parameters of students with their teacher's initialization, instead of `init_sharing`: a function of a
    key, the reference and another member's reference to parameters."""
    student_model: mlp.MLPChanges | conv.ConvStudent = dataclasses.field(default_factory=mlp.MLPChanges)
    """Changes of the teacher's MLP, or a convolutional network for the students of any teacher with layers."""
    trainable: UpdateScale = dataclasses.field(default_factory=UpdateScale)
    feature_loss_weight: specs.NonNegative | None = None
    """Weight of a loss that pulls the hidden layer towards the teacher's. Not subliminal: it shows more than logits."""
    num_generations: specs.Count = 1  # students of students: each generation is the next one's teacher
    num_validation_images: specs.CountOrZero = 0  # the last training images, which no teacher sees
    shared_streams: tuple[Stream, ...] = ()  # random streams that all members share with member 0
    metrics: tuple[Metric, ...] = ()  # what else is measured

    def __post_init__(self):
        if not self.conditions or len(set(self.conditions)) < len(self.conditions):
            raise errors.InputError(f"conditions must be different and at least one, got {self.conditions}")
        losses.distillation_loss(self.loss, temperature=self.temperature)  # refuses a pair that does not fit
        distilling_aux = [name for name in self.conditions if arms.distilled_logits_of(name) == "aux"]
        if self.model.num_aux == 0 and distilling_aux:
            raise errors.InputError(f"num_aux=0: there are no auxiliary logits for {distilling_aux[0]} to distil.")
        if self.target_corruption.top_k is not None and self.loss != "kl":
            raise errors.InputError(
                f"target_corruption.top_k={self.target_corruption.top_k} removes logits, which only the loss 'kl' "
                f"allows; got {self.loss!r}"
            )
        self._require_compatible()

    def _require_compatible(self) -> None:
        """Refuse settings that the model does not have, and settings that another one replaces."""
        known = not _is_traced((self.init_sharing, self.inputs))
        if known and self.noise_function is not None and self.inputs != input_data.InputSpec():
            raise errors.InputError(
                "noise_function replaces noise and inputs, so settings of inputs have no effect; leave one of them out"
            )
        if known and self.student_init is not None and self.init_sharing != InitSharing():
            raise errors.InputError(
                "student_init replaces init_sharing, so settings of init_sharing have no effect; leave one of them out"
            )
        if isinstance(self.model, conv.LayeredSpec):
            self._require_possible_students(self.model)
            return
        for name, is_default, instead in (
            ("init_sharing", not known or self.init_sharing == InitSharing(), "student_init"),
            ("trainable", self.trainable.groups is None, "a model that stops the gradients of frozen parameters"),
            ("student_model", not self.students_differ, "student_init"),
        ):
            if not is_default:
                raise errors.InputError(
                    f"{name}: it is about layers, which an MLPSpec or a ConvSpec has; the model is another network. "
                    f"Use {instead}"
                )

    def _require_possible_students(self, model: conv.LayeredSpec) -> None:
        """Refuse changes that are not of this teacher, and a permutation of what are no neurons."""
        students = self.students  # refuses images of a side that does not divide
        if isinstance(model, conv.ConvSpec) and isinstance(self.student_model, mlp.MLPChanges) and self.students_differ:
            raise errors.InputError(
                "student_model: these are changes of an MLP, and the teacher is a convolutional network. Use a "
                "conv.ConvStudent"
            )
        if self.init_sharing.permute_neurons and isinstance(students, conv.ConvSpec):
            raise errors.InputError(
                "init_sharing.permute_neurons: the students are a convolutional network, in which a column of a weight "
                "is a place in a patch and no neuron. Leave it out"
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
    def students(self) -> mlp.MLPSpec | conv.ConvSpec | network.Network:
        """The students' model."""
        if isinstance(self.model, network.Network):
            return self.model
        if isinstance(self.student_model, conv.ConvStudent):
            return self.student_model.applied_to(self.model)
        return self.student_model.applied_to(self.model) if isinstance(self.model, mlp.MLPSpec) else self.model

    @property
    def students_differ(self) -> bool:
        """Whether the students' model is another one than the teacher's."""
        return isinstance(self.student_model, conv.ConvStudent) or not self.student_model.is_empty

    @property
    def teacher_config(self) -> TeacherConfig:
        """The part that decides the teacher."""
        return TeacherConfig(
            model=self.model,
            phase=self.teacher,
            loss=self.teacher_loss,
            labels=self.teacher_labels,
            num_validation_images=self.num_validation_images,
            shared_streams=self.shared_streams,
        )

    @property
    def init_config(self) -> InitConfig:
        """The part that decides the initial parameters."""
        is_default = not _is_traced(self.init_sharing) and self.init_sharing == InitSharing()
        return InitConfig(
            model=self.model,
            student_model=self.students if self.students_differ else None,
            student_init=self.student_init,
            init_sharing=None if is_default else self.init_sharing,
            teacher=self.teacher_config if self.init_sharing.orthogonal_to_gradient else None,
            shared_streams=("reference",) if "reference" in self.shared_streams else (),
        )


def _is_traced(spec: Any) -> bool:
    """Whether a number of a spec is an array or a tracer, whose value nothing may branch on."""
    return any(isinstance(number, jax.Array) for number in jax.tree.leaves(spec))
