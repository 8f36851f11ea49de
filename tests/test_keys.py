"""A key depends on what it is for and on nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import keys
from tests import strategies


@given(seed=strategies.seeds, roles=st.lists(st.text(max_size=20), min_size=2, max_size=5, unique=True))
def test_streams_of_different_names_differ_and_a_name_always_gives_the_same_key(seed, roles):
    root = jax.random.key(seed)
    first = [tuple(jax.random.key_data(keys.stream(root, role)).tolist()) for role in roles]
    again = [tuple(jax.random.key_data(keys.stream(root, role)).tolist()) for role in reversed(roles)]
    assert first == again[::-1]
    assert len(set(first)) == len(roles)
    assert tuple(jax.random.key_data(root).tolist()) not in first


def test_streams_whose_names_begin_or_end_alike_differ():
    names = ["student/noise", "student/noise/1", "student/noises", "student/batches", "teacher/batches", "batches"]
    words = [tuple(jax.random.key_data(keys.stream(jax.random.key(0), name)).tolist()) for name in names]
    assert len(set(words)) == len(names)


def test_streams_of_several_names_are_those_of_each():
    root, roles = jax.random.key(3), ("reference", "student/noise", "")
    together = keys.streams(root, roles)
    assert list(together) == list(roles)
    for role in roles:
        np.testing.assert_array_equal(jax.random.key_data(together[role]), jax.random.key_data(keys.stream(root, role)))


def test_a_name_means_the_same_key_in_every_version():
    """Records promise to be reproducible: a change of this number changes every recorded one."""
    key = keys.stream(jax.random.key(0), "student/noise")
    assert jax.random.key_data(key).tolist() == [1120304992, 1316859293]


def test_a_member_has_the_same_key_in_any_company():
    alone = keys.members(7, jnp.array([3]))
    company = keys.members(7, jnp.arange(10))
    np.testing.assert_array_equal(jax.random.key_data(alone[0]), jax.random.key_data(company[3]))
    assert len(np.unique(jax.random.key_data(company), axis=0)) == 10


def test_members_of_another_seed_have_other_keys_also_when_the_seed_is_traced():
    traced = jax.jit(keys.members)(jnp.uint32(2**32 - 1), jnp.arange(4))
    literal = keys.members(2**32 - 1, jnp.arange(4))
    np.testing.assert_array_equal(jax.random.key_data(traced), jax.random.key_data(literal))
    other = jax.random.key_data(keys.members(0, jnp.arange(4)))
    assert not np.any(np.all(jax.random.key_data(traced)[:, None] == other[None], axis=-1))
