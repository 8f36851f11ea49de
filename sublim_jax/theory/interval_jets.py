"""Interval arithmetic with second derivatives: guaranteed enclosures of a function of one variable.

An `Interval` is a pair of float64 arrays. Every operation rounds outwards, so that the interval of the result contains
the exact result for all numbers in the intervals of the operands. A `Jet` encloses a value and its first two
derivatives in s, while s runs over an interval. The code uses numpy and not JAX for two reasons: it needs float64
whatever the setting of JAX, and a compiler that reorders or fuses operations would void the error bounds.

The bounds rely on IEEE arithmetic, and on an error of at most `LIBRARY_ULPS` units in the last place of the library's
tanh and exp. So a result is certified up to the mathematics library; it is not formally verified.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LIBRARY_ULPS = 8
_EPS = float(np.finfo(np.float64).eps)


class Interval(NamedTuple):
    """All numbers between two arrays, entry by entry, both ends included."""

    low: np.ndarray
    high: np.ndarray


def _wider(low, high, ulps: int = 1) -> Interval:
    """The interval widened by some units in the last place, at least the rounding error of its ends."""
    if ulps == 1:
        return Interval(np.nextafter(low, -np.inf), np.nextafter(high, np.inf))
    tiny = ulps * np.finfo(np.float64).tiny
    return Interval(low - ulps * _EPS * np.abs(low) - tiny, high + ulps * _EPS * np.abs(high) + tiny)


def point(values) -> Interval:
    """The interval that contains only these numbers."""
    values = np.asarray(values, np.float64)
    return Interval(values, values)


def near(value: float) -> Interval:
    """An interval around a real number that float64 does not represent exactly, such as 1/3."""
    return _wider(np.float64(value), np.float64(value))


def add(a: Interval, b: Interval) -> Interval:
    """Sum of two intervals, entry by entry."""
    return _wider(a.low + b.low, a.high + b.high)


def negative(a: Interval) -> Interval:
    """Negative of an interval, without rounding."""
    return Interval(-a.high, -a.low)


def multiply(a: Interval, b: Interval) -> Interval:
    """Product of two intervals, whose numbers vary independently."""
    corners = a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high
    return _wider(np.minimum.reduce(corners), np.maximum.reduce(corners))


def scale(factor: float | Interval, a: Interval) -> Interval:
    """Product of an interval with a number."""
    return multiply(factor if isinstance(factor, Interval) else point(factor), a)


def square(a: Interval) -> Interval:
    """Square of an interval, which is never negative, unlike the product of an interval with itself."""
    ends = a.low**2, a.high**2
    low = np.where((a.low <= 0) & (a.high >= 0), 0.0, np.minimum(*ends))
    widened = _wider(low, np.maximum(*ends))
    return Interval(np.maximum(widened.low, 0.0), widened.high)


def clip(a: Interval, low: float, high: float) -> Interval:
    """The part of an interval in [low, high], where the numbers are known to lie."""
    return Interval(np.clip(a.low, low, high), np.clip(a.high, low, high))


def total(a: Interval, axis: int | None = None, *, keepdims: bool = False) -> Interval:
    """Sum over an axis. The error bound holds for any order of summation."""
    count = a.low.size if axis is None else a.low.shape[axis]
    size = np.maximum(np.abs(a.low), np.abs(a.high)).sum(axis=axis, keepdims=keepdims)
    slack = (count + 4) * _EPS * size + np.finfo(np.float64).tiny
    return Interval(a.low.sum(axis=axis, keepdims=keepdims) - slack, a.high.sum(axis=axis, keepdims=keepdims) + slack)


def matmul(a: Interval, b: Interval) -> Interval:
    """Matrix product, by midpoints and radii.

    Source: Rump 1999, Fast and parallel interval arithmetic; the bound on a computed dot product is Higham 2002,
    section 3.1, which holds for any order of summation and with fused multiply-adds.
    """
    count = a.low.shape[-1]
    rounding = (count + 4) * _EPS
    middle_a, radius_a = _middle_and_radius(a)
    middle_b, radius_b = _middle_and_radius(b)
    middle = middle_a @ middle_b
    size_a, size_b = np.abs(middle_a), np.abs(middle_b)
    radius = size_a @ (radius_b + rounding * size_b) + radius_a @ (size_b + radius_b)
    radius = radius * (1 + 4 * rounding) + (count + 4) * np.finfo(np.float64).tiny
    return _wider(middle - radius, middle + radius)


def _middle_and_radius(a: Interval):
    middle = a.low / 2 + a.high / 2
    radius = np.maximum(a.high - middle, middle - a.low)
    return middle, np.where(radius > 0, np.nextafter(radius, np.inf), 0.0)


def softmax(a: Interval) -> Interval:
    """Softmax over the last axis: each share is largest when its own logit is high and all others are low."""
    top = a.high.max(axis=-1, keepdims=True)
    low, high = _exponential(_wider(a.low - top, a.high - top))
    rest_low, rest_high = _others(low, -np.inf), _others(high, np.inf)
    shares_low = low / (low + rest_high)
    shares_high = high / (high + rest_low)
    return clip(_wider(shares_low, shares_high, 4), 0.0, 1.0)


def _others(ends, towards):
    """Sum of the other entries of the last axis, rounded in one direction, without cancellation."""
    count = ends.shape[-1]
    excluded = ends[..., None, :] * (1 - np.eye(count))
    sums = excluded.sum(axis=-1)
    slack = (count + 4) * _EPS * sums
    return sums + slack if towards > 0 else np.maximum(sums - slack, 0.0)


def _exponential(a: Interval) -> Interval:
    widened = _wider(np.exp(a.low), np.exp(a.high), LIBRARY_ULPS)
    return Interval(np.maximum(widened.low, 0.0), widened.high)


class Jet(NamedTuple):
    """Enclosures of a function of s, of its first and of its second derivative, over one interval of s."""

    value: Interval
    first: Interval
    second: Interval


def select(a: Jet, index) -> Jet:
    """Some entries of a jet."""
    return Jet(*(Interval(part.low[index], part.high[index]) for part in a))


def constant(values) -> Jet:
    """Jet of a function that does not depend on s."""
    zero = point(np.zeros_like(np.asarray(values, np.float64)))
    return Jet(point(values), zero, zero)


def add_jets(a: Jet, b: Jet) -> Jet:
    """Jet of the sum of two functions."""
    return Jet(add(a.value, b.value), add(a.first, b.first), add(a.second, b.second))


def scale_jet(factor: float | Interval, a: Jet) -> Jet:
    """Jet of a function times a number."""
    return Jet(scale(factor, a.value), scale(factor, a.first), scale(factor, a.second))


def multiply_jets(a: Jet, b: Jet) -> Jet:
    """Jet of the product of two functions: (ab)'' = a''b + 2a'b' + ab''."""
    return Jet(
        multiply(a.value, b.value),
        add(multiply(a.first, b.value), multiply(a.value, b.first)),
        add(add(multiply(a.second, b.value), multiply(a.value, b.second)), scale(2.0, multiply(a.first, b.first))),
    )


def tanh_jet(a: Jet) -> Jet:
    """Jet of tanh of a function. tanh' = 1 − t²; tanh'' = −2t (1 − t²) is monotone between its extrema at t = ±1/√3."""
    t = clip(_wider(np.tanh(a.value.low), np.tanh(a.value.high), LIBRARY_ULPS), -1.0, 1.0)
    slope = clip(add(point(1.0), negative(square(t))), 0.0, 1.0)
    curvature = _tanh_curvature(t)
    return Jet(t, multiply(slope, a.first), add(multiply(curvature, square(a.first)), multiply(slope, a.second)))


