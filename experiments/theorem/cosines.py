"""Cosines of a small student's step with the teacher's update, against auxiliary logits and width."""

import jax
import jax.numpy as jnp

from experiments.theorem import problems
from experiments.theorem.config import TheoremConfig
from sublim_jax import keys
from sublim_jax.metrics import alignment as products
from sublim_jax.models import mlp
from sublim_jax.theory import loss_geometry, normal_approximations, spectrum

NUM_CLASSES, NUM_INPUTS = 5, 32
NUM_AUX = (1, 2, 3, 5, 10, 20)
WIDTHS = (8, 16, 32, 64)
OUT_OF_SIGHT = 0.0  # an undistilled logit under the squared error: equal on both sides


def cosines(config: TheoremConfig) -> dict:
    """Cosines and their bounds, one value per network, for the squared error in float64 with dense kernels."""
    with jax.enable_x64(True):
        by_aux = _measured(config, NUM_AUX)
        by_width = [_measured(config, (3,), width=width)[0] for width in WIDTHS]
    return {
        "num_inputs": NUM_INPUTS,
        "num_aux": list(NUM_AUX),
        "by_aux": by_aux,
        "widths": list(WIDTHS),
        "by_width": by_width,
    }


def _measured(config, counts, *, width=16):
    """Measurements for each number of auxiliary logits, which is data, so that one program serves all."""
    spec = mlp.MLPSpec(
        in_size=10, hidden_sizes=(width, width), num_classes=NUM_CLASSES, num_aux=max(counts), activation="tanh"
    )
    measure = problems.compiled(lambda members, seen: jax.lax.map(lambda key: _on_network(key, seen, spec), members))
    members = keys.members(config.seed, jnp.arange(min(config.num_networks, 8)))
    return [problems.to_lists(measure(members, jnp.arange(max(counts)) < count)) for count in counts]


def _on_network(key, seen, spec):
    problem, mse = problems.draw(key, spec, num_inputs=NUM_INPUTS), loss_geometry.from_name("mse")

    def f(params, inputs):
        aux = mlp.apply(params, inputs, spec)[:, NUM_CLASSES:]
        return jnp.where(jnp.broadcast_to(seen, aux.shape), aux, OUT_OF_SIGHT)

    arguments = (f, mse, problem.reference, problem.update, problem.inputs)
    cosine = spectrum.alignment_cosine(*arguments, num_iterations=50)
    rank = spectrum.effective_rank(f, mse, problem.reference, problem.inputs).rank
    rows_in_use = jnp.concatenate([jnp.ones(NUM_CLASSES, bool), seen])

    def random_cosine(probe_key):
        *trunk, readout = problems.random_direction(probe_key, problem.reference)
        readout = mlp.Dense(readout.weight * rows_in_use[:, None], readout.bias * rows_in_use)
        vector = (*trunk, readout)
        return products.cosine(spectrum.gauss_newton_product(f, mse, problem.reference, vector, problem.inputs), vector)

    random = jax.vmap(random_cosine)(jax.random.split(keys.stream(key, "random directions"), 100))
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(problem.reference))
    in_use = num_parameters - jnp.sum(~seen) * (spec.hidden_sizes[-1] + 1)
    return {
        "cosine": cosine.cosine,
        "rayleigh_bound": cosine.rayleigh_bound,
        "range_fraction": spectrum.range_fraction(*arguments),
        "trunk_share": spectrum.trunk_share(problem.update, problem.update[-1]),
        "isotropic_cosine": normal_approximations.isotropic_cosine(rank, in_use),
        "random_cosine": jnp.sqrt(jnp.mean(random**2)),
    }
