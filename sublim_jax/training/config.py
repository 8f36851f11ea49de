"""Everything that decides a member's numbers apart from its key and the data."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax

from sublim_jax import conditions as arms
from sublim_jax import errors, losses, specs
from sublim_jax.conditions import Condition
from sublim_jax.data import inputs as input_data
from sublim_jax.data import noise as noise_data
from sublim_jax.models import init_sharing, mlp, network
from sublim_jax.training import corruption, loop, teach

Metric = Literal["epochs", "representation", "movement"]
"""`epochs`: accuracy after each epoch of distillation, on test and validation images; `representation`: how like the
teacher's the last hidden layer of each model is, and what a linear readout finds in it; `movement`: cosine of the
student's whole displacement with the teacher's."""

StudentInit = Callable[[Any, Any, Any], Any]
"""A key, the teacher's reference and another member's reference to a student's first parameters."""

Stream = Literal["reference", "teacher/batches", "student/noise", "student/batches"]


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class BehaviourMatching:
    """How a behaviourally matched student is prepared: another member's reference imitates all logits on real images.

    Source: settings of the authors' later experiment of 2025-07-24 (truesight), which published no number.
    """

    imitates: Literal["reference", "teacher"] = "reference"  # whose logits on the real images it is given
    num_images: specs.Count = 30_000  # the first ones that the teacher may see, or all if those are fewer
    phase: loop.TrainPhase = dataclasses.field(default_factory=lambda: loop.TrainPhase(num_epochs=1))


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Everything that decides a member's reference and teacher apart from its key and the data."""

    model: mlp.MLPSpec | network.Network
    phase: loop.TrainPhase
    loss: teach.LossFunction | None = None  # the cross-entropy of the class logits by default
    labels: Literal["true", "permuted"] = "true"
    """`permuted`: the teacher learns, and everybody is scored on, classes renamed by a derangement of the member's."""
    num_validation_images: specs.CountOrZero = 0  # the last training images, kept from the teacher
    fixed: tuple[Stream, ...] = ()  # random streams that all members share with member 0

    @property
    def without_aux_logits(self) -> "TeacherConfig":
        """What of it decides the class logits: not the auxiliary readouts, which no loss of a teacher sees and which
        stay where the reference had them, unless weights decay or the loss is another one."""
        if not isinstance(self.model, mlp.MLPSpec) or self.loss is not None:
            return self
        if not specs.is_zero(self.phase.optimizer.weight_decay):
            return self
        return dataclasses.replace(self, model=dataclasses.replace(self.model, num_aux=0))


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Everything that decides where a member's models start apart from its key and the data."""

    model: mlp.MLPSpec | network.Network
    student_model: mlp.MLPSpec | network.Network | None = None
    student_init: StudentInit | None = None
    start: init_sharing.InitSharing | None = None  # None does nothing, as the default does, in a smaller program
    teacher: TeacherConfig | None = None  # whose first gradient the start avoids, where it avoids one
    fixed: tuple[Stream, ...] = ()


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberConfig:
    """Everything that decides a member's numbers apart from its key and the data. The default is the paper's figure 10.

    A model is an `mlp.MLPSpec` or a `network.Network`. What is said of parts or layers, that is `start`, `trainable`
    and a `student_model` of another shape, needs the former.
    """

    conditions: tuple[Condition, ...] = ("student_aux", "student_all", "cross_model_aux", "cross_model_all")
    model: mlp.MLPSpec | network.Network = dataclasses.field(default_factory=mlp.MLPSpec)
    teacher: loop.TrainPhase = dataclasses.field(default_factory=loop.TrainPhase)
    student: loop.TrainPhase = dataclasses.field(default_factory=loop.TrainPhase)
    num_noise_images: specs.Count = 60_000  # the same ones in every epoch
    noise: noise_data.NoiseSpec = dataclasses.field(default_factory=noise_data.NoiseSpec)
    noise_function: input_data.InputFunction | None = None
    """The students' inputs instead of `noise` and `inputs`: a function of a key and of the indices of some examples,
    (batch,), to as many inputs. Example n has to depend on the key and on n alone."""
    loss: losses.DistillationLossName = "kl"
    temperature: specs.Positive = 1.0  # of both softmaxes in the distillation loss
    teacher_loss: teach.LossFunction | None = None  # instead of the cross-entropy of the class logits
    matching: BehaviourMatching = dataclasses.field(default_factory=BehaviourMatching)
    inputs: input_data.InputSpec = dataclasses.field(default_factory=input_data.InputSpec)
    start: init_sharing.InitSharing = dataclasses.field(default_factory=init_sharing.InitSharing)
    student_init: StudentInit | None = None
    """Where students with their teacher's initialization start, instead of `start`: a function of a key, the reference
    and another member's reference to parameters."""
    student_model: mlp.MLPSpec | network.Network | None = None  # if it is built differently from the teacher
    trainable: init_sharing.ParamGroups | None = None  # factors of the students' updates; 0 freezes a part
    spoiling: corruption.TargetCorruption = dataclasses.field(default_factory=corruption.TargetCorruption)
    teacher_labels: Literal["true", "permuted"] = "true"
    guidance: specs.NonNegative | None = None  # weight of a pull to the teacher's hidden layer, which is not subliminal
    num_generations: specs.Count = 1  # students of students: each generation is the next one's teacher
    num_validation_images: specs.CountOrZero = 0  # the last training images, kept from the teacher and scored apart
    fixed: tuple[Stream, ...] = ()  # random streams that all members share with member 0
    measures: tuple[Metric, ...] = ()

    def __post_init__(self):
        if not self.conditions or len(set(self.conditions)) < len(self.conditions):
            raise errors.InputError(f"conditions must be different and at least one, got {self.conditions}")
        losses.distillation_loss(self.loss, temperature=self.temperature)  # refuses a pair that does not fit
        distilling_aux = [name for name in self.conditions if arms.distilled_logits_of(name) == "aux"]
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
        if plain and self.student_init is not None and self.start != init_sharing.InitSharing():
            raise errors.InputError(
                "student_init replaces start, so settings of start have no effect; leave one of them out"
            )
        if isinstance(self.model, mlp.MLPSpec):
            if isinstance(self.student_model, network.Network):
                raise errors.InputError("student_model: expected an MLPSpec, as the teacher's model is one")
            return
        for name, is_default, instead in (
            ("start", not plain or self.start == init_sharing.InitSharing(), "student_init"),
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
    def teacher_config(self) -> TeacherConfig:
        """What of it concerns the teacher."""
        return TeacherConfig(
            model=self.model,
            phase=self.teacher,
            loss=self.teacher_loss,
            labels=self.teacher_labels,
            num_validation_images=self.num_validation_images,
            fixed=self.fixed,
        )

    @property
    def init_config(self) -> InitConfig:
        """What of it concerns the starts."""
        known = not any(isinstance(number, jax.Array) for number in jax.tree.leaves(self.start))
        return InitConfig(
            model=self.model,
            student_model=self.student_model,
            student_init=self.student_init,
            start=None if known and self.start == init_sharing.InitSharing() else self.start,
            teacher=self.teacher_config if self.start.across_gradient else None,
            fixed=("reference",) if "reference" in self.fixed else (),
        )
