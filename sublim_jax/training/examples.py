"""The examples that a model is trained and scored on: what fits it, and the form in which it takes them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from sublim_jax import errors
from sublim_jax.data import datasets
from sublim_jax.data import inputs as input_data
from sublim_jax.models import mlp, network


def as_inputs(examples: Shaped[Array, "batch *shape"]) -> Float[Array, "batch *shape"]:
    """Examples as a model takes them: bytes scaled from 0..255 to [-1, 1], floats as they are.

    Raises:
        InputError: the examples are neither bytes nor floats.
    """
    _require_type(examples.dtype, "inputs")
    return datasets.scale_pixels(examples) if examples.dtype == jnp.uint8 else jnp.asarray(examples)


def _require_type(dtype, what: str) -> None:
    if dtype != jnp.uint8 and not jnp.issubdtype(dtype, jnp.floating):
        raise errors.InputError(
            f"{what} are {dtype}: expected bytes (uint8), which are scaled to [-1, 1], or floats, which are used as "
            f"they are"
        )


def require_fitting(
    model: network.Model,
    inputs: Shaped[Array, "..."] | Shaped[np.ndarray, "..."],
    labels: Shaped[Array, "..."] | Shaped[np.ndarray, "..."],
    *,
    what: str = "inputs",
) -> None:
    """Refuse inputs that a model does not take and labels that it does not have. Nothing is computed.

    Values are looked into where they are known, which inside a compiled program they are not.

    Raises:
        InputError: no input, inputs of another shape or type than the model takes, not one label of a class for each,
            numbers that are not finite, or a model whose output is not one row of its logits for each input.
    """
    in_size = model.in_size if isinstance(model, mlp.MLPSpec) else None
    if in_size is not None and (inputs.ndim != 2 or inputs.shape[1] != in_size):
        raise errors.InputError(
            f"{what} of shape {inputs.shape}: expected one row of in_size={in_size} pixels for each. Flatten images "
            f"with reshape(len(images), -1), or give the network's spec another in_size"
        )
    if inputs.ndim == 0 or not len(inputs):
        raise errors.InputError(f"{what}: there are none, expected one at least")
    if labels.shape != inputs.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise errors.InputError(
            f"labels of {what} are {labels.dtype} of shape {labels.shape}: expected the whole number of a class for "
            f"each of {len(inputs)} inputs"
        )
    _require_type(inputs.dtype, what)
    if in_size is None:
        _require_output(model, inputs, what)
    known_labels, known_inputs = _known(labels), _known(inputs)
    if known_labels is not None:
        outside = np.flatnonzero((known_labels < 0) | (known_labels >= model.num_classes))
        if len(outside):
            raise errors.InputError(
                f"labels of {what}: label {outside[0]} is {known_labels[outside[0]]}, expected 0 to "
                f"{model.num_classes - 1}, as the network has num_classes={model.num_classes}"
            )
    if known_inputs is not None and known_inputs.dtype != np.uint8:
        bad = np.flatnonzero(~np.isfinite(known_inputs.astype(np.float32).reshape(len(inputs), -1)).all(axis=1))
        if len(bad):
            raise errors.InputError(f"{what}: number {bad[0]} has values that are not finite; leave it out")


def require_noise(model: network.Model, noise_function: input_data.InputFunction) -> None:
    """Refuse a user's noise that is not one input of the model for each index. Nothing is computed.

    Raises:
        InputError: the function fails, or gives another number of inputs, or inputs that the model does not take.
    """
    what = "inputs of noise_function"
    try:
        inputs = jax.eval_shape(noise_function, jax.random.key(0), jax.ShapeDtypeStruct((2,), jnp.int32))
    except Exception as error:
        raise errors.InputError(
            f"noise_function fails on a key and two indices ({type(error).__name__}: {error}). Expected a function of "
            f"a key and of the indices of some examples, (batch,), to as many inputs"
        ) from error
    if getattr(inputs, "shape", ())[:1] != (2,):
        raise errors.InputError(
            f"noise_function gives {inputs} for two indices: expected an array of two inputs, batch first"
        )
    _require_type(inputs.dtype, what)
    _require_output(model, inputs, what)


def _require_output(model: network.Model, inputs, what: str) -> None:
    batch = jax.ShapeDtypeStruct((2, *inputs.shape[1:]), inputs.dtype)
    wanted = (2, model.num_classes + model.num_aux)
    try:
        outputs = jax.eval_shape(lambda x: model.apply(model.init(jax.random.key(0)), as_inputs(x)), batch)
    except errors.InputError:
        raise
    except Exception as error:
        raise errors.InputError(
            f"{what} of shape {inputs.shape}: the model fails on a batch of them ({type(error).__name__}: {error}). "
            f"Give inputs of the shape that it was built for, batch first"
        ) from error
    if getattr(outputs, "shape", None) != wanted or not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise errors.InputError(
            f"the model maps two {what} to {jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), outputs)}: "
            f"expected floats of shape {wanted}, one row of num_classes={model.num_classes} and "
            f"num_aux={model.num_aux} logits for each"
        )


def _known(array) -> np.ndarray | None:
    try:
        return np.asarray(array)
    except jax.errors.TracerArrayConversionError:
        return None
