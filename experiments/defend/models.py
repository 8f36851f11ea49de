"""Students as sums: a base, a displacement, and doses of other displacements; and the folder of a cleaned one."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.own import opened
from sublim_jax import errors, files
from sublim_jax.audit import removal
from sublim_jax.llm.local import adapters, checkpoint, decoder
from sublim_jax.llm.local.model import Model

WHAT = "cleaned model"
"""What is written, in messages."""
FURTHEST = 1.0
"""Length of a displacement, in lengths of the base's matrices, from which a model is no finetuning of it. Models of
different initializations are about 1.4 apart."""


class Subtraction(NamedTuple):
    """A dose of a displacement that is taken out of a student."""

    displacement: decoder.Params
    dose: float
    low_rank: decoder.LowRank | None = None  # the displacement again, if it is a product of factors


def require_finetuned(student: Model, base: Model, names: tuple[str, str]) -> None:
    """Refuse a student that was not trained from the base.

    Args:
        names: of the student and the base, for the message.

    Raises:
        InputError: other shapes, a base of other weights, a model as far away as an unrelated one, or the base itself.
    """
    first, second = names
    if student.config != base.config:
        raise errors.InputError(
            f"{first} is no finetuning of {second}: their configs differ, so that their weights cannot be subtracted"
        )
    assert student.origin is not None and base.origin is not None
    if student.low_rank is not None and student.origin.weights != base.origin.weights:
        raise errors.InputError(
            f"{first} is no finetuning of {second}: its adapter was trained on other weights "
            f"({student.origin.weights}, those of {second} are {base.origin.weights})"
        )
    moved, size = displacement(student, base), base.merged
    lengths = [float(jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in _matrices(tree)))) for tree in (moved, size)]
    if not np.isfinite(lengths).all():
        raise errors.InputError(f"{first}: its weights are not finite; the training that wrote them diverged")
    if lengths[0] == 0 and not any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(moved)):
        raise errors.InputError(f"{first} has the weights of {second}: there is no training to take anything out of")
    if lengths[0] >= FURTHEST * lengths[1]:
        raise errors.InputError(
            f"{first} is no finetuning of {second}: its weights are {lengths[0] / lengths[1]:.2f} of their length away "
            f"from it, as far as those of an unrelated model"
        )


def _matrices(params: decoder.Params) -> list[Any]:
    """Weights of maps and embeddings; norms are alike in all models."""
    maps = [getattr(params.layers, name) for name in decoder.PROJECTIONS]
    return [leaf for leaf in (params.embedding, params.head, *maps) if leaf is not None]


def displacement(model: Model, base: Model) -> decoder.Params:
    """Weights of a model less those of its base."""
    return optax.tree.sub(model.merged, base.merged)


def subtracted(student: Model, subtractions: Sequence[Subtraction]) -> Model:
    """The student less doses of displacements: factors side by side if all are of low rank, otherwise all weights.

    The ranks of factors add up, since the difference of two matrices of low rank has no lower one in general.
    """
    low_rank = student.low_rank
    if low_rank is not None and all(each.low_rank is not None for each in subtractions):
        for each in subtractions:
            assert each.low_rank is not None
            negated = {
                name: decoder.Factors(pair.a, -each.dose * pair.b) for name, pair in each.low_rank.factors.items()
            }
            low_rank = decoder.joined(low_rank, decoder.LowRank(negated, each.low_rank.scale))
        return dataclasses.replace(student, low_rank=low_rank)
    params = student.merged
    for each in subtractions:
        params = removal.subtract(params, each.displacement, dose=each.dose)
    return dataclasses.replace(student, params=params, low_rank=None)


def stored_as(model: Model) -> str:
    """What a folder of the model holds, in words."""
    if model.low_rank is None:
        return "all weights"
    ranks = {pair.a.shape[-1] for pair in model.low_rank.factors.values()}
    return f"an adapter of rank {max(ranks)}"


def save(out: pathlib.Path, model: Model, base: Model) -> None:
    """Write the folder of a cleaned model, whole or not at all.

    Raises:
        OutputError: something is there already, or the disk refuses.
    """
    assert model.origin is not None and base.origin is not None
    with files.writing_folder(out, what=WHAT) as folder:
        if model.low_rank is not None:
            adapters.save(
                folder, model.low_rank, model.config, base=model.origin.base, base_weights=model.origin.weights
            )
        else:
            checkpoint.save_tuned(folder, model.params, model.config, base=base.origin.base)


def address(out: pathlib.Path, model: Model, base: str) -> str:
    """Name by which the folder of a cleaned model is opened."""
    if model.low_rank is None and not opened.is_embedded(base):
        return f"hf:{out}"
    return f"{base}+{out}"


def require_same(name: str, model: Model, announce: Callable[[str], object]) -> None:
    """Open a folder that was written just now, and compare it with what was to be written.

    Raises:
        OutputError: it holds another model.
    """
    backend, reopened = opened.local(name, announce=announce)
    for stored, written in zip(
        jax.tree.leaves(backend.model(reopened).merged), jax.tree.leaves(model.merged), strict=True
    ):
        if not np.allclose(np.asarray(stored, np.float32), np.asarray(written, np.float32), rtol=1e-5, atol=1e-6):
            raise errors.OutputError(f"{name}: the model that was written is not the one that is read; is the disk ok?")
