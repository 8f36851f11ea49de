"""Many members: the one place that knows the member axis.

`over_members` turns a function of one member into a function of many. On each device, `width` members go side by side
in one `vmap` and such groups follow one another; devices split the members. A GPU wants a large width; a CPU core is
busy with one member, so there the cores are the devices and the width is one. The numbers of a member do not depend on
any of this beyond the rounding of reordered sums.
"""

import contextlib
from collections.abc import Callable

import jax
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree

from sublim_jax import errors, provenance, specs

MEMBERS = PartitionSpec("member")


def use_cpu_cores(num_members: int) -> None:
    """Make each CPU core a device, up to `num_members` of them. Call before anything else touches JAX.

    It does nothing once JAX has started, and devices that are no CPUs do not mind. An ensemble then keeps all cores
    busy with one member each, which beats one member on all cores.

    Raises:
        InputError: not a number of members.
    """
    specs.check(num_members, specs.Count, "num_members")
    with contextlib.suppress(RuntimeError):  # JAX runs already: keep its devices
        jax.config.update("jax_num_cpu_devices", min(num_cores(), num_members))


def num_cores() -> int:
    """CPU cores that this process may use."""
    return provenance.num_cpu_cores()


def cross_model_partners(num_members: int) -> np.ndarray:
    """Whose reference a cross-model student starts from: the next member's, the last one's being the first.

    A shift by one has no fixed point, so no student meets its own reference by chance; a random permutation has one
    fixed point on average.

    Raises:
        InputError: fewer than two members.
    """
    if num_members < 2:
        raise errors.InputError(
            f"a cross-model control pairs different members and needs two at least, got {num_members}"
        )
    return np.roll(np.arange(num_members, dtype=np.int32), -1)


def default_members_per_device(num_members: int) -> int:
    """Members side by side on one device: 1 on a CPU, up to 128 on an accelerator."""
    return 1 if jax.default_backend() == "cpu" else min(128, -(-num_members // jax.device_count()))


def over_members(run: Callable[..., PyTree], *, width: int) -> Callable[..., PyTree]:
    """A compiled `(member_arrays, shared) -> outcomes` from `run(*member, shared) -> outcome`.

    Args:
        run: a function of one member, whose arguments lack the member axis, and of what all members share.
        width: members side by side in one `vmap` on each device.

    Returns:
        A function of a tuple of arrays with a leading member axis, a multiple of the device count, and of the shared
        pytree. Its result has the member axis in front of every leaf.
    """
    mesh = _mesh()

    def on_one_device(members, shared):
        return lax.map(lambda member: run(*member, shared), members, batch_size=width if width > 1 else None)

    sharded = jax.shard_map(
        on_one_device, mesh=mesh, in_specs=(MEMBERS, PartitionSpec()), out_specs=MEMBERS, check_vma=False
    )
    return jax.jit(sharded)


def _mesh():
    return jax.sharding.Mesh(np.asarray(jax.devices()), ("member",))


def shard(members: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
    """Trees of arrays with a leading member axis, divided among the devices."""
    return jax.device_put(members, NamedSharding(_mesh(), MEMBERS))


def described(outcomes: PyTree) -> PyTree:
    """Shapes and types of outcomes with their division among the devices, to compile a program that takes them."""
    sharding = NamedSharding(_mesh(), MEMBERS)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), outcomes)


def replicate(tree: PyTree) -> PyTree:
    """A pytree of host arrays, copied to every device."""
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def gather(outcomes: PyTree) -> PyTree:
    """Outcomes of all members as host arrays, on every process."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(outcomes, tiled=True)
    return jax.device_get(outcomes)
