"""Denoisers: networks that estimate an image from a noised one and its time, and samples drawn with them.

A denoiser is a `Network` whose inputs are pairs (x_t, t), see `data.noised`. Its first outputs, as many as an image has
pixels, are the estimate of x_0; they stand where class logits stand in a classifier. The outputs after them are
auxiliary channels, which no training on images touches. So all that works on logits works on denoisers: `heads`,
`training.distill` with the squared error, and the theory with `f(params, (x_t, t))`.

`from_mlp` makes one of the paper's kind of network, `unet.make` a convolutional one. Any other network is one too, if
its `forward` takes the pair. A conditional denoiser takes triples (x_t, t, label): it estimates an image of the class
that is asked for.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from sublim_jax import errors, specs
from sublim_jax.models import heads, mlp, network
from sublim_jax.models.mlp import MLPSpec

Images = Float[Array, "batch *shape"]
Times = Float[Array, "batch"]
Labels = Int[Array, "batch"]
NUM_TIME_FEATURES = 32


def time_features(times: Times) -> Float[Array, "batch feature"]:
    """Features of the time: 8 sines and 8 cosines of t pi/4 times powers of two, and 16 Gaussian bumps on [0, 1].

    Bumps are .05 wide (standard deviation) and .067 apart, so that a network without depth can tell neighbouring times
    apart.
    """
    waves = times[:, None] * (2.0 ** jnp.arange(NUM_TIME_FEATURES // 4) * jnp.pi / 4)[None]
    centres = jnp.linspace(0, 1, NUM_TIME_FEATURES // 2)
    bumps = jnp.exp(-200 * (times[:, None] - centres[None]) ** 2)
    return jnp.concatenate([jnp.sin(waves), jnp.cos(waves), bumps], axis=1)


@functools.cache
def from_mlp(
    *,
    num_pixels: int = 196,
    hidden_sizes: tuple[int, ...] = (256, 256, 256),
    num_aux: int = 64,
    activation: mlp.Activation = "silu",
    num_labels: int = 0,
) -> network.Network:
    """A multilayer perceptron on the pixels of x_t and `time_features` of t. Equal settings give the same object.

    Args:
        num_labels: classes 0, 1, ... that an image can be asked for. Inputs are triples (x_t, t, label) then, and the
            perceptron sees the label as further inputs, all 0 but for a 1 at its place. 0: inputs are pairs.

    Raises:
        InputError: a size or an activation that does not exist; when it is applied, labels that are missing or that it
            does not know.
    """
    specs.check(num_labels, specs.CountOrZero, "num_labels")
    spec = MLPSpec(
        in_size=num_pixels + NUM_TIME_FEATURES + num_labels, hidden_sizes=hidden_sizes, num_classes=num_pixels,
        num_aux=num_aux, activation=activation, init_distribution="he_normal",
    )  # fmt: skip

    def forward(params, inputs):
        noised, times, *labels = inputs
        if bool(labels) != bool(num_labels):
            raise errors.InputError(
                f"this denoiser has num_labels={num_labels} and was given {'labels' if labels else 'no labels'}: ask a "
                f"conditional one for a class of each image, and no other one"
            )
        pixels = noised.reshape(len(noised), -1)
        asked = [jax.nn.one_hot(label, num_labels) for label in labels]
        return mlp.apply(params, jnp.concatenate([pixels, time_features(times), *asked], axis=1), spec)

    return network.Network(initialize=spec.init, forward=forward, num_classes=num_pixels, num_aux=num_aux)


def estimate(
    params: network.Params, noised: Images, times: Times, labels: Labels | None = None, *, model: network.Network
) -> Images:
    """The estimate of x_0, of the same shape as x_t. A conditional denoiser needs labels."""
    inputs = (noised, times) if labels is None else (noised, times, labels)
    pixels = heads.class_logits(model.apply(params, inputs), num_classes=model.num_classes)
    return pixels.reshape(noised.shape)


def channels(
    params: network.Params, noised: Images, times: Times, *, model: network.Network
) -> Float[Array, "batch aux"]:
    """The auxiliary channels."""
    return heads.aux_logits(model.apply(params, (noised, times)), num_classes=model.num_classes)


def with_fresh_channels(key: Key[Array, ""], params: mlp.Params, *, model: network.Network) -> mlp.Params:
    """A perceptron or U-Net whose readouts of the auxiliary channels are drawn again; it estimates as before.

    The first rows of the last layer read out the estimate. In a U-Net a row serves all positions.
    """
    fresh, last = model.init(key)[-1], params[-1]
    num_estimating = len(last.bias) * model.num_classes // (model.num_classes + model.num_aux)
    pixels, aux = slice(0, num_estimating), slice(num_estimating, None)
    joined = (jnp.concatenate([old[pixels], new[aux]]) for old, new in zip(last, fresh, strict=True))
    return (*params[:-1], mlp.Dense(*joined))


def sample(
    params: network.Params, noise: Images, labels: Labels | None = None, *, model: network.Network, num_steps: int
) -> Images:
    """Images that flow from this noise: Euler's method on a uniform grid from time 1 to time 0.

    The velocity is (x_t - estimate) / t, so a step from t to s is x_s = (s / t) x_t + (1 - s / t) estimate, which is
    DDIM's too. The last step ends at the estimate itself. Equal noise makes samples of different models comparable.

    Args:
        labels: the class that each image is asked for, of a conditional denoiser.

    Raises:
        InputError: `num_steps` is not a whole number of at least 1, or the noise has another number of pixels.

    Source: Liu et al. 2023; Song et al. 2021 (DDIM).
    """
    specs.check(num_steps, specs.Count, "num_steps")
    if noise[0].size != model.num_classes:
        raise errors.InputError(
            f"noise of shape {noise.shape}: the denoiser estimates {model.num_classes} pixels an image, not "
            f"{noise[0].size}"
        )

    def step(images, place):
        time, keep = 1 - place / num_steps, 1 - 1 / (num_steps - place)
        guess = estimate(params, images, jnp.full(len(images), time), labels, model=model)
        return keep * images + (1 - keep) * guess, None

    return lax.scan(step, noise, jnp.arange(num_steps, dtype=jnp.float32))[0]


def draw(
    key: Key[Array, ""], params: network.Params, num_images: int, *, shape: tuple[int, ...], model: network.Network,
    num_steps: int,
) -> Images:  # fmt: skip
    """So many samples from fresh noise; see `sample`."""
    noise = jax.random.normal(key, (num_images, *shape))
    return sample(params, noise, model=model, num_steps=num_steps)
