"""Students with other starts: shared, independent, partly shared and noisy ones, and the antithetic control."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from experiments.theorem import problems
from experiments.theorem.config import TheoremConfig
from sublim_jax import keys
from sublim_jax.metrics import alignment as products
from sublim_jax.models import mlp
from sublim_jax.theory import filters, loss_geometry, normal_approximations, one_step, spectrum, symmetry

SHARED_LAYERS = ((0,), (1,), (2,), (0, 1), (1, 2), (0, 2))
TEACHER_NORM = 0.5  # ε |D| of the teacher in `starts`
SIGMAS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
NOISE_EPSILON = 0.05
NOISE_SPEC = mlp.MLPSpec(in_size=8, hidden_sizes=(16, 16), num_classes=3, num_aux=3, activation="tanh")


def starts(config: TheoremConfig) -> dict:
    """Cosine of the student's first step with D, one value per problem; squared error on 3 auxiliary logits."""
    member_keys = keys.members(config.seed, jnp.arange(config.num_problems))
    cosines = {}
    with jax.enable_x64(True):
        for activation in ("tanh", "relu"):
            spec = dataclasses.replace(problems.MIDDLE, activation=activation)
            cosines[activation] = problems.to_lists(
                problems.compiled(jax.vmap(lambda key, spec=spec: _cosines(key, spec)))(member_keys)
            )
    return {"teacher_norm": TEACHER_NORM, "num_inputs": 64, "cosines": cosines}


def _cosines(key, spec):
    problem = problems.draw(key, spec, num_inputs=64)
    reference, update, inputs = problem
    f, mse = loss_geometry.distilled(spec), loss_geometry.from_name("mse")
    teacher = optax.tree.add_scale(reference, TEACHER_NORM, update)
    other = problems.network(keys.stream(key, "other start"), spec)

    def step(student, teacher=teacher):
        return one_step.student_update(f, mse, student, teacher, inputs)

    independent = step(other)
    cosines = {
        "shared": products.cosine(step(reference), update),
        "independent": products.cosine(independent, update),
        "differential": products.cosine(filters.differential_update(independent, step(other, reference)), update),
    }
    for layers in SHARED_LAYERS:
        mixed = tuple((reference if index in layers else other)[index] for index in range(len(other)))
        cosines["shared_" + "".join(str(index + 1) for index in layers)] = products.cosine(step(mixed), update)
    if spec.activation == "tanh":
        four = [products.inner_product(step(s), update) for s in symmetry.antithetic_students(other, activation="tanh")]
        cosines["antithetic"] = sum(four) / 4 / (products.norm(independent) * products.norm(update))
    return cosines


def init_noise(config: TheoremConfig) -> dict:
    """Counts of noisy starts with a positive alignment, and their normal approximation, for several tanh networks."""
    rows = []
    with jax.enable_x64(True):
        for loss in ("mse", "kl"):
            row = problems.compiled(jax.vmap(lambda key, loss=loss: _noisy(key, loss, config.num_draws)))(
                keys.members(config.seed, jnp.arange(4))
            )
            rows.append({"loss": loss, **problems.to_lists(row)})
    return {"epsilon": NOISE_EPSILON, "sigma": list(SIGMAS), "num_draws": config.num_draws, "rows": rows}


def _noisy(key, loss, num_draws):
    f, distance = loss_geometry.distilled(NOISE_SPEC), loss_geometry.from_name(loss)
    reference, update, inputs = problems.draw(key, NOISE_SPEC, random_update=True)
    teacher = optax.tree.add_scale(reference, NOISE_EPSILON, update)
    image = spectrum.gauss_newton_product(f, distance, reference, update, inputs)
    cosine = products.cosine(image, update)

    def at(sigma):
        def is_positive(draw_key):
            student = optax.tree.add_scale(reference, sigma, problems.random_direction(draw_key, reference))
            step, control = (one_step.student_update(f, distance, student, t, inputs) for t in (teacher, reference))
            alignment = products.inner_product(step, update)
            return alignment > 0, alignment > products.inner_product(control, update)

        positive, differential = jax.vmap(is_positive)(jax.random.split(keys.stream(key, "draws"), num_draws))
        return {
            "positive": jnp.sum(positive),
            "differential_positive": jnp.sum(differential),
            "predicted": normal_approximations.sign_probability_init_noise(cosine, NOISE_EPSILON, sigma),
        }

    return {"cosine": cosine, **jax.lax.map(at, jnp.asarray(SIGMAS))}
