"""The theorem and its companions over random networks: hypothesis looks for a problem that violates one of them."""

import functools

import pytest
from hypothesis import given

from tests.theory import properties, universal
from tests.theory.effort import examples


@functools.cache
def compiled(name):
    return properties.compiled((name,))


@pytest.mark.parametrize("name", properties.PROPERTIES)
@examples(150)
@given(recipe=universal.recipes())
def test_property(name, recipe):
    """Error over tolerance at most 1; see `properties` for what each means. NaN is a violation."""
    violation = float(compiled(name)(recipe.problem())[name])
    assert violation <= 1, f"{name}: {properties.PROPERTIES[name].__doc__} Violated by a factor {violation:.2e}."
