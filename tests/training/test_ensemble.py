"""Many members are many times one member."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax.training import ensemble
from tests.training import tiny

# Side by side, matrix products of members are one batched product, which sums in another order: float32 rounding,
# 6e-8, times the few dozen updates that carry it on.
IN_COMPANY = {"rtol": 1e-5, "atol": 1e-6}


@given(st.integers(2, 500))
def test_partners_pair_every_member_with_another_and_each_serves_once(num_members):
    partners = ensemble.cross_model_partners(num_members)
    assert np.all(partners != np.arange(num_members))
    assert sorted(partners) == list(range(num_members))
    assert partners.dtype == np.int32


@given(first=st.integers(2, 50), more=st.integers(1, 50))
def test_more_members_change_the_partner_of_the_last_one_only(first, more):
    np.testing.assert_array_equal(
        ensemble.cross_model_partners(first)[:-1], ensemble.cross_model_partners(first + more)[: first - 1]
    )


@pytest.mark.parametrize("num_members", [0, 1])
def test_a_single_member_has_no_partner(num_members):
    with pytest.raises(ValueError, match=f"pairs different members and needs two at least, got {num_members}"):
        ensemble.cross_model_partners(num_members)


@pytest.mark.slow
def test_a_member_alone_is_the_member_side_by_side_with_others():
    apart = tiny.everyone(spec=tiny.SMALL)
    together = tiny.outcomes(tiny.MEMBERS, ensemble.cross_model_partners(8), spec=tiny.SMALL, width=8)
    for name, losses in apart.loss.items():
        np.testing.assert_allclose(together.loss[name], losses, **IN_COMPANY, err_msg=name)
    for name, scores in apart.accuracy.items():
        np.testing.assert_allclose(together.accuracy[name], scores, rtol=1e-6, err_msg=name)
        np.testing.assert_array_equal(together.finite[name], apart.finite[name])


def test_each_member_gets_its_own_arguments_and_all_share_the_rest():
    """Three at a time, the last group of four is not full."""

    def run(first, second, shared):
        return {"sum": first * 10 + second, "shared": shared["x"].sum()}

    for width in (1, 2, 3, 5):
        program = ensemble.over_members(run, width=width)
        arrays = (np.arange(4), np.arange(4)[::-1].copy())
        found = ensemble.gather(program(ensemble.shard(arrays), ensemble.replicate({"x": np.ones(3)})))
        np.testing.assert_array_equal(found["sum"], [3, 12, 21, 30])
        np.testing.assert_array_equal(found["shared"], [3, 3, 3, 3])


def test_a_cpu_takes_one_member_at_a_time_and_an_accelerator_many(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert ensemble.default_members_per_device(100) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    assert [ensemble.default_members_per_device(n) for n in (1, 4, 10, 100, 10_000)] == [1, 1, 3, 25, 128]


def test_asking_for_cores_once_jax_runs_does_no_harm():
    devices = jax.devices()
    ensemble.use_cpu_cores(64)
    assert jax.devices() == devices
