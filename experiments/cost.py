"""About how long members take: their arithmetic, at the rate of matrix products timed here and now.

Widths are of members side by side on a device, by default as the atlas's worker has them. On an accelerator nothing
but products is counted.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sublim_jax import conditions
from sublim_jax.data import batches
from sublim_jax.models import mlp
from sublim_jax.training import ensemble, loop
from sublim_jax.training.config import MemberConfig

TRAIN_IMAGES, TEST_IMAGES = 60_000, 10_000

USEFUL = 0.9
"""Share of the rate of a single product that a whole run reaches in its products: a guess."""
PER_PARAMETER = 1e-9
"""Seconds of an Adam step per parameter. Source: experiments/records/speed.json, both cores together."""
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


def _training_seconds(model: mlp.MLPSpec, phase: loop.TrainPhase, num_examples: int, width: int | None) -> float:
    sizes = model.layer_sizes
    flops = 6 * model.num_weights - 2 * sizes[0] * sizes[1]  # no gradient with respect to the images
    steps = batches.num_batches(num_examples, phase.batch_size) * phase.num_epochs
    products = flops * num_examples * phase.num_epochs / rate(model.precision, width)
    return products + _on_cpu(steps * model.num_weights * PER_PARAMETER)


def _on_cpu(seconds: float) -> float:
    return seconds if jax.default_backend() == "cpu" else 0.0


def teacher_seconds(spec: MemberConfig, num_images: int, *, width: int | None = None) -> float:
    """Estimated time of one device for one member's teacher."""
    return _training_seconds(spec.mlp_spec, spec.teacher, num_images, width)


def matching_seconds(spec: MemberConfig, *, width: int | None = None) -> float:
    """Estimated time of one device to prepare one member's matched student, if it has any."""
    if not any(conditions.start_of(condition) == "matched" for condition in spec.conditions):
        return 0.0
    model = spec.student_mlp_spec
    return _training_seconds(model, spec.matching.phase, spec.matching.num_images, width)


def students_seconds(spec: MemberConfig, *, width: int | None = None) -> float:
    """Estimated time of one device for one member's students, the preparation of a matched one included."""
    model = spec.student_mlp_spec
    forward = 2 * model.num_weights / rate(model.precision, width)
    student = _training_seconds(model, spec.student, spec.num_noise_images, width)
    drawn = spec.num_noise_images * (spec.student.num_epochs + 1) * model.in_size * PER_PIXEL[spec.noise.distribution]
    scored = TEST_IMAGES * (1 + ("epochs" in spec.metrics) * spec.student.num_epochs)
    if "representation" in spec.metrics:
        scored += 2 * TRAIN_IMAGES
    total = len(spec.conditions) * (student + scored * forward) + _on_cpu(drawn) + spec.num_noise_images * forward
    return spec.num_generations * total + matching_seconds(spec, width=width)
