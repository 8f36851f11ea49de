"""Values of members out of records, and intervals of those that are finite."""

import pathlib

import numpy as np

from sublim_jax import records
from sublim_jax.metrics import intervals

ROOT = pathlib.Path(__file__).resolve().parents[1]
"""The clone, from wherever a command is run."""
RECORDS = ROOT / "experiments/records"
"""The committed records."""
IMAGES = ROOT / "figures/images"
"""Where figures of committed records go."""


def accuracies(record: records.Record) -> dict[str, np.ndarray]:
    """Accuracy of every member by condition, in the order of the members; not a number where it diverged.

    Args:
        record: of `experiments.mnist_aux`.
    """
    members = [record.results["members"][key] for key in sorted(record.results["members"], key=int)]
    return {
        condition: np.array([member["accuracy"][condition] for member in members], float)
        for condition in record.description["conditions"]
    }


def interval(values: np.ndarray) -> intervals.Interval | None:
    """95 % t-interval of the members that did not diverge; None if there are none."""
    finite = values[np.isfinite(values)]
    return intervals.t_interval(finite) if len(finite) else None


def paired(first: np.ndarray, second: np.ndarray) -> intervals.Interval | None:
    """Interval of first - second over the members that diverged in neither; None if there are none."""
    both = np.isfinite(first) & np.isfinite(second)
    return intervals.paired_difference(first[both], second[both]) if both.any() else None


def numbers(nested) -> np.ndarray:
    """A nested list of a record as an array; null becomes not-a-number."""
    return np.array(nested, dtype=float)
