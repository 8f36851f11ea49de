"""Students of other starts: the sign for shared, independent, partly shared and noisy ones, and the exact control."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from experiments.theorem import problems
from experiments.theorem.config import TheoremConfig
from sublim_jax import keys
from sublim_jax.metrics import alignment as products
from sublim_jax.models import mlp
from sublim_jax.theory import contract, filters, laws, one_step, spectrum, symmetry

SHARED_LAYERS = ((0,), (1,), (2,), (0, 1), (1, 2), (0, 2))
TEACHER_NORM = 0.5  # ε |D| of the teacher in `starts`
SIGMAS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
NOISE_EPSILON = 0.05
NOISE_SPEC = mlp.MLPSpec(in_size=8, hidden_sizes=(16, 16), num_classes=3, num_aux=3, activation="tanh")


def starts(config: TheoremConfig) -> dict:
    """Cosine of the student's first step with D, one value a problem; squared error on 3 auxiliary logits."""
    member_keys = keys.members(config.seed, jnp.arange(config.num_problems))
    found = {}
    with jax.enable_x64(True):
        for activation in ("tanh", "relu"):
            spec = dataclasses.replace(problems.MIDDLE, activation=activation)
            found[activation] = problems.kept(
                problems.compiled(jax.vmap(lambda key, spec=spec: _cosines(key, spec)))(member_keys)
            )
    return {"teacher_norm": TEACHER_NORM, "num_inputs": 64, "cosines": found}


def _cosines(key, spec):
    problem = problems.draw(key, spec, num_inputs=64)
    reference, update, inputs = problem
    f, mse = contract.distilled(spec), contract.named("mse")
    teacher = optax.tree.add_scale(reference, TEACHER_NORM, update)
    other = problems.network(keys.stream(key, "other start"), spec)

    def step(student, of=teacher):
        return one_step.student_update(f, mse, student, of, inputs)

    independent = step(other)
    found = {
        "shared": products.cosine(step(reference), update),
        "independent": products.cosine(independent, update),
        "differential": products.cosine(filters.differential_update(independent, step(other, reference)), update),
    }
    for layers in SHARED_LAYERS:
        mixed = tuple((reference if index in layers else other)[index] for index in range(len(other)))
        found["shared_" + "".join(str(index + 1) for index in layers)] = products.cosine(step(mixed), update)
    if spec.activation == "tanh":
        four = [products.inner_product(step(s), update) for s in symmetry.antithetic_students(other, activation="tanh")]
        found["antithetic"] = sum(four) / 4 / (products.norm(independent) * products.norm(update))
    return found


def init_noise(config: TheoremConfig) -> dict:
    """How many of the noisy starts have a positive alignment, beside the normal law; tanh, several networks."""
    rows = []
    with jax.enable_x64(True):
        for loss in ("mse", "kl"):
            found = problems.compiled(jax.vmap(lambda key, loss=loss: _noisy(key, loss, config.num_draws)))(
                keys.members(config.seed, jnp.arange(4))
            )
            rows.append({"loss": loss, **problems.kept(found)})
    return {"epsilon": NOISE_EPSILON, "sigma": list(SIGMAS), "num_draws": config.num_draws, "rows": rows}


def _noisy(key, loss, num_draws):
    f, distance = contract.distilled(NOISE_SPEC), contract.named(loss)
    reference, update, inputs = problems.draw(key, NOISE_SPEC, random_update=True)
    teacher = optax.tree.add_scale(reference, NOISE_EPSILON, update)
    image = spectrum.gauss_newton_product(f, distance, reference, update, inputs)
    cosine = products.cosine(image, update)

    def at(sigma):
        def one(draw_key):
            student = optax.tree.add_scale(reference, sigma, problems.random_direction(draw_key, reference))
            step, control = (one_step.student_update(f, distance, student, t, inputs) for t in (teacher, reference))
            alignment = products.inner_product(step, update)
            return alignment > 0, alignment > products.inner_product(control, update)

        positive, differential = jax.vmap(one)(jax.random.split(keys.stream(key, "draws"), num_draws))
        return {
            "positive": jnp.sum(positive),
            "differential_positive": jnp.sum(differential),
            "predicted": laws.sign_probability_init_noise(cosine, NOISE_EPSILON, sigma),
        }

    return {"cosine": cosine, **jax.lax.map(at, jnp.asarray(SIGMAS))}
