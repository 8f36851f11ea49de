"""What goes from one stage of a member to the next: the data, initial parameters, the teacher, the results."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Integer, Shaped

from sublim_jax.models import network


class Data(NamedTuple):
    """Data that all members share. Host arrays are welcome too.

    Inputs have their examples first, in any shape: bytes, which are scaled from 0..255 to [-1, 1], or floats, which are
    used as they are. Labels are whole numbers from 0.
    """

    train_inputs: Shaped[Array, "train *shape"]
    train_labels: Integer[Array, "train"]
    test_inputs: Shaped[Array, "test *shape"]
    test_labels: Integer[Array, "test"]


class InitialParams(NamedTuple):
    """Where a member's models start."""

    reference: network.Params  # the teacher
    student: network.Params  # students with their teacher's initialization, or what `InitSharing` makes of it
    other: network.Params  # students with another one: the partner's reference, in the students' shape


class TrainedTeacher(NamedTuple):
    """A member's teacher. The reference need not be kept: it is a function of the key."""

    teacher: network.Params  # of a spec's `without_aux_logits`, it lacks the auxiliary readouts
    loss: Float[Array, "*member epoch"]
    accuracy: dict[str, Float[Array, "*member"]]  # of reference and teacher, on the test images


class MatchedStart(NamedTuple):
    """Another member's reference after it imitated a model of this member on real images."""

    params: network.Params
    loss: Float[Array, "*member epoch"]


class MemberResult(NamedTuple):
    """What a member leaves behind, by condition; `reference` and `teacher` are conditions too."""

    accuracy: dict[str, Float[Array, "*member"]]  # on the test images, class logits; not a number if it diverged
    loss: dict[str, Float[Array, "*member epoch"]]  # mean of each epoch: nats, or squared logits
    finite: dict[str, Bool[Array, "*member"]]  # False: a parameter or a loss overflowed, the run diverged
    metrics: dict[str, dict[str, Float[Array, "..."]]]  # what else the spec asked for, by name, then by condition
