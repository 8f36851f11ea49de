"""Programs that agree bit for bit. Run by `test_bits`, in a process whose compiler has the options that a user's has.

XLA promises no such thing, and one of its options, which the other tests use because it compiles sooner, takes it away.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax.models import init_sharing
from tests.training import tiny


def test_adding_conditions_changes_no_bit_of_the_others():
    alone, company = tiny.everyone(spec=tiny.SMALL), tiny.everyone(spec=tiny.SPEC)
    assert company.accuracy.keys() - alone.accuracy.keys() == {"student_all", "matched_start", "matched_aux"}
    for name in alone.accuracy:
        np.testing.assert_array_equal(alone.accuracy[name], company.accuracy[name])
    for name in alone.loss:
        np.testing.assert_array_equal(alone.loss[name], company.loss[name])


def test_a_cross_model_student_of_oneself_is_a_student():
    """The control differs from the experiment in the start and in nothing else."""
    found = tiny.outcomes(tiny.MEMBERS, tiny.MEMBERS)
    np.testing.assert_array_equal(found.loss["cross_model_aux"], found.loss["student_aux"])
    np.testing.assert_array_equal(found.accuracy["cross_model_aux"], found.accuracy["student_aux"])


def test_a_student_that_shares_nothing_is_a_cross_model_student_bit_for_bit():
    alone = dataclasses.replace(tiny.FREE, init_sharing=init_sharing.InitSharing(share=init_sharing.NO_GROUPS))
    outcome = tiny.traced(jnp.int32(2), jnp.int32(3), alone)
    for found in (outcome.loss, outcome.accuracy, outcome.metrics["epoch_accuracy"]):
        np.testing.assert_array_equal(found["student_aux"], found["cross_model_aux"])
    shared = tiny.traced(jnp.int32(2), jnp.int32(3), tiny.FREE)
    assert np.all(shared.loss["student_aux"] != outcome.loss["student_aux"])
    np.testing.assert_array_equal(shared.loss["cross_model_aux"], outcome.loss["cross_model_aux"])


def test_a_member_alone_is_the_member_in_a_row_of_eight():
    """One after the other they run the same operations, so not a bit changes."""
    company = tiny.everyone(spec=tiny.SMALL)
    for number in (0, 5):
        alone = tiny.outcomes([number], [number + 1], spec=tiny.SMALL)
        jax.tree.map(np.testing.assert_array_equal, tiny.member(alone, 0), tiny.member(company, number))
