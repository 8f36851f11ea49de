"""A small fixed problem, and its quantities from dense Jacobians: the oracle of the functions that never form one."""

import functools
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments.theorem import problems
from sublim_jax.models import mlp
from sublim_jax.theory import loss_geometry, one_step

SPEC = mlp.MLPSpec(in_size=4, hidden_sizes=(5, 6), num_classes=3, num_aux=3, activation="tanh")
LOSSES = ("kl", "reverse_kl", "jeffreys", "mse", "centred_mse")


distilled = functools.cache(loss_geometry.distilled)


class Case(NamedTuple):
    """A shared start, a teacher's update of length one and weighted inputs."""

    f: loss_geometry.LogitFunction
    reference: mlp.Params
    update: mlp.Params
    inputs: jax.Array
    weights: jax.Array


def random_like(params, seed: int, scale: float = 1.0):
    """Independent N(0, scale²) numbers in the shape of `params`."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(scale * random.standard_normal(leaf.shape), leaf.dtype), params)


def case(spec: mlp.MLPSpec = SPEC, *, seed: int = 0, num_inputs: int = 5) -> Case:
    """Weights N(0, 1/fan_in) and biases N(0, 0.3²), in the type that JAX is set to."""
    drawn = random_like(jax.eval_shape(lambda: mlp.init(jax.random.key(0), spec)), seed)
    reference = tuple(
        mlp.Dense(layer.weight / fan_in**0.5, 0.3 * layer.bias)
        for layer, fan_in in zip(drawn, spec.layer_sizes, strict=False)
    )
    random = np.random.default_rng(seed + 1)
    return Case(
        f=distilled(spec),
        reference=jax.tree.map(lambda leaf: leaf.astype(float), reference),
        update=jax.tree.map(lambda leaf: leaf.astype(float), one_step.unit_update(random_like(reference, seed + 2))),
        inputs=jnp.asarray(random.standard_normal((num_inputs, spec.in_size)), float),
        weights=jnp.asarray(random.random(num_inputs) + 0.1, float),
    )


@functools.cache
def loss(name: str, temperature: float = 1.0) -> loss_geometry.Loss:
    """`loss_geometry.from_name`, one object per name: what is compiled for it is compiled once."""
    return loss_geometry.from_name(name, temperature=temperature)  # pyright: ignore[reportArgumentType]


@functools.cache
def compiled(function):
    """A function of (f, loss, arrays...) compiled for its f and its loss; eagerly each operation is compiled alone."""
    options = {"method", "num_iterations", "num_probes"} & set(inspect.signature(function).parameters)
    return jax.jit(
        function, static_argnums=(0, 1), static_argnames=tuple(options), compiler_options=problems.quick_compilation()
    )


class Dense(NamedTuple):
    """J (batch, logit, parameter), M (batch, logit, logit), G (parameter, parameter) and D (parameter,), in numpy."""

    jacobian: np.ndarray
    metric: np.ndarray
    gauss_newton: np.ndarray
    update: np.ndarray


@functools.cache
def jacobian_of(spec: mlp.MLPSpec):
    f = distilled(spec)
    return jax.jit(
        jax.jacfwd(lambda flat, like, x: f(ravel_pytree(like)[1](flat), x)),
        compiler_options=problems.quick_compilation(),
    )


def metric_by_hand(name: str, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """M of each row from its formula, in numpy."""
    count = logits.shape[-1]
    if name in ("mse", "centred_mse"):
        matrix = 2 * np.eye(count) - (2 / count if name == "centred_mse" else 0.0)
        return np.broadcast_to(matrix, (*logits.shape, count))
    s = np.exp(logits / temperature - (logits / temperature).max(axis=-1, keepdims=True))
    s = s / s.sum(axis=-1, keepdims=True)
    return np.eye(count) * s[:, None, :] - s[:, :, None] * s[:, None, :]


def dense(c: Case, name: str, spec: mlp.MLPSpec = SPEC, *, temperature: float = 1.0, weighted: bool = True) -> Dense:
    """Everything by brute force: the Jacobian column by column, the metric from its formula, sums in numpy."""
    flat = ravel_pytree(c.reference)[0]
    jacobian = np.asarray(jacobian_of(spec)(flat, c.reference, c.inputs))
    metric = metric_by_hand(name, np.asarray(c.f(c.reference, c.inputs)), temperature)
    shares = np.asarray(c.weights) if weighted else np.ones(len(c.inputs))
    shares = shares / shares.sum()
    gauss_newton = np.einsum("b,bip,bij,bjq->pq", shares, jacobian, metric, jacobian)
    return Dense(jacobian, metric, gauss_newton, np.asarray(ravel_pytree(c.update)[0]))
