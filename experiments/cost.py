"""About how long members take: their arithmetic, at the rate of matrix products timed here and now.

Widths are of members side by side on a device, by default as the atlas's worker has them. On an accelerator nothing
but products is counted.
"""

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sublim_jax import conditions
from sublim_jax.data import batches
from sublim_jax.models import conv, mlp
from sublim_jax.training import ensemble, loop
from sublim_jax.training.config import MemberConfig

TRAIN_IMAGES, TEST_IMAGES = 60_000, 10_000

USEFUL = 0.9
"""Share of the rate of a single product that a whole run reaches in its products: a guess."""
PER_PARAMETER = 1e-9
"""Seconds of an Adam step per parameter. Source: experiments/records/speed.json, both cores together."""
PER_PATCH_PIXEL = 4e-9
"""Seconds per pixel of patches of convolutions in a training step on a CPU core, roughly; a third of that forwards."""
PER_PIXEL = {"uniform": 0.8e-9, "bernoulli": 0.8e-9, "gaussian": 4e-9}
"""Seconds to draw a pixel."""
PRODUCTS, CALLS = 16, 5
"""Products in a call, and calls that are timed."""


@functools.cache
def rate(precision: mlp.Precision, width: int | None = None) -> float:
    """Useful FLOP/s of one device in products of the first layer's shape, while all devices multiply."""
    width = width or ensemble.default_members_per_device(10**6)
    num_members = width * jax.device_count()
    dtype = jnp.dtype(precision)
    arrays = np.ones((num_members, 256, 784), dtype), np.ones((num_members, 1024, 784), dtype)

    def products(weight, images, _):
        def step(weight, _):
            out = jnp.einsum("oi,bi->ob", weight, images, preferred_element_type=jnp.float32)
            return weight + (0 * out[:, :784]).astype(dtype), None  # or it would be taken out of the loop

        return lax.scan(step, weight, length=PRODUCTS)[0]

    run, arguments = ensemble.over_members(products, width=width), ensemble.shard(arrays)
    jax.block_until_ready(run(arguments, ()))
    seconds = []
    for _ in range(CALLS):
        began = time.perf_counter()
        jax.block_until_ready(run(arguments, ()))
        seconds.append(time.perf_counter() - began)
    return USEFUL * 2 * 256 * 784 * 1024 * PRODUCTS * width / float(np.median(seconds))


class Work(NamedTuple):
    """What a model does with one image."""

    multiplications: int  # in the products of a forward pass
    first: int  # of them in the first layer, which has no gradient with respect to the images
    patch_pixels: int  # that are copied into patches of convolutions
    num_weights: int


def work(model: conv.LayeredSpec) -> Work:
    """What a model does with one image."""
    if isinstance(model, mlp.MLPSpec):
        return Work(model.num_weights, model.layer_sizes[0] * model.layer_sizes[1], 0, model.num_weights)
    weights = [fan_in * fan_out for fan_in, fan_out in model.fans]
    multiplied = [weight * positions for weight, positions in zip(weights, model.positions, strict=True)]
    num_kernels = len(weights) - len(model.hidden_sizes) - 1
    patches = zip(model.fans[:num_kernels], model.positions, strict=False)
    return Work(
        sum(multiplied), multiplied[0], sum(fan_in * positions for (fan_in, _), positions in patches), sum(weights)
    )


def _training_seconds(model: conv.LayeredSpec, phase: loop.TrainPhase, num_examples: int, width: int | None) -> float:
    per_image = work(model)
    flops = 6 * per_image.multiplications - 2 * per_image.first
    steps = batches.num_batches(num_examples, phase.batch_size) * phase.num_epochs
    products = flops * num_examples * phase.num_epochs / rate(model.precision, width)
    copied = num_examples * phase.num_epochs * per_image.patch_pixels * PER_PATCH_PIXEL
    return products + _on_cpu(steps * per_image.num_weights * PER_PARAMETER + copied)


def _forward_seconds(model: conv.LayeredSpec, width: int | None) -> float:
    """Estimated time of one device for the logits of one image."""
    per_image = work(model)
    products = 2 * per_image.multiplications / rate(model.precision, width)
    return products + _on_cpu(per_image.patch_pixels * PER_PATCH_PIXEL / 3)


def _on_cpu(seconds: float) -> float:
    return seconds if jax.default_backend() == "cpu" else 0.0


def teacher_seconds(spec: MemberConfig, num_images: int, *, width: int | None = None) -> float:
    """Estimated time of one device for one member's teacher."""
    return _training_seconds(conv.with_layers(spec.model), spec.teacher, num_images, width)


def matching_seconds(spec: MemberConfig, *, width: int | None = None) -> float:
    """Estimated time of one device to prepare one member's matched student, if it has any."""
    if not any(conditions.start_of(condition) == "matched" for condition in spec.conditions):
        return 0.0
    model = conv.with_layers(spec.students)
    return _training_seconds(model, spec.matching.phase, spec.matching.num_images, width)


def students_seconds(spec: MemberConfig, *, width: int | None = None) -> float:
    """Estimated time of one device for one member's students, the preparation of a matched one included."""
    model = conv.with_layers(spec.students)
    forward = _forward_seconds(model, width)
    labelled = spec.num_noise_images * _forward_seconds(conv.with_layers(spec.model), width)
    student = _training_seconds(model, spec.student, spec.num_noise_images, width)
    drawn = spec.num_noise_images * (spec.student.num_epochs + 1) * model.in_size * PER_PIXEL[spec.noise.distribution]
    scored = TEST_IMAGES * (1 + ("epochs" in spec.metrics) * spec.student.num_epochs)
    if "representation" in spec.metrics:
        scored += 2 * TRAIN_IMAGES
    total = len(spec.conditions) * (student + scored * forward) + _on_cpu(drawn) + labelled
    return spec.num_generations * total + matching_seconds(spec, width=width)
