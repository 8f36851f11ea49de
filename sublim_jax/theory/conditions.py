"""The conditions of the theorem, each as a function that raises an error. An experiment calls `check` once.

    the loss     Its pull is zero where the logits agree. Its metric is positive semidefinite. No pull has a component
                 in the null space of the metric.
    the student  It starts at the reference, where it is the same function as the teacher. It has the same temperature,
                 no weight decay, and trains every coordinate that the teacher moves.
    the network  It is differentiable at the reference: no pre-activation of a ReLU lies exactly on its kink.

Every condition is needed; `counterexamples` has a negative alignment for each. The functions work on concrete values,
outside `jax.jit`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sublim_jax import errors
from sublim_jax.theory import loss_geometry


class LossReport(NamedTuple):
    """Violations of the contract at given logits, relative to the size of the metric or of the pull."""

    pull_at_equality: float
    asymmetry: float
    smallest_eigenvalue: (
        float  # of the metric, over its largest entry; a negative value beyond rounding voids the theorem
    )
    null_pull: float  # component of the pull in the null space of the metric


def loss_report(
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    logits: Float[Array, "batch logit"],
    other_logits: Float[Array, "batch logit"],
) -> LossReport:
    """Measure violations at student logits `logits` and teacher logits `other_logits`, which should differ widely."""
    loss = loss_geometry.as_loss(loss)
    metric = np.asarray(metric_matrices(loss, logits))
    pulls = np.asarray(loss_geometry.pull(loss, logits, other_logits))
    at_equality = np.asarray(loss_geometry.pull(loss, logits, logits))
    size = np.abs(metric).max() or 1.0
    values, vectors = np.linalg.eigh((metric + np.swapaxes(metric, -1, -2)) / 2)
    cut = 1e4 * np.finfo(metric.dtype).eps * size
    null_parts = np.where(values <= cut, np.einsum("bik,bi->bk", vectors, pulls), 0.0)
    return LossReport(
        pull_at_equality=float(np.abs(at_equality).max() / max(np.abs(pulls).max(), np.finfo(metric.dtype).tiny)),
        asymmetry=float(np.abs(metric - np.swapaxes(metric, -1, -2)).max() / size),
        smallest_eigenvalue=float(values.min() / size),
        null_pull=float(np.abs(null_parts).max() / max(np.abs(pulls).max(), np.finfo(metric.dtype).tiny)),
    )


def metric_matrices(loss: loss_geometry.Loss, logits: Float[Array, "batch logit"]) -> Float[Array, "batch logit logit"]:
    """The metric M(z) of each row as a matrix."""
    units = jnp.eye(logits.shape[-1], dtype=logits.dtype)
    columns = jax.vmap(lambda unit: loss.metric_product(logits, jnp.broadcast_to(unit, logits.shape)))(units)
    return jnp.moveaxis(columns, 0, -1)


def check_loss(
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    logits: Float[Array, "batch logit"],
    other_logits: Float[Array, "batch logit"],
) -> LossReport:
    """Refuse a loss that violates the contract at these logits.

    Raises:
        InputError: a pull where the logits agree, a metric that is asymmetric or indefinite, or a pull in its null
            space.

    Source: Cloud et al. 2025, appendix C. Coq: lemma1
    """
    report, name = loss_report(loss, logits, other_logits), loss_geometry.as_loss(loss).name
    tolerance = 1e4 * float(jnp.finfo(logits.dtype).eps)
    if not report.pull_at_equality <= tolerance:
        raise errors.InputError(
            f"loss {name!r}: expected no gradient where student and teacher logits are equal, found "
            f"{report.pull_at_equality:.1e} of a typical one. Then a student of an unmoved teacher moves, and the sign "
            "means nothing. Probable cause: different temperatures for student and teacher, hard or smoothed labels, "
            "weight decay inside the loss. Use one temperature and the teacher's own distribution."
        )
    if not (report.asymmetry <= tolerance and report.smallest_eigenvalue >= -tolerance):
        raise errors.InputError(
            f"loss {name!r}: expected a symmetric positive semidefinite metric, found asymmetry {report.asymmetry:.1e} "
            f"and smallest eigenvalue {report.smallest_eigenvalue:.1e}. Probable cause: equal logits do not minimise "
            "the loss, for example because its arguments are swapped. The student's logits come first."
        )
    if not report.null_pull <= 10 * tolerance:
        raise errors.InputError(
            f"loss {name!r}: expected pulls outside the null space of the metric, found a share {report.null_pull:.1e} "
            "in it. Then A may be zero while the alignment is negative (counterexamples.null_space). Use a loss of "
            "sublim_jax."
        )
    return report


def require_equal_temperatures(student_temperature: float, teacher_temperature: float) -> None:
    """Refuse different temperatures for student and teacher.

    Raises:
        InputError: the two differ.
    """
    if student_temperature != teacher_temperature:
        raise errors.InputError(
            f"temperature: expected the same on both sides, found {student_temperature} for the student and "
            f"{teacher_temperature} for the teacher. A student of an unmoved teacher would move, so the sign of the "
            "alignment means nothing. Divide both logits by one temperature."
        )


def require_no_weight_decay(weight_decay: float, *, towards_reference: bool = False) -> None:
    """Refuse weight decay of the student. Decay of the teacher is harmless, because D is any vector.

    Args:
        towards_reference: the decay pulls towards θ0 instead of zero, so that its first step is zero. It is allowed.

    Raises:
        InputError: the student decays towards zero.
    """
    if weight_decay != 0 and not towards_reference:
        raise errors.InputError(
            f"student weight decay: expected 0, found {weight_decay}. It adds -{weight_decay} <reference, D> to the "
            "alignment, which does not vanish with epsilon and wins for small updates. Switch it off, or let it decay "
            "towards the reference."
        )


def require_trained(update: PyTree, trained: PyTree) -> None:
    """Refuse a teacher that moves coordinates in which the student is frozen.

    Args:
        trained: booleans or 0/1 arrays like `update`, or a prefix of it such as one boolean per layer.

    Raises:
        InputError: a frozen coordinate of the student has a non-zero teacher update.

    Coq: frozen_part_negative
    """
    full = jax.tree.map(
        lambda mask, part: jax.tree.map(lambda leaf: np.broadcast_to(mask, leaf.shape), part), trained, update
    )
    violations = {}
    for (path, leaf), mask in zip(jax.tree_util.tree_flatten_with_path(update)[0], jax.tree.leaves(full), strict=True):
        outside = float(np.abs(np.where(mask, 0.0, np.asarray(leaf))).max(initial=0.0))
        if outside > 0:
            violations[jax.tree_util.keystr(path)] = outside
    if violations:
        places = ", ".join(f"{path} (by up to {size:.1e})" for path, size in violations.items())
        raise errors.InputError(
            f"frozen parameters: expected the teacher to move only what the student trains, found it moved {places}. "
            "With P the student's projection the alignment is epsilon D' P G D, which has no sign. Train these in the "
            "student, freeze them in the teacher, or take D inside the shared subspace."
        )


def require_no_kink(pre_activations: PyTree | Sequence[Array], *, margin: float = 0.0) -> float:
    """Refuse a ReLU network with a pre-activation within `margin` of zero. Returns the smallest distance.

    With zero biases, an input of zeros puts every unit of the first layer exactly there; in a convolution, black
    patches of an image do. `kinks.pre_activations` returns those of an MLP.

    Raises:
        InputError: the smallest absolute pre-activation is at most `margin`.

    Coq: relu_kink
    """
    smallest = min(float(jnp.min(jnp.abs(leaf))) for leaf in jax.tree.leaves(pre_activations))
    if not smallest > margin:
        count = sum(int(jnp.sum(jnp.abs(leaf) <= margin)) for leaf in jax.tree.leaves(pre_activations))
        raise errors.InputError(
            f"kinks: expected every pre-activation further than {margin} from zero, found {count} within it, the "
            f"nearest at {smallest:.1e}. There the network has no derivative, whatever autodiff returns, and "
            "the alignment can be negative for every epsilon. Probable cause: zero biases and inputs of zeros. Draw "
            "small biases, leave such inputs out, or use a smooth activation."
        )
    return smallest


def require_same_function(
    student_f: loss_geometry.LogitFunction, teacher_f: loss_geometry.LogitFunction, reference: PyTree, inputs: PyTree
) -> None:
    """Refuse a student and a teacher that are different functions at the reference.

    Raises:
        InputError: their logits at `reference` differ by more than rounding.
    """
    student, teacher = np.asarray(student_f(reference, inputs)), np.asarray(teacher_f(reference, inputs))
    gap = float(np.abs(student - teacher).max())
    if not gap <= 100 * float(np.finfo(student.dtype).eps) * float(np.abs(student).max(initial=1.0)):
        raise errors.InputError(
            f"student and teacher at the reference: expected equal logits, found a difference of {gap:.1e}. Probable "
            "cause: dropout, batch statistics of training on one side and of evaluation on the other, another "
            "precision, a system prompt. Evaluate both in one mode."
        )


def check(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    inputs: PyTree,
    *,
    temperatures: tuple[float, float] | None = None,
    weight_decay: float = 0.0,
    trained: PyTree | None = None,
    pre_activations: PyTree | None = None,
    teacher_f: loss_geometry.LogitFunction | None = None,
) -> LossReport:
    """Check every condition for which arguments are given, in one call before an experiment.

    Args:
        temperatures: of student and teacher, where a config names both.
        weight_decay: of the student, towards zero.
        trained: mask of the parameters the student trains; None for all.
        pre_activations: of every ReLU at the reference, for networks that have any.
        teacher_f: the teacher's function, where it is written separately.

    Raises:
        InputError: a condition is violated. The message has the place, the probable cause and the remedy.
    """
    if temperatures is not None:
        require_equal_temperatures(*temperatures)
    require_no_weight_decay(weight_decay)
    if trained is not None:
        require_trained(update, trained)
    if pre_activations is not None:
        require_no_kink(pre_activations)
    if teacher_f is not None:
        require_same_function(f, teacher_f, reference, inputs)
    logits = f(reference, inputs)
    loss_geometry.require_informative(loss_geometry.as_loss(loss), logits.shape[-1])
    # The other logits should have the same scale; reversed and doubled ones differ from the first in every direction.
    steps = jnp.broadcast_to(jnp.arange(logits.shape[-1], dtype=logits.dtype), logits.shape)
    return check_loss(loss, logits, 2.0 * logits[..., ::-1] + steps)
