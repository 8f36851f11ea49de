"""The seconds in a record are those of all chunks and of all runs that were resumed."""

from experiments import mnist_aux
from sublim_jax import records


def test_seconds_of_a_phase_are_the_sum_over_chunks_and_runs():
    data: records.Data = {"name": "mnist", "source": "", "checksum": None}
    record = records.Record("mnist_aux", {}, data, seconds={"teacher": 1.5})
    for seconds in (2.25, 0.5):
        mnist_aux._add_seconds(record, "teacher", seconds)
    mnist_aux._add_seconds(record, "student", 3.0)
    assert record.seconds == {"teacher": 4.25, "student": 3.0}
