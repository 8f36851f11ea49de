"""Paired differences between two records, on records made by hand."""

import dataclasses

import numpy as np
import pytest

from experiments import mnist_aux
from figures import compare, values
from sublim_jax import errors, records
from tests.experiments import small

FIRST = [0.2, 0.5, 0.7, 0.4]
SECOND = [0.1, 0.5, 0.4, 0.6]


def record(scores, **changes) -> records.Record:
    config = small.replaced(mnist_aux.PAPER, num_members=len(scores), conditions=("student_aux",))
    data = {"name": "mnist", "source": "IDX files", "checksum": "c"}
    description = mnist_aux.describe(config.member.conditions, images_name="mnist")
    result = records.Record.begin("mnist_aux", config, data, description=description)
    accuracy = [{"reference": 0.1, "teacher": 0.9, "student_aux": score} for score in scores]
    result.results = {"members": {str(i): {"accuracy": a, "loss": {}, "diverged": []} for i, a in enumerate(accuracy)}}
    return dataclasses.replace(result, **changes)


def test_the_difference_is_taken_member_by_member():
    found = compare.paired(record(FIRST), record(SECOND))["student_aux"]
    differences = np.subtract(FIRST, SECOND)
    assert found.mean == pytest.approx(differences.mean())
    # t quantile for 3 degrees of freedom from a table: 3.182
    assert found.half_width == pytest.approx(3.182 * differences.std(ddof=1) / 4**0.5, rel=1e-3)


def test_accuracies_come_in_the_order_of_the_members_numbers():
    """Which from the eleventh on is not that of their names."""
    scores = [number / 100 for number in range(12)]
    shuffled = record(scores)
    shuffled.results["members"] = dict(reversed(shuffled.results["members"].items()))
    np.testing.assert_array_equal(values.accuracies(shuffled)["student_aux"], scores)


def test_a_member_that_diverged_in_either_record_is_left_out_of_the_pair():
    found = compare.paired(record([0.2, None, 0.7]), record(SECOND[:3]))["student_aux"]
    assert found.num_members == 2
    assert found.mean == pytest.approx(0.2)


def test_a_shorter_record_is_paired_with_the_first_members_of_the_longer():
    interval = compare.paired(record(FIRST), record(SECOND[:2]))["student_aux"]
    assert interval.num_members == 2
    assert interval.mean == pytest.approx((0.2 - 0.1 + 0.5 - 0.5) / 2)


@pytest.mark.parametrize("swapped", [False, True])
def test_twelve_members_are_paired_with_the_first_twelve_of_twenty_five_by_their_numbers(swapped):
    """From the eleventh on, the order of numbers is not the order of their names."""
    few = [0.3 + 0.01 * number for number in range(12)]
    many = [0.02 * number for number in range(25)]
    records_of_both = (record(many), record(few)) if swapped else (record(few), record(many))
    interval = compare.paired(*records_of_both)["student_aux"]
    differences = np.array([0.3 - 0.01 * number for number in range(12)]) * (-1 if swapped else 1)
    assert interval.num_members == 12
    assert interval.mean == pytest.approx(differences.mean())
    # t quantile for 11 degrees of freedom from a table: 2.201
    assert interval.half_width == pytest.approx(2.201 * differences.std(ddof=1) / 12**0.5, rel=1e-3)


def test_members_are_paired_by_number_where_some_are_missing():
    """As after a run that was stopped, or with more than ten members, where "10" stands before "2" as text."""
    first, second = record(np.linspace(0, 0.5, 12).tolist()), record(np.linspace(0, 0.5, 12).tolist())
    for numbers, one in (((0, 3), first), ((5,), second)):
        for number in numbers:
            del one.results["members"][str(number)]
    found = compare.paired(first, second)["student_aux"]
    assert (found.num_members, found.mean, found.half_width) == (9, 0, 0)


def test_records_without_a_common_member_are_not_paired():
    first, second = record(FIRST), record(SECOND)
    first.results["members"] = {"0": first.results["members"]["0"]}
    second.results["members"] = {"1": second.results["members"]["1"]}
    with pytest.raises(errors.InputError, match="no member in common"):
        compare.paired(first, second)


@pytest.mark.parametrize("other", [{"seed": 1}, {"checksum": "d"}])
def test_members_of_other_seeds_or_data_are_not_paired(other):
    stranger = record(SECOND)
    (stranger.config if "seed" in other else stranger.data).update(other)
    with pytest.raises(ValueError, match="different seeds or data"):
        compare.paired(record(FIRST), stranger)


def test_settings_that_differ_are_named():
    other = record(SECOND)
    other.config["member"]["model"]["activation"] = "tanh"
    assert compare.differing_settings(record(FIRST), other) == ["member.model.activation: relu | tanh"]


def test_what_is_printed_says_whether_zero_is_inside_and_where_there_are_too_few_members(tmp_path, capsys):
    for count, said in ((3, "too few members"), (4, "yes")):
        for name, scores in (("first", FIRST), ("second", SECOND)):
            records.write(tmp_path / f"{name}.json", record(scores[:count]))
        compare.main(tmp_path / "first.json", tmp_path / "second.json")
        (row,) = [line for line in capsys.readouterr().out.splitlines() if "student_aux" in line]
        assert said in row and str(count) in row
