"""Epsilon*: how far the teacher may move before the sign of the alignment is no longer guaranteed.

Lemma 1 says "for all small ε" and not how small. With g(ε) the alignment, g(0) = 0 and g'(0) = A, a Taylor bound turns
a lower bound on g'' into a radius: g > 0 on (0, ε] as long as A + (ε / 2) min g'' > 0. `sampled` evaluates g'' on a
grid, for any network and loss; it is an estimate. `certified` encloses g and its derivatives by interval arithmetic and
extends the interval piece by piece, for our MLP with a smooth activation. Every ε below its radius is proved to have a
positive alignment, up to the accuracy of the library's tanh and exp.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sublim_jax import errors, losses
from sublim_jax.models import heads as logit_layout
from sublim_jax.models import mlp
from sublim_jax.theory import interval_jets as jets
from sublim_jax.theory import loss_geometry, one_step


class Sampled(NamedTuple):
    """Estimates of epsilon* from a grid, in units of |D|."""

    taylor: Float[Array, ""]  # largest grid point where the Taylor bound with the sampled g'' is positive; 0 if none
    sign_change: Float[Array, ""]  # smallest grid point with a negative alignment; infinite if none


def sampled(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    epsilon: Float[Array, "epsilon"],
    inputs: PyTree,
    weights: Float[Array, "batch"] | None = None,
) -> Sampled:
    """Both estimates on an increasing grid. They prove nothing, as g'' is unknown between grid points and at kinks.

    Coq: certified_radius
    """

    def at(e):
        return (
            one_step.alignment_forward(f, loss, reference, update, e, inputs, weights),
            one_step.curvature(f, loss, reference, update, e, inputs, weights),
        )

    values, curvatures = jax.lax.map(at, epsilon)
    first = one_step.curvature(f, loss, reference, update, 0.0, inputs, weights)
    coefficient = one_step.alignment_coefficient(f, loss, reference, update, inputs, weights)
    worst = jax.lax.cummin(jnp.minimum(curvatures, jnp.minimum(first, 0.0)))
    holds = jnp.cumprod((coefficient + epsilon / 2 * worst > 0).astype(epsilon.dtype))
    return Sampled(
        taylor=jnp.max(holds * epsilon, initial=0.0),
        sign_change=jnp.min(jnp.where(values < 0, epsilon, jnp.inf)),
    )


class Certificate(NamedTuple):
    """A proved radius: the alignment is positive for every ε in (0, radius]."""

    radius: float  # in units of |D|
    limit_reached: bool  # the radius is the limit that was asked for; no bound failed
    num_evaluations: int  # evaluations of the network in interval arithmetic
    coefficient_low: float  # a proved lower bound on A


def certified(
    reference: mlp.Params,
    update: mlp.Params,
    images: Float[Array, "batch pixel"],
    *,
    spec: mlp.MLPSpec,
    loss: losses.DistillationLossName = "kl",
    temperature: float = 1.0,
    which: logit_layout.DistilledLogits = "aux",
    limit: float = 64.0,
    first_step: float = 0.01,
    max_evaluations: int = 80,
) -> Certificate:
    """Prove g > 0 on one piece [a, a + h] after the other, from ε = 0 outwards.

    The first piece uses A and an enclosure of g'' over the piece; the others use g and g' at a and g'' over the piece.
    h grows after a success and halves after a failure. A radius of 0 means that nothing was proved, not that the sign
    is wrong.

    Args:
        limit: the largest radius to prove.
        first_step: the first h.
        max_evaluations: largest number of evaluations; each costs about ten forward passes in float64 on one core.

    Raises:
        InputError: an activation with kinks (use `kinks`), one logit under a softmax, an unknown loss, or values that
            are not finite.

    Coq: certified_radius, taylor_lower_bound
    """
    if spec.activation not in jets.ACTIVATION_JETS:
        raise errors.InputError(
            f"activation={spec.activation!r}: expected one of {', '.join(jets.ACTIVATION_JETS)}. A kink has no second "
            "derivative to enclose. Use kinks.radius for ReLU, or certificate.sampled for an estimate."
        )
    selection = logit_layout.selection(which, num_classes=spec.num_classes)
    loss_geometry.require_informative(
        loss_geometry.from_name(loss, temperature=temperature), len(range(*selection.indices(len(reference[-1].bias))))
    )
    problem = _Enclosure(reference, update, images, spec.activation, selection, loss, temperature)
    return _extend(problem, limit, first_step, max_evaluations)


@np.errstate(over="ignore", invalid="ignore")  # an enclosure that overflows proves nothing, and the radius ends
def _extend(problem: "_Enclosure", limit: float, first_step: float, max_evaluations: int) -> Certificate:
    coefficient_low = problem.coefficient_low
    radius, value_low, slope_low, step = 0.0, 0.0, coefficient_low, min(first_step, limit)
    smallest_step, growth = first_step * 1e-9, 2.0
    while coefficient_low > 0 and problem.num_evaluations < max_evaluations and radius < limit:
        step = min(step, limit - radius)
        if step < max(smallest_step, radius * 1e-6):
            break
        end = radius + step
        curvature_low = min(problem.enclose(radius, end)[2], 0.0)
        if radius == 0.0:  # g(0) = 0, so one factor ε is divided out
            parts = coefficient_low, step / 2 * curvature_low
        else:  # concave in the distance from `radius`, so smallest at an end, and positive at the first
            parts = value_low, step * slope_low, step**2 / 2 * curvature_low
        if not sum(parts) > 1e-14 * sum(map(abs, parts)):  # beyond the rounding of these operations
            step, growth = step / 2, 1.25  # the step is about right now, so it grows more slowly
            continue
        radius, step = end, growth * step
        value_low, slope_low, _ = problem.enclose(radius, radius)
        if value_low <= 0:  # too close to zero: the interval cannot be extended further
            break
    return Certificate(radius, radius >= limit, problem.num_evaluations, coefficient_low)


class _Enclosure:
    """Enclosures of g(ε), g' and g'', where g is a mean of c · h(y_ε) with a covector c that does not depend on ε."""

    def __init__(self, reference, update, images, activation, selection, loss, temperature):
        self.weights = [
            (np.asarray(layer.weight, np.float64), np.asarray(layer.bias, np.float64)) for layer in reference
        ]
        self.slopes = [(np.asarray(layer.weight, np.float64), np.asarray(layer.bias, np.float64)) for layer in update]
        self.images = np.asarray(images, np.float64)
        for name, arrays in (("reference", sum(self.weights, ())), ("update", sum(self.slopes, ()))):
            if not all(np.all(np.isfinite(array)) for array in arrays):
                raise errors.InputError(
                    f"{name}: expected finite parameters, found some that are not. Did the run diverge?"
                )
        self.activation, self.selection = jets.ACTIVATION_JETS[activation], selection
        self.loss, self.temperature = loss, temperature
        self.num_evaluations = 0
        start = self._logits(0.0, 0.0)
        self.terms = list(self._terms(start))
        self.coefficient_low = float(self._coefficient(start).low)

    def _logits(self, low: float, high: float) -> jets.Jet:
        self.num_evaluations += 1
        interval = jets.Interval(np.asarray(low), np.asarray(high))
        a = jets.constant(self.images)
        for index, ((weight, bias), (weight_slope, bias_slope)) in enumerate(
            zip(self.weights, self.slopes, strict=True)
        ):
            weight_box = jets.add(jets.point(weight), jets.multiply(interval, jets.point(weight_slope)))
            bias_box = jets.add(jets.point(bias), jets.multiply(interval, jets.point(bias_slope)))
            a = jets.affine_jet(a, weight_box, weight_slope, bias_box, bias_slope)
            if index < len(self.weights) - 1:
                a = self.activation(a)
        return jets.select(a, (slice(None), self.selection))

    def _terms(self, start: jets.Jet):
        """Terms (c, h, h(y_0)) with alignment = sum over terms and rows of c · (h(y_ε) − h(y_0)) / rows."""
        z, v = start.value, start.first
        divisor = jets.near(1 / self.temperature)

        def plain(y: jets.Jet) -> jets.Jet:
            return y

        def tempered(y: jets.Jet) -> jets.Jet:
            return jets.softmax_jet(jets.scale_jet(divisor, y))

        shares = jets.softmax(jets.scale(divisor, z))
        if self.loss == "mse":
            yield jets.scale(2.0, v), plain, z
        if self.loss == "centred_mse":
            centre = jets.scale(jets.near(1 / v.low.shape[-1]), jets.total(v, -1, keepdims=True))
            yield jets.scale(2.0, jets.add(v, jets.negative(centre))), plain, z
        half = 0.5 if self.loss == "jeffreys" else 1.0
        if self.loss in ("kl", "jeffreys"):
            # Shares add up to one, so v minus any constant is valid; a constant near the mean gives a narrow enclosure.
            middle = (v.low + v.high) / 2
            constant = np.sum((shares.low + shares.high) / 2 * middle, axis=-1, keepdims=True)
            covector = jets.add(v, jets.point(-constant))
            yield jets.scale(half * self.temperature, covector), tempered, shares
        if self.loss in ("reverse_kl", "jeffreys"):
            mean = jets.total(jets.multiply(shares, v), -1, keepdims=True)
            covector = jets.multiply(shares, jets.add(v, jets.negative(mean)))
            yield jets.scale(half, covector), plain, z

    def _coefficient(self, start: jets.Jet) -> jets.Interval:
        v, share = start.first, jets.near(1 / len(self.images))
        if self.loss == "mse":
            return jets.scale(jets.scale(2.0, share), jets.total(jets.square(v)))
        if self.loss == "centred_mse":
            centre = jets.scale(jets.near(1 / v.low.shape[-1]), jets.total(v, -1, keepdims=True))
            return jets.scale(jets.scale(2.0, share), jets.total(jets.square(jets.add(v, jets.negative(centre)))))
        shares = jets.softmax(jets.scale(jets.near(1 / self.temperature), start.value))
        mean = jets.total(jets.multiply(shares, v), -1, keepdims=True)
        return jets.scale(share, jets.total(jets.multiply(shares, jets.square(jets.add(v, jets.negative(mean))))))

    def enclose(self, low: float, high: float) -> tuple[float, float, float]:
        """Lower bounds on g, g' and g'' over [low, high]."""
        value, slope, curvature = self.enclosures(low, high)
        return float(value.low), float(slope.low), float(curvature.low)

    def enclosures(self, low: float, high: float) -> tuple[jets.Interval, jets.Interval, jets.Interval]:
        """Enclosures of g, g' and g'' over [low, high]."""
        y = self._logits(low, high)
        sums: list[jets.Interval] = [jets.point(0.0)] * 3
        for covector, of_logits, at_start in self.terms:
            value, first, second = of_logits(y)
            parts = jets.add(value, jets.negative(at_start)), first, second
            sums = [jets.add(s, jets.total(jets.multiply(covector, part))) for s, part in zip(sums, parts, strict=True)]
        a, b, c = (jets.scale(jets.near(1 / len(self.images)), s) for s in sums)
        return a, b, c
