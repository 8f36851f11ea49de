"""The paper's network on MNIST: cosines of the first step and after training, and noise between the starts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.theorem import problems
from experiments.theorem.config import TheoremConfig
from sublim_jax import keys, losses
from sublim_jax.data import datasets as image_data
from sublim_jax.data import noise as noise_data
from sublim_jax.metrics import alignment as products
from sublim_jax.models import mlp
from sublim_jax.theory import filters, loss_geometry, normal_approximations, one_step, spectrum
from sublim_jax.training import teach

NUM_CLASSES, BASE_AUX = 10, 3
OUT_OF_SIGHT = -1e9  # an undistilled logit: the same on both sides and without probability
SIGMAS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 2e-1, 5e-1)
CURVE = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
RANGE_INPUTS = (32, 128)
GRADIENT_IMAGES = 2048


def _spec(width: int, num_aux: int) -> mlp.MLPSpec:
    return mlp.MLPSpec(hidden_sizes=(width, width), num_classes=NUM_CLASSES, num_aux=num_aux)


def _noise_images(config: TheoremConfig, member: int, count: int) -> jax.Array:
    key = keys.stream(keys.members(config.seed, jnp.array([member]))[0], "noise images")
    return noise_data.sample(key, jnp.arange(count), num_pixels=784, spec=noise_data.NoiseSpec())


def _first_aux_logits(spec: mlp.MLPSpec, seen: jax.Array) -> loss_geometry.LogitFunction:
    """A function with the auxiliary logits that are `seen`, which is data, so that one program serves all numbers.

    The rows of the other logits get no gradient and the teacher does not move them, so cosines are those of a smaller
    network.
    """

    def f(params, images):
        aux = mlp.apply(params, images, spec)[:, NUM_CLASSES:]
        return jnp.where(jnp.broadcast_to(seen, aux.shape), aux, OUT_OF_SIGHT)

    return f


@functools.partial(jax.jit, static_argnames=("spec", "loss"))
def _cosine(reference, update, noise, seen, *, spec, loss):
    f, distance = _first_aux_logits(spec, seen), loss_geometry.from_name(loss)
    num_iterations = 15 if loss == "mse" else 1
    cosine = spectrum.alignment_cosine(f, distance, reference, update, noise, num_iterations=num_iterations)
    bound = {"rayleigh_bound": cosine.rayleigh_bound} if loss == "mse" else {}
    return {"cosine": cosine.cosine, **bound}


@functools.partial(jax.jit, static_argnames=("spec",))
def _isotropic(reference, noise, seen, key, *, spec):
    f, mse = _first_aux_logits(spec, seen), loss_geometry.from_name("mse")
    rank = spectrum.effective_rank(f, mse, reference, noise, key=key, num_probes=8).rank
    in_use = sum(leaf.size for leaf in jax.tree.leaves(reference)) - jnp.sum(~seen) * (spec.hidden_sizes[-1] + 1)
    return normal_approximations.isotropic_cosine(rank, in_use)


@functools.partial(jax.jit, static_argnames=("spec",))
def _gradient_step(reference, pixels, labels, *, spec):
    def loss(params):
        return losses.cross_entropy(mlp.apply(params, pixels, spec)[:, :NUM_CLASSES], labels)

    return one_step.teacher_update(loss, reference)


def _first_step(config, dataset, spec, member):
    """The reference, and the teacher's gradient step on the first images."""
    key = keys.members(config.seed, jnp.array([member]))[0]
    reference = mlp.init(keys.stream(key, "reference"), spec)
    pixels = image_data.scale_pixels(dataset.train_images[:GRADIENT_IMAGES].reshape(-1, 784))
    labels = jnp.asarray(dataset.train_labels[:GRADIENT_IMAGES])
    return reference, _gradient_step(reference, pixels, labels, spec=spec)


@functools.partial(jax.jit, static_argnames=("spec", "phase"))
def _teach(key, reference, images, labels, *, spec, phase):
    teacher, history = teach.teach(key, reference, images, labels, model=spec, phase=phase)
    return optax.tree.sub(teacher, reference), history[-1]


def _trained(config, dataset, spec, member, reference):
    """The update of a trained teacher, and its mean loss over the last epoch."""
    key = keys.stream(keys.members(config.seed, jnp.array([member]))[0], "teacher")
    count = config.num_train_images
    images, labels = dataset.train_images[:count].reshape(-1, 784), dataset.train_labels[:count]
    return _teach(key, reference, jnp.asarray(images), jnp.asarray(labels), spec=spec, phase=config.teacher)


def cosines(config: TheoremConfig, dataset: image_data.ImageDataset) -> dict:
    """Cosines against auxiliary logits and width, the range fraction, and the curve of a trained teacher."""
    return {
        "first_step": "minus the gradient of the cross-entropy",
        "gradient_images": GRADIENT_IMAGES,
        "num_aux": list(config.num_aux),
        "by_aux": [_by_aux(config, dataset, member) for member in range(config.num_members)],
        "widths": list(config.widths),
        "by_width": [_by_width(config, dataset, member) for member in range(config.num_members)],
        "curve_epsilon": list(CURVE),
        "range_inputs": list(RANGE_INPUTS),
        "three_aux": [_with_three_aux(config, dataset, member) for member in range(config.num_members)],
    }


