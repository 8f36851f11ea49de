"""What a plan says a run takes, against arithmetic done by hand."""

import dataclasses

import pytest

from experiments.atlas import plan, registry
from sublim_jax.models import mlp


def test_a_student_costs_its_products_and_little_else(monkeypatch):
    """The paper's network takes 1.216 MFLOP per image and step: 2 x 269,568 forward, as much for the gradient of the
    weights, and 2 x (269,568 - 200,704) for that of the features. There are 300,000 images; at 1 GFLOP/s nothing else
    weighs much."""
    monkeypatch.setattr(plan, "rate", lambda precision: 1e9)
    setting = registry.BASE
    assert setting.lineage.model == mlp.MLPSpec(precision=setting.lineage.model.precision)
    flops = (4 * 269_568 + 2 * (269_568 - 200_704)) * 300_000
    assert plan.student_seconds(setting) == pytest.approx(flops / 1e9, rel=0.15)
    two = dataclasses.replace(setting.lineage, conditions=("student_aux", "student_all"))
    twice = plan.student_seconds(dataclasses.replace(setting, lineage=two))
    assert twice == pytest.approx(2 * plan.student_seconds(setting), rel=0.15)
