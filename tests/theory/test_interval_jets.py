"""Enclosures enclose: every operation against exact rational arithmetic, formulas and differences, also at corners."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax.theory import interval_jets as jets
from tests import strategies
from tests.theory.effort import examples

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)


@st.composite
def members(draw):
    """An interval and a number inside it."""
    low, high = sorted(draw(st.tuples(NUMBERS, NUMBERS)))
    inside = min(max(low + draw(st.floats(0, 1)) * (high - low), low), high)
    return jets.Interval(np.array(low), np.array(high)), inside


def encloses(interval, exact: Fraction) -> bool:
    return Fraction(float(interval.low)) <= exact <= Fraction(float(interval.high))


@examples(100)
@given(a=members(), b=members())
def test_sums_and_products_contain_the_exact_results(a, b):
    (box_a, x), (box_b, y) = a, b
    exact_x, exact_y = Fraction(x), Fraction(y)
    assert encloses(jets.add(box_a, box_b), exact_x + exact_y)
    assert encloses(jets.multiply(box_a, box_b), exact_x * exact_y)
    assert encloses(jets.negative(box_a), -exact_x)
    assert encloses(jets.square(box_a), exact_x**2)
    assert encloses(jets.scale(y, box_a), exact_x * exact_y)
    assert jets.square(box_a).low >= 0


@examples(50)
@given(seed=strategies.seeds, width=st.sampled_from([0.0, 1e-12, 1.0]))
def test_matrix_products_and_sums_contain_the_exact_results(seed, width):
    random = np.random.default_rng(seed)
    left, right = random.standard_normal((3, 7)), random.standard_normal((7, 2))
    boxes = [
        jets.Interval(m - width * random.random(m.shape), m + width * random.random(m.shape)) for m in (left, right)
    ]
    exact = [
        [sum(Fraction(a) * Fraction(b) for a, b in zip(row, column, strict=True)) for column in right.T] for row in left
    ]
    product = jets.matmul(*boxes)
    assert all(encloses(_at(product, i, j), exact[i][j]) for i in range(3) for j in range(2))
    assert encloses(jets.total(boxes[0]), sum(map(Fraction, left.ravel())))
    row_sums = jets.total(boxes[0], -1, keepdims=True)
    assert all(encloses(_at(row_sums, i, 0), sum(map(Fraction, left[i]))) for i in range(3))


def _at(interval, *index):
    return jets.Interval(interval.low[index], interval.high[index])


def test_an_enclosure_of_points_is_only_as_wide_as_rounding():
    random = np.random.default_rng(0)
    product = jets.matmul(jets.point(random.standard_normal((5, 50))), jets.point(random.standard_normal((50, 4))))
    assert np.max(product.high - product.low) < 1e-12
    shares = jets.softmax(jets.point(random.standard_normal((5, 4))))
    assert np.max(shares.high - shares.low) < 1e-13


@examples(100)
@given(seed=strategies.seeds, scale=st.sampled_from([1e-6, 0.1, 3.0, 300.0]))
def test_softmax_contains_every_softmax(seed, scale):
    random = np.random.default_rng(seed)
    middle, radius = scale * random.standard_normal((2, 3, 4))
    box = jets.softmax(jets.Interval(middle - abs(radius), middle + abs(radius)))
    for corner in random.uniform(-1, 1, (20, 3, 4)).round(random.integers(2)):
        logits = middle + corner * abs(radius)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        assert np.all((box.low <= shares * (1 + 1e-14)) & (shares * (1 - 1e-14) <= box.high))


ACTIVATIONS = {
    "identity": lambda x: x,
    "tanh": math.tanh,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@examples(60)
@given(centre=st.floats(-4, 4), slope=st.floats(-3, 3), bend=st.floats(-2, 2), width=st.sampled_from([0.0, 1e-3, 0.5]))
def test_activation_jets_contain_value_and_both_derivatives(name, centre, slope, bend, width):
    """Along a(s) = centre + slope s + bend s² / 2, with derivatives by central differences.

    Tolerance: steps of 1e-3 leave 1e-6 times a fourth derivative; 1e-4 covers it for slopes up to 3.
    """
    assert set(ACTIVATIONS) == set(jets.ACTIVATION_JETS)

    def path(s):
        return ACTIVATIONS[name](centre + slope * s + bend * s**2 / 2)

    s = jets.Interval(np.array(0.0), np.array(width))
    value = jets.add(
        jets.add(jets.point(centre), jets.multiply(jets.point(slope), s)), jets.scale(bend / 2, jets.square(s))
    )
    first = jets.add(jets.point(slope), jets.multiply(jets.point(bend), s))
    box = jets.ACTIVATION_JETS[name](jets.Jet(value, first, jets.point(bend)))
    h = 1e-3
    for t in (0.0, 0.3 * width, width):
        left, middle, right = path(t - h), path(t), path(t + h)
        assert box.value.low - 1e-12 <= middle <= box.value.high + 1e-12
        assert box.first.low - 1e-3 <= (right - left) / (2 * h) <= box.first.high + 1e-3
        assert box.second.low - 1e-2 <= (right - 2 * middle + left) / h**2 <= box.second.high + 1e-2


def test_the_second_derivative_of_tanh_reaches_its_extremes_inside_an_interval():
    jet = jets.tanh_jet(jets.Jet(jets.Interval(np.array(-2.0), np.array(2.0)), jets.point(1.0), jets.point(0.0)))
    extreme = 4 / (3 * math.sqrt(3))
    np.testing.assert_allclose([jet.second.low, jet.second.high], [-extreme, extreme], rtol=1e-14)
    one_sided = jets.tanh_jet(jets.Jet(jets.Interval(np.array(1.0), np.array(2.0)), jets.point(1.0), jets.point(0.0)))
    t = np.tanh([1.0, 2.0])  # beyond the turning point it rises towards zero
    np.testing.assert_allclose([one_sided.second.low, one_sided.second.high], -2 * t * (1 - t**2), rtol=1e-13)