def _by_aux(config, dataset, member):
    spec = _spec(256, max(config.num_aux))
    noise = _noise_images(config, member, config.num_noise_images)
    reference, update = _first_step(config, dataset, spec, member)
    trained, _ = _trained(config, dataset, spec, member, reference)
    probes = jax.random.key(config.seed)
    rows = {"init_mse": [], "init_kl": [], "trained_mse": [], "trained_kl": [], "isotropic_cosine": []}
    for count in config.num_aux:
        seen = jnp.arange(max(config.num_aux)) < count
        for name, direction in (("init", update), ("trained", trained)):
            for loss in ("mse", "kl"):
                if loss == "kl" and count == 1:  # one logit under a softmax: A = 0, and there is no cosine
                    rows[f"{name}_{loss}"].append(None)
                    continue
                cosine = _cosine(reference, direction, noise, seen, spec=spec, loss=loss)
                rows[f"{name}_{loss}"].append(problems.to_lists(cosine))
        rows["isotropic_cosine"].append(problems.to_lists(_isotropic(reference, noise, seen, probes, spec=spec)))
    return rows


def _by_width(config, dataset, member):
    noise, rows = _noise_images(config, member, config.num_noise_images), []
    seen = jnp.ones(BASE_AUX, bool)
    for width in config.widths:
        spec = _spec(width, BASE_AUX)
        reference, update = _first_step(config, dataset, spec, member)
        cosine = _cosine(reference, update, noise, seen, spec=spec, loss="mse")
        share = spectrum.trunk_share(update, update[-1])
        isotropic = _isotropic(reference, noise, seen, jax.random.key(config.seed), spec=spec)
        rows.append(problems.to_lists({**cosine, "isotropic_cosine": isotropic, "trunk_share": share}))
    return rows


@functools.partial(jax.jit, static_argnames=("spec",))
def _range_fraction(reference, update, noise, *, spec):
    f, mse = loss_geometry.distilled(spec), loss_geometry.from_name("mse")
    return spectrum.range_fraction(f, mse, reference, update, noise, method="cg", num_iterations=150)


@functools.partial(jax.jit, static_argnames=("spec",))
def _curve(reference, update, noise, *, spec):
    f, mse = loss_geometry.distilled(spec), loss_geometry.from_name("mse")
    return one_step.alignment_curve(f, mse, reference, update, jnp.asarray(CURVE), noise)


def _with_three_aux(config, dataset, member):
    """Range fraction by conjugate gradients at the first step; size, cosine and curve of a trained teacher."""
    spec = _spec(256, BASE_AUX)
    reference, update = _first_step(config, dataset, spec, member)
    many = _noise_images(config, member, max(*RANGE_INPUTS, config.num_noise_images))
    fractions = [_range_fraction(reference, update, many[:count], spec=spec) for count in RANGE_INPUTS]
    trained, last_loss = _trained(config, dataset, spec, member, reference)
    all_seen = jnp.ones(BASE_AUX, bool)
    noise = many[: config.num_noise_images]
    curve = _curve(reference, trained, noise, spec=spec)
    return {
        "range_fraction": problems.to_lists(np.array(fractions)),
        "trunk_share": problems.to_lists(spectrum.trunk_share(update, update[-1])),
        "trained_norm": problems.to_lists(products.norm(trained)),
        "trained_loss": problems.to_lists(last_loss),
        "trained_cosine": problems.to_lists(_cosine(reference, trained, noise, all_seen, spec=spec, loss="mse")),
        "curve_over_law": problems.to_lists(curve.alignment / curve.linear),
    }


def init_noise(config: TheoremConfig, dataset: image_data.ImageDataset) -> dict:
    """Cosines of students with noisy starts, absolute and relative to the control of an unmoved teacher."""
    rows = []
    spec = _spec(256, BASE_AUX)
    for member in range(min(config.num_members, 2)):
        reference, step = _first_step(config, dataset, spec, member)
        trained, _ = _trained(config, dataset, spec, member, reference)
        short = jax.tree.map(lambda leaf: 0.1 * leaf, one_step.unit_update(step))
        noise = _noise_images(config, member, config.num_noise_images)
        for name, update in (("one_step", short), ("trained", trained)):
            cosines, differential, limit = _noisy_cosines(reference, update, noise, spec, config.num_mnist_draws)
            norm = products.norm(update)
            predicted = normal_approximations.sign_probability_init_noise(limit, norm, jnp.asarray(SIGMAS))
            rows.append(
                {
                    "member": member,
                    "teacher": name,
                    "norm": problems.to_lists(norm),
                    "cosine_without_noise": problems.to_lists(limit),
                    "predicted": problems.to_lists(predicted),
                    "cosine": problems.to_lists(cosines, 3),
                    "differential_cosine": problems.to_lists(differential, 3),
                }
            )
    return {"sigma": list(SIGMAS), "weight_sd_of_layers": [784**-0.5, 256**-0.5, 256**-0.5], "rows": rows}


@functools.partial(jax.jit, static_argnames=("spec", "num_draws"))
def _noisy_cosines(reference, update, noise, spec, num_draws):
    f, mse = loss_geometry.distilled(spec), loss_geometry.from_name("mse")
    teacher = optax.tree.add(reference, update)

    def cosine_pair(sigma, key):
        student = optax.tree.add_scale(reference, sigma, problems.random_direction(key, reference))
        step, control = (one_step.student_update(f, mse, student, t, noise) for t in (teacher, reference))
        return products.cosine(step, update), products.cosine(filters.differential_update(step, control), update)

    draws = jax.random.split(jax.random.key(0), num_draws)
    noisy = jax.lax.map(lambda sigma: jax.lax.map(lambda key: cosine_pair(sigma, key), draws), jnp.asarray(SIGMAS))
    step = one_step.student_update(f, mse, reference, teacher, noise)
    return (*noisy, products.cosine(step, update))
