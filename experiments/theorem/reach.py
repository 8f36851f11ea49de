"""How far in ε the prediction and the sign hold: curves, epsilon* certified and sampled, and ReLU kinks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments.theorem import problems
from experiments.theorem.config import TheoremConfig
from sublim_jax import keys, losses
from sublim_jax.models import mlp
from sublim_jax.theory import certificate, kinks, loss_geometry, one_step

CURVES: tuple[tuple[mlp.Activation, losses.DistillationLossName], ...] = (
    ("tanh", "mse"),
    ("tanh", "kl"),
    ("relu", "mse"),
)
EPSILONS = 10.0 ** np.arange(-9, 1.51, 0.5)
RADIUS_GRID = np.geomspace(1e-3, 200, 121)
MNIST_SIZED = mlp.MLPSpec(hidden_sizes=(64, 64), activation="tanh")
SIZES = {"6-8-7": (problems.TINY, 12), "20-32-32-13": (problems.MIDDLE, 6), "784-64-64-13": (MNIST_SIZED, 2)}
"""Networks of each size, and the largest number of them, because intervals of large matrices take time."""
MAX_EVALUATIONS = 40


def _drawn(config: TheoremConfig, spec: mlp.MLPSpec, count: int) -> problems.Problem:
    return problems.compiled(jax.vmap(lambda key: problems.draw(key, spec)))(
        keys.members(config.seed, jnp.arange(count))
    )


def curve(config: TheoremConfig) -> dict:
    """Alignment with |D| = 1 on the same networks in float64 and float32, and its prediction ε A + ε² B."""
    curves = []
    for activation, loss in CURVES:
        spec = dataclasses.replace(problems.MIDDLE, activation=activation)
        f, distance = loss_geometry.distilled(spec), loss_geometry.from_name(loss)

        def measure(problem, epsilon, f=f, distance=distance):
            return one_step.alignment_curve(f, distance, problem.reference, problem.update, epsilon, problem.inputs)

        with jax.enable_x64(True):
            drawn = _drawn(config, spec, config.num_networks)
            double = problems.compiled(jax.vmap(measure, (0, None)))(drawn, jnp.asarray(EPSILONS))
            drawn, double = jax.tree.map(np.asarray, (drawn, double))
        with jax.enable_x64(False):
            as_single = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float32)), (drawn, EPSILONS))
            single = problems.compiled(jax.vmap(measure, (0, None)))(*as_single)
        entry = {"activation": activation, "loss": loss, "coefficient": problems.to_lists(double.linear[:, 0] / 1e-9)}
        entry["half_curvature"] = problems.to_lists(double.quadratic[:, -1] / EPSILONS[-1] ** 2)
        for name, measured in (("float64", double), ("float32", single)):
            entry[name] = {
                "alignment": problems.to_lists(measured.alignment),
                "remainder": problems.to_lists(np.asarray(measured.alignment, float) - np.asarray(double.linear)),
            }
        if activation == "relu":
            entry["first_kink"] = problems.to_lists(_radii(drawn, spec))
        curves.append(entry)
    return {"epsilon": problems.to_lists(EPSILONS), "spec": problems.MIDDLE, "num_inputs": 32, "curves": curves}


def _radii(drawn, spec):
    members = [problems.member(drawn, index) for index in range(len(drawn.inputs))]
    return [kinks.radius(member.reference, member.update, member.inputs, spec) for member in members]


def radius(config: TheoremConfig) -> dict:
    """Epsilon* certified by intervals and estimated on a grid, and the first negative alignment on that grid."""
    rows = []
    for name, (spec, most) in SIZES.items():
        count = min(config.num_networks, most)
        for loss in ("mse", "kl"):
            with jax.enable_x64(True):
                drawn, f, distance = (
                    _drawn(config, spec, count),
                    loss_geometry.distilled(spec),
                    loss_geometry.from_name(loss),
                )

                def estimate(problem, f=f, distance=distance):
                    grid = jnp.asarray(RADIUS_GRID)
                    return certificate.sampled(f, distance, problem.reference, problem.update, grid, problem.inputs)

                sampled = problems.compiled(jax.vmap(estimate))(drawn)
            members = [problems.member(drawn, index) for index in range(count)]
            certificates = [
                certificate.certified(*member, spec=spec, loss=loss, limit=200.0, max_evaluations=MAX_EVALUATIONS)
                for member in members
            ]
            rows.append(
                {
                    "network": name,
                    "loss": loss,
                    "certified": problems.to_lists([each.radius for each in certificates]),
                    "sampled": problems.to_lists(sampled.taylor),
                    "sign_change": problems.to_lists(sampled.sign_change),  # null: none on the grid
                    "num_evaluations": [each.num_evaluations for each in certificates],
                    "limit_reached": [each.limit_reached for each in certificates],
                }
            )
    return {"grid": [float(RADIUS_GRID[0]), float(RADIUS_GRID[-1]), len(RADIUS_GRID)], "rows": rows}


def one_hidden_layer(config: TheoremConfig) -> dict:
    """Distance to the first kink and error of ε A + ε² B below it, for one hidden ReLU layer and the squared error."""
    spec = dataclasses.replace(problems.MIDDLE, hidden_sizes=(32,), activation="relu")
    f, mse = loss_geometry.distilled(spec), loss_geometry.from_name("mse")
    with jax.enable_x64(True):
        member_keys = keys.members(config.seed, jnp.arange(config.num_networks))
        drawn = problems.compiled(jax.vmap(lambda key: problems.draw(key, spec, num_inputs=16, random_update=True)))(
            member_keys
        )
        radii = _radii(jax.tree.map(np.asarray, drawn), spec)

        def error(problem, furthest):
            epsilon = furthest * jnp.array([0.25, 0.5, 0.75, 0.999, 2.0, 8.0])
            curve = one_step.alignment_curve(f, mse, problem.reference, problem.update, epsilon, problem.inputs)
            return jnp.abs(curve.remainder - curve.quadratic) / curve.linear

        errors = problems.compiled(jax.vmap(error))(drawn, jnp.asarray(radii))
    return {
        "first_kink": problems.to_lists(radii),
        "relative_error_before": problems.to_lists(errors[:, :4]),
        "relative_error_beyond": problems.to_lists(errors[:, 4:]),
    }


def on_the_kink(config: TheoremConfig) -> dict:
    """Counts of wrong signs and slopes if zero biases and a black input put every ReLU on its kink."""
    rows = {}
    num_updates = 10 * config.num_problems
    with jax.enable_x64(True):
        member_keys = keys.members(config.seed, jnp.arange(num_updates))
        for activation in ("relu", "gelu"):
            spec = mlp.MLPSpec(in_size=4, hidden_sizes=(8, 8), num_classes=1, num_aux=2, activation=activation)
            f, mse = loss_geometry.distilled(spec, "all"), loss_geometry.from_name("mse")

            def measure(key, spec=spec, f=f, mse=mse):
                reference = mlp.init(keys.stream(key, "reference"), spec)
                update = problems.random_direction(keys.stream(key, "update"), reference)
                black = jnp.zeros((1, 4))
                slope = one_step.alignment_reverse(f, mse, reference, update, 1e-6, black) / 1e-6
                return slope, one_step.alignment_coefficient(f, mse, reference, update, black)

            slope, coefficient = problems.compiled(jax.vmap(measure))(member_keys)
            rows[activation] = {
                "negative": int(jnp.sum(slope < 0)),
                "slope_off": int(jnp.sum(jnp.abs(slope / coefficient - 1) > 1e-3)),
            }
    return {"num_updates": num_updates, "rows": rows}


def kinks_of_relu(config: TheoremConfig) -> dict:
    """Distance of random networks from their first kink, and the sign on a kink."""
    return {"one_hidden_layer": one_hidden_layer(config), "zero_bias_black_input": on_the_kink(config)}
