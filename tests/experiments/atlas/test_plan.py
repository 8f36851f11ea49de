"""Estimated times of a plan against arithmetic by hand."""

import dataclasses

import pytest

from experiments import cost
from experiments.atlas import settings
from sublim_jax.models import mlp


def test_a_student_costs_its_products_and_little_else(monkeypatch):
    """The paper's network takes 1.216 MFLOP per image and step: 2 x 269,568 forward, as much for the gradient of the
    weights, and 2 x (269,568 - 200,704) for that of the features. There are 300,000 images; 10,000 are scored for each
    student, and the teacher labels 60,000 once. At 1 MFLOP/s everything but the products is less than a thousandth."""
    monkeypatch.setattr(cost, "rate", lambda *_: 1e6)
    setting = settings.BASE
    assert setting.member.model == mlp.MLPSpec(precision=setting.member.model.precision)
    trained = (4 * 269_568 + 2 * (269_568 - 200_704)) * 300_000
    scored, labelled = 2 * 269_568 * 10_000, 2 * 269_568 * 60_000
    assert cost.students_seconds(setting.member) == pytest.approx((trained + scored + labelled) / 1e6, rel=1e-3)
    two = dataclasses.replace(setting.member, conditions=("student_aux", "student_all"))
    twice = cost.students_seconds(two)
    assert twice == pytest.approx((2 * (trained + scored) + labelled) / 1e6, rel=1e-3)
