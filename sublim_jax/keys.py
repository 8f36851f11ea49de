"""Named random streams: a key depends on what it is for, never on how many others were drawn before it."""

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Integer, Key


def stream(key: Key[Array, ""], role: str) -> Key[Array, ""]:
    """Key of a named stream, e.g. `"student/batches"`. Adding a stream leaves every other one bit-equal."""
    return jax.random.fold_in(key, zlib.crc32(role.encode()))


def streams(key: Key[Array, ""], roles: Sequence[str]) -> dict[str, Key[Array, ""]]:
    """Keys of several named streams, by name, in one operation: each is a loop in a compiled program."""
    codes = jnp.asarray([zlib.crc32(role.encode()) for role in roles], jnp.uint32)
    derived = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, codes)
    return {role: derived[place] for place, role in enumerate(roles)}


def members(seed: int | Integer[Array, ""], indices: Int[Array, "member"]) -> Key[Array, "member"]:
    """One key per member. Member 3 of seed 0 has the same key however many members run beside it."""
    root = stream(jax.random.key(seed), "members")
    return jax.vmap(lambda index: jax.random.fold_in(root, index))(indices)
