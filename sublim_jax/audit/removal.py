"""Taking a trait out of a trained student: along a direction, by a dose that probes decide.

    student - dose * <displacement, direction> / <direction, direction> * direction        `remove`
    student - dose * displacement of the auditor's own model that has the trait            `subtract`

The displacement is the student minus its start. A direction may be the gradient of the trait's loss on an auditor's
probes, at the start or at the student. An auditor removes what is asked about: traits that nobody asked about stay. On
MNIST, what was removed along a gradient of probes comes back from a few examples nearly as fast as it does in an
undefended student, and after an auditor's displacement was subtracted no faster than in a student from another start
(`experiments.evidence defences`). So no result stands without `relearning`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from sublim_jax import errors
from sublim_jax.models import network

By = Literal["model", "tensor"]


def remove(
    student: network.Params,
    start: network.Params,
    direction: PyTree,
    *,
    dose: float | Float[Array, ""] = 1.0,
    by: By = "model",
) -> network.Params:
    """The student without the component of its displacement along the direction.

    Args:
        direction: like the parameters; where it is zero the student is unchanged.
        dose: 1 removes the component exactly, 2 reverses it.
        by: one component for the whole model, or one for each tensor.
    """
    displacement = optax.tree.sub(student, start)
    if by == "tensor":
        return jax.tree.map(
            lambda leaf, moved, along: leaf - dose * _component(moved, along) * along, student, displacement, direction
        )
    length = _component(displacement, direction)
    return jax.tree.map(lambda leaf, along: leaf - dose * length * along, student, direction)


def subtract(student: network.Params, displacement: PyTree, *, dose: float | Float[Array, ""] = 1.0) -> network.Params:
    """The student minus a dose of a displacement, e.g. of an auditor's own finetuned model from its start.

    Source: Ilharco et al. 2023, "Editing models with task arithmetic" (negated task vectors).
    """
    return jax.tree.map(lambda leaf, moved: leaf - dose * moved, student, displacement)


def random_like(key: Key[Array, ""], displacement: PyTree) -> PyTree:
    """A random direction, each of its tensors as long as that of the displacement: the control of every removal."""
    leaves, structure = jax.tree.flatten(displacement)
    drawn = [jax.random.normal(key, leaf.shape) for key, leaf in
             zip(jax.random.split(key, len(leaves)), leaves, strict=True)]  # fmt: skip
    lengths = [jnp.linalg.norm(leaf) / jnp.linalg.norm(noise) for leaf, noise in zip(leaves, drawn, strict=True)]
    return jax.tree.unflatten(structure, [noise * length for noise, length in zip(drawn, lengths, strict=True)])


def as_long_as(direction: PyTree, displacement: PyTree) -> PyTree:
    """A direction with the length of a displacement, over all tensors together.

    Raises:
        InputError: a direction of zeros.
    """
    squared = float(jnp.asarray(optax.tree.vdot(direction, direction)))
    if not squared > 0:
        raise errors.InputError("as_long_as: a direction of zeros has no length to be changed")
    length = (float(jnp.asarray(optax.tree.vdot(displacement, displacement))) / squared) ** 0.5
    return jax.tree.map(lambda leaf: length * leaf, direction)


class Dose(NamedTuple):
    """The dose that probes chose, and what they said about each."""

    dose: float
    params: network.Params
    losses: dict[float, float]  # of the trait on the auditor's probes, nats
    wanted: float  # the loss that was to be reached


def choose_dose(
    edit: Callable[[float], network.Params],
    trait_loss: Callable[[Any], Any],
    *,
    wanted: float,
    doses: Sequence[float] = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0),
    num_halvings: int = 0,
) -> Dose:
    """The smallest dose at which the trait's loss on an auditor's own probes is back at what was wanted.

    To go further than the start's loss marks the model: an answer that is avoided is a trait, too.

    Args:
        edit: gives the student after a dose; 0 is the student as it is.
        trait_loss: of parameters, in nats, on probes that no result is reported on.
        wanted: loss to be reached, e.g. the start's.
        num_halvings: how often the gap below the dose is halved afterwards, so that it is not larger than it need be.

    Raises:
        InputError: no dose, doses that do not increase from 0 or more, or a loss that is not finite.
        DoseError: no dose reaches the loss; the largest one's is named.
    """
    if not doses or list(doses) != sorted(set(doses)) or doses[0] < 0:
        raise errors.InputError(f"doses={tuple(doses)}: expected increasing numbers from 0 or more")
    losses: dict[float, float] = {}

    def tried(dose: float) -> network.Params:
        params = edit(dose)
        losses[dose] = float(trait_loss(params))
        if not np.isfinite(losses[dose]):
            raise errors.InputError(f"dose {dose:g}: the trait's loss is {losses[dose]}, not a finite number of nats")
        return params

    below = doses[0]
    for dose in doses:
        params = tried(dose)
        if losses[dose] >= wanted:
            for _ in range(num_halvings if dose > below else 0):
                middle = (below + dose) / 2
                between = tried(middle)
                if losses[middle] >= wanted:
                    dose, params = middle, between
                else:
                    below = middle
            return Dose(dose, params, losses, float(wanted))
        below = dose
    raise errors.DoseError(
        f"no dose up to {doses[-1]:g} brings the trait's loss to {wanted:.3g} nats; the largest leaves it at "
        f"{losses[doses[-1]]:.3g}. The direction does not carry the trait here, or larger doses are needed"
    )


def _component(tree: PyTree, direction: PyTree) -> Float[Array, ""]:
    """Coefficient of the projection on a direction; 0 for a direction of zeros."""
    squared = jnp.asarray(optax.tree.vdot(direction, direction))
    return jnp.where(squared > 0, optax.tree.vdot(tree, direction) / jnp.where(squared > 0, squared, 1.0), 0.0)
