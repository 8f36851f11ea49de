"""Models of other libraries as `network.Network`: Flax (linen and nnx) and Equinox.

    from_flax(nn.Dense(13), example, num_classes=10)                          a linen module
    from_flax(lambda rngs: Net(rngs=rngs), example, num_classes=10)           an nnx module, by what makes it
    from_equinox(lambda key: eqx.nn.MLP(784, 13, 256, 2, key=key), example, num_classes=10)

The library is imported when the function is called. A module's output has the class logits first; what remains are
auxiliary logits. Modules that carry state from batch to batch, or draw dropout while they are applied, are refused:
a member is a pure function of its key.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax import errors
from sublim_jax.models import network


def from_flax(module: Any, example: network.Inputs, *, num_classes: int) -> network.Network:
    """A linen module, or a function from `nnx.Rngs` to an nnx module, as a network.

    Args:
        example: some inputs, batch first. Only their shape and type count.

    Raises:
        InputError: the module fails, has state besides parameters, or has fewer logits than classes.
        ExtraMissingError: Flax is not installed.
    """
    try:
        from flax import linen, nnx
    except ImportError as error:
        raise errors.ExtraMissingError("from_flax needs Flax: pip install flax") from error
    _require_example(example)
    if isinstance(module, linen.Module):
        return _from_linen(module, example, num_classes)
    if not callable(module) or (isinstance(module, type) and issubclass(module, linen.Module)):
        raise errors.InputError(
            f"from_flax: expected a linen module, e.g. nn.Dense(13), or a function from nnx.Rngs to an nnx module, got "
            f"{module!r}"
        )
    if isinstance(module, nnx.Module):
        raise errors.InputError(
            f"{type(module).__name__} is an nnx module that has its parameters already: give a function that makes one "
            f"from nnx.Rngs, e.g. lambda rngs: {type(module).__name__}(rngs=rngs)"
        )
    return _from_nnx(module, example, num_classes)


def _from_linen(module, example, num_classes: int) -> network.Network:
    from flax import errors as flax_errors

    with _failing("from_flax: the module", example):
        shapes = jax.eval_shape(lambda key: module.init(key, _inputs(example)), jax.random.key(0))
    _refuse_state(type(module).__name__, set(shapes) - {"params"})

    def initialize(key):
        return module.init(key, _inputs(example))

    try:
        return _network(initialize, module.apply, example, num_classes)
    except errors.InputError as error:
        if not isinstance(error.__cause__, flax_errors.InvalidRngError):
            raise
        raise errors.InputError(
            f"{type(module).__name__} draws random numbers while it is applied: a member is a pure function of its "
            f"key. Leave dropout out, or make it deterministic"
        ) from error


def _from_nnx(make: Callable, example, num_classes: int) -> network.Network:
    from flax import nnx

    with _failing("from_flax: the function from nnx.Rngs"):
        module = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    if not isinstance(module, nnx.Module):
        raise errors.InputError(f"from_flax: the function from nnx.Rngs gives {module!r}, expected an nnx module")
    definition, _, rest = nnx.split(module, nnx.Param, ...)
    kinds = {type(leaf).__name__ for leaf in jax.tree.leaves(rest, is_leaf=lambda x: isinstance(x, nnx.Variable))}
    _refuse_state("this module", kinds)

    def initialize(key):
        return nnx.split(make(nnx.Rngs(key)), nnx.Param, ...)[1]

    def forward(params, inputs):
        return nnx.merge(definition, params)(inputs)

    return _network(initialize, forward, example, num_classes)


def from_equinox(make: Callable, example: network.Inputs, *, num_classes: int) -> network.Network:
    """A function from a key to an Equinox module of one input as a network of a batch.

    Args:
        example: some inputs, batch first. Only their shape and type count.

    Raises:
        InputError: the module fails, or has fewer logits than classes.
        ExtraMissingError: Equinox is not installed.
    """
    try:
        import equinox as eqx  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise errors.ExtraMissingError("from_equinox needs Equinox: pip install equinox") from error
    _require_example(example)
    with _failing("from_equinox: the function from a key"):
        module = eqx.filter_eval_shape(make, jax.random.key(0))
    static = eqx.filter(module, eqx.is_inexact_array, inverse=True)

    def initialize(key):
        return eqx.filter(make(key), eqx.is_inexact_array)

    def forward(params, inputs):
        return jax.vmap(eqx.combine(params, static))(inputs)

    return _network(initialize, forward, example, num_classes)


def _require_example(example) -> None:
    if not isinstance(example, np.ndarray | jax.Array) or example.ndim == 0:
        raise errors.InputError(f"example: expected an array of some inputs, batch first, got {example!r:.80}")
    if example.dtype != jnp.uint8 and not jnp.issubdtype(example.dtype, jnp.floating):
        raise errors.InputError(f"example: expected bytes (uint8) or floats, got {example.dtype}")


@contextlib.contextmanager
def _failing(what: str, example: network.Inputs | None = None) -> Iterator[None]:
    """Says in one line that a user's module fails, and on which inputs."""
    try:
        yield
    except Exception as error:
        inputs = "" if example is None else f" on one input of shape {example.shape[1:]}"
        raise errors.InputError(f"{what} fails{inputs} ({type(error).__name__}: {error})") from error


def _inputs(example):
    """Zeros in the shape of one input, as the model sees it: nothing of the user's data enters a program."""
    return jnp.zeros((1, *example.shape[1:]), jnp.float32 if example.dtype == jnp.uint8 else example.dtype)


def _refuse_state(name: str, kinds: set[str]) -> None:
    if kinds:
        raise errors.InputError(
            f"{name} has {', '.join(sorted(kinds))} besides its parameters: a member is a pure function of its key. "
            f"Use layers without running averages and without dropout, e.g. LayerNorm instead of BatchNorm"
        )


def _network(initialize, forward, example, num_classes: int) -> network.Network:
    def logits(key):
        return forward(initialize(key), _inputs(example))

    with _failing("the module", example):
        outputs = jax.eval_shape(logits, jax.random.key(0))
    if getattr(outputs, "ndim", None) != 2 or outputs.shape[1] < num_classes:
        shape = getattr(outputs, "shape", outputs)
        raise errors.InputError(
            f"the module maps one input to {shape}: expected (1, logits) with at least num_classes={num_classes} "
            f"logits; those that remain are the auxiliary ones"
        )
    return network.Network(
        initialize=initialize, forward=forward, num_classes=num_classes, num_aux=outputs.shape[1] - num_classes
    )
