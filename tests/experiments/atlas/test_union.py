"""Two results of one setting and member become one, which has all that either has."""

from experiments.atlas.store import RecordStore
from tests.experiments.atlas import tiny


def result(condition, *, diverged=()):
    metrics = {"epoch_accuracy": {condition: [0.1, 0.2]}}
    common = {"partner": 1, "precision": "float32", "metrics": metrics, "diverged": list(diverged)}
    return common | {"accuracy": {"teacher": 0.9, condition: 0.2}, "loss": {"teacher": 0.3, condition: 0.4}}


def test_conditions_metrics_and_those_that_diverged_are_joined(tmp_path):
    arm = tiny.ROW.resolved[0]
    for order in (1, -1):
        results = RecordStore(tmp_path, 0, {"mnist": "none"}, 3)
        for each in [result("student_aux", diverged=["student_aux"]), result("student_all")][::order]:
            results.add(arm.fingerprint, 0, each)
        (joined,) = results.arm(arm, 3)["members"].values()
        assert joined == {
            "partner": 1,
            "precision": "float32",
            "accuracy": {"teacher": 0.9, "student_aux": 0.2, "student_all": 0.2},
            "loss": {"teacher": 0.3, "student_aux": 0.4, "student_all": 0.4},
            "metrics": {"epoch_accuracy": {"student_aux": [0.1, 0.2], "student_all": [0.1, 0.2]}},
            "diverged": ["student_aux"],
        }
