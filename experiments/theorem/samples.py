"""Sampled labels and filtered samples: how much data determines the sign, and how a filter changes it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.theorem import problems
from experiments.theorem.config import TheoremConfig
from sublim_jax import keys
from sublim_jax.models import mlp
from sublim_jax.theory import filters, loss_geometry, normal_approximations, one_step

SPEC = mlp.MLPSpec(in_size=8, hidden_sizes=(16, 16), num_classes=3, num_aux=6, activation="tanh")
LABELS = ((0.03, 4096), (0.1, 512), (0.1, 4096), (0.3, 128), (0.3, 512), (0.3, 4096), (1.0, 64), (1.0, 256))
"""Pairs of ε and the number of sampled labels, which are equally many for each of 32 inputs."""
FILTER_EPSILON = 1e-4
KEPT_SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)


def _scores(key, epsilon):
    """Scores of all labels of all inputs, with the log-probabilities of the reference and of teachers."""
    f = loss_geometry.distilled(SPEC)
    reference, update, inputs = problems.draw(key, SPEC, random_update=True)

    def log_probability(params):
        return jax.nn.log_softmax(f(params, inputs))

    log_probs, scores = filters.completion_scores(log_probability, reference, update)
    teachers = jax.vmap(lambda e: log_probability(optax.tree.add_scale(reference, e, update)))(epsilon)
    coefficient = one_step.alignment_coefficient(f, loss_geometry.from_name("kl"), reference, update, inputs)
    return scores, log_probs, teachers, coefficient


def labels(config: TheoremConfig) -> dict:
    """Frequency of a positive alignment of one step on sampled hard labels, and its normal approximation."""
    rows = []
    with jax.enable_x64(True):
        epsilon = jnp.asarray([e for e, _ in LABELS])
        drawn = problems.compiled(jax.vmap(lambda key: _scores(key, epsilon)))(keys.members(config.seed, jnp.arange(4)))
        scores, log_probs, teachers, coefficients = map(np.asarray, drawn)
        predicted = np.stack(
            [normal_approximations.sign_probability_labels(jnp.asarray(coefficients), e, count) for e, count in LABELS],
            axis=1,
        )
    for network in range(4):
        random = np.random.default_rng([config.seed, network])
        for index, (e, count) in enumerate(LABELS):
            shares = np.exp(teachers[network, index])
            shares /= shares.sum(axis=-1, keepdims=True)
            counts = random.multinomial(count // len(shares), shares, size=(config.num_draws, len(shares)))
            means = np.einsum("dil,il->d", counts, scores[network]) / count
            divergence = np.mean(np.sum(shares * (np.log(shares) - log_probs[network]), axis=-1))
            rows.append(
                {
                    "network": network,
                    "epsilon": e,
                    "num_labels": count,
                    "positive": int(np.sum(means > 0)),
                    "predicted": problems.to_lists(predicted[network, index]),
                    "mean_over_law": problems.to_lists(means.mean() / (e * coefficients[network])),
                    "sd_over_law": problems.to_lists(means.std(ddof=1) / np.sqrt(coefficients[network] / count)),
                    "nats": problems.to_lists(count * divergence),
                }
            )
    return {"num_draws": config.num_draws, "coefficient": problems.to_lists(coefficients), "rows": rows}


def filtered(config: TheoremConfig) -> dict:
    """Alignment under random filters, stricter ones, an oracle filter, and a filter that reads the teacher."""
    with jax.enable_x64(True):
        member_keys = keys.members(config.seed, jnp.arange(min(config.num_problems, 200)))
        random = problems.compiled(jax.vmap(_filtered))(member_keys)
        strict = problems.compiled(jax.vmap(_stricter))(member_keys)
    return {
        "epsilon": FILTER_EPSILON,
        "kept_shares": list(KEPT_SHARES),
        "random_filter": problems.to_lists(random),
        "retention": problems.to_lists(strict, 4),
    }


def _filtered(key):
    scores, log_probs, teachers, _ = _scores(key, jnp.asarray([FILTER_EPSILON]))
    accept = jax.random.bernoulli(keys.stream(key, "filter"), 0.5, scores.shape).astype(scores.dtype)
    exact = filters.filtered_alignment(scores, log_probs, accept)
    control = filters.mean_score(scores, log_probs, accept)
    absolute = filters.mean_score(scores, teachers[0], accept)
    # Prefers completions that the teacher makes less likely, twice as strongly as would undo the teacher's change.
    reading = jnp.exp(2 * (log_probs - teachers[0]))
    against = filters.mean_score(scores, teachers[0], accept * reading / jnp.max(reading))
    unit = jnp.sqrt(filters.filtered_alignment(scores, log_probs, jnp.ones_like(accept)).differential)
    return {
        "absolute": absolute / unit,  # in standard deviations of the unfiltered score
        "differential": (absolute - control) / FILTER_EPSILON,
        "variance": exact.differential,
        "unfiltered_variance": unit**2,
        "teacher_reading_differential": (against - control) / FILTER_EPSILON,
    }


def _stricter(key):
    scores, log_probs, _, _ = _scores(key, jnp.asarray([0.0]))
    shape = scores.shape
    lottery = jax.random.uniform(keys.stream(key, "lottery"), shape)

    def retention(order, share):
        accept = (order <= jnp.quantile(order, share)).astype(scores.dtype)
        return filters.filtered_alignment(scores, log_probs, accept).retention

    shares = jnp.asarray(KEPT_SHARES)
    return {
        "random": jax.vmap(lambda share: retention(lottery, share))(shares),
        "oracle": jax.vmap(lambda share: retention(scores, share))(shares),  # drops the highest scores
    }
