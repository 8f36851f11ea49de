"""Training of denoisers: flow matching on a set of images, as teachers are trained, and on what others have drawn.

Numbers of images and of steps are data, so one compiled program trains bases, teachers and students of samples alike;
students of a teacher's outputs are trained by `distill` with the squared error.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from sublim_jax import losses
from sublim_jax.data import noised
from sublim_jax.models import denoiser, network
from sublim_jax.training import loop, optimizers
from sublim_jax.training.optimizers import OptimizerSpec

Images = Float[Array, "image *shape"]


def loss(
    params: network.Params,
    images: Images,
    noise: Images,
    times: Float[Array, "image"],
    labels: Int[Array, "image"] | None = None,
    *,
    model: network.Network,
) -> Float[Array, ""]:
    """Squared error of the estimates of images that lie at these times on their ways to the noise.

    Summed over pixels and averaged over images, as `losses.squared_error`, all times alike. Auxiliary channels do not
    enter. A conditional denoiser is given the images' labels.
    """
    guesses = denoiser.estimate(params, noised.path(images, noise, times), times, labels, model=model)
    return losses.squared_error(guesses.reshape(len(images), -1), images.reshape(len(images), -1))


def draw(key: Key[Array, ""], images: Images) -> tuple[Images, Float[Array, "image"]]:
    """Gaussian noise and uniform times for a batch of images."""
    noise_key, time_key = jax.random.split(key)
    return jax.random.normal(noise_key, images.shape), jax.random.uniform(time_key, (len(images),))


@functools.partial(jax.jit, static_argnames=("model", "batch_size"))
def train(
    key: Key[Array, ""],
    start: network.Params,
    images: Images,
    *,
    model: network.Network,
    num_steps: int | Int[Array, ""],
    optimizer: OptimizerSpec,
    num_images: int | Int[Array, ""] | None = None,
    labels: Int[Array, "image"] | None = None,
    final_rate: float | Float[Array, ""] = 1.0,
    batch_size: int = 128,
) -> tuple[network.Params, Float[Array, ""]]:
    """Parameters after so many steps of flow matching, and the mean loss of about the last fifty.

    Each step draws its images with replacement. Auxiliary readouts of a perceptron stay where they were.

    Args:
        num_images: how many of the images, the first ones, are drawn from. Data sets that are padded to one length
            share a program. All by default.
        labels: classes that the images are asked for by, of a conditional denoiser.
        final_rate: what a half cosine takes the learning rate to, as a share of its first value; 1 keeps it.
    """
    transformation = optimizers.build(optimizer)
    count = jnp.asarray(len(images) if num_images is None else num_images)
    length = jnp.asarray(num_steps)

    def step(number, carried):
        state, recent = carried
        pick_key, noise_key = jax.random.split(jax.random.fold_in(key, number))
        places = jax.random.randint(pick_key, (batch_size,), 0, count)
        batch, asked = jnp.take(images, places, axis=0), None if labels is None else jnp.take(labels, places)
        noise, times = draw(noise_key, batch)
        rate = final_rate + (1 - final_rate) * 0.5 * (1 + jnp.cos(jnp.pi * number / length))
        state, value = loop.gradient_step(
            state, lambda params: loss(params, batch, noise, times, asked, model=model), transformation,
            trainable=jax.tree.map(lambda _: rate, start),
        )  # fmt: skip
        return state, recent + (value - recent) / jnp.minimum(number + 1, 50)

    carried = loop.init_state(start, transformation), jnp.zeros(())
    state, recent = jax.lax.fori_loop(0, length, step, carried)
    return state.params, recent
