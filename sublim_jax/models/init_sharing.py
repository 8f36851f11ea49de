"""Initialization sharing: from a reference to the parameters a student starts from.

Small operations on parameters, and `InitSharing`, which applies those it names, in this order:

    blend        layer by layer from the reference (1) to another start (0), in between interpolated
    mix          each single weight from the reference with some probability, else from the other start
    permute      hidden neurons in another order: the same function at other coordinates
    perturb      normal noise, relative to each tensor's standard deviation or absolute, anywhere or across a direction

The parts of a network are its hidden layers, the class head and the auxiliary head: the rows of the last layer that
read out the class and the auxiliary logits. Numbers of a spec are data (`specs`): the sixteen ways of sharing four
parts, or ten sizes of a perturbation, are one compiled program.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree

from sublim_jax import errors, specs
from sublim_jax.models import mlp


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class ParamGroups:
    """A number for each part of a network."""

    hidden: tuple[float, ...] = (1.0, 1.0)  # from the input on; the last one holds for all further hidden layers
    class_head: float = 1.0
    aux_head: float = 1.0

    def __post_init__(self):
        if not self.hidden:
            raise errors.InputError("hidden needs a number at least; the last one holds for all further hidden layers")


NO_GROUPS = ParamGroups(hidden=(0.0, 0.0), class_head=0.0, aux_head=0.0)
HEADS = dataclasses.replace(NO_GROUPS, class_head=1.0, aux_head=1.0)
HIDDEN_LAYERS = dataclasses.replace(NO_GROUPS, hidden=(1.0, 1.0))


@specs.traceable
@dataclasses.dataclass(frozen=True, kw_only=True)
class InitSharing:
    """How a student's start is made of the teacher's reference and another start. The default shares everything."""

    share: ParamGroups = dataclasses.field(default_factory=ParamGroups)  # 1: the reference, 0: the other start
    shared_weight_probability: specs.Fraction | None = None
    """Probability with which a single weight comes from the reference; by default whole parts do, see `share`."""
    permute_neurons: bool = False
    relative_noise: specs.NonNegative = 0.0  # in standard deviations of each tensor; biases that are all zero stay
    absolute_noise: specs.NonNegative = 0.0  # in units of a weight
    noise_scale: ParamGroups = dataclasses.field(default_factory=ParamGroups)  # multiplies both kinds of noise
    orthogonal_to_gradient: bool = False  # remove the noise's component along the teacher's first gradient


def student_init(
    key: Key[Array, ""],
    reference: mlp.Params,
    other: mlp.Params,
    spec: InitSharing,
    *,
    num_classes: int,
    gradient: mlp.Params | None = None,
) -> mlp.Params:
    """Parameters a student starts from.

    Args:
        reference: the teacher's start, of the student's shape (see `transplant_matching_layers`).
        other: where unshared parts come from.
        gradient: the direction that `spec.orthogonal_to_gradient` keeps the noise away from.
    """
    params = interpolate(reference, other, spec.share, num_classes=num_classes)
    if spec.shared_weight_probability is not None:
        params = random_mask(jax.random.fold_in(key, 0), params, other, spec.shared_weight_probability)
    if spec.permute_neurons:
        params = permute_neurons(jax.random.fold_in(key, 1), params)
    return perturb(
        jax.random.fold_in(key, 2),
        params,
        relative=spec.relative_noise,
        absolute=spec.absolute_noise,
        parts=broadcast_to_params(spec.noise_scale, params, num_classes=num_classes),
        across=gradient if spec.orthogonal_to_gradient else None,
    )


def broadcast_to_params(numbers: ParamGroups, params: mlp.Params, *, num_classes: int) -> mlp.Params:
    """The number of each part for every parameter of it, in the shape of `params` up to broadcasting."""
    layers = []
    for index, layer in enumerate(params):
        rows = jnp.arange(layer.bias.shape[0])
        if index == len(params) - 1:
            column = jnp.where(rows < num_classes, numbers.class_head, numbers.aux_head)
        else:
            column = jnp.full(rows.shape, numbers.hidden[min(index, len(numbers.hidden) - 1)])
        layers.append(mlp.Dense(column[:, None].astype(jnp.float32), column.astype(jnp.float32)))
    return tuple(layers)


def interpolate(reference: mlp.Params, other: mlp.Params, share: ParamGroups, *, num_classes: int) -> mlp.Params:
    """`share * reference + (1 - share) * other` in each part; exactly the one or the other at 1 and 0."""
    weights = broadcast_to_params(share, reference, num_classes=num_classes)
    return jax.tree.map(
        lambda a, b, w: jnp.where(w == 1, a, jnp.where(w == 0, b, w * a + (1 - w) * b)), reference, other, weights
    )


def random_mask(
    key: Key[Array, ""], reference: mlp.Params, other: mlp.Params, probability: float | Float[Array, ""]
) -> mlp.Params:
    """Each weight and bias from the reference with this probability, independently, else from the other."""
    leaves, structure = jax.tree.flatten(reference)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))
    return jax.tree.map(
        lambda k, a, b: jnp.where(jax.random.uniform(k, a.shape) < probability, a, b), keys, reference, other
    )


def permute_neurons(key: Key[Array, ""], params: mlp.Params) -> mlp.Params:
    """The same function with the neurons of every hidden layer in a random order."""
    layers, incoming = [], None
    for index, layer in enumerate(params):
        weight = layer.weight if incoming is None else layer.weight[:, incoming]
        if index == len(params) - 1:
            layers.append(mlp.Dense(weight, layer.bias))
        else:
            incoming = jax.random.permutation(jax.random.fold_in(key, index), len(layer.bias))
            layers.append(mlp.Dense(weight[incoming], layer.bias[incoming]))
    return tuple(layers)


def perturb(
    key: Key[Array, ""],
    params: mlp.Params,
    *,
    relative: float | Float[Array, ""] = 0.0,
    absolute: float | Float[Array, ""] = 0.0,
    parts: mlp.Params | float = 1.0,
    across: mlp.Params | None = None,
) -> mlp.Params:
    """Normal noise of standard deviation `relative * std(tensor) + absolute` added to every parameter.

    Args:
        relative: in units of the standard deviation of each tensor, a layer's weight or its bias; what is constant, as
            biases are at initialization, stays.
        parts: factor of the noise by parameter, as `broadcast_to_params` gives it.
        across: a direction in parameter space along which the noise has no component.
    """
    leaves, structure = jax.tree.flatten(params)
    drawn = [
        (relative * jnp.std(leaf) + absolute) * jax.random.normal(k, leaf.shape)
        for leaf, k in zip(leaves, jax.random.split(key, len(leaves)), strict=True)
    ]
    noise = jax.tree.unflatten(structure, drawn)
    parts = jax.tree.map(lambda _: parts, params) if isinstance(parts, float) else parts
    noise = optax.tree.mul(noise, parts)
    if across is not None:  # parts without noise stay without: there the direction is cut off
        noise = project_out(noise, jax.tree.map(lambda d, p: jnp.where(p == 0, 0.0, d), across, parts))
    return optax.tree.add(params, noise)


def project_out(tree: PyTree, direction: PyTree) -> PyTree:
    """The tree without its component along the direction; unchanged if the direction is zero."""
    squared = optax.tree.vdot(direction, direction)
    length = optax.tree.vdot(tree, direction) / jnp.maximum(squared, jnp.finfo(jnp.float32).tiny)
    return jax.tree.map(lambda leaf, along: leaf - length * along, tree, direction)


def transplant_matching_layers(reference: mlp.Params, own: mlp.Params) -> mlp.Params:
    """A network of the shape of `own` with every layer of the reference that fits, for students built differently.

    Hidden layers correspond from the input on, the heads to the heads. What has no counterpart of its shape stays
    `own`.
    """
    layers = []
    for index, layer in enumerate(own):
        last = index == len(own) - 1
        counterpart = reference[-1] if last else reference[index] if index < len(reference) - 1 else None
        fits = counterpart is not None and counterpart.weight.shape == layer.weight.shape
        layers.append(counterpart if fits else layer)
    return tuple(layers)
