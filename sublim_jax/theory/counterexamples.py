"""Counterexamples: small exact problems that violate one condition of the theorem and have a negative alignment.

Each of them has its alignment computed by the library and in closed form, so that a test can compare the two. Where the
coefficient A is defined, it is non-negative as always, but it is no longer the slope of the alignment.

    for example in counterexamples.all_of_them():
        print(example.name, example.dropped, example.alignment(example.epsilon))
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from sublim_jax import losses
from sublim_jax.metrics import alignment as products
from sublim_jax.theory import filters, loss_geometry, multi_step, one_step


class Counterexample(NamedTuple):
    """A problem with a negative alignment, and the condition that it violates."""

    name: str
    dropped: str  # the condition that it violates
    alignment: Callable[[float], Float[Array, ""]]  # by the library
    exact: Callable[[float], float]  # in closed form
    coefficient: float | None  # A by its formula; None where it is undefined
    epsilon: float  # a size of the teacher's step at which the alignment is negative
    coq: str | None  # name in proofs/coq


def _one_input():
    return jnp.zeros((1, 1))


def all_of_them() -> tuple[Counterexample, ...]:
    """All counterexamples."""
    return (
        relu_kink(),
        sign_step(),
        null_space(),
        frozen_part(),
        weight_decay(),
        temperature_mismatch(),
        filter_flip(),
        brier_large_epsilon(),
        no_domination(),
        single_step(),
        overshoot(),
    )


def relu_kink() -> Counterexample:
    """f(a, b) = a + 2 relu(b) at (0, 0), where relu has no derivative and JAX takes 0: alignment(ε) = −2ε.

    The teacher's D = (−1, 1) is minus the gradient of L_T = a − b, which every step of the student raises.
    """
    reference, update = jnp.zeros(2), jnp.array([-1.0, 1.0])

    def f(params, inputs):
        return jnp.broadcast_to(params[0] + 2 * jax.nn.relu(params[1]), (inputs.shape[0], 1))

    return Counterexample(
        name="relu_kink",
        dropped="f is differentiable at the reference",
        alignment=lambda e: one_step.alignment_reverse(f, losses.squared_error, reference, update, e, _one_input()),
        exact=lambda e: -2 * e,
        coefficient=2.0,
        epsilon=1e-6,
        coq="relu_kink",
    )


def sign_step() -> Counterexample:
    """f(θ) = (10, 1, 1) · θ with D = (1, −3, −3): the gradient step has 32 ε, its sign (Adam's first step) −5."""
    row, update = jnp.array([10.0, 1.0, 1.0]), jnp.array([1.0, -3.0, -3.0])
    reference = jnp.zeros(3)

    def f(params, inputs):
        return jnp.broadcast_to(row @ params, (inputs.shape[0], 1))

    def alignment(e):
        step = one_step.student_update(
            f, losses.squared_error, reference, optax.tree.add_scale(reference, e, update), _one_input()
        )
        return products.inner_product(jnp.sign(step), update)

    return Counterexample(
        name="sign_step",
        dropped="the student's step is a positive multiple of its gradient",
        alignment=alignment,
        exact=lambda e: -5.0,
        coefficient=32.0,
        epsilon=1e-6,
        coq="sign_step",
    )


def null_space() -> Counterexample:
    """l = (q · (z − y))² / 2 with q = (y₁, 1), and f(t) = (t, −2t²): A = 0, yet alignment(ε) = −ε³."""

    def loss(student, teacher, weights=None):
        seen = jnp.stack([teacher[:, 0], jnp.ones_like(teacher[:, 0])], axis=-1)
        return losses.weighted_mean(jnp.sum(seen * (student - teacher), axis=-1) ** 2 / 2, weights)

    def f(params, inputs):
        return jnp.broadcast_to(jnp.stack([params[0], -2 * params[0] ** 2]), (inputs.shape[0], 2))

    return Counterexample(
        name="null_space",
        dropped="no pull lies in the null space of the metric",
        alignment=lambda e: one_step.alignment_reverse(f, loss, jnp.zeros(1), jnp.ones(1), e, _one_input()),
        exact=lambda e: -(e**3),
        coefficient=0.0,
        epsilon=1e-2,
        coq="null_space_needed",
    )


def frozen_part() -> Counterexample:
    """f = θ₁ + θ₂ with D = (1, −3) and a student that trains θ₁ only: alignment(ε) = −4ε, though A = 8."""
    reference, update, trained = jnp.zeros(2), jnp.array([1.0, -3.0]), jnp.array([1.0, 0.0])

    def f(params, inputs):
        return jnp.broadcast_to(jnp.sum(params), (inputs.shape[0], 1))

    return Counterexample(
        name="frozen_part",
        dropped="the student may move in every coordinate that the teacher moved",
        alignment=lambda e: one_step.alignment_reverse(
            f, losses.squared_error, reference, update, e, _one_input(), along=trained * update
        ),
        exact=lambda e: -4 * e,
        coefficient=8.0,
        epsilon=1e-6,
        coq="frozen_part_negative",
    )


def weight_decay(rate: float = 0.1) -> Counterexample:
    """f(t) = t at 1 with D = 1 and decay (rate / 2) t² in the student's loss: alignment(ε) = 2ε − rate."""
    reference, update = jnp.ones(1), jnp.ones(1)

    def f(params, inputs):
        return jnp.broadcast_to(params, (inputs.shape[0], 1))

    def alignment(e):
        step = one_step.student_update(
            f, losses.squared_error, reference, optax.tree.add_scale(reference, e, update), _one_input()
        )
        return products.inner_product(step - rate * reference, update)

    return Counterexample(
        name="weight_decay",
        dropped="the student has no weight decay",
        alignment=alignment,
        exact=lambda e: 2 * e - rate,
        coefficient=2.0,
        epsilon=rate / 4,
        coq="weight_decay_sign_lost",
    )


def temperature_mismatch() -> Counterexample:
    """Logits (log 9, 0), D = (1, 0); the student's softmax at temperature 1, the teacher's at 2.

    alignment(ε) = sigmoid((log 9 + ε) / 2) − 9/10, which is −3/20 for a teacher that did not move at all.
    """
    reference, update = jnp.array([math.log(9.0), 0.0]), jnp.array([1.0, 0.0])

    def f(params, inputs):
        return jnp.broadcast_to(params, (inputs.shape[0], 2))

    def loss(student, teacher, weights=None):
        return losses.distillation_kl(student, teacher / 2, weights=weights)

    return Counterexample(
        name="temperature_mismatch",
        dropped="student and teacher have one temperature",
        alignment=lambda e: one_step.alignment_reverse(f, loss, reference, update, e, _one_input()),
        exact=lambda e: 1 / (1 + math.exp(-(math.log(9.0) + e) / 2)) - 0.9,
        coefficient=None,
        epsilon=1e-6,
        coq=None,
    )


def filter_flip() -> Counterexample:
    """Three completions, equally likely; the teacher prefers the first, the filter drops it: alignment(ε) = −1/3."""
    logits, update, accept = jnp.zeros((1, 3)), jnp.array([[1.0, 0.0, 0.0]]), jnp.array([[0.0, 1.0, 1.0]])

    def log_probability(params):
        return jax.nn.log_softmax(params)

    def alignment(e):
        _, scores = filters.completion_scores(log_probability, logits, update)
        return filters.mean_score(scores, log_probability(logits + e * update), accept)

    return Counterexample(
        name="filter_flip",
        dropped="what the student sees is not filtered (absolute sign)",
        alignment=alignment,
        exact=lambda e: -1 / 3,
        coefficient=None,
        epsilon=1e-6,
        coq="filter_flip",
    )


def brier_large_epsilon() -> Counterexample:
    """The Brier score |softmax(z) − softmax(y)|², whose pull is not monotone: the sign changes at large ε.

    The loss satisfies Lemma 1. With f(θ) = θ, softmax(θ0) = (6, 1, 1)/8 and D = (1, −4, 2) the alignment tends to
    −3/32; for KL it stays positive.
    """
    shares, update = (0.75, 0.125, 0.125), (1.0, -4.0, 2.0)
    reference = jnp.log(jnp.array([6.0, 1.0, 1.0]))

    def f(params, inputs):
        return jnp.broadcast_to(params, (inputs.shape[0], 3))

    def loss(student, teacher, weights=None):
        gap = jax.nn.softmax(student) - jax.nn.softmax(teacher)
        return losses.weighted_mean(jnp.sum(gap**2, axis=-1), weights)

    def exact(e):
        mean = sum(p * v for p, v in zip(shares, update, strict=True))
        covector = [p * (v - mean) for p, v in zip(shares, update, strict=True)]
        unnormalised = [p * math.exp(e * (v - max(update))) for p, v in zip(shares, update, strict=True)]
        total = sum(unnormalised)
        return 2 * sum(c * (u / total - p) for c, u, p in zip(covector, unnormalised, shares, strict=True))

    return Counterexample(
        name="brier_large_epsilon",
        dropped="the loss is monotone (needed for every ε, not for small ones)",
        alignment=lambda e: one_step.alignment_reverse(f, loss, reference, jnp.array(update), e, _one_input()),
        exact=exact,
        coefficient=_brier_coefficient(shares, update),
        epsilon=30.0,
        coq=None,
    )


def _brier_coefficient(shares, update):
    """2 |S v|² with S v = p (v − mean)."""
    mean = sum(p * v for p, v in zip(shares, update, strict=True))
    return 2 * sum((p * (v - mean)) ** 2 for p, v in zip(shares, update, strict=True))


def no_domination(num_inputs: int = 60) -> Counterexample:
    """Infinitely many inputs: n has weight 2⁻ⁿ and f_t(n) = t − 3 h(2ⁿ t) with h(u) = 2u² / (1 + u²).

    A = 2 for each input and on average. With infinitely many inputs the alignment is at most −4ε for every ε in (0, 1):
    expectation and derivative do not commute, because |f_ε(n) − f_0(n)| / ε has no common integrable bound. With
    `num_inputs` of them the theorem holds, but only below about 2^−num_inputs.
    """
    scales = [2.0**n for n in range(1, num_inputs + 1)]

    def f(params, inputs):
        u = inputs * params[None]
        return params[None] - 6 * u**2 / (1 + u**2)

    def alignment(e):
        inputs = jnp.array(scales)
        return one_step.alignment_reverse(
            f, losses.squared_error, jnp.zeros(1), jnp.ones(1), e, inputs[:, None], 1 / inputs
        )

    def exact(e):
        bumps = sum(2 * (s * e) ** 2 / (1 + (s * e) ** 2) / s for s in scales)
        return 2 * e - 6 * bumps / sum(1 / s for s in scales)

    return Counterexample(
        name="no_domination",
        dropped="expectation and derivative commute (infinitely many inputs)",
        alignment=alignment,
        exact=exact,
        coefficient=2.0,
        epsilon=1e-12,
        coq="exchange_needed",
    )


def single_step() -> Counterexample:
    """Two batches with G₁ = (1, 1)(1, 1)ᵀ / 2 and G₂ = (1, 2)(1, 2)ᵀ, D = (1, 0), rate 1: the second step has −ε/2.

    The first step overshoots in the second coordinate, where D is zero, and the second batch corrects this at the cost
    of the first coordinate. The cumulative displacement of admissible steps stays positive.
    """
    rows = [[[0.5, 0.5]], [[math.sqrt(0.5), math.sqrt(2.0)]]]  # (step, batch, parameter); G = 2 row rowᵀ
    return Counterexample(
        name="single_step",
        dropped="the displacement is the cumulative one, not that of a later minibatch step",
        alignment=lambda e: _second_step(rows, [1.0, 0.0], e, 1.0),
        exact=lambda e: -e / 2,
        coefficient=None,
        epsilon=1e-3,
        coq="single_step_sign_lost",
    )


def overshoot() -> Counterexample:
    """One parameter, full batch, G = 1 and a rate of 3/2, between 1/λ and 2/λ: the second step has −3ε/4."""
    rows = [[[math.sqrt(0.5)]]] * 2
    return Counterexample(
        name="overshoot",
        dropped="the displacement is the cumulative one, or the rate is at most 1 / λ_max",
        alignment=lambda e: _second_step(rows, [1.0], e, 1.5),
        exact=lambda e: -3 * e / 4,
        coefficient=None,
        epsilon=1e-3,
        coq="overshoot_sign_lost",
    )


def _second_step(rows, update, epsilon, learning_rate):
    def f(params, inputs):
        return (inputs @ params)[:, None]

    start, direction = jnp.zeros(len(update)), jnp.array(update)
    trajectory = multi_step.measured(f, losses.squared_error, start, direction, epsilon, jnp.array(rows), learning_rate)
    return epsilon * trajectory.step[1]


def contract_violations() -> dict[str, loss_geometry.LossFunction]:
    """Losses that violate the contract and that `conditions.check_loss` must refuse."""

    def mismatched(student, teacher, weights=None):
        return losses.distillation_kl(student, teacher / 2, weights=weights)

    def hard(student, teacher, weights=None):
        return losses.cross_entropy(student, jnp.argmax(teacher, axis=-1), weights=weights)

    def minus_squared(student, teacher, weights=None):
        return -losses.squared_error(student, teacher, weights=weights)

    def skewed(student, teacher, weights=None):
        turned = student @ jnp.triu(jnp.ones((student.shape[-1],) * 2, student.dtype))
        return losses.weighted_mean(jnp.sum(turned * (student / 2 - teacher), axis=-1), weights)

    return {"mismatched_temperature": mismatched, "hard_labels": hard, "negated": minus_squared, "skewed": skewed}
