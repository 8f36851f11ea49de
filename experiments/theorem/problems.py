"""Small networks and data for all parts. Each is drawn from one key, so that a vmap over keys draws many."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from sublim_jax import keys, losses
from sublim_jax.models import mlp
from sublim_jax.theory import one_step

TINY = mlp.MLPSpec(in_size=6, hidden_sizes=(8,), num_classes=4, num_aux=3, activation="tanh")
MIDDLE = mlp.MLPSpec(in_size=20, hidden_sizes=(32, 32), num_classes=10, num_aux=3, activation="tanh")


QUICK_COMPILATION = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


@functools.cache
def quick_compilation() -> dict[str, Any]:
    """Compiler options for `jax.jit` on a CPU: a fifth of the compilation time for twice the run time.

    Options unknown to the installed compiler are left out. The call initializes the device.
    """
    return {name: value for name, value in QUICK_COMPILATION.items() if _is_known(name, value)}


def _is_known(option: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0.0, compiler_options={option: value}).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if option in str(error):
            return False
        raise
    return True


def compiled(function):
    """`jax.jit` for programs whose compilation takes longer than their run, such as those of small networks."""
    return jax.jit(function, compiler_options=quick_compilation())


class Problem(NamedTuple):
    """A reference, a teacher's update of length one, and the inputs of the student."""

    reference: mlp.Params
    update: mlp.Params
    inputs: Float[Array, "batch pixel"]


def network(key: Key[Array, ""], spec: mlp.MLPSpec, *, bias: float = 0.1) -> mlp.Params:
    """A reference as in the library, with biases N(0, bias²) so that no unit lies on a kink."""
    layers = mlp.init(keys.stream(key, "weights"), spec)
    bias_keys = jax.random.split(keys.stream(key, "biases"), len(layers))
    return tuple(
        mlp.Dense(layer.weight, layer.bias + bias * jax.random.normal(k, layer.bias.shape))
        for layer, k in zip(layers, bias_keys, strict=True)
    )


def random_direction(key: Key[Array, ""], like: Any) -> Any:
    """Independent normal numbers in the shape of a pytree."""
    leaves, structure = jax.tree.flatten(like)
    leaf_keys = jax.random.split(key, len(leaves))
    return structure.unflatten([jax.random.normal(k, x.shape, x.dtype) for k, x in zip(leaf_keys, leaves, strict=True)])


def teacher_loss(key: Key[Array, ""], spec: mlp.MLPSpec, *, num_examples: int = 128):
    """The teacher's loss: cross-entropy of the class logits on normal inputs with labels from a random linear map."""
    images = jax.random.normal(keys.stream(key, "images"), (num_examples, spec.in_size))
    rows = jax.random.normal(keys.stream(key, "classes"), (spec.num_classes, spec.in_size))
    labels = jnp.argmax(images @ rows.T, axis=-1)

    def loss(params):
        return losses.cross_entropy(mlp.apply(params, images, spec)[:, : spec.num_classes], labels)

    return loss


def draw(key: Key[Array, ""], spec: mlp.MLPSpec, *, num_inputs: int = 32, random_update: bool = False) -> Problem:
    """A problem with uniform noise inputs, and a teacher that takes a gradient step on its task, or a random step."""
    reference = network(keys.stream(key, "reference"), spec)
    if random_update:
        update = random_direction(keys.stream(key, "update"), reference)
    else:
        update = one_step.teacher_update(teacher_loss(keys.stream(key, "task"), spec), reference)
    inputs = jax.random.uniform(keys.stream(key, "inputs"), (num_inputs, spec.in_size), minval=-1, maxval=1)
    return Problem(reference, one_step.unit_update(update), inputs)


def member(tree: Any, index: int) -> Any:
    """One member of a pytree with a leading member axis, as numpy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf[index]), tree)


def to_lists(values: Any, digits: int = 5) -> Any:
    """Arrays as nested lists, rounded to this number of significant digits; None for numbers that are not finite."""
    if isinstance(values, dict):
        return {name: to_lists(item, digits) for name, item in values.items()}
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        return array.tolist()
    if array.ndim:
        return [to_lists(item, digits) for item in array]
    return float(f"{float(array):.{digits}g}") if np.isfinite(array) else None
