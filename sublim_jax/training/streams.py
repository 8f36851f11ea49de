"""A member's random streams, by name."""

from typing import get_args

import jax.numpy as jnp
from jaxtyping import Array, Key

from sublim_jax import keys
from sublim_jax.training.config import Stream

_ROLES = (
    *get_args(Stream),
    "teacher/labels",
    "student/start",
    "student/targets",
    "matching/batches",
)


class Streams:
    """The member's named random streams; those that the spec fixes are member 0's."""

    def __init__(self, seed, member, fixed: tuple[Stream, ...]):
        first, own = keys.members(seed, jnp.stack([jnp.zeros((), jnp.int32), jnp.asarray(member, jnp.int32)]))
        self._own = own
        self._known = keys.streams(own, _ROLES) | (keys.streams(first, fixed) if fixed else {})

    def __getitem__(self, role: str) -> Key[Array, ""]:
        return self._known[role] if role in self._known else keys.stream(self._own, role)
