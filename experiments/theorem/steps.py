"""The first step of other optimizers, and many steps of gradient descent."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.theorem import problems
from experiments.theorem.config import TheoremConfig
from sublim_jax import keys
from sublim_jax.metrics import alignment as products
from sublim_jax.models import mlp
from sublim_jax.theory import loss_geometry, multi_step, one_step, preconditioned, spectrum

SPEC = mlp.MLPSpec(in_size=6, hidden_sizes=(10, 10), num_classes=5, num_aux=3, activation="tanh")
SIGN_SPECS = {
    "3-2-4": mlp.MLPSpec(in_size=3, hidden_sizes=(2,), num_classes=1, num_aux=3, activation="tanh"),
    "20-32-32-13": problems.MIDDLE,
}
STEP_SPEC = mlp.MLPSpec(in_size=6, hidden_sizes=(10,), num_classes=2, num_aux=3, activation="tanh")
NUM_STEPS, NUM_BATCHES = 50, 5

OPTIMIZERS = {
    "sgd": lambda: optax.sgd(1.0),
    "nesterov": lambda: optax.sgd(1.0, momentum=0.9, nesterov=True),
    "clip_norm": lambda: optax.chain(optax.clip_by_global_norm(1e-6), optax.sgd(1.0)),
    "clip_entries": lambda: optax.chain(optax.clip(1e-6), optax.sgd(1.0)),
    "adam": lambda: optax.adam(1.0),
    "rmsprop": lambda: optax.rmsprop(1.0),
    "lion": lambda: optax.lion(1.0, weight_decay=0.0),
    "lars": lambda: optax.lars(1.0, weight_decay=0.0),
    "muon": lambda: optax.contrib.muon(1.0),
}


def optimizer_table(config: TheoremConfig) -> dict:
    """Cosine of the student's first step with −∇L_T, one value per problem. L_T rises where it is negative."""
    rows = {}
    with jax.enable_x64(True):
        member_keys = keys.members(config.seed, jnp.arange(2 * config.num_problems))
        for name, build in OPTIMIZERS.items():
            measure = problems.compiled(jax.vmap(lambda key, build=build: _first_step(key, build())))
            rows[name] = problems.to_lists(
                dict(zip(("descent_teacher", "same_teacher"), measure(member_keys), strict=True)), 4
            )
        signs = {name: problems.to_lists(_sign_steps(member_keys, spec)) for name, spec in SIGN_SPECS.items()}
    return {"num_problems": 2 * config.num_problems, "cosines": rows, "random_updates": signs}


def _first_step(key, optimizer):
    """Cosines after a teacher by gradient descent, and after one by the same optimizer."""
    f, mse = loss_geometry.distilled(SPEC), loss_geometry.from_name("mse")
    reference, descent, inputs = problems.draw(key, SPEC, num_inputs=8)

    def first(step):
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(jax.tree.map(jnp.negative, step), optimizer.init(reference), reference)[0]

    def cosine(update):
        teacher = optax.tree.add_scale(reference, 1e-5, one_step.unit_update(update))
        return products.cosine(first(one_step.student_update(f, mse, reference, teacher, inputs)), descent)

    return cosine(descent), cosine(first(descent))


def _sign_steps(member_keys, spec):
    """Counts of problems in which L_T rises, for sign steps and metrics on both sides or on one; D is random."""
    f, mse = loss_geometry.distilled(spec), loss_geometry.from_name("mse")

    def rises(key):
        reference, gradient_step, inputs = problems.draw(key, spec, num_inputs=2, random_update=True)
        noise = problems.random_direction(keys.stream(key, "metric"), reference)
        metric = preconditioned.diagonal(jax.tree.map(lambda leaf: jnp.exp(2 * leaf), noise))

        def signs(tree):
            return jax.tree.map(jnp.sign, tree)

        def plain(tree):
            return tree

        def rate(teacher_map, student_map):
            return preconditioned.alignment(
                f, mse, reference, gradient_step, teacher_map, 1e-5, inputs, student_preconditioner=student_map
            )

        return {
            "gradient_both": rate(plain, plain) < 0,
            "sign_student": rate(plain, signs) < 0,
            "sign_both": rate(signs, signs) < 0,
            "metric_both": rate(metric, metric) < 0,
            "metric_student": rate(plain, metric) < 0,
        }

    return {name: jnp.sum(values) for name, values in problems.compiled(jax.vmap(rises))(member_keys).items()}


def many_steps(config: TheoremConfig) -> dict:
    """Fifty steps of descent on the teacher's logits: cumulative displacement, and steps with negative alignment."""
    count = min(config.num_problems, 100)
    with jax.enable_x64(True):
        member_keys = keys.members(config.seed, jnp.arange(count))
        runs = {
            "minibatches": (NUM_BATCHES, 1.9),
            "full_batch": (1, 1.0),
            "full_batch_overshooting": (1, 1.9),
        }
        summaries = {}
        for name, (num_batches, rate) in runs.items():
            measure = problems.compiled(jax.vmap(lambda key, n=num_batches, r=rate: _descent(key, n, r)))
            summaries[name] = _summary(*measure(member_keys))
    return {"num_steps": NUM_STEPS, "epsilon": 1e-3, "rates": {k: v[1] for k, v in runs.items()}, "runs": summaries}


def _descent(key, num_batches, rate):
    f, mse = loss_geometry.distilled(STEP_SPEC, "all"), loss_geometry.from_name("mse")
    reference, update, inputs = problems.draw(key, STEP_SPEC, num_inputs=20, random_update=True)
    batches = (3 * inputs).reshape(num_batches, -1, STEP_SPEC.in_size)
    start = problems.random_direction(keys.stream(key, "power iteration"), reference)

    def largest(batch):
        def product(vector):
            return spectrum.gauss_newton_product(f, mse, reference, vector, batch)

        return spectrum.largest_eigenvalue(product, start, num_iterations=200)

    alpha = rate / jnp.max(jax.lax.map(largest, batches))
    plan = batches[jnp.arange(NUM_STEPS) % num_batches]
    arguments = (f, mse, reference, update)
    return (
        multi_step.predicted(*arguments, plan, alpha),
        multi_step.measured(*arguments, 1e-3, plan, alpha),
    )


def _summary(predicted, measured):
    predicted, measured = (jax.tree.map(np.asarray, t) for t in (predicted, measured))
    shown = slice(0, 8)
    return {
        "smallest_cumulative": problems.to_lists(measured.cumulative.min(axis=1)),
        "smallest_step": problems.to_lists(measured.step.min(axis=1)),
        "smallest_step_of_law": problems.to_lists(predicted.step.min(axis=1)),
        "largest_error_of_law": problems.to_lists(np.abs(measured.cumulative / predicted.cumulative - 1).max(axis=1)),
        "largest_growth_of_distance": problems.to_lists(
            np.diff(np.pad(predicted.distance, ((0, 0), (1, 0)), constant_values=1.0), axis=1).max(axis=1)
        ),
        "examples": {
            "predicted_cumulative": problems.to_lists(predicted.cumulative[shown]),
            "measured_cumulative": problems.to_lists(measured.cumulative[shown]),
            "measured_step": problems.to_lists(measured.step[shown]),
        },
    }