def _tanh_curvature(t: Interval) -> Interval:
    def curvature(values):
        return -2 * values * (1 - values**2)

    at_extremum, extremum = 3**-0.5, 4 / (3 * 3**0.5)
    ends = curvature(t.low), curvature(t.high)
    margin = 8 * _EPS  # values are at most 1, and rounding can hide that an end just passes an extremum
    low, high = np.minimum(*ends) - margin, np.maximum(*ends) + margin
    low = np.where((t.low <= at_extremum + margin) & (t.high >= at_extremum - margin), -extremum - margin, low)
    high = np.where((t.low <= -at_extremum + margin) & (t.high >= -at_extremum - margin), extremum + margin, high)
    return Interval(low, high)


def _silu_jet(a: Jet) -> Jet:
    return multiply_jets(scale_jet(0.5, a), add_jets(constant(1.0), tanh_jet(scale_jet(0.5, a))))


def _gelu_jet(a: Jet) -> Jet:
    """Jet of the tanh form of gelu, the default of `jax.nn.gelu`."""
    cubic = add_jets(a, scale_jet(near(0.044715), multiply_jets(a, multiply_jets(a, a))))
    inner = tanh_jet(scale_jet(near(np.sqrt(2 / np.pi)), cubic))
    return multiply_jets(scale_jet(0.5, a), add_jets(constant(1.0), inner))


ACTIVATION_JETS: dict[str, Callable[[Jet], Jet]] = {
    "identity": lambda a: a,
    "tanh": tanh_jet,
    "silu": _silu_jet,
    "gelu": _gelu_jet,
}


def affine_jet(a: Jet, weight: Interval, weight_slope, bias: Interval, bias_slope) -> Jet:
    """Jet of W(s) a(s) + b(s) with W and b affine in s.

    `weight` encloses W over the interval of s; its slope is exact. Rows of `a` are examples; weights are stored (out,
    in).
    """
    transposed = Interval(weight.low.T, weight.high.T)
    slope = point(np.asarray(weight_slope).T)
    return Jet(
        add(matmul(a.value, transposed), bias),
        add(add(matmul(a.first, transposed), matmul(a.value, slope)), point(bias_slope)),
        add(matmul(a.second, transposed), scale(2.0, matmul(a.first, slope))),
    )


def softmax_jet(a: Jet) -> Jet:
    """Jet of the softmax p over the last axis. With ū' the mean of u' under p, p' = p (u' − ū')."""
    shares = softmax(a.value)
    mean_first = total(multiply(shares, a.first), -1, keepdims=True)
    centred = add(a.first, negative(mean_first))
    variance = total(multiply(shares, square(centred)), -1, keepdims=True)
    mean_second = total(multiply(shares, a.second), -1, keepdims=True)
    factor = add(add(square(centred), negative(variance)), add(a.second, negative(mean_second)))
    return Jet(shares, multiply(shares, centred), multiply(shares, factor))
