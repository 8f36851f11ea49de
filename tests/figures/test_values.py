"""Values of members out of records: who is left out, and what epochs stand for."""

import numpy as np
import pytest

from figures import values
from figures.atlas import values as atlas_values

NAN = float("nan")


def test_a_pair_has_the_members_that_diverged_in_neither():
    first, second = np.array([0.5, NAN, 0.9, 0.7, 0.2]), np.array([0.1, 0.2, NAN, 0.6, 0.3])
    interval = values.paired(first, second)
    assert interval is not None and interval.num_members == 3
    assert interval.mean == pytest.approx((0.4 + 0.1 - 0.1) / 3)
    assert values.paired(first[1:3], second[1:3]) is None


MEMBER = {
    "accuracy": {"reference": 0.1, "teacher": 0.94, "student_aux": 0.5, "cross_model_aux": 0.2},
    "metrics": {"epoch_accuracy": {"student_aux": [0.3, 0.4, 0.5], "cross_model_aux": [0.12, 0.15, 0.2]}},
}


def test_an_epoch_is_one_of_the_students_and_reference_and_teacher_have_one_value():
    def of(condition, measure="accuracy", epoch=None):
        return float(atlas_values.of_members([MEMBER], condition, measure, epoch)[0])

    assert [of("student_aux", epoch=epoch) for epoch in (1, 2, None)] == [0.3, 0.4, 0.5]
    assert of("teacher", epoch=1) == 0.94 and of("reference", epoch=2) == 0.1
    assert of("student_aux", "gap", 2) == pytest.approx(0.4 - 0.15)
    assert of("student_aux", "gap") == pytest.approx(0.5 - 0.2)
