"""Will training on these data transmit a trait? A pilot answers: the first steps of the training itself.

A trait is a loss on probes, e.g. labelled images or questions with answers. The pilot trains the student for a small
share of its steps on the data and, from the same start with the same random numbers, on null data that share all but
the suspected cause: rows of the base itself, or the data's own targets in another order (`shuffled_null`). What the
trait gains over the null is the forecast. It is small so early: `metrics.verdicts.calibrate` says from finished runs
how large a gain of a pilot foretells transfer. The study `experiments.evidence forecast` compares pilots with
first-order scores, such as the cosine of two gradients.

A verdict is about the traits that were asked for, at the probes that were asked, and no promise about others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from sublim_jax import errors
from sublim_jax.metrics import verdicts
from sublim_jax.metrics.verdicts import Forecast
from sublim_jax.models import network


class Trait(NamedTuple):
    """A trait as an auditor asks for it."""

    name: str
    losses: Callable[[Any], Any]
    """Parameters to one loss per probe, (probe,), in nats: smaller where the model shows the trait."""


Train = Callable[[Key[Array, ""], network.Params, PyTree], network.Params]
"""Trains a student for the pilot's steps: a key for its random numbers, its start, and the data."""


def pilot(
    key: Key[Array, ""],
    train: Train,
    start: network.Params,
    data: PyTree,
    null: PyTree,
    traits: Sequence[Trait],
    *,
    threshold: float,
    num_repeats: int = 4,
    confidence: float = 0.95,
) -> dict[str, Forecast]:
    """Forecasts of all traits, by name.

    Args:
        train: as the student will be trained, for a tenth of its steps or so; the same learning rates and batches.
        null: data of the same kind and size that do not carry the trait.
        threshold: see `verdicts.judge`.
        num_repeats: pilots on either data, each with random numbers of its own; data and null share them.

    Raises:
        InputError: no trait, two of one name, or fewer than one repeat; see also `verdicts.judge`.
    """
    names = [trait.name for trait in traits]
    if not names or len(set(names)) < len(names):
        raise errors.InputError(f"traits: expected at least one, each of its own name, got {names}")
    if num_repeats < 1:
        raise errors.InputError(f"num_repeats={num_repeats}: expected 1 at least, and 4 for an interval over repeats")
    at_start = {trait.name: np.asarray(trait.losses(start), float) for trait in traits}
    after: dict[str, dict[str, list[np.ndarray]]] = {name: {"data": [], "null": []} for name in names}
    for repeat in jax.random.split(key, num_repeats):
        for kind, rows in (("data", data), ("null", null)):
            params = train(repeat, start, rows)
            for trait in traits:
                after[trait.name][kind].append(np.asarray(trait.losses(params), float))
    return {
        name: verdicts.judge(
            name, at_start[name], np.stack(losses["data"]), np.stack(losses["null"]), threshold=threshold,
            confidence=confidence,
        )
        for name, losses in after.items()
    }  # fmt: skip


def shuffled_null(key: Key[Array, ""], targets: Float[Array, "example *target"]) -> Float[Array, "example *target"]:
    """The targets in a random order: null data for everybody, without a teacher.

    Every target occurs as often as before, but beside another example's input. What a student learns from the mean of
    the targets alone it learns from these as well.
    """
    return jax.random.permutation(key, targets, axis=0)


def first_order_scores(
    data_gradient: PyTree, trait_gradient: PyTree, *, reached: PyTree | None = None
) -> Mapping[str, Float[Array, ""]]:
    """Scores from gradients at the start, to compare pilots with.

    Args:
        data_gradient: of the student's loss on the data.
        trait_gradient: of the trait's loss on probes.
        reached: 1 where some example of the data has a gradient, else 0; the trait's gradient is cut to it.

    Returns:
        "dot", the product of both gradients: the decrease of the trait's loss per unit of learning rate in a first
        step of gradient descent; "cosine"; "sign", the same product for the first step of Adam; "sign_cosine".
    """
    along = trait_gradient if reached is None else jax.tree.map(jnp.multiply, trait_gradient, reached)
    signs = jax.tree.map(jnp.sign, data_gradient)
    return {
        "dot": _dot(data_gradient, along),
        "cosine": _cosine(data_gradient, along),
        "sign": _dot(signs, along),
        "sign_cosine": _cosine(signs, along),
    }


def _dot(first: PyTree, second: PyTree) -> Float[Array, ""]:
    return sum((jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)),
               start=jnp.zeros(()))  # fmt: skip


def _cosine(first: PyTree, second: PyTree) -> Float[Array, ""]:
    lengths = _dot(first, first) * _dot(second, second)
    return jnp.where(lengths > 0, _dot(first, second) / jnp.sqrt(jnp.where(lengths > 0, lengths, 1.0)), 0.0)
